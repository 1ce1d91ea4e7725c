"""One mask per class of the vocabulary in one picture: palette colours for people, numbers and names for programs."""

import colorsys
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from text2cinemagraph.data.artifacts import OWN_MEGAPIXELS
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.pictures import open_picture

NAMES = "classes"  # the key of the PNG's text that lists the classes' names, in the order of their numbers from 1
MOST = 255  # a palette has 256 entries, 0 = no class


def write_classes(path: str | Path, classes: dict[str, torch.Tensor]) -> None:
    """{name: bool [1,H,W]} -> a palette PNG, atomically; where classes overlap, the first keeps the pixel."""
    if not 0 < len(classes) <= MOST:
        raise ValueError(f"{len(classes)} classes; expected 1 to {MOST}: put synonyms into one class with ','")
    numbers = np.zeros(next(iter(classes.values())).shape[-2:], np.uint8)
    for number, mask in reversed(list(enumerate(classes.values(), 1))):
        numbers[mask[0].cpu().numpy()] = number
    picture = Image.fromarray(numbers, "P")
    hues = (colorsys.hsv_to_rgb(0.61803398875 * n % 1, 0.65, 0.95) for n in range(1, len(classes) + 1))
    picture.putpalette([0, 0, 0, *(round(255 * value) for hue in hues for value in hue)])
    text = PngImagePlugin.PngInfo()
    text.add_text(NAMES, json.dumps(list(classes)))
    with atomic(path) as temporary:
        picture.save(temporary, pnginfo=text)


def read_classes(path: str | Path) -> dict[str, torch.Tensor]:
    """What write_classes wrote: {name: bool [1,H,W]}.  Raises ValueError for another picture."""
    try:
        picture = open_picture(path, "file of classes", OWN_MEGAPIXELS)
        names, numbers = json.loads(picture.info.get(NAMES, "null")), np.array(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged ({str(error)[:80]}); run s3 again") from error
    if not isinstance(names, list) or not names or numbers.ndim != 2 or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path} names no classes: it was not written by s3 or s4; run s3 again")
    return {name: torch.from_numpy(numbers == number)[None] for number, name in enumerate(names, 1)}
