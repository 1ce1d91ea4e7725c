"""3x3 convolution by Winograd's F(4x4, 3x3): a quarter of the multiplications, on a CPU, float32.

A 4x4 tile of the output is made from a 6x6 tile of the input: both are transformed (compiled loops over channels), and
in between there are 36 matrix products over channels, which are torch's. Numbers differ from the direct convolution's
by some 1e-6 of its largest value.
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, whose matrices these are.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch
from text2cinemagraph.softmax_splatting.compiled import compiled
from text2cinemagraph.softmax_splatting.cpu import in_slabs

TILE = 4  # px of the output; the input's tiles overlap by two
CHUNK = 256  # tiles per matrix product: 36 * 256 * 128 channels in float32 are 4.7 MB, which stay in the cache
LEAST = 16  # channels, in and out, from which it is worth its transforms
FILTER = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def transformed_weight(weight: torch.Tensor) -> torch.Tensor:
    """[Co,Ci,3,3] -> [36,Ci,Co]: what every tile is multiplied with; in double precision until the end."""
    g = torch.from_numpy(FILTER)
    return torch.einsum("pi,qj,ocij->pqco", g, g, weight.double()).flatten(0, 1).float().contiguous()


@compiled
def _take(x, columns, start, tiles, first, last):
    """tiles[:, k] = the transformed 6x6 tile number start + k of x [h,w,C].  columns: tiles per row of the picture."""
    channels = x.shape[2]
    half = np.empty((6, 6, channels), np.float32)
    for k in range(first, last):
        y, left = (start + k) // columns * 4, (start + k) % columns * 4
        for r in range(6):
            row = x[y + r]
            for c in range(channels):
                a, b, d = row[left, c], row[left + 1, c], row[left + 2, c]
                e, f, g = row[left + 3, c], row[left + 4, c], row[left + 5, c]
                half[r, 0, c] = 4 * a - 5 * d + f
                half[r, 1, c] = f + e - 4 * (b + d)
                half[r, 2, c] = f - e + 4 * (b - d)
                half[r, 3, c] = f - d + 2 * (e - b)
                half[r, 4, c] = f - d - 2 * (e - b)
                half[r, 5, c] = 4 * b - 5 * e + g
        for q in range(6):
            for c in range(channels):
                a, b, d = half[0, q, c], half[1, q, c], half[2, q, c]
                e, f, g = half[3, q, c], half[4, q, c], half[5, q, c]
                tiles[q, k, c] = 4 * a - 5 * d + f
                tiles[6 + q, k, c] = f + e - 4 * (b + d)
                tiles[12 + q, k, c] = f - e + 4 * (b - d)
                tiles[18 + q, k, c] = f - d + 2 * (e - b)
                tiles[24 + q, k, c] = f - d - 2 * (e - b)
                tiles[30 + q, k, c] = 4 * b - 5 * e + g


@compiled
def _give(tiles, columns, start, out, first, last):
    """The 4x4 tiles of the output [h,w,C], from the products; what lies beyond its edge is left out."""
    channels = out.shape[2]
    half = np.empty((4, 6, channels), np.float32)
    for k in range(first, last):
        y, left = (start + k) // columns * 4, (start + k) % columns * 4
        for q in range(6):
            for c in range(channels):
                a, b, d = tiles[q, k, c], tiles[6 + q, k, c], tiles[12 + q, k, c]
                e, f, g = tiles[18 + q, k, c], tiles[24 + q, k, c], tiles[30 + q, k, c]
                plus, minus, both, differ = b + d, b - d, e + f, e - f
                half[0, q, c] = a + plus + both
                half[1, q, c] = minus + 2 * differ
                half[2, q, c] = plus + 4 * both
                half[3, q, c] = minus + 8 * differ + g
        width = min(4, out.shape[1] - left)
        for r in range(min(4, out.shape[0] - y)):
            row = out[y + r]
            for c in range(channels):
                a, b, d = half[r, 0, c], half[r, 1, c], half[r, 2, c]
                e, f, g = half[r, 3, c], half[r, 4, c], half[r, 5, c]
                plus, minus, both, differ = b + d, b - d, e + f, e - f
                row[left, c] = a + plus + both
                if width > 1:
                    row[left + 1, c] = minus + 2 * differ
                if width > 2:
                    row[left + 2, c] = plus + 4 * both
                if width > 3:
                    row[left + 3, c] = minus + 8 * differ + g


class Scratch:
    """Memory that layers use one after the other, each until the next one asks: grows to the largest, is never given
    back.
    """

    def __init__(self) -> None:
        self.memory: dict[Hashable, np.ndarray] = {}

    def array(self, name: Hashable, shape: tuple[int, ...]) -> np.ndarray:
        """float32 of that shape, uninitialised; the same memory for the same name."""
        size = int(np.prod(shape))
        if self.memory.get(name, np.empty(0)).size < size:
            self.memory[name] = np.empty(size, np.float32)
        return self.memory[name][:size].reshape(shape)


class Convolution:
    """One layer's 3x3 convolution without padding.

    weight: [Co,Ci,3,3].   shape: (h, w) of the output; inputs have padded_shape(shape), of which the first (h + 2, w +
    2) count.
    scratch: Scratch; the result lies in it until the next convolution with the same one.
    """

    def __init__(self, weight: torch.Tensor, shape: tuple[int, int], scratch: Scratch) -> None:
        self.weight, self.shape, self.scratch = transformed_weight(weight), shape, scratch
        self.columns, self.count = -(-shape[1] // TILE), -(-shape[0] // TILE) * -(-shape[1] // TILE)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: [padded h, padded w, Ci].  Returns [h,w,Co]."""
        _, channels_in, channels_out = self.weight.shape
        out = self.scratch.array("out", (*self.shape, channels_out))
        for start in range(0, self.count, CHUNK):
            n = min(CHUNK, self.count - start)
            taken, made = (
                self.scratch.array("taken", (36, n, channels_in)),
                self.scratch.array("made", (36, n, channels_out)),
            )
            in_slabs(lambda a, b: _take(x, self.columns, start, taken, a, b), n)  # noqa: B023
            torch.bmm(torch.from_numpy(taken), self.weight, out=torch.from_numpy(made))
            in_slabs(lambda a, b: _give(made, self.columns, start, out, a, b), n)  # noqa: B023
        return out


def padded_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of an output -> of the input that its whole tiles read."""
    height, width = (-(-side // TILE) * TILE + 2 for side in shape)
    return height, width
