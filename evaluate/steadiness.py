"""Does a loop keep its sharpness and its light, or does it breathe? Numbers from its frames, its mask and its flow.

A loop that joins two moved copies of a picture can be crisp where it closes and blurred, doubled or drifting in its
middle, with a seam ratio of 1 all the while. These measures see that.

python -m evaluate.steadiness outputs/river/video.mp4 --mask outputs/river/mask_self_attn_erosion.png \\
    --flow flow_as_it_runs.npz
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from text2cinemagraph.data.flow import read_flow
from text2cinemagraph.data.media import read_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.loop_error import LoopMeter
from text2cinemagraph.options.cli import Parser, run_main

if TYPE_CHECKING:
    import torch

LUMA = np.float32([0.299, 0.587, 0.114])  # BT.601
SIGMAS = (1.5, 3.0, 6.0, 12.0)  # px: detail is what a blur of 1.5 px takes away; bands lie between the blurs
RIM = 6  # px inside the mask that sharpness does not look at: the fade into what stands still is there
BORDER = 12  # px of the rim in which combs and speckles are looked for
STEP_FROM = 2  # frames at each end that pulse leaves out: there the frame is nearly the picture itself
LEAST_FRAMES = 2 * STEP_FROM + 2  # of a clip that can be measured
LEAST_PIXELS = 100  # from which a correlation says something
PERIODIC = 0.1  # of a picture's variance: where less of it changes over the distance of the copies, nobody sees two


class SteadinessMeter:
    """Measures a clip frame by frame; keeps two frames, whatever the length."""

    def __init__(
        self,
        mask: torch.Tensor | np.ndarray | None = None,
        velocity: torch.Tensor | np.ndarray | None = None,
        n_frames: int | None = None,
    ) -> None:
        """mask: bool [1,H,W] or [H,W], True = may move; None = everywhere.   velocity: the flow that the clip was made
        with, [2,H,W] in px/frame at the frames' size; None = no residual and no double image.   n_frames: of the whole
        loop, where only some frames are added; None = as many as are added.
        """
        self._mask = None if mask is None else np.asarray(mask, dtype=bool).reshape(np.shape(mask)[-2:])
        self._velocity = None if velocity is None else np.asarray(velocity, np.float32)
        self._n_frames, self._numbers = n_frames, []
        self._rows, self._first, self._last, self._kept = [], None, None, []

    def add(self, frame: np.ndarray, number: int | None = None) -> None:
        """frame: uint8 [H,W,3], or float32 [H,W,3] in levels.   number: in the loop; None = one more than the last."""
        number = number if number is not None else self._numbers[-1] + 1 if self._numbers else 0
        if self._first is None:
            self._prepare(frame)
        luma = np.float32(frame) @ LUMA
        row = {
            "bands": _band_energies(luma, self._inner),
            "colour": np.float32(frame)[self._mask].mean(0),
            "step": _step(luma, self._edges),
            "speckle": float(np.abs(luma - cv2.medianBlur(luma, 3))[self._rim].mean()) if self._rim.any() else None,
        }
        if self._velocity is not None:
            if self._last is not None and number == self._numbers[-1] + 1:
                row["residual"] = self._residual(self._last, luma)
            self._kept.append(np.float16(luma - cv2.GaussianBlur(luma, (0, 0), SIGMAS[1])))
        self._rows.append(row)
        self._numbers.append(number)
        self._first = luma if self._first is None else self._first
        self._last = luma

    def result(self) -> dict[str, Any]:
        """A dict; what cannot be said is None. All are 0 or 1 for a clip of one unchanging picture as noted.

        sharpness: energy of the detail of every frame, of frame 0's (list); sharpness_least, sharpness_mean; and
        sharpness_least_<band>, bands of waves coarser than the detail.
        pulse: largest minus least over mean of the sharpness, the two frames at each end left out.   flash: how much
        sharper frame 0 is than its two neighbours, of its own.
        brightness_drift, colour_drift: largest change of the mean inside the mask from frame 0, levels, of the
        luminance and of any colour.
        residual: mean absolute difference of a frame to its predecessor moved by the flow, levels: boiling.
        double_image: a * b / (a^2 + b^2) for a copy with the share a and another with the share b, mean of the middle
        third, from how the detail correlates with itself at the distance between the two: 0 for one picture, 0.5 for
        the plain mean of two. The middle third of a cross-fade of two has 0.47 (linear) or 0.40 (smooth). How much the
        picture resembles itself at that distance does not count; None where it is the same again.
        step: mean jump of the luminance across the mask's edge, over frame 0's.   speckle: mean distance of a pixel to
        the median of its 3x3, in the rim of the mask, over frame 0's (combs, dots).
        """
        if len(self._rows) < LEAST_FRAMES:
            raise ValueError(f"expected a clip of at least {LEAST_FRAMES} frames, found {len(self._rows)}")
        energies = np.array([row["bands"] for row in self._rows])
        share = energies / np.maximum(energies[0], 1e-6)
        detail, colours = share[:, 0], np.array([row["colour"] for row in self._rows])
        inner, drift = detail[STEP_FROM:-STEP_FROM], np.abs(colours - colours[0])
        result = {
            "sharpness_least": float(detail.min()),
            "sharpness_mean": float(detail.mean()),
            **{
                f"sharpness_least_{low:g}_{high:g}": float(share[:, 1 + i].min())
                for i, (low, high) in enumerate(zip(SIGMAS, SIGMAS[1:]))
            },
            "pulse": float((inner.max() - inner.min()) / inner.mean()),
            "flash": float(1 - (detail[1] + detail[-1]) / 2),
            "brightness_drift": float(np.abs(colours @ LUMA - colours[0] @ LUMA).max()),
            "colour_drift": float(drift.max()),
            "step": _over_first([row["step"] for row in self._rows]),
            "speckle": _over_first([row["speckle"] for row in self._rows]),
            "sharpness": [round(float(value), 4) for value in detail],
        }
        if self._velocity is not None:
            residuals = [row["residual"] for row in self._rows if "residual" in row]
            result |= {
                "residual": float(np.mean(residuals)) if residuals else None,
                "double_image": self._double_image(),
            }
        return result

    def _prepare(self, frame):
        height, width = frame.shape[:2]
        if self._mask is None:
            self._mask = np.ones((height, width), bool)
        for name, size in (
            ("mask", self._mask.shape),
            ("flow", None if self._velocity is None else self._velocity.shape[1:]),
        ):
            if size is not None and tuple(size) != (height, width):
                raise ValueError(
                    f"the {name} is {size[1]}x{size[0]}, the video {width}x{height}; "
                    f"use the {name} the video was made with"
                )
        if not self._mask.any():
            raise ValueError("the mask is black everywhere: nothing may move, nothing is measured")
        self._inner = _eroded(self._mask, RIM)
        if not self._inner.any():
            self._inner = self._mask
        self._rim = self._mask & ~_eroded(self._mask, BORDER, outside=0)
        self._edges = _edges(self._mask)
        if self._velocity is not None:
            y, x = np.mgrid[:height, :width].astype(np.float32)
            self._before = x - self._velocity[0], y - self._velocity[1]

    def _residual(self, before, after):
        moved = cv2.remap(before, *self._before, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return float(np.abs(after - moved)[self._inner].mean())

    def _double_image(self):
        """Follow every pixel along the flow for the whole clip; correlate there, in the middle third."""
        count = len(self._kept)
        apart = _carried(self._velocity, self._n_frames or count)
        height, width = self._mask.shape
        x, y = apart
        at = np.rint(x).astype(int).clip(0, width - 1), np.rint(y).astype(int).clip(0, height - 1)
        own_y, own_x = np.mgrid[:height, :width]
        ok = self._inner & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1) & self._inner[at[1], at[0]]
        ok &= np.hypot(x - own_x, y - own_y) > 4 * SIGMAS[1]  # nearer than that every picture resembles itself
        if ok.sum() < LEAST_PIXELS:
            return None
        first = np.float32(self._kept[0])
        once = _alike(first, x, y, ok)
        far_x, far_y = (cv2.remap(at, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for at in (x, y))
        ok_far = ok & (far_x >= 0) & (far_y >= 0) & (far_x <= width - 1) & (far_y <= height - 1)
        twice = _alike(first, far_x, far_y, ok_far) if ok_far.sum() >= LEAST_PIXELS else once**2
        # With the copies' shares a and b, a frame's correlation is once + ab (1 + twice - 2 once^2) / (a^2 + b^2 + 2 ab
        # once), where once and twice are the picture's own at the distance of the copies and at two of them.
        new = 1 + twice - 2 * once**2
        if new < PERIODIC:
            return None
        shares = []
        for n in range(count // 3, count - count // 3):
            part = (_alike(np.float32(self._kept[n]), x, y, ok) - once) / new
            shares.append(part / max(1 - 2 * once * part, 1e-6))
        return float(np.mean(shares))


def steadiness(
    frames: Iterable[np.ndarray],
    mask: torch.Tensor | np.ndarray | None = None,
    velocity: torch.Tensor | np.ndarray | None = None,
) -> dict[str, Any]:
    """All numbers of one clip: what SteadinessMeter finds in these frames, uint8 [H,W,3], however they come."""
    meter = SteadinessMeter(mask, velocity)
    for frame in frames:
        meter.add(frame)
    return meter.result()


class LoopLine:
    """Seam, sharpness and pulse of a clip in one line, cheaply: what a run says of its video."""

    def __init__(self, mask: torch.Tensor) -> None:
        """mask: bool [1,H,W], True = may move."""
        self._loop, self._mask = LoopMeter(mask, flow_every=0), np.asarray(mask, bool)[0]
        self._where, self._energies = _eroded(self._mask, RIM), []
        self._where = self._where if self._where.any() else self._mask

    def add(self, frame: np.ndarray) -> None:
        """frame: uint8 [H,W,3]."""
        self._loop.add(frame)
        luma = np.float32(frame) @ LUMA
        self._energies.append(float(np.square(luma - cv2.GaussianBlur(luma, (0, 0), SIGMAS[0]))[self._where].mean()))

    def numbers(self) -> dict[str, Any]:
        """seam (jump at the loop's end over a usual step, or None), sharpness (least, of frame 0's), pulse, motion
        (levels per frame inside the mask); {} for a clip too short to say anything.
        """
        if len(self._energies) < LEAST_FRAMES:
            return {}
        loop, share = self._loop.result(), np.array(self._energies) / max(self._energies[0], 1e-6)
        inner = share[STEP_FROM:-STEP_FROM]
        return {
            "seam": loop["seam_ratio_masked"],
            "sharpness": float(share.min()),
            "pulse": float((inner.max() - inner.min()) / max(inner.mean(), 1e-6)),
            "motion": loop["motion_inside"],
        }

    def text(self) -> str:
        """The line; "" for a clip too short to say anything."""
        found = self.numbers()
        if not found:
            return ""
        seam = "-" if found["seam"] is None else f"{found['seam']:.2f}"
        return (
            f"loop: seam {seam} (1 = unseen), sharpness at least {found['sharpness']:.2f} of frame 0's, "
            f"pulse {found['pulse']:.2f}"
        )


def _band_energies(luma, where):
    """Energy of the detail, and of the bands between the blurs, levels squared."""
    blurred = [luma, *(cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in SIGMAS)]
    return [float(np.square(a - b)[where].mean()) for a, b in zip(blurred, blurred[1:])]


def _eroded(mask, by, outside=1):
    """The mask less a rim of so many px; the picture's own frame counts as `outside`."""
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2), borderValue=outside) > 0


def _edges(mask):
    """Pairs of pixels 3 px apart across the mask's edge: for both directions, where such a pair begins."""
    return mask[:, 3:] != mask[:, :-3], mask[3:] != mask[:-3]


def _step(luma, edges):
    """Mean absolute jump of the luminance over those pairs."""
    jumps = np.concatenate([np.abs(luma[:, 3:] - luma[:, :-3])[edges[0]], np.abs(luma[3:] - luma[:-3])[edges[1]]])
    return float(jumps.mean()) if len(jumps) else None


def _carried(velocity, count):
    """(x, y) where the flow carries each pixel in `count` frames, midpoint steps, bilinear velocities."""
    height, width = velocity.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(count):
        middle_x, middle_y = x, y
        for share in (0.5, 1):
            dx, dy = (
                cv2.remap(v, middle_x, middle_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for v in velocity
            )
            middle_x, middle_y = x + share * dx, y + share * dy
        x, y = middle_x.astype(np.float32), middle_y.astype(np.float32)
    return x, y


def _alike(detail, x, y, where):
    """Correlation of the detail with itself at (x, y), over the pixels `where`."""
    other = cv2.remap(detail, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    a, b = detail[where], other[where]
    return float((a * b).mean() / max(np.sqrt((a * a).mean() * (b * b).mean()), 1e-6))


def _over_first(values):
    """The mean of the others over the first."""
    if values[0] is None or values[0] <= 0:
        return None
    return float(np.mean(values[1:]) / values[0])


def main() -> None:
    """The command line: one video, one JSON object on the standard output."""
    parser = Parser(prog="python -m evaluate.steadiness", description=__doc__.splitlines()[0])
    parser.add_argument("video", help="the clip, one full loop")
    parser.add_argument("--mask", help="picture, bright where the clip may move")
    parser.add_argument("--flow", help="the flow it was made with, px/frame at its size, the speed factor included")
    arguments = parser.parse_args()
    mask = None if arguments.mask is None else read_mask(arguments.mask).numpy()
    velocity = None if arguments.flow is None else read_flow(arguments.flow).numpy()
    print(json.dumps(steadiness(read_video(arguments.video), mask, velocity)))


if __name__ == "__main__":
    run_main(main)
