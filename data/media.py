"""Pictures, masks and videos, on and off disk.

Images are float32 [3,H,W] RGB in [0,1]; masks bool [1,H,W], True = may move; video frames leave as uint8 [H,W,3].
"""

import sys
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from text2cinemagraph.data.files import atomic

# libx264: one low quantiser for every frame and no B-frames. A rate-controlled stream codes its first frame better than
# its last, and that step shows wherever a loop of slow motion closes (seam ratio 3.2 at crf 16, 1.5 here, 1.2 before
# encoding, on a slow lake).
ENCODING = {"qp": "5", "bf": "0", "preset": "fast", "threads": "1"}


def _open(path, what):
    """Decode the whole picture now, so that a truncated file fails here and in words."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}; check the path")
    try:
        picture = Image.open(path)
        picture.load()
        return ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a readable {what} ({error}); expected a PNG, JPEG or another picture file"
        ) from error


def read_image(path):
    """Any picture file -> float32 [3,H,W] in [0,1], RGB; gray is repeated, transparency is laid over white."""
    picture = _open(path, "image")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    elif picture.mode.startswith("I") or picture.mode == "F":  # 16-bit gray: scale by its own depth, not clip
        values = np.asarray(picture, dtype=np.float32)
        depth = (
            (1 if values.max() <= 1 else 255)
            if picture.mode == "F"
            else 65535
            if values.max() > 255 or "16" in picture.mode
            else 255
        )
        picture = Image.fromarray(np.uint8((values / depth).clip(0, 1) * 255))
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def resize_image(image: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    """[C,H,W] to size (h, w), without aliasing when it shrinks; bicubic may leave the range by a little."""
    if image.shape[-2:] == tuple(size):
        return image
    return F.interpolate(image[None], size, mode=mode, align_corners=False, antialias=True)[0]


def to_uint8(image):
    """float [3,H,W] in [0,1] -> uint8 numpy [H,W,3], by truncation as the original saves its pictures.

    The small offset only undoes float32 rounding, so that a value k/255 read from a file comes back as k.
    """
    pixels = (image.detach().float().clamp(0, 1) * 255 + 1e-3).floor().clamp(max=255).to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


def write_image(path, image):
    """float [3,H,W] in [0,1], or uint8 [H,W,3], to a picture file (format by suffix), atomically."""
    pixels = image if isinstance(image, np.ndarray) else to_uint8(image)
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def read_mask(path, size=None, invert=False):
    """Any picture file -> bool [1,H,W]: True where it is brighter than half (of its own range, if that is 0/1 or 16
    bits).

    size: (H, W) of the picture; a mask of the same shape in another size is brought to it (nearest pixel), another
    shape raises
    ValueError.   invert: black means True.
    """
    picture = _open(path, "mask")
    if picture.mode in ("RGBA", "LA") and len(np.unique(np.asarray(picture.convert("L")))) == 1:
        picture = picture.getchannel("A")  # a shape drawn in the alpha channel alone
    if not picture.mode.startswith(("I", "F")):
        picture = picture.convert("L")
    gray = np.asarray(picture, dtype=np.float32)
    half = 127 if 1 < gray.max() <= 255 else gray.max() / 2
    mask = torch.from_numpy(gray > half)[None]
    mask = ~mask if invert else mask
    if size is not None and gray.shape != tuple(size):
        if abs(gray.shape[0] * size[1] / (gray.shape[1] * size[0]) - 1) > 0.01:
            raise ValueError(
                f"the mask {path} is {gray.shape[1]}x{gray.shape[0]}, the picture {size[1]}x{size[0]}; "
                "resize the mask to the picture"
            )
        mask = F.interpolate(mask[None].float(), tuple(size), mode="nearest")[0] > 0.5
    return mask


def write_mask(path, mask):
    """bool [1,H,W] -> 0/255 gray PNG, atomically."""
    with atomic(path) as temporary:
        Image.fromarray(mask[0].cpu().numpy().astype(np.uint8) * 255).save(temporary)


BT601, LIMITED = 6, 1  # numbers of FFmpeg: AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG


class VideoWriter:
    """Writes frames as they come to an H.264 mp4 (yuv420p, plays in browsers); the file appears only when complete.

    with VideoWriter(path, fps=30) as video: video.write(frame)     # [3,H,W] in [0,1], or uint8 [H,W,3]
    Odd sides gain one repeated row or column, because yuv420p needs even ones.
    """

    def __init__(self, path, fps=30):
        self.path, self.fps = Path(path), fps

    def __enter__(self):
        self._atomic = atomic(self.path)
        self._container = av.open(str(self._atomic.__enter__()), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = None
        return self

    def write(self, frame):
        pixels = frame if isinstance(frame, np.ndarray) else to_uint8(frame)
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self.fps, options=dict(ENCODING))
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.colorspace = BT601  # how swscale turns RGB into YUV; untagged, large videos are
            self._stream.codec_context.color_range = LIMITED  # shown by BT.709's rule, and greens and reds shift
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
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


def read_video(path, size=None, step=1):
    """Frames of a video file one by one, uint8 [H,W,3] RGB: the first and then every `step`-th.

    size: (H, W) to bring them to while they are still in the file's own colours (swscale, bicubic: what ffmpeg's scale
    filter and decord do); None = as stored.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video at {path}; check the path")
    scaled = {} if size is None else {"height": size[0], "width": size[1], "interpolation": "BICUBIC"}
    try:
        with av.open(str(path)) as container:
            for n, frame in enumerate(container.decode(video=0)):
                if n % step == 0:
                    yield frame.to_ndarray(format="rgb24", **scaled)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a readable video ({error})") from error
