"""Light, sky and land of a procedural scene: everything that stands still."""

from dataclasses import dataclass

import numpy as np

from dataset.canvas import Canvas
from dataset.noise import UNIT, mix, noise, smoothstep

WHITE = np.ones(3, np.float32)
PETALS = ((.95, .92, .85), (.95, .80, .25), (.85, .30, .30), (.72, .50, .85))


@dataclass(frozen=True)
class Palette:
    """Colours of one light. sky: top, middle, horizon; land: multiplier of everything lit; others are RGB."""

    sky: tuple
    land: tuple
    haze: tuple
    cloud: tuple
    grass: tuple
    tree: tuple                         # (dark, light) pairs


GREEN = (((.06, .20, .08), (.30, .47, .16)), ((.10, .22, .06), (.42, .52, .18)), ((.05, .19, .12), (.24, .42, .22)))
RED = (((.56, .22, .06), (.95, .58, .14)), ((.48, .10, .05), (.86, .30, .12)), ((.58, .40, .08), (.96, .82, .28)),
       ((.22, .28, .08), (.56, .56, .20)))
FROST = (((.28, .37, .36), (.86, .91, .95)), ((.36, .42, .44), (.92, .95, .98)))
PALETTES = {
    "day": Palette(((.16, .40, .80), (.42, .68, .94), (.82, .91, .97)), (1., 1., 1.), (.72, .83, .94), (1., 1., 1.),
                   (.34, .52, .18), GREEN),
    "sunset": Palette(((.24, .22, .48), (.88, .45, .40), (1., .78, .42)), (.82, .60, .53), (.96, .62, .44),
                      (1., .74, .56), (.36, .50, .18), GREEN),
    "night": Palette(((.03, .06, .20), (.08, .15, .38), (.28, .38, .64)), (.50, .60, .86), (.22, .31, .54),
                     (.44, .50, .70), (.32, .50, .22), GREEN),
    "winter": Palette(((.48, .64, .84), (.72, .82, .92), (.93, .95, .98)), (.98, 1., 1.05), (.86, .90, .95),
                      (.97, .98, 1.), (.90, .93, .97), FROST),
    "autumn": Palette(((.30, .50, .80), (.64, .77, .88), (.97, .91, .78)), (1.02, .96, .86), (.90, .82, .70),
                      (1., .97, .92), (.60, .52, .22), RED),
}


class Landscape(Canvas):
    """Paints skies, ridges, meadows, trees and rocks in one of the lights of PALETTES."""

    def __init__(self, seed, light, size):
        super().__init__(seed, size)
        self.light = light

    def _choose_colours(self):
        rng, palette = self.rng, PALETTES[self.light]

        def vary(color):
            return np.clip(np.array(color) * rng.uniform(.93, 1.07) + rng.normal(0, .018, 3), 0, 1.1).astype(np.float32)

        self.top, self.middle, self.horizon = (vary(c) for c in palette.sky)
        self.land, self.haze, self.cloud = vary(palette.land), vary(palette.haze), np.float32(palette.cloud)
        self.grass, self.trees_palette = np.float32(palette.grass) * np.float32(rng.uniform(.88, 1.1)), palette.tree
        self.stone = (np.array((.46, .43, .40)) * rng.uniform(.85, 1.1) + rng.normal(0, .02, 3)).astype(np.float32)
        self.lit = mix(self.horizon, WHITE, .5) * (.62 if self.light == "night" else 1)      # what glitters
        self.snow = self.light == "winter"
        self.sun_side = 1 if rng.random() < .5 else -1
        self.conifers = .85 if rng.random() < .55 else .15           # share of conifers among the trees
        self.snow_line = rng.choice([-.5, .35, .7])

    def _draw_sky(self, bottom, disc):
        """Gradient, sun or moon (its disc only if asked for), stars and clouds, down to y = bottom; kept in `sky`."""
        rng, t = self.rng, np.clip(self.y / max(bottom, 1), 0, 1)
        upper = mix(self.top, self.middle, smoothstep(0, .55, t))
        lower = mix(self.middle, self.horizon, smoothstep(.55, 1, t))
        self._drawing = np.where((t < .55)[..., None], upper, lower).astype(np.float32)
        self.sun = rng.uniform(.15, .85) * UNIT, bottom * rng.uniform(.2, .9 if self.light == "sunset" else .5)
        self._draw_sun_and_stars(bottom, disc)
        self._draw_cloud_layer(bottom)
        self.sky = self._drawing.copy()

    def _draw_sun_and_stars(self, bottom, disc):
        rng = self.rng
        distance = np.hypot(self.x - self.sun[0], self.y - self.sun[1])
        if self.light == "night":
            n = int(rng.integers(60, 160))
            px, py, brightness = rng.random(n) * UNIT, rng.random(n) * bottom, rng.uniform(.4, 1.6, n)
            stars = np.zeros((self.size, self.size), np.float32)
            stars[np.minimum(py * self.scale, self.size - 1).astype(int), (px * self.scale).astype(int)] = brightness
            self._drawing += (self._blur(stars, .6) * 2)[..., None]
            self._drawing += np.exp(-distance / 26)[..., None] * np.array((.20, .23, .30), np.float32)
            if disc:
                self._drawing = mix(self._drawing, np.array((.97, .95, .82), np.float32), smoothstep(9, 7.5, distance))
        elif self.light == "sunset":
            self._drawing += np.exp(-distance / 44)[..., None] * np.array((.5, .34, .13), np.float32)
            if disc:
                self._drawing = mix(self._drawing, np.array((1, .95, .75), np.float32), smoothstep(13, 10.5, distance))
        elif self.light != "winter":
            self._drawing += np.exp(-distance / 26)[..., None] * .45

    def _draw_cloud_layer(self, bottom):
        """Noise on a plane overhead, seen in perspective; lit where it thins out towards the sun."""
        rng = self.rng
        depth = np.clip((bottom - self.y) / UNIT + .16, .05, 1)
        u, v = (self.x - UNIT / 2) / (depth + .12) * .62, 62 * np.log(1 / depth) + 8 / depth
        cover = rng.uniform(*self.cloud_cover)
        state = rng.bit_generator.state

        def billow(dx, dy):
            rng.bit_generator.state = state
            big, small = u * .55 + dx, v * 1.1 + dy
            return noise(rng, 3.2, big, small) + .33 * noise(rng, 2.6, big * 2.4, small * 2.4)

        towards_sun = billow(7 * self.sun_side, -6)
        density = billow(0, 0)
        fine = noise(rng, 1.8, u * 1.6, v * 3)
        alpha = smoothstep(cover - .3, cover + 1.5, density + .05 * fine)
        shade = np.clip(.56 + .42 * (density - towards_sun) + .10 * density + .015 * fine, 0, 1)
        dark = mix(self.middle, np.array((.55, .57, .62), np.float32), .5) * (.5 if self.light == "night" else .88)
        far = smoothstep(.16, .26, depth)
        self._drawing = mix(self._drawing, mix(dark, self.cloud, shade), np.float32(alpha * .94 * (.45 + .55 * far)))

    def _mirrored_sky(self, horizon):
        """The sky upside down below the horizon, stretched to the bottom and blurred, so there is no second moon."""
        return self.sample(self._blur(self.sky, 6), self.x, horizon - (self.y - horizon) * horizon / (UNIT - horizon))

    def _draw_ridge(self, base, height, far, kind):
        """Mountains, hills or a line of trees. base: y of the foot; far: 0 near .. 1 in the haze."""
        rng, x, y = self.rng, self.x, self.y
        curve = self._line(3. if kind == "hill" else 2.3)
        if kind == "mountain":
            curve = .75 * curve + .25 * self._line(1.7)
        top = base - height * curve
        if kind == "forest":
            step = rng.uniform(.22, .4)
            spikes = np.abs((self.column * step + 3 * self._line(1.2)) % 1 - .5) * 7 + 2.5 * self._line(.6)
            top = top - spikes * (1.1 - .5 * far)
        top, below = np.float32(top), np.maximum(y - top, 0)
        slope = self._blur(np.gradient(top)[None] * self.scale, 4)[:1] * -self.sun_side
        if kind == "mountain":
            color = self._rocky_slope(below, slope, height, far)
        elif kind == "forest":
            leaf = np.clip(.3 + .22 * noise(rng, 1.6, x * 2.2, y * 1.4) - below / 60, 0, 1)
            color = mix(np.float32(self.trees_palette[0][0]), np.float32(self.trees_palette[0][1]), leaf)
        else:
            turf = noise(rng, 2., x * 1.2, y * 2.2)
            color = self.grass * np.clip(.78 + .11 * turf + .6 * slope * np.exp(-below / 30), .4, 1.2)[..., None]
        label = {"mountain": "mountain", "forest": "tree", "hill": "grass"}[kind]
        self._over(mix(color * self.land, self.haze, .62 * far), smoothstep(-self.soft, self.soft, y - top), label)

    def _rocky_slope(self, below, slope, height, far):
        """Colour of a mountain: lit relief, snow above, meadows below."""
        rng, x, y = self.rng, self.x, self.y
        detail = .9 + .6 * far
        folds = (x + 5 * noise(rng, 3., x, y)) * detail + below * .35 * self.sun_side
        relief = noise(rng, 2.8, folds, y * detail * .75)
        light = self._slope(relief)
        shade = np.clip(.62 + .75 * light + .5 * slope * np.exp(-below / 40), .18, 1.25)
        color = self.stone * shade[..., None]
        snow = relief * .22 + light * .3 + (1.15 if self.snow else self.snow_line) - below / (height * .6 + 8)
        snow = smoothstep(.1, .5, snow) * np.clip(shade, 0, 1) ** .3
        color = mix(color, np.array((.95, .96, 1.), np.float32) * np.clip(shade * 1.25, .4, 1)[..., None], snow)
        if not self.snow:
            meadow = smoothstep(.35, .9, below / (height * .8 + 10) + relief * .15)
            color = mix(color, self.grass * .75 * shade[..., None], meadow * .8)
        return color

    def _draw_cliff(self, top, center, width):
        """A wall of rock with ledges and moss, darker beside the fall."""
        rng, x, y = self.rng, self.x, self.y
        relief = noise(rng, 2.4, x * 1.5 + 4 * noise(rng, 3., x, y), y * .5)
        fine = noise(rng, 1.6, x * 1.6, y * 1.2)
        light = self._slope(relief + .35 * fine) * 1.12
        ledges = .10 * np.sin(y * .35 + 4 * noise(rng, 3., x * .6, y * .6))
        shade = np.clip(.66 + .42 * light + ledges + .08 * fine, .2, 1.15)
        shade = shade * (1 - .35 * np.exp(-((x - center) / (width * 2.2)) ** 2))
        below = np.maximum(y - top, 0)
        moss = smoothstep(.55, .9, np.exp(-below / 14) + .18 * fine + .25 * smoothstep(.3, 1.2, fine - light))
        green = self.grass * (.95 if self.snow else .72) * np.clip(.8 + .25 * fine, .4, 1.2)[..., None]
        color = mix(self.stone * shade[..., None], green, moss) * self.land
        self._over(color, smoothstep(-self.soft, self.soft, y - top), "rock")

    def _draw_headland(self, horizon):
        """A rocky cape on one side."""
        rng, across = self.rng, self.column / UNIT
        across = across if rng.random() < .5 else 1 - across
        top = horizon - UNIT * rng.uniform(.08, .22) * smoothstep(.55, .95, across) * (.7 + .5 * self._line(2.))
        relief = noise(rng, 2.2, self.x * 1.6, self.y * .8)
        color = self.stone * np.clip(.62 + .22 * relief, .2, 1.1)[..., None]
        color = mix(color, self.grass * .8, smoothstep(.5, .9, np.exp(-np.maximum(self.y - top, 0) / 9) + .1 * relief))
        alpha = smoothstep(-self.soft, self.soft, self.y - top) * (across > .5) * (self.y < horizon + 4)
        self._over(mix(color * self.land, self.haze, .25), alpha, "mountain")

    def _draw_ground(self, horizon, sand=False):
        """A plane in perspective: meadow, snow or beach, from the horizon to the viewer."""
        rng, x, y = self.rng, self.x, self.y
        near = np.clip((y - horizon) / (UNIT - horizon), .004, 1)
        edge = horizon - 2 + 4 * self._line(2.)
        patches = noise(rng, 2.2, (x - UNIT / 2) / near * .6, 60 / near) * .6
        fine = noise(rng, .9, x, y * 1.6) * (.35 + .65 * near)
        broad = noise(rng, 3., x * .8, y * 2)
        base = np.array((.83, .74, .55), np.float32) if sand else self.grass
        color = base * np.clip(.82 + .12 * patches + .09 * fine + .08 * broad, .35, 1.25)[..., None]
        if not sand and not self.snow:
            dry = np.array((.56, .52, .24), np.float32) * np.clip(.8 + .1 * fine, .4, 1.2)[..., None]
            color = mix(color, dry, .45 * smoothstep(.2, 1.2, patches + .5 * broad))
            if rng.random() < .5:
                color = self._flowers(color, near)
        if self.snow:
            color = mix(color, np.array((.62, .70, .84), np.float32), .5 * smoothstep(0, 1.2, -patches - .4 * broad))
        color = mix(color * self.land, self.haze, .5 * np.exp(-near * 9))
        self._over(color, smoothstep(-1, 1, y - edge), "sand" if sand else "grass")

    def _flowers(self, color, near):
        """Specks of colour in the meadow, in drifts."""
        rng = self.rng
        petal = np.float32(PETALS[rng.integers(len(PETALS))])
        specks = noise(rng, .6, self.x, self.y * 1.3) + .9 * noise(rng, 3., self.x, self.y * 2)
        return mix(color, petal, .85 * smoothstep(2.2, 2.8, specks) * smoothstep(.05, .3, near))

    def _draw_trees(self, spots):
        """spots: (x, y of the foot, height) in units."""
        for x, y, height in sorted(spots, key=lambda spot: spot[1]):
            self._shadow(x, y, height * .42)
            window = self._window(x - height * .62 - 2, y - height * 1.12 - 2, x + height * .62 + 2, y + 2)
            paint = self._conifer if self.rng.random() < self.conifers else self._broadleaf
            dark, light = self.trees_palette[self.rng.integers(len(self.trees_palette))]
            gain = np.float32(self.rng.uniform(.85, 1.12))
            if window is None:
                continue
            u, v = (self.x[window] - x) / (height * .5), (y - self.y[window]) / height
            grain = 30 / (height + 12)
            leaf = noise(self.rng, 1.4, self.x[window] * grain, self.y[window] * grain)
            alpha, shade, trunk = paint(u, v, leaf)
            color = mix(np.float32(dark) * gain, np.float32(light) * gain, np.clip(shade, 0, 1))
            color = np.where((trunk & (alpha < .5))[..., None], np.array((.25, .17, .11), np.float32), color)
            color = mix(color * self.land, self.haze, .5 * float(np.clip(1 - height / 40, 0, .6)))
            self._over(color, np.maximum(alpha, trunk), "tree", window)

    # A tree's shape at u (-1..1 across), v (0 foot .. 1 top): alpha, brightness of the leaves, where the trunk is.
    def _conifer(self, u, v, leaf):
        tier = (v * 5.5) % 1
        width = (1.02 - v) * .62 * (1.12 - .45 * tier) * smoothstep(.08, .1, v)
        alpha = smoothstep(-.1, .1, width - np.abs(u) + .05 * leaf) * (v > .06) * (v < 1.02)
        shade = .42 + .5 * u * self.sun_side - .35 * (1 - tier) + .18 * leaf
        return alpha, shade, (np.abs(u) < .07) & (v >= 0) & (v < .14)

    def _broadleaf(self, u, v, leaf):
        """A crown of several round clumps, each lit by itself."""
        rng, n = self.rng, 8
        angle, spread = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.random(n))
        cx, cy, radius = .58 * spread * np.cos(angle), .62 + .24 * spread * np.sin(angle), rng.uniform(.3, .45, n)
        nearest, shade = np.full(u.shape, 9, np.float32), np.zeros(u.shape, np.float32)
        for k in np.argsort(cy)[::-1]:
            du, dv = (u - cx[k]) / radius[k], (v - cy[k]) / (radius[k] * .55)
            distance = np.hypot(du, dv)
            closer = distance < nearest
            shade[closer] = (.42 + .24 * dv + .16 * du * self.sun_side)[closer]
            nearest = np.minimum(nearest, distance)
        alpha = smoothstep(1.08, .92, nearest + .16 * leaf)
        return alpha, shade + .45 * (v - .62) + .20 * leaf, (np.abs(u) < .075) & (v >= 0) & (v < .5)

    def _draw_rocks(self, spots):
        """spots: (x, y of the foot, height) in units."""
        for x, y, height in sorted(spots, key=lambda spot: spot[1]):
            self._shadow(x, y, height * 1.1)
            window = self._window(x - height * 1.5 - 2, y - height * 1.25 - 2, x + height * 1.5 + 2, y + 2)
            if window is None:
                continue
            relief = noise(self.rng, 2.2, self.x[window] * 2.2, self.y[window] * 2.2)
            u, v = (self.x[window] - x) / (height * 1.15), (y - self.y[window]) / height
            alpha = smoothstep(1., .9, np.hypot(u, np.maximum(v, 0) * 1.05) + .10 * relief) * smoothstep(-.08, .06, v)
            color = self.stone * np.clip(.60 + .32 * u * self.sun_side + .38 * v + .14 * relief, .2, 1.25)[..., None]
            if self.snow:
                color = mix(color, np.array((.95, .97, 1), np.float32), smoothstep(.45, .7, v + .1 * relief))
            self._over(color * self.land, alpha, "rock", window)

    def _shadow(self, x, y, width):
        """A soft dark patch at the foot of a thing, away from the sun."""
        x = x - self.sun_side * width * .35
        window = self._window(x - width * 1.6, y - width * .5, x + width * 1.6, y + width * .5)
        if window is not None:
            distance = np.hypot((self.x[window] - x) / width, (self.y[window] - y) / (width * .26))
            self._over(self.grass * self.land * .28, .38 * smoothstep(1.3, .3, distance), None, window)
