"""Worker processes of this machine: started, watched, replaced when they die; they end with the process that started
them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

POLL = 0.2  # s between two looks at the workers
IN_A_ROW = 4  # workers that end before anything was done: then the fault is not a job's
PATIENCE = 20.0  # s that a worker gets to put down its work when all shall end


class WorkersFailed(ValueError):
    """Workers die before they have done anything."""


def run_workers(
    target: Callable[..., None],
    arguments: tuple,
    *,
    wanted: Callable[[int], int],
    look: Callable[[int], int],
    name: str,
    logs: Path,
    environment: Callable[[int], dict[str, str]] = lambda slot: {},
) -> int:
    """Run target(*arguments, name of the worker) in processes until each has returned; returns how many died.

    A process that dies (killed, out of memory, a fault in a library) is replaced by another one.
    wanted(alive): how many processes there should be now, at least 1.   look(alive): called every now and then; returns
    a count that grows as work gets done.   name: the beginning of the workers' names.   logs: folder for what they
    print; the log of one that returns is removed.   environment(slot): additions for the process in place `slot`.
    Raises WorkersFailed when IN_A_ROW of them die and nothing gets done.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[int, Any] = {}  # slot: process
    started = died = in_a_row = 0
    finishing, before = False, look(0)
    logs.mkdir(parents=True, exist_ok=True)
    with _term_is_interrupt():
        try:
            while not finishing or running:
                while not finishing and len(running) < max(wanted(len(running)), 1):
                    slot, started = min(set(range(len(running) + 1)) - set(running)), started + 1
                    running[slot] = _start(context, target, arguments, f"{name}-{started}", logs, environment(slot))
                wait([process.sentinel for process in running.values()], timeout=POLL)
                now = look(len(running))
                in_a_row, before = (0, now) if now > before else (in_a_row, before)
                for slot, process in [(slot, process) for slot, process in running.items() if not process.is_alive()]:
                    process.join()
                    del running[slot]
                    log = logs / f"{process.name}.log"
                    if process.exitcode == 0:  # it found nothing left to do, so no other is needed either
                        finishing = True
                        log.unlink(missing_ok=True)
                        continue
                    died, in_a_row = died + 1, in_a_row + 1
                    if in_a_row >= IN_A_ROW:
                        raise WorkersFailed(
                            f"{in_a_row} workers died in a row, nothing was done ({_how(process.exitcode)}); see {log}"
                        )
        finally:
            _end(running.values())
    return died


@contextmanager
def _term_is_interrupt() -> Iterator[None]:
    """SIGTERM, which batch systems send, ends this process as Ctrl-C does: the workers put down their work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(context, target, arguments, name, logs, more):
    """A new process; what shall be in its environment is there before it imports anything."""
    kept = {key: os.environ.get(key) for key in more}
    os.environ.update(more)
    try:
        process = context.Process(
            target=_inside, args=(target, arguments, name, str(logs / f"{name}.log")), name=name, daemon=False
        )
        process.start()
    finally:
        for key, value in kept.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    return process


def _inside(target, arguments, name, log):
    """What a worker process runs: it prints into its log, and an end of its parent is one of its own."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which sends TERM
    threading.Thread(target=_follow_parent, daemon=True, name="parent").start()
    try:
        target(*arguments, name)
    except KeyboardInterrupt:
        sys.exit(130)


def _follow_parent():
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(130)


def _interrupt(*_):
    raise KeyboardInterrupt


def _how(code) -> str:
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _end(processes):
    """Ask the processes to end, and end those that do not."""
    processes = [process for process in processes if process.is_alive()]
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(until - time.monotonic(), 0.1))
        if process.is_alive():
            process.kill()
            process.join()
