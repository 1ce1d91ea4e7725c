"""What a clip will take, told before anything is computed: memory, disk and time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.options.runtime import free_memory

if TYPE_CHECKING:
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.options.inference import InferenceOptions, Video
    from text2cinemagraph.options.runtime import Runtime

GB = 1e9
# Bytes: beside what the imports took, and per pixel of the picture. Measured with the weights in this repository on
# pictures of 512 and 1024 px (splat: as reported, not measured here); a larger network takes more in splat.
START = 0.6 * GB
PER_PIXEL = {"splat": 2100, "features": 350, "pixels": 250}
HELD = 3  # bytes per pixel and frame that formats which are not streamed hold until the last frame; alpha is one more
ON_DISK = {"mp4": 0.1, "webm": 0.1, "gif": 0.5, "webp": 0.3, "apng": 1.5}  # bytes per pixel and frame, generous
SECONDS = 0.2e-6  # per pixel and frame on a CPU, the fastest way on a fast one
DAY = 24 * 3600


def check_clip(options: InferenceOptions, experiment: Experiment, runtime: Runtime, drawn: bool) -> None:
    """Raise ValueError, with the estimate, for a clip that does not fit into memory, onto the disk or into a day.

    drawn: s1 draws the picture in this run; else the experiment's has its size.
    """
    size = options.twin_extraction.H, options.twin_extraction.W
    if not drawn and experiment.has("image"):
        size = tuple(experiment.read("image").shape[-2:])
    own, o = experiment.given("image"), options.video
    text = f"{o.n_frames} frames of {size[1]}x{size[0]} px"
    needed, free = memory_of(o, size, o.motion_of(own)), free_memory(runtime.device)
    if free is not None and needed > free:
        advice = "a smaller picture" if o.motion_of(own) == "pixels" else "a smaller picture, or video.motion=pixels"
        advice += ", or formats=[mp4]" if len(o.formats) > 1 and runtime.device.type == "cpu" else ""
        raise ValueError(
            f"s6 needs about {needed / GB:.1f} GB of memory for {text}, {free / GB:.1f} GB are free: {advice}"
        )
    written = sum(ON_DISK[name] for name in {"mp4", *o.formats}) * o.n_frames * size[0] * size[1]
    room = shutil.disk_usage(_existing(experiment.folder)).free
    if written > room:
        raise ValueError(f"s6 writes about {written / GB:.1f} GB for {text}, {room / GB:.1f} GB are free: take fewer")
    seconds = SECONDS * o.n_frames * size[0] * size[1]
    if runtime.device.type == "cpu" and seconds > DAY:
        raise ValueError(f"s6 takes {seconds / 3600:.0f} hours or more for {text} on a CPU: take fewer, or a GPU")


def memory_of(o: Video, size: tuple[int, int], motion: str) -> float:
    """Bytes that s6 takes at its peak.  size: (H, W) in px.   motion: splat, features or pixels."""
    from text2cinemagraph.data.animation import STREAMED

    pixels = size[0] * size[1]
    return START + pixels * (
        PER_PIXEL[motion] + ((HELD + o.alpha) * o.n_frames if set(o.formats) - set(STREAMED) else 0)
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
