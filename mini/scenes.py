"""The rendered landscapes as what trains the image models: pictures, labels and captions, read from disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from text2cinemagraph.mini.captions import without_directions

LABELS = (
    "sky",
    "mountain",
    "grass",
    "tree",
    "rock",
    "sand",
    "river",
    "waterfall",
    "lake",
    "sea",
    "house",
    "boat",
    "bridge",
)  # as in the label PNGs


class Scenes:
    """What mini/procedural.py wrote to `folder`: natural and painted pictures, labels, captions.

    scenes: one dict of metadata each, as in <folder>_metadata.jsonl.  Raises FileNotFoundError that says how to render
    them.
    """

    def __init__(self, folder: str | Path, scenes: list[dict[str, Any]]) -> None:
        self.folder, self.scenes = Path(folder), scenes

    def path(self, index: int, style: str | None = None) -> Path:
        """The picture of a scene: natural (None) or in one of its styles."""
        name = self.scenes[index]["id"]
        return (
            self.folder / f"{name}_input.jpg"
            if style is None
            else Path(f"{self.folder}_styled") / f"{name}_{style}.jpg"
        )

    def picture(self, index: int, style: str | None = None) -> np.ndarray:
        """uint8 [H,W,3], RGB."""
        return read_rgb(self.path(index, style))

    def label(self, index: int) -> np.ndarray:
        """uint8 [H,W], index into LABELS."""
        return cv2.imread(f"{self.folder}_labels/{self.scenes[index]['id']}_label.png", cv2.IMREAD_GRAYSCALE)

    def caption(self, index: int, style: str | None = None) -> str:
        """What was asked for, without the direction of motion, which a still picture does not show."""
        return without_directions(self.scenes[index]["captions"][style or "natural"])

    def variants(self) -> list[tuple[int, str | None]]:
        """All pictures as (scene index, style or None)."""
        return [(i, style) for i, scene in enumerate(self.scenes) for style in (None, *scene["styles"])]

    def __len__(self):
        return len(self.scenes)


def read_scenes(folder: str | Path) -> Scenes:
    """Scenes of a folder, sorted by id."""
    listing = Path(f"{Path(folder)}_metadata.jsonl")
    if not listing.is_file():
        raise FileNotFoundError(
            f"no {listing}; render pictures first: python -m mini.procedural --output {folder} --count 3000"
        )
    lines = [line for line in listing.read_text().splitlines() if line.strip()]
    return Scenes(folder, sorted(map(json.loads, lines), key=lambda scene: scene["id"]))


def read_rgb(path: str | Path) -> np.ndarray:
    """uint8 [H,W,3]; FileNotFoundError where there is none."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"no readable picture {path}; render the data again (finished scenes are kept)")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def to_tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 pictures [H,W,3] of one size -> [N,3,H,W] in [-1,1]."""
    stacked = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(stacked / 127.5 - 1).contiguous(memory_format=torch.channels_last)
