"""Does a cinemagraph loop, move and stay still where it should? Numbers from its frames alone.

    python -m evaluate.loop_error outputs/river/video.mp4 --mask outputs/river/mask_self_attn_erosion.png
"""

import argparse
import json

import numpy as np

from data.media import read_mask, read_video
from options.cli import run_main


def differences(frames, other, mask=None):
    """Mean absolute difference of each frame to the other of its pair, in 8-bit levels.

    frames, other: [M,H,W,3].  mask: bool [H,W], or None for the whole picture.  Returns [M].
    """
    gap = np.stack([np.abs(a.astype(np.float32) - b).mean(-1) for a, b in zip(frames, other)])
    return gap.mean((1, 2)) if mask is None else gap[:, mask].mean(1)


def seam_ratio(frames, mask=None):
    """How much larger the jump from the last frame to the first is than a usual step: |f[N-1]-f[0]| / median |f[t]-f[t+1]|.

    frames: [N,H,W,3], N >= 3.  mask: bool [H,W] or None for the whole picture.  About 1 for a seamless loop whose last frame
    is one step before the first; None when nothing moves.
    """
    usual = float(np.median(differences(frames[:-1], frames[1:], mask)))
    return float(differences(frames[-1:], frames[:1], mask)[0]) / usual if usual > 0 else None


def stillness(frames, outside):
    """Largest and mean absolute difference to frame 0 over the pixels `outside` [H,W], in levels; 0, 0 = perfectly still."""
    first = frames[0][outside].astype(np.float32)
    gaps = [np.abs(frame[outside] - first) for frame in frames[1:]]
    return float(max(gap.max() for gap in gaps)), float(np.mean([gap.mean() for gap in gaps]))


def motion_amount(frames, inside):
    """Mean absolute change per frame over the pixels `inside` [H,W], in levels."""
    return float(differences(frames[:-1], frames[1:], inside).mean())


def loop_error(frames, mask=None):
    """All numbers of one clip.

    frames: uint8 [N,H,W,3] or a list of [H,W,3], N >= 3.  mask: bool [1,H,W] or [H,W], True = may move; None = no mask.
    Returns a dict: frames, seam_ratio, and with a mask seam_ratio_masked, motion_inside (levels per frame; None if the mask
    is empty), still_max and still_mean outside (levels; None if the mask covers everything).
    """
    frames = list(frames)
    if len(frames) < 3:
        raise ValueError(f"expected a clip of at least 3 frames, found {len(frames)}")
    result = {"frames": len(frames), "seam_ratio": seam_ratio(frames)}
    if mask is None:
        return result
    mask = np.asarray(mask, dtype=bool).reshape(np.shape(mask)[-2:])
    if mask.shape != frames[0].shape[:2]:
        raise ValueError(f"the mask is {mask.shape[1]}x{mask.shape[0]}, the video {frames[0].shape[1]}x{frames[0].shape[0]}; "
                         "use the mask the video was made with")
    still = stillness(frames, ~mask) if (~mask).any() else (None, None)
    return {**result, "seam_ratio_masked": seam_ratio(frames, mask) if mask.any() else None,
            "motion_inside": motion_amount(frames, mask) if mask.any() else None, "still_max": still[0], "still_mean": still[1]}


def main():
    """The command line: one video, one JSON object on the standard output."""
    parser = argparse.ArgumentParser(prog="python -m evaluate.loop_error", description=__doc__.splitlines()[0])
    parser.add_argument("video", help="the clip, one full loop")
    parser.add_argument("--mask", help="picture, bright where the clip may move")
    arguments = parser.parse_args()
    mask = None if arguments.mask is None else read_mask(arguments.mask).numpy()
    print(json.dumps(loop_error(read_video(arguments.video), mask)))


if __name__ == "__main__":
    run_main(main)
