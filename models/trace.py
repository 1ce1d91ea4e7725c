"""Where does a pixel of the frame come from? Walk against the flow, with velocities read between the pixels.

The flow does not change in time, so the way back is the flow's own path walked backwards: the inverse of the motion
exists wherever the path stays in the fluid. Midpoint steps (second order), two velocity lookups each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from text2cinemagraph.models.euler import velocity_between
from text2cinemagraph.softmax_splatting.cpu import compiled, in_slabs

FINE = 768  # px of the short side up to which paths start at every pixel; twice that: at every second one


def grid_step(height: int, width: int) -> int:
    """At every which pixel of a picture of that size a path starts; displacements are smooth in between."""
    return max(1, 2 ** max(0, math.ceil(math.log2(min(height, width) / FINE))))


@compiled
def _walk(velocity, position, sign, first, last):
    """One midpoint step of every path; beyond the border the velocity is the border's."""
    _, height, width = velocity.shape
    half = np.float32(0.5)
    for row in range(first, last):
        for column in range(position.shape[2]):
            x, y = position[0, row, column], position[1, row, column]
            to_x, to_y = x, y
            for stage in range(2):
                at_x, at_y = (
                    min(max(to_x, np.float32(0)), np.float32(width - 1)),
                    min(max(to_y, np.float32(0)), np.float32(height - 1)),
                )
                i, j = min(int(at_x), width - 2) if width > 1 else 0, min(int(at_y), height - 2) if height > 1 else 0
                u, v = at_x - i, at_y - j
                i1, j1 = min(i + 1, width - 1), min(j + 1, height - 1)
                a, b, c, d = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
                dx = a * velocity[0, j, i] + b * velocity[0, j, i1] + c * velocity[0, j1, i] + d * velocity[0, j1, i1]
                dy = a * velocity[1, j, i] + b * velocity[1, j, i1] + c * velocity[1, j1, i] + d * velocity[1, j1, i1]
                share = sign * (half if stage == 0 else np.float32(1))
                to_x, to_y = x + share * dx, y + share * dy
            position[0, row, column], position[1, row, column] = to_x, to_y


class Paths:
    """One path per grid point of the frame, walked step by step along (or against) a velocity field."""

    def __init__(self, velocity: torch.Tensor, against: bool, step: int = 1) -> None:
        """velocity: [2,H,W] in px/frame.   against: walk against it.   step: a path starts at every step-th pixel."""
        _, height, width = velocity.shape
        self.velocity, self.sign = velocity.contiguous(), -1.0 if against else 1.0
        rows, columns = (-(-(side - 1) // step) + 1 for side in (height, width))
        y, x = torch.meshgrid(torch.arange(rows) * step, torch.arange(columns) * step, indexing="ij")
        self.grid = torch.stack([x, y]).to(velocity)
        self.position = self.grid.clone()

    def walk(self) -> None:
        """One frame further."""
        if self.velocity.device.type == "cpu":
            velocity, position, sign = self.velocity.numpy(), self.position.numpy(), np.float32(self.sign)
            in_slabs(lambda a, b: _walk(velocity, position, sign, a, b), position.shape[1])
        else:
            middle = self.position + 0.5 * self.sign * self._velocity_at(self.position)
            self.position = self.position + self.sign * self._velocity_at(middle)

    def _velocity_at(self, position: torch.Tensor) -> torch.Tensor:
        return velocity_between(self.velocity[None], position[None])[0]

    def displacement(self) -> torch.Tensor:
        """[2,h,w] in px, from each grid point to where its path has come."""
        return self.position - self.grid


def traced(velocity: torch.Tensor, n: int, against: bool, step: int = 1) -> Iterator[torch.Tensor]:
    """Displacements after 0, 1, ..., n frames, one after the other; [2,h,w] in px at every step-th pixel."""
    paths = Paths(velocity, against, step)
    yield paths.displacement()
    for _ in range(n):
        paths.walk()
        yield paths.displacement()


def traced_reversed(velocity: torch.Tensor, n: int, against: bool, step: int = 1) -> Iterator[torch.Tensor]:
    """The same in the order n, n-1, ..., 0, holding only about 2*sqrt(n) of them at a time."""
    stride, paths, anchors = max(1, math.isqrt(n)), Paths(velocity, against, step), []
    for k in range(n + 1):
        if k % stride == 0:
            anchors.append((k, paths.position.clone()))
        if k < n:
            paths.walk()
    end = n + 1
    for first, position in reversed(anchors):
        paths.position = position
        maps = [paths.displacement()]
        for _ in range(first + 1, end):
            paths.walk()
            maps.append(paths.displacement())
        yield from reversed(maps)
        end = first
