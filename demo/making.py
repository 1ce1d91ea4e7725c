"""Making the jobs of a batch in this process, one after the other, with networks that stay loaded between them.

A job is made in a folder of its own attempt, <output>/.work/<lease>, and moved to <output>/<name> as a whole, its
record inside, if the lease is still held by then: what a worker that was thought dead makes too late is dropped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2cinemagraph import inference_t2c
from text2cinemagraph.data.files import make_folder, remove_leftovers, sha256
from text2cinemagraph.demo.joblist import Job
from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.jobs.leases import SECONDS, Lease, Leases
from text2cinemagraph.jobs.records import Records
from text2cinemagraph.jobs.share import Share
from text2cinemagraph.jobs.turns import claims
from text2cinemagraph.options.cli import one_line
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.pipeline.networks import Networks

WORK, LEASES, LOG = ".work", ".leases", "run.log"
DEATHS = 2  # workers that a job may cost: it is tried again once


@dataclass(frozen=True)
class Plan:
    """What all workers of a batch know.

    output: the folder, shared by all.   run: one name for the workers that one command started.   share: where in the
    list this process's workers begin.   seconds: of a lease.   record: pattern of a job's record below the output.
    logged: what a job prints goes into its run.log.
    """

    output: Path
    run: str = ""
    share: Share = Share()
    seconds: float = SECONDS
    record: str = "{}/job.json"
    logged: bool = True

    def records(self) -> Records:
        """The records of all jobs."""
        return Records(self.output, self.record)

    def leases(self, worker: str = "") -> Leases:
        """A worker's leases."""
        return Leases(self.output / LEASES, self.seconds, self.run, worker)


@dataclass(frozen=True)
class Task:
    """A job with its key, computed once."""

    job: Job
    key: str

    @property
    def lease_name(self) -> str:
        """A changed job is another one: an old lease does not hold it up."""
        return f"{self.job.name}.{self.key[:12]}"


def tasks_of(jobs: Sequence[Job]) -> list[Task]:
    """The jobs that are none but broken lines, ordered so that those of the same networks follow each other."""
    whole = sorted((job for job in jobs if not job.broken), key=Job.networks)
    return [Task(job, job.key()) for job in whole]


def record_of(plan: Plan, task: Task) -> dict:
    """A job's record if it is made, or has failed, from just this; {} where it is to be made."""
    record = plan.records().known(task.job.name, task.key)
    gone = record.get("video") and not (plan.output / task.job.name / FILES["video"]).is_file()
    return {} if gone else record


class Maker:
    """Makes jobs in this process."""

    def __init__(self, plan: Plan, worker: str) -> None:
        self.plan, self.worker, self._networks = plan, worker, Networks(keep_all=True)

    def make(self, task: Task, lease: Lease) -> dict | None:
        """Make one job whose lease is held.  Returns its record, which may name an error; None if it came too late."""
        if lease.deaths >= DEATHS:
            why = f"{lease.deaths} workers died at this job (killed, or out of memory); see what it asks for"
            return self._fail(task, lease, {"error": why})
        attempt = self.plan.output / WORK / lease.path.name
        shutil.rmtree(attempt, ignore_errors=True)
        make_folder(attempt)
        made, final = attempt / task.job.name, self.plan.output / task.job.name
        if task.job.goes_on() and final.is_dir():
            shutil.copytree(final, made)
        try:
            record = self._run(task.job, attempt) | {"worker": self.worker, "title": task.job.title}
            if not lease.held():
                return None
            if "error" in record and final.exists():
                return self._fail(task, lease, record, attempt / LOG)
            make_folder(made)
            _move_log(attempt / LOG, made)
            remove_leftovers(made)
            Records(attempt, self.plan.record).end(task.job.name, task.key, **record)
            return record if _put(made, final, attempt / "before", lease) else None
        finally:
            shutil.rmtree(attempt, ignore_errors=True)

    def _run(self, job, attempt) -> dict:
        """Run the pipeline.  What it took, or the error."""
        started, cpu, numbers = time.perf_counter(), time.process_time(), {}
        try:
            with self._log(attempt / LOG) as told:
                try:
                    inference_t2c.main(job.argv(attempt), self._networks, numbers)
                except Exception:
                    traceback.print_exc(file=told)
                    raise
        except Exception as error:  # one broken job must not cost the night's others
            problem = machine_error(error)
            if problem:  # out of memory, say: what the others need is loaded again
                self._forget()
            told = isinstance(error, (ValueError, OSError))
            return {"error": problem or (str(error) if told else f"{type(error).__name__}: {one_line(str(error))}")}
        video = attempt / job.name / FILES["video"]
        seconds = {stage: round(value, 3) for stage, value in numbers.get("seconds", {}).items()}
        return {
            "seconds": seconds | {"total": round(time.perf_counter() - started, 3)},
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "peak": max(numbers.get("peak", {}).values(), default=0),
            "rss": resident(),
            **{name: value and round(value, 4) for name, value in numbers.get("loop", {}).items()},
            **({"video": sha256(video)} if video.is_file() else {}),
        }

    def _forget(self):
        """Give back what is loaded."""
        self._networks.keep_all = False
        self._networks.keep(set())
        self._networks = Networks(keep_all=True)

    @contextlib.contextmanager
    def _log(self, path):
        """Print into a file of the job, or as it is. Gives the file for tracebacks (None = stderr)."""
        if not self.plan.logged:
            yield None
            return
        with open(path, "w", encoding="utf-8") as file:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield file

    def _fail(self, task, lease, record, log=None) -> dict | None:
        """Write down that a job failed, beside what an earlier one of its name has left."""
        if not lease.held():
            return None
        final = self.plan.output / task.job.name
        make_folder(final)
        if log is not None:
            _move_log(log, final)
        self.plan.records().end(task.job.name, task.key, **record)
        return record


def _move_log(log, folder):
    if log.is_file():
        os.replace(log, folder / LOG)


def _put(made, final, before, lease) -> bool:
    """Move an attempt to its place; False if another one has come first."""
    if final.exists():
        os.rename(final, before)
    try:
        if not lease.held():
            raise OSError("the lease is another's by now")
        os.rename(made, final)
    except OSError:
        if before.exists() and not final.exists():
            os.rename(before, final)
        return False
    return True


def resident() -> int:
    """Bytes of main memory that this process holds now; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0


def work(
    tasks: Sequence[Task], plan: Plan, worker: str, after: Callable[[Task, dict], None] = lambda task, record: None
) -> None:
    """Make whatever is free until all tasks are made or have failed, by whoever.  after: told of each made here."""
    maker = Maker(plan, worker)
    with plan.leases(worker) as leases:
        for taken in claims(
            tasks,
            lambda task: bool(record_of(plan, task)),
            share=plan.share,
            leases=leases,
            name=lambda task: task.lease_name,
        ):
            for task, lease in taken:
                record = maker.make(task, lease)
                if record is not None:
                    after(task, record)


def forget_failures(tasks: Sequence[Task], plan: Plan) -> int:
    """Failed jobs are to be tried again; how many there are."""
    records = plan.records()
    failed = [task for task in tasks if "error" in record_of(plan, task)]
    for task in failed:
        records.begin(task.job.name)
    return len(failed)


def sweep(plan: Plan) -> None:
    """Remove the attempts that nobody is at."""
    leases = plan.output / LEASES
    held = {path.name for path in leases.iterdir()} if leases.is_dir() else set()
    for path in (plan.output / WORK).iterdir() if (plan.output / WORK).is_dir() else ():
        if path.name not in held and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        (plan.output / WORK).rmdir()  # unless logs of workers that died are there
