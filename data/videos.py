"""Reading clips: video files, animated pictures and folders of frames, upright, at one rate, in square pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.pictures import MAX_MEGAPIXELS, opened, to_rgb

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
ANIMATIONS = (".gif", ".webp")
FRAMES = (".png", ".jpg", ".jpeg")
SAME_RATE = 0.01  # 29.97 frames/s are taken for 30: one frame in a thousand would come twice
GIF_DEFAULT = 0.1  # s that browsers show a frame whose file says 10 ms or less


@dataclass(frozen=True)
class _Shot:
    """A frame that is decoded but not yet in RGB.  frame: of PyAV, as stored.   turns: of 90 degrees, as numpy.rot90
    counts.   aspect: width of a stored pixel through its height.
    """

    frame: av.VideoFrame
    turns: int = 0
    aspect: float = 1.0

    def pixels(self, size: tuple[int, int] | None) -> np.ndarray:
        """uint8 [H,W,3], upright; size: (H, W) to scale to in the file's own colours, None = in square pixels."""
        height, width = self.frame.height, self.frame.width
        if size is not None:
            height, width = size[::-1] if self.turns % 2 else size
        elif self.aspect != 1:  # the shorter side of a pixel grows, so nothing is lost
            height, width = round(height * max(1, 1 / self.aspect)), round(width * max(1, self.aspect))
        same = (height, width) == (self.frame.height, self.frame.width)
        scaled: dict[str, Any] = (
            {} if same and size is None else {"height": height, "width": width, "interpolation": "BICUBIC"}
        )
        pixels = self.frame.to_ndarray(format="rgb24", **scaled)
        return np.ascontiguousarray(np.rot90(pixels, self.turns)) if self.turns else pixels


def read_video(
    path: str | Path,
    size: tuple[int, int] | None = None,
    step: int = 1,
    *,
    fps: float | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Frames of a clip's file one by one, uint8 [H,W,3] RGB, upright: number `first` and then every `step`-th.

    path: a video, or an animated GIF or WebP.   size: (H, W) to bring them to while they are still in the file's own
    colours (swscale, bicubic: what ffmpeg's scale filter and decord do); None = as stored, with square pixels.
    fps: frames/s to bring the clip to by its time stamps: the frame nearest in time, so some come twice or never; told
    where that changes the rate. None = every stored frame.
    Raises FileNotFoundError and ValueError, in one line that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}; check the path")
    try:
        with _animation(path) if path.suffix.lower() in ANIMATIONS else _video(path) as (rate, shots):
            frames = (shot for _, shot in shots) if fps is None else _at_rate(shots, rate, fps, path)
            for number, shot in enumerate(frames):
                if number >= first and (number - first) % step == 0:
                    yield shot.pixels(size)
    except (av.error.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it holds no pictures"
        raise ValueError(f"{path} is not a readable video, or damaged ({reason})") from error


@contextmanager
def _video(path):
    """(frames/s, iterator over (time in s, _Shot)) of what FFmpeg decodes."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_MEGAPIXELS * 1e6:
            raise ValueError(
                f"{path} is {stream.width}x{stream.height} px; at most {MAX_MEGAPIXELS:g} megapixels are read"
            )
        rate, aspect = float(stream.average_rate or 30), float(stream.sample_aspect_ratio or 1) or 1.0

        def shots() -> Iterator[tuple[float, _Shot]]:
            for number, frame in enumerate(container.decode(stream)):
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # telephones film on their side and note it
                yield number / rate if frame.time is None else frame.time, _Shot(frame, turns, aspect)

        yield rate, shots()


@contextmanager
def _animation(path):
    """The same of an animated picture."""
    with opened(path, "clip") as picture:
        times, end = [], 0.0
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()  # a WebP tells its frame's time only then
            seconds = picture.info.get("duration", 0) / 1000
            times.append(end)
            end += seconds if seconds > 0.01 else GIF_DEFAULT

        def shots() -> Iterator[tuple[float, _Shot]]:
            for number, time in enumerate(times):
                picture.seek(number)
                pixels = np.array(to_rgb(picture, path))
                yield time, _Shot(av.VideoFrame.from_ndarray(pixels, format="rgb24"))

        yield len(times) / end, shots()


def _at_rate(shots, rate, fps, path):
    """The _Shots at a constant rate of `fps` frames/s: for each moment the one nearest in time.

    shots: iterator over (time in s, _Shot).   rate: their mean frames/s; as good as `fps`, it is kept.
    """
    same = abs(rate / fps - 1) <= SAME_RATE
    if not same:
        tell("rate", f"{path} has {rate:.4g} frames/s; brought to {fps:g} by its time stamps")
    step, number, before = 1 / (rate if same else fps), 0, None
    for time, shot in shots:
        if before is None:
            start = time
        else:
            count = 0
            while number * step < (before[0] + time - start) / 2:
                yield before[1]
                number, count = number + 1, count + 1
            if same and count != 1:
                tell("rate", f"{path} has a variable frame rate; brought to {rate:.4g} frames/s by its time stamps")
        before = time - start, shot
    while before and number * step < before[0] + 1 / rate - step / 2:  # the last is shown as long as the others
        yield before[1]
        number += 1


# ---------------------------------------------------------------- clips as folders of frames
def frame_files(folder: str | Path) -> dict[int, Path]:
    """{number: picture} of a clip's folder, in order; counted from 0, whether the names begin with 0 or 1.

    The pictures lie in the folder or in images/ below it, and end in a number: 0.png, frame_0001.jpeg. Of several kinds
    of names the most frequent counts.  Raises ValueError that says what was found, if there is none.
    """
    folder = Path(folder) / "images" if (Path(folder) / "images").is_dir() else Path(folder)
    kinds: dict[tuple[str, str], dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(.*?)(\d+)", path.stem)
        if match and path.suffix.lower() in FRAMES and not path.name.startswith("."):
            kinds.setdefault((match[1], path.suffix.lower()), {})[int(match[2])] = path
    if not kinds:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:3]) or "nothing"
        raise ValueError(f"{folder} holds no frames but {found}; expected 0.png, 1.png ... or frame_0001.jpg ...")
    numbered = max(kinds.values(), key=len)
    if len(kinds) > 1:
        others = sum(map(len, kinds.values())) - len(numbered)
        tell("frames", f"{folder}: {others} pictures beside {numbered[min(numbered)].name} ... are passed over")
    first = min(numbered)
    if first > 1 and max(numbered) - first >= len(numbered):
        first = 0  # with gaps, and no beginning that is usual: the numbers are taken as they are
    return {number - first: numbered[number] for number in sorted(numbered)}
