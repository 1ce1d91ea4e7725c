"""Things that stand in a landscape of the second edition: cliffs, great trees, houses, boats, bridges.

They are drawn from a random generator of their own, so that the landscape around them is the first edition's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from text2cinemagraph.painters.noise import UNIT, mix, noise, smoothstep

if TYPE_CHECKING:
    from text2cinemagraph.mini.scene import Scene

CHANCES = {"cliff": 0.35, "tree": 0.4, "house": 0.35, "boat": 0.4, "bridge": 0.3}
WALLS = ((0.92, 0.88, 0.80), (0.80, 0.42, 0.32), (0.66, 0.52, 0.38), (0.86, 0.78, 0.52), (0.75, 0.78, 0.80))
ROOFS = ((0.62, 0.24, 0.16), (0.36, 0.30, 0.28), (0.50, 0.34, 0.22), (0.30, 0.36, 0.42))
SAILS = ((0.97, 0.95, 0.90), (0.93, 0.84, 0.66), (0.80, 0.30, 0.22))
HULLS = ((0.45, 0.28, 0.16), (0.20, 0.28, 0.42), (0.70, 0.20, 0.16), (0.90, 0.88, 0.84))


def draw_things(scene: Scene) -> tuple[str, ...]:
    """Put things where they can be in a scene (mini.scene.Scene) that is drawn otherwise. Returns their names.

    They stand still: their labels are their own, and what they cover of the fluid does not move.
    """
    rng = np.random.default_rng([scene.seed, 50])
    wanted = {name: rng.random() < chance for name, chance in CHANCES.items()}
    found = []
    if wanted["cliff"] and scene.kind in ("sea", "lake"):
        _cliff(scene, rng)
        found.append("cliff")
    if wanted["house"] and scene.kind in ("river", "lake", "clouds"):
        for _ in range(int(rng.integers(1, 4))):
            found += ["house"] * _try_house(scene, rng)
    if wanted["bridge"] and scene.bed is not None:
        _bridge(scene, rng)
        found.append("bridge")
    if wanted["boat"] and scene.kind in ("lake", "sea"):
        for _ in range(int(rng.integers(1, 4))):
            found += ["boat"] * _try_boat(scene, rng)
    if wanted["tree"] and scene.kind != "sea":
        _great_tree(scene, rng)
        found.append("tree")
    return tuple(dict.fromkeys(found))


def _label_at(scene, x, y):
    side = scene.size - 1
    return scene.label_names[scene.labels[min(int(y * scene.scale), side), min(int(x * scene.scale), side)]]


def _lit(scene, color, light=1.0):
    return np.float32(color) * scene.land * np.float32(light)


def _spot(scene, rng, allowed, top, width, tries=30):
    """A place (x, y) whose ground, and that of its neighbours, is of the labels allowed; None where there is none."""
    for _ in range(tries):
        x, y = rng.uniform(0.08, 0.92) * UNIT, rng.uniform(top, 0.9 * UNIT)
        w = width(y)
        if all(_label_at(scene, np.clip(x + dx * w, 0, UNIT - 1), y) in allowed for dx in (-1, 0, 1)):
            return x, y, w
    return None


def _near(scene, y):
    return np.clip((y - scene.horizon_y) / (UNIT - scene.horizon_y), 0, 1)


# ---------------------------------------------------------------- cliffs
def _cliff(scene, rng):
    """A wall of rock that falls into the water at one side, sometimes with a stack before it; grass on its top."""
    side = rng.choice([-1, 1])
    foot = scene.horizon_y + UNIT * rng.uniform(0.05, 0.2)
    height = UNIT * rng.uniform(0.22, 0.42)
    reach = UNIT * rng.uniform(0.22, 0.42)
    parts = [(0.0, reach, height)]
    if rng.random() < 0.6:
        parts.append((reach * rng.uniform(1.12, 1.35), UNIT * rng.uniform(0.03, 0.07), height * rng.uniform(0.4, 0.75)))
    inward = scene.x if side < 0 else UNIT - scene.x  # distance from the side where the wall begins
    rough = noise(rng, 2.0, scene.x * 1.2, scene.y * 1.2)
    strata = noise(rng, 1.5, scene.x * 0.5 + 3 * rough, scene.y * 2.6)
    folds = noise(rng, 2.2, scene.x * 2.2, scene.y * 0.55 + 3 * rough)
    light = scene._slope(folds + 0.4 * strata)
    line = scene._line_of(rng, 2.0)
    for start, wide, tall in parts:
        level = tall * (0.86 + 0.14 * line) * (1 - 0.25 * np.clip((inward - start) / (wide + 1), 0, 1))
        up = (foot - scene.y) / level  # 0 at the water, 1 on the top
        end = wide * (1.0 + 0.16 * (1 - np.clip(up, 0, 1)) ** 2) + 3.0 * rough
        inside = smoothstep(-scene.soft, scene.soft, end - (inward - start))
        if start:
            inside = inside * smoothstep(-scene.soft, scene.soft, inward - start + wide * 0.7 + 2.0 * rough)
        wall = (
            inside
            * smoothstep(-scene.soft, scene.soft, (1 - up) * level)
            * smoothstep(-1.5, 1.0, foot + 1.5 * rough - scene.y)
        )
        shade = np.clip(0.66 + 0.5 * light + 0.09 * strata + 0.12 * np.clip(up, 0, 1), 0.2, 1.2)
        color = scene.stone * 1.1 * shade[..., None]
        wet = smoothstep(0.12, 0.0, up)
        color = color * (1 - 0.4 * wet)[..., None]
        top = smoothstep(9, 3, (1 - up) * level + 2.5 * rough)
        turf = (np.float32((0.94, 0.96, 1.0)) if scene.snow else scene.grass * 0.85) * np.clip(
            0.85 + 0.2 * rough, 0.4, 1.15
        )[..., None]
        color = mix(color, turf, top)
        scene._over(mix(color * scene.land, scene.haze, 0.15), wall, "rock")
        surf = smoothstep(2.5, 0.5, np.abs(scene.y - foot - 1.5 * rough)) * inside
        scene._over(scene.lit, 0.5 * surf)


# ---------------------------------------------------------------- houses
def _try_house(scene, rng):
    spot = _spot(
        scene,
        rng,
        ("grass", "sand"),
        scene.horizon_y + 4,
        lambda y: UNIT * (0.03 + 0.16 * _near(scene, y)) * rng.uniform(0.8, 1.2),
    )
    if spot is None:
        return False
    x, y, half = spot
    wall, roof = WALLS[rng.integers(len(WALLS))], ROOFS[rng.integers(len(ROOFS))]
    height, pitch, depth = half * rng.uniform(0.7, 1.0), half * rng.uniform(0.55, 0.9), rng.uniform(0.5, 0.75)
    window = scene._window(x - half * 1.5, y - height - pitch - 3, x + half * 1.5, y + 2)
    if window is None:
        return False
    scene._shadow(x, y, half * 1.3)
    u, v, soft = (scene.x[window] - x) / half, (y - scene.y[window]) / half, scene.soft / half
    side = scene.sun_side
    gable = u * side  # the gable wall looks to the sun: from -1 to 1 - depth in shade, beyond it lit
    corner = 1 - 2 * (1 - depth)
    inside = smoothstep(1 + soft, 1 - soft, np.abs(u)) * smoothstep(-soft, soft, v)
    middle, top = (1 + corner) / 2, (height + pitch) / half
    eaves = height / half
    peak = top - (top - eaves) * np.abs(gable - middle) / (1 - middle)
    walls = inside * smoothstep(soft, -soft, v - np.where(gable > corner, np.minimum(peak, top), eaves))
    planks = 1 + 0.05 * np.sin(v * 40) + 0.04 * noise(rng, 1.0, scene.x[window] * 4, scene.y[window] * 4)
    color = _lit(scene, wall) * (np.where(gable > corner, 1.0, 0.72) * planks)[..., None]
    color = np.where((v < 0.07)[..., None], color * 0.6, color)
    scene._over(color, walls, "house", window)
    glow = (
        np.array((1.0, 0.82, 0.42), np.float32)
        if scene.light in ("night", "sunset")
        else _lit(scene, (0.22, 0.27, 0.33))
    )
    for cx, cy, w, h in ((-0.65, 0.55, 0.16, 0.18), (-0.1, 0.55, 0.16, 0.18), (middle, 0.6, 0.12, 0.17)):
        pane = smoothstep(w + soft, w - soft, np.abs(gable - cx)) * smoothstep(
            h + soft, h - soft, np.abs(v - cy * eaves)
        )
        scene._over(glow, pane * walls, None, window)
    door = smoothstep(0.13 + soft, 0.13 - soft, np.abs(gable - middle + 0.02)) * (v < 0.42 * eaves)
    scene._over(_lit(scene, (0.28, 0.18, 0.12)), door * walls, None, window)
    # The roof: a slanted sheet from the ridge down over the long wall, and a rim along the gable.
    slant = (v - eaves) / (top - eaves)
    left, right = -1.1 + 0.25 * slant, middle - (middle - corner) * (1 - slant) + 0.02
    sheet = smoothstep(-soft, soft, gable - left) * smoothstep(soft, -soft, gable - right)
    sheet = sheet * smoothstep(-0.1, -0.1 + 2 * soft, slant) * smoothstep(1 + soft, 1 - soft, slant)
    tiles = 0.9 + 0.08 * np.sin(slant * 30) + 0.06 * noise(rng, 1.0, scene.x[window] * 4, scene.y[window] * 4)
    cover = np.array((0.94, 0.96, 1.0)) if scene.snow else np.array(roof)
    scene._over(_lit(scene, cover) * tiles[..., None], sheet, "house", window)
    rim = smoothstep(0.08, 0.03, np.abs(v - peak)) * (gable > corner - 0.05) * (gable < 1.08) * (v > eaves - 0.1)
    scene._over(_lit(scene, cover, 0.85), rim, "house", window)
    return True


# ---------------------------------------------------------------- boats
def _try_boat(scene, rng):
    spot = _spot(
        scene,
        rng,
        (scene.kind,),
        scene.horizon_y + UNIT * 0.03,
        lambda y: UNIT * (0.025 + 0.12 * _near(scene, y)) * rng.uniform(0.8, 1.25),
    )
    if spot is None:
        return False
    x, y, half = spot
    sails, way = rng.random() < 0.65, rng.choice([-1, 1])
    tall = half * (rng.uniform(1.7, 2.3) if sails else 0.4)
    hull, sail = HULLS[rng.integers(len(HULLS))], SAILS[rng.integers(len(SAILS))]
    window = scene._window(x - half * 1.3, y - tall - 2, x + half * 1.3, y + half * 0.5)
    if window is None:
        return False
    u, v, soft = (scene.x[window] - x) / half * way, (y - scene.y[window]) / half, scene.soft / half
    ripple = 0.04 * noise(rng, 1.5, scene.x[window] * 2, scene.y[window] * 4)
    mirror = (
        smoothstep(1.0, 0.5, np.abs(u + ripple)) * smoothstep(0, -0.06, v) * smoothstep(-0.45, -0.1, v + 2 * ripple)
    )
    scene._over(_lit(scene, hull, 0.35), 0.55 * mirror, None, window)
    deck = 0.26 + 0.13 * u**2 + 0.05 * u
    body = smoothstep(-0.02, 0.02 + soft, v + 0.02) * smoothstep(soft, -soft, v - deck)
    body = body * smoothstep(soft, -soft, np.abs(u) - (0.8 + 0.25 * np.clip(v / 0.35, 0, 1)))
    shade = 0.65 + 0.5 * np.clip(v / 0.35, 0, 1) + 0.15 * u * way * scene.sun_side
    strip = np.abs(v - deck + 0.05) < 0.03
    color = np.where(strip[..., None], _lit(scene, (0.95, 0.93, 0.88)), _lit(scene, hull) * shade[..., None])
    scene._over(color, body, "boat", window)
    if sails:
        top = tall / half
        mast = smoothstep(0.03 + soft, 0.03 - soft, np.abs(u + 0.05)) * (v > 0.25) * (v < top)
        scene._over(_lit(scene, (0.36, 0.26, 0.18)), mast, "boat", window)
        share = np.clip((v - 0.42) / (top - 0.42), 0, 1)
        for start, end, low in ((0.0, 0.85, 0.42), (-0.12, -0.75, 0.5)):
            edge = start + (end - start) * (1 - share) + 0.06 * np.sin(share * 3) * np.sign(end)
            low_u, high_u = np.minimum(start, edge), np.maximum(start, edge)
            cloth = (
                smoothstep(-soft, soft, u - low_u) * smoothstep(soft, -soft, u - high_u) * (v > low) * (v < top * 0.97)
            )
            bright = 0.85 + 0.2 * np.abs(u) - 0.08 * np.sin(v * 9)
            scene._over(_lit(scene, sail) * bright[..., None], cloth, "boat", window)
    return True


# ---------------------------------------------------------------- bridges
def _bridge(scene, rng):
    """An arched bridge of stone or wood across the river, seen from the river."""
    near = rng.uniform(0.12, 0.45)
    y = scene.horizon_y + near * (UNIT - scene.horizon_y)
    center, half = scene._at(scene.bed.center[:, 0], y), scene._at(scene.bed.half[:, 0], y)
    reach, thick = half * 1.35 + 5, 2.5 + 11 * near
    rise = reach * rng.uniform(0.25, 0.45)
    wood = rng.random() < 0.4
    window = scene._window(center - reach * 1.5, y - rise - thick * 2.5, center + reach * 1.5, y + thick)
    if window is None:
        return
    x, v = scene.x[window] - center, y - scene.y[window]
    u, soft = x / reach, scene.soft
    arch = rise * (1 - u**2)
    road = rise * 0.75 * (1 - (u / 1.45) ** 2) + rise * 0.25 + thick
    stone = smoothstep(-soft, soft, v - np.where(np.abs(u) < 1, np.maximum(arch, -4), -4)) * smoothstep(
        soft, -soft, v - road
    )
    stone = stone * smoothstep(1.45, 1.40, np.abs(u))
    if wood:
        color = np.float32((0.46, 0.33, 0.22)) * (0.85 + 0.15 * np.sin(v * 2.6))[..., None]
    else:
        courses = 0.08 * np.sign(np.sin(v * 2.2)) * np.sign(np.sin(x * 1.3 + 1.5 * np.floor(v * 0.7)))
        relief = 0.82 + courses + 0.10 * noise(rng, 1.5, scene.x[window] * 3, scene.y[window] * 3)
        color = scene.stone * 1.15 * np.clip(relief, 0.3, 1.2)[..., None]
    color = np.where((np.abs(v - arch) < 1.2)[..., None], color * 0.7, color)
    if scene.snow:
        color = mix(color, np.array((0.94, 0.96, 1.0), np.float32), smoothstep(1.6, 0.6, road - v))
    scene._over(color * scene.land, stone, "bridge", window)
    rail = (v > road) * (v < road + thick * 0.9) * (np.abs(u) < 1.42)
    posts = (np.abs((u * reach / (thick * 0.8)) % 1 - 0.5) < 0.12) | (np.abs(v - road - thick * 0.8) < thick * 0.12)
    scene._over(_lit(scene, (0.40, 0.34, 0.28) if wood else scene.stone), np.float32(rail * posts), "bridge", window)


# ---------------------------------------------------------------- great trees
def _great_tree(scene, rng):
    """A tree near the viewer at one side: bark, boughs and a crown of leaves that cuts the picture's edge."""
    side = rng.choice([-1, 1])
    height = UNIT * rng.uniform(0.55, 0.95)
    x = UNIT * (0.5 + side * rng.uniform(0.33, 0.48))
    y = UNIT * rng.uniform(0.86, 1.04)
    dark, light = (np.float32(c) for c in scene.trees_palette[rng.integers(len(scene.trees_palette))])
    width = height * rng.uniform(0.028, 0.04)
    scene._shadow(x, min(y, UNIT - 2), height * 0.3)
    boughs = [((x, y), (x + height * rng.uniform(-0.05, 0.05), y - height * 0.62), width * 1.3, width * 0.55)]
    fork = boughs[0][1]
    for angle in np.linspace(-1.05, 1.05, 5) + rng.normal(0, 0.12, 5):
        start = (x + (fork[0] - x) * 0.7, y - height * rng.uniform(0.36, 0.52))
        length = height * rng.uniform(0.26, 0.38)
        end = (start[0] + np.sin(angle) * length, start[1] - np.cos(angle) * length)
        boughs.append((start, end, width * 0.6, width * 0.12))
    window = scene._window(x - height * 0.55, y - height * 1.1, x + height * 0.55, y + 2)
    if window is None:
        return
    px, py, soft = scene.x[window], scene.y[window], scene.soft
    grain = noise(rng, 1.2, px * 3.5, py * 0.7)
    for (x0, y0), (x1, y1), thick, thin in boughs:
        t = np.clip(((px - x0) * (x1 - x0) + (py - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        away = px - (x0 + t * (x1 - x0)), py - (y0 + t * (y1 - y0))
        wide = thick + (thin - thick) * t + thick * 0.8 * np.exp(-t * 14) * (thick > width)
        distance = np.hypot(*away)
        round_ = 0.7 + 0.35 * away[0] / (wide + 1e-3) * scene.sun_side + 0.16 * grain
        bark = np.float32((0.33, 0.25, 0.18)) * np.clip(round_, 0.25, 1.2)[..., None] * scene.land
        scene._over(bark, smoothstep(soft, -soft, distance - wide), "tree", window)
    n = 70
    angle, spread = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.random(n))
    cx, cy = x + height * 0.36 * spread * np.cos(angle), y - height * (0.70 + 0.24 * spread * np.sin(angle))
    radius = height * rng.uniform(0.055, 0.11, n)
    leaf = noise(rng, 0.9, px * 2.4, py * 2.4) + 0.5 * noise(rng, 1.6, px, py)
    for k in np.argsort(cy)[::-1]:
        du, dv = (px - cx[k]) / radius[k], (cy[k] - py) / (radius[k] * 0.75)
        distance = np.hypot(du, dv) + 0.24 * leaf
        high = (y - cy[k]) / height - 0.7
        shade = 0.34 + 0.30 * dv + 0.18 * du * scene.sun_side + 0.9 * high + 0.20 * leaf
        color = mix(dark, light, np.clip(shade, 0, 1)) * scene.land
        scene._over(color, smoothstep(1.05, 0.85, distance), "tree", window)
