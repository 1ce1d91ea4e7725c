"""How long a job takes on one core of a CPU, roughly, before any is measured: the figures of docs/scale.md."""

from __future__ import annotations

import functools
import re

from text2cinemagraph.demo.joblist import Job
from text2cinemagraph.options.places import located

# Seconds of one core of an Intel Xeon, with the weights in this repository: docs/results/batch.json, "costs".
BETWEEN = 0.4  # of a job: its options, its files, its summary
PER_PIXEL_AND_FRAME = 0.98e-6  # of s6 with video.motion=pixels, mp4 and gif
SEGMENTED = 0.5  # s3
PAINTED = 6.5e-6  # per pixel, s1 under --style oil
DRAWN = 3.7e-6  # per pixel and step, s1 and s2 together ...
UNET = 10.0e6  # ... with a U-Net of so many bytes; a larger one takes more in proportion
OPTION = re.compile(r"(?!twin_extraction\.seed=)\w+(\.\w+)+=")  # all seeds cost the same
SMALL = (256, 256)  # (H, W) in px where a picture cannot be read


def seconds_of(job: Job) -> float:
    """Seconds of a job on one core, from its words alone; for a list whose jobs have never run."""
    words = list(job.words)
    options = _options(job.config, tuple(word for word in words if OPTION.match(word)))
    image = words[words.index("--image") + 1] if "--image" in words else ""
    t, frames = options.twin_extraction, options.video.n_frames
    height, width = _size(image) if image else (t.H, t.W)
    pixels = height * width
    seconds = BETWEEN + PER_PIXEL_AND_FRAME * pixels * frames
    if not {"--mask", "--mask_strokes", "--flow", "--project"} & set(words):
        seconds += SEGMENTED
    if "--style" in words:
        seconds += PAINTED * pixels
    elif not image and "--project" not in words:
        seconds += DRAWN * t.H * t.W * t.ddim_steps * _unet_bytes(t.ckpt) / UNET
    return seconds


@functools.lru_cache(maxsize=1024)
def _options(config, overrides):
    """The options of such a job; those of the configuration alone where the words have a mistake."""
    from text2cinemagraph.options.cli import load_options
    from text2cinemagraph.options.inference import InferenceOptions

    try:
        return load_options(InferenceOptions, config, overrides)
    except (ValueError, OSError):
        return InferenceOptions()


@functools.lru_cache(maxsize=65536)
def _size(path) -> tuple[int, int]:
    from text2cinemagraph.data.pictures import opened

    try:
        with opened(path) as picture:
            return picture.height, picture.width
    except (OSError, ValueError):
        return SMALL


@functools.lru_cache(maxsize=64)
def _unet_bytes(checkpoint) -> float:
    """Of the U-Net's weights; UNET where they are not here."""
    found = [path.stat().st_size for path in located(checkpoint).glob("unet/*.safetensors")]
    return max(found, default=UNET)
