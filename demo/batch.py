"""A thousand cinemagraphs overnight: a list of jobs, made by as many processes and machines as there are.

    python demo/batch.py jobs.jsonl --output outputs/night
    python demo/batch.py --prompts dataset/prompts.txt --seeds 1 2 3 --output outputs/night --dry_run
    python demo/batch.py --images "photos/*.jpg" --output outputs/photos --workers auto odise.vocab="water, river"

A job is one JSON object a line with any of: "id", "title", "prompt", "image", "mask", "mask_strokes", "arrows", "flow",
"project", "style", "seed", "use_hint", "stage", "config", "options": {"video.speed": 1}.
Made jobs are passed over, changed ones made again; failed ones are told with their line, and tried again with --retry.
Machines that share the folder run the same command (sbatch --array, srun, torchrun, or by hand): docs/scale.md.
Writes OUTPUT/<id>/ (as inference_t2c.py does, with job.json and run.log), OUTPUT/results.jsonl and OUTPUT/index.html.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from text2cinemagraph.data.files import make_folder
from text2cinemagraph.demo.batch_page import (
    duration,
    facts_of,
    row_of,
    slowest_stage,
    write_pages,
    write_results,
)
from text2cinemagraph.demo.joblist import (
    Job,
    lines_of_pictures,
    lines_of_prompts,
    pictures_of,
    prompts_of,
    read_jobs,
    with_different_names,
)
from text2cinemagraph.demo.making import Plan, Task, forget_failures, record_of, sweep, tasks_of, work
from text2cinemagraph.jobs.leases import SECONDS
from text2cinemagraph.jobs.records import write_lines
from text2cinemagraph.jobs.share import WAYS, Share, place_of
from text2cinemagraph.jobs.workers import run_workers
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.devices import has_nvidia_gpu
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.places import located_config
from text2cinemagraph.options.runtime import free_main_memory
from tqdm import tqdm

ENGINES = ("local", "ray")
LISTED = 20  # jobs that --dry_run names
ROOM = 1.15  # times the measured peak that must be free before another worker is started
LOOKING = 0.05  # share of the time that may go into looking how far the others are


def main() -> None:
    """The command line."""
    flags = _parser().parse_intermixed_args()
    jobs = _jobs(flags)
    broken = [job for job in jobs if job.broken]
    tasks, share = tasks_of(jobs), Share(*(place_of() or (0, 1)))
    if flags.share == "rank" and share.world > 1:
        tasks = list(share.of(tasks))
        own = {task.job.name for task in tasks}
        jobs = [job for job in jobs if job.name in own or job.broken and share.rank == 0]
        share = Share()
    run = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    plan = Plan(Path(flags.output), run, share, flags.lease_seconds)
    open_tasks = [task for task in tasks if _is_open(record_of(plan, task), flags.retry)]
    if flags.dry_run:
        print(told_before(tasks, open_tasks, plan, flags, broken=broken))
        return
    make_folder(plan.output)
    if flags.retry:
        forget_failures(tasks, plan)
    started = time.perf_counter()
    if open_tasks and flags.engine == "ray":
        from text2cinemagraph.demo.ray_engine import run_on_ray

        run_on_ray(open_tasks, plan, flags.address, threads=flags.threads, workers=workers_of(flags.workers))
    elif open_tasks:
        run_here(open_tasks, plan, flags.threads, workers_of(flags.workers))
    rows = finish(jobs, tasks, plan)
    print(told_after(rows, len(open_tasks), time.perf_counter() - started))
    print(f"page: {plan.output / 'index.html'}")
    failed = [row for row in rows if row["state"] == "failed"]
    if failed:
        names = "; ".join(row["id"] for row in failed[:5])
        raise ValueError(
            f"{len(failed)} of {len(rows)} jobs failed: {names}{' ...' if len(failed) > 5 else ''}; why: see the page; "
            "again with --retry"
        )


def _parser() -> Parser:
    parser = Parser(prog="python demo/batch.py", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="JOBS.jsonl section.key=value", help="the list; options for all")
    parser.add_argument("--output", default="outputs/batch", help="folder, shared by all machines (%(default)s)")
    parser.add_argument("--config", default="configs/inference_mini.yaml", help="of jobs that name none (%(default)s)")
    parser.add_argument("--prompts", default="", help="text file with a prompt a line: makes the list")
    parser.add_argument("--twin_prompts", default="", help="one per line, for the twins")
    parser.add_argument("--images", nargs="+", default=[], help="folders or patterns of pictures: makes the list")
    parser.add_argument(
        "--seeds",
        type=number(least=0, most=SEEDS - 1),
        nargs="+",
        default=[1],
        help="of every prompt and picture (%(default)s)",
    )
    parser.add_argument(
        "--workers", default="auto", help="processes here: a number, or auto: as memory and cores allow"
    )
    parser.add_argument(
        "--threads", type=number(least=1, most=512), default=1, help="of each on a CPU; equal ones give equal bytes"
    )
    parser.add_argument("--engine", choices=ENGINES, default="local", help="ray: docs/scale.md (%(default)s)")
    parser.add_argument("--address", default="", help="of a Ray cluster; empty: one of this machine's own")
    parser.add_argument(
        "--share",
        choices=WAYS,
        default="lease",
        help="with a launcher: lease: whatever is free, in one folder (%(default)s); rank: a fixed part of the list, "
        "for machines without a common folder",
    )
    parser.add_argument("--retry", action="store_true", help="try failed jobs again")
    parser.add_argument("--dry_run", action="store_true", help="tell what would run and how long; make nothing")
    parser.add_argument(
        "--lease_seconds",
        type=number(float, above=0, most=1e6),
        default=SECONDS,
        help="a job whose machine is silent so long is taken over (%(default)s)",
    )
    return parser


def _jobs(flags) -> list[Job]:
    """The jobs of the list, or of --prompts and --images; these are written down as a list first."""
    overrides = [word for word in flags.words if re.match(r"\w+(\.\w+)+=", word)]
    lists = [word for word in flags.words if word not in overrides]
    if len(lists) > 1:
        raise ValueError(f"{' '.join(lists)}: expected one list of jobs, and options as section.key=value")
    if not located_config(flags.config).is_file():
        raise FileNotFoundError(f"no configuration at {flags.config}")
    lines = []
    if flags.prompts:
        lines += lines_of_prompts(prompts_of(flags.prompts), prompts_of(flags.twin_prompts), flags.seeds)
    if flags.images:
        lines += lines_of_pictures(pictures_of(flags.images), flags.seeds)
    if not lines and not lists:
        raise ValueError("nothing to make: give a list of jobs, --prompts FILE or --images FOLDER")
    path = Path(lists[0]) if lists else Path(flags.output) / "jobs.jsonl"
    if lines:
        lines = [json.dumps(line) for line in with_different_names(lines)]
        if lists and path.exists() and path.read_text(encoding="utf-8").splitlines() != lines:
            raise ValueError(
                f"{path} is there with other jobs; give it without --prompts and --images, or another name"
            )
        write_lines(path, lines)
    jobs = read_jobs(path, flags.config, [f"runtime.threads={flags.threads}", *overrides])
    if not jobs:
        raise ValueError(f"{path} holds no jobs; expected one JSON object a line")
    return jobs


def _is_open(record, retry) -> bool:
    return not record or (retry and "error" in record)


def workers_of(text: str) -> int | None:
    """--workers as a number; None for auto."""
    if text == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ValueError(f"--workers {text}: expected a number, or auto")
    return int(text)


# ---------------------------------------------------------------------- processes of this machine


def run_here(tasks: Sequence[Task], plan: Plan, threads: int, workers: int | None) -> int:
    """Make the tasks with processes of this machine, and whoever shares the folder.  Returns how many of them died.

    workers: None = as many as fit: the first job is measured, then the others are started.  A process that torchrun
    started is one of many here, and starts one worker unless told otherwise; one of SLURM has its own cores.
    """
    gpus = _gpus()
    most = workers or (1 if "RANK" in os.environ else gpus or max(_cores() // threads, 1))
    pending = {task.job.name: task for task in tasks}
    peak = 0
    quiet = plan.share.rank != 0
    bar = tqdm(total=len(tasks), desc="cinemagraphs", unit="job", disable=True if quiet else None, dynamic_ncols=True)
    state = {"failed": 0, "next": 0.0}

    def look(alive: int) -> int:
        """How many tasks are made or have failed, by whoever."""
        nonlocal peak
        if time.monotonic() >= state["next"] or not alive:
            began = time.monotonic()
            for task in list(pending.values()):
                record = record_of(plan, task)
                if record:
                    del pending[task.job.name]
                    state["failed"] += "error" in record
                    peak = max(peak, record.get("rss", 0), 0 if gpus else record.get("peak", 0))
                    bar.update()
            now = time.monotonic()
            state["next"] = now + max(0.2, (now - began) / LOOKING)
            bar.set_postfix_str(f"{alive} workers, {state['failed']} failed")
        return len(tasks) - len(pending)

    def wanted(alive: int) -> int:
        """How many workers there should be."""
        if workers is not None or most == 1:
            return min(most, max(len(pending), 1))
        free = _free_memory(alive * peak)
        if not peak:  # nothing is known yet of what a job takes
            return 1
        return min(most, max(len(pending), 1), most if free is None else alive + int(max(free, 0) / (ROOM * peak)))

    def environment(slot: int) -> dict[str, str]:
        more = {"OMP_NUM_THREADS": str(threads)}
        return more | ({"CUDA_VISIBLE_DEVICES": _own_gpu(slot, gpus)} if gpus else {})

    try:
        return run_workers(
            work,
            (tasks, plan),
            wanted=wanted,
            look=look,
            name=plan.run,
            logs=plan.output / ".work",
            environment=environment,
        )
    finally:
        look(0)
        bar.close()


def _free_memory(taken: float) -> float | None:
    """Bytes of main memory that may be taken; SLURM's limit is the whole job's, of which `taken` are in use."""
    found = [free for free in [free_main_memory()] if free is not None]
    if os.environ.get("SLURM_MEM_PER_NODE", "").isdigit():
        found.append(int(os.environ["SLURM_MEM_PER_NODE"]) * 2**20 - taken)
    return min(found, default=None)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    """How many GPUs torch sees; torch is imported only where there may be one."""
    if not has_nvidia_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def _own_gpu(slot, gpus) -> str:
    """The GPU of the worker in place `slot`, as CUDA names it; one launched per GPU takes that of its own number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    return names[(local + slot) % len(names)]


# ---------------------------------------------------------------------- what is told


def finish(jobs: Sequence[Job], tasks: Sequence[Task], plan: Plan) -> list[dict]:
    """Merge what all workers have recorded: results.jsonl and the pages.  Returns the lines."""
    by_name = {task.job.name: task for task in tasks}
    rows = [row_of(job, record_of(plan, by_name[job.name]) if job.name in by_name else {}) for job in jobs]
    write_results(plan.output, rows)
    write_pages(plan.output, rows)
    sweep(plan)
    return rows


def told_after(rows: Sequence[dict], made: int, seconds: float) -> str:
    """The last lines of a run."""
    done = [row for row in rows if row["state"] == "done"]
    text = ", ".join(f"{name} {value}" for name, value in facts_of(rows))
    stage, share = slowest_stage(done)
    most = f"; {stage} takes {share:.0%} of a job" if stage else ""
    return f"{text}\n{made} jobs in {duration(seconds)} of the clock{most}"


def told_before(
    tasks: Sequence[Task], waiting: Sequence[Task], plan: Plan, flags: argparse.Namespace, *, broken: Sequence[Job]
) -> str:
    """What --dry_run says: what would run, and how long."""
    seconds, source = seconds_each(tasks, waiting, plan)
    workers = workers_of(flags.workers) or _gpus() or max(_cores() // flags.threads, 1)
    lines = [f"would make {task.job.name}: {' '.join(task.job.words)}" for task in waiting[:LISTED]]
    lines += [f"... and {len(waiting) - LISTED} more"] if len(waiting) > LISTED else []
    lines += [f"no job: line {job.line}: {job.broken}" for job in broken]
    lines.append(
        f"{len(waiting)} of {len(tasks)} jobs would be made, {len(tasks) - len(waiting)} are passed over, "
        f"{len(broken)} lines are no jobs"
    )
    if waiting:
        total = sum(seconds)
        lines.append(
            f"about {total / len(waiting):.1f} s each ({source}): {duration(total)} in one process, "
            f"{duration(total / workers)} in {workers}, {duration(total / workers / 10)} on ten such machines"
        )
    return "\n".join(lines)


def seconds_each(
    tasks: Sequence[Task], waiting: Sequence[Task], plan: Plan, model: Callable[[Job], float] | None = None
) -> tuple[list[float], str]:
    """Seconds for each waiting task, and where these come from: the made jobs of the same networks, all made ones, or
    the model of docs/scale.md.
    """
    like: dict[str, list[float]] = {}
    for task in tasks:
        record = record_of(plan, task)
        if record.get("seconds"):
            like.setdefault(str(task.job.networks()), []).append(record["seconds"]["total"])
    known = [seconds for group in like.values() for seconds in group]
    if known:
        mean = {group: sum(found) / len(found) for group, found in like.items()}
        anyway = sum(known) / len(known)
        return [mean.get(str(task.job.networks()), anyway) for task in waiting], f"measured on {len(known)} made ones"
    from text2cinemagraph.demo.costs import seconds_of

    return [(model or seconds_of)(task.job) for task in waiting], "a rough model of one CPU core, see docs/scale.md"


if __name__ == "__main__":
    sys.exit(run_main(main))
