"""Direction hints: from words to an angle to a flow (inference), from true flow to a sparse guess of it (training)."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

from text2cinemagraph.data.wording import natural_clauses, nearest_phrase

# Degrees, counter-clockwise from "to the right"; upwards is negative dy. Text2Cinemagraph's table, where the word that
# comes first names the stronger half of the quadrant. Two ranges: the first is drawn with probability 1/3, as there.
DIRECTIONS = {
    "left to right": ((0, 10), (350, 360)),
    "left to right, upwards": ((10, 45),),
    "upwards, left to right": ((45, 80),),
    "upwards": ((80, 100),),
    "upwards, right to left": ((100, 135),),
    "right to left, upwards": ((135, 170),),
    "right to left": ((170, 190),),
    "right to left, downwards": ((190, 225),),
    "downwards, right to left": ((225, 260),),
    "downwards": ((260, 280),),
    "downwards, left to right": ((280, 315),),
    "left to right, downwards": ((315, 350),),
}
MIN_PIXELS = 5  # a mask smaller than this gets no hint, as in text2cinemagraph

# "in <phrase> direction" on one line, as whole words: the "in " of "mountain " or "rain " must not start a clause.
_WORDS = "|".join(
    re.sub(", ", "[ \t]*,[ \t]*", phrase).replace(" to ", "[ \t]+to[ \t]+")
    for phrase in sorted(DIRECTIONS, key=len, reverse=True)
)
_CLAUSE = re.compile(rf"\bin[ \t]+({_WORDS})[ \t]+direction\b", re.IGNORECASE)


def find_direction(prompt: str) -> tuple[str | None, str]:
    """Find the first clause "in <phrase> direction" of a prompt, <phrase> being one of DIRECTIONS (case does not
    matter); where there is none, the first natural wording of a direction (data.wording).

    Returns (phrase as in DIRECTIONS, prompt without that clause), or (None, prompt) when there is no such clause.
    """
    found = find_directions(prompt)
    return (found[0].phrase, _without(prompt, found[0])) if found else (None, prompt)


@dataclass(frozen=True)
class Direction:
    """A clause of a prompt.  phrase: one of DIRECTIONS.  start, end: where it stands in the prompt."""

    phrase: str
    start: int
    end: int


def find_directions(prompt: str) -> list[Direction]:
    """All clauses "in <phrase> direction" of a prompt, in order; where there is none, the natural wordings of
    directions (data.wording).
    """
    published = [
        Direction(re.sub(r"[ \t]+", " ", re.sub(r"[ \t]*,[ \t]*", ", ", match.group(1).lower())), *match.span())
        for match in _CLAUSE.finditer(prompt)
    ]
    return published or [Direction(*clause) for clause in natural_clauses(prompt)]


def without_directions(prompt: str) -> str:
    """The prompt without any clause: what s1 draws, because Stable Diffusion would paint the words."""
    while found := find_directions(prompt):
        prompt = _without(prompt, found[0])
    return prompt


def _without(prompt, clause):
    before, after = prompt[: clause.start].rstrip(" \t"), prompt[clause.end :].lstrip(" \t")
    if not before:
        return after.lstrip(" \t,")
    gap = " " if after and after[0] not in ",.;:!?\n" else ""
    return before + gap + after


def sample_angle(phrase: str, seed: int) -> float:
    """Draw an angle in degrees, uniform in the phrase's range, from Python's generator started with `seed`."""
    if phrase not in DIRECTIONS:
        raise ValueError(f"unknown direction {phrase!r}; expected one of: {'; '.join(DIRECTIONS)}")
    draw, ranges = random.Random(seed), DIRECTIONS[phrase]
    if len(ranges) == 1:
        return draw.uniform(*ranges[0])
    return draw.uniform(*ranges[0 if draw.randint(0, 2) == 1 else 1])


def direction_hint(mask: torch.Tensor, angle: float, speed: float = 1.0) -> torch.Tensor:
    """The same velocity everywhere inside a mask: speed * (cos angle, -sin angle), zero outside.

    mask: bool [1,H,W].  angle: degrees.  speed: px/frame.  Returns [2,H,W] px/frame; zeros if fewer than 5 mask pixels.
    """
    import torch

    velocity = torch.tensor([math.cos(math.radians(angle)), -math.sin(math.radians(angle))], device=mask.device) * speed
    mask = mask.bool()
    if int(mask.sum()) < MIN_PIXELS:
        mask = torch.zeros_like(mask)
    return velocity[:, None, None] * mask


def prompt_hint(prompt: str, mask: torch.Tensor, speed: float, seed: int) -> torch.Tensor:
    """The direction clause of a prompt as a hint [2,H,W], `speed` px/frame everywhere inside the mask.

    Raises ValueError where the prompt names no direction.
    """
    phrase, _ = find_direction(prompt)
    if phrase is None:
        raise ValueError(
            f'no direction in the prompt is understood; write e.g. "in {nearest_phrase(prompt)} direction"'
        )
    return direction_hint(mask, sample_angle(phrase, seed), speed)


def blended_hint(flow: torch.Tensor, n_clusters: int, seed: int = 5) -> torch.Tensor:
    """Guess a dense flow from a few points of it, as a user's arrows would: the training hint.

    The moving pixels (motion_mask "average") are clustered by place; the flow at the centres is blended by blend_hint.
    flow: [2,H,W] px/frame.  Returns [2,H,W] float32 px/frame. Fewer moving pixels than clusters: one cluster per pixel;
    none: zeros.  seed 5 is the original's. Source: SLR-SFS (Fan et al. 2023) after Mahapatra & Kulkarni, CVPR 2022.
    """
    import torch
    from text2cinemagraph.data.flow import motion_mask

    mask = motion_mask(flow)
    centers = cluster_centers(mask, n_clusters, seed)
    return blend_hint(flow, centers, mask) if len(centers) else torch.zeros_like(flow)


def cluster_centers(mask: torch.Tensor, n_clusters: int, seed: int = 5) -> np.ndarray:
    """KMeans centres of a mask's pixels: int64 numpy [k,2] (y, x), truncated to pixels; k = min(n_clusters, pixels)."""
    import numpy as np

    y, x = np.nonzero(mask[0].cpu().numpy())
    if len(x) <= n_clusters:
        return np.stack([y, x], axis=1)
    # n_init 10: the default of the scikit-learn the original was written with (1.1.1); newer ones take 1.
    from sklearn.cluster import KMeans

    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(np.stack([x, y], axis=1))
    # The mean of the pixels, not KMeans' own centre: that may lie at 43.9999 where the mean is 44.
    return np.array([[y[labels == i].mean(), x[labels == i].mean()] for i in range(n_clusters)]).astype(np.int64)


def blend_hint(flow: torch.Tensor, centers: np.ndarray, mask: torch.Tensor) -> torch.Tensor:
    """Blend the flow at `centers` (y, x) over the mask, weights exp(-(distance/sigma)^2), sigma = H / number of
    centres.

    flow: [2,H,W] px/frame.  mask: bool [1,H,W].  Returns [2,H,W] float32 px/frame, zero outside the mask.
    """
    import torch

    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sigma = height / len(centers)
    total, weights = torch.zeros(2, height, width), torch.zeros(height, width)
    for cy, cx in centers.tolist():
        weight = torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / sigma**2)
        total += weight * flow[:, cy, cx].float().cpu()[:, None, None]
        weights += weight
    weights[weights == 0] = 1  # too far from every centre for float32
    return (total / weights).to(flow.device) * mask
