"""Masks from strokes (--mask_strokes), measured: how near do ten strokes come to a mask that a person made?

    python -m evaluate.scribbles ../shared/samples --segmenter checkpoints/mini/segmenter \
        --output docs/results/scribbles.json

A folder is read as one sample a sub-folder with the picture (image.jpg, or sample_0.png of a published run) and its
mask (mask.png, or mask_self_attn_erosion.png). The strokes follow from the mask by a fixed rule, see `strokes_of`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.motion_file import DrawnMotion
from text2cinemagraph.img2img.edges import from_strokes
from text2cinemagraph.options.cli import Parser, run_main

if TYPE_CHECKING:
    from text2cinemagraph.img2img.segment import Segmenter

PICTURES, MASKS = ("image.jpg", "image.png", "sample_0.png"), ("mask.png", "mask_self_attn_erosion.png")
STROKES = 5  # on what moves, and as many on what does not
REACH, WIDTH = 1 / 20, 1 / 128  # of the geometric mean of the sides: a stroke's half length and its width
VOCABULARY = "water, waterfall, river, ocean, lake, sea; sky, clouds"


def strokes_of(region: np.ndarray, count: int = STROKES) -> np.ndarray:
    """Strokes as a hand would draw them into a region: pieces of its skeleton around `places_of`.

    region: bool [H,W], not empty.   Returns bool [H,W].
    """
    side, drawn = np.sqrt(region.size), np.zeros(region.shape, np.uint8)
    places, points = places_of(region, count)
    for place in places:
        for px, py in points[np.hypot(*(points - place).T) < side * REACH].astype(int):
            cv2.circle(drawn, (int(px), int(py)), max(round(side * WIDTH / 2), 1), 1, -1)
    return (drawn > 0) & region


def places_of(region: np.ndarray, count: int = STROKES) -> tuple[np.ndarray, np.ndarray]:
    """Where a hand would mark a region: (places [count,2], all points [n,2] of its skeleton), (x, y) in px.

    region: bool [H,W], not empty.   The first place is where the region is widest; each next one where the way to
    the others is longest, times how wide the region is there (up to a twentieth of the side).
    """
    from skimage.morphology import skeletonize

    side = np.sqrt(region.size)
    depth = cv2.distanceTransform(np.uint8(np.pad(region, 1)), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.nonzero(skeletonize(region))
    points = np.stack([x, y], -1).astype(float)
    middle = np.minimum(depth[y, x], side * REACH)
    away, spots = np.full(len(points), np.inf), [int(depth[y, x].argmax())]
    while len(spots) < count:
        away = np.minimum(away, np.hypot(*(points - points[spots[-1]]).T))
        spots.append(int((away * middle).argmax()))
    return points[spots], points


def agreement(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two bool maps."""
    return float((found & true).sum() / max((found | true).sum(), 1))


def measure(folder: Path, segmenter: Segmenter | None = None) -> dict:
    """One sample: IoU with the true mask of one from strokes, of one from points, of a segmenter; CPU seconds."""
    picture, mask = (next(folder / n for n in names if (folder / n).is_file()) for names in (PICTURES, MASKS))
    image = read_image(picture)
    true = read_mask(mask, tuple(image.shape[-2:]))[0].numpy()
    moves, still = (torch.from_numpy(strokes_of(region))[None] for region in (true, ~true))
    start = time.process_time()
    found = from_strokes(image, moves, still)[0].numpy()
    seconds = time.process_time() - start
    row = {"iou": round(agreement(found, true), 4), "cpu_seconds": round(seconds, 2), "size": list(true.shape)}
    may, must_not = (tuple(map(tuple, places_of(region)[0].tolist())) for region in (true, ~true))
    points = DrawnMotion(may_move=may, must_not_move=must_not).marks_at(true.shape)
    row["points_iou"] = round(agreement(from_strokes(image, *points)[0].numpy(), true), 4)
    if segmenter:
        row["segmenter_iou"] = round(agreement(_segmented(image, segmenter), true), 4)
    return row


def _segmented(image, segmenter):
    from text2cinemagraph.img2img.segment import EmptyMask, segment

    try:
        return segment(image, VOCABULARY, segmenter).mask[0].numpy()
    except EmptyMask:
        return np.zeros(image.shape[-2:], bool)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m evaluate.scribbles", description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path, help="folder of samples")
    parser.add_argument("--segmenter", default="", help="checkpoint folder of a segmenter to measure beside it")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    flags = parser.parse_args()
    folders = sorted(f for f in flags.samples.iterdir() if f.is_dir()) if flags.samples.is_dir() else []
    folders = [f for f in folders if all(any((f / n).is_file() for n in names) for names in (PICTURES, MASKS))]
    if not folders:
        raise FileNotFoundError(
            f"no samples in {flags.samples}; expected sub-folders with one of {', '.join(PICTURES)} and {MASKS[0]}"
        )
    segmenter = None
    if flags.segmenter:
        from text2cinemagraph.img2img.segment import load_segmenter
        from text2cinemagraph.options.runtime import make_runtime

        segmenter = load_segmenter("transformers", flags.segmenter, make_runtime("cpu", "fp32"))
    rows = {folder.name: measure(folder, segmenter) for folder in folders}
    names = [name for name in ("iou", "points_iou", "segmenter_iou") if name in rows[folders[0].name]]
    result = {
        "strokes": f"{STROKES} on what moves and {STROKES} on what does not, by evaluate.scribbles.strokes_of",
        "samples": rows,
        "mean": {name: round(float(np.mean([row[name] for row in rows.values()])), 4) for name in names},
    }
    print(json.dumps(result, indent=1))
    if flags.output:
        with atomic(flags.output) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run_main(main)
