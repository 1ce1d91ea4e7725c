"""Looks made of transparent washes on paper: watercolor, ink."""

import numpy as np
from text2cinemagraph.painters.easel import GRAY, Easel, saturate
from text2cinemagraph.painters.noise import mix, smoothstep

# A wash each: brightness below which it lies, half the width of its edge, how much darker it makes.
WASHES = ((0.88, 0.06, 0.14), (0.72, 0.02, 0.15), (0.58, 0.015, 0.15), (0.44, 0.015, 0.14), (0.30, 0.015, 0.15))
INK_WASHES = ((0.80, 0.16, 0.13), (0.55, 0.12, 0.17), (0.33, 0.06, 0.24), (0.16, 0.04, 0.30))
LONG = (14.0, 32.0)  # units, a contour: shorter ones get no line, from longer ones on it is black


def paper(easel: Easel, grain: float = 0.7) -> np.ndarray:
    """The hills and valleys of a cold-pressed paper, [H,W] about 0, deviation 1."""
    return 0.7 * easel.noise(0.9, grain) + 0.5 * easel.noise(2.0, 1.3 * grain)


def watercolor(easel: Easel) -> np.ndarray:
    """Washes laid over each other from light to dark, dark at their rims, pigment settling in the paper's grain."""
    flat = easel.along(easel.flattened(rounds=3, reach=4.0, tolerance=0.16), easel.lines(1.6), 5.0)
    tone = easel.full(flat @ GRAY)
    color = np.clip(easel.full(saturate(0.7 * flat + 0.3 * easel.study_blur(easel.study, 4), 1.38)), 0.02, 1)
    drift = easel.noise(2.8, 1.3)
    field = np.clip(tone, 0, 1) ** 0.75 + 0.03 * drift  # a lighter key: the paper is the light
    washed, rims = np.full(tone.shape, 0.97, np.float32), np.zeros(tone.shape, np.float32)
    for level, soft, step in WASHES:
        inside = smoothstep(level + soft, level - soft, field)
        washed -= step * inside
        rims += np.clip(inside - easel.blur(inside, 0.9), 0, 1)  # pigment is carried to the rim of a drying wash
    value = 0.7 * washed + 0.3 * field
    painted = color * (value / np.maximum(color @ GRAY, 0.08))[..., None]
    painted = np.clip(painted, 0, 1)
    grain = paper(easel)
    load = 1 + 0.09 * easel.noise(2.6, 1.0) + 0.6 * rims
    density = (1 - painted) * load[..., None]
    density *= 1 + 0.10 * (grain * smoothstep(0.97, 0.6, value))[..., None]
    sheet = np.float32([0.985, 0.975, 0.95]) * (1 + 0.012 * grain)[..., None]
    border = np.minimum(np.minimum(easel.x, easel.width - easel.x), np.minimum(easel.y, easel.height - easel.y))
    painted_over = smoothstep(-0.4, 0.4, border + 1.2 * easel.noise(2.6, 1.0) - 2.6)
    edge = np.clip(painted_over - easel.blur(painted_over, 0.8), 0, 1)
    density *= (painted_over * (1 + 0.5 * edge))[..., None]
    return sheet * (1 - np.clip(density, 0, 1))


def ink(easel: Easel) -> np.ndarray:
    """Ink wash: gray washes from wet to dry on rice paper, and long contours drawn with a pointed brush."""
    flat = easel.flattened(rounds=2, reach=5.0, tolerance=0.15) @ GRAY
    low, high = np.percentile(flat, (2, 97))
    flat = np.clip((flat - low) / (high - low + 1e-6), 0, 1)
    tone = easel.full(flat)
    wet = easel.full(easel.study_blur(flat, 4))
    wobble = 0.025 * easel.noise(2.6, 1.4)
    grain = paper(easel, 0.5)
    dark = np.zeros(tone.shape, np.float32)
    for level, soft, share in INK_WASHES:
        field = (0.5 * wet + 0.5 * tone if level > 0.5 else tone) + wobble
        inside = smoothstep(level + soft, level - soft, field)
        rim = np.clip(inside - easel.blur(inside, 1.3), 0, 1)
        dark += share * (inside + 0.55 * rim)
    dark *= 1 + 0.13 * easel.noise(2.6, 1.6) + 0.07 * grain
    sheet = np.float32([0.955, 0.935, 0.875]) * (1 + 0.02 * easel.noise(1.6, 0.8))[..., None]
    black = np.float32([0.10, 0.105, 0.12])
    painted = sheet * (1 - np.clip(dark, 0, 1)[..., None] * (1 - black))
    edge = easel.contours(0.8, 7.0)
    long = smoothstep(*LONG, easel.lengths(edge > 0.003))  # short ones are left to the washes
    line = smoothstep(0.006, 0.018, easel.full(edge * long))
    dry = smoothstep(
        -2.2, 0.3, easel.noise(1.4, 0.7, (1.5, 1.0)) + 1.5 * easel.noise(2.6, 1.2)
    )  # a brush runs out of ink
    return mix(painted, black, 0.92 * line * (0.7 + 0.3 * dry))
