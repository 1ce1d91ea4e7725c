"""Looks drawn with dry sticks on the tooth of a paper: pastel, pencil."""

import numpy as np
from text2cinemagraph.painters.easel import GRAY, Easel, saturate
from text2cinemagraph.painters.noise import smoothstep
from text2cinemagraph.painters.strokes import Coat, chalk, lay, pencil_line, vary

# Coats of chalk, and how hard it is pressed.
PASTEL = (
    (Coat(11.0, 2.6, 3.0, blur=1.4, tolerance=0.11), 0.85),
    (Coat(7.0, 1.5, 1.9, blur=0.7, tolerance=0.11), 0.9),
    (Coat(3.6, 0.75, 0.9, blur=0.3, tolerance=0.11), 1.0),
)
# Graphite: direction in radians (None: along the form), darkness from which it is laid, half length, spacing, pressure.
HATCHES = (
    (-0.85, 0.10, 9.0, 1.35, 0.55),
    (-0.45, 0.45, 7.0, 1.25, 0.6),
    (None, 0.35, 5.0, 1.5, 0.6),
    (0.55, 0.70, 6.0, 1.25, 0.6),
)


def tooth(easel: Easel, grain: float) -> np.ndarray:
    """The valleys of a drawing paper, [H,W]: evenly spread in about 0..1."""
    field = 0.8 * easel.noise(1.2, grain) + 0.6 * easel.noise(1.8, 2 * grain)
    return smoothstep(-1.9, 1.9, field)


def pastel(easel: Easel) -> np.ndarray:
    """Soft pastel: smudged colour, then strokes of chalk that leave the paper's tooth open, fine ones last."""
    colors = np.clip(saturate(easel.study, 1.3) * 0.93 + 0.06, 0, 1)
    valleys = tooth(easel, 0.6)
    canvas = np.empty_like(easel.picture)
    smudge = easel.full(easel.study_blur(colors, 1.8))
    ground = 0.55 * smudge + 0.45 * np.float32([0.66, 0.58, 0.50])  # a toned paper, dusted
    hold = (0.86 - 0.22 * valleys)[..., None]
    canvas[:] = ground * (1 - hold) + smudge * hold
    relief = np.zeros(valleys.shape, np.float32)
    for coat, press in PASTEL:
        wanted = None if coat.width > 2 else np.clip(easel.detail * 1.5 - 0.1, 0.12 if coat.width > 1 else 0, 1)
        strokes = easel.strokes(colors, coat, lines=easel.lines(2.0, flat_angle=-0.9), wanted=wanted)
        vary(strokes, 0.09, (0.03, 0.025, 0.035))
        strokes.color = np.clip(strokes.color + 0.02, 0, 1)
        strokes.opacity = np.full(len(strokes), press)
        lay(canvas, strokes, chalk(), relief=relief, side=easel.mask, tooth=0.75 * valleys, grip=2.0)
    return canvas


def pencil(easel: Easel) -> np.ndarray:
    """Graphite: hatching in even rows that gets denser with the dark, along the form too, and firm contours."""
    valleys = tooth(easel, 0.45)
    gray = easel.study @ GRAY
    low, high = np.percentile(gray, (1, 97))
    dark = 1 - np.clip((gray - low) / (high - low + 1e-6), 0, 1) ** 0.8
    soft = easel.study_blur(dark, 0.8)
    sheet, lead = np.float32([0.965, 0.955, 0.93]), np.float32([0.17, 0.17, 0.19])
    rubbed = np.clip(easel.full(soft), 0, 1) ** 1.5 * (0.86 - 0.16 * valleys)
    canvas = np.ascontiguousarray(sheet * (1 - rubbed[..., None] * (1 - lead)), np.float32)
    relief = np.zeros(valleys.shape, np.float32)
    paper = {"relief": relief, "side": easel.mask, "tooth": 0.35 * valleys, "grip": 1.6, "glaze": True}
    leads = np.zeros((*gray.shape, 3), np.float32) + lead
    form, edge = easel.lines(2.5, flat_angle=-0.85), easel.contours(0.5, 4.5)
    for hatch, start, length, spacing, press in HATCHES:
        strokes = easel.strokes(
            leads,
            Coat(length, 0.6, spacing),
            lines=form if hatch is None else np.broadcast_to(_doubled(hatch), (*gray.shape, 2)).copy(),
            wanted=smoothstep(start - 0.05, start + 0.12, soft),
            hatch=hatch,
        )
        there = strokes.center / easel.scale
        depth = 0.35 + 0.65 * easel.at(soft, there[:, 0], there[:, 1])
        strokes.opacity = press * depth * _hand(strokes)
        lay(canvas, strokes, pencil_line(), **paper)
    drawn = smoothstep(0.005, 0.022, edge) * smoothstep(5, 14, easel.lengths(edge > 0.008))  # no specks
    contours = easel.strokes(leads, Coat(4.6, 0.6, 0.65), lines=form, wanted=drawn)
    contours.opacity = 0.85 * _hand(contours)
    lay(canvas, contours, pencil_line(), **paper)
    return canvas


def _doubled(angle):
    """(cos, sin) of twice an angle, as Easel.lines has them."""
    return np.float32([np.cos(2 * angle), np.sin(2 * angle)])


def _hand(strokes):
    """How hard the hand pressed, [n] about 0.9."""
    return np.clip(0.9 + 0.12 * strokes.dice[:, 4], 0.6, 1.2)
