"""Landscapes that nothing was trained on, rendered in memory, with all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from text2cinemagraph.mini.procedural import Job, caption
from text2cinemagraph.mini.scene import KINDS, Scene
from text2cinemagraph.mini.styles import STYLES, stylize
from tqdm import tqdm

NATURAL = "natural"
LOOKS = (NATURAL, *STYLES)


@dataclass
class Example:
    """kind: of KINDS.   caption: of the natural picture.   image: [3,H,W] in [0,1].   painted: {style: [3,H,W]}.

    labels: uint8 [H,W].   mask: bool [1,H,W].   flow: [2,H,W] px/frame, 0 outside the mask.   frames: the true clip, or
    ().
    """

    kind: str
    caption: str
    image: torch.Tensor
    painted: dict
    labels: np.ndarray
    mask: torch.Tensor
    flow: torch.Tensor
    frames: tuple = ()


def examples(
    count: int,
    seed: int,
    split: str = "validation",
    *,
    styles: int = 1,
    video: bool = False,
    kinds: Sequence[str] = KINDS,
    edition: int = 1,
) -> list[Example]:
    """`count` Examples of all kinds in turn.

    seed: of the set; 0 is what the networks were trained and chosen on, so it raises ValueError.   styles: painted
    pictures per scene.   edition: of the renderer, see mini/styles.py.
    """
    if seed == 0:
        raise ValueError("seed 0 is the set that the networks were trained on; expected another number")
    return [
        _example(
            Job(i, None, seed=seed, split=split).scene_seed,
            kinds[i % len(kinds)],
            [STYLES[(i // len(kinds) + i + k) % len(STYLES)] for k in range(styles)],
            video,
            edition,
        )
        for i in tqdm(range(count), f"rendering ({split})", leave=False)
    ]


def _example(seed, kind, styles, video, edition):
    scene = Scene(seed, kind=kind, edition=edition)
    return Example(
        kind,
        caption(scene),
        to_image(scene.image),
        {style: to_image(stylize(scene, style, edition)) for style in styles},
        scene.labels,
        torch.from_numpy(scene.mask)[None],
        torch.from_numpy(scene.flow),
        tuple(scene.video()) if video else (),
    )


def to_image(picture: np.ndarray) -> torch.Tensor:
    """float [H,W,3] in [0,1], rounded to what a file would hold -> [3,H,W]."""
    return torch.from_numpy(np.round(picture * 255).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
