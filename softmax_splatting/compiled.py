"""Functions compiled by numba, kept on disk so that only the first run on a machine waits for them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path | None:
    """Where compiled functions are kept: NUMBA_CACHE_DIR, else .cache/ of a checkout, else the user's cache folder.

    None where none of them can be written.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        choices = [Path(os.environ["NUMBA_CACHE_DIR"])]
    else:
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        checkout = [ROOT / ".cache" / "numba"] if (ROOT / "pyproject.toml").is_file() else []
        choices = [*checkout, users / "text2cinemagraph" / "numba"]
    return next((folder for folder in choices if _can_write(folder)), None)


def _can_write(folder) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


FOLDER = cache_folder()
if FOLDER is not None:
    numba.config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]


def compiled(function: Callable) -> Callable:
    """numba.njit without the GIL; the compiled code is kept in cache_folder(), or made anew in each process."""
    try:
        return numba.njit(nogil=True, cache=FOLDER is not None, error_model="numpy")(function)
    except RuntimeError:  # numba finds no place after all
        return numba.njit(nogil=True, error_model="numpy")(function)


class CompileTimes(event.Listener):
    """Counts what this process compiles, and says on stderr that it waits for that and where the result is kept."""

    def __init__(self) -> None:
        self.functions, self.seconds, self._depth, self._start = 0, 0.0, 0, 0.0

    def on_start(self, event: Any) -> None:
        """numba begins to compile; functions that the first one calls are compiled inside."""
        if self.functions == 0 and self._depth == 0:
            kept = (
                f"kept in {_short(FOLDER)} for the next run"
                if FOLDER
                else ("in every run anew, because no cache folder can be written (NUMBA_CACHE_DIR=folder names one)")
            )
            tqdm.write(f"compiling for this processor, {kept}", file=sys.stderr)
        if self._depth == 0:
            self._start = time.perf_counter()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        """numba has compiled a function."""
        self._depth -= 1
        self.functions += 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._start

    def told(self) -> str:
        """What was compiled since the last call, in words; "" for nothing."""
        text = f"{self.functions} functions compiled in {self.seconds:.1f} s" if self.functions else ""
        self.functions, self.seconds = 0, 0.0
        return text


def _short(folder) -> Path:
    """A folder below the current one without its beginning."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


COMPILE_TIMES = CompileTimes()
event.register("numba:compile", COMPILE_TIMES)
