"""run(): the loop of every training. fit(): a training in epochs over a dataset, for one process or many.

Started by torchrun or accelerate launch, the processes share every batch: the order of the data, the losses and the
weights are those of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from text2cinemagraph.models.training.batches import Batches, EpochBatches
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.files import STATE, TrainingFolder
from text2cinemagraph.models.training.log import TrainingLog
from text2cinemagraph.models.training.memory import checkpoint_layers, widen_norms
from text2cinemagraph.models.training.processes import accelerator_of, device_of
from text2cinemagraph.models.training.state import TrainingState
from text2cinemagraph.models.training.trainer import Trainer

Save = Callable[[Trainer, "str | None"], None]  # the epoch, where one is to be kept
Watch = Callable[[Trainer, "list[Any]"], None]  # after every step, with its batches


class Log(Protocol):
    """What run() tells of itself."""

    def step(self, trainer: Trainer, numbers: dict[str, float], pieces: list[Any]) -> None:
        """One step is done: its losses, its batches."""

    def close(self) -> None:
        """No more will come."""


def run(trainer: Trainer, batches: Batches, *, log: Log, save: Save, watch: Watch | None = None) -> None:
    """Step until the training is over, saving on the way and at the end."""
    config, state = trainer.config, trainer.state
    trainer.start_clock()
    saved = state.elapsed
    try:
        while not config.over(state):
            for pieces in batches(state):
                before = state.images
                numbers = trainer.step(pieces)
                if watch:
                    watch(trainer, pieces)
                log.step(trainer, numbers, pieces)
                late = config.save_seconds and state.elapsed - saved > config.save_seconds
                if late or passes(before, state.images, config.save_latest_freq):
                    save(trainer, None)
                    saved = state.elapsed
                if config.over(state):
                    break
            else:
                state.next_epoch()
                if (state.epoch - 1) % config.save_epoch_freq == 0:
                    save(trainer, str(state.epoch - 1))
        save(trainer, None)
    finally:
        log.close()


def passes(before: int, now: int, every: int) -> bool:
    """A multiple of `every` lies between two counts; 0 = never."""
    return bool(every) and before // every != now // every


def fit(
    model: Any, dataset: Any, config: TrainingConfig, folder: str | Path, *, card: dict[str, Any] | None = None
) -> TrainingState:
    """Train a Pix2Pix until the config's epochs or minutes are over; where it then stands.

    dataset: items with .collate and .to, and dataset.set_epoch.   folder: receives latest_net_G.safetensors and its
    card (and net_D), `<epoch>_net_G.safetensors` every save_epoch_freq epochs, loss_log.txt, iter.txt (epoch, images of
    it) and train_state.pt.   card: what the card should say; images and steps are added.
    Raises ValueError as soon as a loss is not finite, OSError when a save fails; the last save is then still good.
    """
    files, folder = TrainingFolder(folder, card or {}), Path(folder)
    accelerator = accelerator_of(config.device, config.gradient_accumulation)
    processes = accelerator.num_processes
    device = device_of(accelerator, config.device)
    batches = EpochBatches(dataset, config, device, process=accelerator.process_index, processes=processes)
    saved = files.saved(model, config) if config.resume else {}
    if config.dtype != "fp32" or processes > 1:
        widen_norms(model, config.synchronised_norms and processes > 1)
    if config.gradient_checkpointing:
        checkpoint_layers(model)
    if config.compile:
        for network in model.networks.values():
            network.compile()
    torch.manual_seed(config.seed)
    model.to(memory_format=torch.channels_last).train()
    trainer = Trainer(model, config, accelerator=accelerator, saved=saved, source=folder / STATE)
    files.mend(trainer)
    images = batches.steps * config.batch_size * (config.niter + config.niter_decay) if config.by_epochs else None
    log = TrainingLog(folder, trainer, images=images, show=model.task.pictures)
    try:
        run(trainer, batches, log=log, save=files.save)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"not enough GPU memory for batchSize={config.batch_size}; try --dtype bf16, --gradient_accumulation "
            f"{2 * config.gradient_accumulation}, --gradient_checkpointing"
        ) from error
    return trainer.state
