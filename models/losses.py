"""What training minimises. Weights (10 each) are the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WEIGHT = 10.0  # of EPE and L1, and by default of feature matching and VGG
VGG_LAYERS = (2, 7, 12, 21, 30)  # torchvision's vgg19.features, each slice ends after a relu*_1
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)
Verdicts = Sequence[Sequence[torch.Tensor]]  # of MultiscaleDiscriminator: a list of maps per scale


def epe(flow: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean length of flow - target over all pixels, masked or not. Both [N,2,H,W], same units."""
    return (flow - target).norm(dim=1).mean()


def gan(verdicts: Verdicts, real: bool, least_squares: bool = True) -> torch.Tensor:
    """GAN loss: how far the discriminator's verdicts are from 1 (real=True) or 0, summed over scales.

    verdicts: lists of MultiscaleDiscriminator; only the last map of each counts.   least_squares: LSGAN, as published;
    False: cross-entropy (no_lsgan), where verdicts are logits.
    """
    total: Any = 0
    for verdict in (scale[-1].float() for scale in verdicts):
        if least_squares:
            total = total + (verdict - float(real)).square().mean()
        else:
            total = total + F.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, float(real)))
    return total


def feature_matching(fake: Verdicts, real: Verdicts) -> torch.Tensor:
    """L1 between the discriminator's feature maps of made and real output, scaled as pix2pixHD does.

    fake, real: lists of MultiscaleDiscriminator; no gradient goes into `real`.
    """
    scale = 4 / (len(fake[0]) - 1) / len(fake)  # n_layers + 1 feature maps on each scale
    total: Any = sum(
        F.l1_loss(a.float(), b.detach().float()) for x, y in zip(fake, real) for a, b in zip(x[:-1], y[:-1])
    )
    return scale * total


class VGGLoss(nn.Module):
    """Perceptual distance of two pictures: weighted L1 of VGG19 features after relu1_1 ... relu5_1.

    Pictures are [N,3,H,W] in [-1,1] and go in as they are, as the authors do (no ImageNet normalisation).
    """

    def __init__(self, features: nn.Sequential) -> None:
        """features: torchvision's `vgg19(...).features`; frozen here."""
        super().__init__()
        ends = (0, *VGG_LAYERS)
        self.slices = nn.ModuleList(features[a:b] for a, b in zip(ends, ends[1:])).eval().requires_grad_(False)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        total: Any = 0
        for weight, part in zip(VGG_WEIGHTS, self.slices):
            image = part(image)
            with torch.no_grad():
                target = part(target)
            total = total + weight * F.l1_loss(image, target)
        return total
