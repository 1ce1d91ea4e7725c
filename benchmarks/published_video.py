"""The published algorithm of s6, stated plainly on our networks' weights: what benchmarks.video measures against.

Per frame, as the paper's code does it: both pictures are encoded (start and end are the same picture), both
displacements are integrated from frame 0, features are splatted by scatter_add on NCHW tensors, and partial
convolutions convolve a mask of as many channels as the features with ones. No gradients are kept (the original keeps
them), nothing is folded, nothing is shared between frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from text2cinemagraph.models.euler import integrate
from text2cinemagraph.models.networks import up


def splat_sum(image: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """image: [1,C,H,W].   displacement: [1,2,H,W], px.  Returns [1,C,H,W]."""
    _, channels, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at_x, at_y = x + displacement[0, 0], y + displacement[0, 1]
    left, top = at_x.floor(), at_y.floor()
    out = torch.zeros(channels, height * width)
    for right, low in ((0, 0), (1, 0), (0, 1), (1, 1)):
        to_x, to_y = left + right, top + low
        share = (1 - (at_x - to_x).abs()) * (1 - (at_y - to_y).abs())
        inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
        index = torch.where(inside, to_y * width + to_x, 0).long().flatten()
        values = image[0] * torch.where(inside, share, 0)
        out.scatter_add_(1, index[None].expand(channels, -1), values.flatten(1))
    return out.view(1, channels, height, width)


def partial_convolution(
    conv: torch.nn.Module, x: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A partial convolution with one mask channel per feature channel.  Returns (out, mask of the output's
    channels).
    """
    covered = F.conv2d(mask, torch.ones_like(conv.weight), padding=1)
    valid = covered.clamp(0, 1)
    ratio = conv.in_channels * 9 / (covered + 1e-8) * valid
    return (F.conv2d(x * mask, conv.weight, padding=1) * ratio + conv.bias[:, None, None]) * valid, valid


def decode(projector: torch.nn.Module, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """x, mask: [1,C,H,W].  Returns [1,3,H,W] in [-1,1]."""
    for block in projector.eblocks:
        a, m = partial_convolution(block.conv_aa, F.relu(block.bn_noise1(x, mask[:, :1])), mask)
        a, m = partial_convolution(block.conv_ab, F.relu(block.bn_noise2(a, m[:, :1])), m)
        shortcut = x if block.identity else block.conv_b(x)
        if block.resample == "Down":
            a, shortcut, m = F.avg_pool2d(a, 3, 2, 1), F.avg_pool2d(shortcut, 3, 2, 1), F.max_pool2d(m, 3, 2, 1)
        elif block.resample == "Up":
            a, shortcut, m = up(a), up(shortcut), F.interpolate(m, scale_factor=2, mode="nearest")
        x, mask = a + shortcut, m
    return torch.tanh(x)


@torch.no_grad()
def published_frame(
    net: torch.nn.Module, image: torch.Tensor, flow: torch.Tensor, *, n: int, n_frames: int
) -> torch.Tensor:
    """Frame n of a clip.  net: build_video(...), plain weights (remove_spectral), not folded, NCHW.   image: [1,3,H,W]
    in [-1,1].   flow: [1,2,H,W], px/frame.
    """
    (start, start_metric), (end, end_metric) = net.encode(image), net.encode(image)
    ahead, back = integrate(flow, [n])[0], integrate(-flow, [n_frames - n])[0]
    share, splatted = 1 - n / n_frames, 0
    for features, metric, displacement, part in (
        (start, start_metric, ahead, share),
        (end, end_metric, back, 1 - share),
    ):
        weight = (metric - metric.max()).exp() * part
        splatted = splatted + splat_sum(torch.cat([features * weight, weight], 1), displacement)
    blended = splatted[:, :-1] / splatted[:, -1:].clamp(min=1e-8)
    return decode(net.projector, blended, (blended != 0).float())
