"""The jobs of a batch on a Ray cluster: Ray Data shares them out among actors, brings up machines, and starts an actor
anew where one is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pickle
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2cinemagraph.demo.making import Maker, Plan, Task, record_of
from text2cinemagraph.options.devices import has_nvidia_gpu
from tqdm import tqdm

INSTALL = "--engine ray needs Ray: pip install -r requirements-ray.txt"
MOST_BLOCKS = 10_000  # of the list of jobs; a block is what Ray repeats when an actor is lost


class RayMaker:
    """The actor: makes one job after the other, with networks that stay loaded."""

    def __init__(self, plan: Plan, folder: str) -> None:
        """folder: where the command was given, from which relative paths count."""
        with contextlib.suppress(OSError):  # another machine may not have it; then only absolute paths are found
            os.chdir(folder)
        self._plan = plan
        worker = f"{plan.run}-ray-{socket.gethostname()}-{os.getpid()}"
        self._maker, self._leases = Maker(plan, worker), plan.leases(worker)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make these tasks, unless they are made by now."""
        return {"failed": [self._make(pickle.loads(task)) for task in batch["task"]]}

    def _make(self, task) -> bool:
        """Returns whether the job has failed."""
        while not (record := record_of(self._plan, task)):
            # An actor of this run that held it is gone: Ray gives a job to one at a time. One of another run is waited
            # for, as everywhere.
            lease = self._leases.claim(task.lease_name, by_force=True)
            if lease is None:
                time.sleep(min(self._plan.seconds / 20, 1.0))
                continue
            try:
                self._maker.make(task, lease)
            finally:
                self._leases.release(lease)
        return "error" in record


def run_on_ray(tasks: Sequence[Task], plan: Plan, address: str, *, threads: int, workers: int | None) -> None:
    """Make the tasks on a Ray cluster.

    address: of the cluster, "auto" = the one of this machine; "" = one of this machine's own, for this run.
    threads: CPU cores of an actor; one that finds a GPU takes a whole one.   workers: actors at most; None = as many as
    the cluster has room for, and as it grows.
    Raises ImportError with the line that installs Ray.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(INSTALL) from error
    plan = dataclasses.replace(plan, output=plan.output.resolve())
    variables = {"OMP_NUM_THREADS": str(threads)}
    settings: dict[str, Any] = {
        "runtime_env": {"env_vars": variables},
        "log_to_driver": False,
        "logging_level": "error",
    }
    if address:
        ray.init(address, **settings)
    else:
        cores = {"num_cpus": threads * workers} if workers else {}
        ray.init(include_dashboard=False, **cores, **settings)
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        gpus = ray.cluster_resources().get("GPU", 0) if address else (1 if has_nvidia_gpu() else 0)
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        listed = ray.data.from_items(
            [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=min(len(tasks), MOST_BLOCKS)
        )
        made = listed.map_batches(
            RayMaker,
            fn_constructor_args=(plan, os.getcwd()),
            batch_size=1,
            compute=pool,
            num_gpus=1 if gpus else 0,
            num_cpus=threads,
        )
        failed = 0
        with tqdm(total=len(tasks), desc="cinemagraphs", unit="job", disable=None, dynamic_ncols=True) as bar:
            for row in made.iter_rows():
                failed += bool(row["failed"])
                bar.update()
                bar.set_postfix_str(f"ray, {failed} failed")
    finally:
        ray.shutdown()
        _tidy(plan.output)


def _tidy(output: Path) -> None:
    """Ray ends its actors without a word: what they held is nobody's by now."""
    for path in (output / ".leases").glob(".clock.*ray*"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (output / ".leases").rmdir()
