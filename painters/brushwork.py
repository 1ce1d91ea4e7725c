"""Looks made of brush strokes: oil, starry."""

import cv2
import numpy as np
from text2cinemagraph.painters.easel import Easel, lit, saturate
from text2cinemagraph.painters.strokes import Coat, bristle_brush, lay, vary

OIL = (
    Coat(16.0, 6.0, 6.0, blur=3.0, tolerance=0.25),
    Coat(11.0, 3.6, 3.4, blur=1.8, tolerance=0.13),
    Coat(6.5, 2.0, 1.9, blur=0.9, tolerance=0.11),
    Coat(3.6, 1.0, 1.0, blur=0.4, tolerance=0.10),
)


def oil(easel: Easel) -> np.ndarray:
    """Oil on canvas: from broad strokes to fine ones where there is something to see, thick paint lit from the left."""
    colors = np.clip(saturate(easel.study, 1.25), 0, 1)
    canvas = np.empty_like(easel.picture)
    canvas[:] = cv2.resize(easel.study_blur(colors, 5), canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 0.85
    relief = np.zeros(canvas.shape[:2], np.float32)
    for coat in OIL:
        wanted = None
        if coat.width < 3:  # fine strokes only where the broad ones lost something (Hertzmann, SIGGRAPH 1998)
            lost = np.abs(easel.shrunk(canvas) - easel.study_blur(colors, coat.blur)).max(-1)
            wanted = np.clip(easel.study_blur(lost, coat.width) / 0.06 - 0.7, 0, 1)
        strokes = easel.strokes(colors, coat, lines=easel.lines(2.0, flat_angle=0.12), wanted=wanted)
        vary(strokes, 0.07, (0.014, 0.010, 0.016))
        lay(canvas, strokes, bristle_brush(), relief=relief, side=easel.mask, streak=0.25)
    shade, gloss = lit(easel.blur(relief, 0.22), easel.scale, 0.42, shine=0.12)
    return canvas * shade[..., None] + gloss[..., None]


STARRY = (
    Coat(13.0, 2.2, 2.6, blur=1.2, tolerance=0.16),
    Coat(9.5, 1.5, 2.0, blur=0.8, tolerance=0.14, keep=0.75),
    Coat(4.5, 0.8, 1.1, blur=0.35, tolerance=0.12),
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
STARS = 11


def starry(easel: Easel) -> np.ndarray:
    """Night blues and yellows in long thick strokes that eddy through sky and water, haloed stars in a known sky."""
    colors, lines = _night(easel), easel.lines(2.2, swirl=1.0)
    if "sky" in easel.labels:
        colors, lines = _stars(easel, colors, lines)
    canvas = np.empty_like(easel.picture)
    canvas[:] = easel.full(easel.study_blur(colors, 2) * np.float32([0.35, 0.42, 0.70]))
    relief = np.zeros(canvas.shape[:2], np.float32)
    for coat in STARRY:
        wanted = np.clip(easel.detail * 1.5 - 0.35, 0, 1) if coat.width < 1 else None
        strokes = easel.strokes(colors, coat, lines=lines, wanted=wanted)
        vary(strokes, 0.16, (0.02, 0.02, 0.035))
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
    night, lines = _night_sky(easel, sky, y), lines.copy()
    for left, top, radius in _star_places(easel, sky, x, y):
        distance = np.hypot(x - left, y - top) / radius
        halo = np.exp(-1.2 * distance**2)
        for ring, light in ((1.5, 0.55), (2.3, 0.28)):
            halo += light * np.exp(-(((distance - ring) / 0.3) ** 2))
        night += (np.float32([1.0, 0.90, 0.44]) - night) * np.clip(halo, 0, 0.95)[..., None]
        around = 2 * np.arctan2(x - left, -(y - top))
        weight = np.float32(np.exp(-((distance / 3.0) ** 4)) * sky)[..., None]
        lines = lines * (1 - weight) + weight * np.stack([np.cos(around), np.sin(around)], -1)
    return np.float32(colors + (night - colors) * sky[..., None]), np.float32(lines)


def _night_sky(easel, sky, y):
    """Deep blue above, lighter towards the horizon, the picture's bright clouds in pale blue: [h,w,3]."""
    height = np.clip(y / max(y[sky > 0.5].max(initial=1), 1), 0, 1)[..., None]
    night = np.float32([0.04, 0.10, 0.36]) * (1 - height) + np.float32([0.17, 0.40, 0.74]) * height
    cloud = np.clip(easel.study_blur(easel.study.mean(-1), 1.5) - 0.40, 0, 1)[..., None]
    return night + (np.float32([0.66, 0.80, 0.90]) - night) * np.clip(cloud * 1.1, 0, 0.8)


def _star_places(easel, sky, x, y):
    """(left, top, radius) in units of up to STARS stars that fit into the sky, the first one the largest."""
    depth = cv2.distanceTransform(np.uint8(sky > 0.5), cv2.DIST_L2, 3) / easel.study_scale
    taken = []
    for k in range(STARS):
        radius = easel.rng.uniform(3.2, 6.5) * (1.7 if k == 0 else 1)
        free = (depth > 1.6 * radius) & (y < 0.75 * easel.height)
        for left, top, other in taken:
            free &= np.hypot(x - left, y - top) > 2.6 * (radius + other)
        spots = np.flatnonzero(free)
        if len(spots):
            spot = spots[easel.rng.integers(len(spots))]
            taken.append((x.flat[spot], y.flat[spot], radius))
    return taken
