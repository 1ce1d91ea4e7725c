"""The looks that procedural scenes are painted in: painters/ knows how, this says which and what captions call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from text2cinemagraph.mini.canvas import LABELS
from text2cinemagraph.painters.first_edition import FIRST_LOOKS, paint_first
from text2cinemagraph.painters.looks import paint

if TYPE_CHECKING:
    from text2cinemagraph.mini.scene import Scene

STYLES = FIRST_LOOKS
EDITIONS = (1, 2)
# How captions name a style; the first name is the commonest, see mini/procedural.py.
STYLE_NAMES = {
    "starry": ("starry nights painting", "van gogh starry night"),
    "oil": ("oil painting", "Leonid Afremov", "impressionism"),
    "watercolor": ("watercolor", "a watercolor painting"),
    "ukiyo": ("japanese woodblock print", "ukiyo-e"),
    "lowpoly": ("low poly", "low poly art"),
}


def stylize(scene: Scene, style: str, edition: int = 1) -> np.ndarray:
    """Paint a scene in one of STYLES. Returns float32 [H,W,3] in [0,1]; the same arguments give the same bytes.

    edition: 1 = what the shipped family was trained on and is measured against; 2 = the looks of photographs
    (painters.looks), for the next family.
    Raises ValueError for an unknown style or edition.
    """
    if style not in STYLES or edition not in EDITIONS:
        known = f"a style of {', '.join(STYLES)}; an edition of {', '.join(map(str, EDITIONS))}"
        raise ValueError(f"unknown style {style!r} or edition {edition!r}; expected {known}")
    sky = scene.labels == LABELS.index("sky")
    if edition == 1:
        return paint_first(scene, style, sky)
    seed = np.random.SeedSequence([scene.seed, 1 + STYLES.index(style)]).generate_state(1)[0]
    return paint(scene.image, style, seed=int(seed), mask=scene.mask, flow=scene.flow, labels={"sky": sky})
