"""Videos of any kind, as the frames and clips that a training set is made of."""

import re
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


def find_videos(folder, output):
    """{name: path} of the videos in a folder and its subfolders; the name is the path without its suffix, fit for a
    file name.

    What lies in `output` is no source: the clips of an earlier run are videos too.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --videos must be a folder of video files")
    paths = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and p.is_file()
        and not p.name.startswith(".")
        and Path(output).resolve() not in p.resolve().parents
    )
    if not paths:
        raise ValueError(f"no videos in {folder}; expected files ending in {' '.join(SUFFIXES)}")
    named = {}
    for path in paths:
        name = re.sub(r"[^\w-]+", "-", str(path.relative_to(folder).with_suffix(""))).strip("-") or "video"
        if name in named:
            raise ValueError(f"{path} and {named[name]} would both be called {name}; rename one of them")
        named[name] = path
    return named


def read_frames(path, side, first=0):
    """Frames of a video from number `first` on, upright, uint8 [H,W,3] RGB.

    The short side is brought down to `side` px (never up), both sides are even because an mp4 needs it.
    """
    try:
        with av.open(str(path)) as container:
            for frame in islice(container.decode(video=0), first, None):
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # telephones film on their side and note it
                pixels = np.rot90(pixels, turns) if turns else pixels
                factor = min(1, side / min(pixels.shape[:2]))
                height, width = (max(2, 2 * round(n * factor / 2)) for n in pixels.shape[:2])
                yield cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(
            f"is damaged or no video ({getattr(error, 'strerror', None) or 'it holds no pictures'})"
        ) from error


def read_clips(path, side, length, first=0):
    """Whole clips of a video, from clip number `first` on: lists of `length` frames of read_frames; what is left over
    is dropped.
    """
    clip = []
    for frame in read_frames(path, side, first * length):
        if clip and frame.shape != clip[0].shape:
            raise ValueError("changes its size on the way; cut it there into two videos")
        clip.append(frame)
        if len(clip) == length:
            yield clip
            clip = []
