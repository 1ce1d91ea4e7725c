"""Brush strokes: where they lie, and the compiled loop that lays them on a canvas one over the other."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from text2cinemagraph.softmax_splatting.compiled import compiled

STAMP = (32, 128)  # rows across and columns along a brush stamp
VARIANTS = 8  # stamps of one brush, so that strokes do not repeat
DICE = 8  # random numbers of a stroke: 0-3 its mixture, 4 its opacity, 5 and 6 its length and width, 7 its stamp
STAMP_DIE = 7


@dataclass
class Strokes:
    """n strokes, each an arc with a colour. All lengths in px of the canvas.

    center: [n,2] (x, y).   angle: [n] radians, direction of the tangent at the centre (y down).
    bend: [n] curvature in 1/px, positive to the right of the tangent.   length, width: [n] half of each.
    color: [n,3].   opacity: [n] in [0,1].   dice: [n,8], normal random numbers, see DICE.
    """

    center: np.ndarray
    angle: np.ndarray
    bend: np.ndarray
    length: np.ndarray
    width: np.ndarray
    color: np.ndarray
    opacity: np.ndarray
    dice: np.ndarray

    def __len__(self):
        return len(self.center)

    def points(self, share: float) -> np.ndarray:
        """[n,2]: the points of the arcs at `share` of their half lengths, -1 (start) to 1 (end)."""
        along = self.length * share
        across = 0.5 * self.bend * along**2
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.center + np.stack([along * cos - across * sin, along * sin + across * cos], -1)


@dataclass(frozen=True)
class Coat:
    """How one layer of strokes is laid. All lengths in units.

    length, width: half of each.   spacing: between neighbours.   blur: of the colours they are dipped in.
    tolerance: change of colour at which a stroke ends; None: it does not.   keep: share of the strokes.
    """

    length: float
    width: float
    spacing: float
    blur: float = 0.0
    tolerance: float | None = None
    keep: float = 1.0


def vary(strokes: Strokes, light: float, colors: tuple[float, float, float]) -> None:
    """Give every stroke a mixture of its own: deviations of its brightness (a factor) and of red, green and blue."""
    mixed = strokes.dice[:, :4] * (light, *colors)
    strokes.color = np.clip(strokes.color * (1 + mixed[:, :1]) + mixed[:, 1:], 0, 1)


# ---------------------------------------------------------------- the compiled loop
@compiled
def _lay(canvas, relief, top, bottom, strokes, stamp_of, alphas, heights, tooth, grip, side, glaze, streak):
    """Lay all strokes on rows top..bottom-1 of the canvas, in order.

    strokes: [n,11] float32: x, y, cos, sin, bend, half length, half width, r, g, b, opacity.
    """
    rows, columns = alphas.shape[1], alphas.shape[2]
    height, width = relief.shape
    for k in range(len(strokes)):
        x0, y0, cos, sin = strokes[k, 0], strokes[k, 1], strokes[k, 2], strokes[k, 3]
        bend, length, half = strokes[k, 4], strokes[k, 5], strokes[k, 6]
        red, green, blue, opacity = strokes[k, 7], strokes[k, 8], strokes[k, 9], strokes[k, 10]
        stamp = stamp_of[k]
        sag = 0.5 * bend * length * length
        low, high = min(np.float32(0), sag) - half, max(np.float32(0), sag) + half  # bounds of the second coordinate
        corner_1, corner_2 = length * abs(sin) + low * cos, length * abs(sin) + high * cos
        corner_3, corner_4 = -length * abs(sin) + low * cos, -length * abs(sin) + high * cos
        first = int(np.floor(y0 + min(min(corner_1, corner_2), min(corner_3, corner_4))))
        last = int(np.ceil(y0 + max(max(corner_1, corner_2), max(corner_3, corner_4))))
        own = side[min(max(int(y0), 0), height - 1), min(max(int(x0), 0), width - 1)]
        for y in range(max(first, top), min(last + 1, bottom)):
            dy = np.float32(y) + np.float32(0.5) - y0
            # Where this row crosses the box of the stroke: |along| <= length and low <= across <= high.
            left, right = np.float32(-1e6), np.float32(1e6)
            if abs(cos) > 1e-4:
                a, b = (-length - dy * sin) / cos, (length - dy * sin) / cos
                left, right = max(left, min(a, b)), min(right, max(a, b))
            if abs(sin) > 1e-4:
                a, b = (dy * cos - low) / sin, (dy * cos - high) / sin
                left, right = max(left, min(a, b)), min(right, max(a, b))
            for x in range(max(int(np.floor(x0 + left)), 0), min(int(np.ceil(x0 + right)) + 1, width)):
                dx = np.float32(x) + np.float32(0.5) - x0
                along = dx * cos + dy * sin
                across = dy * cos - dx * sin - np.float32(0.5) * bend * along * along
                u, v = along / length, across / half
                if not (-1 < u < 1 and -1 < v < 1) or side[y, x] != own:
                    continue
                column, row = (u + 1) * np.float32(0.5) * (columns - 1), (v + 1) * np.float32(0.5) * (rows - 1)
                i, j = int(column), int(row)
                p, q = column - i, row - j
                w00, w01, w10, w11 = (1 - q) * (1 - p), (1 - q) * p, q * (1 - p), q * p
                alpha = w00 * alphas[stamp, j, i] + w01 * alphas[stamp, j, i + 1]
                alpha += w10 * alphas[stamp, j + 1, i] + w11 * alphas[stamp, j + 1, i + 1]
                alpha *= opacity
                if grip > 0:  # dry pigment stays on the hills of the paper
                    alpha *= min(max((alpha - tooth[y, x]) * grip, np.float32(0)), np.float32(1))
                if alpha <= 0:
                    continue
                rise = w00 * heights[stamp, j, i] + w01 * heights[stamp, j, i + 1]
                rise += w10 * heights[stamp, j + 1, i] + w11 * heights[stamp, j + 1, i + 1]
                relief[y, x] += alpha * (rise - relief[y, x])
                gain = 1 + streak * (rise - np.float32(0.5))
                if glaze:
                    canvas[y, x, 0] *= 1 - alpha * (1 - red)
                    canvas[y, x, 1] *= 1 - alpha * (1 - green)
                    canvas[y, x, 2] *= 1 - alpha * (1 - blue)
                else:
                    canvas[y, x, 0] += alpha * (red * gain - canvas[y, x, 0])
                    canvas[y, x, 1] += alpha * (green * gain - canvas[y, x, 1])
                    canvas[y, x, 2] += alpha * (blue * gain - canvas[y, x, 2])


BANDS = 2  # threads; every band lays all strokes in the same order, so the result does not depend on their number


def lay(
    canvas: np.ndarray,
    strokes: Strokes,
    brush: tuple[np.ndarray, np.ndarray],
    *,
    relief: np.ndarray,
    side: np.ndarray,
    tooth: np.ndarray | None = None,
    grip: float = 0.0,
    glaze: bool = False,
    streak: float = 0.0,
) -> None:
    """Lay strokes on the canvas, in place and in order.

    canvas: float32 [H,W,3], changed.   relief: float32 [H,W], height of the paint in [0,1], changed.
    brush: (alphas, heights) of VARIANTS stamps, see `bristle_brush`.   side: uint8 [H,W]; a stroke paints only where
    `side` is what it is at the stroke's centre.   tooth: float32 [H,W] in [0,1], the hills (low) and valleys (high) of
    a paper; dry pigment of strength `alpha` stays where alpha > tooth, the sharper the larger `grip`.
    glaze: multiply, as transparent colours do, instead of covering.   streak: how much the bristles vary the colour.
    """
    if not len(strokes):
        return
    packed = np.column_stack(
        [
            *(strokes.center, np.cos(strokes.angle), np.sin(strokes.angle), strokes.bend),
            *(np.maximum(strokes.length, 0.5), np.maximum(strokes.width, 0.5), strokes.color, strokes.opacity),
        ]
    ).astype(np.float32)
    stamp_of = np.int64(np.abs(strokes.dice[:, STAMP_DIE]) * 1000) % len(brush[0])
    tooth = relief if tooth is None else tooth
    height = len(canvas)
    edges = [height * i // BANDS for i in range(BANDS + 1)]
    settings = (packed, stamp_of, *brush, tooth, np.float32(grip), side, glaze, np.float32(streak))
    with ThreadPoolExecutor(BANDS) as pool:
        jobs = [pool.submit(_lay, canvas, relief, top, bottom, *settings) for top, bottom in zip(edges[:-1], edges[1:])]
        for job in jobs:
            job.result()


# ---------------------------------------------------------------- brushes
def _stamps(draw, seed):
    """VARIANTS stamps of draw(rng, u [1,columns], v [rows,1]) -> (alpha, height) as two arrays [VARIANTS,*STAMP]."""
    rng = np.random.default_rng([77, seed])
    v, u = np.linspace(-1, 1, STAMP[0])[:, None], np.linspace(-1, 1, STAMP[1])[None]
    drawn = [draw(rng, u, v) for _ in range(VARIANTS)]
    alphas, heights = (np.ascontiguousarray(np.clip(part, 0, 1), np.float32) for part in zip(*drawn))
    return alphas, heights


def _soft(value, low, high):
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _smooth_noise(rng, shape, sigma_rows, sigma_columns):
    """Blurred white noise, mean 0 and deviation 1."""
    field = rng.standard_normal(shape)
    field = cv2.GaussianBlur(field, (0, 0), sigmaX=max(sigma_columns, 0.01), sigmaY=max(sigma_rows, 0.01))
    return (field - field.mean()) / field.std()


@functools.cache
def bristle_brush() -> tuple[np.ndarray, np.ndarray]:
    """A flat brush of hog's hair: ragged ends, ridges of paint along the hairs and at both sides."""

    def draw(rng, u, v):
        hairs = _smooth_noise(rng, (STAMP[0], 1), 1.5, 0)
        ends = _smooth_noise(rng, (STAMP[0], 2), 1.0, 0) * 0.10
        wobble = 0.04 * _smooth_noise(rng, (1, STAMP[1]), 0, 14)
        side = 1 - _soft(np.abs(v + wobble), 0.72, 0.96)
        along = _soft(u - ends[:, :1], -0.98, -0.84) * (1 - _soft(u + ends[:, 1:], 0.66, 0.97))
        streaks = hairs + 0.6 * _smooth_noise(rng, STAMP, 1.3, 10)
        ridge = np.exp(-(((np.abs(v) - 0.72) / 0.16) ** 2))
        bead = np.exp(-(((u - 0.78) / 0.1) ** 2))  # paint pushed to the end
        height = 0.45 + 0.15 * streaks + 0.22 * ridge + 0.15 * bead
        return side * along, height * side * along

    return _stamps(draw, 0)


@functools.cache
def round_brush() -> tuple[np.ndarray, np.ndarray]:
    """A full round dab with an uneven rim."""

    def draw(rng, u, v):
        rim = 0.06 * _smooth_noise(rng, STAMP, 5, 18)
        radius = np.hypot(u, v) + rim
        alpha = 1 - _soft(radius, 0.74, 0.94)
        return alpha, alpha * (0.75 - 0.35 * radius**2 + 0.05 * _smooth_noise(rng, STAMP, 1, 4))

    return _stamps(draw, 1)


@functools.cache
def chalk() -> tuple[np.ndarray, np.ndarray]:
    """The broad side of a stick of pastel: even, weaker towards its sides; the paper's tooth does the rest."""

    def draw(rng, u, v):
        side = 1 - _soft(np.abs(v + 0.08 * _smooth_noise(rng, (1, STAMP[1]), 0, 10)), 0.6, 1)
        along = 1 - _soft(np.abs(u), 0.75, 1)
        alpha = side * along * (0.82 + 0.16 * _smooth_noise(rng, STAMP, 1.5, 16))
        return alpha, alpha

    return _stamps(draw, 2)


@functools.cache
def pencil_line() -> tuple[np.ndarray, np.ndarray]:
    """A line of graphite: pressed in the middle, lifted at the ends."""

    def draw(rng, u, v):
        pressure = (1 - _soft(np.abs(u), 0.3, 1)) * (0.9 + 0.12 * _smooth_noise(rng, (1, STAMP[1]), 0, 12))
        alpha = pressure * np.exp(-((v / 0.5) ** 2))
        return alpha, alpha

    return _stamps(draw, 3)
