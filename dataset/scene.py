"""One procedural landscape: layout, natural picture, labels, mask, flow and looping video.

Lengths of a layout are in units of 1/256 of the side, so one seed gives the same layout at every size.
Arrays are numpy: pictures [H,W,3] RGB in [0,1], flow [2,H,W] px/frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data.hint import DIRECTIONS
from dataset.noise import UNIT, mix, noise, smoothstep

N_FRAMES = 60                           # of a video, as in the Eulerian dataset
KINDS = ("river", "waterfall", "lake", "sea", "clouds")
LIGHTS = ("day", "sunset", "night", "winter", "autumn")
LABELS = ("sky", "mountain", "grass", "tree", "rock", "sand", "river", "waterfall", "lake", "sea")
FLUIDS = {"river": ("river",), "waterfall": ("waterfall", "river"), "lake": ("lake",), "sea": ("sea",), "clouds": ("sky",)}
DIRECTED = 0.5                          # share of the scenes whose captions say where the fluid moves
WHITE = np.ones(3, np.float32)


# ---------------------------------------------------------------- light
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
    "sunset": Palette(((.24, .22, .48), (.88, .45, .40), (1., .78, .42)), (.82, .60, .53), (.96, .62, .44), (1., .74, .56),
                      (.36, .50, .18), GREEN),
    "night": Palette(((.03, .06, .20), (.08, .15, .38), (.28, .38, .64)), (.50, .60, .86), (.22, .31, .54), (.44, .50, .70),
                     (.32, .50, .22), GREEN),
    "winter": Palette(((.48, .64, .84), (.72, .82, .92), (.93, .95, .98)), (.98, 1., 1.05), (.86, .90, .95), (.97, .98, 1.),
                      (.90, .93, .97), FROST),
    "autumn": Palette(((.30, .50, .80), (.64, .77, .88), (.97, .91, .78)), (1.02, .96, .86), (.90, .82, .70), (1., .97, .92),
                      (.60, .52, .22), RED),
}


def direction_phrase(mean_flow):
    """The phrase of data.hint.DIRECTIONS for a mean flow (dx, dy), dy down."""
    angle = np.degrees(np.arctan2(-mean_flow[1], mean_flow[0])) % 360
    for phrase, ranges in DIRECTIONS.items():
        if any(low <= angle < high for low, high in ranges):
            return phrase
    raise AssertionError(f"no phrase covers {angle} degrees")


# ---------------------------------------------------------------- the scene
class Scene:
    """One landscape.

    seed: int >= 0; the same seed gives the same bytes.  kind: one of KINDS, light: one of LIGHTS (None: drawn from the seed).
    size: side of the picture in px.

    image    float32 [H,W,3] in [0,1]     the natural picture
    labels   uint8 [H,W]                  index into LABELS
    mask     bool [H,W]                   True = moves
    flow     float32 [2,H,W]              px/frame, zero outside the mask
    directed bool                         captions name the direction; if not, lake and clouds move left to right,
                                          rivers and seas towards the viewer
    direction str                         phrase of data.hint.DIRECTIONS nearest to the mean flow
    Raises ValueError for an unknown kind or light or a size below 32.
    """

    def __init__(self, seed, kind=None, light=None, size=256):
        if kind not in (None, *KINDS) or light not in (None, *LIGHTS):
            raise ValueError(f"unknown scene {kind}/{light}; expected a kind of {', '.join(KINDS)}; a light of {', '.join(LIGHTS)}")
        if size < 32:
            raise ValueError(f"scene size {size}: expected 32 px or more")
        self.seed, self.size, self.scale = int(seed), int(size), size / UNIT
        rng = self.rng = np.random.default_rng(self.seed)
        drawn = KINDS[rng.integers(len(KINDS))], LIGHTS[rng.integers(len(LIGHTS))]
        self.kind, self.light = kind or drawn[0], light or drawn[1]
        self.column = ((np.arange(size) + .5) / self.scale).astype(np.float32)
        self.x, self.y = np.meshgrid(self.column, self.column)
        self.soft = .8 * max(1, UNIT / size)         # half width of a clean edge
        self.directed = bool(rng.random() < DIRECTED)
        self._choose_colours()
        self._drawing = np.zeros((size, size, 3), np.float32)
        self._fluid, self._alpha = self._drawing, np.zeros((size, size), np.float32)
        self._velocity = np.zeros((size, size, 2), np.float32)       # units/frame, defined outside the mask too
        self.labels = np.zeros((size, size), np.uint8)
        self._compose()
        self.image = self._grade(self._drawing)
        self.mask = np.isin(self.labels, [LABELS.index(name) for name in FLUIDS[self.kind]])
        self.flow = np.ascontiguousarray((self._velocity * self.mask[..., None] * self.scale).transpose(2, 0, 1), np.float32)
        self.mean_flow = self.flow[:, self.mask].mean(1) if self.mask.any() else np.zeros(2, np.float32)
        self.direction = direction_phrase(self.mean_flow)

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

    # ------------------------------------------------------------ drawing on the canvas
    def _over(self, color, alpha, label=None, window=np.s_[:, :]):
        """Paint a colour over everything there is, the fluid too; where alpha > 1/2 the label changes."""
        alpha = np.float32(alpha)
        self._drawing[window] = mix(self._drawing[window], np.float32(color), alpha)
        self._alpha[window] *= 1 - alpha
        if label is not None:
            self.labels[window][np.broadcast_to(alpha, self.labels[window].shape) > .5] = LABELS.index(label)

    def _pour(self, color, alpha, velocity, label):
        """Paint the fluid: colour [H,W,3] and velocity [H,W,2] (units/frame) are defined beyond alpha's shore too."""
        self._fluid, self._alpha = np.float32(color), np.array(np.broadcast_to(alpha, self.labels.shape), np.float32)
        self._velocity = np.float32(velocity)
        self._drawing = mix(self._drawing, self._fluid, self._alpha)
        self.labels[self._alpha > .5] = LABELS.index(label)

    def _window(self, left, top, right, bottom):
        """Slices of a box in units, cut at the picture; None if nothing is left."""
        left, top = (int(max(np.floor(v * self.scale), 0)) for v in (left, top))
        right, bottom = (int(min(np.ceil(v * self.scale), self.size)) for v in (right, bottom))
        return np.s_[top:bottom, left:right] if right - left > 1 and bottom - top > 1 else None

    def sample(self, field, x, y, border=cv2.BORDER_REFLECT):
        """Look a map [H,W] or [H,W,C] up at positions x, y in units, bilinear."""
        x, y = np.float32(x * self.scale - .5), np.float32(y * self.scale - .5)
        return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=border)

    def _blur(self, field, sigma):
        return cv2.GaussianBlur(np.float32(field), (0, 0), max(sigma * self.scale, .3))

    def _slope(self, field):
        """Brightness of a relief lit from the sun's side."""
        return cv2.Sobel(self._blur(field, .8), cv2.CV_32F, 1, 0) * (.25 * self.scale * self.sun_side)

    def _line(self, beta=2.):
        """A random curve over the picture's columns, 0..1, rough for small beta."""
        k = np.arange(1, UNIT)
        real, imaginary = self.rng.standard_normal((2, UNIT - 1)) * k ** (-beta / 2)
        curve = np.fft.irfft(np.r_[0, real + 1j * imaginary], 2 * UNIT)[:UNIT]
        curve = (curve - curve.min()) / (np.ptp(curve) + 1e-6)
        return np.interp(self.column, np.arange(UNIT) + .5, curve).astype(np.float32)

    def _at(self, curve, x):
        """Value at x (units) of a curve over the columns (or, if given y, over the rows)."""
        return float(np.interp(x, self.column, np.asarray(curve).ravel()))

    @staticmethod
    def _grade(picture):
        """A gentle contrast curve; every pixel by itself, so it changes nothing about the motion."""
        picture = np.clip(picture, 0, 1.4)
        return np.clip(picture - .24 * (picture - .5) * (np.abs(picture - .5) - .5), 0, 1).astype(np.float32)

    # ------------------------------------------------------------ composition
    def _compose(self):
        rng, kind = self.rng, self.kind
        self.horizon_y = UNIT * (rng.uniform(.55, .75) if kind == "clouds" else rng.uniform(.34, .5))
        self._draw_sky(self.horizon_y + 8)
        self.backdrop = str(rng.choice(["mountain", "hill", "forest"], p=[.6, .2, .2]))
        if kind == "sea":
            self.backdrop = "sky"
        elif kind == "waterfall":
            if rng.random() < .7:
                self._draw_ridge(self.horizon_y + 4, UNIT * rng.uniform(.15, .28), rng.uniform(.5, .9), self.backdrop)
        else:
            for i in range(int(rng.integers(1, 3))):
                self._draw_ridge(self.horizon_y + 3 + 3 * i, UNIT * rng.uniform(.12, .32) / (1 + .7 * i), .85 - .4 * i, self.backdrop)
            if rng.random() < .6:
                self._draw_ridge(self.horizon_y + 5, UNIT * rng.uniform(.03, .08), .3, "forest")
        getattr(self, f"_draw_{kind}")(self.horizon_y)

    def _draw_sky(self, bottom):
        rng, t = self.rng, np.clip(self.y / max(bottom, 1), 0, 1)
        upper = mix(self.top, self.middle, smoothstep(0, .55, t))
        self._drawing = np.where((t < .55)[..., None], upper, mix(self.middle, self.horizon, smoothstep(.55, 1, t))).astype(np.float32)
        self.sun = rng.uniform(.15, .85) * UNIT, bottom * rng.uniform(.2, .9 if self.light == "sunset" else .5)
        self._draw_sun_and_stars(bottom)
        self._draw_cloud_layer(bottom)
        self.sky = self._drawing.copy()
        if self.kind == "clouds":
            speed, sign, tilt = rng.uniform(.7, 1.6), 1, rng.uniform(-.06, .0)
            if self.directed:
                sign, tilt = rng.choice([-1, 1]), rng.uniform(-.6, .35)
            near = np.clip(1 - self.y / bottom, 0, 1)
            self._pour(self.sky, 1., np.stack([sign * speed * (.25 + .75 * near), speed * tilt * (.15 + .85 * near)], -1), "sky")

    def _draw_sun_and_stars(self, bottom):
        """The sky of moving clouds has no disc: it would drift with them."""
        rng, still = self.rng, self.kind != "clouds"
        distance = np.hypot(self.x - self.sun[0], self.y - self.sun[1])
        if self.light == "night":
            n = int(rng.integers(60, 160))
            px, py, brightness = rng.random(n) * UNIT, rng.random(n) * bottom, rng.uniform(.4, 1.6, n)
            stars = np.zeros((self.size, self.size), np.float32)
            stars[np.minimum(py * self.scale, self.size - 1).astype(int), (px * self.scale).astype(int)] = brightness
            self._drawing += (self._blur(stars, .6) * 2)[..., None]
            self._drawing += np.exp(-distance / 26)[..., None] * np.array((.20, .23, .30), np.float32)
            if still:
                self._drawing = mix(self._drawing, np.array((.97, .95, .82), np.float32), smoothstep(9, 7.5, distance))
        elif self.light == "sunset":
            self._drawing += np.exp(-distance / 44)[..., None] * np.array((.5, .34, .13), np.float32)
            if still:
                self._drawing = mix(self._drawing, np.array((1, .95, .75), np.float32), smoothstep(13, 10.5, distance))
        elif self.light != "winter":
            self._drawing += np.exp(-distance / 26)[..., None] * .45

    def _draw_cloud_layer(self, bottom):
        """Noise on a plane overhead, seen in perspective; lit where it thins out towards the sun."""
        rng = self.rng
        depth = np.clip((bottom - self.y) / UNIT + .16, .05, 1)
        u, v = (self.x - UNIT / 2) / (depth + .12) * .62, 62 * np.log(1 / depth) + 8 / depth
        cover = rng.uniform(-.1, .6) if self.kind == "clouds" else rng.uniform(.15, 1.3)
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

    # ------------------------------------------------------------ land
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
            color = self.grass * np.clip(.78 + .11 * noise(rng, 2., x * 1.2, y * 2.2) + .6 * slope * np.exp(-below / 30), .4, 1.2)[..., None]
        label = {"mountain": "mountain", "forest": "tree", "hill": "grass"}[kind]
        self._over(mix(color * self.land, self.haze, .62 * far), smoothstep(-self.soft, self.soft, y - top), label)

    def _rocky_slope(self, below, slope, height, far):
        """Colour of a mountain: lit relief, snow above, meadows below."""
        rng, x, y = self.rng, self.x, self.y
        detail = .9 + .6 * far
        relief = noise(rng, 2.8, (x + 5 * noise(rng, 3., x, y)) * detail + below * .35 * self.sun_side, y * detail * .75)
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
        petal = np.array([(.95, .92, .85), (.95, .80, .25), (.85, .30, .30), (.72, .50, .85)][rng.integers(4)], np.float32)
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

    def _conifer(self, u, v, leaf):
        tier = (v * 5.5) % 1
        width = (1.02 - v) * .62 * (1.12 - .45 * tier) * smoothstep(.08, .1, v)
        alpha = smoothstep(-.1, .1, width - np.abs(u) + .05 * leaf) * (v > .06) * (v < 1.02)
        return alpha, .42 + .5 * u * self.sun_side - .35 * (1 - tier) + .18 * leaf, (np.abs(u) < .07) & (v >= 0) & (v < .14)

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

    # ------------------------------------------------------------ water
    def _streaks(self, texture, velocity, steps):
        """Smear a texture along the flow (line integral convolution), mean 0, deviation 1."""
        speed = np.sqrt((velocity ** 2).sum(-1, keepdims=True)) + 1e-4
        step = np.float32(velocity / speed * np.minimum(speed * 6, 1))
        texture = np.float32(texture)
        total = texture.copy()
        for sign in (1, -1):
            x, y = self.x, self.y
            for _ in range(steps):
                move = self.sample(step, x, y, cv2.BORDER_REPLICATE)
                x, y = x + sign * move[..., 0], y + sign * move[..., 1]
                total += self.sample(texture, x, y)
        return (total - total.mean()) / (total.std() + 1e-6)

    def _water(self, base, texture, amplitude, foam=0.):
        """Colour of water: base darkened in the troughs, glittering on the crests, white where foam (0..1) gathers."""
        amplitude = amplitude[..., None] if np.ndim(amplitude) == 2 else amplitude
        crest, trough = np.clip(texture, 0, 3)[..., None], np.clip(-texture, 0, 3)[..., None]
        color = base * (1 - amplitude * 1.6 * trough) + (self.lit - base) * np.clip(crest * amplitude * 1.5, 0, 1)
        foam = np.broadcast_to(np.float32(foam), texture.shape)
        return mix(color, self.lit * .98, smoothstep(1., 2.4, texture + foam * 2.2) * np.clip(foam * 1.4, 0, 1))

    def _mirrored_sky(self, horizon):
        """The sky upside down below the horizon, stretched to the bottom of the picture; blurred, for a moon has no clear image."""
        return self.sample(self._blur(self.sky, 6), self.x, horizon - (self.y - horizon) * horizon / (UNIT - horizon))

    def _draw_river(self, horizon):
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon)
        near = np.clip((y - horizon) / (UNIT - horizon), .003, 1)
        bend, phase, waves = UNIT * rng.uniform(.06, .28), rng.uniform(0, 6.3), rng.uniform(1.2, 2.6)
        far_x, near_x, width = UNIT * rng.uniform(.3, .7), UNIT * rng.uniform(.15, .85), UNIT * rng.uniform(.14, .3)
        depth = np.log(1 / near + .15)
        center = far_x * (1 - near) + near_x * near + bend * np.sin(phase + waves * depth) * near ** .75
        half = width * near ** 1.05 + .6
        shore = 2.2 * noise(rng, 2.4, x * 1.2, y * 1.2) * near
        across = (x - center) / half
        alpha = smoothstep(-1., 1., half - np.abs(x - center) + shore) * smoothstep(horizon + 1, horizon + 3, y)
        side = np.gradient(center, axis=0) * self.scale + across * np.gradient(half, axis=0) * self.scale
        speed = rng.uniform(1., 2.4) * near * (1 - .6 * np.clip(np.abs(across), 0, 1) ** 2)
        speed = speed / np.sqrt(1 + np.minimum(np.abs(side), 3) ** 2 * .5)
        velocity = np.stack([np.clip(side, -3.5, 3.5) * speed, speed], -1)
        if self.directed and rng.random() < .5:
            velocity = -velocity
        grain = noise(rng, 1.3, (x - center) / (near + .06) * .7, 90 * depth) + .4 * noise(rng, .8, x, y)
        texture = self._streaks(grain, velocity, 7)
        deep = np.array((.08, .28, .40), np.float32) * self.land
        base = mix(deep, self._mirrored_sky(horizon) * .88, np.clip(.78 - .5 * near, 0, 1))
        base = base * (1 - .30 * smoothstep(.7, 1, np.abs(across)))[..., None]
        foam = rng.choice([.0, .35]) * (1 - .4 * near) + .35 * smoothstep(.75, .95, np.abs(across)) * near
        mud = np.array((.55, .56, .60) if self.snow else (.36, .29, .20), np.float32) * self.land
        self._over(mud, .7 * smoothstep(1.25, 1., np.abs(across)) * smoothstep(horizon, horizon + 6, y))
        self._pour(self._water(base, texture, .15, foam), alpha, velocity, "river")
        self._draw_banks(center[:, 0], half[:, 0], horizon)

    def _draw_banks(self, center, half, horizon):
        """Rocks at the water's edge, trees further off."""
        rng, rocks, trees = self.rng, [], []
        for _ in range(int(rng.integers(4, 24))):
            near = rng.uniform(.03, .7)
            y = horizon + near * (UNIT - horizon)
            away = self._at(half, y) + UNIT * rng.uniform(.05, .6) * (near + .12) + 18 * near
            trees.append((self._at(center, y) + rng.choice([-1, 1]) * away, y, UNIT * (.06 + .36 * near) * rng.uniform(.7, 1.25)))
        for _ in range(int(rng.integers(2, 12))):
            near = rng.uniform(.15, 1)
            y = horizon + near * (UNIT - horizon)
            x = self._at(center, y) + rng.choice([-1, 1]) * self._at(half, y) * rng.uniform(.92, 1.15)
            rocks.append((x, y, UNIT * .055 * near * rng.uniform(.6, 1.5)))
        self._draw_rocks(rocks)
        self._draw_trees(trees)

    def _draw_waterfall(self, horizon):
        rng, x, y = self.rng, self.x, self.y
        center, width = UNIT * rng.uniform(.33, .67), UNIT * rng.uniform(.06, .19)
        lip, foot = horizon - UNIT * rng.uniform(-.02, .12), UNIT * rng.uniform(.62, .76)
        side = np.abs(self.column - center) / UNIT
        cliff = lip - UNIT * .02 - self._line(2.2) * UNIT * .12 * smoothstep(.05, .3, side)
        cliff = np.float32(cliff - UNIT * rng.uniform(0, .14) * smoothstep(.06, .3, side))
        self._draw_cliff(cliff, center, width)
        ground = foot - 3 + 5 * self._line(2.) - 10 * smoothstep(.1, .5, side)
        meadow = noise(rng, 1.4, x * 1.2, y * 2) + .6 * noise(rng, 3., x, y * 2)
        self._over(self.grass * self.land * np.clip(.72 + .14 * meadow, .3, 1.2)[..., None], smoothstep(-1.5, 1.5, y - ground), "grass")
        # the fall, and the pool below it; both are defined everywhere, `pooled` leads from one to the other
        t = np.clip((y - lip) / (foot - lip), 0, 1)
        half = width * (.82 + .35 * t ** 1.5) + .9 * noise(rng, 2.6, x * .3, y * .8)
        sway = center + UNIT * .012 * np.sin(t * 2.5 + rng.uniform(0, 6))
        across = (x - sway) / half
        fall = smoothstep(-self.soft, self.soft, half - np.abs(x - sway)) * smoothstep(lip - 3, lip, y + 2 * np.abs(across))
        fall = fall * smoothstep(foot + 7, foot + 1, y + 5 * across ** 2)
        away = np.clip((y - foot + 6) / (UNIT - foot + 6), 0, 1)
        pool_x = center + UNIT * rng.uniform(-.18, .18) * away ** 1.3
        pool_half = (width * 1.4 + UNIT * rng.uniform(.04, .14)) * smoothstep(-.06, .12, away) ** .6 + UNIT * rng.uniform(-.08, .2) * away
        shores = [8 * (self._line(2.6) - .5)[:, None] for _ in range(2)]        # one smooth curve per bank
        pool_half = pool_half + np.where(x < pool_x, *shores)
        pool_across = (x - pool_x) / pool_half
        pool = smoothstep(-1, 1, pool_half - np.abs(x - pool_x)) * smoothstep(foot - 6, foot - 3, y)
        pooled = smoothstep(foot - 2, foot + 10, y)
        speed = rng.uniform(1.6, 3.)
        falling = np.stack([.12 * across * speed * t, speed * (.55 + .6 * t)], -1)
        dx, dy = x - center, (y - foot) * 1.8 + 10
        distance = np.hypot(dx, dy) + 1
        spread = speed * .75 * np.exp(-distance / (UNIT * .38)) + .18 * speed * away
        calm = 1 - .5 * np.clip(np.abs(pool_across), 0, 1) ** 2
        spreading = np.stack([dx / distance * spread * calm, np.maximum(dy / distance, .1) * spread * .8], -1)
        edge = np.clip(np.abs(np.where(y < foot, across, pool_across)), 0, 1)
        velocity = mix(falling, spreading, pooled) * (1 - .35 * edge ** 3)[..., None]
        threads = noise(rng, 1., x * 1.9, y * .35) + .5 * noise(rng, .8, x * 1.2, y * .9)
        ripples = noise(rng, 1.8, x * .5, y * 2.2) + .3 * noise(rng, 1., x * .6, y * 1.5)
        texture = self._streaks(threads, velocity, 9) * (1 - pooled) + self._streaks(ripples, velocity, 3) * pooled
        white = np.array((.90, .95, .99), np.float32) * mix(self.land, WHITE, .45)
        deep = np.array((.09, .36, .42), np.float32) * self.land
        splash = np.exp(-np.hypot(dx / 1.6, y - foot) / 26)
        pool_color = mix(mix(deep, self._mirrored_sky(foot), .32 + .25 * (1 - away)), white, np.clip(splash * .9, 0, 1))
        fall_color = white * (.88 + .1 * t)[..., None] * (1 - .25 * np.clip(np.abs(across), 0, 1) ** 2)[..., None]
        foam = .55 * np.exp(-np.hypot(dx, (y - foot) * 1.3) / 40) * pooled + .25 * (1 - pooled)
        wet = np.array((.25, .22, .19), np.float32) * self.land
        self._over(wet, .6 * smoothstep(1.2, 1., np.abs(pool_across)) * smoothstep(foot - 8, foot - 2, y))
        color = self._water(mix(fall_color, pool_color, pooled), texture, .17 - .03 * pooled, foam)
        self._pour(color, np.maximum(fall, pool), velocity, "river")
        self.labels[(fall > .5) & (y < foot + 2)] = LABELS.index("waterfall")
        mist = .55 * np.exp(-np.hypot(dx / (width * 1.5 + 8), (y - foot) / 11) ** 2)
        self._over(np.array((.95, .97, 1), np.float32) * mix(self.land, WHITE, .4), np.minimum(mist, .45))
        self._dress_waterfall(cliff, center, width, foot, pool_x[:, 0], pool_half[:, 0])

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
        self._over(mix(self.stone * shade[..., None], green, moss) * self.land, smoothstep(-self.soft, self.soft, y - top), "rock")

    def _dress_waterfall(self, cliff, center, width, foot, pool_x, pool_half):
        """Rocks around the pool, trees on the cliff's edge and at the sides."""
        rng, rocks, trees = self.rng, [], []
        for _ in range(int(rng.integers(6, 18))):
            away = rng.uniform(.05, 1)
            y = foot + away * (UNIT - foot)
            x = self._at(pool_x, y) + rng.choice([-1, 1]) * self._at(pool_half, y) * rng.uniform(.9, 1.2)
            rocks.append((x, y, UNIT * (.02 + .05 * away) * rng.uniform(.6, 1.5)))
        for _ in range(int(rng.integers(2, 16))):
            x, height = rng.uniform(0, UNIT), UNIT * rng.uniform(.06, .15)
            if abs(x - center) > width * 1.3 + height * .4:
                trees.append((x, max(self._at(cliff, x + dx) for dx in (-2, 0, 2)) + 1.5, height))     # on the top line
        sides = []
        for _ in range(int(rng.integers(0, 10))):
            x = center + rng.choice([-1, 1]) * UNIT * rng.uniform(.3, .6)
            sides.append((x, foot + rng.uniform(0, 32), UNIT * rng.uniform(.12, .28)))
        self._draw_trees(trees)
        self._draw_rocks(rocks)
        self._draw_trees(sides)

    def _draw_lake(self, horizon):
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon)
        far, close = horizon + UNIT * rng.uniform(.02, .07), UNIT * rng.uniform(.72, .98)
        far_shore = far + UNIT * .02 * self._line(2.4)
        near_shore = close - UNIT * rng.uniform(.05, .2) * self._line(2.8)
        near_shore = near_shore + UNIT * .25 * ((self.column - UNIT * rng.uniform(.3, .7)) / UNIT) ** 2 * rng.choice([-1, 0, .6])
        self._draw_trees([(tx, self._at(far_shore, tx) + rng.uniform(-3, 1), UNIT * rng.uniform(.05, .12))
                          for tx in rng.uniform(0, UNIT, int(rng.integers(2, 20)))])
        near = np.clip((y - far) / (UNIT - far), .01, 1)
        speed, sign = rng.uniform(.5, 1.3), (rng.choice([-1, 1]) if self.directed else 1)
        velocity = np.stack([sign * speed * (.25 + .75 * near), .12 * speed * near], -1)
        grain = noise(rng, 1.6, (x - UNIT / 2) * .35 / (near + .12), 88 * np.log(near + .04)) + .35 * noise(rng, 1., x * .5, y * 2)
        texture = self._streaks(grain, velocity, 5)
        mirror = np.clip(2 * far_shore - y + texture * 1.3 * (near + .15), 0, UNIT)
        scene = self.sample(self._blur(self._drawing, 1.2), x + texture * .6, mirror, cv2.BORDER_REPLICATE)
        base = mix(scene * .88, np.array((.10, .28, .40), np.float32) * self.land, .12 + .42 * near)
        alpha = smoothstep(-self.soft, self.soft, y - far_shore) * smoothstep(-1, 1, near_shore - y)
        self._pour(self._water(base, texture, .05 + .10 * near), alpha, velocity, "lake")
        self._draw_rocks([(rx, self._at(near_shore, rx) + rng.uniform(-4, 6), UNIT * .035 * rng.uniform(.5, 1.6))
                          for rx in rng.uniform(0, UNIT, int(rng.integers(0, 10)))])
        self._draw_trees([(UNIT * (rng.uniform(-.02, .2) if rng.random() < .5 else rng.uniform(.8, 1.02)), close + rng.uniform(-6, 30),
                           UNIT * rng.uniform(.2, .42)) for _ in range(int(rng.integers(0, 5)))])

    def _draw_sea(self, horizon):
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon, sand=not self.snow)
        self.headland = bool(rng.random() < .45)
        if self.headland:
            self._draw_headland(horizon)
        near = np.clip((y - horizon) / (UNIT - horizon), .003, 1)
        beach, slant = UNIT * rng.uniform(.72, 1.15), rng.uniform(-.4, .4)
        self.beach = bool(beach < UNIT * .95)
        shore = beach + slant * (self.column - UNIT / 2) + UNIT * .05 * (self._line(2.8) - .5)
        speed, angle = rng.uniform(.7, 1.6), rng.uniform(-.25, .25) + slant * .5        # angle 0: towards the viewer
        if self.directed:
            angle = rng.uniform(-np.pi, np.pi)
        velocity = np.stack([speed * np.sin(angle) * (.15 + .85 * near), speed * np.cos(angle) * (.05 + .95 * near) * .8], -1)
        u, v = (x - UNIT / 2) / (near + .05) * .16, np.log(near + .025) * 60
        grain = noise(rng, 1.8, u + .5 * v * slant, v * 2.2) * 1.1 + .40 * noise(rng, 1.2, u * 2.2, v * 5)
        texture = np.float32((grain - grain.mean()) / grain.std())
        deep = np.array((.04, .26, .44), np.float32) * self.land
        shallow = np.array((.25, .64, .66), np.float32) * self.land
        base = mix(deep, self._mirrored_sky(horizon), np.clip(.55 * np.exp(-near * 2.2) + .14, 0, 1))
        out = shore - y
        base = mix(base, shallow, np.exp(-np.maximum(out, 0) / 22) * .7)
        if self.light in ("sunset", "night"):
            path = np.exp(-((x - self.sun[0]) / (10 + 40 * near)) ** 2)
            base = base + (path * .45)[..., None] * mix(self.horizon, WHITE, .4)
        foam = 1.1 * np.exp(-np.abs(out - 4) / 5) + .5 * np.exp(-np.abs(out - 24 - 6 * np.sin(x / 30)) / 4) + .18 * near
        color = self._water(base, texture, .10 + .12 * near, np.clip(foam, 0, 1))
        alpha = smoothstep(-self.soft, self.soft, y - horizon) * smoothstep(-1.5, 1.5, out)
        self._pour(color, alpha, velocity, "sea")
        self._draw_rocks([(rng.uniform(0, UNIT), float(np.clip(beach + rng.uniform(-30, 10), horizon + 20, UNIT)),
                           UNIT * .05 * rng.uniform(.5, 1.8)) for _ in range(int(rng.integers(0, 7)))])

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

    def _draw_clouds(self, horizon):
        """The land under moving clouds; the sky itself is already poured."""
        self._draw_ground(horizon)
        rng, trees = self.rng, []
        for _ in range(int(rng.integers(0, 18))):
            near = rng.uniform(.05, .9)
            trees.append((rng.uniform(0, UNIT), horizon + near * (UNIT - horizon), UNIT * (.06 + .24 * near) * rng.uniform(.7, 1.3)))
        self._draw_trees(trees)

    # ------------------------------------------------------------ motion
    def video(self, n_frames=N_FRAMES):
        """Frames 0..n-1 of a seamless loop, uint8 [H,W,3]; frame n would be frame 0.

        The whole colour of the fluid moves with the flow: n frames forward from the picture, fading into the picture
        that arrives backward from frame n (weights 1 - n/N and n/N; what comes from outside the picture counts little,
        as nobody can know it). Detail keeps its contrast while the two overlap.
        """
        behind, ahead = self._paths(n_frames, -1), self._paths(n_frames, 1)
        smooth = self._blur(self._fluid, 6)
        detail = self._fluid - smooth
        yield np.uint8(self.image * 255)
        for n in range(1, n_frames):
            past, future = behind[n], ahead[n_frames - n]
            old, new = (1 - n / n_frames) * self._known(*past), n / n_frames * self._known(*future)
            old, new = old / (old + new), new / (old + new)
            base = mix(self.sample(smooth, *past), self.sample(smooth, *future), new)
            moved = mix(self.sample(detail, *past), self.sample(detail, *future), new)
            fluid = base + moved / np.hypot(old, new)[..., None]
            yield np.uint8(self._grade(self._drawing + self._alpha[..., None] * (fluid - self._fluid)) * 255)

    def _known(self, x, y):
        """1 inside the picture, falling to nearly 0 at 16 units outside."""
        return smoothstep(-16, 0, np.minimum.reduce([x, y, UNIT - x, UNIT - y])) + 1e-3

    def _paths(self, n_frames, sign):
        """Where every pixel came from (sign -1) or goes to (+1) after 0..n frames: list of (x, y) in units."""
        x, y, paths = self.x, self.y, [(self.x, self.y)]
        for _ in range(n_frames - 1):
            move = self.sample(self._velocity, x, y, cv2.BORDER_REPLICATE)
            x, y = x + sign * move[..., 0], y + sign * move[..., 1]
            paths.append((x, y))
        return paths
