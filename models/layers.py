"""Building blocks of the networks. Their parameter names and order are those of the published checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

SPECTRAL_WARM_UP = 15  # power iterations at construction; torch's newer parametrization uses the same number
STATISTICS_RATE = 0.1  # share of the new batch in the running statistics


# ------------------------------------------------------------------ spectral norm and initialisation


Layer = TypeVar("Layer", bound=nn.Module)


class NamedLayers(nn.Module):
    """A module whose layers get their names, those of the published files, while it is built."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What a type checker cannot see."""


def spectral(layer: Layer, enabled: bool = True) -> Layer:
    """Divide the layer's weight by its largest singular value (entries weight_orig, weight_u, weight_v, as published).

    u and v start random, with which an untrained network gives NaN in eval mode; a few power iterations prevent that.
    """
    if not enabled:
        return layer
    layer = nn.utils.spectral_norm(layer, eps=1e-12)
    with torch.no_grad():
        weight, u, v = (getattr(layer, f"weight_{name}") for name in ("orig", "u", "v"))
        weight = weight.flatten(1)
        for _ in range(SPECTRAL_WARM_UP):
            v.copy_(F.normalize(weight.T @ u, dim=0, eps=1e-12))
            u.copy_(F.normalize(weight @ v, dim=0, eps=1e-12))
    return layer


def initialise(net: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw the weights of plain convolutions from N(0, std) for training from scratch; returns net.

    Spectral convolutions keep torch's default: on the authors' GPU their N(0, 0.02) went to a dead tensor
    (docs/fidelity.md).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not hasattr(module, "weight_orig"):
            nn.init.normal_(module.weight, 0.0, std)
    return net


def remove_spectral(net: nn.Module) -> None:
    """Replace every spectral weight by the plain weight it stands for in eval mode (in place, for inference)."""
    for module in net.modules():
        if hasattr(module, "weight_orig"):
            nn.utils.remove_spectral_norm(module)


# ------------------------------------------------------------------ SPADE


def resize_condition(condition: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The network's input at a smaller size: colours and hint bilinear, the mask (channel 3) nearest.

    condition: [N,4|6,H,W] = RGB, mask[, hint]. The hint's values are not rescaled. Other channel counts raise
    ValueError.
    """
    channels = condition.shape[1]
    if channels not in (4, 6):
        raise ValueError(f"a SPADE condition of {channels} channels; expected 4 (RGB, mask) or 6 (RGB, mask, hint)")
    if condition.shape[-2:] == tuple(size):
        return condition
    smooth = F.interpolate(condition, size, mode="bilinear", align_corners=False)
    smooth[:, 3:4] = F.interpolate(condition[:, 3:4], size, mode="nearest")
    return smooth


class SPADE(nn.Module):
    """Instance norm whose scale and shift are predicted, pixel by pixel, from the network's input (Park et al., CVPR
    2019).
    """

    def __init__(self, channels: int, condition_channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(condition_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x: [N,C,h,w]; condition: [N,4|6,H,W], the full-resolution input of the network."""
        hidden = self.mlp_shared(resize_condition(condition, x.shape[-2:]))
        return torch.addcmul(self.mlp_beta(hidden), self.norm(x), 1 + self.mlp_gamma(hidden))


# ------------------------------------------------------------------ attention to the caption


class CrossAttention(nn.Module):
    """Image tokens look at caption tokens."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: [N,T,C] image tokens; context: [N,S,D] caption tokens."""
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N,heads,T|S,C/heads]
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    """Linear layer whose one half gates the other (GEGLU, Shazeer 2020)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two layers per token, four times as wide in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Stable Diffusion's block without its self-attention, so that its weights can be imported."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context_dim, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class CrossAttentionBlock(nn.Module):
    """Adds what the caption says to a feature map. Channels are a multiple of 32."""

    def __init__(self, channels: int, context_dim: int = 768, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_dim, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: [N,C,h,w]; context: [N,S,D]."""
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [N,h*w,C]
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(x.shape))


# ------------------------------------------------------------------ noise norms and partial convolution of the video
# network


class RunningStatistics(nn.Module):
    """Mean and (biased) variance per channel, remembered for eval mode."""

    stored_mean: torch.Tensor
    stored_var: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.register_buffer("accumulation_counter", torch.zeros(1))  # in the published files, always 0

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.stored_mean, self.stored_var

    def update(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        self.stored_mean.lerp_(mean.detach(), STATISTICS_RATE)
        self.stored_var.lerp_(var.detach(), STATISTICS_RATE)


class NoiseNorm(nn.Module):
    """Batch norm whose gain and bias come from a noise vector, as in the encoder and decoder of SynSin.

    The authors train and test with zero noise (bn_noise_misc), hence gain = 1 and bias = 0 exactly; the two linear
    layers stay because the checkpoints have them. With a mask, sums run over all pixels but are divided by the number
    of valid ones.
    """

    folded_scale: torch.Tensor | None
    folded_shift: torch.Tensor | None

    def __init__(
        self, channels: int, noise_dim: int, *, use_spectral: bool = True, partial: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.eps, self.noise_dim = eps, noise_dim
        self.gain = spectral(nn.Linear(noise_dim, channels, bias=False), use_spectral)
        self.bias = spectral(nn.Linear(noise_dim, channels, bias=False), use_spectral)
        self._statistics_name = "pbn" if partial else "bn"
        self.add_module(self._statistics_name, RunningStatistics(channels))
        # Buffers, so that they go where the network goes; none of the file's.
        self.register_buffer("folded_scale", None, persistent=False)
        self.register_buffer("folded_shift", None, persistent=False)

    @property
    def statistics(self) -> RunningStatistics:
        return getattr(self, self._statistics_name)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """x: [N,C,H,W]; mask: [N,1,H,W] of 0 and 1, partial norm only."""
        if self.folded_scale is not None and self.folded_shift is not None:
            return torch.addcmul(self.folded_shift, x, self.folded_scale)
        noise = x.new_zeros(len(x), self.noise_dim)
        mean, var = self._batch_statistics(x, mask) if self.training else self.statistics.stored()
        scale = (var + self.eps).rsqrt() * (1 + self.gain(noise))  # [N,C]
        shift = self.bias(noise) - mean * scale
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])

    def _batch_statistics(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        if mask is None:
            mean, square = x.mean((0, 2, 3)), x.square().mean((0, 2, 3))
        else:
            count = mask.sum() + 1e-5
            mean, square = x.sum((0, 2, 3)) / count, x.square().sum((0, 2, 3)) / count
        # Over a mask, E[x^2] - E[x]^2 may fall below zero when invalid pixels are not zero.
        var = (square - mean.square()).clamp(min=0)
        self.statistics.update(mean, var)
        return mean, var

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, shift), each [C], that this layer applies in eval mode."""
        scale = (self.statistics.stored_var + self.eps).rsqrt()
        return scale, -self.statistics.stored_mean * scale

    def fold(self) -> None:
        """Keep only the eval-mode scale and shift (inference)."""
        self.folded_scale, self.folded_shift = (t[None, :, None, None] for t in self.affine())


class PartialConv2d(nn.Conv2d):
    """3x3 convolution that ignores invalid pixels and re-weights by the valid ones (Liu et al., ECCV 2018).

    Zero padding counts as invalid. All channels share one mask: 1 + 1 channels give the numbers of the authors'
    C-channel mask.
    """

    bias: nn.Parameter  # always there

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(  # type: ignore[override]  # with a mask, unlike nn.Conv2d
        self, x: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x: [N,C,H,W]; mask: [N,1,H,W] float32 of 0 and 1. Returns (out, new mask); out is 0 where the new mask is."""
        out, valid = self.reweighted(x, mask)
        return out * valid.to(out.dtype), valid

    def reweighted(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As forward, but invalid pixels hold the bias instead of 0: enough before a layer that masks its input
        itself.
        """
        covered = (
            F.conv2d(mask, mask.new_ones(1, 1, 3, 3), padding=1) * self.in_channels
        )  # valid inputs under the kernel
        valid = covered.clamp(0, 1)
        ratio = self.in_channels * 9 / (covered + 1e-8) * valid
        out = F.conv2d(x * mask.to(x.dtype), self.weight, padding=1)
        return torch.addcmul(self.bias[:, None, None], out, ratio.to(out.dtype)), valid
