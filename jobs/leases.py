"""Who is at which item, told by small files in a shared folder: claims that outlive no worker.

A lease is the file <item>.<generation>. Who creates it (the file system lets only one) holds the item and touches the
file from time to time. Where it has not been touched for the lease's time, the next one creates <item>.<generation + 1>
and holds the item from then on: no file of somebody else's is ever changed, so two can not take one item over. The
earlier holder, if it only slept, sees the later generation and must drop what it made (Lease.held).

Times are those of the folder's file system, as it stamps files, so machines whose clocks disagree may share a folder.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from text2cinemagraph.data.files import make_folder

SECONDS = 120.0  # longer than network file systems remember that a file was not there (60 s by default)
BEATS = 6  # touches in that time
TRIES = 10  # at a folder that others may be removing
CLOCK_FOR = 0.2  # s that a look at the folder's clock is good for


@dataclass
class Lease:
    """What a holder has in hand.  deaths: holders of this item that died at it while others went on."""

    item: str
    generation: int
    deaths: int
    path: Path
    token: str

    def held(self) -> bool:
        """Whether the item is still this holder's: nobody has taken it over."""
        return _content(self.path).get("token") == self.token and not _of(self.path, self.generation + 1).exists()


class Leases:
    """The leases of one worker in a folder.  Claims are kept alive by a thread until they are released."""

    def __init__(self, folder: str | Path, seconds: float = SECONDS, run: str = "", worker: str = "") -> None:
        """folder: shared by all.   seconds: without a touch, a lease is over.   run: one name for the workers that one
        process started; a holder of the same run that vanishes has died, while one of an earlier run may have been
        stopped with all others.   worker: its name, "" = made here.
        """
        if seconds <= 0:
            raise ValueError(f"a lease of {seconds} s: expected more than 0")
        self.folder, self.seconds = Path(folder), seconds
        self.worker = worker or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._run = run or self.worker
        self._mine: dict[Path, Lease] = {}
        self._lock, self._thread, self._ended = threading.Lock(), None, threading.Event()
        self._clock = self.folder / f".clock.{self.worker}"
        self._clock_said, self._clock_at = 0.0, -1e9
        self._began = self._now()

    # ------------------------------------------------------------------ claim, release

    def claim(self, item: str, by_force: bool = False) -> Lease | None:
        """The lease of an item, or None while another holds it.

        by_force: whoever of this run held it is known to be dead (Ray says so).
        """
        generation, deaths = self._top(item), 0
        if generation:
            path = _of(self.folder / f"{item}.0", generation)
            state = self._state(path)
            if state is None:  # released this moment
                return None
            content, age, touched = state
            alive = _runs(content.get("process"))
            ours = content.get("run") == self._run
            if not (by_force and ours) and alive is not False and age <= self.seconds:
                return None
            died = ours or touched > self._began
            deaths = _count(content.get("deaths")) + bool(died)
        return self._create(item, generation + 1, deaths)

    def _create(self, item, generation, deaths):
        path, token = self.folder / f"{item}.{generation}", uuid.uuid4().hex
        content = {"token": token, "worker": self.worker, "run": self._run, "process": _process(), "deaths": deaths}
        temporary = self.folder / f".new.{token}"
        try:
            with self._opened(temporary) as file:
                file.write(json.dumps(content))
            os.link(temporary, path)  # fails where the name is taken, and shows the file whole or not at all
        except FileExistsError:
            return None
        except OSError:  # a file system without links
            if not _create_in_place(path, json.dumps(content)):
                return None
        finally:
            temporary.unlink(missing_ok=True)
        lease = Lease(item, generation, deaths, path, token)
        if self._top(item) != generation:  # claimed from an old look at the folder
            path.unlink(missing_ok=True)
            return None
        with self._lock:
            self._mine[path] = lease
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True, name="leases")
                self._thread.start()
        return lease

    def release(self, lease: Lease) -> None:
        """The item is recorded, or given up: others may see to it."""
        with self._lock:
            self._mine.pop(lease.path, None)
        if not lease.held():
            return
        for generation in range(lease.generation, 0, -1):
            _of(lease.path, generation).unlink(missing_ok=True)

    def close(self) -> None:
        """Release all that is held and end the thread."""
        for lease in list(self._mine.values()):
            self.release(lease)
        self._ended.set()
        self._clear()
        self._clock.unlink(missing_ok=True)
        try:
            self.folder.rmdir()  # the last one
        except OSError:
            pass

    def _clear(self):
        """Remove what workers that are no more have left: leases that nobody took over, and their clocks."""
        newest = {}
        for item, generation, path in self._there():
            if generation >= newest.get(item, (0, path))[0]:
                newest[item] = generation, path
        for generation, path in newest.values():
            state = self._state(path)
            if state is not None and state[1] > self.seconds and not _runs(state[0].get("process")):
                for number in range(generation, 0, -1):
                    _of(path, number).unlink(missing_ok=True)
        for path in self.folder.glob(".clock.*"):  # of a worker that lives: it makes itself another one
            state = self._state(path)
            if state is not None and state[1] > self.seconds:
                path.unlink(missing_ok=True)

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what is there

    def holders(self) -> dict[str, str]:
        """{item: worker} of all leases there are."""
        return {item: str(_content(path).get("worker", "")) for item, _, path in sorted(self._there())}

    def _there(self):
        """(item, generation, path) of all leases there are."""
        for name in _names(self.folder):
            item, _, generation = name.rpartition(".")
            if not name.startswith(".") and generation.isdigit():
                yield item, int(generation), self.folder / name

    def _top(self, item) -> int:
        """The highest generation of an item's leases; 0 = none."""
        return max((generation for name, generation, _ in self._there() if name == item), default=0)

    def _state(self, path):
        """(content, seconds since its last touch, time of that touch), or None if the file has just gone.

        The file is opened, because network file systems look at the server then; a mere stat may be a minute old.
        """
        try:
            with open(path, encoding="utf-8") as file:
                text, touched = file.read(), os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        return _read(text), self._now() - touched, touched

    def _now(self) -> float:
        """The time by the clock of the folder's file system, in seconds."""
        if time.monotonic() - self._clock_at > CLOCK_FOR:
            with self._opened(self._clock) as file:
                file.write(".")  # so that the server stamps it
                file.flush()
                self._clock_said, self._clock_at = os.fstat(file.fileno()).st_mtime, time.monotonic()
        return self._clock_said + time.monotonic() - self._clock_at

    def _opened(self, path):
        """A file of this worker's own in the folder, to be written; the folder is made if it is not there.

        Others who end may be removing the empty folder at this very moment, so that it is tried more than once.
        """
        for left in reversed(range(TRIES)):
            try:
                make_folder(self.folder)
                return open(path, "w", encoding="utf-8")
            except OSError:
                if not left:
                    raise

    def _beat(self):
        while not self._ended.wait(self.seconds / BEATS):
            with self._lock:
                paths = list(self._mine)
            for path in paths:
                try:
                    os.utime(path)
                except OSError:
                    pass  # gone: held() tells


def _names(folder) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _of(path, generation) -> Path:
    """The lease file of another generation of the same item."""
    return path.with_name(f"{path.name.rpartition('.')[0]}.{generation}")


def _create_in_place(path, text) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _content(path) -> dict:
    try:
        return _read(path.read_text(encoding="utf-8"))
    except OSError:
        return {}


def _read(text) -> dict:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _count(value) -> int:
    return value if isinstance(value, int) else 0


# ---------------------------------------------------------------------- processes of this very machine


def _process() -> list:
    """What tells this process from every other one: [boot and container, number, start]; [] where Linux is not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}", os.getpid(), _started(os.getpid())]
    except (OSError, IndexError, ValueError):
        return []


def _started(number) -> str:
    """When a process started, in the kernel's ticks; OSError if there is none."""
    after_name = Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()
    if after_name[0] in "ZX":
        raise ProcessLookupError(f"process {number} has ended")
    return after_name[19]


def _runs(process) -> bool | None:
    """Whether a process of this machine and container still runs; None for another machine's."""
    own = _process()
    if not own or not isinstance(process, list) or len(process) != 3 or process[0] != own[0]:
        return None
    try:
        return _started(process[1]) == process[2]
    except (OSError, IndexError):
        return False
