"""The other way round: every pixel of the frame asks where it comes from and reads the picture there, bicubically.

A splat spreads each pixel over four and leaves gaps where the flow stretches; reading loses almost nothing and leaves
none. It needs the inverse of the motion, which a tracer that walks against the flow gives (models/trace.py).
Beyond its border the picture is mirrored. Inference only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.softmax_splatting.cpu import compiled, in_slabs

SHARPNESS = np.float32(-0.5)
CROWDED = np.float32(1.6)  # px of the picture per px of the frame: from here on, a mean of more than one point is read
SPREAD = np.float32(1.2)  # of the distance to the next pixel of the frame: the width over which its points are spread
MOST_POINTS = 6  # in a row: six rows of them bridge some 10 px, or the line where two currents jump past each other


@compiled
def _mirrored(i, n):
    """The pixel that is seen at index i of a row of n pixels and their mirror images, the edge itself not doubled."""
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = i % period
    return i if i < n else period - i


@compiled
def _cubic(t, weight):
    """Keys' four weights at the fraction t of a pixel."""
    a = SHARPNESS
    one, two = np.float32(1) + t, np.float32(2) - t
    back = np.float32(1) - t
    weight[0] = a * (one * (one * (one - 5) + 8) - 4)
    weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1
    weight[2] = ((a + 2) * back - (a + 3)) * back * back + 1
    weight[3] = a * (two * (two * (two - 5) + 8) - 4)


@compiled
def _read(picture, x, y, share, four, out):
    """out += share * picture at (x, y), bicubically.  picture: [H,W,C].   four: [2,4], for the weights."""
    height, width, channels = picture.shape
    left, top = np.floor(x), np.floor(y)
    _cubic(x - left, four[0])
    _cubic(y - top, four[1])
    first_x, first_y = int(left) - 1, int(top) - 1
    inside = first_x >= 0 and first_y >= 0 and first_x + 3 < width and first_y + 3 < height
    if channels == 3:  # a picture's own colours: sums in registers, of the same numbers in the same order
        red, green, blue = out[0], out[1], out[2]
        for j in range(4):
            y_at = first_y + j if inside else _mirrored(first_y + j, height)
            for i in range(4):
                weight = share * four[1, j] * four[0, i]
                if weight != 0:
                    x_at = first_x + i if inside else _mirrored(first_x + i, width)
                    red += weight * picture[y_at, x_at, 0]
                    green += weight * picture[y_at, x_at, 1]
                    blue += weight * picture[y_at, x_at, 2]
        out[0], out[1], out[2] = red, green, blue
        return
    for j in range(4):
        row = picture[first_y + j if inside else _mirrored(first_y + j, height)]
        for i in range(4):
            weight = share * four[1, j] * four[0, i]
            if weight != 0:
                pixel = row[first_x + i if inside else _mirrored(first_x + i, width)]
                for c in range(channels):
                    out[c] += weight * pixel[c]


@compiled
def _displacement(field, step, x, y):
    """(dx, dy) of a field [2,h,w] given at every step-th pixel, bilinearly."""
    if step == 1:
        return field[0, y, x], field[1, y, x]
    i, j = x // step, y // step
    u, v = np.float32(x - i * step) / step, np.float32(y - j * step) / step
    i1, j1 = min(i + 1, field.shape[2] - 1), min(j + 1, field.shape[1] - 1)
    dx = (1 - v) * ((1 - u) * field[0, j, i] + u * field[0, j, i1]) + v * (
        (1 - u) * field[0, j1, i] + u * field[0, j1, i1]
    )
    dy = (1 - v) * ((1 - u) * field[1, j, i] + u * field[1, j, i1]) + v * (
        (1 - u) * field[1, j1, i] + u * field[1, j1, i1]
    )
    return dx, dy


@compiled
def _place(i, points):
    """Where the i-th of so many points in a row lies, as a share of the distance to the next pixel of the frame."""
    return SPREAD * ((np.float32(i) + np.float32(0.5)) / np.float32(points) - np.float32(0.5))


@compiled
def _warp(picture, field, step, share, wanted, y0, x0, out, first, last):
    """out += share * picture at where the pixels come from; out is the window of the frame that begins at (y0, x0)."""
    height, width, _ = picture.shape
    four = np.empty((2, 4), np.float32)
    for row in range(first, last):
        for column in range(out.shape[1]):
            part = share[row, column]
            if part == 0 or not wanted[row, column]:
                continue
            y, x = y0 + row, x0 + column
            dx, dy = _displacement(field, step, x, y)
            at_x, at_y = np.float32(x) + dx, np.float32(y) + dy
            right_x, right_y = _displacement(field, step, min(x + 1, width - 1), y)
            low_x, low_y = _displacement(field, step, x, min(y + 1, height - 1))
            # How far apart two neighbours come from, in px of the picture: the two columns of the map's derivative.
            ax, ay = 1 + right_x - dx, right_y - dy
            bx, by = low_x - dx, 1 + low_y - dy
            widest = max(ax * ax + ay * ay, bx * bx + by * by)
            if widest < CROWDED * CROWDED:
                _read(picture, at_x, at_y, part, four, out[row, column])
                continue
            points = min(max(int(np.ceil(np.sqrt(widest) / CROWDED)), 2), MOST_POINTS)
            each = part / np.float32(points * points)
            for k in range(points * points):
                u, v = _place(k % points, points), _place(k // points, points)
                _read(picture, at_x + u * ax + v * bx, at_y + u * ay + v * by, each, four, out[row, column])


def warp_blend(
    picture: torch.Tensor,
    fields: Sequence[torch.Tensor],
    shares: Sequence[float | torch.Tensor],
    window: tuple[int, int, int, int],
    *,
    step: int = 1,
    wanted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of the same picture read along several displacement fields, in one window of the frame.

    picture: [C,H,W] float32.   fields: list of displacements [2,h,w] in px, from a pixel of the frame to where it comes
    from, given at every step-th pixel.   shares: one number or one tensor [wh,ww] per field; they add up to 1.
    window: (y0, y1, x0, x1).   wanted: bool [wh,ww], where to read at all (elsewhere 0); None = everywhere.
    Returns [C,wh,ww], channels-last in memory.
    """
    y0, y1, x0, x1 = window
    if picture.device.type != "cpu":
        return _warp_blend_torch(picture, fields, shares, window, step=step, wanted=wanted)
    rows = picture.permute(1, 2, 0).contiguous().numpy()
    out = np.zeros((y1 - y0, x1 - x0, picture.shape[0]), np.float32)
    where = np.ones(out.shape[:2], np.bool_) if wanted is None else wanted.contiguous().numpy()
    for field, share in zip(fields, shares):
        moves = field.contiguous().numpy()
        part = torch.as_tensor(share, dtype=torch.float32).expand(out.shape[:2]).contiguous().numpy()
        in_slabs(lambda a, b: _warp(rows, moves, step, part, where, y0, x0, out, a, b), len(out))  # noqa: B023
    return torch.from_numpy(out).permute(2, 0, 1)


def _warp_blend_torch(picture, fields, shares, window, *, step, wanted):
    """The same by torch, for other devices."""
    y0, y1, x0, x1 = window
    height, width = picture.shape[1:]
    y, x = torch.meshgrid(
        torch.arange(y0, y1, device=picture.device), torch.arange(x0, x1, device=picture.device), indexing="ij"
    )
    out = 0
    for field, share in zip(fields, shares):
        full = field[None]
        if step > 1:
            size = [(side - 1) * step + 1 for side in field.shape[1:]]
            full = F.interpolate(full, size, mode="bilinear", align_corners=True)
        dx, dy = full[0, :, :height, :width]
        ax, ay = (1 + _forward(dx, 1), _forward(dy, 1))
        bx, by = (_forward(dx, 0), 1 + _forward(dy, 0))
        part = (slice(y0, y1), slice(x0, x1))
        dx, dy, ax, ay, bx, by = (t[part] for t in (dx, dy, ax, ay, bx, by))
        widest = torch.maximum(ax * ax + ay * ay, bx * bx + by * by)
        made = _read_torch(picture, x + dx, y + dy)
        points = (widest.sqrt() / float(CROWDED)).ceil().clamp(2, MOST_POINTS) * (widest >= float(CROWDED) ** 2)
        for count in range(2, MOST_POINTS + 1):
            here = points == count
            if here.any():
                at_x, at_y, across_x, across_y, down_x, down_y = (t[here] for t in (x + dx, y + dy, ax, ay, bx, by))
                places = [float(SPREAD) * ((i + 0.5) / count - 0.5) for i in range(count)]
                made[:, here] = sum(
                    _read_torch(picture, at_x + u * across_x + v * down_x, at_y + u * across_y + v * down_y)
                    for v in places
                    for u in places
                ) / (count * count)
        out = out + share * made
    return out if wanted is None else out * wanted


def _forward(values, dim):
    """The difference to the next pixel, 0 at the last."""
    return torch.diff(values, dim=dim, append=values.narrow(dim, values.shape[dim] - 1, 1))


def _read_torch(picture, x, y):
    """[C,...]: the picture at (x, y) in px, two tensors of one shape, bicubically, mirrored beyond its border."""
    height, width = picture.shape[1:]
    left, top = x.floor(), y.floor()
    across, down = (_cubic_torch(at - edge) for at, edge in ((x, left), (y, top)))
    made = 0
    for j in range(4):
        row = _mirrored_torch(top.long() - 1 + j, height)
        for i in range(4):
            made = made + across[i] * down[j] * picture[:, row, _mirrored_torch(left.long() - 1 + i, width)]
    return made


def _cubic_torch(t):
    """As _cubic, of a tensor."""
    a = float(SHARPNESS)
    far = lambda d: a * (d * (d * (d - 5) + 8) - 4)  # noqa: E731
    near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
    return far(1 + t), near(t), near(1 - t), far(2 - t)


def _mirrored_torch(index, size):
    """As _mirrored, of a tensor."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return torch.where(index < size, index, period - index)
