"""Trains the mini tier's image models from scratch: an autoencoder, a text-to-image U-Net on its latents, a segmenter.

    python -m mini.train autoencoder --output checkpoints/mini --minutes 8 --threads 2
    python -m mini.train unet        --output checkpoints/mini --minutes 70 --threads 2
    python -m mini.train decoder     --output checkpoints/mini --minutes 10 --threads 2
    python -m mini.train segmenter   --output checkpoints/mini --minutes 15
    python -m mini.train export      --output checkpoints/mini

In this order, on a CPU or a GPU, on what mini/procedural.py wrote (--data). Checkpoints, the tokenizer and cached
latents stay in <output>-work; --resume goes on from there (unet: else from exported weights), until --minutes in all.
Each command ends with the export of its part: float16 weights and a card.json in <output>/diffusion (a diffusers
folder, once all of it is trained) or <output>/segmenter (a transformers folder).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from text2cinemagraph.mini.export import export
from text2cinemagraph.mini.scenes import read_scenes
from text2cinemagraph.mini.train_autoencoder import (
    AUTOENCODER_TRAINING,
    DECODER_TRAINING,
    train_autoencoder,
    train_decoder,
)
from text2cinemagraph.mini.train_segmenter import SEGMENTER_TRAINING, train_segmenter
from text2cinemagraph.mini.train_unet import UNET_TRAINING, train_unet
from text2cinemagraph.mini.training import config_of, read_json, write_json
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.runtime import hardware, make_runtime

TRAINERS: dict[str, Callable[..., None]] = {
    "autoencoder": train_autoencoder,
    "unet": train_unet,
    "decoder": train_decoder,
    "segmenter": train_segmenter,
}
TRAININGS = {
    "autoencoder": AUTOENCODER_TRAINING,
    "unet": UNET_TRAINING,
    "decoder": DECODER_TRAINING,
    "segmenter": SEGMENTER_TRAINING,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m mini.train", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=(*TRAINERS, "export"))
    parser.add_argument("--data", default="dataset/procedural_data/train", help="folder of mini.procedural")
    parser.add_argument("--validation", help="folder to score on (default: validation beside --data, if it is there)")
    parser.add_argument("--output", default="checkpoints/mini")
    parser.add_argument(
        "--minutes",
        type=number(float, least=0, most=100_000),
        default=10,
        help="time for training, resumed runs counted in",
    )
    parser.add_argument(
        "--tokenizer",
        default="checkpoints/mini/diffusion/tokenizer",
        help="folder of the tokenizer to use, so that the "
        "numbers of words never change; made from the captions where it is missing (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=number(least=0, most=10**9),
        default=0,
        help="stop after so many pictures, too (default: no limit)",
    )
    parser.add_argument(
        "--batch", type=number(least=0, most=65_536), default=0, help="pictures per step (default: the part's own)"
    )
    parser.add_argument(
        "--rate", type=number(float, least=0, most=1), default=0.0, help="learning rate (default: the part's own)"
    )
    parser.add_argument(
        "--average",
        type=number(float, least=0, below=1),
        default=0.0,
        help="highest decay of the running average of the weights, as 0.9995 for ten thousand steps and more",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one) | cpu | cuda | cuda:1")
    parser.add_argument("--threads", type=number(least=0, most=512), default=1, help="of a CPU (default: %(default)s)")
    parser.add_argument("--seed", type=number(least=0, most=SEEDS - 1), default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in <output>-work")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    scenes, output = read_scenes(options.data), Path(options.output)
    work = output.with_name(output.name + "-work")
    held_out = Path(options.validation or Path(options.data).with_name("validation"))
    validation = read_scenes(held_out) if options.validation or Path(f"{held_out}_metadata.jsonl").is_file() else None
    if options.part != "export":
        config = config_of(**TRAININGS[options.part] | asked(options))
        torch.manual_seed(config.seed)
        more = {"exported": output / "diffusion", "words": Path(options.tokenizer)}
        more = more if options.part == "unet" else {"validation": validation}
        TRAINERS[options.part](scenes, work, config, **more)
        command = "python -m mini.train " + " ".join(sys.argv[1:] if arguments is None else arguments)
        told = {"command": command, "seed": options.seed, "hardware": hardware(config.device)}
        write_json(work / f"{options.part}.json", {**told, **read_json(work / f"{options.part}.json")})
    parts = {"segmenter": ("segmenter",), "export": ("diffusion", "segmenter")}.get(options.part, ("diffusion",))
    export(scenes, work, output, parts)


def asked(options: Any) -> dict[str, Any]:
    """What the command line says of a TrainingConfig: its zeros leave the part's own number."""
    own = {"batch_size": options.batch, "lr": options.rate, "average": options.average}
    return {
        "minutes": options.minutes,
        "samples": options.samples,
        "seed": options.seed,
        "resume": options.resume,
        "device": make_runtime(options.device, threads=options.threads).device,
        **{name: value for name, value in own.items() if value},
    }


if __name__ == "__main__":
    run_main(main)
