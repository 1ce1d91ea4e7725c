"""The backends of s3 that transformers has: models with a fixed list of labels, and two that understand any words.

Each takes (image [3,H,W] in [0,1], classes, model) and returns ({class: bool [1,H,W]}, {class: score}, unmatched
words); classes are lists of synonyms, a class is called by its first word. The model comes from the backend's own
loader.
"""

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from text2cinemagraph.data.checkpoint import weights_of
from text2cinemagraph.img2img.segment import Found
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.options.runtime import Runtime
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    AutoProcessor,
    CLIPSegForImageSegmentation,
)

SUGGESTED = "tue-mps/ade20k_semantic_eomt_large_512"  # MIT licence, 58.4 mIoU on ADE20K
LIKELY = 0.5  # probability from which an open-vocabulary model's pixel or object counts

# Words people use -> labels that models have (ADE20K, COCO panoptic, our landscapes). A word also matches a label that
# is
# the word itself, or holds it as a whole word ("water-other", "sky, heaven").
ALIASES = {
    "water": ("water", "river", "lake", "sea", "waterfall", "falls", "water-other", "swimming pool"),
    "ocean": ("sea",),
    "sea": ("sea", "ocean"),
    "wave": ("sea", "water"),
    "stream": ("river",),
    "creek": ("river",),
    "brook": ("river",),
    "rapid": ("river",),
    "pond": ("lake",),
    "waterfall": ("waterfall", "falls"),
    "fall": ("waterfall", "falls"),
    "cloud": ("sky", "clouds", "sky-other"),
    "sky": ("sky", "sky-other"),
    "forest": ("tree",),
    "hill": ("mountain", "hill"),
    "beach": ("sand",),
    "meadow": ("grass", "field"),
}


def match_labels(words: Iterable[str], labels: dict[int, str]) -> tuple[list[int], list[str]]:
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
    return (
        singulars
        | {f"{single}s" for single in singulars}
        | {name for single in singulars for name in ALIASES.get(single, ())}
    )


def _names(text, name):
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    words = text.replace(",", " ").replace("-", " ").split()
    return name in parts or name in words


# ---------------------------------------------------------------- loading


def model_folder(checkpoint: str | Path, suggested: str) -> str:
    """The checkpoint as text; FileNotFoundError that names what to fetch if it is neither a folder nor looks like a hub
    id.
    """
    parts = Path(checkpoint).parts
    if not Path(checkpoint).is_dir() and (
        len(parts) != 2 or parts[0] in ("checkpoints", "/", "..", ".")
    ):  # a hub id has one slash
        raise FileNotFoundError(
            f"no segmentation model at {checkpoint}; fetch one that transformers can load, e.g. with "
            f"`hf download {suggested} --local-dir {checkpoint}` (see checkpoints/README.md)"
        )
    return str(checkpoint)


def kind_of(checkpoint: str | Path) -> str:
    """The model_type that a folder's config.json names, "" where there is none."""
    path = Path(checkpoint) / "config.json"
    try:
        return json.loads(path.read_text()).get("model_type", "") if path.is_file() else ""
    except (ValueError, OSError, AttributeError):
        return ""


@dataclass(frozen=True)
class Loaded:
    """A frozen model of transformers with its processor.  checkpoint: where both came from."""

    model: Any
    processor: Any
    checkpoint: str

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device


def load_labels(checkpoint: str, runtime: Runtime) -> Loaded:
    """A model with a fixed list of labels; errors as load_model's."""
    kind = AutoProcessor if kind_of(checkpoint) == "oneformer" else AutoImageProcessor
    return load_model(model_folder(checkpoint, SUGGESTED), runtime, None, kind)


def load_clipseg(checkpoint: str, runtime: Runtime) -> Loaded:
    """CLIPSeg; errors as load_model's."""
    folder = model_folder(checkpoint, "CIDAS/clipseg-rd64-refined")
    return load_model(folder, runtime, CLIPSegForImageSegmentation, AutoProcessor)


def load_sam3(checkpoint: str, runtime: Runtime) -> Loaded:
    """SAM 3; errors as load_model's."""
    return load_model(model_folder(checkpoint, "facebook/sam3"), runtime, AutoModel, AutoProcessor)


def load_model(checkpoint: str, runtime: Runtime, kind: Any, processor_kind: Any) -> Loaded:
    """From a folder or the local hub cache, in float32; ValueError in a line for anything that does not load whole.

    kind: class with from_pretrained, or None = semantic or universal, as the config says.
    """
    try:
        variant = weights_of(checkpoint)[1] if Path(checkpoint).is_dir() else ""
        model, report = (kind or _labelled_kind(checkpoint)).from_pretrained(
            checkpoint, variant=variant or None, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
        if report["missing_keys"]:
            raise ValueError(f"weights are missing, such as {sorted(report['missing_keys'])[0]}")
        processor = processor_kind.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if machine_error(error):
            raise
        raise ValueError(
            f"the segmentation model {checkpoint!r} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    return Loaded(model.to(runtime.device).eval().requires_grad_(False), processor, str(checkpoint))


def _labelled_kind(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    semantic = any(
        name.endswith("ForSemanticSegmentation") for name in config.architectures or ["ForSemanticSegmentation"]
    )
    return AutoModelForSemanticSegmentation if semantic else AutoModelForUniversalSegmentation


def _bytes(image):
    """[3,H,W] in [0,1] -> uint8 [H,W,3], as processors expect pictures."""
    return (image.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


# ---------------------------------------------------------------- fixed labels


def transformers_labels(image: torch.Tensor, classes: list[list[str]], loaded: Loaded) -> Found:
    """A semantic or universal segmentation model with a fixed list of labels (SegFormer, Mask2Former, EoMT, OneFormer,
    ...).
    """
    model = loaded.model
    scores = label_scores(model, loaded.processor, image, loaded.device)
    winner, class_masks, confidences, unmatched = scores.argmax(0).cpu(), {}, {}, []
    for words in classes:
        indices, unknown = match_labels(words, model.config.id2label)
        unmatched += unknown
        mask = torch.isin(winner, torch.tensor(indices, dtype=winner.dtype))[None]
        class_masks[words[0]] = mask
        confidences[words[0]] = float(scores.max(0).values.cpu()[mask[0]].mean()) if mask.any() else 0.0
    if len(unmatched) == sum(map(len, classes)):
        raise ValueError(
            f"the model {loaded.checkpoint} has no label for any of: {', '.join(unmatched)}; its labels: "
            f"{', '.join(model.config.id2label.values())}"
        )
    return class_masks, confidences, unmatched


def label_scores(model: Any, processor: Any, image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """How much each label holds at each pixel: [labels,H,W] in [0,1]."""
    size = tuple(image.shape[-2:])
    task = {"task_inputs": ["semantic"]} if model.config.model_type == "oneformer" else {}
    inputs = processor(images=[_bytes(image)], return_tensors="pt", **task)
    wanted = {
        name: inputs[name] for name in ("pixel_values", "pixel_mask", "task_inputs", "patch_offsets") if name in inputs
    }
    outputs = model(**{name: value.to(device) if torch.is_tensor(value) else value for name, value in wanted.items()})
    if hasattr(outputs, "logits") and outputs.logits.ndim == 4:
        return F.interpolate(outputs.logits, size, mode="bilinear", align_corners=False)[0].softmax(0)
    if not hasattr(outputs, "class_queries_logits"):
        raise ValueError(
            f"the model {model.config.model_type} gives no map of labels; use a semantic segmentation model, such as"
            f" {SUGGESTED}"
        )
    if wanted.get("patch_offsets"):
        return _scores_of_patches(processor, outputs, size)
    names = outputs.class_queries_logits.softmax(-1)[
        0, :, :-1
    ]  # mask classification: sum of class x mask over the queries
    masks = F.interpolate(outputs.masks_queries_logits, size, mode="bilinear", align_corners=False)[0].sigmoid()
    return torch.einsum("qc,qhw->chw", names, masks).clamp(max=1)


def _scores_of_patches(processor, outputs, size):
    """EoMT looks at a picture in overlapping squares, which its own processor puts together."""
    join = processor.post_process_semantic_segmentation
    if "return_segmentation_scores" not in inspect.signature(join).parameters:
        labels = join(outputs, [size])[0]  # transformers before 5: the winners alone
        return F.one_hot(labels.long(), outputs.class_queries_logits.shape[-1] - 1).permute(2, 0, 1).float()
    return join(outputs, [size], return_segmentation_scores=True)[0]["segmentation_scores"].clamp(max=1)


# ---------------------------------------------------------------- any words


def clipseg(image: torch.Tensor, classes: list[list[str]], loaded: Loaded) -> Found:
    """CLIPSeg: a probability map for every word (352 px inside, so its edges are soft); a class is where one of its
    words is likely.
    """
    words = [word for synonyms in classes for word in synonyms]
    pictures = [_bytes(image)] * len(words)
    inputs = loaded.processor(text=words, images=pictures, padding=True, return_tensors="pt").to(loaded.device)
    logits = loaded.model(**inputs).logits
    logits = logits.reshape(len(words), 1, *logits.shape[-2:])
    maps = (
        F.interpolate(logits, tuple(image.shape[-2:]), mode="bilinear", align_corners=False).sigmoid().cpu()
    )  # [words,1,H,W]
    return _by_class(classes, maps)


def sam3(image: torch.Tensor, classes: list[list[str]], loaded: Loaded) -> Found:
    """SAM 3: all objects that a phrase names, as masks with scores; a class is the union over its words."""
    size, maps = tuple(image.shape[-2:]), []
    for word in (word for synonyms in classes for word in synonyms):
        inputs = loaded.processor(images=_bytes(image), text=word, return_tensors="pt").to(loaded.device)
        found = loaded.processor.post_process_instance_segmentation(
            loaded.model(**inputs), threshold=LIKELY, mask_threshold=0.5, target_sizes=[size]
        )[0]
        shown = found["masks"].float().reshape(-1, *size) * found["scores"].reshape(-1, 1, 1)
        maps.append(torch.cat([shown, torch.zeros(1, *size, device=shown.device)]).max(0).values[None].cpu())
    return _by_class(classes, torch.stack(maps))


def _by_class(classes, maps):
    """Per class the best of its words.  maps: probabilities [words,1,H,W], in the classes' order."""
    masks, scores, start = {}, {}, 0
    for words in classes:
        best = maps[start : start + len(words)].max(0).values
        start += len(words)
        masks[words[0]] = best >= LIKELY
        scores[words[0]] = float(best[best >= LIKELY].mean()) if (best >= LIKELY).any() else 0.0
    return masks, scores, []
