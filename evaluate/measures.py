"""All measures of one clip or one flow field against what is known about it, as a flat row of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from text2cinemagraph.data.datasets import match_flow
from text2cinemagraph.data.flow import motion_mask, read_flow, read_motion, resize_flow
from text2cinemagraph.data.media import read_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.clips import pictures_of, read_picture
from text2cinemagraph.evaluate.flow_error import flow_error
from text2cinemagraph.evaluate.loop_error import LoopMeter
from text2cinemagraph.evaluate.steadiness import LEAST_FRAMES, SteadinessMeter
from text2cinemagraph.evaluate.video_quality import QualityMeter
from text2cinemagraph.jobs.finished import numbers_of

BEFORE = ("still_max", "still_mean", "seam_ratio", "seam_ratio_masked")  # what test_video.py measures before it encodes


@dataclass(frozen=True)
class Measure:
    """better: "low", "high", or "one" (the ideal is 1)."""

    label: str
    unit: str
    better: str

    def badness(self, value: float) -> float:
        """Larger is worse."""
        return {"low": value, "high": -value, "one": abs(np.log(max(value, 1e-6)))}[self.better]


# In the order of the page. The first one that a row has decides what is worst and best.
MEASURES = {
    "motion_difference": Measure("difference to the motion seen in the true clip, inside the mask", "px/frame", "low"),
    "motion_error": Measure(
        "motion error against the true flow (seen in the clip, inside the mask)", "px/frame", "low"
    ),
    "motion_share": Measure("speed inside the mask, as a share of the true one", "", "one"),
    "motion_speed": Measure("speed inside the mask (seen in the clip)", "px/frame", "high"),
    "motion_inside": Measure("change inside the mask", "levels/frame", "high"),
    "seam_ratio_masked": Measure("seam: jump where the loop closes / usual step, inside the mask", "", "one"),
    "seam_ratio": Measure("seam, whole picture", "", "one"),
    "seam_ratio_flow_masked": Measure("seam of the motion seen, inside the mask", "", "one"),
    "seam_ratio_flow": Measure("seam of the motion seen, whole picture", "", "one"),
    "seam_ratio_masked_before": Measure("seam before encoding, inside the mask", "", "one"),
    "seam_ratio_before": Measure("seam before encoding, whole picture", "", "one"),
    "sharpness_least": Measure("sharpness, least over the loop, as a share of frame 0's", "", "one"),
    "sharpness_mean": Measure("sharpness, mean over the loop", "", "one"),
    "pulse": Measure("pulse: largest less least sharpness over the mean", "", "low"),
    "flash": Measure("flash: how much sharper frame 0 is than its neighbours", "", "low"),
    "brightness_drift": Measure("largest drift of the brightness inside the mask", "levels", "low"),
    "colour_drift": Measure("largest drift of a colour inside the mask", "levels", "low"),
    "step": Measure("jump across the mask's edge, as a share of frame 0's", "", "one"),
    "speckle": Measure("speckle and comb in the mask's rim, as a share of frame 0's", "", "one"),
    "residual": Measure("change that the true flow does not explain (boiling)", "levels", "low"),
    "double_image": Measure("double image: 0.5 = the plain mean of two copies, 0 = one", "", "low"),
    "still_max": Measure("largest change outside the mask", "levels", "low"),
    "still_mean": Measure("mean change outside the mask", "levels", "low"),
    "still_max_before": Measure("largest change outside the mask, before encoding", "levels", "low"),
    "still_mean_before": Measure("mean change outside the mask, before encoding", "levels", "low"),
    "psnr_masked": Measure("PSNR to the true clip, inside the mask", "dB", "high"),
    "psnr": Measure("PSNR to the true clip", "dB", "high"),
    "ssim_masked": Measure("SSIM to the true clip, inside the mask", "", "high"),
    "ssim": Measure("SSIM to the true clip", "", "high"),
    "lpips_masked": Measure("LPIPS to the true clip, inside the mask", "", "low"),
    "lpips": Measure("LPIPS to the true clip", "", "low"),
    "epe_masked": Measure("endpoint error of the flow file, inside the mask", "px/frame", "low"),
    "epe": Measure("endpoint error of the flow file", "px/frame", "low"),
    "epe_512_masked": Measure("the same at 512 px, inside the mask", "px/frame", "low"),
    "epe_512": Measure("the same at 512 px", "px/frame", "low"),
    "epe_masked_at_rest": Measure("endpoint error if nothing moved, inside the mask", "px/frame", "high"),
    "angle_masked": Measure("angle between flow file and true flow, inside the mask", "degrees", "low"),
    "angle": Measure("angle between flow file and true flow", "degrees", "low"),
}


@dataclass(frozen=True)
class Item:
    """What there is of one id. Empty = not there."""

    name: str
    clip: str = ""  # the made video
    flow: str = ""  # the predicted flow file
    true_clip: str = ""  # video, or folder of pictures
    true_motion: str = ""  # <id>_motion.pth
    mask: str = ""  # <id>_mask.png
    motion_norm: float = field(default=64.0)  # unit of <id>_Motion.pt


def measure(item: Item) -> dict[str, float | None]:
    """{measure: number} of one Item; memory does not depend on the length of the clip. ValueError or OSError for a file
    that is broken.
    """
    row = clip_row(item) if item.clip else {}
    return row | flow_row(item) if item.flow and item.true_motion else row


def clip_row(item: Item) -> dict[str, float | None]:
    """Loop, stillness and motion of the clip; likeness to the true clip as far as both last."""
    frames = read_video(item.clip)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{item.clip} holds no frames")
    size = first.shape[:2]
    velocity = true_velocity(item, size)
    mask = true_mask(item, size, velocity)
    loop, quality, truth = LoopMeter(mask, velocity), QualityMeter(mask), true_frames(item, size)
    steady = SteadinessMeter(mask, velocity) if mask is None or mask.any() else None
    for frame in _chain(first, frames):
        other = next(truth, None)
        loop.add(frame, other)
        if steady:
            steady.add(frame)
        if other is not None:
            quality.add(frame, other)
    row = loop.result() | quality.result()
    if steady and row["frames"] >= LEAST_FRAMES:
        row |= {name: value for name, value in steady.result().items() if name in MEASURES}
    if velocity is not None and mask.any():
        true_speed = float(np.linalg.norm(velocity, axis=0)[mask].mean())
        row |= {"true_speed": true_speed, "motion_share": row["motion_speed"] / true_speed if true_speed else None}
    before = numbers_of(Path(item.clip).parents[1], item.name) or numbers_of(Path(item.clip).parent, item.name)
    row |= {f"{name}_before": before[name] for name in BEFORE if before.get(name) is not None}
    return row


def flow_row(item: Item) -> dict[str, float | None]:
    """Errors of the flow file against the true flow, at the size of the file."""
    flow = predicted_flow(item)
    truth = resize_flow(read_motion(item.true_motion), flow.shape[-2:])
    mask = torch.from_numpy(true_mask(item, flow.shape[-2:], truth.numpy()))[None]
    still = flow_error(torch.zeros_like(truth), truth, mask)
    return flow_error(flow, truth, mask) | {"epe_masked_at_rest": still["epe_masked"]}


def predicted_flow(item: Item) -> torch.Tensor:
    """[2,H,W] px/frame of the item's flow file."""
    return read_flow(item.flow) * (item.motion_norm if item.flow.endswith("_Motion.pt") else 1)


def true_velocity(item: Item, size: Sequence[int]) -> np.ndarray | None:
    """The true flow at `size` (H, W) as numpy [2,H,W], or None."""
    return match_flow(read_motion(item.true_motion), torch.empty(1, *size)).numpy() if item.true_motion else None


def true_mask(item: Item, size: Sequence[int], velocity: np.ndarray | None) -> np.ndarray | None:
    """bool [H,W]: the mask's file, else where the true flow moves, else None."""
    if item.mask:
        return read_mask(item.mask, size)[0].numpy()
    return None if velocity is None else motion_mask(torch.from_numpy(velocity))[0].numpy()


def true_frames(item: Item, size: Sequence[int]) -> Iterator[np.ndarray]:
    """The true clip's frames at `size`, none if there is no such clip."""
    if not item.true_clip:
        return
    if Path(item.true_clip).is_file():
        yield from read_video(item.true_clip, size)
        return
    for picture in pictures_of(item.true_clip):
        yield read_picture(picture, size)


def _chain(first, rest):
    yield first
    yield from rest
