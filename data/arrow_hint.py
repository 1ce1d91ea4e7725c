"""Dense hints for the direction network: from arrows by the published blend, from words with a shore that stands.

What the network makes of arrows is held to them: keep_arrows.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.arrows import ArrowSamples, pixel

GRID = 160  # px of the short side on which a blend is computed; it is far smoother than that
SHORE = 20 / 512  # of the short side: over this width a flow from words fades to 0 at a shore. Measured: docs/motion.md
ANGLE, SPEED = 20.0, 0.3  # degrees, share: how far a network may leave an arrow
BACK = 0.1  # of the short side: how far around a place that it left the arrows count again
STILL = 0.04  # of the short side: how far around an anchor a network's flow fades to 0


def arrow_hint(mask: torch.Tensor, samples: ArrowSamples) -> torch.Tensor:
    """The velocities along arrows blended over the mask: [2,H,W] px/frame, 0 outside.

    Weights exp(-(distance/sigma)^2), sigma = H / number of arrows, as data.hint.blend_hint has them (Fan et al. 2023):
    the number of arrows, not of samples, so that a long arrow does not shrink them. An anchor weighs as much as an
    arrow, with velocity 0. A connected part of the mask listens to its own arrows; one without any, to all.
    mask: bool [1,H,W].
    """
    size, regions = tuple(mask.shape[-2:]), _regions(mask)
    at_samples = regions[pixel(samples.places, size)]
    at_anchors = regions[pixel(samples.anchors, size)]
    sigma, each = size[0] / samples.arrow_count, len(samples.places) / samples.arrow_count
    hint, listened = torch.zeros(2, *size), np.unique(at_samples)
    for number in (*listened, None):
        own, still = (at_samples == number, at_anchors == number) if number is not None else (slice(None),) * 2
        where = regions == number if number is not None else ~np.isin(regions, listened)
        if where.any():
            places = np.concatenate([samples.places[own], samples.anchors[still]])
            velocities = np.concatenate([samples.velocities[own], np.zeros((len(samples.anchors[still]), 2))])
            weights = np.r_[np.ones(len(samples.places[own])), np.full(len(samples.anchors[still]), each)]
            hint += _blended(places, velocities, weights, sigma, size) * torch.from_numpy(where)
    return hint * mask.cpu()


def _regions(mask):
    """The number of each pixel's connected part of the mask: int [H,W], 0 outside."""
    return cv2.connectedComponents(mask[0].cpu().numpy().astype(np.uint8), connectivity=4)[1]


def _blended(places, velocities, weights, sigma, size):
    """The Gaussian blend [2,H,W] of `velocities` [n,2] at `places` [n,2] (x, y), computed on a grid."""
    from scipy import ndimage

    scale = min(1.0, GRID / min(size))
    height, width = round(size[0] * scale), round(size[1] * scale)
    y, x = np.mgrid[:height, :width]
    y, x = (y + 0.5) * size[0] / height, (x + 0.5) * size[1] / width
    total, sum_of_weights = np.zeros((2, height, width)), np.zeros((height, width))
    nearest = ndimage.distance_transform_edt(_unmarked(places, size, (height, width)))
    nearest = (np.maximum(nearest - 1, 0) / scale) ** 2  # taken off every exponent: far away, exp would be 0 for all
    for (px, py), velocity, weight in zip(places, velocities, weights):
        share = weight * np.exp((nearest - (x - px) ** 2 - (y - py) ** 2) / sigma**2)
        total += share * velocity[:, None, None]
        sum_of_weights += share
    blend = torch.from_numpy(total / sum_of_weights).float()
    return F.interpolate(blend[None], size, mode="bilinear", align_corners=False)[0]


def _unmarked(places, size, shape):
    """bool [h,w]: False in the cells that hold a place."""
    marked = np.ones(shape, bool)
    marked[pixel(places * (shape[1] / size[1], shape[0] / size[0]), shape)] = False
    return marked


def fade_at_shores(flow: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Let a flow [2,H,W] fade to 0 over a few px at the mask's shores; the picture's own border is no shore.

    Over 20 px at 512 px, in a narrow part of the mask over half of the way to its middle, so that a brook still flows.
    mask: bool [1,H,W].
    """
    from scipy import ndimage

    inside = mask[0].cpu().numpy()
    if inside.all():
        return flow
    distance, regions = ndimage.distance_transform_edt(inside), _regions(mask)
    widths = ndimage.maximum(distance, regions, np.arange(regions.max() + 1))[regions]
    width = np.clip(widths / 2, 1, SHORE * min(inside.shape))
    return flow * torch.from_numpy(np.clip(distance / width, 0, 1)).to(flow)


def keep_arrows(flow: torch.Tensor, samples: ArrowSamples, exact: torch.Tensor) -> torch.Tensor:
    """Hold a network's flow [2,H,W] to the arrows: where it leaves one by more than 20 degrees or 30 % of its speed,
    the flow that arrows say is blended back; anchors stand.

    exact: [2,H,W] px/frame, harmonic_flow of the same arrows.
    """
    size, device = tuple(flow.shape[-2:]), flow.device
    flow, short = flow.cpu(), min(flow.shape[-2:])
    y, x = pixel(samples.places, size)
    found, said = flow[:, y, x].T.numpy().astype(np.float64), samples.velocities
    left = leaves_arrows(found, said)
    if left.any():
        far = _distances(samples.places[left], size)
        weight = torch.exp(-((far / (BACK * short)) ** 2)) * (exact != 0).any(0)
        flow = flow + (exact - flow) * weight
        flow[:, y[left], x[left]] = torch.from_numpy(said[left].T).to(flow)
    if len(samples.anchors):
        away = (_distances(samples.anchors, size) - 1.5).clamp(min=0)  # its own pixel and the eight around it
        flow = flow * (1 - torch.exp(-((away / (STILL * short)) ** 2)))
    return flow.to(device)


def leaves_arrows(found: np.ndarray, said: np.ndarray, angle: float = ANGLE, speed: float = SPEED) -> np.ndarray:
    """bool [n]: velocities `found` [n,2] that differ from `said` [n,2] by more than `angle` degrees or `speed` of its
    length.
    """
    cross, dot = found[:, 0] * said[:, 1] - found[:, 1] * said[:, 0], (found * said).sum(1)
    lengths, wanted = np.linalg.norm(found, axis=1), np.linalg.norm(said, axis=1)
    return (np.degrees(np.arctan2(np.abs(cross), dot)) > angle) | (np.abs(lengths - wanted) > speed * wanted)


def _distances(places, size):
    """px from each pixel to the nearest of `places` [n,2] (x, y): float32 [H,W]."""
    from scipy import ndimage

    return torch.from_numpy(ndimage.distance_transform_edt(_unmarked(places, size, size))).float()
