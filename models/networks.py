"""The generators and the discriminator, with the layer names of the published checkpoints, and their builders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.models.euler import integrate
from text2cinemagraph.models.layers import (
    SPADE,
    CrossAttentionBlock,
    NamedLayers,
    NoiseNorm,
    PartialConv2d,
    remove_spectral,
    spectral,
)
from text2cinemagraph.options.train import MotionOptions, VideoOptions
from text2cinemagraph.softmax_splatting import splat
from torch import nn

# Where the attention blocks come from: names in diffusers and in the original Stable Diffusion 1.x checkpoint.
DIFFUSION_BLOCKS = {
    "attn_" + ours: (diffusers, "model.diffusion_model." + original)
    for ours, diffusers, original in (
        ("input_block_1", "down_blocks.1.attentions.0", "input_blocks.4.1"),
        ("input_block_2", "down_blocks.1.attentions.1", "input_blocks.5.1"),
        ("input_block_3", "down_blocks.2.attentions.0", "input_blocks.7.1"),
        ("input_block_4", "down_blocks.2.attentions.1", "input_blocks.8.1"),
        ("middle_block", "mid_block.attentions.0", "middle_block.1"),
        ("output_block_4", "up_blocks.1.attentions.1", "output_blocks.4.1"),
        ("output_block_3", "up_blocks.1.attentions.2", "output_blocks.5.1"),
        ("output_block_2", "up_blocks.2.attentions.0", "output_blocks.6.1"),
        ("output_block_1", "up_blocks.2.attentions.1", "output_blocks.7.1"),
    )
}
MASK_FEATURE = 3  # the feature channel that spadeunet upsamples like a mask: a quirk the trained weights rely on


def build_motion(options: MotionOptions) -> SpadeUNet | SpadeCrossAttentionUNet:
    """The generator described by MotionOptions, untrained."""
    return SpadeUNet(options) if options.netG == "spadeunet" else SpadeCrossAttentionUNet(options)


def build_video(options: VideoOptions) -> SymmetricSplattingNet:
    """The generator described by VideoOptions, untrained."""
    return SymmetricSplattingNet(options)


def build_discriminator(in_channels: int, ndf: int = 64, n_layers: int = 3, num_d: int = 2) -> MultiscaleDiscriminator:
    """in_channels = those of the generator's input plus its output: 6 (motion), 8 (with hint), 11 (video)."""
    return MultiscaleDiscriminator(in_channels, ndf, n_layers, num_d)


# ------------------------------------------------------------------ flow from a picture


def up(x: torch.Tensor) -> torch.Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def up_as_mask(x: torch.Tensor) -> torch.Tensor:
    """Twice the size: feature channel 3 nearest, the others bilinear (networks.py:391-424 of the original, kept)."""
    larger = up(x)
    larger[:, MASK_FEATURE] = F.interpolate(x[:, MASK_FEATURE : MASK_FEATURE + 1], scale_factor=2, mode="nearest")[:, 0]
    return larger


def leaky(x: torch.Tensor) -> torch.Tensor:
    """The published slope."""
    return F.leaky_relu(x, 0.2)


def _add_spades(net: nn.Module, widths: dict[str, int], options: MotionOptions) -> None:
    """The thirteen SPADE layers of both U-Nets. widths: suffix -> channels, in checkpoint order."""
    for suffix, channels in widths.items():
        net.add_module("spade_layer" + suffix, SPADE(channels, options.input_nc, options.spade_hidden))


class SpadeUNet(NamedLayers):
    """Flow from image, mask and hint; no caption. Eight halvings, so sides are multiples of 256."""

    def __init__(self, options: MotionOptions) -> None:
        super().__init__()
        nf = options.width
        down = [options.input_nc, nf, nf * 2, nf * 4] + [nf * 8] * 5
        grow = [
            nf * 8,
            nf * 16,
            nf * 16,
            nf * 16,
            nf * 16,
            nf * 8,
            nf * 4,
            nf * 2,
        ]  # a decoder input is twice a level: skip
        out = [nf * 8, nf * 8, nf * 8, nf * 8, nf * 4, nf * 2, nf, options.output_nc]
        for i in range(8):
            self.add_module(f"conv{i + 1}", spectral(nn.Conv2d(down[i], down[i + 1], 4, 2, 1)))
        for i in range(8):
            self.add_module(f"dconv{i + 1}", spectral(nn.Conv2d(grow[i], out[i], 3, 1, 1)))
        _add_spades(
            self,
            {
                "": nf,
                "2_0": nf * 2,
                "2_1": nf * 2,
                "4_0": nf * 4,
                "4_1": nf * 4,
                **{f"8_{i}": nf * 8 for i in range(8)},
            },
            options,
        )
        self.no_tanh = options.no_tanh

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """x: [N,4|6,H,W] = RGB in [-1,1], mask, hint/motion_norm. Returns flow/motion_norm [N,2,H,W]. context is not
        used.
        """
        e1 = self.conv1(x)  # 1/2
        e2 = self.spade_layer2_0(self.conv2(leaky(e1)), x)  # 1/4
        e3 = self.spade_layer4_0(self.conv3(leaky(e2)), x)  # 1/8
        e4 = self.spade_layer8_0(self.conv4(leaky(e3)), x)
        e5 = self.spade_layer8_1(self.conv5(leaky(e4)), x)
        e6 = self.spade_layer8_2(self.conv6(leaky(e5)), x)
        e7 = self.spade_layer8_3(self.conv7(leaky(e6)), x)  # 1/128
        e8 = up_as_mask(F.relu(self.conv8(leaky(e7))))  # 1/256 -> 1/128
        d = self.spade_layer8_4(self.dconv1(e8), x)
        decoder = (
            (self.dconv2, self.spade_layer8_5, e7),
            (self.dconv3, self.spade_layer8_6, e6),
            (self.dconv4, self.spade_layer8_7, e5),
            (self.dconv5, self.spade_layer4_1, e4),
            (self.dconv6, self.spade_layer2_1, e3),
            (self.dconv7, self.spade_layer, e2),
        )
        for conv, spade, skip in decoder:  # 1/64 ... 1/2
            d = spade(conv(F.relu(torch.cat([up_as_mask(d), up_as_mask(skip)], 1))), x)
        flow = self.dconv8(F.relu(torch.cat([up_as_mask(d), up_as_mask(e1)], 1)))
        return flow if self.no_tanh else torch.tanh(flow)


class SpadeCrossAttentionUNet(NamedLayers):
    """Flow from image, mask and caption. Six halvings, so sides are multiples of 64."""

    def __init__(self, options: MotionOptions) -> None:
        super().__init__()
        nf, use_spectral = options.width, "spectral" in options.norm
        down = [options.input_nc, nf, nf, nf * 2, nf * 2, nf * 2, nf * 4, nf * 4, nf * 4]
        grow = [nf * 4, nf * 8, nf * 8, nf * 4, nf * 4, nf * 4, nf * 2, nf * 2]
        out = [nf * 4, nf * 4, nf * 2, nf * 2, nf * 2, nf, nf, options.output_nc]
        attention = {
            "input_block_1": nf * 2,
            "input_block_2": nf * 2,
            "input_block_3": nf * 4,
            "input_block_4": nf * 4,
            "middle_block": nf * 4,
            "output_block_4": nf * 4,
            "output_block_3": nf * 4,
            "output_block_2": nf * 2,
            "output_block_1": nf * 2,
        }
        for i in range(8):
            self.add_module(f"conv{i + 1}", spectral(nn.Conv2d(down[i], down[i + 1], 3, 1, 1), use_spectral))
        for name, channels in attention.items():
            self.add_module("attn_" + name, CrossAttentionBlock(channels, options.context_dim, options.heads))
        for i in range(8):
            self.add_module(f"dconv{i + 1}", spectral(nn.Conv2d(grow[i], out[i], 3, 1, 1), use_spectral))
        widths = [nf * 2, nf * 2, nf * 4, nf * 4, nf * 4, nf * 4, nf * 2, nf * 2]
        _add_spades(
            self,
            {
                "": nf,
                "2_0": nf,
                "2_1": nf,
                "4_0": nf * 2,
                "4_1": nf * 2,
                **{f"8_{i}": width for i, width in enumerate(widths)},
            },
            options,
        )
        self.no_tanh = options.no_tanh

    def frozen_parameters(self) -> list[str]:
        """Names of the parameters that keep Stable Diffusion's values in training."""
        return [name for name, _ in self.named_parameters() if "attn2.to_k" in name or "attn2.to_q" in name]

    def import_attention(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Start the attention blocks from a Stable Diffusion U-Net (all but its self-attention), and freeze
        frozen_parameters.

        state_dict: of a diffusers UNet2DConditionModel, or of the original sd-v1-4.ckpt ("model.diffusion_model."
        names).
        Raises ValueError if a tensor is missing or has another shape.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith("attn_")}
        for name, tensor in own.items():
            block, leaf = name.split(".", 1)
            names = [f"{place}.{leaf}" for place in DIFFUSION_BLOCKS[block]]
            found = next((state_dict[n] for n in names if n in state_dict), None)
            if found is None or found.shape != tensor.shape:
                shape = "missing" if found is None else f"of shape {tuple(found.shape)}"
                raise ValueError(
                    f"{names[0]} is {shape} in the diffusion U-Net, expected {tuple(tensor.shape)}; "
                    "give the U-Net of Stable Diffusion 1.x, or train without it"
                )
            tensor.copy_(found)
        frozen = set(self.frozen_parameters())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in frozen)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: [N,4|6,H,W] = RGB in [-1,1], mask[, hint/motion_norm]; context: [N,S,D] caption tokens. Returns
        [N,2,H,W].
        """

        def pool(y: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(y, 2)

        e1 = pool(self.conv1(x))  # 1/2
        e2 = self.spade_layer2_0(pool(self.conv2(leaky(e1))), x)  # 1/4
        e3 = self.spade_layer4_0(pool(self.conv3(leaky(e2))), x)  # 1/8
        e4 = self.attn_input_block_1(self.spade_layer8_0(pool(self.conv4(leaky(e3))), x), context)  # 1/16
        e5 = self.attn_input_block_2(self.spade_layer8_1(self.conv5(leaky(e4)), x), context)
        e6 = self.attn_input_block_3(self.spade_layer8_2(pool(self.conv6(leaky(e5))), x), context)  # 1/32
        e7 = self.attn_input_block_4(self.spade_layer8_3(self.conv7(leaky(e6)), x), context)
        e8 = self.attn_middle_block(pool(self.conv8(leaky(e7))), context)  # 1/64

        def skip(d: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
            return F.relu(torch.cat([d, e], 1))

        d = self.attn_output_block_4(self.spade_layer8_4(self.dconv1(up(F.relu(e8))), x), context)  # 1/32
        d = self.attn_output_block_3(self.spade_layer8_5(self.dconv2(skip(d, e7)), x), context)
        d = self.attn_output_block_2(self.spade_layer8_6(self.dconv3(up(skip(d, e6))), x), context)  # 1/16
        d = self.attn_output_block_1(self.spade_layer8_7(self.dconv4(skip(d, e5)), x), context)
        d = self.spade_layer4_1(self.dconv5(up(skip(d, e4))), x)  # 1/8
        d = self.spade_layer2_1(self.dconv6(up(skip(d, e3))), x)  # 1/4
        d = self.spade_layer(self.dconv7(up(skip(d, e2))), x)  # 1/2
        flow = self.dconv8(up(skip(d, e1)))
        return flow if self.no_tanh else torch.tanh(flow)


# ------------------------------------------------------------------ frames from a picture and its flow


class EncoderBlock(NamedLayers):
    """Residual block at full resolution."""

    def __init__(self, channels_in: int, channels_out: int, options: VideoOptions) -> None:
        super().__init__()
        use_spectral = "spectral" in options.norm_G
        self.ch_a: Any = nn.Sequential(
            NoiseNorm(channels_in, options.noise_dim, use_spectral=use_spectral),
            nn.ReLU(),
            spectral(nn.Conv2d(channels_in, channels_out, 3, padding=1), use_spectral),
            NoiseNorm(channels_out, options.noise_dim, use_spectral=use_spectral),
            nn.ReLU(),
            spectral(nn.Conv2d(channels_out, channels_out, 3, padding=1), use_spectral),
        )
        self.ch_b = nn.Sequential()
        if channels_in != channels_out:
            self.ch_b.append(spectral(nn.Conv2d(channels_in, channels_out, 1), use_spectral))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ch_a(x) + self.ch_b(x)

    def fold(self) -> None:
        """Turn the norms into constants (inference); expects plain, not spectral, weights."""
        self.ch_a[0].fold()
        _fold_after(self.ch_a[2], self.ch_a[3])
        self.ch_a[3] = nn.Identity()


class DecoderBlock(NamedLayers):
    """Residual block of partial convolutions, which may halve or double the size."""

    def __init__(self, channels_in: int, channels_out: int, resample: str, options: VideoOptions) -> None:
        super().__init__()
        use_spectral = "spectral" in options.norm_G
        self.resample = resample
        self.bn_noise1 = NoiseNorm(channels_in, options.noise_dim, use_spectral=use_spectral, partial=True)
        self.bn_noise2 = NoiseNorm(channels_out, options.noise_dim, use_spectral=use_spectral, partial=True)
        self.conv_aa = spectral(PartialConv2d(channels_in, channels_out), use_spectral)
        self.conv_ab = spectral(PartialConv2d(channels_out, channels_out), use_spectral)
        # Published files have conv_b everywhere, also where the shortcut is the identity.
        self.conv_b = spectral(nn.Conv2d(channels_in, channels_out, 1, bias=False), use_spectral)
        self.identity = resample == "none" and channels_in == channels_out
        self.folded = False

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x: [N,C,H,W]; mask: [N,1,H,W] float32 of 0 and 1. Returns both, resampled; the shortcut is not masked."""
        if self.folded:
            a, m = self.conv_aa.reweighted(F.relu_(self.bn_noise1(x)), mask)
            a, m = self.conv_ab(F.relu_(a), m)
        else:
            a, m = self.conv_aa(F.relu(self.bn_noise1(x, mask)), mask)
            a, m = self.conv_ab(F.relu(self.bn_noise2(a, m)), m)
        return self._resample(a) + self._shortcut(x), self._resample_mask(m)

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.identity:
            return x
        if self.resample == "Down":  # a 1x1 convolution without bias commutes with the pooling: a quarter of the work
            return self.conv_b(self._resample(x))
        return self._resample(self.conv_b(x))

    def _resample(self, x: torch.Tensor) -> torch.Tensor:
        if self.resample == "Down":
            return F.avg_pool2d(x, 3, 2, 1)
        return up(x) if self.resample == "Up" else x

    def _resample_mask(self, mask: torch.Tensor) -> torch.Tensor:
        if self.resample == "Down":
            return F.max_pool2d(mask, 3, 2, 1)
        return F.interpolate(mask, scale_factor=2, mode="nearest") if self.resample == "Up" else mask

    def fold(self) -> None:
        """Turn the norms into constants (inference); expects plain, not spectral, weights."""
        self.bn_noise1.fold()
        _fold_after(self.conv_aa, self.bn_noise2)
        self.folded = True


def _fold_after(conv: Any, norm: NoiseNorm) -> None:
    """Make conv do the work of the eval-mode norm that follows it."""
    scale, shift = norm.affine()
    conv.weight.data.mul_(scale[:, None, None, None])
    conv.bias.data.mul_(scale).add_(shift)


class Encoder(NamedLayers):
    """Picture to features and, as the last channel, Z."""

    def __init__(self, options: VideoOptions) -> None:
        super().__init__()
        channels = [3, *options.encoder_channels]
        self.gblocks = nn.Sequential(*(EncoderBlock(a, b, options) for a, b in zip(channels, channels[1:])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gblocks(x)


class Projector(NamedLayers):
    """The decoder: fills the holes of the splatted features and turns them into colours."""

    def __init__(self, options: VideoOptions) -> None:
        super().__init__()
        channels = [options.encoder_channels[-1] - 1, *options.decoder_channels]
        self.eblocks = nn.ModuleList(
            DecoderBlock(a, b, resample, options)
            for a, b, resample in zip(channels, channels[1:], options.decoder_resample)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for block in self.eblocks:
            x, mask = block(x, mask)
        return torch.tanh(x)


Code = tuple[torch.Tensor, torch.Tensor]  # features [N,C,H,W], and their metric or mask [N,1,H,W]


class SymmetricSplattingNet(nn.Module):
    """Encode, splat features forward and backward along the flow, blend, decode (Holynski et al., CVPR 2021)."""

    def __init__(self, options: VideoOptions) -> None:
        super().__init__()
        self.encoder = Encoder(options)
        self.projector = Projector(options)
        self.z_max = options.z_max

    def forward(self, start: torch.Tensor, end: torch.Tensor, flow: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The frame in the middle of two.

        start, end: [N,3,H,W] in [-1,1].   flow: [N,2,H,W] in px/frame.   index: [N,3] integers, frame numbers (start,
        middle, end), start <= middle <= end.   Returns [N,3,H,W] in [-1,1]. Sides are multiples of
        VideoOptions.multiple.
        """
        first, middle, last = index.to(flow.device).unbind(1)
        alpha = (1 - (middle - first) / (last - first + 1))[:, None, None, None].to(flow.dtype)
        with torch.no_grad():
            ahead, _ = integrate(flow, middle - first)
            back, _ = integrate(-flow, last + 1 - middle)
        blended, mask = self.blend(self.encode(start), self.encode(end), ahead, back, alpha=alpha)
        return self.projector(blended, mask)

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """image: [N,3,H,W] in [-1,1]. Returns features [N,C,H,W] and metric Z [N,1,H,W] (unbounded; larger wins the
        splat).
        """
        code = self.encoder(image)
        return code[:, :-1], code[:, -1:]

    def importance(self, metric: torch.Tensor) -> torch.Tensor:
        """exp(Z - max Z): [N,1,H,W] in (0,1]."""
        largest = metric.amax((1, 2, 3), keepdim=True) if self.z_max == "image" else metric.max()
        return (metric - largest).exp()

    def blend(
        self, start: Code, end: Code, ahead: torch.Tensor, back: torch.Tensor, *, alpha: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted mean of the features that land on each pixel.

        start, end: (features, metric) of encode.   ahead, back: displacements [N,2,H,W], px.   alpha: [N,1,1,1], share
        of start.
        Returns features [N,C,H,W], 0 in holes, and mask [N,1,H,W], 1 where anything landed.
        """
        weighted: Any = 0
        for (features, metric), displacement, share in ((start, ahead, alpha), (end, back, 1 - alpha)):
            weight = self.importance(metric) * share
            weighted = weighted + splat(torch.cat([features * weight, weight], 1), displacement, mode="summation")
        total = weighted[:, -1:]
        return weighted[:, :-1] / total.clamp(min=1e-8), (total > 0).float()

    def fold(self) -> SymmetricSplattingNet:
        """Constant-fold spectral and batch norms for inference (in place, not to be trained or saved afterwards)."""
        self.eval().requires_grad_(False)
        remove_spectral(self)
        for block in [*self.encoder.gblocks, *self.projector.eblocks]:
            block.fold()
        return self


# ------------------------------------------------------------------ discriminator


class MultiscaleDiscriminator(nn.Module):
    """PatchGAN discriminators on the picture and on its halves (pix2pixHD)."""

    def __init__(self, in_channels: int, ndf: int = 64, n_layers: int = 3, num_d: int = 2) -> None:
        super().__init__()
        self.num_d, self.n_layers = num_d, n_layers
        widths = [in_channels, *(min(ndf * 2**i, 512) for i in range(n_layers + 1)), 1]
        for scale in range(num_d):
            for i, (a, b) in enumerate(zip(widths, widths[1:])):
                layers: list[nn.Module] = [nn.Conv2d(a, b, 4, 2 if i < n_layers else 1, 2)]
                if 0 < i <= n_layers:
                    layers.append(nn.InstanceNorm2d(b, affine=False))
                if i <= n_layers:
                    layers.append(nn.LeakyReLU(0.2))
                self.add_module(f"scale{scale}_layer{i}", nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """x: [N,C,H,W], generator input and (real or made) output, concatenated.

        Returns one list per scale, the full resolution first: the n_layers + 1 feature maps, then the [N,1,h,w]
        verdict.
        """
        results = []
        for scale in reversed(range(self.num_d)):  # the last-named weights see the full resolution
            features = [x]
            for i in range(self.n_layers + 2):
                features.append(getattr(self, f"scale{scale}_layer{i}")(features[-1]))
            results.append(features[1:])
            if scale:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return results
