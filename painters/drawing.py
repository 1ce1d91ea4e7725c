"""Looks drawn with dry sticks on the tooth of a paper: pastel, pencil."""

import numpy as np
from text2cinemagraph.painters.easel import saturate
from text2cinemagraph.painters.noise import smoothstep
from text2cinemagraph.painters.strokes import chalk, lay, pencil_line


def tooth(easel, grain):
    """The valleys of a drawing paper, [H,W]: evenly spread in about 0..1."""
    field = 0.8 * easel.noise(1.2, grain) + 0.6 * easel.noise(1.8, 2 * grain)
    return smoothstep(-1.9, 1.9, field)


def pastel(easel):
    """Soft pastel: smudged colour, then strokes of chalk that leave the paper's tooth open, fine ones last."""
    colors = np.clip(saturate(easel.study, 1.3) * 0.93 + 0.06, 0, 1)
    valleys = tooth(easel, 0.6)
    canvas = np.empty_like(easel.picture)
    smudge = easel.full(easel.study_blur(colors, 1.8))
    ground = 0.55 * smudge + 0.45 * np.float32([0.66, 0.58, 0.50])  # a toned paper, dusted
    hold = (0.86 - 0.22 * valleys)[..., None]
    canvas[:] = ground * (1 - hold) + smudge * hold
    relief = np.zeros(valleys.shape, np.float32)
    lines = easel.lines(2.0, flat_angle=-0.9)
    for length, width, spacing, blur, press in (
        (11.0, 2.6, 3.0, 1.4, 0.85),
        (7.0, 1.5, 1.9, 0.7, 0.9),
        (3.6, 0.75, 0.9, 0.3, 1.0),
    ):
        dipped = easel.study_blur(colors, blur)
        wanted = None if width > 2 else np.clip(easel.detail * 1.5 - 0.1, 0.12 if width > 1 else 0, 1)
        strokes = easel.strokes(
            dipped, length=length, width=width, spacing=spacing, lines=lines, tolerance=0.11, wanted=wanted
        )
        light = strokes.dice[:, :4] * (0.09, 0.03, 0.025, 0.035)
        strokes.color = np.clip(strokes.color * (1 + light[:, :1]) + light[:, 1:] + 0.02, 0, 1)
        strokes.opacity = np.full(len(strokes), press)
        lay(canvas, strokes, chalk(), relief=relief, side=easel.mask, tooth=0.75 * valleys, grip=2.0)
    return canvas


def pencil(easel):
    """Graphite: hatching in even rows that gets denser with the dark, along the form too, and firm contours."""
    valleys = tooth(easel, 0.45)
    gray = easel.study @ np.float32([0.3, 0.55, 0.15])
    low, high = np.percentile(gray, (1, 97))
    dark = 1 - np.clip((gray - low) / (high - low + 1e-6), 0, 1) ** 0.8
    soft = easel.study_blur(dark, 0.8)
    sheet, lead = np.float32([0.965, 0.955, 0.93]), np.float32([0.17, 0.17, 0.19])
    rubbed = np.clip(easel.full(soft), 0, 1) ** 1.25 * (0.72 - 0.18 * valleys)
    canvas = np.ascontiguousarray(sheet * (1 - rubbed[..., None] * (1 - lead)), np.float32)
    relief = np.zeros(valleys.shape, np.float32)
    leads = np.zeros((*gray.shape, 3), np.float32) + lead
    edge = easel.contours(0.6, 5.0)
    form = easel.lines(2.5, flat_angle=-0.85)
    for hatch, start, length, spacing, press in (
        (-0.85, 0.10, 9.0, 1.35, 0.55),
        (-0.45, 0.45, 7.0, 1.25, 0.6),
        (None, 0.35, 5.0, 1.5, 0.6),
        (0.55, 0.70, 6.0, 1.25, 0.6),
        (None, None, 4.6, 0.65, 0.95),
    ):
        wanted = smoothstep(0.005, 0.022, edge) if start is None else smoothstep(start - 0.05, start + 0.12, soft)
        lines = (
            form
            if hatch is None
            else np.zeros((*gray.shape, 2), np.float32) + np.float32([np.cos(2 * hatch), np.sin(2 * hatch)])
        )
        strokes = easel.strokes(
            leads, length=length, width=0.6, spacing=spacing, lines=lines, tolerance=None, wanted=wanted, hatch=hatch
        )
        there = strokes.center / easel.scale
        depth = 0.35 + 0.65 * easel.at(soft, there[:, 0], there[:, 1])
        strokes.opacity = press * (0.9 if start is None else depth) * np.clip(0.9 + 0.12 * strokes.dice[:, 4], 0.6, 1.2)
        lay(
            canvas,
            strokes,
            pencil_line(),
            relief=relief,
            side=easel.mask,
            tooth=valleys * 0.35,
            grip=1.6,
            glaze=True,
        )
    return canvas
