"""Light, sky and land of a procedural scene: everything that stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from text2cinemagraph.mini.canvas import Canvas
from text2cinemagraph.painters.noise import UNIT, mix, noise, smoothstep

WHITE = np.ones(3, np.float32)
PETALS = ((0.95, 0.92, 0.85), (0.95, 0.80, 0.25), (0.85, 0.30, 0.30), (0.72, 0.50, 0.85))


@dataclass(frozen=True)
class Palette:
    """Colours of one light. sky: top, middle, horizon; land: multiplier of everything lit; others are RGB."""

    sky: tuple
    land: tuple
    haze: tuple
    cloud: tuple
    grass: tuple
    tree: tuple  # (dark, light) pairs


GREEN = (
    ((0.06, 0.20, 0.08), (0.30, 0.47, 0.16)),
    ((0.10, 0.22, 0.06), (0.42, 0.52, 0.18)),
    ((0.05, 0.19, 0.12), (0.24, 0.42, 0.22)),
)
RED = (
    ((0.56, 0.22, 0.06), (0.95, 0.58, 0.14)),
    ((0.48, 0.10, 0.05), (0.86, 0.30, 0.12)),
    ((0.58, 0.40, 0.08), (0.96, 0.82, 0.28)),
    ((0.22, 0.28, 0.08), (0.56, 0.56, 0.20)),
)
FROST = (((0.28, 0.37, 0.36), (0.86, 0.91, 0.95)), ((0.36, 0.42, 0.44), (0.92, 0.95, 0.98)))
PALETTES = {
    "day": Palette(
        ((0.16, 0.40, 0.80), (0.42, 0.68, 0.94), (0.82, 0.91, 0.97)),
        (1.0, 1.0, 1.0),
        (0.72, 0.83, 0.94),
        (1.0, 1.0, 1.0),
        (0.34, 0.52, 0.18),
        GREEN,
    ),
    "sunset": Palette(
        ((0.24, 0.22, 0.48), (0.88, 0.45, 0.40), (1.0, 0.78, 0.42)),
        (0.82, 0.60, 0.53),
        (0.96, 0.62, 0.44),
        (1.0, 0.74, 0.56),
        (0.36, 0.50, 0.18),
        GREEN,
    ),
    "night": Palette(
        ((0.03, 0.06, 0.20), (0.08, 0.15, 0.38), (0.28, 0.38, 0.64)),
        (0.50, 0.60, 0.86),
        (0.22, 0.31, 0.54),
        (0.44, 0.50, 0.70),
        (0.32, 0.50, 0.22),
        GREEN,
    ),
    "winter": Palette(
        ((0.48, 0.64, 0.84), (0.72, 0.82, 0.92), (0.93, 0.95, 0.98)),
        (0.98, 1.0, 1.05),
        (0.86, 0.90, 0.95),
        (0.97, 0.98, 1.0),
        (0.90, 0.93, 0.97),
        FROST,
    ),
    "autumn": Palette(
        ((0.30, 0.50, 0.80), (0.64, 0.77, 0.88), (0.97, 0.91, 0.78)),
        (1.02, 0.96, 0.86),
        (0.90, 0.82, 0.70),
        (1.0, 0.97, 0.92),
        (0.60, 0.52, 0.22),
        RED,
    ),
}


class Landscape(Canvas):
    """Paints skies, ridges, meadows, trees and rocks in one of the lights of PALETTES."""

    def __init__(self, seed: int, light: str | None, size: int) -> None:
        super().__init__(seed, size)
        self.light = light

    def _choose_colours(self):
        rng, palette = self.rng, PALETTES[self.light]

        def vary(color):
            return np.clip(np.array(color) * rng.uniform(0.93, 1.07) + rng.normal(0, 0.018, 3), 0, 1.1).astype(
                np.float32
            )

        self.top, self.middle, self.horizon = (vary(c) for c in palette.sky)
        self.land, self.haze, self.cloud = vary(palette.land), vary(palette.haze), np.float32(palette.cloud)
        self.grass, self.trees_palette = np.float32(palette.grass) * np.float32(rng.uniform(0.88, 1.1)), palette.tree
        self.stone = (np.array((0.46, 0.43, 0.40)) * rng.uniform(0.85, 1.1) + rng.normal(0, 0.02, 3)).astype(np.float32)
        self.lit = mix(self.horizon, WHITE, 0.5) * (0.62 if self.light == "night" else 1)  # what glitters
        self.snow = self.light == "winter"
        self.sun_side = 1 if rng.random() < 0.5 else -1
        self.conifers = 0.85 if rng.random() < 0.55 else 0.15  # share of conifers among the trees
        self.snow_line = rng.choice([-0.5, 0.35, 0.7])

    def _draw_sky(self, bottom, disc):
        """Gradient, sun or moon (its disc only if asked for), stars and clouds, down to y = bottom; kept in `sky`."""
        rng, t = self.rng, np.clip(self.y / max(bottom, 1), 0, 1)
        upper = mix(self.top, self.middle, smoothstep(0, 0.55, t))
        lower = mix(self.middle, self.horizon, smoothstep(0.55, 1, t))
        self._drawing = np.where((t < 0.55)[..., None], upper, lower).astype(np.float32)
        self.sun = rng.uniform(0.15, 0.85) * UNIT, bottom * rng.uniform(0.2, 0.9 if self.light == "sunset" else 0.5)
        self._draw_sun_and_stars(bottom, disc)
        self._draw_cloud_layer(bottom)
        self.sky = self._drawing.copy()

    def _draw_sun_and_stars(self, bottom, disc):
        rng = self.rng
        distance = np.hypot(self.x - self.sun[0], self.y - self.sun[1])
        if self.light == "night":
            n = int(rng.integers(60, 160))
            px, py, brightness = rng.random(n) * UNIT, rng.random(n) * bottom, rng.uniform(0.4, 1.6, n)
            stars = np.zeros((self.size, self.size), np.float32)
            stars[np.minimum(py * self.scale, self.size - 1).astype(int), (px * self.scale).astype(int)] = brightness
            self._drawing += (self._blur(stars, 0.6) * 2)[..., None]
            self._drawing += np.exp(-distance / 26)[..., None] * np.array((0.20, 0.23, 0.30), np.float32)
            if disc:
                self._drawing = mix(
                    self._drawing, np.array((0.97, 0.95, 0.82), np.float32), smoothstep(9, 7.5, distance)
                )
        elif self.light == "sunset":
            self._drawing += np.exp(-distance / 44)[..., None] * np.array((0.5, 0.34, 0.13), np.float32)
            if disc:
                self._drawing = mix(
                    self._drawing, np.array((1, 0.95, 0.75), np.float32), smoothstep(13, 10.5, distance)
                )
        elif self.light != "winter":
            self._drawing += np.exp(-distance / 26)[..., None] * 0.45

    def _draw_cloud_layer(self, bottom):
        """Noise on a plane overhead, seen in perspective; lit where it thins out towards the sun."""
        rng = self.rng
        depth = np.clip((bottom - self.y) / UNIT + 0.16, 0.05, 1)
        u, v = (self.x - UNIT / 2) / (depth + 0.12) * 0.62, 62 * np.log(1 / depth) + 8 / depth
        cover = rng.uniform(*self.cloud_cover)
        state = rng.bit_generator.state

        def billow(dx, dy):
            rng.bit_generator.state = state
            big, small = u * 0.55 + dx, v * 1.1 + dy
            return noise(rng, 3.2, big, small) + 0.33 * noise(rng, 2.6, big * 2.4, small * 2.4)

        towards_sun = billow(7 * self.sun_side, -6)
        density = billow(0, 0)
        fine = noise(rng, 1.8, u * 1.6, v * 3)
        alpha = smoothstep(cover - 0.3, cover + 1.5, density + 0.05 * fine)
        shade = np.clip(0.56 + 0.42 * (density - towards_sun) + 0.10 * density + 0.015 * fine, 0, 1)
        dark = mix(self.middle, np.array((0.55, 0.57, 0.62), np.float32), 0.5) * (
            0.5 if self.light == "night" else 0.88
        )
        far = smoothstep(0.16, 0.26, depth)
        self._drawing = mix(self._drawing, mix(dark, self.cloud, shade), np.float32(alpha * 0.94 * (0.45 + 0.55 * far)))

    def _mirrored_sky(self, horizon):
        """The sky upside down below the horizon, stretched to the bottom and blurred, so there is no second moon."""
        return self.sample(self._blur(self.sky, 6), self.x, horizon - (self.y - horizon) * horizon / (UNIT - horizon))

    def _draw_ridge(self, base, height, far, kind):
        """Mountains, hills or a line of trees. base: y of the foot; far: 0 near .. 1 in the haze."""
        rng, x, y = self.rng, self.x, self.y
        curve = self._line(3.0 if kind == "hill" else 2.3)
        if kind == "mountain":
            curve = 0.75 * curve + 0.25 * self._line(1.7)
        top = base - height * curve
        if kind == "forest":
            step = rng.uniform(0.22, 0.4)
            spikes = np.abs((self.column * step + 3 * self._line(1.2)) % 1 - 0.5) * 7 + 2.5 * self._line(0.6)
            top = top - spikes * (1.1 - 0.5 * far)
        top, below = np.float32(top), np.maximum(y - top, 0)
        slope = self._blur(np.gradient(top)[None] * self.scale, 4)[:1] * -self.sun_side
        if kind == "mountain":
            color = self._rocky_slope(below, slope, height, far)
        elif kind == "forest":
            leaf = np.clip(0.3 + 0.22 * noise(rng, 1.6, x * 2.2, y * 1.4) - below / 60, 0, 1)
            color = mix(np.float32(self.trees_palette[0][0]), np.float32(self.trees_palette[0][1]), leaf)
        else:
            turf = noise(rng, 2.0, x * 1.2, y * 2.2)
            color = self.grass * np.clip(0.78 + 0.11 * turf + 0.6 * slope * np.exp(-below / 30), 0.4, 1.2)[..., None]
        label = {"mountain": "mountain", "forest": "tree", "hill": "grass"}[kind]
        self._over(mix(color * self.land, self.haze, 0.62 * far), smoothstep(-self.soft, self.soft, y - top), label)

    def _rocky_slope(self, below, slope, height, far):
        """Colour of a mountain: lit relief, snow above, meadows below."""
        rng, x, y = self.rng, self.x, self.y
        detail = 0.9 + 0.6 * far
        folds = (x + 5 * noise(rng, 3.0, x, y)) * detail + below * 0.35 * self.sun_side
        relief = noise(rng, 2.8, folds, y * detail * 0.75)
        light = self._slope(relief)
        shade = np.clip(0.62 + 0.75 * light + 0.5 * slope * np.exp(-below / 40), 0.18, 1.25)
        color = self.stone * shade[..., None]
        snow = relief * 0.22 + light * 0.3 + (1.15 if self.snow else self.snow_line) - below / (height * 0.6 + 8)
        snow = smoothstep(0.1, 0.5, snow) * np.clip(shade, 0, 1) ** 0.3
        color = mix(color, np.array((0.95, 0.96, 1.0), np.float32) * np.clip(shade * 1.25, 0.4, 1)[..., None], snow)
        if not self.snow:
            meadow = smoothstep(0.35, 0.9, below / (height * 0.8 + 10) + relief * 0.15)
            color = mix(color, self.grass * 0.75 * shade[..., None], meadow * 0.8)
        return color

    def _draw_cliff(self, top, center, width):
        """A wall of rock with ledges and moss, darker beside the fall."""
        rng, x, y = self.rng, self.x, self.y
        relief = noise(rng, 2.4, x * 1.5 + 4 * noise(rng, 3.0, x, y), y * 0.5)
        fine = noise(rng, 1.6, x * 1.6, y * 1.2)
        light = self._slope(relief + 0.35 * fine) * 1.12
        ledges = 0.10 * np.sin(y * 0.35 + 4 * noise(rng, 3.0, x * 0.6, y * 0.6))
        shade = np.clip(0.66 + 0.42 * light + ledges + 0.08 * fine, 0.2, 1.15)
        shade = shade * (1 - 0.35 * np.exp(-(((x - center) / (width * 2.2)) ** 2)))
        below = np.maximum(y - top, 0)
        moss = smoothstep(0.55, 0.9, np.exp(-below / 14) + 0.18 * fine + 0.25 * smoothstep(0.3, 1.2, fine - light))
        green = self.grass * (0.95 if self.snow else 0.72) * np.clip(0.8 + 0.25 * fine, 0.4, 1.2)[..., None]
        color = mix(self.stone * shade[..., None], green, moss) * self.land
        self._over(color, smoothstep(-self.soft, self.soft, y - top), "rock")

    def _draw_headland(self, horizon):
        """A rocky cape on one side."""
        rng, across = self.rng, self.column / UNIT
        across = across if rng.random() < 0.5 else 1 - across
        top = horizon - UNIT * rng.uniform(0.08, 0.22) * smoothstep(0.55, 0.95, across) * (0.7 + 0.5 * self._line(2.0))
        relief = noise(rng, 2.2, self.x * 1.6, self.y * 0.8)
        color = self.stone * np.clip(0.62 + 0.22 * relief, 0.2, 1.1)[..., None]
        color = mix(
            color, self.grass * 0.8, smoothstep(0.5, 0.9, np.exp(-np.maximum(self.y - top, 0) / 9) + 0.1 * relief)
        )
        alpha = smoothstep(-self.soft, self.soft, self.y - top) * (across > 0.5) * (self.y < horizon + 4)
        self._over(mix(color * self.land, self.haze, 0.25), alpha, "mountain")

    def _draw_ground(self, horizon, sand=False):
        """A plane in perspective: meadow, snow or beach, from the horizon to the viewer."""
        rng, x, y = self.rng, self.x, self.y
        near = np.clip((y - horizon) / (UNIT - horizon), 0.004, 1)
        edge = horizon - 2 + 4 * self._line(2.0)
        patches = noise(rng, 2.2, (x - UNIT / 2) / near * 0.6, 60 / near) * 0.6
        fine = noise(rng, 0.9, x, y * 1.6) * (0.35 + 0.65 * near)
        if self.snow and self.edition > 1:
            fine, patches = 0.25 * fine, 0.45 * patches  # snow lies smoothly
        broad = noise(rng, 3.0, x * 0.8, y * 2)
        base = np.array((0.83, 0.74, 0.55), np.float32) if sand else self.grass
        color = base * np.clip(0.82 + 0.12 * patches + 0.09 * fine + 0.08 * broad, 0.35, 1.25)[..., None]
        if not sand and not self.snow:
            dry = np.array((0.56, 0.52, 0.24), np.float32) * np.clip(0.8 + 0.1 * fine, 0.4, 1.2)[..., None]
            color = mix(color, dry, 0.45 * smoothstep(0.2, 1.2, patches + 0.5 * broad))
            if rng.random() < 0.5:
                color = self._flowers(color, near)
        if self.snow:
            color = mix(
                color, np.array((0.62, 0.70, 0.84), np.float32), 0.5 * smoothstep(0, 1.2, -patches - 0.4 * broad)
            )
        color = mix(color * self.land, self.haze, 0.5 * np.exp(-near * 9))
        self._over(color, smoothstep(-1, 1, y - edge), "sand" if sand else "grass")

    def _flowers(self, color, near):
        """Specks of colour in the meadow, in drifts."""
        rng = self.rng
        petal = np.float32(PETALS[rng.integers(len(PETALS))])
        specks = noise(rng, 0.6, self.x, self.y * 1.3) + 0.9 * noise(rng, 3.0, self.x, self.y * 2)
        return mix(color, petal, 0.85 * smoothstep(2.2, 2.8, specks) * smoothstep(0.05, 0.3, near))

    def _draw_trees(self, spots):
        """spots: (x, y of the foot, height) in units."""
        for x, y, height in sorted(spots, key=lambda spot: spot[1]):
            self._shadow(x, y, height * 0.42)
            window = self._window(x - height * 0.62 - 2, y - height * 1.12 - 2, x + height * 0.62 + 2, y + 2)
            paint = self._conifer if self.rng.random() < self.conifers else self._broadleaf
            dark, light = self.trees_palette[self.rng.integers(len(self.trees_palette))]
            gain = np.float32(self.rng.uniform(0.85, 1.12))
            if window is None:
                continue
            u, v = (self.x[window] - x) / (height * 0.5), (y - self.y[window]) / height
            grain = 30 / (height + 12)
            leaf = noise(self.rng, 1.4, self.x[window] * grain, self.y[window] * grain)
            alpha, shade, trunk = paint(u, v, leaf)
            color = mix(np.float32(dark) * gain, np.float32(light) * gain, np.clip(shade, 0, 1))
            color = np.where((trunk & (alpha < 0.5))[..., None], np.array((0.25, 0.17, 0.11), np.float32), color)
            color = mix(color * self.land, self.haze, 0.5 * float(np.clip(1 - height / 40, 0, 0.6)))
            self._over(color, np.maximum(alpha, trunk), "tree", window)

    # A tree's shape at u (-1..1 across), v (0 foot .. 1 top): alpha, brightness of the leaves, where the trunk is.
    def _conifer(self, u, v, leaf):
        tier = (v * 5.5) % 1
        width = (1.02 - v) * 0.62 * (1.12 - 0.45 * tier) * smoothstep(0.08, 0.1, v)
        alpha = smoothstep(-0.1, 0.1, width - np.abs(u) + 0.05 * leaf) * (v > 0.06) * (v < 1.02)
        shade = 0.42 + 0.5 * u * self.sun_side - 0.35 * (1 - tier) + 0.18 * leaf
        return alpha, shade, (np.abs(u) < 0.07) & (v >= 0) & (v < 0.14)

    def _broadleaf(self, u, v, leaf):
        """A crown of several round clumps, each lit by itself."""
        rng, n = self.rng, 8
        angle, spread = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.random(n))
        cx, cy, radius = 0.58 * spread * np.cos(angle), 0.62 + 0.24 * spread * np.sin(angle), rng.uniform(0.3, 0.45, n)
        nearest, shade = np.full(u.shape, 9, np.float32), np.zeros(u.shape, np.float32)
        for k in np.argsort(cy)[::-1]:
            du, dv = (u - cx[k]) / radius[k], (v - cy[k]) / (radius[k] * 0.55)
            distance = np.hypot(du, dv)
            closer = distance < nearest
            shade[closer] = (0.42 + 0.24 * dv + 0.16 * du * self.sun_side)[closer]
            nearest = np.minimum(nearest, distance)
        alpha = smoothstep(1.08, 0.92, nearest + 0.16 * leaf)
        return alpha, shade + 0.45 * (v - 0.62) + 0.20 * leaf, (np.abs(u) < 0.075) & (v >= 0) & (v < 0.5)

    def _draw_rocks(self, spots):
        """spots: (x, y of the foot, height) in units."""
        for x, y, height in sorted(spots, key=lambda spot: spot[1]):
            self._shadow(x, y, height * 1.1)
            window = self._window(x - height * 1.5 - 2, y - height * 1.25 - 2, x + height * 1.5 + 2, y + 2)
            if window is None:
                continue
            relief = noise(self.rng, 2.2, self.x[window] * 2.2, self.y[window] * 2.2)
            u, v = (self.x[window] - x) / (height * 1.15), (y - self.y[window]) / height
            alpha = smoothstep(1.0, 0.9, np.hypot(u, np.maximum(v, 0) * 1.05) + 0.10 * relief) * smoothstep(
                -0.08, 0.06, v
            )
            color = (
                self.stone * np.clip(0.60 + 0.32 * u * self.sun_side + 0.38 * v + 0.14 * relief, 0.2, 1.25)[..., None]
            )
            if self.snow:
                color = mix(color, np.array((0.95, 0.97, 1), np.float32), smoothstep(0.45, 0.7, v + 0.1 * relief))
            self._over(color * self.land, alpha, "rock", window)

    def _shadow(self, x, y, width):
        """A soft dark patch at the foot of a thing, away from the sun."""
        x = x - self.sun_side * width * 0.35
        window = self._window(x - width * 1.6, y - width * 0.5, x + width * 1.6, y + width * 0.5)
        if window is not None:
            distance = np.hypot((self.x[window] - x) / width, (self.y[window] - y) / (width * 0.26))
            self._over(self.grass * self.land * 0.28, 0.38 * smoothstep(1.3, 0.3, distance), None, window)
