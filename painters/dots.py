"""Looks made of dots of colour: pointillism."""

import numpy as np
from text2cinemagraph.painters.easel import Easel, lit, saturate
from text2cinemagraph.painters.strokes import Coat, lay, round_brush

DOTS = (Coat(1.75, 1.75, 1.9, blur=1.2), Coat(1.4, 1.4, 1.7, blur=0.8), Coat(0.95, 0.95, 1.15, blur=0.3))


def pointillism(easel: Easel) -> np.ndarray:
    """Dots of divided colour that mix in the eye: purer and lighter ones beside a share of complementary ones."""
    colors = np.clip(saturate(easel.study, 1.3) * 0.9 + 0.08, 0, 1)
    canvas = np.empty_like(easel.picture)
    ground = 0.6 * easel.study_blur(colors, 3) + 0.4 * np.float32([0.93, 0.88, 0.78])
    canvas[:] = easel.full(ground)
    relief = np.zeros(canvas.shape[:2], np.float32)
    for coat in DOTS:
        wanted = None if coat.width > 1 else np.clip(easel.detail * 1.5 - 0.35, 0, 1)
        dots = easel.strokes(colors, coat, lines=easel.lines(2.0), wanted=wanted)
        dots.length = dots.width * 1.12
        dots.color = divided(dots.color, dots.dice)
        lay(canvas, dots, round_brush(), relief=relief, side=easel.mask, streak=0.12)
    shade, _ = lit(easel.blur(relief, 0.15), easel.scale, 0.12)
    return canvas * shade[..., None]


def divided(color: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Colours [n,3] split into purer neighbours of their hue and some complements, the mean about kept."""
    gray = color.mean(-1, keepdims=True)
    chroma = color - gray
    angle = 0.26 * dice[:, 4]
    opposite = np.abs(dice[:, 5]) > 2.2  # one in 36
    angle = np.where(opposite, np.pi, angle)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    axis = np.full(3, 1 / np.sqrt(3))
    turned = chroma * cos + np.cross(axis[None], chroma) * sin  # a turn about the gray axis turns the hue
    spice = 0.024 * dice[:, :3]
    spice -= spice.mean(-1, keepdims=True)
    light = 0.045 * dice[:, 3:4]
    return np.clip(
        gray * (1 + light) + np.where(opposite, 0.45, 1.25)[:, None] * turned + spice + 0.5 * light * gray, 0, 1
    )
