"""Do the measures rank as eyes do? The true clip, ours on the true flow, a frozen one, the true frames in random order.

    python -m benchmarks.ranking --clips 10

Compared is the motion that is seen inside the mask with the motion seen in the true clip (evaluate.loop_error,
px/frame): 0 for the truth, small for ours, the whole speed for a frozen clip, more than that for shuffled frames. A
plain PSNR is printed beside it: by that alone a frozen clip may win. Exit code 1 if a clip of the set ranks otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.evaluate.loop_error import LoopMeter
from text2cinemagraph.mini.held_out import examples
from text2cinemagraph.models.loop import LoopRenderer
from text2cinemagraph.models.video import load_video_model
from text2cinemagraph.options.cli import Parser, load_options, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.pipeline.animating import rendering_of
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.mini.held_out import Example
    from text2cinemagraph.models.video import VideoModel
    from text2cinemagraph.options.inference import Video

ORDER = ("truth", "ours", "frozen", "shuffled")


def clips_of(example: Example, model: VideoModel, o: Video, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """{name: frames, uint8 [H,W,3]}."""
    picture = torch.from_numpy(example.frames[0]).permute(2, 0, 1).float() / 255
    o = dataclasses.replace(o, n_frames=len(example.frames))
    rendering = {**rendering_of(o, own_picture=False), "speed": 1.0, "clamp": "none", "feather": 0.0}
    made = LoopRenderer(lambda: model).set_image(picture, example.mask).render(example.flow, **rendering)
    ours = [np.uint8((frame * 255).round().permute(1, 2, 0).numpy()) for frame in made]
    order = rng.permutation(len(example.frames))
    return {
        "truth": example.frames,
        "ours": ours,
        "frozen": [example.frames[0]] * len(ours),
        "shuffled": [example.frames[i] for i in order],
    }


def measured(frames: Iterable[np.ndarray], example: Example) -> dict[str, Any]:
    """The numbers of one clip."""
    meter = LoopMeter(example.mask, example.flow, flow_every=4)
    for frame, truth in zip(frames, example.frames):
        meter.add(frame, truth)
    where = example.mask[0].numpy()
    error = np.mean([np.square(a[where].astype(float) - b[where]).mean() for a, b in zip(frames, example.frames)])
    found = meter.result()
    return {
        "motion_difference": found["motion_difference"],
        "motion_error": found["motion_error"],
        "seam_ratio_masked": found["seam_ratio_masked"],
        "still_max": found["still_max"],
        "motion_inside": found["motion_inside"],
        "psnr_masked": 10 * np.log10(255**2 / max(error, 0.01)),
    }


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None if none is (a frozen clip has no seam)."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def main() -> int:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.ranking", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/inference_mini.yaml")
    parser.add_argument("--clips", type=number(least=1, most=100_000), default=10)
    parser.add_argument("--seed", type=number(least=0, most=SEEDS - 1), default=1)
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/ranking.json")
    flags = parser.parse_args()
    o, rng = load_options(InferenceOptions, flags.config).video, np.random.default_rng(flags.seed)
    model = load_video_model(o.folder, o.architecture, make_runtime("cpu"))
    rows = {name: [] for name in ORDER}
    for example in tqdm(examples(flags.clips, flags.seed, video=True), "clips"):
        for name, frames in clips_of(example, model, o, rng).items():
            rows[name].append(measured(frames, example))
    means = {name: {key: mean_of([row[key] for row in made]) for key in made[0]} for name, made in rows.items()}
    differences = np.array([[row["motion_difference"] for row in rows[name]] for name in ORDER])
    right = int((np.diff(differences, axis=0) > 0).all(0).sum())
    ours = {
        "seam_ratio_worst": round(max(row["seam_ratio_masked"] for row in rows["ours"]), 3),
        "still_max": max(row["still_max"] for row in rows["ours"]),
    }
    keep(
        "ranking",
        {"clips": flags.clips, "seed": flags.seed, "ranked_as_expected": right, "means": means, "ours": ours},
        None if flags.no_keep else FOLDER,
    )
    return 0 if right == flags.clips else 1


if __name__ == "__main__":
    run_main(main)
