"""Networks changed in place: for many processes, half precision and little memory, or as constants for a while."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from text2cinemagraph.models.layers import SPADE, CrossAttentionBlock, NoiseNorm, PartialConv2d
from torch import nn
from torch.utils.checkpoint import checkpoint


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, which each of them may differentiate.

    accelerate has none; torch's own, in torch.distributed.nn, is deprecated, and its successor is not public.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Sum."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The gradients' sum."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class WideNorm(NoiseNorm):
    """A NoiseNorm whose batch is the batch of all processes, and whose sums are float32 in half precision too (fp16
    ends at 65504).
    """

    synchronised = False

    def _batch_statistics(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.float()
        count = x.new_tensor(len(x) * x.shape[2] * x.shape[3]) if mask is None else mask.sum()
        sums = torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count[None]])
        if self.synchronised:
            sums = SumOfAll.apply(sums)
        mean, square = (sums[:-1] / (sums[-1] + (0 if mask is None else 1e-5))).chunk(2)
        var = (square - mean.square()).clamp(min=0)
        self.statistics.update(mean, var)
        return mean, var


class WideConv(PartialConv2d):
    """A PartialConv2d that counts in float32 in half precision too: 1e-8 is 0 in fp16."""

    def reweighted(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            covered = F.conv2d(mask.float(), mask.new_ones(1, 1, 3, 3).float(), padding=1) * self.in_channels
            valid = covered.clamp(0, 1)
            ratio = self.in_channels * 9 / (covered + 1e-8) * valid
        out = F.conv2d(x * mask.to(x.dtype), self.weight, padding=1)
        return torch.addcmul(self.bias[:, None, None].to(out.dtype), out, ratio.to(out.dtype)), valid


def widen_norms(net: nn.Module, synchronised: bool) -> None:
    """Make the norms and partial convolutions of the video network wide, in place.

    synchronised: statistics over all processes, else each has its own (as the authors' GPUs).
    """
    for module in net.modules():  # as torch converts to SyncBatchNorm: same weights, same names
        if isinstance(module, NoiseNorm):
            module.__class__ = WideNorm
            assert isinstance(module, WideNorm)
            module.synchronised = synchronised
        elif isinstance(module, PartialConv2d):
            module.__class__ = WideConv


def checkpoint_layers(net: nn.Module) -> None:
    """Let SPADE and attention layers forget their activations and compute them again on the way back, in place.

    These hold most of the memory. They have no spectral weights, whose power iterations would otherwise run twice.
    """
    for module in net.modules():
        if isinstance(module, (SPADE, CrossAttentionBlock)):
            again = functools.partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
            module.forward = again  # type: ignore[method-assign]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, the network's parameters are constants."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
