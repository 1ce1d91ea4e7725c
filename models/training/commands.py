"""What train_motion.py and train_video.py share: TrainOptions become a TrainingConfig, a training leaves its files."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.data.checkpoint import dataset_note
from text2cinemagraph.data.files import atomic
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.files import load_networks
from text2cinemagraph.models.training.loop import fit
from text2cinemagraph.models.training.pix2pix import Pix2Pix
from text2cinemagraph.options.runtime import Runtime, first_process, hardware, say
from text2cinemagraph.options.train import TrainOptions

READERS_PER_CORE = 4  # more only wait for each other, and each takes memory
BROKEN = "broken_items.txt"  # items that could not be read, and why


def folder_of(options: TrainOptions) -> Path:
    """Where a training puts its files."""
    return Path(options.checkpoints_dir) / options.name


def broken_items(options: TrainOptions) -> Path:
    """The file that names items which could not be read; that of an earlier run is removed."""
    path = folder_of(options) / BROKEN
    if first_process():
        path.unlink(missing_ok=True)
    return path


def card_of(options: TrainOptions, architecture: type, dataset: Any, command: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint says about itself: the options that build it, and how it was trained.

    architecture: the options class whose fields build the network.   command: the script's name and its flags.
    """
    kept = {field.name: getattr(options, field.name) for field in dataclasses.fields(architecture)}
    return {
        "options": kept,
        "command": shlex.join(["python", *command]),
        "dataset": {**dataset_note(options.dataroot), "items": len(dataset)},
        "train_options": dataclasses.asdict(options),
    }


def train(model: Pix2Pix, dataset: Any, card: dict[str, Any], *, options: TrainOptions, runtime: Runtime) -> None:
    """fit() with the numbers of TrainOptions, which opt.txt keeps; says where the result lies."""
    folder = folder_of(options)
    if options.load_pretrain and not options.continue_train:
        load_networks(model.networks, options.load_pretrain)
    if not options.continue_train and first_process():
        values = "".join(f"{name}: {value}\n" for name, value in sorted(dataclasses.asdict(options).items()))
        with atomic(folder / "opt.txt") as path:
            Path(path).write_text(f"------------ Options -------------\n{values}-------------- End ----------------\n")
    card = {**card, "hardware": hardware(runtime.device)}
    state = fit(model, dataset, config_of(options, runtime.device), folder, card=card)
    say(f"{state.images} images in {state.elapsed / 60:.1f} minutes; weights: {folder}/latest_net_G.safetensors")
    lost = (folder / BROKEN).read_text().splitlines() if (folder / BROKEN).is_file() else []
    if lost:
        shown = ", ".join(line.split(":")[0] for line in lost[:10]) + (", ..." if len(lost) > 10 else "")
        say(f"{len(lost)} items could not be read: {shown}; why: {folder / BROKEN}")


def config_of(options: TrainOptions, device: torch.device) -> TrainingConfig:
    """TrainOptions -> TrainingConfig."""
    named = {field.name for field in dataclasses.fields(TrainingConfig)} & {f.name for f in dataclasses.fields(options)}
    return TrainingConfig(
        **{name: getattr(options, name) for name in named - {"minutes"}},
        minutes=options.minutes or None,
        betas=(options.beta1, 0.999),
        batch_size=options.batchSize,
        workers=reading_processes(options.nThreads, device),
        device=device,
        synchronised_norms=not options.as_published,
        resume=options.continue_train,
        stage=getattr(options, "tr_stage", ""),
        restart_stage=options.as_published,
    )


def reading_processes(asked: int, device: torch.device | str) -> int:
    """How many processes read data: as asked, at most READERS_PER_CORE for each core.

    -1 = none beside a CPU that is busy training, 4 (as published) per GPU if there are cores.
    """
    if asked >= 0:
        most = READERS_PER_CORE * (os.cpu_count() or 1)
        if asked > most:
            print(f"nThreads={asked}: {most} processes read, {READERS_PER_CORE} for each core", flush=True)
        return min(asked, most)
    share = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return 0 if torch.device(device).type == "cpu" else max(1, min(4, share))
