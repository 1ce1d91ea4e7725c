"""Training pictures: the Eulerian layout on disk to batches.

A folder holds `<id>_input.jpg`, `<id>_motion.pth` and, for frames, `<id>_gt/images/N.png`. Images are [0,1], flow is
px/frame. What is drawn for an item (crop, flip, hint, frames) depends on (seed, epoch, item) alone, never on the number
of workers.
"""

from __future__ import annotations

import json
import random
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import in_any_case
from text2cinemagraph.data.flow import flip_flow, motion_mask, read_flow, read_motion, resize_flow
from text2cinemagraph.data.hint import blend_hint, cluster_centers
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.published import published_window, soft_mask
from text2cinemagraph.data.videos import frame_files
from text2cinemagraph.options.text_files import read_lines

PICTURES = (".jpg", ".png", ".jpeg")  # of <id>_input, the most usual first
SQUASH = 0.1  # of the sides' ratio: more than rounding does to a flow that is stored small
CLUSTER_SIDE = 64  # px: hints are clustered at this size, where KMeans takes milliseconds
PUBLISHED_FRAMES = 60  # of a clip; longer ones are drawn from their first sixty
MAX_HINTS = 5  # arrows of a training hint: 1 ... 5, as published
ZOOM = 1.25  # the short side is fineSize ... ZOOM * fineSize before the crop


@dataclass
class _Batch:
    """Shared by the two batches: an item is a batch without its first axis."""

    @classmethod
    def collate(cls, items: Sequence[Any]) -> Any:
        """Items to one batch: tensors are stacked, anything else becomes a list; what the items lack stays None."""
        columns = [[getattr(item, field.name) for item in items] for field in fields(cls)]
        return cls(*(torch.stack(c) if torch.is_tensor(c[0]) else None if c[0] is None else c for c in columns))

    def to(self, device: torch.device | str) -> Any:
        moved = (getattr(self, field.name) for field in fields(self))
        return type(self)(
            *(value.to(device, non_blocking=True) if torch.is_tensor(value) else value for value in moved)
        )

    def pin_memory(self) -> Any:
        """Into memory that a GPU can fetch by itself; DataLoader calls this."""
        values = (getattr(self, field.name) for field in fields(self))
        return type(self)(*(value.pin_memory() if torch.is_tensor(value) else value for value in values))


@dataclass
class MotionBatch(_Batch):
    """image [N,3,H,W] in [0,1]; mask [N,1,H,W] bool; flow, hint [N,2,H,W] in px/frame (hint may be None); caption
    list[str].
    """

    image: torch.Tensor
    mask: torch.Tensor
    flow: torch.Tensor
    hint: torch.Tensor | None
    caption: list


@dataclass
class FrameBatch(_Batch):
    """start, middle, end [N,3,H,W] in [0,1]; flow [N,2,H,W] in px/frame; index [N,3] int64: their frame numbers."""

    start: torch.Tensor
    middle: torch.Tensor
    end: torch.Tensor
    flow: torch.Tensor
    index: torch.Tensor


class _Items(torch.utils.data.Dataset):
    """A list of items, the broken ones of which are named once and replaced by the next; with strict, they stop the
    training.

    report: a text file to which broken items are added, by whichever process meets them; None = no file.
    """

    def __init__(
        self, items: list[str], size: int, *, seed: int, strict: bool, most: int = 0, report: Path | None = None
    ) -> None:
        """most: the first so many items only; 0 = all."""
        self.items, self.size, self.seed, self.strict = items[: most or None], size, seed, strict
        self.epoch, self.report = 0, report
        self.broken: dict[str, str] = {}  # item: why

    def set_epoch(self, epoch: int) -> None:
        """Other crops, flips and hints from now on."""
        self.epoch = epoch

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        for step in range(len(self)):
            item = self.items[(index + step) % len(self)]
            if item in self.broken:
                continue
            try:
                return self.read(item, random.Random(f"{self.seed} {self.epoch} {index}"))
            except (ValueError, OSError) as error:
                if self.strict:
                    raise ValueError(f"item {item}: {error}; leave out --strict to go on without it") from error
                self._skip(item, error)
        raise ValueError(f"none of the {len(self)} items can be read; the first: {next(iter(self.broken.values()))}")

    def _skip(self, item, error):
        self.broken[item] = str(error)
        line = f"{item}: {error}\n"
        known = self.report is not None and self.report.is_file() and line in self.report.read_text(encoding="utf-8")
        if not known:  # workers forget at the end of an epoch what they have met
            warnings.warn(f"item {item} is skipped: {error}", stacklevel=3)
        if self.report is not None and not known:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            with open(self.report, "a", encoding="utf-8") as file:
                file.write(line)


class MotionDataset(_Items):
    """Picture, mask, true flow and what may help to guess it: a caption, a hint."""

    def __init__(
        self,
        root: str | Path,
        size: int,
        mask_path: str | Path = "",
        captions_file: str | Path = "",
        *,
        use_hint: bool = False,
        hints_path: str | Path = "",
        augment: bool = True,
        flip: bool = True,
        seed: int = 0,
        strict: bool = False,
        as_published: bool = False,
        most: int = 0,
        report: Path | None = None,
    ) -> None:
        """root: folder of the Eulerian layout.   size: px, side of the square crops.

        mask_path: folder of `<id>_mask.png`; empty = where the true flow moves, as published.
        captions_file: see read_captions; empty = "".   hints_path: folder of `<id>/<k>_blend.pth`
        (generate_flow_hint.py); empty = hints are made on the fly.   augment: random zoom, crop and flip; False = the
        middle, so that scores repeat.
        flip: False where left and right mean something that no caption says (lakes that always flow to the right).
        as_published: cut as the authors do (data/published.py): crops without zoom, whole pictures squashed, soft
        masks.   most: the first so many items only; 0 = all.   report: see _Items.
        """
        super().__init__(ids(root), size, seed=seed, strict=strict, most=most, report=report)
        self.as_published = as_published
        self.root, self.mask_path, self.hints_path = Path(root), mask_path, hints_path
        self.use_hint, self.augment, self.flip = use_hint, augment, flip
        self.captions = read_captions(captions_file) if captions_file else None

    def read(self, item: str, draw: random.Random) -> MotionBatch:
        """One MotionBatch without its first axis. draw: random.Random."""
        image, flow = read_image(picture_of(self.root, item)), read_motion(motion_of(self.root, item))
        flow = match_flow(flow, image)
        if self.mask_path:
            mask = read_mask(in_any_case(Path(self.mask_path) / f"{item}_mask.png"), image.shape[1:])
        else:
            mask = soft_mask(flow) if self.as_published else motion_mask(flow)
        stored = self._stored_hint(item, image, draw) if self.hints_path else None
        window = self._window(image.shape[1:], draw if self.augment else None)
        image, mask, flow = window.image(image), window.mask(mask), window.flow(flow)
        hint = None
        if self.use_hint:
            hint = self._hint(stored, window, flow, mask, draw)
        return MotionBatch(image, mask, flow, hint, self._caption(item, window.flipped, draw))

    def _hint(self, stored, window, flow, mask, draw):
        """Half of the time arrows (stored or new), else one direction, which is what a prompt gives; as published
        always arrows.
        """
        single = not self.as_published and draw.random() < 0.5
        if stored is None:
            return random_hint(flow, mask, draw, single)
        return mean_hint(flow, mask, draw) if single and motion_mask(flow).any() else window.flow(stored)

    def _stored_hint(self, item, image, draw):
        return match_flow(read_flow(Path(self.hints_path) / item / f"{draw.randint(1, MAX_HINTS)}_blend.pth"), image)

    def _window(self, full, draw):
        return (
            published_window(full, self.size, draw)
            if self.as_published
            else Window(full, self.size, draw, flip=self.flip)
        )

    def _caption(self, item, flipped, draw):
        if self.captions is None:
            return ""
        if item not in self.captions:
            raise ValueError(f"the captions file has no line for {item}; expected {item}:<caption>")
        caption = draw.choice(self.captions[item])
        return mirror_words(caption) if flipped else caption


class FrameDataset(_Items):
    """Three frames of a clip and the flow between them; and stills, which the network shall only reproduce."""

    def __init__(
        self,
        root: str | Path,
        size: int,
        motion_path: str | Path = "",
        motion_norm: float = 64.0,
        *,
        stills: Sequence[Path] = (),
        stills_share: float = 0.0,
        augment: bool = True,
        seed: int = 0,
        strict: bool = False,
        as_published: bool = False,
        most: int = 0,
        report: Path | None = None,
    ) -> None:
        """root: folder of the Eulerian layout with frames.   size: px, side of the square crops.

        motion_path: folder of predicted flow for stage 2, `<id>_flow.npz` in px/frame or the authors' `<id>_Motion.pt`
        in 1/motion_norm; empty = the true flow.   stills: folders of pictures; a share of the items becomes one of
        them, standing.
        as_published: cut as the authors do (data/published.py); predicted flow is not brought to the frame's size, so
        that a window drawn in a larger frame is misplaced in it and padded with 0.   most, report: as for
        MotionDataset.
        """
        items = [item for item in ids(root) if _frames_folder(Path(root), item).is_dir()]
        super().__init__(items, size, seed=seed, strict=strict, most=most, report=report)
        if not self.items:
            raise FileNotFoundError(
                f"no frames under {root}; expected <id>_gt/images/0.png ... (extract them from <id>_gt.mp4)"
            )
        self.root, self.motion_path, self.motion_norm, self.as_published = (
            Path(root),
            motion_path,
            motion_norm,
            as_published,
        )
        self.stills = sorted(
            path for folder in stills for path in Path(folder).iterdir() if path.suffix.lower() in PICTURES
        )
        self.stills_share, self.augment = stills_share if self.stills else 0, augment
        self._frames: dict[str, dict[int, Path]] = {}  # {item: {number: picture}} of the items met so far

    def read(self, item: str, draw: random.Random) -> FrameBatch:
        """One FrameBatch without its first axis. draw: random.Random."""
        frames, numbers = self._frames_of(item), self._draw_numbers(item, draw)
        if draw.random() < self.stills_share:
            images = [read_image(draw.choice(self.stills))] * 3
            flow = torch.zeros(2, *images[0].shape[1:])
        else:
            images = [read_image(frames[n]) for n in numbers]
            flow = self._flow(item) if self.as_published else match_flow(self._flow(item), images[0])
        full, drawn = images[0].shape[1:], draw if self.augment else None
        window = (
            published_window(full, self.size, drawn)
            if self.as_published
            else Window(full, self.size, drawn, zoom=False)
        )
        start, middle, end = map(window.image, images)
        return FrameBatch(start, middle, end, window.flow(flow), torch.tensor(numbers))

    def _frames_of(self, item):
        if item not in self._frames:
            self._frames[item] = frame_files(_frames_folder(self.root, item))
        return self._frames[item]

    def _draw_numbers(self, item, draw):
        """Three frame numbers, the published draw: the first of 0 ... 19, the last of 40 ... 59, one between them.

        A shorter clip is drawn from its thirds. In the place of a frame that is missing comes the nearest; told once.
        """
        frames = self._frames_of(item)
        count = min(PUBLISHED_FRAMES, max(frames) + 1)
        if count < 3:
            raise ValueError(f"{frames[min(frames)].parent} holds {len(frames)} frames; expected 3 or more")
        if count < PUBLISHED_FRAMES:
            tell("short clips", f"item {item} has {count} frames, not {PUBLISHED_FRAMES}; drawn from its own thirds")
        numbers = [draw.randrange(0, count // 3), draw.randrange(count - count // 3, count)]
        numbers.insert(1, draw.randrange(*numbers))
        present = [min(frames, key=lambda other: abs(other - number)) for number in numbers]
        if present != numbers:
            lacking = sorted(set(numbers) - frames.keys())[0]
            tell("missing frames", f"item {item} lacks frame {lacking} (and others, perhaps); its neighbour is taken")
        return present

    def _flow(self, item):
        if not self.motion_path:
            return read_motion(motion_of(self.root, item))
        ours = Path(self.motion_path) / f"{item}_flow.npz"
        return read_flow(ours) if ours.is_file() else read_flow(ours.with_name(f"{item}_Motion.pt")) * self.motion_norm


class Window:
    """One zoom, crop and flip, applied alike to everything of an item."""

    def __init__(
        self, full: Sequence[int], size: int, draw: random.Random | None = None, *, zoom: bool = True, flip: bool = True
    ) -> None:
        """full: (H, W) of the item.   size: px, side of the result.   draw: random.Random, None = the middle,
        unflipped.

        zoom: bring the short side to size ... ZOOM*size first (a network that sees whole pictures); otherwise only
        enlarge what is too small (frames keep their sharpness).
        """
        factor = size / min(full)
        if zoom:
            factor *= draw.uniform(1, ZOOM) if draw else 1
        else:
            factor = max(factor, 1)
        self.scaled = max(size, round(full[0] * factor)), max(size, round(full[1] * factor))
        spare = self.scaled[0] - size, self.scaled[1] - size
        self.size, self.same = size, self.scaled == tuple(full)
        self.corner = (draw.randint(0, spare[0]), draw.randint(0, spare[1])) if draw else (spare[0] // 2, spare[1] // 2)
        self.flipped = flip and draw is not None and draw.random() < 0.5

    def image(self, image: torch.Tensor) -> torch.Tensor:
        if not self.same:
            image = F.interpolate(image[None], self.scaled, mode="bilinear", align_corners=False, antialias=True)[0]
        return self._crop(image.clamp(0, 1), torch.Tensor.flip)

    def mask(self, mask: torch.Tensor) -> torch.Tensor:
        if not self.same:
            mask = F.interpolate(mask[None].float(), self.scaled, mode="nearest")[0] > 0.5
        return self._crop(mask, torch.Tensor.flip)

    def flow(self, flow: torch.Tensor) -> torch.Tensor:
        return self._crop(flow if self.same else resize_flow(flow, self.scaled), lambda flow, _: flip_flow(flow))

    def _crop(self, x, flip):
        x = x[..., self.corner[0] : self.corner[0] + self.size, self.corner[1] : self.corner[1] + self.size]
        return (flip(x, [-1]) if self.flipped else x).contiguous()


def ids(root: str | Path) -> list[str]:
    """Sorted ids of `<id>_input.jpg` (or .png, .jpeg, in capitals too) in a folder; ValueError if there is none.

    `<id>_input` of another kind is told, because it is passed over.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder at {root}; set --dataroot, or draw one (docs/training.md)")
    inputs = [p for p in root.iterdir() if p.stem.lower().endswith("_input") and not p.name.startswith(".")]
    found = sorted({p.stem[: -len("_input")] for p in inputs if p.suffix.lower() in PICTURES})
    others = sorted(p.name for p in inputs if p.suffix.lower() not in PICTURES and p.is_file())
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        tell("passed over", f"{root}: {len(others)} files are none of {', '.join(PICTURES)} and passed over: {shown}")
    if not found:
        raise ValueError(f"{root} holds no <id>_input.jpg; expected the Eulerian dataset's layout (docs/training.md)")
    return found


def picture_of(root: str | Path, item: str) -> Path:
    """Path of an item's picture, in capitals too; .jpg if there is none, for the reader's message."""
    names = [Path(root) / f"{item}_input{suffix}" for suffix in PICTURES]
    return next((path for path in names if path.is_file()), None) or next(
        (path for path in map(in_any_case, names) if path.is_file()), names[0]
    )


def motion_of(root: str | Path, item: str) -> Path:
    """Path of an item's true flow, in capitals too; there or not."""
    return in_any_case(Path(root) / f"{item}_motion.pth")


def _frames_folder(root, item):
    return in_any_case(root / f"{item}_gt") / "images"


def match_flow(flow: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The flow [2,h,w] at the size of the picture [C,H,W], still px/frame.

    Raises ValueError where their shapes differ: a picture that was cropped, or that its EXIF note turns, since its flow
    was made, is not squashed onto it.
    """
    (height, width), (h, w) = image.shape[1:], flow.shape[1:]
    if abs(h * width / (w * height) - 1) > SQUASH:
        raise ValueError(
            f"the picture is {width}x{height}, its motion {w}x{h}: another shape; was one of them cropped, or turned "
            "(EXIF note)?"
        )
    return flow if (h, w) == (height, width) else resize_flow(flow, image.shape[1:])


def read_captions(path: str | Path) -> dict[str, list[str]]:
    """Captions of a text file of any encoding -> {id: list of captions}; see caption_of for its lines.

    In a metadata.jsonl as the renderer of landscapes writes it, a line is {"id": ..., "captions": {style: caption}}.
    An id may come back with another caption.  Raises ValueError that names file and line, or a file without captions.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no captions file at {path}; make one with dataset/generate_captions.py, or get the authors' with "
            "`python -m data.fetch captions`"
        )
    captions: dict[str, list[str]] = {}
    for number, line in read_lines(path):
        try:
            item, found = _json_captions(line) if path.suffix.lower() == ".jsonl" else caption_of(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        captions.setdefault(item, []).extend(found)
    if not captions:
        raise ValueError(f"{path} holds no captions; expected lines <id>:<caption>")
    return captions


def caption_of(line: str) -> tuple[str, list[str]]:
    """(id, [caption]) of a line `<any/path/><id>:<caption>`; a caption may hold further colons.

    A path may be Windows' (C:\\data\\lake:...), and its file's name may end in _input.jpg.  ValueError without a colon.
    """
    match = re.match(r"((?:[A-Za-z]:(?=[\\/]))?[^:]*):(.*)", line)
    if match is None:
        raise ValueError(f"no colon in '{line[:60]}'; expected <id>:<caption>")
    name = PureWindowsPath(match[1].strip()).name  # knows both kinds of slashes
    return re.sub(r"_input\.(jpe?g|png)$", "", name, flags=re.IGNORECASE), [match[2].strip()]


def _json_captions(line):
    try:
        entry = json.loads(line)
        found = list(entry["captions"].values())
        if not found:
            raise ValueError("no captions")
        return entry["id"], found
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f'\'{line[:60]}\' is not {{"id": ..., "captions": {{style: caption}}}}') from error


def mirror_words(caption: str) -> str:
    """A caption for the mirrored picture: "left to right" and "right to left" change places."""
    return (
        caption.replace("left to right", "\0").replace("right to left", "left to right").replace("\0", "right to left")
    )


def random_hint(
    flow: torch.Tensor, mask: torch.Tensor, draw: random.Random, single: bool | None = None
) -> torch.Tensor:
    """A training hint [2,H,W] in px/frame: one direction over the whole mask (single), or a few blended arrows.

    flow: [2,H,W] px/frame.   mask: [1,H,W].   draw: random.Random.   single: None = half of the time.
    """
    moving = motion_mask(flow)
    if not moving.any():
        return torch.zeros_like(flow)
    if draw.random() < 0.5 if single is None else single:
        return mean_hint(flow, mask, draw)
    step = max(1, min(flow.shape[1:]) // CLUSTER_SIDE)
    small = moving[:, ::step, ::step]
    small, step = (small, step) if small.any() else (moving, 1)
    centers = cluster_centers(small, draw.randint(1, MAX_HINTS), seed=5) * step
    return blend_hint(flow, centers, moving)


def typical_speed(dataset: MotionDataset, items: int = 64) -> float:
    """Mean speed of what moves, px/frame at dataset.size, over some items of a MotionDataset: how long a hint made from
    words should be.
    """
    chosen = dataset.items[:: max(1, len(dataset.items) // items)]
    speeds = []
    for item in chosen:
        try:
            flow = dataset.read(item, random.Random(0)).flow
        except (ValueError, OSError):  # told when training meets it
            continue
        moving = motion_mask(flow)
        if moving.any():
            speeds.append(flow.norm(dim=0)[moving[0]].mean().item())
    if not speeds:
        raise ValueError(
            f"none of {len(chosen)} items looked at in {dataset.root} moves; is this the right --dataroot?"
        )
    return sum(speeds) / len(speeds)


def mean_hint(flow: torch.Tensor, mask: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """The direction of the mean flow over the whole mask, as a prompt would say it; as a prompt says no speed, it is
    off by up to 1.5.
    """
    mean = flow[:, motion_mask(flow)[0]].mean(1)
    return mean[:, None, None] * 1.5 ** draw.uniform(-1, 1) * mask
