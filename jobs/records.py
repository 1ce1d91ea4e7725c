"""What is made already, and from what: one small file per finished item, and the lists that are merged from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from text2cinemagraph.data.files import atomic, read_json, sha256


def content_key(settings: Any, *inputs: Any) -> str:
    """A digest of all that an item depends on.

    settings: anything that JSON can hold.   inputs: a Path stands for the bytes of that file, which may not exist; any
    other value counts as text.
    """
    text = settings if isinstance(settings, str) else json.dumps(settings, sort_keys=True, default=str)
    parts = [text] + [sha256(x) if isinstance(x, Path) and x.is_file() else str(x) for x in inputs]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Records:
    """One small JSON file per finished item, written when all of the item is there.

    A run that was killed leaves no record of the item it was at, so the item is made again.
    """

    def __init__(self, folder: str | Path, pattern: str = "{}.json") -> None:
        """folder: where the records are.   pattern: an item's record below it, {} = the item."""
        self.folder, self._pattern = Path(folder), pattern

    def path(self, item: str) -> Path:
        """Where an item's record is."""
        return self.folder / self._pattern.format(item)

    def read(self, item: str) -> dict[str, Any]:
        """An item's record; {} where there is none, or a torn one."""
        try:
            return read_json(self.path(item), "")
        except (OSError, ValueError):
            return {}

    def known(self, item: str, key: str) -> dict[str, Any]:
        """An item's record if the item was made from just this (content_key), else {}."""
        record = self.read(item)
        return record if record.get("key") == key else {}

    def begin(self, item: str) -> None:
        """From here on the item's files may be half old, half new."""
        self.path(item).unlink(missing_ok=True)

    def end(self, item: str, key: str, **content: Any) -> None:
        """All files of the item are written."""
        with atomic(self.path(item)) as path:
            path.write_text(json.dumps({"key": key, **content}) + "\n", encoding="utf-8")

    def items(self) -> Iterator[str]:
        """The items that have a record of the pattern "{}.json" in the folder, in order."""
        found = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ()
        return (path.stem for path in found if not path.name.startswith("."))

    def remove(self, items: Iterable[str]) -> None:
        """Drop records that a list holds by now, and the folder where nothing else is in it."""
        for item in items:
            self.begin(item)
        try:
            self.folder.rmdir()
        except OSError:
            pass  # there are others, or there is no folder


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """What a file of one JSON object a line holds, such as a batch's results.jsonl; [] if there is none."""
    path = Path(path)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """A text file of these lines, atomically."""
    with atomic(path) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
