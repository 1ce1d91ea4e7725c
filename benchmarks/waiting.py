"""What the pipeline takes alone and beside other work, with threads of torch that sleep or spin while they wait.

    python -m benchmarks.waiting --rounds 2

Runs configs/inference_mini.yaml in processes of their own, in turns, alone and beside one busy process per core.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.options.cli import Parser, number, run_main

POLICIES = ("PASSIVE", "ACTIVE")


def spin() -> None:
    """Work for one core, until it is ended."""
    while True:
        sum(range(10_000))


def run(policy: str, folder: str | Path, frames: int) -> tuple[float, float]:
    """(seconds by the wall clock, CPU seconds) of one run of the pipeline."""
    command = [sys.executable, "inference_t2c.py", "--config", "configs/inference_mini.yaml", "--name", policy]
    settings = [f"twin_extraction.exp_path_root={folder}", f"video.n_frames={frames}", "video.formats=[mp4]"]
    before, began = os.times(), time.perf_counter()
    # ACTIVE is what GNU's OpenMP does for a while if nothing is said.
    subprocess.run(
        [*command, *settings], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": policy}
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument(
        "--rounds", type=number(least=1, most=1000), default=2, help="runs of each kind; the quickest counts"
    )
    parser.add_argument("--frames", type=number(least=2, most=10_000), default=60, help="of the clip")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/waiting.json")
    o = parser.parse_args()
    cores, times = os.cpu_count(), {}
    with tempfile.TemporaryDirectory() as folder:
        run("PASSIVE", folder, 2)  # compiled, and read from the disk
        for beside in (0, cores):
            others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(beside)]
            for other in others:
                other.start()
            for _ in range(o.rounds):
                for policy in POLICIES:
                    times.setdefault((policy, beside), []).append(run(policy, folder, o.frames))
                    print(f"{policy}, {beside} beside: {times[policy, beside][-1][0]:.1f} s", flush=True)
            for other in others:
                other.kill()
    result = {"cores": cores, "frames": o.frames, "rounds": o.rounds}
    for (policy, beside), runs in times.items():
        name = f"{policy.lower()}_{'beside_one_process_per_core' if beside else 'alone'}"
        wall, cpu = min(runs)
        result[name] = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}
    keep("waiting", result, None if o.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
