"""The backends of s3. Each takes (image, classes, checkpoint, runtime) and returns ({class: bool [1,H,W]}, {class: score}, unmatched)."""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

# Words people use -> labels that models have (ADE20K, COCO panoptic, our landscapes). A word also matches a label that is
# the word itself, or holds it as a whole word ("water-other", "sky, heaven").
ALIASES = {
    "water": ("water", "river", "lake", "sea", "waterfall", "falls", "pool", "water-other", "swimming pool"),
    "ocean": ("sea",), "sea": ("sea", "ocean"), "wave": ("sea", "water"), "stream": ("river",), "creek": ("river",), "brook": ("river",),
    "rapid": ("river",), "pond": ("lake",), "waterfall": ("waterfall", "falls"), "fall": ("waterfall", "falls"),
    "cloud": ("sky", "clouds", "sky-other"), "sky": ("sky", "sky-other"),
    "forest": ("tree",), "hill": ("mountain", "hill"), "beach": ("sand",), "meadow": ("grass", "field"),
}


def match_labels(words, labels):
    """(indices of the labels that a class's words mean, words that mean none).  labels: {index: text}."""
    indices, unmatched = set(), []
    for word in words:
        found = {i for i, text in labels.items() if any(_names(text.lower(), name) for name in _readings(word))}
        indices |= found
        if not found:
            unmatched.append(word)
    return sorted(indices), unmatched


def _readings(word):
    single = word if word.endswith("ss") else word.removesuffix("s")
    return {word, single, *ALIASES.get(word, ()), *ALIASES.get(single, ())}


def _names(text, name):
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    words = text.replace(",", " ").replace("-", " ").split()
    return name in parts or name in words


@lru_cache(maxsize=1)
def _load(checkpoint, runtime):
    if not Path(checkpoint).is_dir() and "/" in checkpoint and Path(checkpoint).parts[0] in ("checkpoints", "/", ".", ".."):
        raise FileNotFoundError(f"no segmentation model at {checkpoint}; save one there that transformers can load, e.g. with "
                                "`hf download shi-labs/oneformer_ade20k_swin_tiny --local-dir " + checkpoint + "` (see checkpoints/README.md)")
    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
        universal = any("Universal" in name or name.endswith("ForUniversalSegmentation") for name in config.architectures or ())
        kind = AutoModelForUniversalSegmentation if universal else AutoModelForSemanticSegmentation
        model = kind.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(checkpoint, local_files_only=True, use_fast=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"the segmentation model {checkpoint!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    return model.to(runtime.device).eval().requires_grad_(False), processor


def transformers_labels(image, classes, checkpoint, runtime):
    """A semantic or universal segmentation model of transformers with a fixed list of labels."""
    model, processor = _load(str(checkpoint), runtime)
    size = tuple(image.shape[-2:])
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    inputs = processor(images=[pixels], return_tensors="pt").to(runtime.device)
    outputs = model(**{k: v for k, v in inputs.items() if k in ("pixel_values", "pixel_mask")})
    if hasattr(outputs, "logits"):
        scores = F.interpolate(outputs.logits, size, mode="bilinear", align_corners=False)[0].softmax(0)   # [labels,H,W]
    else:                                                          # mask classification: sum of class x mask over the queries
        names = outputs.class_queries_logits.softmax(-1)[0, :, :-1]
        masks = F.interpolate(outputs.masks_queries_logits, size, mode="bilinear", align_corners=False)[0].sigmoid()
        scores = torch.einsum("qc,qhw->chw", names, masks)
    winner, class_masks, confidences, unmatched = scores.argmax(0).cpu(), {}, {}, []
    for words in classes:
        indices, unknown = match_labels(words, model.config.id2label)
        unmatched += unknown
        mask = torch.isin(winner, torch.tensor(indices, dtype=winner.dtype))[None]
        class_masks[words[0]] = mask
        confidences[words[0]] = float(scores.max(0).values.cpu()[mask[0]].mean()) if mask.any() else 0.0
    if len(unmatched) == sum(map(len, classes)):
        raise ValueError(f"the model {checkpoint} has no label for any of: {', '.join(unmatched)}; its labels: "
                         f"{', '.join(model.config.id2label.values())}")
    return class_masks, confidences, unmatched


BACKENDS = {"transformers": transformers_labels}
