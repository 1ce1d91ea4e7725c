"""How two copies of the picture, one moved forward and one moved back, become one frame.

The mean of two unrelated textures has half their variance: a loop of plain means is crisp where it closes and blurred
in its middle. Bands brings every frame's local contrast back to that of the copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.softmax_splatting import splat_blend


def smooth(u: float) -> float:
    """The 5th-order smoothstep: flat at both ends."""
    return u**3 * (10 + u * (6 * u - 15))


# The second copy's share at time u in [0,1) of the loop; "variance" is smooth and keeps the contrast of the copies.
BLENDS = {"linear": lambda u: u, "smooth": smooth, "variance": smooth}
LEVELS = 4  # bands of detail whose contrast is kept: waves of up to about 2, 4, 8 and 16 px
CELL = 4  # px: contrast is known for every cell of so many pixels
WINDOWS = (5, 5, 9, 17)  # cells: contrast is a mean over two such boxes, one after the other, for each band
LEAST_GAIN, MOST_GAIN = 0.8, 2.0  # two unrelated textures need sqrt(2); the network and the sampling lose some more
# Of the copies' variance, what a frame keeps: the last of it costs 0.1 dB against true clips, which have one copy.
ALONE, TOGETHER = 0.97, 0.94  # with one copy alone; with both alike
FLOOR = 1e-6  # a quarter of a level, squared: below it there is nothing to amplify
THIN = 0.15  # of a pixel's own weight: where less landed it is partly a hole; a straggler alone would make a speck
# Two pixels and three, convolved: even over rows that lie two or three apart.
BELL, REACH = (1.0, 3.0, 4.0, 3.0, 1.0), 2
GAP = 0.5  # of a pixel's own weight: where less landed, its neighbours have a say


def blend_filled(
    rest: torch.Tensor, moves: Sequence[tuple[torch.Tensor, float]], importance: torch.Tensor
) -> torch.Tensor:
    """The features moved both ways, [C,H,W], without gaps or holes; where nothing lands, the picture at rest.

    Each way is splatted and closed on its own: the rows that one way leaves thin would otherwise be the other way's, a
    comb of both.
    rest: [C,H,W], the features before they move.   moves: list of (displacement [2,H,W] in px, share).   importance:
    [H,W].
    """
    blended: Any = None
    cover = torch.zeros_like(importance)
    for displacement, share in moves:
        moved, total = splat_blend(rest, [displacement], [importance])
        moved, covered = close_gaps(moved, total[0] / importance)
        cover += share * covered
        blended = torch.addcmul(blended, moved, share * covered) if blended is not None else moved * (share * covered)
    part = (cover / THIN).clamp(max=1)  # the rest of it is the picture at rest
    return (blended * (part / cover.clamp(min=1e-8))).addcmul_(rest, 1 - part)


def close_gaps(moved: torch.Tensor, landed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What landed, [C,H,W], and where little did the mean of the 5x5 around it: a flow that pulls pixels apart leaves
    rows between them.

    landed: [H,W], the weight that landed, 1 = as much as the pixel had itself.
    Returns it and how well the place is covered, [H,W] in [0,1].
    """
    bell = torch.tensor(BELL, device=landed.device) / sum(BELL)
    bell = torch.outer(bell, bell)
    around = F.conv2d(landed[None, None], bell[None, None], padding=REACH)[0, 0]
    thin = ((landed < GAP) & (around > 0)).nonzero(as_tuple=True)
    if len(thin[0]):
        shifts = torch.cartesian_prod(*(torch.arange(-REACH, REACH + 1, device=landed.device),) * 2)
        y, x = (
            (index[:, None] + shifts[:, i]).clamp(0, size - 1)
            for i, (index, size) in enumerate(zip(thin, landed.shape))
        )
        weights = landed[y, x] * bell.flatten()  # [n,25]
        pixels = moved.permute(1, 2, 0)
        mean = torch.einsum("nkc,nk->nc", pixels[y, x], weights / weights.sum(1, keepdim=True).clamp(min=1e-8))
        pixels[thin] = torch.lerp(mean, pixels[thin], (landed[thin] / GAP)[:, None])
    return moved, around.clamp(max=1)


def bands(image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A picture as a sum: LEVELS bands of detail, each at half the resolution of the last, and what is coarser.

    image: [C,H,W].   Returns the bands [C,H/2^k,W/2^k] (rounded up) and the rest.   Source: Burt and Adelson, "The
    Laplacian Pyramid as a Compact Image Code", 1983; with boxes of 4 px and bilinear doubling.
    """
    found: list[torch.Tensor] = []
    for _ in range(LEVELS):
        coarse = _halved(image)
        found.append(image - _resized(coarse, image.shape[1:]))
        image = coarse
    return found, image


def summed(found: list[torch.Tensor], rest: torch.Tensor) -> torch.Tensor:
    """The picture that `bands` took apart."""
    for band in reversed(found):
        rest = band + _resized(rest, band.shape[1:])
    return rest


def contrasts(found: list[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Local variance of every band, mean over the colours: [LEVELS,*size] on a grid of cells of CELL px."""
    maps = []
    for band, window in zip(found, WINDOWS):
        energy = F.adaptive_avg_pool2d(band.square().mean(0)[None, None], (size[0], size[1]))
        window = min(window, 2 * ((min(size) - 1) // 2) + 1)
        for _ in range(2):
            energy = F.avg_pool2d(energy, window, 1, window // 2, count_include_pad=False)
        maps.append(energy[0, 0])
    return torch.stack(maps)


def cells(size: Sequence[int]) -> tuple[int, int]:
    """(H, W) of a picture -> of its grid of cells."""
    height, width = (max(1, round(side / CELL)) for side in size)
    return height, width


def kept(share: float) -> float:
    """Of the copies' variance, what a frame keeps in which the second copy has that share."""
    return ALONE - 4 * (ALONE - TOGETHER) * share * (1 - share)


def joined(
    mean: torch.Tensor,
    wanted: torch.Tensor | None,
    light: torch.Tensor | None = None,
    resting: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    """A mean of two copies with the local contrast of its bands brought to `wanted`, by gains of 0.8 to 2.

    mean: [C,H,W].   wanted: [LEVELS,h,w], as `contrasts` gives them; None = no gain.   light: what is coarser than the
    bands, as `bands` gives it, in the place of the mean's own; None = its own.
    resting: the share of `light` in that place, [1,h,w] in [0,1] of its size, or one number.
    """
    found, rest = bands(mean)
    if wanted is not None:
        have = contrasts(found, wanted.shape[1:])
        gains = ((wanted.clamp(min=0) + FLOOR) / (have + FLOOR)).sqrt().clamp(LEAST_GAIN, MOST_GAIN)
        found = [band * _resized(gain[None], band.shape[1:]) for band, gain in zip(found, gains)]
    return summed(found, rest if light is None else torch.lerp(rest, light, resting))


def _halved(image: torch.Tensor) -> torch.Tensor:
    """Mean over 4x4 px around every second pixel's corner, the border repeated: odd sides round up."""
    height, width = image.shape[1:]
    padded = F.pad(image[None], (1, 1 + width % 2, 1, 1 + height % 2), mode="replicate")
    return F.avg_pool2d(padded, 4, 2)[0]


def _resized(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinearly to (h, w)."""
    return F.interpolate(image[None], tuple(size), mode="bilinear", align_corners=False)[0]
