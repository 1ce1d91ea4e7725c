"""The first edition of five looks: what the shipped small family was trained on, kept to the byte.

They know square procedural scenes only; the other modules of this room paint any picture and took their place for
everything new. They go when the family is trained anew on the second edition (mini.procedural --edition 2).
"""

from typing import Any

import cv2
import numpy as np
from scipy.spatial import Delaunay
from text2cinemagraph.painters.noise import UNIT, mix, noise, smoothstep

FIRST_LOOKS = ("starry", "oil", "watercolor", "ukiyo", "lowpoly")


def paint_first(scene: Any, style: str, sky: np.ndarray) -> np.ndarray:
    """Paint a scene (mini.scene.Scene) in one of FIRST_LOOKS.  sky: bool [H,W], where it gets stars.

    Returns float32 [H,W,3] in [0,1]; the same scene and style give the same bytes.
    """
    rng = np.random.default_rng([scene.seed, 1 + FIRST_LOOKS.index(style)])
    if style == "starry":
        painted = _starry(scene, rng, sky)
    else:
        painted = {"oil": _oil, "watercolor": _watercolor, "ukiyo": _ukiyo, "lowpoly": _lowpoly}[style](scene, rng)
    return np.clip(painted, 0, 1).astype(np.float32)


def _blur(scene, field, sigma):
    """Gaussian blur, sigma in units."""
    return cv2.GaussianBlur(np.float32(field), (0, 0), max(sigma * scene.scale, 0.3))


def _odd(scene, units):
    """An odd kernel side of about so many units, at least 3 px."""
    return max(3, 2 * round(units * scene.scale / 2) + 1)


def _saturate(picture, gain):
    gray = picture.mean(-1, keepdims=True)
    return np.float32(gray + (picture - gray) * gain)


def _to_bytes(picture):
    return np.uint8(np.clip(picture, 0, 1) * 255)


# ---------------------------------------------------------------- brush strokes
def _stroke_directions(scene, rng, picture, swirl):
    """Unit vectors [H,W,2]: along edges where there are any, along the flow in the fluid, swirling elsewhere."""
    gray = picture.mean(-1)
    gx, gy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    xx, yy, xy = (_blur(scene, product, 4) for product in (gx * gx, gy * gy, gx * gy))  # structure tensor
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    potential = noise(rng, 3.6, scene.x * 0.8, scene.y * 0.8)
    curl = _unit(np.stack([cv2.Sobel(potential, cv2.CV_32F, 0, 1), -cv2.Sobel(potential, cv2.CV_32F, 1, 0)], -1))
    weight = np.clip(coherence / (np.percentile(coherence, 90) + 1e-6), 0, 1) * (1 - 0.55 * swirl)
    edges = np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
    edges *= np.sign((edges * curl).sum(-1, keepdims=True) + 1e-6)  # an edge has no sign: take the swirl's
    strokes = mix(curl, edges, weight)
    flow = scene.flow.transpose(1, 2, 0) / scene.scale
    speed = np.sqrt((flow**2).sum(-1))
    return _unit(mix(strokes, flow / (speed[..., None] + 0.05), np.clip(speed * 2, 0, 0.85)))


def _unit(vectors):
    return np.float32(vectors / (np.sqrt((vectors**2).sum(-1, keepdims=True)) + 1e-3))


def _brush(scene, rng, picture, directions, length, relief):
    """Smear the picture and bristle noise along the strokes (line integral convolution); relief: depth of the paint."""
    bristles = noise(rng, 0.6, scene.x * 0.55, scene.y * 0.55)
    source = np.float32(np.dstack([picture, bristles]))
    total, count = source.copy(), 1
    for sign in (1, -1):
        x, y = scene.x, scene.y
        for _ in range(length):
            step = scene.sample(directions, x, y)
            x, y = x + sign * step[..., 0], y + sign * step[..., 1]
            total += scene.sample(source, x, y)
            count += 1
    total /= count
    paint = total[..., 3] / (total[..., 3].std() + 1e-6)
    ridges = cv2.Sobel(paint, cv2.CV_32F, 1, 1) * 0.25
    return total[..., :3] * (1 + relief * np.clip(paint, -2.2, 2.2) + 0.35 * relief * np.clip(ridges, -2, 2))[..., None]


def _oil(scene, rng):
    """Short strokes, strong colours."""
    base = _saturate(scene.image, 1.45) + 0.02
    directions = _stroke_directions(scene, rng, base, 0.4)
    smooth = cv2.bilateralFilter(np.float32(np.clip(base, 0, 1)), 5, 0.2, 4)
    painted = _brush(scene, rng, smooth, directions, 6, 0.13)
    return cv2.medianBlur(_to_bytes(painted), 3).astype(np.float32) / 255


# Colours of the starry style from dark to light.
STARRY = np.array(
    [
        (0.02, 0.04, 0.18),
        (0.06, 0.15, 0.46),
        (0.14, 0.34, 0.70),
        (0.42, 0.64, 0.80),
        (0.92, 0.85, 0.45),
        (0.99, 0.95, 0.7),
    ]
)


def _starry(scene, rng, sky):
    """Night blues and yellows, haloed stars, swirling strokes."""
    gray = scene.image.mean(-1)
    gray = (gray - gray.min()) / (np.ptp(gray) + 1e-6)
    blues = np.stack([np.interp(gray, np.linspace(0, 1, len(STARRY)), STARRY[:, c]) for c in range(3)], -1)
    base = mix(blues, _saturate(scene.image, 1.5) * 0.8, 0.40)
    base = np.float32(np.where(sky[..., None], _starry_sky(scene, rng), base))
    directions = _stroke_directions(scene, rng, base, 1.0)
    smooth = cv2.bilateralFilter(np.clip(base, 0, 1), 5, 0.2, 4)
    return _brush(scene, rng, smooth, directions, 8, 0.17)


def _starry_sky(scene, rng):
    """A night sky with the natural one's clouds in pale blue and stars in rings of light."""
    height = np.clip(scene.y / (scene.horizon_y + 1), 0, 1)
    night = mix(np.array((0.05, 0.10, 0.36)), np.array((0.18, 0.40, 0.74)), height)
    night = mix(night, np.array((0.66, 0.79, 0.88)), np.clip(scene.image.mean(-1) - 0.35, 0, 1) * 0.75)
    for _ in range(int(rng.integers(5, 11))):
        x, y, radius = rng.uniform(0, UNIT), rng.uniform(0, scene.horizon_y * 0.85), rng.uniform(4, 9)
        distance = np.hypot(scene.x - x, scene.y - y) / radius
        inner, outer = (np.exp(-(((distance - radii) / 0.35) ** 2)) for radii in (1.6, 2.5))
        halo = np.exp(-(distance**2)) + 0.55 * inner + 0.3 * outer
        night = mix(night, np.array((0.99, 0.89, 0.42)), np.clip(halo, 0, 0.95))
    return night


# ---------------------------------------------------------------- paper and print
def _watercolor(scene, rng):
    """Wobbling flat washes with darker rims on white paper."""
    wobble = [3 * noise(rng, 2.4, scene.x, scene.y) for _ in range(2)]
    wash = scene.sample(scene.image, scene.x + wobble[0], scene.y + wobble[1])
    wash = cv2.medianBlur(_to_bytes(wash), _odd(scene, 7))
    wash = cv2.bilateralFilter(wash, _odd(scene, 9), 50, 9 * scene.scale).astype(np.float32) / 255
    rim = np.abs(cv2.Laplacian(_blur(scene, wash.mean(-1), 1.2), cv2.CV_32F)) * scene.scale**2
    rim = _blur(scene, rim, 0.8)
    pigment = 0.84 + 0.07 * noise(rng, 2.6, scene.x * 0.7, scene.y * 0.7)
    out = 1 - (1 - _saturate(wash, 1.5)) * pigment[..., None]
    out = (
        out * (1 - np.clip(rim * 4, 0, 0.35))[..., None]
        + 0.018 * noise(rng, 0.8, scene.x * 0.8, scene.y * 0.8)[..., None]
    )
    border = np.minimum.reduce([scene.x, scene.y, UNIT - scene.x, UNIT - scene.y])
    border = border + 4 * noise(rng, 2.6, scene.x, scene.y)
    return mix(np.array((0.98, 0.97, 0.94)), out, smoothstep(-1, 5, border))


def _ukiyo(scene, rng):
    """Flat tones, a yellowed paper and dark contours around everything."""
    flat = cv2.medianBlur(_to_bytes(_saturate(scene.image, 1.2)), _odd(scene, 7))
    flat = cv2.bilateralFilter(flat, _odd(scene, 9), 40, 9 * scene.scale).astype(np.float32) / 255
    tone = flat.mean(-1)
    flat = flat * ((0.25 * tone + 0.75 * np.round(tone * 5) / 5) / (tone + 0.02))[..., None]
    paper = flat * np.array((1.016, 0.968, 0.856)) + np.array((0.048, 0.04, 0.008))
    fine = _blur(scene, tone, 1.0)
    contour = np.clip((fine - _blur(scene, fine, 2)) * -14, 0, 1) * 0.7
    labels = scene.labels
    border = (labels != np.roll(labels, 1, 0)) | (labels != np.roll(labels, 1, 1))
    border[0], border[:, 0] = False, False
    contour = np.clip(contour + 0.8 * _blur(scene, border, 0.7 / scene.scale), 0, 1)
    out = mix(paper, np.array((0.12, 0.13, 0.25)), contour * 0.85)
    return out + 0.02 * noise(rng, 0.8, scene.x * 0.4, scene.y * 1.6)[..., None]


def _lowpoly(scene, rng):
    """Triangles between points that gather at edges, one colour each."""
    size = scene.size
    gray = _blur(scene, scene.image.mean(-1), 1.5)
    edges = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    chance = np.cumsum((edges / (edges.max() + 1e-6) + 0.03).ravel().astype(np.float64) ** 0.8)
    index = np.unique(np.searchsorted(chance, rng.random(700) * chance[-1]).clip(0, size * size - 1))
    rim = np.linspace(0, size - 1, 9)
    zero, full = np.zeros(9), np.full(9, size - 1)
    points = [np.stack([index % size, index // size], -1)]
    points += [np.stack(side, -1) for side in ((rim, zero), (rim, full), (zero, rim), (full, rim))]
    points = np.concatenate(points).astype(np.float64)
    triangles = points[Delaunay(points + rng.normal(0, 0.01, points.shape)).simplices]
    centers = triangles.mean(1).round().astype(int).clip(0, size - 1)
    blurred = np.ascontiguousarray(_saturate(_blur(scene, scene.image, 1.6), 1.25))
    colors = blurred[centers[:, 1], centers[:, 0]] * (1 + 0.05 * rng.standard_normal((len(centers), 1)))
    out = blurred.copy()
    for corners, color in zip(np.round(triangles * 16).astype(np.int32), colors):
        cv2.fillConvexPoly(out, corners, color.tolist(), cv2.LINE_8, 4)
    return out
