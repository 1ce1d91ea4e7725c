"""Items cut exactly as the authors cut them: for --as_published and for comparing with the original's numbers.

Ours (data/datasets.py) keeps the aspect, zooms and keeps masks binary; trained weights and published scores came from
what is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from text2cinemagraph.data.flow import flip_flow, motion_mask, resize_flow

if TYPE_CHECKING:
    import random

SOFT_SIDE = 64  # px: masks of training pass through this size, by PIL's bicubic filter on 8 bits


def resize_image(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """[3,H,W] in [0,1] -> [3,h,w], size = (h, w): PIL's bicubic filter (it widens when shrinking) on 8 bits, rounded to
    8 bits.
    """
    pixels = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    resized = np.array(pixels.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1).float() / 255


def soft_mask(flow: torch.Tensor) -> torch.Tensor:
    """The training mask of a flow [2,H,W]: motion_mask, shrunk to 64 x 64 and repeated; float [1,H,W] with values
    between 0 and 1.
    """
    pixels = Image.fromarray(motion_mask(flow)[0].byte().mul(255).numpy())
    small = torch.from_numpy(np.array(pixels.resize((SOFT_SIDE, SOFT_SIDE), Image.Resampling.BICUBIC))).float() / 255
    return F.interpolate(small[None, None], flow.shape[-2:], mode="nearest")[0]


class PublishedWindow:
    """What of a picture is used, applied alike to everything of an item; the counterpart of data.datasets.Window."""

    def __init__(self, size: int, corner: tuple[int, int] | None = None, flipped: bool = False) -> None:
        """size: px, side of the result.   corner: (y, x) of a window in the full picture, or None = all of it, squashed
        to a square.
        """
        self.size, self.corner, self.flipped = size, corner, flipped

    def image(self, image: torch.Tensor) -> torch.Tensor:
        if self.corner is None and image.shape[-1] != self.size:  # the original looks at the width alone
            image = resize_image(image, (self.size, self.size))
        return self._crop(image, lambda x: x.flip(-1))

    def mask(self, mask: torch.Tensor) -> torch.Tensor:
        if self.corner is None:
            mask = F.interpolate(mask[None].float(), (self.size, self.size), mode="nearest")[0]
        return self._crop(mask.float(), lambda x: x.flip(-1))

    def flow(self, flow: torch.Tensor) -> torch.Tensor:
        return self._crop(resize_flow(flow, (self.size, self.size)) if self.corner is None else flow, flip_flow)

    def _crop(self, x, flip):
        if self.corner is not None:  # what lies outside is 0, as torchvision crops
            y, x0 = self.corner
            x = x[..., y : y + self.size, x0 : x0 + self.size]
            x = F.pad(x, (0, self.size - x.shape[-1], 0, self.size - x.shape[-2]))
        return (flip(x) if self.flipped else x).contiguous()


def published_window(full: Sequence[int], size: int, draw: random.Random | None = None) -> PublishedWindow:
    """A random window and flip of a picture of `full` = (H, W) px, or (draw None) all of it squashed.  draw:
    random.Random.
    """
    if draw is None:
        return PublishedWindow(size)
    if min(full) < size:
        raise ValueError(
            f"the picture is {full[1]}x{full[0]}, smaller than the published crop of {size} px; "
            "lower fineSize or leave out as_published"
        )
    corner = draw.randint(0, full[0] - size), draw.randint(0, full[1] - size)
    return PublishedWindow(size, corner, draw.random() < 0.5)
