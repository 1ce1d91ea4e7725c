"""Noise fields and blends that landscapes and styles are made of; coordinates in units, 1/256 of a picture's side."""

from functools import lru_cache

import cv2
import numpy as np

UNIT = 256  # a layout is 256 x 256 units
FIELD = 512  # side of a noise field, in units


@lru_cache(maxsize=None)
def _noise_field(beta, index):
    """A tileable 1/f^beta field [FIELD, FIELD], mean 0, standard deviation 1, the same in every process."""
    rng = np.random.default_rng([1000, round(beta * 10), index])
    spectrum = np.fft.rfft2(rng.standard_normal((FIELD, FIELD)))
    frequency = np.hypot(np.fft.rfftfreq(FIELD)[None], np.fft.fftfreq(FIELD)[:, None]) * FIELD
    spectrum *= np.maximum(frequency, 1) ** (-beta / 2) * (frequency >= 2)
    field = np.fft.irfft2(spectrum, s=(FIELD, FIELD)).astype(np.float32)
    return (field - field.mean()) / field.std()


def noise(rng: np.random.Generator, beta: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample a random 1/f^beta field (mean 0, deviation 1) at coordinates x, y in units, shifted by random offsets."""
    field = _noise_field(beta, int(rng.integers(4)))
    dx, dy = rng.uniform(0, FIELD, 2)
    x, y = x + np.float32(dx), y + np.float32(dy)
    x, y = x - FIELD * np.floor(x / FIELD), y - FIELD * np.floor(y / FIELD)
    return cv2.remap(field, np.float32(x), np.float32(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high (or the reverse if low > high), smooth between."""
    span = high - low
    t = np.clip((value - low) / (span if abs(span) > 1e-9 else 1e-9), 0, 1)
    return t * t * (3 - 2 * t)


def mix(first: np.ndarray, second: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Blend by weight: a number, or a map [H,W] that is applied to all colours."""
    weight = weight[..., None] if np.ndim(weight) == 2 else weight
    return first * (1 - weight) + second * weight
