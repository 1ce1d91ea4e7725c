"""Do loops keep their sharpness? Photographs with masks and flows, ours beside the plain cross-fade of the same copies.

    python -m benchmarks.loops --samples ../shared/samples              # every frame; the last line is one JSON object
    python -m benchmarks.loops --samples ../shared/samples --sheets docs/assets --quick

A folder of samples holds one folder per picture with image.jpg, mask.png and motion.npz (px/frame at the picture's
size). --quick looks at every fourth frame and its successor; sheets show the picture and frames 15, 30, 45.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import read_flow
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.evaluate.steadiness import SteadinessMeter
from text2cinemagraph.models.loop import LoopRenderer
from text2cinemagraph.options.cli import Parser, number, run_main

WAYS = ("smooth", "variance")
SHOWN = (15, 30, 45)
FEATHER = 0.01  # of the short side, as in the mini tier


def measured(
    image: torch.Tensor, flow: torch.Tensor, mask: torch.Tensor, *, n_frames: int, blend: str, numbers: Collection[int]
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """(numbers of one clip, {n: uint8 frame} of those shown)."""
    meter, shown, cpu, still = SteadinessMeter(mask, flow, n_frames), {}, 0.0, 0
    loop = LoopRenderer().set_image(image, mask)
    clip = loop.render(flow, n_frames, clamp="none", blend=blend, feather=FEATHER, numbers=numbers)
    outside, first = ~mask[0].numpy(), None
    for n in numbers:
        before = cpu_seconds()
        frame = next(clip)
        cpu += cpu_seconds() - before
        pixels = np.uint8((frame * 255).round().permute(1, 2, 0).numpy())
        meter.add(pixels, n)
        first = pixels if first is None else first
        still = max(still, int(np.abs(pixels.astype(int) - first)[outside].max(initial=0)))
        if n in SHOWN:
            shown[n] = pixels
    return {**meter.result(), "still_max": still, "cpu_s_per_frame": cpu / len(numbers)}, shown


def cpu_seconds() -> float:
    """User and system seconds of this process."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def write_sheet(path: str | Path, rows: Sequence[Sequence[np.ndarray]]) -> None:
    """Rows of uint8 pictures of one size, as a JPEG."""
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))
    sheet.thumbnail((1600, 1600))
    with atomic(path) as temporary:
        sheet.save(temporary, "JPEG", quality=82)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.loops", description=__doc__)
    parser.add_argument("--samples", required=True, help="folder of samples")
    parser.add_argument("--names", nargs="+", default=[], help="which of them; default: all that have a flow")
    parser.add_argument("--speeds", nargs="+", type=number(float, above=0, most=100), default=[0.5, 1.0, 2.0])
    parser.add_argument("--frames", type=number(least=2, most=10_000), default=60)
    parser.add_argument("--quick", action="store_true", help="every fourth frame and its successor")
    parser.add_argument("--sheets", default="", help="folder for pictures")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/loops.json")
    o = parser.parse_args()
    numbers = [n for n in range(o.frames) if not o.quick or n % 4 < 2 or n == o.frames - 1]
    names = o.names or sorted(path.parent.name for path in Path(o.samples).glob("*/motion.npz"))
    clips = []
    for name in names:
        folder = Path(o.samples) / name
        image = read_image(folder / "image.jpg")
        mask = read_mask(folder / "mask.png", image.shape[-2:])
        flow = read_flow(folder / "motion.npz") * mask
        for speed in o.speeds:
            rows = []
            for blend in WAYS:
                began = time.perf_counter()
                found, shown = measured(image, flow * speed, mask, n_frames=o.frames, blend=blend, numbers=numbers)
                curve = found.pop("sharpness")
                clips.append({"name": name, "speed": speed, "blend": blend, **found, "sharpness": curve})
                rows.append([np.uint8(image.mul(255).round().permute(1, 2, 0).numpy()), *shown.values()])
                print(
                    f"{name} x{speed:g} {blend}: sharpness least {found['sharpness_least']:.2f}, pulse "
                    f"{found['pulse']:.2f}, drift {found['colour_drift']:.1f}, residual {found['residual']:.2f} "
                    f"({time.perf_counter() - began:.0f} s)",
                    flush=True,
                )
            if o.sheets:
                write_sheet(Path(o.sheets) / f"loop_{name}_{speed:g}.jpg", rows)
    ours = [clip for clip in clips if clip["blend"] == "variance"]
    plain = [clip for clip in clips if clip["blend"] == "smooth"]
    result = {
        "frames": o.frames,
        "frames_measured": len(numbers),
        "sharpness_least": min(clip["sharpness_least"] for clip in ours),
        "pulse": max(clip["pulse"] for clip in ours),
        "colour_drift_at_speed_1": max((c["colour_drift"] for c in ours if c["speed"] == 1), default=None),
        "residual_over_smooth": max(a["residual"] / b["residual"] for a, b in zip(ours, plain)),
        "still_max": max(clip["still_max"] for clip in ours),
        "sharpness_least_smooth": min(clip["sharpness_least"] for clip in plain),
        "pulse_smooth": max(clip["pulse"] for clip in plain),
        "clips": clips,
    }
    keep("loops", result, None if o.no_keep else FOLDER)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_main(main)
