"""s3's one door: a picture and a vocabulary -> the mask of what the vocabulary names."""

import warnings
from dataclasses import dataclass, field

import torch

from img2img.segmenters import BACKENDS


@dataclass
class Segmentation:
    """mask: bool [1,H,W], True where any class is.  class_masks, scores: per class of the vocabulary (scores in [0,1]).

    unmatched: words that the model has no label for.
    """
    mask: torch.Tensor
    class_masks: dict
    scores: dict
    unmatched: list = field(default_factory=list)


def parse_vocabulary(text):
    """"water, river; sky" -> [["water", "river"], ["sky"]]: ';' separates classes, ',' the synonyms of one."""
    classes = [[word.strip().lower() for word in part.split(",") if word.strip()] for part in text.split(";")]
    classes = [words for words in classes if words]
    if not classes:
        raise ValueError(f"the vocabulary {text!r} names nothing; write e.g. \"water, river, sea\" in odise.vocab")
    return classes


def segment(image, vocabulary, backend, checkpoint, runtime):
    """Find what the vocabulary names.

    image: [3,H,W] in [0,1], any size.   backend: one of segmenters.BACKENDS.   checkpoint: folder (or hub id already on disk).
    Raises ValueError where nothing is found, or no word is known to the model.
    """
    if backend not in BACKENDS:
        raise ValueError(f"odise.backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    classes = parse_vocabulary(vocabulary)
    class_masks, scores, unmatched = BACKENDS[backend](image, classes, checkpoint, runtime)
    if unmatched:
        warnings.warn(f"the segmentation model has no label for: {', '.join(unmatched)}", stacklevel=2)
    mask = torch.stack(list(class_masks.values())).any(0)
    if not mask.any():
        raise ValueError(f"the mask is empty: nothing in the picture was recognised as {vocabulary!r}; change odise.vocab, "
                         "the twin (twin_generation.prompt, seed), or give a mask of your own with --mask")
    if mask.all():
        warnings.warn(f"the mask covers the whole picture: everything was recognised as {vocabulary!r}", stacklevel=2)
    return Segmentation(mask, class_masks, scores, unmatched)
