"""Writing files so that an interrupted run never leaves half of one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def make_folder(folder: str | Path) -> None:
    """Create a folder and its parents; OSError in words when it cannot be created or written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot create the folder {folder}: {error.strerror}; choose a writable output folder"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"cannot write into the folder {folder}; choose a writable output folder")


def in_any_case(path: str | Path) -> Path:
    """The path; where nothing is there, what lies beside it under a name that differs in upper and lower case only."""
    path = Path(path)
    if path.exists() or not path.parent.is_dir():
        return path
    return next((p for p in sorted(path.parent.iterdir()) if p.name.lower() == path.name.lower()), path)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

    The temporary name keeps the suffix, because many writers choose the format by it. The parent folder is created.
    Raises OSError in words when the folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # some writers make their files private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what processes of this machine that are no more (killed, out of memory) were writing with atomic() in
    `folder`.
    """
    for path in Path(folder).glob(".*.part*") if Path(folder).is_dir() else ():
        import psutil  # knows processes on every system; needed only where something was left

        process = path.name.rsplit(".part", 1)[0].rsplit(".", 1)[-1]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)


def _umask():
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file):
    """sha256 in chunks, for Python 3.10, which has no hashlib.file_digest."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def read_json(path: str | Path, advice: str) -> dict[str, Any]:
    """The mapping in a small JSON file that the project wrote.

    Raises ValueError in one line, which ends in `advice`, for a damaged file and for anything but a mapping.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged JSON ({str(error)[:60]}); {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (a {type(content).__name__}, expected a mapping); {advice}")
    return content
