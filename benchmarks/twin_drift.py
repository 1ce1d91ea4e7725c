"""What the drift of a twin measures where the truth is known; the limits of twin_editing come from here.

    python -m benchmarks.twin_drift              # two CPU minutes; writes docs/results/twin_drift.json

Pairs of one layout and two looks are photographs inside the wheels of scikit-image and scikit-learn and what the
painters make of them; then the painting is shifted, zoomed, mirrored, or compared with another photograph.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import read_image
from text2cinemagraph.img2img.instructed import SHORT_SIDE, drift
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.painters.looks import LOOKS, paint

RESULT = Path("docs/results/twin_drift.json")
SHIFTS, ZOOMS = (1, 2, 4, 8, 16), (1.02, 1.05)  # px at a short side of 512, along x; factors


def photographs() -> list[np.ndarray]:
    """float32 [H,W,3] in [0,1], short side 512 px."""
    import skimage
    import sklearn

    images = Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"
    files = [images[0] / name for name in ("coffee.png", "chelsea.png", "rocket.jpg")] + [images[1] / "china.jpg"]
    found = []
    for file in files:
        picture = read_image(file).permute(1, 2, 0).numpy()
        scale = SHORT_SIDE / min(picture.shape[:2])
        size = tuple(round(side * scale) for side in picture.shape[1::-1])
        found.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    return found


def moved(picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(what was done, the picture so): nothing, shifts, zooms about the middle, a mirror."""
    height, width = picture.shape[:2]
    yield "in place", picture
    for name, matrix in [(f"shift {px} px", [[1, 0, px], [0, 1, 0]]) for px in SHIFTS] + [
        (f"zoom {k}", [[k, 0, (1 - k) * width / 2], [0, k, (1 - k) * height / 2]]) for k in ZOOMS
    ]:
        yield name, cv2.warpAffine(picture, np.float32(matrix), (width, height), borderMode=cv2.BORDER_REFLECT)
    yield "mirrored", np.ascontiguousarray(picture[:, ::-1])


def main(arguments: list[str] | None = None) -> None:
    """Measure all pairs and write the quantiles."""
    parser = Parser(prog="python -m benchmarks.twin_drift", description=__doc__)
    parser.add_argument("--out", default=str(RESULT), help="where the numbers go (default: %(default)s)")
    flags = parser.parse_args(arguments)
    pictures, rows = photographs(), {}
    tensors = [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]
    for i, picture in enumerate(pictures):
        for look in LOOKS:
            for what, other in moved(paint(picture, look, seed=1)):
                rows.setdefault(what, []).append(drift(torch.from_numpy(other).permute(2, 0, 1), tensors[i]))
        for j, other in enumerate(tensors):
            if j != i:
                same_size = torch.nn.functional.interpolate(other[None], tensors[i].shape[-2:], mode="bilinear")[0]
                rows.setdefault("another photograph", []).append(drift(tensors[i], same_size))
    quantiles = (0, 0.1, 0.5, 0.9, 1)
    table = {
        what: {
            "pairs": len(found),
            "px": [round(float(q), 2) for q in np.quantile([one.px for one in found], quantiles)],
            "shared": [round(float(q), 2) for q in np.quantile([one.shared for one in found], quantiles)],
        }
        for what, found in rows.items()
    }
    note = "px at a short side of 512 and share of edges; least, 10 %, median, 90 %, most of the pairs"
    with atomic(flags.out) as path:
        Path(path).write_text(json.dumps({"what": note, "pairs": table}, indent=1) + "\n")
    for what, row in table.items():
        print(f"{what:20} px {row['px']}  shared {row['shared']}")


if __name__ == "__main__":
    run_main(main)
