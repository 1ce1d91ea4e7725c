"""The backends of s3. Each takes (image, classes, checkpoint, runtime) and returns ({class: bool [1,H,W]}, {class: score}, unmatched)."""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

SUGGESTED = "facebook/mask2former-swin-small-ade-semantic"

# Words people use -> labels that models have (ADE20K, COCO panoptic, our landscapes). A word also matches a label that is
# the word itself, or holds it as a whole word ("water-other", "sky, heaven").
ALIASES = {
    "water": ("water", "river", "lake", "sea", "waterfall", "falls", "water-other", "swimming pool"),
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
    """The word, its singular and plural, and their aliases."""
    singulars = {word} if word.endswith("ss") else {word, word.removesuffix("s"), word.removesuffix("es")}
    return singulars | {f"{single}s" for single in singulars} | {name for single in singulars for name in ALIASES.get(single, ())}


def _names(text, name):
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    words = text.replace(",", " ").replace("-", " ").split()
    return name in parts or name in words


@lru_cache(maxsize=1)
def _load(checkpoint, runtime):
    """(model, processor) from a folder or the local hub cache; FileNotFoundError or ValueError that says what to fetch."""
    parts = Path(checkpoint).parts
    if not Path(checkpoint).is_dir() and (len(parts) != 2 or parts[0] in ("checkpoints", "/", "..")):      # a hub id has one slash
        raise FileNotFoundError(f"no segmentation model at {checkpoint}; fetch one that transformers can load, e.g. with "
                                f"`hf download {SUGGESTED} --local-dir {checkpoint}` (see checkpoints/README.md)")
    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
        if config.model_type == "oneformer":
            raise ValueError(f"OneFormer wants a task besides the picture; use another model, such as {SUGGESTED}")
        semantic = any(name.endswith("ForSemanticSegmentation") for name in config.architectures or ["ForSemanticSegmentation"])
        kind = AutoModelForSemanticSegmentation if semantic else AutoModelForUniversalSegmentation
        model, report = kind.from_pretrained(checkpoint, local_files_only=True, output_loading_info=True, dtype=torch.float32)
        if report["missing_keys"]:
            raise ValueError(f"weights are missing, such as {sorted(report['missing_keys'])[0]}")
        processor = AutoImageProcessor.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(f"the segmentation model {checkpoint!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    return model.to(runtime.device).eval().requires_grad_(False), processor


def transformers_labels(image, classes, checkpoint, runtime):
    """A semantic or universal segmentation model of transformers with a fixed list of labels."""
    model, processor = _load(str(checkpoint), runtime)
    size = tuple(image.shape[-2:])
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    inputs = processor(images=[pixels], return_tensors="pt").to(runtime.device)
    outputs = model(**{k: v for k, v in inputs.items() if k in ("pixel_values", "pixel_mask")})
    if hasattr(outputs, "logits") and outputs.logits.ndim == 4:
        scores = F.interpolate(outputs.logits, size, mode="bilinear", align_corners=False)[0].softmax(0)   # [labels,H,W]
    elif not hasattr(outputs, "class_queries_logits"):
        raise ValueError(f"the model {checkpoint} gives no map of labels; use a semantic segmentation model, such as {SUGGESTED}")
    else:                                                          # mask classification: sum of class x mask over the queries
        names = outputs.class_queries_logits.softmax(-1)[0, :, :-1]
        masks = F.interpolate(outputs.masks_queries_logits, size, mode="bilinear", align_corners=False)[0].sigmoid()
        scores = torch.einsum("qc,qhw->chw", names, masks).clamp(max=1)
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
