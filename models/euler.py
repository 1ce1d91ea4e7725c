"""Euler steps: from a velocity field that does not change in time to displacements."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

LOOKUPS = ("nearest", "bilinear")


class Particles:
    """One particle per pixel, carried by a velocity field [N,2,H,W] (px/frame), lost for good once it leaves the image.

    lookup: "nearest", a particle takes the velocity of the pixel it is nearest to (ties to even), as published;
    "bilinear", the velocity between its four pixels: a path of less than half a pixel per frame is then no staircase.
    Source: Holynski et al., CVPR 2021; the order of the float32 additions is the original's, so the nearest lookup's
    results are equal to the bit.
    """

    def __init__(self, velocity: torch.Tensor, lookup: str = "nearest") -> None:
        self.lookup = lookup
        n, _, height, width = velocity.shape
        self.velocity = velocity.flatten(2)  # [N,2,H*W]
        self.height, self.width = height, width
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.grid = torch.stack([x, y])[None].to(velocity).flatten(2)  # [1,2,H*W]
        self.position = self.grid.repeat(n, 1, 1)
        self.lost = torch.zeros(n, 1, height * width, dtype=torch.bool, device=velocity.device)
        self.limit = velocity.new_tensor([width - 1, height - 1])[:, None]

    def step(self, active: torch.Tensor | None = None) -> None:
        """One frame further. active: [N] bool, which batch elements move (default all)."""
        moved = self.position + self._velocity_here()
        outside = ((moved > self.limit) | (moved < 0)).any(1, keepdim=True)
        # Lost particles wait at their own pixel, where the lookup above stays inside the image.
        moved = torch.where(outside | self.lost, self.grid, moved)
        if active is None:
            self.position, self.lost = moved, self.lost | outside
        else:
            active = active[:, None, None]
            self.position = torch.where(active, moved, self.position)
            self.lost = self.lost | (outside & active)

    def _velocity_here(self):
        """[N,2,H*W] in px/frame, at every particle."""
        if self.lookup == "bilinear":
            between = velocity_between(self.velocity.unflatten(2, (self.height, self.width)), self.position[:, :, None])
            return between[:, :, 0]
        pixel = self.position.round()
        index = (pixel[:, 1] * self.width + pixel[:, 0]).long()[:, None].expand(-1, 2, -1)
        return self.velocity.gather(2, index)

    def displacement(self) -> torch.Tensor:
        """[N,2,H,W] in px; max(H,W)+1 in both channels where the particle is lost: outside any image, so a splat drops
        it.
        """
        gone = max(self.height, self.width) + 1
        return torch.where(self.lost, gone, self.position - self.grid).unflatten(2, (self.height, self.width))

    def visible(self) -> torch.Tensor:
        """[N,1,H,W] bool."""
        return ~self.lost.unflatten(2, (self.height, self.width))

    def state(self) -> tuple[torch.Tensor, ...]:
        return self.position, self.lost

    def restore(self, state: tuple[torch.Tensor, ...]) -> None:
        self.position, self.lost = state


def velocity_between(velocity: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """[N,2,h,w]: velocity [N,2,H,W], read bilinearly at position [N,2,h,w] in px (x, y); beyond the border, its own."""
    height, width = velocity.shape[-2:]
    scale = 2 / torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=position.device)
    grid = position.permute(0, 2, 3, 1) * scale - 1
    return F.grid_sample(velocity, grid, "bilinear", "border", align_corners=True)


def integrate(velocity: torch.Tensor, steps: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow every pixel through a velocity field that does not change in time.

    velocity: [N,2,H,W], px/frame, (dx right, dy down).   steps: [N] integers >= 0, frames.
    Returns displacement [N,2,H,W] in px (max(H,W)+1 in both channels once a pixel has left the image) and visible
    [N,1,H,W] bool.
    """
    steps = torch.as_tensor(steps, device=velocity.device)
    assert velocity.ndim == 4 and velocity.shape[1] == 2 and steps.shape == (len(velocity),), (
        velocity.shape,
        steps.shape,
    )
    particles = Particles(velocity)
    shortest, longest = int(steps.min()), int(steps.max())
    for k in range(longest):
        particles.step(None if k < shortest else steps > k)
    return particles.displacement(), particles.visible()


def displacements(velocity: torch.Tensor, n: int, lookup: str = "nearest") -> Iterator[torch.Tensor]:
    """Displacements [2,H,W] after 0, 1, ..., n frames of velocity [2,H,W], one after the other (n steps in all).

    lookup: see Particles.
    """
    particles = Particles(velocity[None], lookup)
    yield particles.displacement()[0]
    for _ in range(n):
        particles.step()
        yield particles.displacement()[0]


def displacements_reversed(velocity: torch.Tensor, n: int, lookup: str = "nearest") -> Iterator[torch.Tensor]:
    """The maps of `displacements` in the order n, n-1, ..., 0, holding only about 2*sqrt(n) of them at a time."""
    stride = max(1, math.isqrt(n))
    particles, anchors = Particles(velocity[None], lookup), []
    for k in range(n + 1):
        if k % stride == 0:
            anchors.append((k, particles.state()))
        if k < n:
            particles.step()
    end = n + 1
    for first, state in reversed(anchors):
        particles.restore(state)
        maps = [particles.displacement()[0]]
        for _ in range(first + 1, end):
            particles.step()
            maps.append(particles.displacement()[0])
        yield from reversed(maps)
        end = first


def displacement_maps(velocity: torch.Tensor, n: int) -> torch.Tensor:
    """All displacements of a clip in one pass over time: [n+1,2,H,W]; map k equals integrate(velocity, k) to the
    bit.
    """
    return torch.stack(list(displacements(velocity, n)))
