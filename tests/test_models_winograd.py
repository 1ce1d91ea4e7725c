"""Winograd's convolution against the direct one, at sizes that are no multiples of its tiles."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from text2cinemagraph.models.winograd import CHUNK, Convolution, Scratch, padded_shape, transformed_weight


@pytest.mark.parametrize(
    "shape, channels, threads",
    [((4, 4), (1, 1), 1), ((1, 7), (3, 5), 1), ((13, 22), (16, 24), 2), ((70, 66), (8, 8), 2)],
)
def test_equals_the_direct_convolution(shape, channels, threads):
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    assert shape != (70, 66) or -(-70 // 4) * -(-66 // 4) > CHUNK  # several chunks, the last one not full
    weight = torch.randn(channels[1], channels[0], 3, 3)
    x = np.full((*padded_shape(shape), channels[0]), 7, np.float32)  # beyond the rim anything may lie
    x[: shape[0] + 2, : shape[1] + 2] = torch.randn(shape[0] + 2, shape[1] + 2, channels[0])
    made = Convolution(weight, shape, Scratch())(x)
    seen = torch.from_numpy(x[: shape[0] + 2, : shape[1] + 2]).permute(2, 0, 1)[None]
    wanted = F.conv2d(seen.double(), weight.double())[0].permute(1, 2, 0).numpy()
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, atol=2e-5 * np.abs(wanted).max())


def test_the_filter_of_one_pixel():
    """A weight with 1 in its middle alone gives the input back."""
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    x = np.random.default_rng(0).random((*padded_shape((8, 8)), 1), np.float32)
    np.testing.assert_allclose(Convolution(weight, (8, 8), Scratch())(x)[..., 0], x[1:9, 1:9, 0], atol=1e-5)
    assert transformed_weight(weight).shape == (36, 1, 1)


def test_scratch_is_one_memory_per_name():
    scratch = Scratch()
    one = scratch.array("a", (4, 5))
    assert np.shares_memory(one, scratch.array("a", (3, 2))) and not np.shares_memory(one, scratch.array("b", (4, 5)))
    assert scratch.array("a", (40, 5)).shape == (40, 5)
