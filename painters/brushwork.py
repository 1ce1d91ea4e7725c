"""Looks made of brush strokes: oil, starry."""

import cv2
import numpy as np
from text2cinemagraph.painters.easel import lit, saturate
from text2cinemagraph.painters.strokes import bristle_brush, lay


def oil(easel):
    """Oil on canvas: from broad strokes to fine ones where there is something to see, thick paint lit from the left."""
    colors = np.clip(saturate(easel.study, 1.25), 0, 1)
    canvas = np.empty_like(easel.picture)
    canvas[:] = cv2.resize(easel.study_blur(colors, 5), canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 0.85
    relief = np.zeros(canvas.shape[:2], np.float32)
    lines = easel.lines(2.0, flat_angle=0.12)
    for length, width, spacing, blur, tolerance in LAYERS:
        dipped = easel.study_blur(colors, blur)
        wanted = None
        if width < 3:
            lost = np.abs(easel.shrunk(canvas) - dipped).max(-1)
            wanted = np.clip(easel.study_blur(lost, width) / 0.06 - 0.7, 0, 1)
        strokes = easel.strokes(
            dipped, length=length, width=width, spacing=spacing, lines=lines, tolerance=tolerance, wanted=wanted
        )
        mixed = strokes.dice[:, :4] * (0.07, 0.014, 0.010, 0.016)  # never twice the same mixture
        strokes.color = np.clip(strokes.color * (1 + mixed[:, :1]) + mixed[:, 1:], 0, 1)
        lay(canvas, strokes, bristle_brush(), relief=relief, side=easel.mask, streak=0.25)
    shade, gloss = lit(easel.blur(relief, 0.22), easel.scale, 0.42, shine=0.12)
    return canvas * shade[..., None] + gloss[..., None]


# half length, half width, spacing, blur of the colours (units), tolerance
LAYERS = (
    (16.0, 6.0, 6.0, 3.0, 0.25),
    (11.0, 3.6, 3.4, 1.8, 0.13),
    (6.5, 2.0, 1.9, 0.9, 0.11),
    (3.6, 1.0, 1.0, 0.4, 0.10),
)


# Night colours from dark to light, and the share of the picture that is darker.
NIGHT = np.float32(
    [
        (0.02, 0.04, 0.17),
        (0.05, 0.12, 0.40),
        (0.12, 0.30, 0.66),
        (0.36, 0.58, 0.80),
        (0.70, 0.80, 0.72),
        (0.95, 0.86, 0.45),
        (1.0, 0.95, 0.70),
    ]
)
SHARES = (0, 0.18, 0.42, 0.68, 0.84, 0.94, 1)


def starry(easel):
    """Night blues and yellows in long thick strokes that eddy through sky and water, haloed stars in a known sky."""
    colors, lines = _night(easel), easel.lines(2.2, swirl=1.0)
    if "sky" in easel.labels:
        colors, lines = _stars(easel, colors, lines)
    canvas = np.empty_like(easel.picture)
    canvas[:] = easel.full(easel.study_blur(colors, 2) * np.float32([0.35, 0.42, 0.70]))
    relief = np.zeros(canvas.shape[:2], np.float32)
    for length, width, spacing, blur, tolerance, keep in (
        (13.0, 2.2, 2.6, 1.2, 0.16, 1.0),
        (9.5, 1.5, 2.0, 0.8, 0.14, 0.75),
        (4.5, 0.8, 1.1, 0.35, 0.12, 1.0),
    ):
        dipped = easel.study_blur(colors, blur)
        wanted = np.clip(easel.detail * 1.5 - 0.35, 0, 1) if width < 1 else None
        strokes = easel.strokes(
            dipped,
            length=length,
            width=width,
            spacing=spacing,
            lines=lines,
            tolerance=tolerance,
            wanted=wanted,
            keep=keep,
        )
        mixed = strokes.dice[:, :4] * (0.16, 0.02, 0.02, 0.035)
        strokes.color = np.clip(strokes.color * (1 + mixed[:, :1]) + mixed[:, 1:], 0, 1)
        lay(canvas, strokes, bristle_brush(), relief=relief, side=easel.mask, streak=0.25)
    shade, gloss = lit(easel.blur(relief, 0.2), easel.scale, 0.5, shine=0.1)
    return canvas * shade[..., None] + gloss[..., None]


def _night(easel):
    """The study in night colours: by rank of brightness as well as by brightness, so that yellow stays rare."""
    gray = easel.study_blur(easel.study.mean(-1), 0.4)
    levels = np.sort(gray.ravel())[:: max(gray.size // 2000, 1)]
    rank = np.interp(gray, levels, np.linspace(0, 1, len(levels)))
    low, high = np.percentile(gray, (1, 99))
    place = 0.5 * rank + 0.5 * np.clip((gray - low) / (high - low + 1e-6), 0, 1)
    night = np.stack([np.interp(place, SHARES, NIGHT[:, c]) for c in range(3)], -1)
    own = np.clip(saturate(easel.study, 1.9), 0, 1) * 0.9
    return np.float32(np.clip(0.64 * night + 0.36 * own, 0, 1))


def _stars(easel, colors, lines):
    """Stars with rings of light in the sky, strokes running round them. Returns colours and lines of the study."""
    sky = easel.study_blur(easel.shrunk(easel.labels["sky"]), 0.7)
    h, w = sky.shape
    x, y = (v / np.float32(easel.study_scale) for v in np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5))
    depth = cv2.distanceTransform(np.uint8(sky > 0.5), cv2.DIST_L2, 3) / easel.study_scale
    height = np.clip(y / max(y[sky > 0.5].max(initial=1), 1), 0, 1)[..., None]
    night = np.float32([0.04, 0.10, 0.36]) * (1 - height) + np.float32([0.17, 0.40, 0.74]) * height
    cloud = np.clip(easel.study_blur(easel.study.mean(-1), 1.5) - 0.40, 0, 1)[..., None]
    night = night + (np.float32([0.66, 0.80, 0.90]) - night) * np.clip(cloud * 1.1, 0, 0.8)
    doubled = lines.copy()
    taken = []
    for k in range(11):
        radius = easel.rng.uniform(3.2, 6.5) * (1.7 if k == 0 else 1)
        free = (depth > 1.6 * radius) & (y < 0.75 * easel.height)
        for a, b, r in taken:
            free &= np.hypot(x - a, y - b) > 2.6 * (radius + r)
        spots = np.flatnonzero(free)
        if not len(spots):
            continue
        spot = spots[easel.rng.integers(len(spots))]
        a, b = x.flat[spot], y.flat[spot]
        taken.append((a, b, radius))
        distance = np.hypot(x - a, y - b) / radius
        rings = (
            np.exp(-(distance**2) * 1.2)
            + 0.55 * np.exp(-(((distance - 1.5) / 0.3) ** 2))
            + 0.28 * np.exp(-(((distance - 2.3) / 0.3) ** 2))
        )
        night += (np.float32([1.0, 0.90, 0.44]) - night) * np.clip(rings, 0, 0.95)[..., None]
        around = 2 * np.arctan2(x - a, -(y - b))
        weight = np.float32(np.exp(-((distance / 3.0) ** 4)) * sky)[..., None]
        doubled = doubled * (1 - weight) + weight * np.stack([np.cos(around), np.sin(around)], -1)
    colors = colors + (night - colors) * sky[..., None]
    return np.float32(colors), np.float32(doubled)
