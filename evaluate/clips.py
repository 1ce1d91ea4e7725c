"""Which clips belong together, and the frames of a clip as a network wants them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import PIL
from PIL import Image
from text2cinemagraph.data.files import sha256
from text2cinemagraph.data.media import read_image, to_uint8
from text2cinemagraph.data.videos import ANIMATIONS, VIDEOS, frame_files, read_video

SIDE = 224  # px that the I3D network takes
# The published rules: every third frame, 16 of them; or the first 60.
FRAMES = {"fvd_16": range(0, 46, 3), "fvd_60": range(60)}
_CODEC = "PyAV {} (libavcodec {})".format(av.__version__, ".".join(map(str, av.library_versions["libavcodec"])))
DECODERS = {"published": _CODEC, "clean": _CODEC}
# published: what decord does when asked for 224 x 224.  clean: as in clean-fid (Parmar et al., CVPR 2022), on RGB,
# antialiased.
RESIZES = {
    "published": "swscale bicubic, in the file's YUV, aspect not kept",
    "clean": f"Pillow {PIL.__version__} bicubic, in RGB, antialiased, aspect not kept",
}
MODES = tuple(RESIZES)


@dataclass
class Pairing:
    """Clips by name.  real, fake: {id: path} of the same ids, sorted.  missing: true clips without a prediction;
    surplus: the reverse.
    """

    real: dict
    fake: dict
    missing: list
    surplus: list


def pair(gt_path: str | Path, pred_path: str | Path) -> Pairing:
    """Pairing of `<id>_gt.mp4` (or folder `<id>_gt`) with `<id>_video.mp4` (or `<id>_input_video.mp4`).

    pred_path may also be the folder above images/.  Raises FileNotFoundError or ValueError for folders with nothing to
    compare.
    """
    real, fake = true_clips(gt_path), predicted_clips(pred_path)
    both = sorted(real.keys() & fake.keys())
    if not both:
        raise ValueError(
            f"no common names: {gt_path} has {_some(real)}, {pred_path} has {_some(fake)}; "
            "expected <id>_gt.mp4 and <id>_video.mp4 of the same ids"
        )
    return Pairing(
        {i: real[i] for i in both}, {i: fake[i] for i in both}, sorted(real.keys() - fake), sorted(fake.keys() - real)
    )


def true_clips(folder: str | Path) -> dict[str, Path]:
    """{id: path of `<id>_gt.mp4` or of another kind of clip, else of the folder `<id>_gt`}."""
    folder = _folder(folder, "--gt_path")
    found = {path.name[: -len("_gt")]: path for path in folder.iterdir() if _ends(path, "_gt") and path.is_dir()}
    found |= {path.stem[: -len("_gt")]: path for path in _clips(folder) if _ends(path.with_suffix(""), "_gt")}
    if not found:
        raise ValueError(
            f"no clips in {folder}; expected <id>_gt.mp4 or folders <id>_gt of pictures (--gt_path), "
            f"found {_content(folder)}"
        )
    return found


def predicted_clips(folder: str | Path) -> dict[str, Path]:
    """{id: path of `<id>_video.mp4`, or of `<id>_input_video.mp4`, as the original writes, or another kind of clip}."""
    folder = _folder(folder, "--pred_path")
    paths = [path for path in _clips(folder) if _ends(path.with_suffix(""), "_video")]
    if not paths and (folder / "images").is_dir():
        paths = [path for path in _clips(folder / "images") if _ends(path.with_suffix(""), "_video")]
    found, names = {}, {}
    for path in paths:
        item = path.stem[: -len("_video")].removesuffix("_input")
        if names.setdefault(item, path.stem) != path.stem:
            raise ValueError(
                f"two predictions of {item}: {found[item].name} and {path.name} in {path.parent}; remove one"
            )
        found[item] = path  # of one clip in several formats the last one, which _clips sorts to be the mp4
    if not found:
        raise ValueError(
            f"no clips in {folder}; expected <id>_video.mp4, as test_video.py writes them (--pred_path), "
            f"found {_content(folder)}"
        )
    return found


def _clips(folder):
    """The files of a folder that are clips: by name, of one name the mp4 last."""
    kinds = (*ANIMATIONS, *reversed(VIDEOS))
    paths = [p for p in folder.iterdir() if p.suffix.lower() in kinds and p.is_file() and not p.name.startswith(".")]
    return sorted(paths, key=lambda path: (path.stem, kinds.index(path.suffix.lower())))


def _ends(path, end):
    return path.name.lower().endswith(end)


def _content(folder):
    names = sorted(path.name for path in folder.iterdir())
    return (", ".join(names[:3]) + (", ..." if len(names) > 3 else "")) or "nothing"


def read_clip(path: str | Path, frames: range, mode: str) -> np.ndarray:
    """The frames of a clip whose numbers are in `frames` (a range from 0), uint8 [T,224,224,3].

    path: video, animated picture, or folder of frames (data.videos.frame_files).
    mode: one of MODES, how it is brought to 224 px.
    Raises ValueError for a clip that cannot be read or is too short.
    """
    chosen, count = np.empty((len(frames), SIDE, SIDE, 3), np.uint8), 0
    for pixels in _frames(path, frames, (SIDE, SIDE) if mode == "published" else None):
        chosen[count] = pixels if mode == "published" else _antialiased(pixels)
        count += 1
        if count == len(frames):
            return chosen
    raise ValueError(
        f"{path} is too short: {f'at most {count * frames.step}' if count else 'no'} frames, expected {frames[-1] + 1}"
    )


def digest_of(path: str | Path, frames: range) -> str:
    """sha256 of what read_clip would read: the file, or the pictures of a folder one after the other."""
    if Path(path).is_file():
        return sha256(path)
    return "-".join(sha256(picture)[:16] for picture in pictures_of(path)[: frames[-1] + 1 : frames.step])


def pictures_of(folder: str | Path) -> list[Path]:
    """The pictures of a clip's folder in the order of their numbers; ValueError where one between them is missing."""
    numbered = frame_files(folder)
    missing = sorted(set(range(max(numbered) + 1)) - numbered.keys())
    if missing:
        raise ValueError(
            f"{folder} lacks frame {missing[0]} after {numbered[missing[0] - 1].name}; it holds {len(numbered)} frames"
        )
    return list(numbered.values())


def _frames(path, frames, size):
    """Wanted frames one by one; size: (H, W) for swscale, or None for as stored."""
    if Path(path).is_file():
        yield from read_video(path, size, frames.step)
        return
    for picture in pictures_of(path)[:: frames.step]:
        yield read_picture(picture, size)


def read_picture(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A stored frame, uint8 [H,W,3], brought to size (H, W) by the same filter as a video frame; None = as stored."""
    pixels = to_uint8(read_image(path))
    if size is None or pixels.shape[:2] == tuple(size):
        return pixels
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.to_ndarray(format="rgb24", height=size[0], width=size[1], interpolation="BICUBIC")


def _antialiased(pixels):
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _folder(folder, flag):
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder at {folder}; check {flag}")
    return Path(folder)


def _some(names):
    shown = ", ".join(sorted(names)[:3])
    return f"{len(names)} ({shown}{', ...' if len(names) > 3 else ''})"
