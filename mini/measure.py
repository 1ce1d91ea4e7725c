"""How good is the small family? Every stage on landscapes that nothing was trained on, with a baseline beside every
figure.

python -m mini.measure                                  # all parts; the JSON object is the last line
python -m mini.measure --quick                          # few scenes: a look, not a measurement
python -m mini.measure --parts flow video --n 40
python -m mini.measure --output docs/results/mini.json  # keeps what it printed
python -m mini.measure --cards                          # and writes it into the cards of the networks
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.mini import drawings, motions
from text2cinemagraph.mini.held_out import examples
from text2cinemagraph.mini.photographs import photographs
from text2cinemagraph.options.cli import Parser, load_options, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.pipeline.networks import Networks

if TYPE_CHECKING:
    from text2cinemagraph.mini.held_out import Example
    from text2cinemagraph.options.runtime import Runtime

PARTS = {
    "autoencoder": drawings.autoencoder,
    "samples": drawings.samples_and_twins,
    "masks": drawings.masks,
    "photographs": photographs,
    "flow": motions.flow,
    "directions": motions.directions,
    "video": motions.video,
}


def cards_of(options: InferenceOptions) -> dict[str, list[Path]]:
    """{part: the cards of the networks that it judges}."""
    flow, video = options.optical_flow, options.video
    drawing, told, hinted, frames = (
        Path(options.twin_extraction.ckpt) / "card.json",
        *(
            Path(folder) / "latest_net_G.json"
            for folder in (
                f"{flow.checkpoints_dir}/{flow.model_name}",
                f"{flow.checkpoints_dir}/{flow.hint_model_name}",
                f"{video.checkpoints_dir}/{video.model_name}",
            )
        ),
    )
    return {
        "autoencoder": [drawing],
        "samples": [drawing],
        "masks": [Path(options.odise.checkpoint) / "card.json"],
        "photographs": [Path(options.odise.checkpoint) / "card.json"],
        "flow": [told, hinted],
        "directions": [hinted],
        "video": [frames],
    }


def write_cards(result: dict[str, Any], options: InferenceOptions) -> None:
    """Put what was measured of each network under "evaluation" in its card; parts that were not measured keep what is
    there.
    """
    for part, paths in cards_of(options).items():
        for path in paths if part in result else ():
            card = json.loads(path.read_text())
            told = {"command": f"python -m mini.measure --seed {result['seed']} --n {result['n']}"}
            card["evaluation"] = {**card.get("evaluation", {}), **told, part: result[part]}
            with atomic(path) as temporary:
                temporary.write_text(json.dumps(card, indent=1) + "\n")


class Bench:
    """What the parts share: options, runtime, the number of scenes, and scenes that are rendered once."""

    def __init__(
        self,
        options: InferenceOptions,
        runtime: Runtime,
        seed: int,
        n: int,
        *,
        pictures: str | Path = "",
        edition: int = 1,
    ) -> None:
        """n: scenes per part; the video part takes a fifth, as each has 60 frames.   pictures: folder for what was
        looked at, or "".
        """
        self.options, self.runtime, self.seed, self.n = options, runtime, seed, n
        self.pictures = Path(pictures) if pictures else None
        self.edition = edition
        self.networks, self._scenes = Networks(keep_all=True), {}

    def scenes(self, split: str = "validation", **more: Any) -> list[Example]:
        """Held-out scenes; split "train" gives others, from which baselines and the classifier of looks are learned."""
        key = (split, *sorted(more.items()))
        if key not in self._scenes:
            self._scenes[key] = examples(more.pop("count", self.n), self.seed, split, edition=self.edition, **more)
        return self._scenes[key]


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m mini.measure", description=__doc__)
    parser.add_argument("--config", default="configs/inference_mini.yaml")
    parser.add_argument(
        "--seed",
        type=number(least=0, most=SEEDS - 1),
        default=1,
        help="of the held-out landscapes; 0 is what the networks saw",
    )
    parser.add_argument(
        "--n",
        type=number(least=1, most=100_000),
        default=100,
        help="scenes, samples and pairs per part (default: %(default)s)",
    )
    parser.add_argument(
        "--edition",
        type=number(least=1, most=2),
        default=1,
        choices=(1, 2),
        help="of the landscapes and looks (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="n = 10")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", default="", help="folder for pictures of what was measured")
    parser.add_argument("--output", default="", help="JSON file to keep the result in")
    parser.add_argument("--cards", action="store_true", help="write the figures into the cards of the networks too")
    parser.add_argument("overrides", nargs="*", help="section.key=value, as for inference_t2c.py")
    flags = parser.parse_intermixed_args()
    if flags.n < 5:
        raise ValueError(f"--n {flags.n}; expected at least 5, one scene of each kind")
    torch.manual_seed(flags.seed)
    n = 10 if flags.quick else flags.n
    bench = Bench(
        load_options(InferenceOptions, flags.config, flags.overrides),
        make_runtime("cpu"),
        flags.seed,
        n,
        pictures=flags.pictures,
        edition=flags.edition,
    )
    result = {
        "config": flags.config,
        "seed": flags.seed,
        "n": n,
        **({"edition": flags.edition} if flags.edition > 1 else {}),
    }
    for name in flags.parts:
        started = time.perf_counter()
        with torch.inference_mode():
            result[name] = rounded(PARTS[name](bench))
        print(f"{name}: {json.dumps(result[name])}  ({time.perf_counter() - started:.0f} s)", flush=True)
    if flags.output:
        with atomic(Path(flags.output)) as path:
            path.write_text(json.dumps(result, indent=1) + "\n")
    if flags.cards:
        write_cards(result, bench.options)
    print(json.dumps(result))


def rounded(value: Any) -> Any:
    """Floats to three digits, wherever they are in dicts and lists."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), 3) if isinstance(value, float) else value


if __name__ == "__main__":
    run_main(main)
