"""The server's side of a worker process (worker.py): starts it, hands it tasks, kills it, starts another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

MODULE = "text2cinemagraph.demo.studio.worker"
LONGEST_ANSWER = 2**26  # bytes of a line: the flow of a picture of 1024 px is 11 MB
HEAVY = 8 * 10**8  # bytes that an idle "hands" process may keep to itself (0.4 GB is usual); above, it is replaced


class TaskFailed(Exception):
    """The task could not be done.  line: why, in one line.   status: of an HTTP answer."""

    def __init__(self, line: str, status: int = 400) -> None:
        super().__init__(line)
        self.line, self.status = line, status


class WorkerDied(TaskFailed):
    """The process ended in the middle of a task."""

    def __init__(self, code: int | None) -> None:
        killed = code in (-signal.SIGKILL, 137)
        reason = (
            "the computing process was killed, most likely for want of memory; take a smaller picture or fewer frames"
        )
        line = reason if killed else f"the computing process ended unexpectedly (exit code {code}); try again"
        super().__init__(line, 500)
        self.killed = killed


class Worker:
    """One process, which does one task at a time. It is started when it is needed, and again after its death."""

    def __init__(self, role: str, heavy: int | None = None) -> None:
        """role: "renders" or "hands".   heavy: bytes above which the process is replaced when its task is done."""
        self.role, self._heavy, self._lean = role, heavy, False
        self._process: asyncio.subprocess.Process | None = None
        self._turn, self._number, self._ended = asyncio.Lock(), 0, False

    @property
    def pid(self) -> int | None:
        """The process's number; None where none runs."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive else None

    async def call(
        self, do: str, *, report: Callable[[dict], None] | None = None, timeout: float | None = None, **task: Any
    ) -> dict:
        """What the process answers to a task.  report: gets what it says meanwhile.   timeout: seconds.

        Raises TaskFailed; WorkerDied where the process ended.
        """
        async with self._turn:
            process = await self._started()
            self._number += 1
            try:
                answer = await asyncio.wait_for(self._answer(process, do, report, task), timeout)
            except asyncio.TimeoutError:
                await self.kill()
                raise TaskFailed(f"this takes more than {timeout:g} seconds and was given up", 400) from None
            except asyncio.CancelledError:
                await self.kill()  # its answer would be taken for the next task's
                raise
            if self._heavy and answer.get("memory", 0) > self._heavy:
                await self.kill()
        if "error" in answer:
            raise TaskFailed(answer["error"], answer.get("status", 400))
        return answer["result"]

    async def _answer(self, process, do, report, task):
        line = json.dumps({"id": self._number, "do": do, **task}) + "\n"
        try:
            process.stdin.write(line.encode())
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # told below
        while line := await process.stdout.readline():
            answer = json.loads(line)
            if answer["id"] != self._number:
                continue
            if "result" in answer or "error" in answer:
                return answer
            if report:
                report(answer)
        died = WorkerDied(await process.wait())
        self._lean = self._lean or died.killed and not self._ended  # the next one keeps no networks it does not need
        raise died

    async def _started(self):
        if self.pid is None:
            self._ended = False
            words = [sys.executable, "-m", MODULE, self.role, *(["lean"] if self._lean else [])]
            pipe = asyncio.subprocess.PIPE
            # A session of its own: Ctrl-C in the terminal is the server's, which ends this one by closing its stdin.
            # Its threads sleep while they wait: the browser that shows the preview needs the cores too.
            env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
            self._process = await asyncio.create_subprocess_exec(
                *words, stdin=pipe, stdout=pipe, limit=LONGEST_ANSWER, start_new_session=True, env=env
            )
        return self._process

    async def warm(self) -> None:
        """Start the process and let it load what the first task would wait for."""
        with contextlib.suppress(TaskFailed, OSError):  # told where it is needed
            await self.call("warm_up", clip=self.role == "renders")

    async def kill(self) -> None:
        """End the process at once; the task it was at fails with WorkerDied."""
        if self.pid is not None:
            self._ended = True
            self._process.kill()
            await self._process.wait()
