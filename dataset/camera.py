"""Does the camera of a clip stand still? Judged by the stillest corners of the picture, since water may fill most of
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

CHECK_STEP = 10  # frames between two looks at the camera: a shake that comes back is seen, and tracking stays cheap
POINTS = 600  # corners followed per clip
# the stillest share of all corners is the background: water may fill most of a picture, the shores do not move
BACKGROUND = 0.15
FEWEST = 40  # corners; with fewer nothing can be said about the camera


def camera_motion(frames: Sequence[np.ndarray]) -> tuple[float, bool] | None:
    """How far the background moves in a clip: (% of the short side, whether it was lost on the way), or None without
    corners.

    frames: list of uint8 gray [H,W]. Corners of the first frame are looked up directly in every CHECK_STEP-th frame.
    The stillest BACKGROUND of them are the background; an affine map (shift, turn, zoom) is fitted to them, and the
    answer is its mean shift over the whole picture, in the frame where that is largest. A cut loses the background, a
    fast camera sooner or later.
    """
    start = cv2.goodFeaturesToTrack(frames[0], POINTS, 0.01, 5)
    if start is None or len(start) < FEWEST:
        return None
    largest, guess = 0.0, start
    for t in sorted({*range(CHECK_STEP, len(frames), CHECK_STEP), len(frames) - 1}):
        guess, distance = _follow(frames[0], frames[t], start, guess)
        stillest = np.argsort(distance)[: round(BACKGROUND * len(start))]
        if np.isinf(distance[stillest]).any():
            return largest, True
        largest = max(largest, _mean_shift(start[stillest], guess[stillest], frames[0].shape))
    return largest, False


def _follow(first, later, start, guess):
    """Corners `start` (float32 [N,1,2], x, y) of one gray frame in a later one, near `guess`. Returns (places, px
    moved, inf = lost).
    """
    window = {"winSize": (21, 21), "maxLevel": 3, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    found, seen, _ = cv2.calcOpticalFlowPyrLK(first, later, start, guess.copy(), **window)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(later, first, found, start.copy(), **window)
    same = np.linalg.norm(back - start, axis=-1)[:, 0] < 0.5  # px: there and back again, or the corner was lost
    same &= (seen[:, 0] > 0) & (seen_back[:, 0] > 0)
    distance = np.where(same, np.linalg.norm(found - start, axis=-1)[:, 0], np.inf)
    return np.where(same[:, None, None], found, guess), distance


def _mean_shift(start, found, size):
    """Mean shift over a picture of `size` (H, W) by the affine map between two sets of points, % of the short side."""
    cv2.setRNGSeed(0)  # RANSAC draws; a clip's verdict must not depend on the clips before it
    matrix, _ = cv2.estimateAffinePartial2D(start, found, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if matrix is None:
        return 100.0  # the points agree on nothing
    x, y = np.meshgrid(np.linspace(0, size[1] - 1, 9), np.linspace(0, size[0] - 1, 9))
    places = np.stack([x.ravel(), y.ravel()])
    shift = np.linalg.norm(matrix[:, :2] @ places + matrix[:, 2:] - places, axis=0)
    return float(shift.mean() / min(size) * 100)


def camera_verdict(motion: tuple[float, bool] | None, limit: float) -> str:
    """Why a clip's camera is refused, or "" if it stands still. motion: see camera_motion; limit: % of the short
    side.
    """
    if motion is None:
        return f"fewer than {FEWEST} corners to follow, so the camera cannot be judged"
    percent, lost = motion
    if percent > limit:
        return f"the camera moves by {percent:.2f} % of the short side{' or more' * lost}; at most {limit:g} % is kept"
    return f"the background is lost after {percent:.2f} % of the short side: a cut, or everything moves" if lost else ""
