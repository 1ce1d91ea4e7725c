"""What is left of a batch: results.jsonl, and pages that show every cinemagraph with its numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from text2cinemagraph.data.files import atomic
from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.jobs.records import write_lines

PER_PAGE = 200  # cinemagraphs; a browser takes more, a person does not
NUMBERS = ("seam", "sharpness", "pulse", "motion")
SUMMARY = "summary.png"
TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { margin: 2rem auto; padding: 0 1rem; max-width: 90rem; background: #161618; color: #e8e8e8;
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0 } p, dt, figcaption, nav { color: #b4b4b8 } a { color: #9cc4ff }
dl { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: .6rem 0 1.4rem }
dl div { display: flex; gap: .5rem } dd { margin: 0 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem }
figure { margin: 0; min-width: 0 } figcaption { font-size: .85rem; overflow-wrap: anywhere }
figcaption b { color: #e8e8e8; font-weight: 600 }
video, img { width: 100%; height: auto; border-radius: .4rem; display: block; background: #222 }
.failed { border-left: .25rem solid #ff9d8a; padding: .1rem 0 .1rem .8rem; margin: 0 0 1.5rem }
h2 { font-size: 1.05rem; margin: .2rem 0 }
.failed li { overflow-wrap: anywhere } .failed ul { margin: .3rem 0; padding-left: 1.1rem }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem }
</style>
<h1>{{ title }}</h1>
<dl>{% for name, value in facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl>
{% if failed %}<section class="failed"><h2>Failed</h2><ul>
{% for row in failed %}<li>{% if row.line %}line {{ row.line }}: {% endif %}<b>{{ row.id }}</b>: {{ row.error }}</li>
{% endfor %}</ul></section>{% endif %}
{% macro pages() %}{% if links|length > 1 %}<nav>{% for name in links %}
{% if name == here %}<b>{{ loop.index }}</b>{% else %}<a href="{{ name }}">{{ loop.index }}</a>{% endif %}
{% endfor %}</nav>{% endif %}{% endmacro %}
{{ pages() }}
<main>
{% for row in shown %}<figure>
{% if row.clip %}<video src="{{ row.clip }}" poster="{{ row.poster }}" loop muted playsinline preload="none"></video>
{% elif row.summary %}<img src="{{ row.summary }}" loading="lazy" alt="{{ row.title }}">{% endif %}
<figcaption><b>{{ row.title }}</b><br>{{ row.note }}{% if row.summary %} ·
<a href="{{ row.summary }}">stages</a>{% endif %}</figcaption>
</figure>
{% endfor %}</main>
{{ pages() }}
<script>
// Hundreds of clips at once would stop any browser: only what can be seen plays.
const seen = new IntersectionObserver(all => all.forEach(e => e.isIntersecting ? e.target.play() : e.target.pause()));
document.querySelectorAll('video').forEach(video => seen.observe(video));
</script>
</html>
"""


def row_of(job, record: dict) -> dict:
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
    from jinja2 import Environment

    output = Path(output)
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    done = [row for row in rows if row["state"] == "done"]
    pages = [done[start : start + PER_PAGE] for start in range(0, len(done), PER_PAGE)] or [[]]
    names = ["index.html", *(f"index-{number}.html" for number in range(2, len(pages) + 1))]
    for number, (name, page) in enumerate(zip(names, pages)):
        failed = [row for row in rows if row["state"] == "failed"] if number == 0 else []
        text = template.render(
            title=title,
            facts=facts_of(rows),
            failed=failed,
            shown=[_shown(output, row) for row in page],
            links=names,
            here=name,
        )
        with atomic(output / name) as path:
            path.write_text(text, encoding="utf-8")
    for old in output.glob("index-*.html"):  # of a longer list
        if old.name not in names:
            old.unlink()
    return output / names[0]


def _shown(output, row) -> dict:
    """What the page shows of a cinemagraph that is made."""
    folder, name = output / row["id"], quote(row["id"])
    there = {what: (folder / file).is_file() for what, file in (*FILES.items(), ("summary", SUMMARY))}
    numbers = [f"{name} {row[name]:.2f}" for name in NUMBERS if row.get(name) is not None]
    seconds = row.get("seconds", {}).get("total")
    return {
        "title": row["title"],
        "clip": f"{name}/{FILES['video']}" if there["video"] else "",
        "poster": f"{name}/{FILES['image']}" if there["image"] else "",
        "summary": f"{name}/{SUMMARY}" if there["summary"] else "",
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
