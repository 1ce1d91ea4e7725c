"""The queue of renders, and what the pages are told while they run."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from text2cinemagraph.demo.studio.workers import TaskFailed, Worker

KEPT = 200  # finished jobs that can still be asked for
OFTEN = 0.1  # seconds between two messages of progress
WAITING = 256  # messages that a page may be behind


@dataclass
class Job:
    """One task of the "renders" process.

    kind: run | preview | words | paint | suggest.   state: queued | running | done | failed | cancelled.
    plan: makes the task when its turn has come, so that it is of the project as it then is.
    stage, done, total: where it is.   eta: seconds to the end of the stage, or None.   line: what was said last.
    """

    project: str
    kind: str
    plan: Callable[[], dict]
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: str = "queued"
    stage: str | None = None
    done: int = 0
    total: int | None = None
    eta: float | None = None
    line: str = ""
    error: str | None = None
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0

    def shown(self) -> dict:
        """What pages see of it."""
        keys = ("id", "project", "kind", "state", "stage", "done", "total", "eta", "line", "error")
        spent = time.monotonic() - self.began if self.state == "running" else self.seconds
        return {key: getattr(self, key) for key in keys} | {"seconds": round(spent, 2), "lines": self.lines[-20:]}

    @property
    def waits(self) -> bool:
        return self.state in ("queued", "running")


class Events:
    """Messages for the pages that show a project."""

    def __init__(self) -> None:
        self._pages: dict[str, set[asyncio.Queue]] = defaultdict(set)

    def tell(self, project: str, message: dict) -> None:
        for page in self._pages.get(project, ()):
            if page.full():
                page.get_nowait()  # a page that sleeps loses the oldest, of which newer ones follow
            page.put_nowait(message)

    async def of(self, project: str, beat: float) -> AsyncIterator[dict | None]:
        """Messages as they come; None after `beat` seconds of silence."""
        page: asyncio.Queue = asyncio.Queue(WAITING)
        self._pages[project].add(page)
        try:
            while True:
                try:
                    yield await asyncio.wait_for(page.get(), beat)
                except asyncio.TimeoutError:
                    yield None
        finally:
            self._pages[project].discard(page)
            if not self._pages[project]:
                del self._pages[project]


class Jobs:
    """One job runs at a time, the others wait: the machine is one."""

    def __init__(self, worker: Worker, events: Events) -> None:
        self._worker, self._events = worker, events
        self._queue: deque[Job] = deque()
        self._more = asyncio.Event()
        self.all: dict[str, Job] = {}

    def add(self, job: Job) -> Job:
        """Queue a job. A preview that still waits gives way to a newer one of its project."""
        for other in list(self._queue):
            if job.kind == other.kind == "preview" and job.project == other.project:
                self._end(other, "cancelled")
        self.all[job.id] = job
        for old in [j for j in self.all.values() if not j.waits][:-KEPT]:
            del self.all[old.id]
        self._queue.append(job)
        self._tell(job)
        self._more.set()
        return job

    def of(self, project: str) -> list[Job]:
        """A project's jobs, the newest first."""
        return [job for job in reversed(self.all.values()) if job.project == project]

    def running(self, project: str) -> Job | None:
        return next((job for job in self.of(project) if job.state == "running"), None)

    async def cancel(self, job: Job) -> None:
        """A job that waits leaves the queue; of one that runs, the process is killed."""
        if job.state == "queued":
            self._end(job, "cancelled")
        elif job.state == "running":
            job.state = "cancelled"
            await self._worker.kill()
            await job.ended.wait()

    async def run(self) -> None:
        """Work through the queue, for ever."""
        while True:
            while not self._queue:
                self._more.clear()
                await self._more.wait()
            job = self._queue.popleft()
            job.state, job.began = "running", time.monotonic()
            self._tell(job)
            await self._do(job)

    async def _do(self, job):
        state, error = "done", None
        try:
            task = await asyncio.to_thread(job.plan)
            if job.state == "running":
                await self._worker.call("render", report=lambda said: self._hear(job, said), **task)
        except TaskFailed as failed:
            state, error = "failed", failed.line
        except (ValueError, OSError) as wrong:
            state, error = "failed", " ".join(str(wrong).split())
        except asyncio.CancelledError:
            raise
        except Exception as wrong:  # one broken job must not end the queue
            state, error = "failed", f"{type(wrong).__name__}: {wrong} (a mistake of the program)"
        self._end(job, "cancelled" if job.state == "cancelled" else state, error)
        if self._worker.pid is None and not self._queue:
            self._warming = asyncio.create_task(self._worker.warm())  # the next one shall not wait

    def _hear(self, job, said):
        now = time.monotonic()
        if "stage" in said:
            if said["stage"] != job.stage:
                job.stage, job.done, job.total, job.eta = said["stage"], 0, None, None
        elif "line" in said:
            job.line = said["line"]
            job.lines.append(job.line)
        elif "done" in said:
            first = not said["done"] or said["total"] != job.total
            self._bar = now if first else getattr(self, "_bar", now)
            job.done, job.total = said["done"], said["total"]
            left = (job.total or 0) - job.done
            job.eta = round((now - self._bar) / job.done * left, 1) if job.done and job.total else None
            if not first and left and now - getattr(self, "_told", 0.0) < OFTEN:
                return
            self._told = now
        self._tell(job)

    def _end(self, job, state, error=None):
        if job in self._queue:
            self._queue.remove(job)
        job.seconds = time.monotonic() - job.began if job.began else 0.0
        job.state, job.error, job.eta = state, error if state == "failed" else None, None
        job.ended.set()
        self._tell(job)

    def _tell(self, job: Job) -> None:
        message: dict[str, Any] = {"type": "job", "job": job.shown()}
        self._events.tell(job.project, message)
