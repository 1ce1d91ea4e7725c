"""Motion that can be seen: flow estimated between two frames of a clip, whatever made it."""

from __future__ import annotations

import cv2
import numpy as np

LARGEST = 4.0  # px/frame at 512 px: larger errors count as this; they are the estimator's accidents, or a jump

SMALLEST = 16  # px: DIS compares patches of 8 px


class FlowEstimator:
    """DIS optical flow (Kroeger et al., ECCV 2016): a classical method, nothing trained, 30 ms at 256 px on one core.

    On true procedural clips its error is a tenth (rivers) to a half (clouds) of the speed; estimates are a little too
    slow.
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)  # the preset stops at half the size, too coarse for less than 1 px/frame

    def __call__(self, first, second):
        """first, second: uint8 [H,W,3] RGB.  Returns float32 [2,H,W], px: how far what is in `first` has moved in
        `second`.
        """
        if min(first.shape[:2]) < SMALLEST:
            raise ValueError(
                f"frames of {first.shape[1]}x{first.shape[0]}; motion can be estimated from {SMALLEST} px on"
            )
        first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
        return np.ascontiguousarray(self._dis.calc(first, second, None).transpose(2, 0, 1))


def motion_error(estimated: np.ndarray, velocity: np.ndarray, mask: np.ndarray) -> float:
    """Mean length of the difference between estimated and true motion over the mask, px/frame.

    estimated, velocity: [2,H,W] px/frame.   mask: bool [H,W], not empty.   Errors count at most 4 px/frame at 512 px.
    """
    error = np.linalg.norm(estimated - velocity, axis=0)[mask]
    return float(np.minimum(error, LARGEST * min(mask.shape) / 512).mean())
