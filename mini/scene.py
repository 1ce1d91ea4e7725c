"""One procedural landscape: layout, natural picture, labels, mask, flow and looping video.

Lengths of a layout are in units of 1/256 of the side, so one seed gives the same layout at every size.
Arrays are numpy: pictures [H,W,3] RGB in [0,1], flow [2,H,W] px/frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from text2cinemagraph.data.hint import DIRECTIONS
from text2cinemagraph.mini.canvas import LABELS, N_FRAMES
from text2cinemagraph.mini.landscape import PALETTES, WHITE, Landscape
from text2cinemagraph.mini.things import draw_things
from text2cinemagraph.painters.noise import UNIT, mix, noise, smoothstep

__all__ = ["FLUIDS", "KINDS", "LABELS", "LIGHTS", "N_FRAMES", "Scene", "direction_phrase"]

# What moves in each kind of scene, as labels.
FLUIDS = {
    "river": ("river",),
    "waterfall": ("waterfall", "river"),
    "lake": ("lake",),
    "sea": ("sea",),
    "clouds": ("sky",),
}
KINDS = tuple(FLUIDS)
LIGHTS = tuple(PALETTES)
DRIFTING, CROSSING = 0.3, 0.4  # shares of the second edition: water under moving clouds; rivers seen from the side
DIRECTED = 0.5  # share of the scenes whose captions say where the fluid moves


def direction_phrase(mean_flow: Sequence[float] | np.ndarray) -> str:
    """The phrase of data.hint.DIRECTIONS for a mean flow (dx, dy), dy down."""
    angle = np.degrees(np.arctan2(-mean_flow[1], mean_flow[0])) % 360
    for phrase, ranges in DIRECTIONS.items():
        if any(low <= angle < high for low, high in ranges):
            return phrase
    raise AssertionError(f"no phrase covers {angle} degrees")


@dataclass(frozen=True)
class Basin:
    """Where a falling or resting body of water is: maps [H,W] of its middle's x, half its width, and its alpha."""

    center: np.ndarray
    half: np.ndarray
    alpha: np.ndarray
    along: np.ndarray  # 0 at its upstream end, 1 at the other

    def across(self, x: np.ndarray) -> np.ndarray:
        """-1 at the left bank, 1 at the right."""
        return (x - self.center) / self.half


class Scene(Landscape):
    """One landscape.

    seed: int >= 0; the same seed gives the same bytes.  kind: one of KINDS, light: one of LIGHTS (None: drawn from
    the seed).  size: side of the picture in px, >= 32.

    edition: 1, or 2 with things in the landscape (mini.things) and quieter snow.
    things   tuple of names               what stands there in the second edition: tree, house, boat, bridge
    image    float32 [H,W,3] in [0,1]     the natural picture
    labels   uint8 [H,W]                  index into LABELS
    mask     bool [H,W]                   True = moves
    flow     float32 [2,H,W]              px/frame, zero outside the mask
    directed bool                         captions name the direction; if not, lake and clouds move left to right,
                                          rivers and seas towards the viewer
                                          (a river seen from the side: left to right)
    direction str                         phrase of data.hint.DIRECTIONS for the mean flow of the kind's own fluid
    sky_direction str or None             the same of a sky that drifts above moving water (second edition)
    Raises ValueError for an unknown kind or light or a size below 32.
    """

    def __init__(
        self, seed: int, kind: str | None = None, light: str | None = None, size: int = 256, *, edition: int = 1
    ) -> None:
        if kind not in (None, *KINDS) or light not in (None, *LIGHTS):
            known = f"a kind of {', '.join(KINDS)}; a light of {', '.join(LIGHTS)}"
            raise ValueError(f"unknown scene {kind}/{light}; expected {known}")
        super().__init__(seed, light, size)
        self.edition = edition
        drawn = KINDS[self.rng.integers(len(KINDS))], LIGHTS[self.rng.integers(len(LIGHTS))]
        self.kind, self.light = kind or drawn[0], light or drawn[1]
        self.directed = bool(self.rng.random() < DIRECTED)
        more = np.random.default_rng([self.seed, 51])  # of the second edition alone
        self.drifts = edition > 1 and self.kind != "clouds" and bool(more.random() < DRIFTING)
        self.crosses = edition > 1 and self.kind == "river" and bool(more.random() < CROSSING)
        self.bed = None  # of a river that comes towards the viewer or goes away
        self._choose_colours()
        self._compose(more)
        self.things = draw_things(self) if edition > 1 else ()
        self.image = self._grade(self._drawing)
        own = np.isin(self.labels, [LABELS.index(name) for name in FLUIDS[self.kind]])
        sky = self.drifts & (self.labels == LABELS.index("sky"))
        self.mask = own | sky
        flow = self._velocity() * self.mask[..., None] * self.scale
        self.flow = np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)
        self.mean_flow, sky_flow = (
            self.flow[:, where].mean(1) if where.any() else np.zeros(2, np.float32) for where in (own, sky)
        )
        self.direction = direction_phrase(self.mean_flow)
        self.sky_direction = direction_phrase(sky_flow) if sky.any() else None

    def _compose(self, more):
        """From back to front: sky, ridges, then what belongs to the kind."""
        rng, kind = self.rng, self.kind
        self.horizon_y = y = UNIT * (rng.uniform(0.55, 0.75) if kind == "clouds" else rng.uniform(0.34, 0.5))
        self.cloud_cover = (-0.1, 0.6) if kind == "clouds" else (0.15, 1.3)  # low: many clouds
        self._draw_sky(y + 8, disc=kind != "clouds" and not self.drifts)  # a sun would drift with the clouds
        if kind == "clouds":
            self._set_sky_in_motion(y + 8, rng)
        elif self.drifts:
            self._set_sky_in_motion(y + 8, more)
        self.backdrop = str(rng.choice(["mountain", "hill", "forest"], p=[0.6, 0.2, 0.2]))
        if kind == "sea":
            self.backdrop = "sky"
        elif kind == "waterfall":
            if rng.random() < 0.7:
                self._draw_ridge(y + 4, UNIT * rng.uniform(0.15, 0.28), rng.uniform(0.5, 0.9), self.backdrop)
        else:
            for i in range(int(rng.integers(1, 3))):
                height = UNIT * rng.uniform(0.12, 0.32) / (1 + 0.7 * i)
                self._draw_ridge(y + 3 + 3 * i, height, 0.85 - 0.4 * i, self.backdrop)
            if rng.random() < 0.6:
                self._draw_ridge(y + 5, UNIT * rng.uniform(0.03, 0.08), 0.3, "forest")
        draw = {
            "river": self._draw_crossing_river if self.crosses else self._draw_river,
            "waterfall": self._draw_waterfall,
            "lake": self._draw_lake,
            "sea": self._draw_sea,
            "clouds": self._draw_field,
        }[kind]
        draw(y)

    # ------------------------------------------------------------ clouds
    def _set_sky_in_motion(self, bottom, rng):
        """The whole sky drifts, faster overhead than at the horizon."""
        speed, sign, tilt = rng.uniform(0.7, 1.6), 1, rng.uniform(-0.06, 0.0)
        if self.directed:
            sign, tilt = rng.choice([-1, 1]), rng.uniform(-0.6, 0.35)
        near = np.clip(1 - self.y / bottom, 0, 1)
        velocity = np.stack([sign * speed * (0.25 + 0.75 * near), speed * tilt * (0.15 + 0.85 * near)], -1)
        self._pour(self.sky, 1.0, velocity, "sky")

    def _draw_field(self, horizon):
        """The land under moving clouds."""
        self._draw_ground(horizon)
        rng, trees = self.rng, []
        for _ in range(int(rng.integers(0, 18))):
            near = rng.uniform(0.05, 0.9)
            x, height = rng.uniform(0, UNIT), UNIT * (0.06 + 0.24 * near)
            trees.append((x, horizon + near * (UNIT - horizon), height * rng.uniform(0.7, 1.3)))
        self._draw_trees(trees)

    # ------------------------------------------------------------ river
    def _water(self, base, texture, amplitude, foam=0.0):
        """Colour of water: base darkened in the troughs, glittering on the crests, white where foam (0..1) gathers."""
        amplitude = amplitude[..., None] if np.ndim(amplitude) == 2 else amplitude
        crest, trough = np.clip(texture, 0, 3)[..., None], np.clip(-texture, 0, 3)[..., None]
        color = base * (1 - amplitude * 1.6 * trough) + (self.lit - base) * np.clip(crest * amplitude * 1.5, 0, 1)
        foam = np.broadcast_to(np.float32(foam), texture.shape)
        return mix(color, self.lit * 0.98, smoothstep(1.0, 2.4, texture + foam * 2.2) * np.clip(foam * 1.4, 0, 1))

    def _draw_river(self, horizon):
        """A winding river in perspective, from the horizon to the viewer."""
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon)
        near = np.clip((y - horizon) / (UNIT - horizon), 0.003, 1)
        depth = np.log(1 / near + 0.15)
        self.bed = river = self._river_bed(near, depth, horizon)
        across = river.across(x)
        velocity = self._river_velocity(river, across)
        grain = noise(rng, 1.3, (x - river.center) / (near + 0.06) * 0.7, 90 * depth) + 0.4 * noise(rng, 0.8, x, y)
        texture = self._streaks(grain, velocity, 7)
        deep = np.array((0.08, 0.28, 0.40), np.float32) * self.land
        base = mix(deep, self._mirrored_sky(horizon) * 0.88, np.clip(0.78 - 0.5 * near, 0, 1))
        base = base * (1 - 0.30 * smoothstep(0.7, 1, np.abs(across)))[..., None]
        foam = rng.choice([0.0, 0.35]) * (1 - 0.4 * near) + 0.35 * smoothstep(0.75, 0.95, np.abs(across)) * near
        mud = np.array((0.55, 0.56, 0.60) if self.snow else (0.36, 0.29, 0.20), np.float32) * self.land
        self._over(mud, 0.7 * smoothstep(1.25, 1.0, np.abs(across)) * smoothstep(horizon, horizon + 6, y))
        self._pour(self._water(base, texture, 0.15, foam), river.alpha, velocity, "river")
        self._dress_river(river.center[:, 0], river.half[:, 0], horizon)

    def _river_bed(self, near, depth, horizon):
        rng, x, y = self.rng, self.x, self.y
        bend, phase, waves = UNIT * rng.uniform(0.06, 0.28), rng.uniform(0, 6.3), rng.uniform(1.2, 2.6)
        far_x, near_x, width = (
            UNIT * rng.uniform(0.3, 0.7),
            UNIT * rng.uniform(0.15, 0.85),
            UNIT * rng.uniform(0.14, 0.3),
        )
        center = far_x * (1 - near) + near_x * near + bend * np.sin(phase + waves * depth) * near**0.75
        half = width * near**1.05 + 0.6
        shore = 2.2 * noise(rng, 2.4, x * 1.2, y * 1.2) * near
        alpha = smoothstep(-1.0, 1.0, half - np.abs(x - center) + shore) * smoothstep(horizon + 1, horizon + 3, y)
        return Basin(center, half, alpha, near)

    def _river_velocity(self, river, across):
        """Along the bed, fastest in the middle and near the viewer; a directed river may also flow away from us."""
        rng = self.rng
        side = np.gradient(river.center, axis=0) * self.scale + across * np.gradient(river.half, axis=0) * self.scale
        speed = rng.uniform(1.0, 2.4) * river.along * (1 - 0.6 * np.clip(np.abs(across), 0, 1) ** 2)
        speed = speed / np.sqrt(1 + np.minimum(np.abs(side), 3) ** 2 * 0.5)
        velocity = np.stack([np.clip(side, -3.5, 3.5) * speed, speed], -1)
        return -velocity if self.directed and rng.random() < 0.5 else velocity

    def _dress_river(self, center, half, horizon):
        """Rocks at the water's edge, trees further off."""
        rng, rocks, trees = self.rng, [], []
        for _ in range(int(rng.integers(4, 24))):
            near = rng.uniform(0.03, 0.7)
            y = horizon + near * (UNIT - horizon)
            away = self._at(half, y) + UNIT * rng.uniform(0.05, 0.6) * (near + 0.12) + 18 * near
            x = self._at(center, y) + rng.choice([-1, 1]) * away
            trees.append((x, y, UNIT * (0.06 + 0.36 * near) * rng.uniform(0.7, 1.25)))
        for _ in range(int(rng.integers(2, 12))):
            near = rng.uniform(0.15, 1)
            y = horizon + near * (UNIT - horizon)
            x = self._at(center, y) + rng.choice([-1, 1]) * self._at(half, y) * rng.uniform(0.92, 1.15)
            rocks.append((x, y, UNIT * 0.055 * near * rng.uniform(0.6, 1.5)))
        self._draw_rocks(rocks)
        self._draw_trees(trees)

    def _draw_crossing_river(self, horizon):
        """A river seen from its bank: it crosses the picture from side to side."""
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon)
        depth = UNIT - horizon
        middle = horizon + depth * rng.uniform(0.34, 0.6) + rng.uniform(-0.2, 0.2) * (self.column - UNIT / 2)
        middle = middle + UNIT * 0.10 * (self._line(3.0) - 0.5)
        half = depth * rng.uniform(0.11, 0.24) * (0.8 + 0.4 * self._line(2.8))
        far, near = np.maximum(middle - 0.8 * half, horizon + 5), middle + 1.2 * half + 4 * (self._line(2.2) - 0.5)
        behind = [
            (tx, self._at(far, tx) + rng.uniform(-6, 0), UNIT * rng.uniform(0.07, 0.16))
            for tx in rng.uniform(0, UNIT, int(rng.integers(3, 16)))
        ]
        self._draw_trees(behind)
        across = (y - middle) / half
        close = np.clip((y - horizon) / depth, 0.05, 1)
        sign = rng.choice([-1, 1]) if self.directed else 1
        speed = rng.uniform(1.0, 2.2) * sign * (0.35 + 0.65 * close) * (1 - 0.5 * np.clip(np.abs(across), 0, 1) ** 2)
        slope = np.gradient(middle)[None] * self.scale
        velocity = np.stack([speed, speed * slope], -1)
        grain = noise(rng, 1.4, x * 0.55 / (close + 0.15), (y - middle) * 1.5 / (close + 0.15))
        texture = self._streaks(grain + 0.35 * noise(rng, 0.9, x * 0.8, y * 2), velocity, 7)
        mirror = np.clip(2 * far - y + texture * 1.5 * close, 0, UNIT)
        bank = self.sample(self._blur(self._drawing, 1.5), x + texture * 0.6, mirror, cv2.BORDER_REPLICATE)
        deep = np.array((0.08, 0.28, 0.38), np.float32) * self.land
        base = mix(bank * 0.85, deep, np.clip(0.25 + 0.6 * smoothstep(-0.8, 1.2, across), 0, 1))
        foam = rng.choice([0.0, 0.3]) * close + 0.35 * smoothstep(0.8, 1.0, np.abs(across)) * close
        alpha = smoothstep(-self.soft, self.soft, y - far) * smoothstep(-1, 1, near - y)
        mud = np.array((0.55, 0.56, 0.60) if self.snow else (0.36, 0.29, 0.20), np.float32) * self.land
        self._over(mud, 0.6 * smoothstep(7, 2, np.maximum(far - y, y - near)))
        self._pour(self._water(base, texture, 0.04 + 0.07 * close, foam), alpha, velocity, "river")
        rocks, trees = [], []
        for tx in rng.uniform(0, UNIT, int(rng.integers(3, 14))):
            shore = near if rng.random() < 0.7 else far
            rocks.append((tx, self._at(shore, tx) + rng.uniform(-5, 3), UNIT * 0.04 * rng.uniform(0.4, 1.5)))
        for _ in range(int(rng.integers(0, 6))):
            tx = rng.uniform(0, UNIT)
            trees.append((tx, self._at(near, tx) + rng.uniform(6, 50), UNIT * rng.uniform(0.12, 0.3)))
        self._draw_rocks(rocks)
        self._draw_trees(trees)

    # ------------------------------------------------------------ waterfall
    def _draw_waterfall(self, horizon):
        """A fall over a cliff into a pool. Both waters are defined everywhere; `pooled` leads from one to the other."""
        rng, x, y = self.rng, self.x, self.y
        center, width = UNIT * rng.uniform(0.33, 0.67), UNIT * rng.uniform(0.06, 0.19)
        lip, foot = horizon - UNIT * rng.uniform(-0.02, 0.12), UNIT * rng.uniform(0.62, 0.76)
        cliff = self._draw_cliff_and_meadow(center, width, lip, foot)
        fall, pool = self._fall_shape(center, width, lip, foot), self._pool_shape(center, width, foot)
        pooled = smoothstep(foot - 2, foot + 10, y)
        velocity = self._waterfall_velocity(fall, pool, pooled, center, foot)
        threads = noise(rng, 1.0, x * 1.9, y * 0.35) + 0.5 * noise(rng, 0.8, x * 1.2, y * 0.9)
        ripples = noise(rng, 1.8, x * 0.5, y * 2.2) + 0.3 * noise(rng, 1.0, x * 0.6, y * 1.5)
        texture = self._streaks(threads, velocity, 9) * (1 - pooled) + self._streaks(ripples, velocity, 3) * pooled
        dx, dy = x - center, y - foot
        foam = 0.55 * np.exp(-np.hypot(dx, dy * 1.3) / 40) * pooled + 0.25 * (1 - pooled)
        wet = np.array((0.25, 0.22, 0.19), np.float32) * self.land
        self._over(wet, 0.6 * smoothstep(1.2, 1.0, np.abs(pool.across(x))) * smoothstep(foot - 8, foot - 2, y))
        base = self._waterfall_colour(fall, pool, pooled, dx, dy, foot)
        color = self._water(base, texture, 0.17 - 0.03 * pooled, foam)
        self._pour(color, np.maximum(fall.alpha, pool.alpha), velocity, "river")
        self.labels[(fall.alpha > 0.5) & (y < foot + 2)] = LABELS.index("waterfall")
        mist = 0.55 * np.exp(-(np.hypot(dx / (width * 1.5 + 8), dy / 11) ** 2))
        self._over(np.array((0.95, 0.97, 1), np.float32) * mix(self.land, WHITE, 0.4), np.minimum(mist, 0.45))
        self._dress_waterfall(cliff, center, width, foot, pool)

    def _draw_cliff_and_meadow(self, center, width, lip, foot):
        """The wall with a notch at the fall, and the ground at its foot. Returns the cliff's top line, y per column."""
        rng, side = self.rng, np.abs(self.column - center) / UNIT
        cliff = lip - UNIT * 0.02 - self._line(2.2) * UNIT * 0.12 * smoothstep(0.05, 0.3, side)
        cliff = np.float32(cliff - UNIT * rng.uniform(0, 0.14) * smoothstep(0.06, 0.3, side))
        self._draw_cliff(cliff, center, width)
        ground = foot - 3 + 5 * self._line(2.0) - 10 * smoothstep(0.1, 0.5, side)
        turf = noise(rng, 1.4, self.x * 1.2, self.y * 2) + 0.6 * noise(rng, 3.0, self.x, self.y * 2)
        color = self.grass * self.land * np.clip(0.72 + 0.14 * turf, 0.3, 1.2)[..., None]
        self._over(color, smoothstep(-1.5, 1.5, self.y - ground), "grass")
        return cliff

    def _fall_shape(self, center, width, lip, foot):
        rng, x, y = self.rng, self.x, self.y
        t = np.clip((y - lip) / (foot - lip), 0, 1)
        half = width * (0.82 + 0.35 * t**1.5) + 0.9 * noise(rng, 2.6, x * 0.3, y * 0.8)
        sway = center + UNIT * 0.012 * np.sin(t * 2.5 + rng.uniform(0, 6))
        across = (x - sway) / half
        alpha = smoothstep(-self.soft, self.soft, half - np.abs(x - sway))
        alpha = alpha * smoothstep(lip - 3, lip, y + 2 * np.abs(across))
        return Basin(sway, half, alpha * smoothstep(foot + 7, foot + 1, y + 5 * across**2), t)

    def _pool_shape(self, center, width, foot):
        rng, x, y = self.rng, self.x, self.y
        away = np.clip((y - foot + 6) / (UNIT - foot + 6), 0, 1)
        middle = center + UNIT * rng.uniform(-0.18, 0.18) * away**1.3
        half = (width * 1.4 + UNIT * rng.uniform(0.04, 0.14)) * smoothstep(-0.06, 0.12, away) ** 0.6
        half = half + UNIT * rng.uniform(-0.08, 0.2) * away
        shores = [8 * (self._line(2.6) - 0.5)[:, None] for _ in range(2)]  # one smooth curve per bank
        half = half + np.where(x < middle, *shores)
        alpha = smoothstep(-1, 1, half - np.abs(x - middle)) * smoothstep(foot - 6, foot - 3, y)
        return Basin(middle, half, alpha, away)

    def _waterfall_velocity(self, fall, pool, pooled, center, foot):
        """Faster and faster down, then out from the foot of the fall in all directions."""
        x, y = self.x, self.y
        speed = self.rng.uniform(1.6, 3.0)
        fall_across, pool_across = fall.across(x), pool.across(x)
        falling = np.stack([0.12 * fall_across * speed * fall.along, speed * (0.55 + 0.6 * fall.along)], -1)
        dx, dy = x - center, (y - foot) * 1.8 + 10
        distance = np.hypot(dx, dy) + 1
        spread = speed * 0.75 * np.exp(-distance / (UNIT * 0.38)) + 0.18 * speed * pool.along
        calm = 1 - 0.5 * np.clip(np.abs(pool_across), 0, 1) ** 2
        spreading = np.stack([dx / distance * spread * calm, np.maximum(dy / distance, 0.1) * spread * 0.8], -1)
        edge = np.clip(np.abs(np.where(y < foot, fall_across, pool_across)), 0, 1)
        return mix(falling, spreading, pooled) * (1 - 0.35 * edge**3)[..., None]

    def _waterfall_colour(self, fall, pool, pooled, dx, dy, foot):
        """White threads above, clear deep water with the sky in it below, white where the fall strikes it."""
        white = np.array((0.90, 0.95, 0.99), np.float32) * mix(self.land, WHITE, 0.45)
        deep = np.array((0.09, 0.36, 0.42), np.float32) * self.land
        splash = np.exp(-np.hypot(dx / 1.6, dy) / 26)
        pool_color = mix(deep, self._mirrored_sky(foot), 0.32 + 0.25 * (1 - pool.along))
        pool_color = mix(pool_color, white, np.clip(splash * 0.9, 0, 1))
        edge = 1 - 0.25 * np.clip(np.abs(fall.across(self.x)), 0, 1) ** 2
        return mix(white * (0.88 + 0.1 * fall.along)[..., None] * edge[..., None], pool_color, pooled)

    def _dress_waterfall(self, cliff, center, width, foot, pool):
        """Rocks around the pool, trees on the cliff's top line and at the sides."""
        rng, rocks, trees, sides = self.rng, [], [], []
        for _ in range(int(rng.integers(6, 18))):
            away = rng.uniform(0.05, 1)
            y = foot + away * (UNIT - foot)
            reach = self._at(pool.half[:, 0], y) * rng.choice([-1, 1]) * rng.uniform(0.9, 1.2)
            x = self._at(pool.center[:, 0], y) + reach
            rocks.append((x, y, UNIT * (0.02 + 0.05 * away) * rng.uniform(0.6, 1.5)))
        for _ in range(int(rng.integers(2, 16))):
            x, height = rng.uniform(0, UNIT), UNIT * rng.uniform(0.06, 0.15)
            if abs(x - center) > width * 1.3 + height * 0.4:
                trees.append((x, max(self._at(cliff, x + dx) for dx in (-2, 0, 2)) + 1.5, height))
        for _ in range(int(rng.integers(0, 10))):
            x = center + rng.choice([-1, 1]) * UNIT * rng.uniform(0.3, 0.6)
            sides.append((x, foot + rng.uniform(0, 32), UNIT * rng.uniform(0.12, 0.28)))
        self._draw_trees(trees)
        self._draw_rocks(rocks)
        self._draw_trees(sides)

    # ------------------------------------------------------------ lake
    def _draw_lake(self, horizon):
        """A lake that mirrors the far shore and drifts sideways."""
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon)
        far, close = horizon + UNIT * rng.uniform(0.02, 0.07), UNIT * rng.uniform(0.72, 0.98)
        far_shore, near_shore = self._lake_shores(far, close)
        self._draw_trees(
            [
                (tx, self._at(far_shore, tx) + rng.uniform(-3, 1), UNIT * rng.uniform(0.05, 0.12))
                for tx in rng.uniform(0, UNIT, int(rng.integers(2, 20)))
            ]
        )
        near = np.clip((y - far) / (UNIT - far), 0.01, 1)
        speed, sign = rng.uniform(0.5, 1.3), (rng.choice([-1, 1]) if self.directed else 1)
        velocity = np.stack([sign * speed * (0.25 + 0.75 * near), 0.12 * speed * near], -1)
        waves = noise(rng, 1.6, (x - UNIT / 2) * 0.35 / (near + 0.12), 88 * np.log(near + 0.04))
        texture = self._streaks(waves + 0.35 * noise(rng, 1.0, x * 0.5, y * 2), velocity, 5)
        mirror = np.clip(2 * far_shore - y + texture * 1.3 * (near + 0.15), 0, UNIT)
        scene = self.sample(self._blur(self._drawing, 1.2), x + texture * 0.6, mirror, cv2.BORDER_REPLICATE)
        base = mix(scene * 0.88, np.array((0.10, 0.28, 0.40), np.float32) * self.land, 0.12 + 0.42 * near)
        alpha = smoothstep(-self.soft, self.soft, y - far_shore) * smoothstep(-1, 1, near_shore - y)
        self._pour(self._water(base, texture, 0.05 + 0.10 * near), alpha, velocity, "lake")
        self._dress_lake(near_shore, close)

    def _lake_shores(self, far, close):
        """y of the far and the near shore per column; the near one is straight, or a bay to one side."""
        rng = self.rng
        far_shore = far + UNIT * 0.02 * self._line(2.4)
        near_shore = close - UNIT * rng.uniform(0.05, 0.2) * self._line(2.8)
        bay = ((self.column - UNIT * rng.uniform(0.3, 0.7)) / UNIT) ** 2
        return far_shore, near_shore + UNIT * 0.25 * bay * rng.choice([-1, 0, 0.6])

    def _dress_lake(self, near_shore, close):
        """Rocks along the near shore, a few trees that frame the view."""
        rng, trees = self.rng, []
        self._draw_rocks(
            [
                (x, self._at(near_shore, x) + rng.uniform(-4, 6), UNIT * 0.035 * rng.uniform(0.5, 1.6))
                for x in rng.uniform(0, UNIT, int(rng.integers(0, 10)))
            ]
        )
        for _ in range(int(rng.integers(0, 5))):
            x = UNIT * (rng.uniform(-0.02, 0.2) if rng.random() < 0.5 else rng.uniform(0.8, 1.02))
            trees.append((x, close + rng.uniform(-6, 30), UNIT * rng.uniform(0.2, 0.42)))
        self._draw_trees(trees)

    # ------------------------------------------------------------ sea
    def _draw_sea(self, horizon):
        """The sea to the horizon, often with a beach in front and a headland at one side."""
        rng, x, y = self.rng, self.x, self.y
        self._draw_ground(horizon, sand=not self.snow)
        self.headland = bool(rng.random() < 0.45)
        if self.headland:
            self._draw_headland(horizon)
        near = np.clip((y - horizon) / (UNIT - horizon), 0.003, 1)
        beach, slant = UNIT * rng.uniform(0.72, 1.15), rng.uniform(-0.4, 0.4)
        self.beach = bool(beach < UNIT * 0.95)
        shore = beach + slant * (self.column - UNIT / 2) + UNIT * 0.05 * (self._line(2.8) - 0.5)
        velocity = self._sea_velocity(near, slant)
        u, v = (x - UNIT / 2) / (near + 0.05) * 0.16, np.log(near + 0.025) * 60
        grain = noise(rng, 1.8, u + 0.5 * v * slant, v * 2.2) * 1.1 + 0.40 * noise(rng, 1.2, u * 2.2, v * 5)
        texture = np.float32((grain - grain.mean()) / grain.std())
        out = shore - y  # distance from the waterline
        foam = (
            1.1 * np.exp(-np.abs(out - 4) / 5) + 0.5 * np.exp(-np.abs(out - 24 - 6 * np.sin(x / 30)) / 4) + 0.18 * near
        )
        color = self._water(self._sea_colour(near, out, horizon), texture, 0.10 + 0.12 * near, np.clip(foam, 0, 1))
        alpha = smoothstep(-self.soft, self.soft, y - horizon) * smoothstep(-1.5, 1.5, out)
        self._pour(color, alpha, velocity, "sea")
        self._draw_rocks(
            [
                (
                    rng.uniform(0, UNIT),
                    float(np.clip(beach + rng.uniform(-30, 10), horizon + 20, UNIT)),
                    UNIT * 0.05 * rng.uniform(0.5, 1.8),
                )
                for _ in range(int(rng.integers(0, 7)))
            ]
        )

    def _sea_velocity(self, near, slant):
        """Towards the beach; a directed sea may move anywhere."""
        rng = self.rng
        speed, angle = rng.uniform(0.7, 1.6), rng.uniform(-0.25, 0.25) + slant * 0.5  # angle 0: towards the viewer
        if self.directed:
            angle = rng.uniform(-np.pi, np.pi)
        return speed * np.stack([np.sin(angle) * (0.15 + 0.85 * near), np.cos(angle) * (0.05 + 0.95 * near) * 0.8], -1)

    def _sea_colour(self, near, out, horizon):
        """Deep blue with the sky far off, turquoise near the beach, a path of light below a low sun or moon."""
        deep = np.array((0.04, 0.26, 0.44), np.float32) * self.land
        shallow = np.array((0.25, 0.64, 0.66), np.float32) * self.land
        base = mix(deep, self._mirrored_sky(horizon), np.clip(0.55 * np.exp(-near * 2.2) + 0.14, 0, 1))
        base = mix(base, shallow, np.exp(-np.maximum(out, 0) / 22) * 0.7)
        if self.light in ("sunset", "night"):
            path = np.exp(-(((self.x - self.sun[0]) / (10 + 40 * near)) ** 2))
            base = base + (path * 0.45)[..., None] * mix(self.horizon, WHITE, 0.4)
        return base
