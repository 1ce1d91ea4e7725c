"""Arrows over a mask: where they hold which velocity, and where they cross the shore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.motion_file import DrawnMotion

SPACING = 1 / 320  # of the short side: the distance of two samples along an arrow (1.6 px at 512 px)
CHORD = 1 / 25  # of the short side: an arrow's direction is taken over this length, so that a hand's tremor is none


@dataclass(frozen=True)
class ArrowSamples:
    """Velocities along arrows, where these lie inside a mask.

    places: float64 [n,2], (x, y) in px.  velocities: float64 [n,2], (dx, dy) in px/frame.  owners: int64 [n], the
    number of each sample's arrow.  crossings: float64 [m,4], (x, y, ux, uy): where an arrow crosses the shore, and its
    direction there (length 1).  anchors: float64 [k,2], (x, y) in px: these points stand still.
    """

    places: np.ndarray
    velocities: np.ndarray
    owners: np.ndarray
    crossings: np.ndarray
    anchors: np.ndarray

    @property
    def arrow_count(self) -> int:
        return len(np.unique(self.owners))


def sample_arrows(motion: DrawnMotion, mask: torch.Tensor) -> ArrowSamples:
    """Sample the arrows of a DrawnMotion along their paths, where they lie inside the mask.

    motion: DrawnMotion of the mask's size (DrawnMotion.at_size).  mask: bool [1,H,W].  Returns ArrowSamples.
    Raises ValueError that names the first arrow which lies wholly outside the mask.
    """
    inside, size = mask[0].cpu().numpy(), tuple(mask.shape[-2:])
    places, velocities, owners, crossings = [], [], [], []
    for number, arrow in enumerate(motion.arrows):
        points, directions = _along(np.array(arrow.path), SPACING * min(size), CHORD * min(size) / 2)
        within = inside[pixel(points, size)]
        if not within.any():
            raise ValueError(f"arrows[{number}] lies outside the mask; draw it over what may move, or widen the mask")
        changes = np.nonzero(within[1:] != within[:-1])[0]
        crossings += [np.concatenate([points[i], directions[i]]) for i in changes]
        places.append(points[within])
        velocities.append(directions[within] * arrow.speed_at(size))
        owners.append(np.full(int(within.sum()), number))
    return ArrowSamples(
        np.concatenate(places) if places else np.empty((0, 2)),
        np.concatenate(velocities) if places else np.empty((0, 2)),
        np.concatenate(owners) if places else np.empty(0, np.int64),
        np.array(crossings).reshape(-1, 4),
        np.array(motion.anchors, np.float64).reshape(-1, 2),
    )


def pixel(points: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (y, x) in which points [n,2] (x, y) lie, as indices of a [H,W] array; a point on the rim belongs to
    the last pixel.
    """
    x, y = np.floor(points).astype(np.int64).T
    return y.clip(0, size[0] - 1), x.clip(0, size[1] - 1)


def _along(path, spacing, reach):
    """Points [n,2] of a polyline at equal distances (ends included) and its directions there (length 1): the chord of
    2 * reach px around a point, moved inwards at the ends.
    """
    ways = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])

    def at(way: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(way, ways, path[:, 0]), np.interp(way, ways, path[:, 1])], axis=1)

    def chord(reach: float) -> np.ndarray:
        middle = np.clip(way, min(reach, ways[-1] / 2), max(ways[-1] - reach, ways[-1] / 2))
        return at(middle + reach) - at(middle - reach)

    way = np.linspace(0, ways[-1], max(int(np.ceil(ways[-1] / spacing)) + 1, 2))
    chords = chord(reach)
    turning = (
        np.linalg.norm(chords, axis=1) < 1e-9
    )  # a path that comes back on itself: the step alone says where it goes
    chords[turning] = chord(spacing / 4)[turning]
    turning = np.linalg.norm(chords, axis=1) < 1e-9  # the very point of return: where it came from
    chords[turning] = (at(way) - at(np.maximum(way - spacing, 0)))[turning]
    return at(way), chords / np.maximum(np.linalg.norm(chords, axis=1, keepdims=True), 1e-12)
