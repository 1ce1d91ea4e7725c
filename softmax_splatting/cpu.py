"""Compiled splat for the CPU: gather by destination, so no two threads ever add to the same pixel.

For every destination pixel the list of what lands on it is built first (CSR: sorted by destination, then by source).
Sums run in that order, so the result does not depend on the number of threads. Forward only; gradients are the
reference's work.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from text2cinemagraph.softmax_splatting.compiled import compiled


@compiled
def _corners(flow, corner_x, corner_y, weight, inside):
    """Left, top corner and the two far shares of every source pixel; inside: does any corner land in the image?"""
    _, height, width = flow.shape
    for y in range(height):
        for x in range(width):
            i = y * width + x
            at_x, at_y = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
            # Written so that NaN is outside.
            inside[i] = at_x > -1 and at_x < width and at_y > -1 and at_y < height
            if inside[i]:
                left, top = np.floor(at_x), np.floor(at_y)
                corner_x[i], corner_y[i] = int(left), int(top)
                weight[0, i], weight[1, i] = at_x - left, at_y - top


@compiled
def _count(corner_x, corner_y, share, inside, height, width, start):
    """Add to start[d + 1] how many corners land on destination d; corners without a share (of pixels that stand still,
    three) do not.
    """
    for i in range(len(inside)):
        if inside[i]:
            for corner in range(4):
                right, low = corner & 1, corner >> 1
                if (right and share[0, i] == 0) or (low and share[1, i] == 0):
                    continue
                x, y = corner_x[i] + right, corner_y[i] + low
                if x >= 0 and x < width and y >= 0 and y < height:
                    start[y * width + x + 1] += 1


@compiled
def _fill(corner_x, corner_y, share, inside, source_weight, height, width, cursor, source, weight):
    """Write source pixel and weight of every corner into its destination's list."""
    for i in range(len(inside)):
        if inside[i]:
            for corner in range(4):
                right, low = corner & 1, corner >> 1
                if (right and share[0, i] == 0) or (low and share[1, i] == 0):
                    continue
                x, y = corner_x[i] + right, corner_y[i] + low
                if x >= 0 and x < width and y >= 0 and y < height:
                    k = cursor[y * width + x]
                    cursor[y * width + x] = k + 1
                    source[k] = i
                    weight[k] = (
                        source_weight[i]
                        * (share[0, i] if right else 1 - share[0, i])
                        * (share[1, i] if low else 1 - share[1, i])
                    )


@compiled
def _gather(start, source, weight, rows, out, total, first, last):
    """out[d] = sum of weight * rows[source], total[d] = sum of weight, for destinations first..last."""
    for d in range(first, last):
        for c in range(out.shape[1]):
            out[d, c] = 0
        sum_of_weights = np.float32(0)
        for k in range(start[d], start[d + 1]):
            w, row = weight[k], source[k]
            sum_of_weights += w
            for c in range(out.shape[1]):
                out[d, c] += w * rows[row, c]
        total[d] = sum_of_weights


@compiled
def _gather_mean(start, source, weight, rows, out, total, eps, first, last):
    """As _gather, divided by max(total, eps)."""
    for d in range(first, last):
        sum_of_weights = np.float32(0)
        for k in range(start[d], start[d + 1]):
            sum_of_weights += weight[k]
        scale = np.float32(1) / max(sum_of_weights, eps)
        for c in range(out.shape[1]):
            out[d, c] = 0
        for k in range(start[d], start[d + 1]):
            w, row = weight[k] * scale, source[k]
            for c in range(out.shape[1]):
                out[d, c] += w * rows[row, c]
        total[d] = sum_of_weights


def _table(displacements, weights, height, width):
    """CSR lists (start [H*W+1], source, weight) of everything that lands on each pixel."""
    pixels = height * width
    start = np.zeros(pixels + 1, np.int64)
    landings = []
    for displacement in displacements:
        x, y = np.empty(pixels, np.int32), np.empty(pixels, np.int32)
        share, inside = np.empty((2, pixels), np.float32), np.empty(pixels, np.bool_)
        _corners(displacement, x, y, share, inside)
        _count(x, y, share, inside, height, width, start)
        landings.append((x, y, share, inside))
    np.cumsum(start, out=start)
    source, weight = np.empty(start[-1], np.int32), np.empty(start[-1], np.float32)
    cursor = start[:-1].copy()
    for (x, y, share, inside), source_weight in zip(landings, weights):
        _fill(x, y, share, inside, source_weight, height, width, cursor, source, weight)
    return start, source, weight


def in_slabs(function: Callable[[int, int], None], count: int) -> None:
    """Run function(first, last) over 0..count, one slab per torch thread."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return function(0, count)
    edges = np.linspace(0, count, threads + 1).astype(np.int64)
    list(_pool(threads).map(function, edges[:-1], edges[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def splat_sum(input: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Summation splat of float32 CPU tensors; same as reference.splat_sum. input: [N,C,H,W]; flow: [N,2,H,W]; no
    gradient.
    """
    n, channels, height, width = input.shape
    rows = input.detach().permute(0, 2, 3, 1).contiguous().numpy().reshape(n, height * width, channels)
    moves = flow.detach().float().contiguous().numpy()
    out, total = np.empty_like(rows), np.empty(height * width, np.float32)
    ones = np.ones(height * width, np.float32)
    for i in range(n):
        start, source, weight = _table([moves[i]], [ones], height, width)
        in_slabs(lambda a, b: _gather(start, source, weight, rows[i], out[i], total, a, b), height * width)  # noqa: B023
    return torch.from_numpy(out).view(n, height, width, channels).permute(0, 3, 1, 2)


def splat_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float = 1e-8
) -> tuple[torch.Tensor, torch.Tensor]:
    """As softmax_splatting.splat_blend, for float32 CPU tensors. The result is channels-last in memory."""
    channels, height, width = features.shape
    rows = features.detach().permute(1, 2, 0).contiguous().numpy().reshape(-1, channels)
    start, source, weight = _table(
        [d.detach().contiguous().numpy() for d in displacements],
        [w.detach().contiguous().numpy().reshape(-1) for w in weights],
        height,
        width,
    )
    out, total = np.empty_like(rows), np.empty(height * width, np.float32)
    least = np.float32(eps)
    in_slabs(lambda a, b: _gather_mean(start, source, weight, rows, out, total, least, a, b), height * width)
    return torch.from_numpy(out).view(height, width, channels).permute(2, 0, 1), torch.from_numpy(total).view(
        1, height, width
    )
