"""What is left of a batch: results.jsonl, and pages that show every cinemagraph with its numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.jobs.records import write_lines
from text2cinemagraph.pages.page import address, write_page

if TYPE_CHECKING:
    from text2cinemagraph.demo.joblist import Job

PER_PAGE = 200  # cinemagraphs; a browser takes more, a person does not
NUMBERS = ("seam", "sharpness", "pulse", "motion")
SUMMARY = "summary.png"


def row_of(job: Job, record: dict) -> dict:
    """A job's line of results.jsonl.  record: what is known of it; {} = not made yet."""
    row = {"id": job.name, "title": job.title} | ({"line": job.line} if job.line else {})
    if job.broken or "error" in record:
        return row | {"state": "failed", "error": job.broken or record["error"], "job": job.said}
    if not record:
        return row | {"state": "open"}
    told = {name: value for name, value in record.items() if name not in ("key", "title")}
    return row | {"state": "done"} | told


def write_results(output: str | Path, rows: Sequence[dict]) -> Path:
    """results.jsonl, one line a job, in the order of the list."""
    path = Path(output) / "results.jsonl"
    write_lines(path, (json.dumps(row) for row in rows))
    return path


def write_pages(output: str | Path, rows: Sequence[dict], title: str = "Cinemagraphs") -> Path:
    """index.html, and index-2.html ... where there are many.  Returns the first."""
    output = Path(output)
    done = [row for row in rows if row["state"] == "done"]
    pages = [done[start : start + PER_PAGE] for start in range(0, len(done), PER_PAGE)] or [[]]
    names = ["index.html", *(f"index-{number}.html" for number in range(2, len(pages) + 1))]
    for number, (name, page) in enumerate(zip(names, pages)):
        failed = [row for row in rows if row["state"] == "failed"] if number == 0 else []
        write_page(
            output / name,
            "batch.html",
            title=title,
            facts=facts_of(rows),
            failed=failed,
            shown=[_shown(output, row) for row in page],
            links=names,
            here=name,
        )
    for old in output.glob("index-*.html"):  # of a longer list
        if old.name not in names:
            old.unlink()
    return output / names[0]


def _shown(output, row) -> dict:
    """What the page shows of a cinemagraph that is made."""
    folder = output / row["id"]
    files = {what: FILES[what] for what in ("video", "image")} | {"summary": SUMMARY}
    there = {what: address(f"{row['id']}/{file}") if (folder / file).is_file() else "" for what, file in files.items()}
    numbers = [f"{name} {row[name]:.2f}" for name in NUMBERS if row.get(name) is not None]
    seconds = row.get("seconds", {}).get("total")
    return {
        "title": row["title"],
        "clip": there["video"],
        "poster": there["image"],
        "summary": there["summary"],
        "note": ", ".join([*([f"{seconds:.1f} s"] if seconds is not None else []), *numbers]),
    }


def facts_of(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """The summary of a batch: how many, how long, how much memory, the slowest stage."""
    states = Counter(row["state"] for row in rows)
    done = [row for row in rows if row["state"] == "done"]
    facts = [("cinemagraphs", f"{states['done']} of {len(rows)}")]
    facts += [("failed", str(states["failed"]))] if states["failed"] else []
    if done:
        seconds = [row["seconds"]["total"] for row in done]
        facts += [
            ("seconds each", f"{sum(seconds) / len(seconds):.1f}"),
            ("in all", duration(sum(seconds))),
            ("peak memory", f"{max(row['peak'] for row in done) / 1e9:.1f} GB"),
        ]
        stage, share = slowest_stage(done)
        facts += [("slowest stage", f"{stage}, {share:.0%} of the time")] if stage else []
    return facts


def slowest_stage(rows: Sequence[dict]) -> tuple[str, float]:
    """The stage that took most of the time, over all, and its share; ("", 0) where none has run."""
    sums: Counter = Counter()
    for row in rows:
        sums.update({stage: seconds for stage, seconds in row["seconds"].items() if stage != "total"})
    if not sums:
        return "", 0.0
    stage, most = sums.most_common(1)[0]
    total = sum(row["seconds"]["total"] for row in rows)
    return stage, most / total if total else 0.0


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
