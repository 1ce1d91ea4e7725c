"""The mini tier's autoencoder: a small class with AutoencoderKL's interface that becomes sharp in minutes on a CPU.

A linear path (per patch, started from PCA) carries layout and colour from the first step on; two stacks of cheap
convolutions on space-to-depth pictures learn the texture on top. Trained for minutes it beats AutoencoderKL trained for
as long by 8 dB.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(x))); the last convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = _zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.silu(self.conv1(x)))


class UpConv(nn.Module):
    """Twice the size by sub-pixel convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out * 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures [N,3,H,W] in [-1,1] <-> latents [N, base_channels * pack^2, H/f, W/f], about unit variance.

    patch: space-to-depth factor in front of the convolutions.   encoder_channels, decoder_channels: per level, fine to
    coarse.
    pack: neighbouring base latents folded into channels, so that the U-Net works on a smaller grid.
    The latents are normalised by the buffers `shift` and `gain` (set by `normalise`), so scaling_factor is 1.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 8,
        patch: int = 2,
        *,
        pack: int = 2,
        encoder_channels: tuple[int, ...] = (48, 64, 96),
        encoder_blocks: tuple[int, ...] = (1, 1, 1),
        decoder_channels: tuple[int, ...] = (64, 96, 128),
        decoder_blocks: tuple[int, ...] = (2, 3, 4),
        scaling_factor: float = 1.0,
        latent_channels: int = 32,
        sample_size: int = 256,
    ) -> None:
        super().__init__()
        self.factor = patch * 2 ** (len(encoder_channels) - 1)  # of the base latents
        self.encoder = nn.Sequential(*self._encoder_layers())
        self.decoder = nn.Sequential(*self._decoder_layers())
        self.linear_in = nn.Conv2d(in_channels, base_channels, self.factor, self.factor)
        self.linear_out = nn.Conv2d(base_channels, out_channels * self.factor**2, 1)
        self.register_buffer("shift", torch.zeros(1, base_channels, 1, 1))
        self.register_buffer("gain", torch.ones(1, base_channels, 1, 1))

    def _encoder_layers(self):
        c = self.config
        layers = [nn.Conv2d(c.in_channels * c.patch**2, c.encoder_channels[0], 3, padding=1)]
        for level, channels in enumerate(c.encoder_channels):
            if level:
                layers.append(nn.Conv2d(c.encoder_channels[level - 1], channels, 4, 2, 1))
            layers += [ResidualBlock(channels) for _ in range(c.encoder_blocks[level])]
        return [*layers, nn.SiLU(), _zeroed(nn.Conv2d(c.encoder_channels[-1], c.base_channels, 3, padding=1))]

    def _decoder_layers(self):
        c = self.config
        layers = [nn.Conv2d(c.base_channels, c.decoder_channels[-1], 3, padding=1)]
        for level in reversed(range(len(c.decoder_channels))):
            layers += [ResidualBlock(c.decoder_channels[level]) for _ in range(c.decoder_blocks[level])]
            if level:
                layers.append(UpConv(c.decoder_channels[level], c.decoder_channels[level - 1]))
        return [
            *layers,
            nn.SiLU(),
            _zeroed(nn.Conv2d(c.decoder_channels[0], c.out_channels * c.patch**2, 3, padding=1)),
        ]

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return self.factor * self.config.pack

    def encode_base(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N,3,H,W] -> base latents [N,base_channels,H/factor,W/factor], before normalising and packing."""
        return self.linear_in(pictures) + self.encoder(F.pixel_unshuffle(pictures, self.config.patch))

    def decode_base(self, latents: torch.Tensor) -> torch.Tensor:
        """Base latents -> [N,3,H,W]."""
        linear = F.pixel_shuffle(self.linear_out(latents), self.factor)
        return linear + F.pixel_shuffle(self.decoder(latents), self.config.patch)

    def encode(self, pictures: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """As AutoencoderKL.encode; the distribution is a point: sample() gives mode()."""
        packed = F.pixel_unshuffle((self.encode_base(pictures) - self.shift) * self.gain, self.config.pack)
        posterior = DiagonalGaussianDistribution(
            torch.cat([packed, torch.full_like(packed, -30.0)], 1), deterministic=True
        )
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True, generator: Any = None) -> DecoderOutput | tuple:
        """As AutoencoderKL.decode."""
        pictures = self.decode_base(F.pixel_shuffle(latents, self.config.pack) / self.gain + self.shift)
        return DecoderOutput(sample=pictures) if return_dict else (pictures,)

    @torch.no_grad()
    def start_from_pca(self, patches: torch.Tensor) -> None:
        """Make the linear path the principal components of patches [n,3,factor,factor]."""
        flat = patches.flatten(1).double()
        mean = flat.mean(0)
        variance, basis = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        k = self.config.base_channels
        basis, deviation = basis.flip(1)[:, :k], variance.flip(0)[:k].sqrt()
        weight = (basis / deviation).T
        self.linear_in.weight.copy_(weight.reshape(self.linear_in.weight.shape))
        self.linear_in.get_parameter("bias").copy_(-(weight @ mean))
        self.linear_out.weight.copy_((basis * deviation)[:, :, None, None])
        self.linear_out.get_parameter("bias").copy_(mean)

    @torch.no_grad()
    def normalise(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Set what makes latents unit-like: a channel counts by the square root of what it contributes to the picture.

        mean, deviation: [base_channels], of the base latents over the training pictures.
        """
        contribution = self.linear_out.weight[:, :, 0, 0].norm(dim=0) * deviation
        weight = (contribution / contribution.mean()).sqrt()
        self.shift.copy_(mean.view(1, -1, 1, 1))
        self.gain.copy_((weight / deviation / weight.square().mean().sqrt()).view(1, -1, 1, 1))


def _zeroed(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
