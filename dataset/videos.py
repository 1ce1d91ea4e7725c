"""Videos of any kind, as the frames and clips that a training set is made of."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.videos import ANIMATIONS, VIDEOS, read_video

SUFFIXES = (*VIDEOS, *ANIMATIONS)


def find_videos(folder: str | Path, output: str | Path) -> dict[str, Path]:
    """{name: path} of the videos in a folder and its subfolders; the name is the path without its suffix, fit for a
    file name.

    What lies in `output` is no source: the clips of an earlier run are videos too. Other files are told.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --videos must be a folder of video files")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and Path(output).resolve() not in path.resolve().parents
    )
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path.name for path in files if path not in paths]
    if not paths:
        raise ValueError(f"no videos in {folder}; expected files ending in {' '.join(SUFFIXES)}")
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        tell("passed over", f"{len(others)} files of {folder} are no videos and are passed over: {shown}")
    named: dict[str, Path] = {}
    for path in paths:
        name = re.sub(r"[^\w-]+", "-", str(path.relative_to(folder).with_suffix(""))).strip("-") or "video"
        if name in named:
            raise ValueError(f"{path} and {named[name]} would both be called {name}; rename one of them")
        named[name] = path
    return named


def read_frames(path: Path, side: int, first: int = 0, *, fps: float = 0) -> Iterator[np.ndarray]:
    """Frames of a video from number `first` on, upright, uint8 [H,W,3] RGB.

    The short side is brought down to `side` px (never up), both sides are even because an mp4 needs it.
    fps: frames/s to bring the video to by its time stamps (data.videos.read_video); 0 = as stored.
    """
    for pixels in read_video(path, fps=fps or None, first=first):
        factor = min(1, side / min(pixels.shape[:2]))
        height, width = (max(2, 2 * round(n * factor / 2)) for n in pixels.shape[:2])
        yield cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)


def read_clips(path: Path, side: int, length: int, first: int = 0, *, fps: float = 0) -> Iterator[list[np.ndarray]]:
    """Whole clips of a video, from clip number `first` on: lists of `length` frames of read_frames; what is left over
    is dropped.
    """
    clip = []
    for frame in read_frames(path, side, first * length, fps=fps):
        if clip and frame.shape != clip[0].shape:
            raise ValueError(f"{path} changes its size on the way; cut it there into two videos")
        clip.append(frame)
        if len(clip) == length:
            yield clip
            clip = []
