"""What sharing costs and saves: many small jobs in one process, in two, by rank, on Ray; killed at random; memory flat.

    python -m benchmarks.batch                     # 200 jobs each way, 6 CPU minutes; writes docs/results/batch.json
    python -m benchmarks.batch --costs             # what jobs of real size cost, for docs/scale.md; 10 CPU minutes more

The jobs are small on purpose (a picture of 80x64 px, arrows, 8 frames, and one broken job), so that what lies between
jobs is seen. Seconds of the clock mean something on an idle machine alone; seconds of the processors always.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.files import read_json
from text2cinemagraph.jobs.records import read_rows
from text2cinemagraph.options.cli import Parser, number, run_main

ROOT = Path(__file__).resolve().parents[1]
BATCH = [sys.executable, str(ROOT / "demo" / "batch.py")]
RESULTS = "results.jsonl"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK = 0.1  # s between two looks at the processes
SETTLED = 10  # jobs after which memory must not grow
KILLS = 3
BROKEN = 77  # the number of the job whose mask is missing
SIZE = 512  # px of the jobs of --costs
COST_JOBS = 3  # of each kind; the first loads the networks, so the last counts


def tiny_jobs(folder: Path, count: int) -> Path:
    """A list of small jobs beside their picture and mask; one is broken."""
    picture_and_mask(folder, 64, 80)
    lines = []
    for n in range(count):
        arrows = f"10,{40 + n % 20}>{20 + n // 20},{40 + n % 20}"
        line = {"id": f"job-{n:03}", "image": "p.png", "mask": "m.png", "arrows": arrows}
        line["options"] = {"video.n_frames": 8, "video.formats": ["mp4"]}
        lines.append(line | ({"mask": "missing.png"} if n == min(BROKEN, count // 2) else {}))
    path = folder / "jobs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def picture_and_mask(folder: Path, height: int, width: int) -> None:
    """A drawn landscape with water, and where that water is."""
    import cv2
    import numpy as np
    from text2cinemagraph.mini.scene import Scene

    scene = Scene(5, "river", "day", size=max(height, width))
    cut = np.s_[:height, :width]
    cv2.imwrite(str(folder / "p.png"), np.uint8(scene.image[cut] * 255)[..., ::-1])
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :] = 255
    cv2.imwrite(str(folder / "m.png"), mask)


# ---------------------------------------------------------------------- watching processes


class Watch:
    """Processes and all they have started: their seconds and their memory."""

    def __init__(self, commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]] = ({},)) -> None:
        own = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        self.began, self._cpu, self.memory = time.perf_counter(), {}, 0
        self.processes = [
            subprocess.Popen(command, cwd=ROOT, env=own | more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command, more in zip(commands, environments)
        ]

    def look(self) -> None:
        """Note what the processes have taken so far."""
        parents, facts = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(words[1])
            facts[int(path.parent.name)] = (int(words[11]) + int(words[12])) / TICKS, int(words[21]) * PAGE
        roots = {process.pid for process in self.processes}
        ours = [number for number in facts if self._below(number, roots, parents)]
        self._cpu |= {number: facts[number][0] for number in ours}
        self.memory = max(self.memory, sum(facts[number][1] for number in ours))

    @staticmethod
    def _below(number, roots, parents) -> bool:
        while number in parents and number not in roots:
            number = parents[number]
        return number in roots

    def wait(self, until: Callable[[], bool] = lambda: False) -> dict[str, float]:
        """Until the processes have ended, or until() is true."""
        while any(process.poll() is None for process in self.processes) and not until():
            self.look()
            time.sleep(LOOK)
        return {
            "seconds": round(time.perf_counter() - self.began, 1),
            "cpu_seconds": round(sum(self._cpu.values()), 1),
            "memory_gb": round(self.memory / 1e9, 2),
        }


def sums(output: Path) -> dict[str, str]:
    """{job: digest of its video} of what is made."""
    return {row["id"]: row["video"] for row in read_rows(output / RESULTS) if row["state"] == "done"}


def told(output: Path, measured: dict) -> dict:
    """What a run has made, beside what it took."""
    rows = read_rows(output / RESULTS)
    failed = [row["id"] for row in rows if row["state"] == "failed"]
    return measured | {"made": len(sums(output)), "failed": failed, "pages": (output / "index.html").is_file()}


# ---------------------------------------------------------------------- the measurements


def ways(jobs: Path, folder: Path) -> dict:
    """The same jobs in each way."""
    base = [*BATCH, str(jobs), "--output"]
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"} for rank in range(2)]
    runs = {
        "one process": ([[*base, str(folder / "one"), "--workers", "1"]], [{}], "one"),
        "two processes": ([[*base, str(folder / "two"), "--workers", "2"]], [{}], "two"),
        "two ranks": ([[*base, str(folder / "ranks")]] * 2, ranks, "ranks"),
    }
    if importlib.util.find_spec("ray"):
        words = ["--workers", "2", "--engine", "ray"]
        runs["ray, two actors"] = ([[*base, str(folder / "ray"), *words]], [{}], "ray")
    found = {}
    for name, (commands, environments, output) in runs.items():
        found[name] = told(folder / output, Watch(commands, environments).wait())
        print(name, json.dumps(found[name]), flush=True)
    first, expected = found["one process"], sums(folder / "one")
    for name, (_, _, output) in runs.items():
        found[name]["equal"] = sums(folder / output) == expected
        if name != "one process":
            found[name]["efficiency"] = round(first["seconds"] / 2 / found[name]["seconds"], 2)
            found[name]["efficiency_cpu"] = round(first["cpu_seconds"] / found[name]["cpu_seconds"], 2)
    return found


def killed(jobs: Path, folder: Path, count: int) -> dict:
    """Killed three times at random (SIGKILL), then left alone."""
    output, draw, cpu, left = folder / "killed", random.Random(0), 0.0, []
    command = [*BATCH, str(jobs), "--output", str(output), "--workers", "2"]
    for _ in range(KILLS):
        before = len(list(output.glob("job-*/video.mp4")))
        enough = before + draw.randint(count // 20, count // 4)
        watch = Watch([command])
        cpu += watch.wait(lambda enough=enough: len(list(output.glob("job-*/video.mp4"))) >= enough)["cpu_seconds"]
        watch.processes[0].send_signal(signal.SIGKILL)
        watch.processes[0].wait()
        left.append(len(list(output.glob("job-*/video.mp4"))))
    measured = Watch([command]).wait()
    measured["cpu_seconds"] = round(measured["cpu_seconds"] + cpu, 1)
    return told(output, measured) | {"made_at_kills": left, "equal": sums(output) == sums(folder / "one")}


def memory_over(output: Path, first: int = 100) -> dict:
    """The memory of the one process after each job, in the order in which it made them."""
    rows = [row for row in read_rows(output / RESULTS) if row["state"] == "done"]
    rows.sort(key=lambda row: (output / row["id"] / "job.json").stat().st_mtime_ns)
    held = [row["rss"] for row in rows][:first]
    settled = held[min(SETTLED, len(held)) - 1]
    return {
        "jobs": len(held),
        "after_first_mb": round(held[0] / 1e6, 1),
        "after_tenth_mb": round(settled / 1e6, 1),
        "after_last_mb": round(held[-1] / 1e6, 1),
        "growth": round(max(held[SETTLED:], default=settled) / settled - 1, 4),
        "mb_every_tenth": [round(value / 1e6, 1) for value in held[9::10]],
    }


def costs(folder: Path) -> dict:
    """Seconds of a processor, stage by stage, of jobs of real size, with the weights in this repository."""
    picture_and_mask(folder, SIZE, SIZE)
    own = {"image": "p.png", "mask": "m.png", "arrows": "100,400>200,400"}
    drawn = {"prompt": "a river in front of mountains in left to right direction", "use_hint": True}
    kinds = {
        "own picture, arrows": own,
        "own picture, segmented": {"image": "p.png", **drawn},
        "own picture, painted": own | {"style": "oil"},
        "drawn (256 px)": drawn,
    }
    found = {}
    for name, line in kinds.items():
        place = folder / name.split(",")[-1].strip().replace(" ", "-")
        lines = [{"id": f"{number}", "seed": number, **line} for number in range(COST_JOBS)]
        options = {"config": "configs/inference_mini_directional.yaml", "options": {"attn_mask.fallback": True}}
        path = folder / f"{place.name}.jsonl"
        path.write_text("".join(json.dumps(one | options) + "\n" for one in lines))
        measured = Watch([[*BATCH, str(path), "--output", str(place), "--workers", "1"]]).wait()
        last = read_rows(place / RESULTS)[-1]
        found[name] = {key: last[key] for key in ("seconds", "cpu_seconds", "peak", "rss") if key in last}
        found[name]["startup_cpu_seconds"] = round(measured["cpu_seconds"] - COST_JOBS * last.get("cpu_seconds", 0), 1)
        found[name] |= {"error": last["error"]} if "error" in last else {}
        print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument(
        "--count", type=number(least=1, most=1_000_000), default=200, help="jobs each way (default: %(default)s)"
    )
    parser.add_argument("--costs", action="store_true", help="measure jobs of real size instead")
    parser.add_argument("--keep", help="folder for the result; empty: nowhere (default: docs/results)")
    flags = parser.parse_args()
    kept = FOLDER if flags.keep is None else flags.keep or None
    path = FOLDER / "batch.json"
    before = {
        name: value for name, value in (read_json(path, "") if path.is_file() else {}).items() if name != "machine"
    }
    with tempfile.TemporaryDirectory(prefix="batch") as name:
        folder = Path(name)
        if flags.costs:
            keep("batch", before | {"costs": costs(folder)}, kept)
            return
        jobs = tiny_jobs(folder, flags.count)
        result = {"jobs": flags.count, "load_before": os.getloadavg()[0], "ways": ways(jobs, folder)}
        result |= {"killed": killed(jobs, folder, flags.count), "memory": memory_over(folder / "one")}
    keep("batch", before | result, kept)


if __name__ == "__main__":
    run_main(main)
