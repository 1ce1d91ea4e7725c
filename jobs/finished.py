"""Results folders that can be continued: which items the test scripts have made, with which weights and options."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from text2cinemagraph.jobs.records import Records, content_key

# Options that do not change a result.
IRRELEVANT = (
    "results_dir",
    "gpu_ids",
    "share",
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
FOLDER = "finished"


class Finished:
    """Remembers in <folder>/finished/<id>.json what an item was made from; it counts as done only while that is the
    same.

    A checkpoint trained further, another option, another input: the item is made again. A run that was killed leaves no
    record of the item it was at.
    """

    def __init__(self, folder: str | Path, options: Any) -> None:
        """folder: results/<name>/<phase>_<epoch>.   options: the script's dataclass, with `folder` and `which_epoch` of
        the checkpoint.
        """
        self._folder, self._records = Path(folder), Records(Path(folder) / FOLDER)
        settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in IRRELEVANT}
        weights = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(Path(options.folder).glob(f"{options.which_epoch}_net_G.*"))
        ]
        self._settings = json.dumps([settings, weights], sort_keys=True, default=str)

    def key(self, *inputs: Any) -> str:
        """What an item depends on: the options, the weights and these inputs (paths of files, which may not exist;
        other values as text).
        """
        return content_key(self._settings, *inputs)

    def record(self, item: str, key: str, outputs: Iterable[str | Path]) -> dict | None:
        """The dict of numbers kept with an item, or None if it has to be made (again)."""
        kept = self._records.known(item, key)
        return kept.get("numbers") if kept and all(Path(path).is_file() for path in outputs) else None

    def begin(self, item: str) -> None:
        """From here on the item's files may be half old, half new."""
        self._records.begin(item)

    def end(self, item: str, key: str, **numbers: float | None) -> None:
        """All files of the item are written."""
        self._records.end(item, key, numbers=numbers)

    def numbers(self, items: Iterable[str]) -> list[dict]:
        """The numbers of those of the items that are done, by whichever process."""
        return [numbers_of(self._folder, item) for item in items if self._records.path(item).is_file()]


def numbers_of(folder: str | Path, item: str) -> dict:
    """The numbers that were kept with an item of a results folder; {} if there are none."""
    numbers = Records(Path(folder) / FOLDER).read(item).get("numbers")
    right = isinstance(numbers, dict) and all(isinstance(n, (int, float, type(None))) for n in numbers.values())
    return numbers if right else {}
