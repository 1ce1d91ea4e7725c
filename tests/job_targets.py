"""What worker processes of the tests run; they import it by name."""

import os
import signal
import sys
import time
from pathlib import Path

from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.share import Share
from text2cinemagraph.jobs.turns import turns


def leave_a_mark(folder, name):
    (Path(folder) / name).write_text(os.environ.get("SLOT", ""))


def die_once(folder, name):
    """The first is killed, its successor ends well."""
    first = not (Path(folder) / "tried").exists()
    (Path(folder) / "tried").touch()
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    leave_a_mark(folder, name)


def die(folder, name):
    print("something is wrong", flush=True)
    sys.exit(3)


def sleep(folder, name):
    leave_a_mark(folder, name)
    time.sleep(60)


def make_by_lease(folder, count, name):
    """Write each item's file once, and note in a line of events when that began and ended."""
    folder = Path(folder)
    with Leases(folder / "leases", seconds=5, run="one") as leases:
        for (item,) in turns(
            list(range(count)), lambda item: (folder / f"{item}.made").exists(), share=Share(), leases=leases
        ):
            began = time.monotonic()
            time.sleep(0.002)
            with open(folder / f"{name}.events", "a") as file:
                print(item, began, time.monotonic(), file=file)
            (folder / f"{item}.made").touch()


def hold(folder, item, name):
    """Claim an item, say so, and sleep."""
    leases = Leases(Path(folder), seconds=float(os.environ.get("SECONDS", 60)), run=name)
    assert leases.claim(item)
    print("held", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    hold(*sys.argv[1:])
