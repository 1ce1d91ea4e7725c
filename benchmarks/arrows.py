"""How well a few arrows say how a photograph moves: three arrows read off a true flow, against that flow.

    python -m benchmarks.arrows --samples ../shared/samples

Each folder of --samples holds image.jpg, mask.png and motion.npz (px/frame); or, as the published run's folder,
sample_0.png, mask_self_attn_erosion.png and the flow as the picture synthesized_flow.jpg, which is read back from its
colours (relative speeds). The arrows lie where the mask's pixels, row by row, reach 1/6, 1/2 and 5/6 of their number,
in the middle of that row; direction and speed are the true flow's mean over 9x9 px there. The phrase is the one nearest
to the mean true direction, as the direction network and the constant method follow it. "best_scale" is a flow times the
one factor that fits best, because the true flows were clamped and scaled. Written to docs/results/arrows.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.arrow_hint import arrow_hint, fade_at_shores, keep_arrows, leaves_arrows
from text2cinemagraph.data.arrows import pixel, sample_arrows
from text2cinemagraph.data.flow import flow_to_color, read_flow
from text2cinemagraph.data.harmonic import harmonic_flow
from text2cinemagraph.data.hint import DIRECTIONS, direction_hint, sample_angle
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion
from text2cinemagraph.data.suggest import given_again, suggest_arrows
from text2cinemagraph.evaluate.flow_error import angle_error, endpoint_error
from text2cinemagraph.models.motion import load_motion_model
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.train import MotionOptions

if TYPE_CHECKING:
    from text2cinemagraph.models.motion import MotionModel

QUANTILES = (1 / 6, 1 / 2, 5 / 6)
AROUND = 4  # px on each side over which an arrow's velocity is read
LENGTH = 40  # px, at most, of an arrow
FACTORS = torch.logspace(-2, 0.5, 120)


def read_sample(folder: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(image [3,H,W], mask bool [1,H,W], true flow [2,H,W]) of a folder."""
    if (folder / "motion.npz").is_file():
        return read_image(folder / "image.jpg"), read_mask(folder / "mask.png"), read_flow(folder / "motion.npz")
    mask = read_mask(folder / "mask_self_attn_erosion.png")
    return read_image(folder / "sample_0.png"), mask, flow_of_colors(read_image(folder / "synthesized_flow.jpg")) * mask


def flow_of_colors(picture: torch.Tensor) -> torch.Tensor:
    """The flow [2,H,W] whose colours (data.flow.flow_to_color) are nearest to a picture [3,H,W]; the fastest is 1."""
    angles, radii = np.meshgrid(np.linspace(-np.pi, np.pi, 180, endpoint=False), np.linspace(0, 1, 41))
    table = torch.from_numpy(np.stack([radii * np.cos(angles), radii * np.sin(angles)])).float()
    tree = cKDTree(flow_to_color(table).reshape(-1, 3).astype(np.float64))
    _, nearest = tree.query(picture.permute(1, 2, 0).reshape(-1, 3).numpy() * 255)
    return table.reshape(2, -1)[:, torch.from_numpy(nearest)].reshape(2, *picture.shape[-2:])


def arrows_of(flow: torch.Tensor, mask: torch.Tensor) -> DrawnMotion:
    """A DrawnMotion of one arrow per quantile of the mask."""
    rows, arrows = mask[0].nonzero()[:, 0].float(), []
    for quantile in QUANTILES:
        y = int(rows.quantile(quantile, interpolation="nearest"))
        x = int(mask[0, y].nonzero()[:, 0].float().quantile(0.5, interpolation="nearest"))
        near = (slice(max(y - AROUND, 0), y + AROUND + 1), slice(max(x - AROUND, 0), x + AROUND + 1))
        dx, dy = flow[(slice(None), *near)][:, mask[0][near]].mean(1).tolist()
        speed = math.hypot(dx, dy)
        half = min(max(60 * speed, 12), LENGTH) / 2 / speed
        ends = ((x + 0.5 - dx * half, y + 0.5 - dy * half), (x + 0.5 + dx * half, y + 0.5 + dy * half))
        size = tuple(mask.shape[-2:])
        path = tuple((min(max(px, 0), size[1]), min(max(py, 0), size[0])) for px, py in ends)
        arrows.append(Arrow(path, speed))
    return DrawnMotion(tuple(arrows))


def nearest_phrase(flow: torch.Tensor, mask: torch.Tensor) -> str:
    """The phrase of DIRECTIONS whose middle is nearest to the direction of the mean flow."""
    dx, dy = flow[:, mask[0]].mean(1).tolist()
    angle = math.degrees(math.atan2(-dy, dx))
    middles = {"left to right": 0, **{p: sum(r[0]) / 2 for p, r in DIRECTIONS.items() if p != "left to right"}}
    return min(middles, key=lambda phrase: abs((middles[phrase] - angle + 180) % 360 - 180))


def best_scaled(flow: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The flow times the factor that gives the least endpoint error."""
    return flow * min(FACTORS, key=lambda factor: endpoint_error(flow * factor, target, mask))


def measure(folder: Path, model: MotionModel, seed: int) -> dict[str, Any]:
    """One row of the table: errors inside the mask, {method: {"epe": px/frame, "angle": degrees}}, and more."""
    image, mask, truth = read_sample(folder)
    samples = sample_arrows(arrows_of(truth, mask), mask)
    exact = harmonic_flow(mask, samples)
    network = keep_arrows(model.predict(image, mask, hint=arrow_hint(mask, samples)), samples, exact)
    phrase = nearest_phrase(truth, mask)
    speed = model.options.hint_speed * min(mask.shape[-2:]) / model.options.fineSize
    words = direction_hint(mask, sample_angle(phrase, seed), speed)
    by_network, constant = model.predict(image, mask, hint=words), fade_at_shores(words, mask)
    flows = {
        "arrows": exact,
        "arrows_best_scale": best_scaled(exact, truth, mask),
        "network": network,
        "network_best_scale": best_scaled(network, truth, mask),
        "blend": arrow_hint(mask, samples),
        "phrase": by_network,
        "phrase_best_scale": best_scaled(by_network, truth, mask),
        "constant": constant,
        "constant_best_scale": best_scaled(constant, truth, mask),
        "mean": truth[:, mask[0]].mean(1)[:, None, None] * mask,
    }
    errors = {
        name: {
            "epe": round(endpoint_error(flow, truth, mask), 4),
            "angle": round(angle_error(flow, truth, mask), 2),
        }
        for name, flow in flows.items()
    }
    y, x = pixel(samples.places, tuple(mask.shape[-2:]))
    left = leaves_arrows(network[:, y, x].T.numpy().astype(np.float64), samples.velocities)
    suggested, _ = suggest_arrows(truth, mask, 8)
    again = given_again(harmonic_flow(mask, sample_arrows(suggested, mask)), truth, mask)
    return {
        "phrase": phrase,
        "errors": errors,
        "share_of_arrow_places_that_the_network_leaves": float(left.mean()),
        "suggested": {"arrows": len(suggested.arrows), "share_given_again": round(again, 3)},
    }


def table(rows: Mapping[str, dict[str, Any]]) -> str:
    """The errors as Markdown: endpoint error in px/frame, and the angle in degrees."""
    names = list(next(iter(rows.values()))["errors"])
    lines = [
        "| sample | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for sample, row in rows.items():
        cells = (f"{row['errors'][name]['epe']:.2f} ({row['errors'][name]['angle']:.0f}°)" for name in names)
        lines.append(f"| {sample} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.arrows", description=__doc__)
    parser.add_argument("--samples", required=True, help="folder of folders with a picture, a mask and a true flow")
    parser.add_argument("--model", default="checkpoints/mini/motion-direction", help="(default: %(default)s)")
    parser.add_argument(
        "--seed", type=number(least=0, most=SEEDS - 1), default=0, help="of the phrases' angles (default: %(default)s)"
    )
    parser.add_argument("--output", default=str(FOLDER), help='folder of arrows.json, "" = none (default: %(default)s)')
    flags = parser.parse_args()
    folders = sorted(path for path in Path(flags.samples).iterdir() if path.is_dir())
    model = load_motion_model(flags.model, MotionOptions(), make_runtime("cpu", "fp32", flags.seed))
    rows = {folder.name: measure(folder, model, flags.seed) for folder in folders}
    better = {
        how: sum(row["errors"][f"arrows{how}"]["epe"] < row["errors"][f"phrase{how}"]["epe"] for row in rows.values())
        for how in ("", "_best_scale")
    }
    print(table(rows))
    counts = {"as_run": better[""], "both_at_their_best_scale": better["_best_scale"]}
    keep("arrows", {"samples": rows, "samples_where_arrows_beat_the_phrase": counts}, flags.output or None)


if __name__ == "__main__":
    run_main(main)
