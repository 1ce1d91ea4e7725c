"""What a mask file means: which pixels of it may move. One rule per kind of file, told when it is not the plain one.

| kind                                             | what moves                                                     |
|--------------------------------------------------|----------------------------------------------------------------|
| black and white, any depth                       | white: above half (no word is said)                            |
| transparency, on a photograph                    | the holes; a piece of less than a third on an empty layer: it  |
| transparency, with flat paint                    | the paint; of black and white paint the white one              |
| labels (a palette, or a few gray values from 0)  | every label but 0, or the chosen ones                          |
| flat colours on black, or on white               | the colours                                                    |
| gray values all dark or all bright               | the brighter ones: above the middle of their range             |
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from text2cinemagraph.data.class_masks import NAMES
from text2cinemagraph.data.notes import tell

HALF = 127  # of 255: brighter is white
CHROMA = 48  # of 255 between a pixel's channels: what counts as coloured, more than JPEG makes of gray
COLOURED = 1e-3  # share of coloured pixels from which a file is in colour
MOST_LABELS = 64  # gray values; ADE20K has 150 classes, one picture of them some twenty
TOP_LABEL = 250  # a file with brighter pixels is black and white
FLAT = 0.95  # share of the pixels in the four commonest of 64 colours: paint, not a photograph
PIECE = 1 / 3  # a photograph of which less is left is a piece that was cut out
VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
).split()  # PASCAL VOC's classes, whose palette labelling tools use
INVERT = "--invert_mask turns it"


def moving_pixels(picture: Image.Image, path: str | Path, labels: tuple[str, ...] = ()) -> np.ndarray:
    """Which pixels of a decoded mask file may move, bool [H,W].

    path: for the messages, and the place of labelme's label_names.txt.   labels: numbers or names of the labels that
    move, for a file of labels; () = all but 0.
    Raises ValueError where a file can be no mask: a photograph without transparency, NaN, a label that is not in it.
    """
    if labels:
        return _chosen(picture, path, labels)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"))
        opaque = rgba[..., 3] > HALF
        if opaque.any() and not opaque.all():
            return _by_transparency(rgba, opaque, path)
    if picture.mode == "P" and (index := np.asarray(picture)).any() and _has_label_palette(picture, index):
        return _labelled(index, path)
    if picture.mode.startswith(("I", "F")):
        return _by_brightness(np.asarray(picture, dtype=np.float32), path)
    rgb = np.asarray(picture.convert("RGB"))
    if (_chroma(rgb) > CHROMA).mean() > COLOURED:
        return _by_colour(rgb, path)
    return _by_brightness(np.asarray(picture.convert("L"), dtype=np.float32), path)


def _chroma(rgb):
    return rgb.max(-1).astype(np.int16) - rgb.min(-1)


def _is_flat(rgb):
    """Whether colours [..., 3] are paint: nearly all of them in four of 64 classes of colour."""
    classes = (rgb >> 6) @ np.array([16, 4, 1])
    counts = np.bincount(classes.ravel(), minlength=64)
    return np.sort(counts)[-4:].sum() >= FLAT * counts.sum()


# ---------------------------------------------------------------- transparency
def _by_transparency(rgba, opaque, path):
    paint = rgba[opaque][:, :3]
    if not _is_flat(paint):
        if opaque.mean() < PIECE:
            tell("mask alpha", f"{path}: a piece of a photograph on an empty layer; the piece moves; {INVERT}")
            return opaque
        tell("mask alpha", f"{path}: a photograph with holes; the holes move; {INVERT}")
        return ~opaque
    white, black = (paint > HALF).all(-1), (paint <= HALF).all(-1)
    gray = _chroma(paint) <= CHROMA
    if min((white & gray).mean(), (black & gray).mean()) > 0.01:
        tell("mask alpha", f"{path}: black and white paint on an empty layer; the white paint moves; {INVERT}")
        moving = opaque.copy()
        moving[opaque] = white
        return moving
    tell("mask alpha", f"{path}: paint on an empty layer; the paint moves; {INVERT}")
    return opaque


# ---------------------------------------------------------------- labels
def _has_label_palette(picture, index):
    """A palette of colours, or one that begins with black and tells further blacks apart, is one of labels."""
    colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = colours[np.unique(index[index < len(colours)])]
    if (_chroma(used) > CHROMA).any():
        return not colours[0].any() or _is_flat(colours[np.minimum(index, len(colours) - 1)])
    return bool(not colours[0].any() and (used <= HALF).all())


def _labelled(values, path, background=0):
    found = np.unique(values)
    names = _shown(found[found != background])
    tell("mask labels", f"{path}: labels {names}; all but {background} move; --mask_labels chooses; {INVERT}")
    return values != background


def _chosen(picture, path, labels):
    """The pixels of some labels, given by number or name."""
    if not picture.mode.startswith(("P", "L", "I", "1")):
        raise ValueError(
            f"{path} holds colours, not labels; --mask_labels needs a palette or gray file of label numbers"
        )
    values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "PA") else picture).astype(np.int64)
    names, found = _names(picture, path), np.unique(values)
    wanted = [int(label) if label.strip().isdigit() else names.get(label.strip().lower(), -1) for label in labels]
    missing = [label for label, number in zip(labels, wanted) if number not in found]
    if missing:
        raise ValueError(f"{path} has no label {missing[0]!r}; it holds {_shown(found, names)}")
    return np.isin(values, wanted)


def _names(picture, path):
    """{name: number}: those in the file itself (class_masks.png of s3), or the lines of a label_names.txt beside it, as
    labelme writes it, else PASCAL VOC's.
    """
    try:
        own = json.loads(picture.info.get(NAMES, "null"))
    except ValueError:
        own = None
    if isinstance(own, list):
        return {str(name).lower(): number for number, name in enumerate(own, 1)}
    beside = Path(path).parent / "label_names.txt"
    lines = beside.read_text(encoding="utf-8", errors="replace").splitlines() if beside.is_file() else VOC
    return {name.strip().lower(): number for number, name in enumerate(lines)}


def _shown(numbers, names=None, most=8):
    known = {number: name for name, number in (names or {}).items()}
    words = [f"{n} ({known[n]})" if n in known else f"{n}" for n in map(int, numbers[:most])]
    return ", ".join(words) + (", ..." if len(numbers) > most else "")


# ---------------------------------------------------------------- colour and brightness
def _by_colour(rgb, path):
    """Flat colours: what is not the ground, which is black, or white where there is no black."""
    if not _is_flat(rgb):
        raise ValueError(
            f"{path} is a photograph, and no black and white mask; paint white what may move, on black, or erase it"
        )
    black = rgb.max(-1) <= HALF // 2
    if black.mean() > 0.01:
        tell("mask colour", f"{path}: colours on black; the colours move; {INVERT}")
        return ~black
    tell("mask colour", f"{path}: colours on white; the colours move; {INVERT}")
    return _chroma(rgb) > CHROMA


def _values_of(gray):
    """The sorted values that gray of at most 255 holds; whole ones are counted, because sorting a large mask takes
    seconds.
    """
    whole = gray.astype(np.uint8)
    return np.flatnonzero(np.bincount(whole.ravel())) if np.array_equal(whole, gray) else np.unique(gray)


def _by_brightness(gray, path):
    """Gray [H,W] of any depth: above half of the depth, or of the values' own range where all lie on one side of it."""
    if not np.isfinite(gray).all():
        raise ValueError(f"{path} holds NaN or infinite values; expected a mask of black and white")
    low, high = float(gray.min()), float(gray.max())
    if not 1 < high <= 255:
        return gray > high / 2
    values = _values_of(gray)
    if low == 0 and 2 < len(values) <= MOST_LABELS and high < TOP_LABEL and not (values % 1).any():
        return _labelled(gray.astype(np.int64), path)
    if len(values) > 1 and (high <= HALF or low > HALF):
        middle = (low + high) / 2
        tell("mask range", f"{path}: gray from {low:g} to {high:g}; brighter than {middle:g} moves; {INVERT}")
        return gray > middle
    return gray > HALF
