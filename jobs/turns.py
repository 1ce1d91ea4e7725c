"""The items that a process is to make, one after the other: by its rank, or whatever is free (leases)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from text2cinemagraph.jobs.leases import Lease, Leases
from text2cinemagraph.jobs.share import WAYS, Share

Item = TypeVar("Item")
LOOK_AGAIN = 0.05  # of a lease's time: how often those that wait for the others' last items look
LEAST, MOST = 0.05, 5.0  # s, bounds of that


def turns(
    items: Sequence[Item],
    done: Callable[[Item], bool],
    *,
    share: Share,
    leases: Leases | None = None,
    name: Callable[[Item], str] = str,
    batch: int = 1,
    seen: Callable[[int], object] = int,
) -> Iterator[list[Item]]:
    """Give lists of up to `batch` items that are not done; the caller makes and records them before it asks for more.

    Without leases: this process's share. With leases: any that nobody holds, until all are done, by whoever; at the end
    that waits for what others hold, and takes over what they leave behind.
    name: the item's, for its lease file.   seen: told, for a progress bar, how many items are dealt with.
    """
    if leases is not None:
        for taken in claims(items, done, share=share, leases=leases, name=name, batch=batch, seen=seen):
            yield [item for item, _ in taken]
        return
    taken = []
    for item in share.of(items):
        if done(item):
            seen(1)
            continue
        taken.append(item)
        if len(taken) == batch:
            yield taken
            seen(len(taken))
            taken = []
    if taken:
        yield taken
        seen(len(taken))


def claims(
    items: Sequence[Item],
    done: Callable[[Item], bool],
    *,
    share: Share,
    leases: Leases,
    name: Callable[[Item], str] = str,
    batch: int = 1,
    seen: Callable[[int], object] = int,
) -> Iterator[list[tuple[Item, Lease]]]:
    """What turns() gives by lease, with the leases, which are released when the caller asks for more."""
    waiting = share.from_own_part(items)
    while waiting:
        busy, taken = [], []
        for item in waiting:
            if done(item):
                seen(1)
                continue
            lease = leases.claim(name(item))
            if lease is None:
                busy.append(item)
                continue
            if done(item):  # somebody finished it between the two looks
                leases.release(lease)
                seen(1)
                continue
            taken.append((item, lease))
            if len(taken) == batch:
                yield from _given(taken, leases, seen)
                taken = []
        yield from _given(taken, leases, seen)
        waiting = busy
        if waiting:
            time.sleep(min(max(leases.seconds * LOOK_AGAIN, LEAST), MOST))


def _given(taken, leases, seen):
    try:
        if taken:
            yield taken
            seen(len(taken))
    finally:
        for _, lease in taken:
            leases.release(lease)


@contextmanager
def shared_leases(way: str, folder: str | Path, seconds: float | None = None) -> Iterator[Leases | None]:
    """The leases of a script whose --share is `way`: None for "rank"; else they are in `folder` while it works."""
    if way not in WAYS:
        raise ValueError(f"--share {way}: expected {' or '.join(WAYS)}")
    if way == "rank":
        yield None
        return
    with Leases(folder, **({} if seconds is None else {"seconds": seconds})) as leases:
        yield leases
