"""Which part of the work is this process's: by torchrun's ranks, SLURM's arrays and tasks, or one process per GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
WAYS = ("rank", "lease")


@dataclass(frozen=True)
class Share:
    """One process's part: every world-th item from the rank-th; its GPU as --gpu_ids writes it."""

    rank: int = 0
    world: int = 1
    gpu_ids: str = "-1"

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this process."""
        return items[self.rank :: self.world]

    def from_own_part(self, items: Sequence[Item]) -> list[Item]:
        """All items, this process's own stretch first, then the stretches of the others in turn.

        By lease everybody walks through everything; beginning apart, they meet late, and neighbours in the list, which
        use the same models, stay together.
        """
        start = self.rank * len(items) // self.world
        return [*items[start:], *items[:start]]

    def title(self, what: str) -> str:
        """A name for the progress bar."""
        return what if self.world == 1 else f"{what} {self.rank + 1}/{self.world}"


def add_share(parser: Any) -> None:
    """The flag --share of scripts that several processes may run together."""
    parser.add_argument(
        "--share",
        choices=WAYS,
        default="rank",
        help="of several processes (torchrun, srun, sbatch --array): rank: each its part; lease: whatever is free, "
        "so that uneven machines finish together and a dead one's items are taken over (default: %(default)s)",
    )


def place_of(environment: dict[str, str] | None = None) -> tuple[int, int] | None:
    """(rank, world) of this process among those that a launcher started; None without a launcher.

    Read are RANK and WORLD_SIZE (torchrun, accelerate), SLURM_ARRAY_TASK_ID with _MIN, _STEP and _COUNT (sbatch
    --array), and SLURM_PROCID with SLURM_STEP_NUM_TASKS (srun); srun inside of an array counts through both.
    Raises ValueError where these make no sense.
    """
    env = os.environ if environment is None else environment
    if "RANK" in env:
        rank, world = _number(env, "RANK"), _number(env, "WORLD_SIZE", 0)
        if not 0 <= rank < world:
            raise ValueError(
                f"RANK={rank} with WORLD_SIZE={world}; start the script by torchrun, or without these variables"
            )
        return rank, world
    if "SLURM_ARRAY_TASK_ID" not in env and "SLURM_STEP_NUM_TASKS" not in env:
        return None
    rank, world = 0, 1
    if "SLURM_ARRAY_TASK_ID" in env:
        task, world = _number(env, "SLURM_ARRAY_TASK_ID"), _number(env, "SLURM_ARRAY_TASK_COUNT", 0)
        rank = (task - _number(env, "SLURM_ARRAY_TASK_MIN", 0)) // max(_number(env, "SLURM_ARRAY_TASK_STEP", 1), 1)
        if not 0 <= rank < world:
            raise ValueError(
                f"SLURM_ARRAY_TASK_ID={task} is not among {world} tasks (SLURM_ARRAY_TASK_COUNT); expected the numbers "
                "of one --array without gaps, such as --array=0-9"
            )
    tasks = _number(env, "SLURM_STEP_NUM_TASKS", 1)
    return rank * tasks + _number(env, "SLURM_PROCID", 0) % tasks, world * tasks


def _number(env, name, default=None) -> int:
    text = env.get(name, default)
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={text}: expected a whole number, as the launcher sets it") from None


def share_of(gpu_ids: str) -> Share:
    """The Share of this process: what its launcher says (place_of), or everything.

    gpu_ids: "0,1": the GPUs of this machine, one for each of its processes; "-1": the CPU.
    """
    ids = [gpu.strip() for gpu in str(gpu_ids).split(",") if gpu.strip()] or ["-1"]
    place = place_of()
    if place is None:
        return Share(0, 1, ids[0])
    rank, world = place
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", rank)))
    one_for_all = len(ids) == 1 and not ids[0].startswith("-")  # torchrun with the default "0": every GPU here
    usable = ([str(k) for k in range(_gpus())] if one_for_all else _here(gpu_ids)) or ids
    return Share(rank, world, usable[local % len(usable)])


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _here(gpu_ids):
    """Those of "0,1,2" that this machine has."""
    return [gpu.strip() for gpu in str(gpu_ids).split(",") if gpu.strip().isdigit() and int(gpu) < _gpus()]


def run_on_all(gpu_ids: str, command: Sequence[str]) -> int | None:
    """Run a command once per GPU of "0,1,2", each on its share; the worst exit code, or None if there is nothing to
    share out.

    command: the script and its arguments.   With one GPU, on a CPU, or under a launcher this process does the work
    itself.
    """
    if place_of() is not None:
        return None
    ids = _here(gpu_ids)
    if len(ids) < 2:
        return None
    places = [{"RANK": str(k), "LOCAL_RANK": str(k), "WORLD_SIZE": str(len(ids))} for k in range(len(ids))]
    return run_together([[sys.executable, *command]] * len(ids), places)


def run_together(commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]) -> int:
    """Run commands beside each other, each with its additions to the environment; the worst exit code."""
    runs = [subprocess.Popen(command, env={**os.environ, **more}) for command, more in zip(commands, environments)]
    try:
        return max(abs(run.wait()) for run in runs)
    finally:
        for run in runs:  # an interruption of this process is one of all
            if run.poll() is None:
                run.terminate()
