"""A flow as a few arrows that a hand can correct: harmonic_flow of them gives the flow again over most of the mask."""

from __future__ import annotations

import numpy as np
import torch
from text2cinemagraph.data.arrow_hint import ANGLE, SPEED, leaves_arrows
from text2cinemagraph.data.arrows import sample_arrows
from text2cinemagraph.data.flow import resize_flow
from text2cinemagraph.data.harmonic import harmonic_flow
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion

SIDE = 160  # px of the short side on which arrows are looked for
ENOUGH = (
    0.82  # share of the small mask that shall come back within 20 degrees and 30 %: 0.8 of the full one, and a little
)
AT_MOST = 3  # times the arrows asked for, where so few do not reach that share
LONGEST = 0.5  # of the short side: an arrow follows the flow so far ...
STEADY = 0.2  # ... while its speed changes by less than this share
CELLS = 6400  # of a region while arrows are looked for
AROUND = 0.05  # of the short side: the size of the places whose badness is compared
NARROWER = 0.7  # arrows are placed against narrower bounds than ENOUGH is counted by


def suggest_arrows(flow: torch.Tensor, mask: torch.Tensor, count: int) -> tuple[DrawnMotion, float]:
    """Write a flow as arrows: the next arrow follows the flow through the largest place that the arrows so far do not
    give again.

    flow: [2,H,W] px/frame.  mask: bool [1,H,W].  count: arrows wanted; up to three times as many where 80 % of the mask
    would not come back within 20 degrees and 30 % of the speed.  Returns (DrawnMotion of the mask's size, the share of
    the mask's moving pixels that comes back).  Raises ValueError where nothing moves.
    """
    from scipy import ndimage

    size = tuple(mask.shape[-2:])
    scale = min(1.0, SIDE / min(size))
    small = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
    inside = torch.nn.functional.interpolate(mask[None].float().cpu(), small, mode="nearest")[0] > 0
    wanted = (resize_flow(flow.cpu().float(), small) * inside).numpy().astype(np.float64)
    smooth = _smoothed(wanted, inside[0].numpy())
    speed = np.linalg.norm(smooth, axis=0)
    moving = inside[0].numpy() & (speed > 0.02 * speed.max())
    if not moving.any():
        raise ValueError("the flow is zero inside the mask: there is nothing to suggest arrows for; run s5 again")
    arrows: list[Arrow] = []
    found, share = np.zeros_like(smooth), 0.0
    while len(arrows) < count or (share < ENOUGH and len(arrows) < AT_MOST * count):
        bad = moving & _differs(found, smooth, NARROWER)
        if not bad.any():
            break
        around = ndimage.gaussian_filter(bad.astype(float), AROUND * min(small), mode="constant") * bad
        y, x = np.unravel_index(np.argmax(around), small)
        arrows.append(_follow(smooth, moving, (x + 0.5, y + 0.5)))
        found = harmonic_flow(inside, sample_arrows(DrawnMotion(tuple(arrows)), inside), CELLS).numpy()
        share = 1 - float(_differs(found, wanted)[moving].mean())
    return DrawnMotion(tuple(arrows), size=small).at_size(size), share


def given_again(flow: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> float:
    """The share of the mask's moving pixels in which a flow [2,H,W] is within 20 degrees and 30 % of `target`."""
    speed = target.norm(dim=0)
    moving = (mask[0] & (speed > 0.02 * speed.max())).cpu().numpy()
    return 1 - float(_differs(flow.cpu().numpy(), target.cpu().numpy())[moving].mean())


def _differs(found, wanted, part=1.0):
    """bool [h,w]: where two flows [2,h,w] differ by more than `part` of 20 degrees or of 30 % of the speed."""
    differs = leaves_arrows(found.reshape(2, -1).T, wanted.reshape(2, -1).T, part * ANGLE, part * SPEED)
    return differs.reshape(found.shape[1:])


def _smoothed(flow, inside):
    """The mean of a flow [2,h,w] over its neighbourhood inside the mask: arrows follow its course, not its noise."""
    from scipy import ndimage

    weight = np.maximum(ndimage.gaussian_filter(inside.astype(float), 1.0), 1e-6)
    return np.stack([ndimage.gaussian_filter(part * inside, 1.0) / weight for part in flow]) * inside


def _follow(flow, inside, start):
    """The arrow along the flow [2,h,w] through a place (x, y), both ways, as long as it stays inside and steady."""
    there = flow[:, int(start[1]), int(start[0])]
    speed = float(np.linalg.norm(there))
    ahead, behind = (_steps(flow, inside, start, speed, way) for way in (1.0, -1.0))
    path = [*behind[::-1], start, *ahead]
    if len(path) == 1:
        path.append(tuple(np.array(start) + 0.5 * there / speed))
    passed = [np.linalg.norm(flow[:, min(int(y), flow.shape[1] - 1), min(int(x), flow.shape[2] - 1)]) for x, y in path]
    kept = [*path[:-1:3], path[-1]]  # a point every three px is enough for a curve
    return Arrow(tuple((float(x), float(y)) for x, y in kept), float(np.mean(passed)))


def _steps(flow, inside, place, speed, way):
    """Points one px apart from `place` along the flow (way 1) or against it (-1)."""
    points, place = [], np.array(place)
    for _ in range(int(LONGEST / 2 * min(inside.shape))):
        velocity = flow[:, int(place[1]), int(place[0])]
        here = np.linalg.norm(velocity)
        if abs(here - speed) > STEADY * speed:
            break
        place = place + way * velocity / here
        if (place < 0).any() or (place >= inside.shape[::-1]).any() or not inside[int(place[1]), int(place[0])]:
            break
        points.append(tuple(place))
    return points
