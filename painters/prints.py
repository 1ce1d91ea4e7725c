"""Looks printed from blocks: ukiyo."""

import cv2
import numpy as np
from text2cinemagraph.painters.easel import Easel, saturate
from text2cinemagraph.painters.noise import mix, smoothstep

INKS = 16  # blocks of a print
VIVID = 1.6  # how much more hue counts than brightness when blocks are told apart


def ukiyo(easel: Easel) -> np.ndarray:
    """Woodblock print: a few flat inks on warm paper, a dark blue key block of contours, shading wiped into the sky."""
    flat = easel.flattened(rounds=3, reach=5.0, tolerance=0.14)
    palette = inks(easel, flat)
    fields = saturate(easel.full(flat), VIVID)
    block, nearest = np.zeros(fields.shape[:2], np.uint8), np.full(fields.shape[:2], np.inf, np.float32)
    for k, color in enumerate(palette):
        distance = np.square(fields - color).sum(-1)
        block[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
    printed = aged(palette)[block]
    printed = cv2.GaussianBlur(np.float32(printed), (0, 0), 0.7)
    tone = (
        easel.full(easel.study_blur(easel.study, 7)) - easel.blur(np.float32(saturate(palette, 1 / VIVID)[block]), 3)
    ).mean(-1)
    printed = printed * (1 + 0.7 * np.clip(tone, -0.25, 0.25))[..., None]  # bokashi: ink wiped off towards the light
    grain = easel.noise(1.3, 0.9, (6.0, 0.8))
    printed = printed * (1 + 0.02 * grain)[..., None]
    edge = easel.contours(0.75, 6.0)
    cut = smoothstep(4, 10, easel.lengths(edge > 0.002))  # no block is cut with specks
    line = smoothstep(0.006, 0.016, easel.full(edge * cut))
    printed = mix(printed, np.float32([0.10, 0.13, 0.24]), 0.88 * line)
    return printed * np.float32([1.0, 0.985, 0.94]) + 0.012 * easel.noise(0.8, 0.6)[..., None]


def inks(easel: Easel, flat: np.ndarray) -> np.ndarray:
    """The colours [INKS,3] of the blocks: those that stand for the picture best, vivid ones before gray ones."""
    samples = np.ascontiguousarray(flat[::2, ::2].reshape(-1, 3))
    chroma = np.ptp(samples, axis=1)
    order = np.argsort(easel.rng.random(len(samples)) / (0.12 + chroma))  # small vivid parts count more
    samples = saturate(samples[order[: len(samples) // 3]], VIVID)
    cv2.setRNGSeed(int(easel.rng.integers(1 << 30)))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-3)
    return cv2.kmeans(samples, INKS, None, stop, 2, cv2.KMEANS_PP_CENTERS)[2]


def aged(palette: np.ndarray) -> np.ndarray:
    """Mineral and plant colours: warmer lights, blues towards Prussian blue, no pure black or white."""
    gray = palette.mean(-1, keepdims=True)
    out = saturate(palette, 0.8)
    out = out * np.float32([0.97, 0.93, 0.84]) + np.float32([0.045, 0.045, 0.045])
    return np.float32(np.clip(out * (1 + 0.6 * (1 - gray) * np.float32([-0.15, -0.05, 0.25])), 0.05, 0.96))
