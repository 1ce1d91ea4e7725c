"""Wordings for training: true to the scene, varied, repeatable, without the direction of motion."""

import numpy as np
from text2cinemagraph.mini.captions import LIGHTS, NOUNS, STYLES, wordings

SCENE = {
    "kind": "lake",
    "light": "night",
    "styles": ["oil"],
    "captions": {
        "natural": "lake flowing in left to right direction, night, nature, 4k",
        "oil": "a lake at night in the style of oil painting",
    },
}


def test_wordings_name_what_is_there():
    made = wordings(SCENE, "oil", np.random.default_rng(0), 60)
    assert len(made) == 60 and made[0] == SCENE["captions"]["oil"] == made[3]
    for text in made:
        assert any(noun in text for noun in NOUNS["lake"]) and any(name in text for name in STYLES["oil"])
        assert any(words in text for words in LIGHTS["night"]) and "  " not in text
    assert len(set(made)) > 20
    assert made == wordings(SCENE, "oil", np.random.default_rng(0), 60)


def test_natural_wordings_name_no_style_and_no_direction():
    made = wordings(SCENE, None, np.random.default_rng(0), 60)
    assert not any("style" in text or "direction" in text for text in made)
    assert any("photograph" in text for text in made[1:3] + made[4:6]) or any("nature" in text for text in made)
