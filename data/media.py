"""Pictures, masks and videos, on and off disk.

Images are float32 [3,H,W] RGB in [0,1]; masks bool [1,H,W], True = may move; video frames leave as uint8 [H,W,3].
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.masks import moving_pixels
from text2cinemagraph.data.pictures import MAX_MEGAPIXELS, check_sides, open_picture, to_rgb

# libx264: one low quantiser for every frame and no B-frames. A rate-controlled stream codes its first frame better than
# its last, and that step shows wherever a loop of slow motion closes (seam ratio 3.2 at crf 16, 1.5 here, 1.2 before
# encoding, on a slow lake).
ENCODING = {"bf": "0", "preset": "fast", "threads": "1"}
QUALITY = 5
# libvpx-vp9 counts its quantisers to 63 where x264 counts to 51; without a bit rate it holds the one it is given.
VP9 = {"b": "0", "deadline": "good", "cpu-used": "5", "threads": "1", "lag-in-frames": "0"}
CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}


def read_image(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS, animated: bool = False) -> torch.Tensor:
    """Any picture file of data.pictures.FORMATS -> float32 [3,H,W] in [0,1], RGB in sRGB; gray is repeated.

    Transparency is laid over white; of several frames the first counts.
    max_megapixels: larger pictures are refused before they are decoded.   animated: the picture shall be animated, so
    one that is too small or too narrow for the networks is refused (data.pictures.check_sides).
    Raises FileNotFoundError and ValueError, in one line that names the file.
    """
    picture = open_picture(path, "image", max_megapixels)
    if animated:
        check_sides(picture.size[::-1], path)
    return torch.from_numpy(np.array(to_rgb(picture, path))).permute(2, 0, 1).float() / 255


def resize_image(image: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    """[C,H,W] to size (h, w), without aliasing when it shrinks; bicubic may leave the range by a little."""
    if image.shape[-2:] == tuple(size):
        return image
    return F.interpolate(image[None], size, mode=mode, align_corners=False, antialias=True)[0]


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """float [3,H,W] in [0,1], or [4,H,W], -> uint8 numpy [H,W,3 or 4], by truncation as the original saves pictures.

    The small offset only undoes float32 rounding, so that a value k/255 read from a file comes back as k.
    """
    image = image.detach().float()
    if not image.isfinite().all():
        raise ValueError(
            "a picture holds NaN or infinite values and is not written; use runtime.dtype=fp32, video.dtype=fp32"
        )
    pixels = (image.clamp(0, 1) * 255 + 1e-3).floor().clamp(max=255).to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


def write_image(path: str | Path, image: torch.Tensor | np.ndarray) -> None:
    """float [3,H,W] in [0,1], or uint8 [H,W,3], to a picture file (format by suffix), atomically."""
    pixels = image if isinstance(image, np.ndarray) else to_uint8(image)
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def read_mask(
    path: str | Path,
    size: Sequence[int] | None = None,
    invert: bool = False,
    *,
    labels: tuple[str, ...] = (),
    max_megapixels: float = MAX_MEGAPIXELS,
) -> torch.Tensor:
    """Any picture file -> bool [1,H,W], True = may move; data.masks has the rules, the plain one is: white moves.

    size: (H, W) of the picture; a mask of the same shape in another size is brought to it (nearest pixel), another
    shape raises ValueError.   invert: what would stand still moves, and the reverse.   labels: numbers or names of the
    labels that move, for a file of labels; () = all but 0.   max_megapixels: as in read_image.
    """
    moving = moving_pixels(open_picture(path, "mask", max_megapixels), path, labels)
    mask = torch.from_numpy(moving)[None]
    mask = ~mask if invert else mask
    height, width = moving.shape
    if size is not None and (height, width) != tuple(size):
        if abs(height * size[1] / (width * size[0]) - 1) > 0.01:
            raise ValueError(
                f"the mask {path} is {width}x{height}, the picture {size[1]}x{size[0]}; resize the mask to the picture"
            )
        mask = F.interpolate(mask[None].float(), tuple(size), mode="nearest")[0] > 0.5
    return mask


def write_mask(path: str | Path, mask: torch.Tensor) -> None:
    """bool [1,H,W] -> 0/255 gray PNG, atomically."""
    with atomic(path) as temporary:
        Image.fromarray(mask[0].cpu().numpy().astype(np.uint8) * 255).save(temporary)


BT601, LIMITED = 6, 1  # numbers of FFmpeg: AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG


class VideoWriter:
    """Writes frames as they come to an H.264 mp4 (yuv420p, plays in browsers); the file appears only when complete.

    with VideoWriter(path, fps=30) as video: video.write(frame)     # [3,H,W] in [0,1], or uint8 [H,W,3]
    A path that ends in .webm becomes VP9, and then a fourth channel of the frames its alpha (not premultiplied).
    quality: the constant quantiser of x264, 0 (lossless) to 51.
    Odd sides gain one repeated row or column, because yuv420p needs even ones.
    Raises ValueError where PyAV lacks the codec, and for a fourth channel in an mp4.
    """

    def __init__(self, path: str | Path, fps: float = 30, quality: int = QUALITY) -> None:
        self.path, self.fps, self.quality = Path(path), fps, quality
        self._webm = self.path.suffix == ".webm"
        self._codec = CODECS[".webm" if self._webm else ".mp4"]

    def __enter__(self):
        check_encoder(self._codec, self.path)
        self._atomic = atomic(self.path)
        kind = {"format": "webm"} if self._webm else {"format": "mp4", "options": {"movflags": "faststart"}}
        self._container = av.open(str(self._atomic.__enter__()), "w", **kind)
        self._stream = None
        return self

    def write(self, frame: torch.Tensor | np.ndarray) -> None:
        pixels = frame if isinstance(frame, np.ndarray) else to_uint8(frame)
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        alpha = pixels.shape[2] == 4
        if alpha and not self._webm:
            raise ValueError(f"{self.path}: an mp4 carries no alpha; write a .webm, .webp or .apng")
        if self._stream is None:
            fixed = str(round(self.quality * 63 / 51))
            settings = {**VP9, "qmin": fixed, "qmax": fixed, "crf": fixed}
            settings = settings if self._webm else {"qp": str(self.quality), **ENCODING}
            # A frame that is not shown, as VP9 likes to have one, cannot be coded in step with the alpha's own stream.
            settings |= {"auto-alt-ref": "0"} if alpha else {}
            self._stream = self._container.add_stream(self._codec, rate=self.fps, options=settings)
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuva420p" if alpha else "yuv420p"
            self._stream.codec_context.colorspace = BT601  # how swscale turns RGB into YUV; untagged, large videos are
            self._stream.codec_context.color_range = LIMITED  # shown by BT.709's rule, and greens and reds shift
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba" if alpha else "rgb24")):
            self._container.mux(packet)

    def __exit__(self, kind, error, trace):
        try:
            try:
                if kind is None and self._stream is not None:
                    for packet in self._stream.encode():
                        self._container.mux(packet)
            finally:
                self._container.close()
        except BaseException:  # the last frames did not reach the disk: the old file stays
            self._atomic.__exit__(*sys.exc_info())
            raise
        self._atomic.__exit__(kind, error, trace)


def check_encoder(codec: str, path: str | Path) -> None:
    """Raise ValueError where the installed PyAV cannot write `path` because it was built without the codec."""
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        raise ValueError(
            f"{path} needs {codec}, which this PyAV lacks; pip install --force-reinstall av, or choose another format"
        ) from None
