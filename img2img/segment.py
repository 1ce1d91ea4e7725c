"""s3's one door: a picture and a vocabulary -> the mask of what the vocabulary names, by one of several backends."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.checkpoint import weights_of
from text2cinemagraph.options.places import located
from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.options.runtime import Runtime


# What a backend finds: a mask bool [1,H,W] and a score in [0,1] per class, and the words that it has no label for.
Found = tuple[dict[str, "torch.Tensor"], dict[str, float], list[str]]


@dataclass(frozen=True)
class Backend:
    """load, find: "module:name" in this room, imported when used: each brings libraries that others do not need.

    load: (checkpoint, runtime) -> a model.   find: (image, classes, model) -> see img2img/segmenters.py.
    checkpoint: where its weights are looked for.   licence: of the weights, told when it is taken.
    words: "any" that one can write, or those of its "labels".
    """

    load: str
    find: str
    checkpoint: str
    licence: str
    words: str = "any"


def _function(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


# Best first: the order in which `auto` looks for weights.
BACKENDS = {
    "odise": Backend(
        "odise:load_odise", "odise:odise", "checkpoints/odise", "weights CC BY-NC-SA 4.0: non-commercial use only"
    ),
    "odise-package": Backend(
        "odise_package:load_odise_package",
        "odise_package:odise_package",
        "",
        "code under the NVIDIA Source Code License, weights CC BY-NC-SA 4.0: non-commercial use only",
    ),
    "sam3": Backend(
        "segmenters:load_sam3",
        "segmenters:sam3",
        "checkpoints/sam3",
        "SAM License; gated: accept its terms at huggingface.co/facebook/sam3",
    ),
    "transformers": Backend(
        "segmenters:load_labels",
        "segmenters:transformers_labels",
        "checkpoints/segmenter",
        "as the model's card says",
        "labels",
    ),
    "clipseg": Backend("segmenters:load_clipseg", "segmenters:clipseg", "checkpoints/clipseg", "Apache 2.0"),
}


@dataclass(frozen=True)
class Segmenter:
    """A backend with its model.  backend: its name."""

    backend: str
    model: Any


@dataclass
class Segmentation:
    """mask: bool [1,H,W], True where any class is.  class_masks, scores: per class of the vocabulary (scores in [0,1]).

    unmatched: words that the model has no label for.   backend: which one it was.
    """

    mask: torch.Tensor
    class_masks: dict
    scores: dict
    unmatched: list = field(default_factory=list)
    backend: str = ""


class EmptyMask(ValueError):
    """Nothing of the vocabulary was found: an outcome of its own, never a black mask."""


def parse_vocabulary(text: str) -> list[list[str]]:
    """ "water, river; sky" -> [["water", "river"], ["sky"]]: ';' separates classes, ',' the synonyms of one."""
    classes = [[word.strip().lower() for word in part.split(",") if word.strip()] for part in text.split(";")]
    classes = [words for words in classes if words]
    if not classes:
        raise ValueError(f'the vocabulary {text!r} names nothing; write e.g. "water, river, sea" in odise.vocab')
    return classes


def choose_backend(backend: str, checkpoint: str | Path) -> tuple[str, str]:
    """(name, checkpoint) of what will segment.

    backend: one of BACKENDS, or "auto": by what lies in `checkpoint` if one is named, else the first whose weights are
    on this disk.
    checkpoint: folder or hub id; "" = the backend's own place.
    """
    if backend != "auto":
        if backend not in BACKENDS:
            raise ValueError(f"odise.backend={backend!r} is unknown; choose auto, {', '.join(BACKENDS)}")
        place = checkpoint or BACKENDS[backend].checkpoint
        return backend, str(located(place)) if place else ""
    if checkpoint:
        checkpoint = located(checkpoint)
        return _backend_of(checkpoint), str(checkpoint)
    passed_over = []
    for name, entry in BACKENDS.items():
        if entry.checkpoint and _may_be(name, Path(entry.checkpoint)):
            lacking = _lacks(name, entry.checkpoint)
            if not lacking:
                return name, entry.checkpoint
            passed_over.append(name)
            tqdm.write(f"s3: {name} is passed over: {'; '.join(lacking)}")
        if name == "odise-package" and all(importlib.util.find_spec(module) for module in ("odise", "detectron2")):
            return name, ""
    places = ", ".join(f"{entry.checkpoint} ({name})" for name, entry in BACKENDS.items() if entry.checkpoint)
    also = f" ({', '.join(passed_over)} only in part)" if passed_over else ""
    raise FileNotFoundError(
        f"no whole segmenter on this disk{also}; looked in {places}; fetch one: python -m data.fetch segmenter "
        "(or: odise, non-commercial), or give a mask of your own with --mask"
    )


def _may_be(name, folder):
    """Whether somebody began to put a backend's weights there."""
    begun = any(path.is_file() for path in folder.rglob("*"))
    return begun and (name == "odise" or _backend_of(folder) == name)


def _lacks(name, checkpoint):
    """Why a backend cannot run from a folder that is there; [] = it can."""
    if name == "odise":
        from text2cinemagraph.img2img.odise import lacking_parts

        return lacking_parts(checkpoint)
    try:
        weights_of(checkpoint)
    except ValueError as error:
        return [str(error)]
    return []


def _backend_of(checkpoint):
    """Which backend reads a folder (or file)."""
    from text2cinemagraph.img2img.segmenters import kind_of

    path = Path(checkpoint)
    if path.is_file() or any(path.glob("odise*")):
        return "odise"
    return {"clipseg": "clipseg", "sam3": "sam3", "sam3_video": "sam3"}.get(kind_of(path), "transformers")


def load_segmenter(backend: str, checkpoint: str, runtime: Runtime) -> Segmenter:
    """What segment() looks with; a shelf of networks keeps and frees it.  backend, checkpoint: see choose_backend."""
    name, checkpoint = choose_backend(backend, checkpoint)
    return Segmenter(name, _function(BACKENDS[name].load)(checkpoint, runtime))


def segment(image: torch.Tensor, vocabulary: str, segmenter: Segmenter) -> Segmentation:
    """Find what the vocabulary names.

    image: [3,H,W] in [0,1], any size.
    Raises EmptyMask where nothing is found, ValueError where no word is known to the model.
    """
    import torch

    find = _function(BACKENDS[segmenter.backend].find)
    class_masks, scores, unmatched = find(image, parse_vocabulary(vocabulary), segmenter.model)
    if unmatched:
        warnings.warn(f"the segmentation model has no label for: {', '.join(unmatched)}", stacklevel=2)
    mask = torch.stack(list(class_masks.values())).any(0)
    if not mask.any():
        raise EmptyMask(
            f"the mask is empty: nothing in the picture was recognised as {vocabulary!r}; change odise.vocab, "
            "the twin (twin_generation.prompt, seed), or give a mask of your own with --mask"
        )
    if mask.all():
        warnings.warn(f"the mask covers the whole picture: everything was recognised as {vocabulary!r}", stacklevel=2)
    return Segmentation(mask, class_masks, scores, unmatched, segmenter.backend)
