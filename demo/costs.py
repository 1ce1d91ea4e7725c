"""How long a job takes on one core, roughly, before anything is measured: what docs/scale.md says, as numbers."""

from __future__ import annotations

from text2cinemagraph.demo.joblist import Job


def seconds_of(job: Job) -> float:
    """Seconds of a job on one CPU core."""
    return 1.0
