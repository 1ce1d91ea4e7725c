"""Fréchet distance between two sets of feature vectors, and how far to trust it.

|mu1-mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) of the two Gaussians; covariances with n-1.  Everything in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Moments:
    """Mean and covariance of vectors that arrive in portions; memory is one D x D matrix however many come."""

    def __init__(self) -> None:
        self.count, self._mean, self._scatter = 0, None, None

    def add(self, features: np.ndarray) -> Moments:
        """features: [N,D]."""
        features = np.asarray(features, dtype=np.float64)
        if self._mean is None:
            self._mean, self._scatter = np.zeros(features.shape[1]), np.zeros((features.shape[1],) * 2)
        if not len(features):
            return self
        # Chan, Golub and LeVeque 1979: merging centred sums loses no digits, however large the mean.
        mean = features.mean(0)
        centred, gap, total = features - mean, mean - self._mean, self.count + len(features)
        self._scatter += centred.T @ centred + np.outer(gap, gap) * (self.count * len(features) / total)
        self._mean = self._mean + gap * (len(features) / total)
        self.count = total
        return self

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean [D], covariance [D,D]); ValueError for fewer than two vectors, which have no covariance."""
        if self.count < 2:
            raise ValueError(f"{self.count} feature vectors have no covariance; expected 2 or more")
        return self._mean, self._scatter / (self.count - 1)


def frechet_distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians; mean [D], covariance [D,D], any rank.

    With S = A A^T, tr (S1 S2)^1/2 is the sum of the singular values of A1^T A2. That needs no square root of a product,
    whose eigenvalues turn negative or complex when there are fewer vectors than dimensions (relative error there: 1e-9,
    not 5e-8).
    """
    return _distance(mean1, _factor(covariance1), mean2, _factor(covariance2))


def distance_of_features(features1: np.ndarray, features2: np.ndarray) -> float:
    """The same of the Gaussians of two sets of vectors [N,D] and [M,D]; cheap where N, M < D, as no covariance is
    formed.
    """
    return _distance(*_centred(features1), *_centred(features2))


def bootstrap_interval(
    features1: np.ndarray, features2: np.ndarray, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of distance_of_features, (low, high): how it moves when other clips had been taken.

    Sets of one size are taken as pairs (a clip and its imitation) and drawn together.  Drawing with replacement alone
    raises the distance (repeated clips span less), so the draws are centred on the value: only their spread is used.
    """
    value, rng = distance_of_features(features1, features2), np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        first = rng.integers(len(features1), size=len(features1))
        second = first if len(features1) == len(features2) else rng.integers(len(features2), size=len(features2))
        found.append(distance_of_features(features1[first], features2[second]))
    low, high = np.quantile(found, [0.025, 0.975]) - np.mean(found)
    return max(0.0, float(value + low)), float(value + high)


def split_half_floor(real: np.ndarray, fake: np.ndarray, splits: int = 20, seed: int = 0) -> dict[str, Any] | None:
    """What the distance is when there is nothing to find: between two random halves of the real clips.

    real, fake: [N,D], [M,D].  Returns {"n": clips in a half, "mean", "low", "high": over the splits (2.5 and 97.5 %),
    "value_at_n": real half against the fake clips that are not its pairs, also n of them: the one number to compare the
    floor with, because the distance grows as the number of clips falls}, or None for fewer than 4 clips.
    """
    half, rng = min(len(real), len(fake)) // 2, np.random.default_rng(seed)
    if half < 2:
        return None
    floor, value = [], []
    for _ in range(splits):
        order = rng.permutation(min(len(real), len(fake)))
        first, second = order[:half], order[half : 2 * half]
        floor.append(distance_of_features(real[first], real[second]))
        value.append(distance_of_features(real[first], fake[second]))
    low, high = np.quantile(floor, [0.025, 0.975])
    return {
        "n": half,
        "mean": float(np.mean(floor)),
        "low": float(low),
        "high": float(high),
        "value_at_n": float(np.mean(value)),
    }


def _distance(mean1, factor1, mean2, factor2):
    """From S = A A^T: tr S is the squared norm of A [D,r]."""
    cross = np.linalg.svd(factor1.T @ factor2, compute_uv=False).sum() if factor1.size and factor2.size else 0.0
    return float(np.square(mean1 - mean2).sum() + np.square(factor1).sum() + np.square(factor2).sum() - 2 * cross)


def _factor(covariance):
    """A [D,r] with A A^T = covariance, r its numerical rank."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    kept = values > max(values[-1], 0) * len(values) * np.finfo(np.float64).eps  # the rest is rounding
    return vectors[:, kept] * np.sqrt(values[kept])


def _centred(features):
    """Mean [D] and A [D,r] of vectors [N,D], r = min(N,D)."""
    features = np.asarray(features, dtype=np.float64)
    if len(features) < 2:
        raise ValueError(f"{len(features)} feature vectors have no covariance; expected 2 or more")
    mean = features.mean(0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    if len(centred) > centred.shape[1]:
        centred = np.linalg.qr(centred, mode="r")  # same A A^T, fewer columns
    return mean, centred.T
