"""The clip as GIF, WebP or APNG, for pages that play no video. They loop for ever, and what stands still in the clip
stands still in them. Besides, formats with alpha hold what moves alone, to be laid over the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import QUALITY, VideoWriter, to_uint8
from text2cinemagraph.data.notes import tell

if TYPE_CHECKING:
    import torch

FORMATS = ("mp4", "webm", "gif", "webp", "apng")
STREAMED = ("mp4", "webm")  # written frame by frame; the others need all frames at once
SOFT = ("webm", "webp", "apng")  # carry an alpha of more than two levels
GIF_MOST = 50  # frames/s: two hundredths of a second each
DITHER = 14  # levels, peak to peak: hides the steps of 256 colours in a sky
WEBP_QUALITY = 88
PALETTE_FRAMES = 4  # from which the one palette of a GIF is made


class ClipWriter:
    """Writes the frames of a clip to an mp4 as they come, and when it is complete to other formats beside it.

    with ClipWriter("video.mp4", ["mp4", "gif"], fps=30) as clip: clip.write(frame)     # [3,H,W] in [0,1], or uint8
    [H,W,3] The mp4 is always written; the others take its name with their own ending, and those that are not asked for
    are removed: they would show another clip. All but webm need all frames at once: 3 bytes per pixel and frame.
    quality: see VideoWriter.   Raises ValueError for an unknown format.
    """

    def __init__(
        self, path: str | Path, formats: Sequence[str] = ("mp4",), fps: float = 30, quality: int = QUALITY
    ) -> None:
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise ValueError(
                f"video.formats: {', '.join(map(str, unknown))} is unknown; choose from {', '.join(FORMATS)}"
            )
        self.path, self.fps = Path(path), fps
        self.extra = [name for name in FORMATS if name in formats and name not in STREAMED]
        paths = [self.path, *([self.path.with_suffix(".webm")] if "webm" in formats else [])]
        self._videos = [VideoWriter(path, fps, quality) for path in paths]
        self._frames: list[np.ndarray] = []
        self._wanted = {*self.extra, *(path.suffix[1:] for path in paths)}

    def __enter__(self):
        for video in self._videos:
            video.__enter__()
        return self

    def write(self, frame: torch.Tensor | np.ndarray, moving: np.ndarray | None = None) -> None:
        """One more frame.  moving: the same with alpha, uint8 [H,W,4], for the formats that carry it."""
        pixels = frame if isinstance(frame, np.ndarray) else to_uint8(frame)
        for video in self._videos:
            video.write(pixels if moving is None or video.path.suffix[1:] not in SOFT else moving)
        if self.extra:
            self._frames.append(pixels if moving is None else moving)

    def __exit__(self, kind, error, trace):
        for video in self._videos:
            video.__exit__(kind, error, trace)
        if kind is None:
            for name in FORMATS[1:]:
                path = self.path.with_suffix(f".{name}")
                if name in self.extra:
                    write_animation(path, self._frames, self.fps)
                elif name not in self._wanted:
                    path.unlink(missing_ok=True)


def write_clip(path: str | Path, frames: Iterable, fps: int = 30, quality: int = QUALITY) -> Path:
    """Write frames ([3,H,W] in [0,1], or uint8 [H,W,3]) as they come, in the format that the path's ending names.

    A fourth channel is alpha, which SOFT formats carry.
    Returns the path; the file appears only when it is complete.  Raises ValueError for an ending that is no FORMATS,
    and for alpha in a format that carries none.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind in STREAMED:
        with VideoWriter(path, fps, quality) as video:
            for frame in frames:
                video.write(frame)
    elif kind in FORMATS:
        write_animation(path, [frame if isinstance(frame, np.ndarray) else to_uint8(frame) for frame in frames], fps)
    else:
        raise ValueError(f"{path} ends in none of {', '.join(f'.{name}' for name in FORMATS)}; choose one of them")
    return path


def write_animation(path: str | Path, frames: list[np.ndarray], fps: float = 30, quality: int = WEBP_QUALITY) -> None:
    """Frames (uint8 [H,W,3]) as a .gif, .webp or .apng that loops for ever; the file appears only when complete.

    quality: of WebP, 0 to 100.   A fourth channel is alpha.  Raises ValueError for alpha in a .gif.
    """
    path = Path(path)
    if path.suffix == ".gif" and frames[0].shape[2] == 4:
        raise ValueError(f"{path}: a gif carries no soft alpha; write a .webm, .webp or .apng")
    times = durations(len(frames), fps, 10 if path.suffix == ".gif" else 1)
    if path.suffix == ".gif" and fps > GIF_MOST:
        tell("gif rate", f"{path}: browsers show at most {GIF_MOST} frames/s of a GIF, not {fps}; it will run slower")
    with atomic(path) as temporary:
        if path.suffix == ".gif":
            first, *others = _indexed(frames)
            first.save(temporary, "GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=False)
        elif path.suffix == ".webp":
            first, *others = map(Image.fromarray, frames)
            first.save(
                temporary,
                "WEBP",
                save_all=True,
                append_images=others,
                duration=times,
                loop=0,
                quality=quality,
                method=2,
            )
        else:
            first, *others = map(Image.fromarray, frames)
            first.save(temporary, "PNG", save_all=True, append_images=others, duration=times, loop=0)


def durations(count: int, fps: float, grid: int) -> list[int]:
    """Milliseconds that each frame is shown, multiples of `grid` whose sum keeps step with the clip: 30 fps is 30, 30,
    40, ... in a GIF.

    A GIF counts hundredths of a second, and browsers slow down what shows frames for less than two of them.
    """
    ends = [round(n * 1000 / fps / grid) * grid for n in range(count + 1)]
    return [max(end - start, 2 * grid if grid == 10 else grid) for start, end in zip(ends, ends[1:])]


def _indexed(frames):
    """Frames in one palette of 256 colours. The dither is a fixed pattern: what stands still gets the same colours in
    every frame.
    """
    some = [frames[round(i * (len(frames) - 1) / (PALETTE_FRAMES - 1))] for i in range(PALETTE_FRAMES)]
    palette = Image.fromarray(np.concatenate(some)).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    height, width = frames[0].shape[:2]
    pattern = ((_bayer(8) + 0.5) / 64 - 0.5) * DITHER
    pattern = np.tile(pattern, (height // 8 + 1, width // 8 + 1))[:height, :width, None]
    for frame in frames:
        dithered = np.uint8(np.clip(frame + pattern, 0, 255).round())
        yield Image.fromarray(dithered).quantize(palette=palette, dither=Image.Dither.NONE)


def _bayer(n):
    """The ordered-dither matrix of side n, a power of two, with the numbers 0 .. n*n - 1 (Bayer, ICC 1973)."""
    if n == 1:
        return np.zeros((1, 1))
    quarter = 4 * _bayer(n // 2)
    return np.block([[quarter, quarter + 2], [quarter + 3, quarter + 1]])
