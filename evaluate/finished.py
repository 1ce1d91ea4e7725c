"""Results folders that can be continued and shared out: which items are done and with what, and whose turn the others
are.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from text2cinemagraph.data.files import atomic, read_json, sha256

# Options that do not change a result.
IRRELEVANT = (
    "results_dir",
    "gpu_ids",
    "threads",
    "nThreads",
    "how_many",
    "batchSize",
    "dataset_name",
    "no_instance",
    "label_nc",
    "phase",
    "dataroot",
    "motion_basepath",
    "mask_path",
    "hints_path",
    "captions_file",
)


class Finished:
    """Remembers in <folder>/finished/<id>.json what an item was made from; it counts as done only while that is the
    same.

    A checkpoint trained further, another option, another input: the item is made again. A run that was killed leaves no
    record of the item it was at.
    """

    def __init__(self, folder, options):
        """folder: results/<name>/<phase>_<epoch>.   options: the script's dataclass, with `folder` and `which_epoch` of
        the checkpoint.
        """
        self._folder = Path(folder) / "finished"
        settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in IRRELEVANT}
        weights = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(Path(options.folder).glob(f"{options.which_epoch}_net_G.*"))
        ]
        self._settings = json.dumps([settings, weights], sort_keys=True, default=str)

    def key(self, *inputs):
        """What an item depends on: the options, the weights and these inputs (paths of files, which may not exist;
        other values as text).
        """
        parts = [self._settings] + [sha256(x) if isinstance(x, Path) and x.is_file() else str(x) for x in inputs]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def record(self, item, key, outputs):
        """The dict of numbers kept with an item, or None if it has to be made (again)."""
        try:
            kept = read_json(self._path(item), "")
        except (OSError, ValueError):
            return None
        return kept.get("numbers") if kept.get("key") == key and all(Path(path).is_file() for path in outputs) else None

    def begin(self, item):
        """From here on the item's files may be half old, half new."""
        self._path(item).unlink(missing_ok=True)

    def end(self, item, key, **numbers):
        """All files of the item are written."""
        with atomic(self._path(item)) as path:
            path.write_text(json.dumps({"key": key, "numbers": numbers}) + "\n")

    def numbers(self, items):
        """The numbers of those of the items that are done, by whichever process."""
        return [numbers_of(self._folder.parent, item) for item in items if self._path(item).is_file()]

    def _path(self, item):
        return self._folder / f"{item}.json"


def numbers_of(folder, item):
    """The numbers that were kept with an item of a results folder; {} if there are none."""
    try:
        numbers = read_json(Path(folder) / "finished" / f"{item}.json", "").get("numbers")
    except (OSError, ValueError):
        return {}
    right = isinstance(numbers, dict) and all(isinstance(n, (int, float, type(None))) for n in numbers.values())
    return numbers if right else {}


@dataclass(frozen=True)
class Share:
    """One process's part: every world-th item from the rank-th; its GPU as --gpu_ids writes it."""

    rank: int
    world: int
    gpu_ids: str

    def of(self, items):
        """The items of this process."""
        return items[self.rank :: self.world]

    def title(self, what):
        """A name for the progress bar."""
        return what if self.world == 1 else f"{what} {self.rank + 1}/{self.world}"


def share_of(gpu_ids):
    """The Share of this process: of torchrun's RANK and WORLD_SIZE, or everything. Raises ValueError if these make no
    sense.
    """
    ids = [gpu.strip() for gpu in str(gpu_ids).split(",") if gpu.strip()] or ["-1"]
    if "RANK" not in os.environ:
        return Share(0, 1, ids[0])
    rank, world = int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", 0))
    if not 0 <= rank < world:
        raise ValueError(
            f"RANK={rank} with WORLD_SIZE={world}; start the script by torchrun, or without these variables"
        )
    local = int(os.environ.get("LOCAL_RANK", rank))
    one_for_all = len(ids) == 1 and not ids[0].startswith(
        "-"
    )  # torchrun with the default "0": every GPU of the machine
    usable = ([str(k) for k in range(torch.cuda.device_count())] if one_for_all else _here(gpu_ids)) or ids
    return Share(rank, world, usable[local % len(usable)])


def _here(gpu_ids):
    """Those of "0,1,2" that this machine has."""
    return [
        gpu.strip() for gpu in str(gpu_ids).split(",") if gpu.strip().isdigit() and int(gpu) < torch.cuda.device_count()
    ]


def run_on_all(gpu_ids, command):
    """Run a command once per GPU of "0,1,2", each on its share; the worst exit code, or None if there is nothing to
    share out.

    command: the script and its arguments.   With one GPU, on a CPU, or under torchrun this process does the work
    itself.
    """
    ids = _here(gpu_ids)
    if "RANK" in os.environ or len(ids) < 2:
        return None
    runs = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "RANK": str(k), "LOCAL_RANK": str(k), "WORLD_SIZE": str(len(ids))},
        )
        for k in range(len(ids))
    ]
    try:
        return max(abs(run.wait()) for run in runs)
    finally:
        for run in runs:  # an interruption of this process is one of all
            if run.poll() is None:
                run.terminate()
