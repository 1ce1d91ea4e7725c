"""What a learned video network has to beat: the picture's colours splatted along the flow, the holes filled from
coarser scales.

No weights: symmetric softmax splatting of the pixels themselves (Holynski et al., "Animating Pictures with Eulerian
Motion Fields", CVPR 2021, without its networks), then push-pull (Gortler et al., "The Lumigraph", SIGGRAPH 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from text2cinemagraph.models.euler import displacements, displacements_reversed
from text2cinemagraph.softmax_splatting import splat_blend

BORDER = 2  # px: the fluid's outermost pixels are mixed with the shore's colour and stay where they are
COVERED = 0.15  # of a pixel's weight, from which on nothing is added from the coarser scale


@torch.inference_mode()
def push_pull_frames(
    image: torch.Tensor,
    flow: torch.Tensor,
    mask: torch.Tensor,
    n_frames: int,
    *,
    share_of_back: Callable[[float], float],
) -> Iterator[torch.Tensor]:
    """The frames [3,H,W] in [0,1] of a clip that loops.

    image: [3,H,W] in [0,1].   flow: [2,H,W] in px/frame.   mask: bool [1,H,W].   share_of_back: one of
    models.video.BLENDS.
    """
    source = -F.max_pool2d(-F.pad(mask[None].float(), (BORDER,) * 4, mode="replicate"), 2 * BORDER + 1, 1)[0, 0]
    for n, pair in enumerate(zip(displacements(flow, n_frames - 1), displacements_reversed(-flow, n_frames))):
        back = share_of_back(n / n_frames)
        moves = [(displacement, source * share) for displacement, share in zip(pair, (1 - back, back)) if share]
        fields, weights = zip(*moves)
        mean, weight = splat_blend(image, fields, weights)
        yield torch.where(mask, fill_holes(mean, weight), image).clamp(0, 1)


def fill_holes(mean: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Push-pull: what is thinly covered takes its colour from the same place at half the resolution, and so on.

    mean: [C,H,W], 0 where nothing landed.   weight: [1,H,W], how much did.   Returns [C,H,W].
    """
    sums, weights = [(mean * weight)[None]], [weight[None]]
    while min(sums[-1].shape[-2:]) > 2:
        sums.append(F.avg_pool2d(sums[-1], 2))
        weights.append(F.avg_pool2d(weights[-1], 2))
    filled = sums[-1] / (weights[-1] + 1e-5)
    for total, covered in zip(sums[-2::-1], weights[-2::-1]):
        filled = F.interpolate(filled, size=total.shape[-2:], mode="bilinear")
        own = (covered / COVERED).clamp(0, 1)
        filled = own * total / (covered + 1e-5) + (1 - own) * filled
    return filled[0]
