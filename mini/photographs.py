"""The segmenter on photographs: pictures inside the wheels of scikit-learn and scikit-image, with masks made by hand.

One of them shows water; the others show how often water is seen where none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from text2cinemagraph.img2img.edges import refined
from text2cinemagraph.img2img.segment import EmptyMask, segment
from text2cinemagraph.pipeline.segmenting import segmenter_of

if TYPE_CHECKING:
    from text2cinemagraph.mini.measure import Bench

WATER, SKY = "water, waterfall, river, ocean, lake, sea", "sky, clouds"
# Corners (x, y) in px, drawn by hand, of water and sky in sklearn's china.jpg (640x427) and skimage's camera (512x512).
CHINA_LAKE = (
    "330,233 370,232 425,240 500,240 500,219 548,221 552,270 548,275 530,272 515,285 490,297 470,293 450,305 420,315 "
    "395,322 378,330 352,325 350,300 340,290 338,270 350,255 330,243",
    "0,278 30,277 62,268 80,272 82,305 72,320 60,322 20,320 8,295 0,295",
)
CHINA_SKY = (
    "0,0 640,0 640,150 625,135 612,135 590,148 575,175 572,195 560,207 330,203 328,178 300,160 296,130 318,122 262,95 "
    "216,60 216,30 198,30 196,60 150,95 98,107 97,130 118,160 85,170 85,185 95,200 50,205 45,205 20,185 5,165 0,150",
)
CAMERA_SKY = (
    "0,0 512,0 512,175 440,165 430,120 412,120 410,190 390,190 350,170 330,185 322,140 262,135 265,105 240,75 200,65 "
    "165,95 110,115 70,150 45,180 0,180",
)


def filled(polygons: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """Polygons as texts "x,y x,y ..." -> bool [H,W]."""
    mask = np.zeros(size, np.uint8)
    for text in polygons:
        corners = np.array([[float(v) for v in pair.split(",")] for pair in text.split()])
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return mask > 0


def photographs(bench: Bench) -> dict[str, Any]:
    """IoU of what s3 sees on photographs, before and after its mask is moved to the edges, and the share of pictures
    without water that it calls water.
    """
    from skimage import data
    from sklearn.datasets import load_sample_image

    china, camera = load_sample_image("china.jpg"), np.repeat(data.camera()[..., None], 3, 2)
    result = {}
    for name, pixels, words, polygons in (
        ("lake", china, WATER, CHINA_LAKE),
        ("sky", china, SKY, CHINA_SKY),
        ("gray_sky", camera, SKY, CAMERA_SKY),
    ):
        image, true = _tensor(pixels), filled(polygons, pixels.shape[:2])
        seen = _seen(image, words, bench)
        moved = refined(image, seen)[0]
        result[name] = {"s3": _iou(seen[0].numpy(), true), "to_edges": _iou(moved[0].numpy(), true)}
    dry = (data.astronaut(), data.coffee(), data.chelsea(), load_sample_image("flower.jpg"), camera)
    shares = [_seen(_tensor(pixels), WATER, bench).float().mean().item() for pixels in dry]
    return result | {"water_where_none_is": {"mean_share": float(np.mean(shares)), "most": float(max(shares))}}


def _tensor(pixels):
    return torch.from_numpy(np.float32(pixels) / 255).permute(2, 0, 1)


def _seen(image, words, bench):
    try:
        return segment(image, words, segmenter_of(bench.options, bench.networks, bench.runtime)).mask
    except EmptyMask:
        return torch.zeros(1, *image.shape[-2:], dtype=torch.bool)


def _iou(found, true):
    return float((found & true).sum() / (found | true).sum())
