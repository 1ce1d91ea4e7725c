"""Does a cinemagraph loop, move and stay still where it should? Numbers from its frames alone.

python -m evaluate.loop_error outputs/river/video.mp4 --mask outputs/river/mask_self_attn_erosion.png
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from text2cinemagraph.data.media import read_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.optical_flow import FlowEstimator, motion_error
from text2cinemagraph.options.cli import Parser, run_main

if TYPE_CHECKING:
    import torch


class LoopMeter:
    """Measures a clip frame by frame; keeps the first frame and the last one, whatever the length."""

    def __init__(
        self,
        mask: torch.Tensor | np.ndarray | None = None,
        velocity: torch.Tensor | np.ndarray | None = None,
        flow_every: int = 4,
    ) -> None:
        """mask: bool [1,H,W] or [H,W], True = may move; None = no mask.   velocity: true flow [2,H,W] in px/frame, or
        None.

        flow_every: between every which pair of frames the motion is estimated, 0 = never (then nothing of it is in the
        result).
        """
        self._mask = None if mask is None else np.asarray(mask, dtype=bool).reshape(np.shape(mask)[-2:])
        self._velocity = None if velocity is None else np.asarray(velocity)
        self._every, self._estimate = flow_every, FlowEstimator() if flow_every else None
        self._count, self._first, self._last, self._last_truth = 0, None, None, None
        self._steps, self._still, self._speeds, self._errors, self._differences = [], [], [], [], []

    def add(self, frame: np.ndarray, truth: np.ndarray | None = None) -> None:
        """frame: uint8 [H,W,3].   truth: the same frame of the true clip at the same size, to compare what is seen to
        move; or None.
        """
        if self._count:
            self._steps.append(self._means(_gap(self._last, frame)))
            if self._has(~self._mask if self._mask is not None else None):
                still = _gap(self._first, frame, mean=False)[~self._mask]
                self._still.append((still.max(), still.mean()))
            if self._every and self._count % self._every == 1 % self._every:
                self._see(frame, truth)
        else:
            self._first = self._checked(frame)
        self._last, self._last_truth, self._count = frame, truth, self._count + 1

    def _see(self, frame, truth):
        """Estimate the motion from the last frame to this one, and how far it is from the true motion."""
        flow, inside = (
            self._estimate(self._last, frame),
            self._mask if self._mask is not None else np.ones(frame.shape[:2], bool),
        )
        self._speeds.append(self._means(np.linalg.norm(flow, axis=0)))
        if inside.any() and self._velocity is not None:
            self._errors.append(motion_error(flow, self._velocity, inside))
        if inside.any() and truth is not None and self._last_truth is not None:
            self._differences.append(motion_error(flow, self._estimate(self._last_truth, truth), inside))

    def result(self) -> dict[str, Any]:
        """A dict; what cannot be said (no mask, an empty one, nothing moves) is None.

        frames; seam_ratio, seam_ratio_masked: jump from the last frame to the first against the median step, mean
        absolute levels;
        seam_ratio_flow, seam_ratio_flow_masked: the same of the estimated speed; motion_inside: levels per frame;
        motion_speed: estimated px/frame inside (without a mask: everywhere); motion_error: estimated motion against the
        true flow, px/frame, inside; motion_difference: the same against the motion estimated in the true clip, where
        the estimator errs alike;
        still_max, still_mean: largest and mean absolute difference to frame 0 outside, levels.
        """
        if self._count < 3:
            raise ValueError(f"expected a clip of at least 3 frames, found {self._count}")
        seam, steps = self._means(_gap(self._last, self._first)), np.array(self._steps, dtype=float)
        result = {"frames": self._count, "seam_ratio": _ratio(seam[0], steps[:, 0])}
        if self._mask is not None:
            inside = steps[:, 1] if self._mask.any() else None
            result |= {
                "seam_ratio_masked": None if inside is None else _ratio(seam[1], inside),
                "motion_inside": None if inside is None else float(inside.mean()),
                "still_max": float(max(m for m, _ in self._still)) if self._still else None,
                "still_mean": float(np.mean([m for _, m in self._still])) if self._still else None,
            }
        return result | self._motion() if self._every else result

    def _motion(self):
        seam, speeds = (
            self._means(np.linalg.norm(self._estimate(self._last, self._first), axis=0)),
            np.array(self._speeds, dtype=float),
        )
        result = {"seam_ratio_flow": _ratio(seam[0], speeds[:, 0]), "motion_speed": float(speeds[:, 0].mean())}
        if self._mask is not None:
            inside = speeds[:, 1] if self._mask.any() else None
            result |= {
                "seam_ratio_flow_masked": None if inside is None else _ratio(seam[1], inside),
                "motion_speed": None if inside is None else float(inside.mean()),
            }
        if self._velocity is not None:
            result["motion_error"] = float(np.mean(self._errors)) if self._errors else None
        if self._differences:
            result["motion_difference"] = float(np.mean(self._differences))
        return result

    def _means(self, values):
        """Over the picture, and over the mask (None without one)."""
        return float(values.mean()), float(values[self._mask].mean()) if self._has(self._mask) else None

    @staticmethod
    def _has(mask):
        return mask is not None and bool(mask.any())

    def _checked(self, frame):
        for name, size in (("mask", self._mask), ("flow", self._velocity)):
            if size is not None and size.shape[-2:] != frame.shape[:2]:
                raise ValueError(
                    f"the {name} is {size.shape[-1]}x{size.shape[-2]}, the video {frame.shape[1]}x{frame.shape[0]}; "
                    f"use the {name} the video was made with"
                )
        return frame


def loop_error(
    frames: Iterable[np.ndarray],
    mask: torch.Tensor | np.ndarray | None = None,
    velocity: torch.Tensor | np.ndarray | None = None,
    flow_every: int = 4,
) -> dict[str, Any]:
    """All numbers of one clip: what LoopMeter finds in these frames, uint8 [H,W,3], however they come."""
    meter = LoopMeter(mask, velocity, flow_every)
    for frame in frames:
        meter.add(frame)
    return meter.result()


def seam_ratio(frames: np.ndarray, mask: np.ndarray | None = None) -> float:
    """How much larger the jump from the last frame to the first is than a usual step: |f[N-1]-f[0]| / median
    |f[t]-f[t+1]|.

    frames: [N,H,W,3], N >= 3.  mask: bool [H,W] or None for the whole picture.  About 1 for a seamless loop whose last
    frame is one step before the first; None when nothing moves.
    """
    return loop_error(frames, mask, flow_every=0)["seam_ratio" if mask is None else "seam_ratio_masked"]


def _gap(first, second, mean=True):
    """Absolute difference in levels: [H,W], the mean over the colours, or [H,W,3]."""
    gap = np.abs(first.astype(np.float32) - second)
    return gap.mean(-1) if mean else gap


def _ratio(seam, usual):
    usual = float(np.median(usual))
    return seam / usual if usual > 0 else None


def main() -> None:
    """The command line: one video, one JSON object on the standard output."""
    parser = Parser(prog="python -m evaluate.loop_error", description=__doc__.splitlines()[0])
    parser.add_argument("video", help="the clip, one full loop")
    parser.add_argument("--mask", help="picture, bright where the clip may move")
    arguments = parser.parse_args()
    mask = None if arguments.mask is None else read_mask(arguments.mask).numpy()
    print(json.dumps(loop_error(read_video(arguments.video), mask)))


if __name__ == "__main__":
    run_main(main)
