"""Lists that several processes fill together: a record for each item while the work goes on, one file at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from text2cinemagraph.jobs.leases import TRIES, Leases
from text2cinemagraph.jobs.records import Records

PEN_SECONDS = 60.0  # that one process may be silent while it merges


class SharedList:
    """A list on disk, {item: dict}, and the records of what is not in it yet.

    A process that is killed loses only the item it was at: the records of the others are merged by the next run.
    """

    def __init__(
        self, path: str | Path, read: Callable[[Path], dict[str, Any]], write: Callable[[dict[str, Any]], None]
    ) -> None:
        """path: of the list.   read(path): what it holds, {} where there is none; may raise ValueError.
        write(items): writes it, atomically; it gets what was there and then the new ones, each group in its order.
        """
        self.path, self._read, self._write = Path(path), read, write
        self._records = Records(self.path.with_name(f".{self.path.name}.made"))
        self._state, self._held = None, {}
        self.items()

    def items(self) -> dict[str, Any]:
        """What the list holds now; it is read again where it has changed."""
        state = (self.path.stat().st_mtime_ns, self.path.stat().st_size) if self.path.is_file() else None
        if state is not None and state != self._state:
            self._held = self._read(self.path)
            state = (self.path.stat().st_mtime_ns, self.path.stat().st_size)  # reading may have mended it
        self._state, self._held = state, self._held if state is not None else {}
        return self._held

    def __contains__(self, item: str) -> bool:
        # In this order: a record goes only after the list holds its item.
        return bool(self._records.read(item)) or item in self.items()

    def add(self, item: str, content: Any) -> None:
        """An item is made."""
        for left in reversed(range(TRIES)):  # who merges may be removing the empty folder at this very moment
            try:
                return self._records.end(item, "", content=content)
            except OSError:
                if not left:
                    raise

    def merge(self) -> dict[str, Any]:
        """Bring all records into the list, whoever wrote them; one process at a time.  Returns what it holds."""
        with Leases(self.path.with_name(f".{self.path.name}.pen"), PEN_SECONDS) as leases:
            while (pen := leases.claim("list")) is None:
                time.sleep(0.05)
            try:
                new = list(self._records.items())
                found = {item: self._records.read(item).get("content") for item in new}
                items = self.items() | {item: content for item, content in found.items() if content is not None}
                self._write(items)
                self._records.remove(new)
            finally:
                leases.release(pen)
        return self.items()
