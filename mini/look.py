"""Which look has a picture: natural, or one of the painted styles? A small classifier on colours and textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

if TYPE_CHECKING:
    import torch

SIDE = 128  # px: fine enough for strokes, coarse enough not to see what an autoencoder loses


def features(image: torch.Tensor) -> np.ndarray:
    """float [n]: statistics of colour, of contrast at four scales, of flatness and of directions.  image: tensor
    [3,H,W] in [0,1].
    """
    pixels = cv2.resize(image.permute(1, 2, 0).numpy(), (SIDE, SIDE), interpolation=cv2.INTER_AREA).clip(0, 1)
    lab, hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    found = [
        *lab.mean((0, 1)),
        *lab.std((0, 1)),
        *np.histogram(hsv[..., 1], 6, (0, 1), density=True)[0],
        *np.histogram(lab[..., 0], 6, (0, 100), density=True)[0],
    ]
    level = lab / 100
    for _ in range(4):
        smooth = cv2.GaussianBlur(level, (0, 0), 1.0)
        detail, (dy, dx) = level - smooth, np.gradient(level[..., 0])
        strength = np.hypot(dx, dy)
        angles = np.histogram(np.arctan2(dy, dx) % np.pi, 4, (0, np.pi), weights=strength)[0]
        found += [*detail.std((0, 1)), *np.quantile(strength, (0.25, 0.5, 0.75, 0.95)), *angles / (angles.sum() + 1e-6)]
        level = cv2.resize(smooth, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.array(found)


class LookClassifier:
    """Learned from labelled pictures; the same pictures give the same classifier."""

    def __init__(self, images: Sequence[torch.Tensor], looks: Sequence[str]) -> None:
        self._trees = ExtraTreesClassifier(400, min_samples_leaf=2, random_state=0)
        self._trees.fit(np.stack([features(image) for image in images]), list(looks))

    def __call__(self, images):
        """The looks' names."""
        return list(self._trees.predict(np.stack([features(image) for image in images])))
