"""Strokes drawn over a picture that say what may move (green or blue) and what must not (red)."""

from pathlib import Path

import cv2
import numpy as np
import torch
from text2cinemagraph.data.pictures import MAX_MEGAPIXELS, open_picture

VIVID = 80  # of 255: how far a channel stands above the others in a colour of strokes
MOST = 0.5  # share of the picture; more is a photograph, or a mask
SAME_SHAPE = 0.01  # a file of another size counts if its shape differs by less than this share


def read_strokes(
    path: str | Path, size: tuple[int, int], *, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture file with strokes -> (moves, still), two bool [1,H,W].

    Green or blue strokes lie on what may move, red ones on what must not; everything else (transparent, black, white,
    gray) says nothing.
    size: (H, W) of the picture; strokes of the same shape in another size are brought to it.
    Raises FileNotFoundError, or ValueError for a file of another shape, without one of the two kinds, or full of paint.
    """
    rgba = np.asarray(open_picture(path, "picture of strokes", max_megapixels).convert("RGBA"))
    height, width = rgba.shape[:2]
    if abs(width * size[0] / (height * size[1]) - 1) > SAME_SHAPE:
        raise ValueError(
            f"the strokes {path} are {width}x{height} px, the picture {size[1]}x{size[0]}; draw them at its size"
        )
    red, green, blue = (rgba[..., c].astype(np.int16) for c in range(3))
    opaque = rgba[..., 3] > 127
    still = opaque & (red > np.maximum(green, blue) + VIVID)
    moves = opaque & (np.maximum(green, blue) > red + VIVID)
    if (still | moves).mean() > MOST:
        raise ValueError(
            f"{path} is coloured all over: expected a few strokes, green on what may move and red on what must not, on "
            "an empty layer; a filled mask goes to --mask"
        )
    for kind, found, what in (("green or blue", moves, "what may move"), ("red", still, "what must not")):
        if not found.any():
            raise ValueError(f"{path} has no {kind} stroke: mark {what} too (green or blue may move, red must not)")
    return tuple(_at_size(found, size) for found in (moves, still))


def _at_size(found, size):
    """A bool map [h,w] as bool [1,H,W]; no stroke is lost where it shrinks."""
    if found.shape != tuple(size):
        shrinks = found.shape[0] > size[0]
        values = cv2.resize(
            np.float32(found), size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
        )
        found = values > (0.3 if shrinks and (values > 0.3).any() else 0)
    return torch.from_numpy(np.ascontiguousarray(found))[None]
