"""What a training lets be seen of itself: a progress bar, loss_log.txt, TensorBoard, Weights & Biases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from text2cinemagraph.models.training.trainer import Trainer
from tqdm import tqdm

LOGS = "logs"  # TensorBoard's folder in <checkpoints_dir>/<name>
Pictures = dict[str, torch.Tensor]  # {label: [3,H,W] in [0,1]}, CPU


class Writer(Protocol):
    """The part of TensorBoard's SummaryWriter that is used here."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """One number of a step."""

    def add_image(self, name: str, picture: torch.Tensor, step: int) -> None:
        """picture: [3,H,W] in [0,1]."""

    def close(self) -> None:
        """No more will come."""


class TrainingLog:
    """Shows losses and pictures of a training, in its first process only.

    A disk that is full stops the pictures and curves, with one line, not the training: whether that can go on is seen
    when it is saved.
    """

    def __init__(
        self,
        folder: str | Path,
        trainer: Trainer,
        *,
        images: int | None = None,
        show: Callable[[Any, torch.Tensor], Pictures] | None = None,
    ) -> None:
        """folder: <checkpoints_dir>/<name>.   images: in all; None = unknown.   show(batch, made): pictures of them."""
        config, done = trainer.config, trainer.state.images
        self.folder, self.show, self.first = Path(folder), show, trainer.accelerator.is_main_process
        self.bar = tqdm(
            desc="training",
            unit="img",
            total=images,
            initial=done,
            mininterval=5,
            dynamic_ncols=True,
            disable=not self.first,
        )
        self.writers: list[Writer] = []
        if self.first and config.tensorboard and (writer := tensorboard_writer(self.folder / LOGS, done)):
            self.writers.append(writer)
        if self.first and config.wandb:
            self.writers.append(WandB(self.folder))
        self._said = time.monotonic(), done
        self._pictured: int | None = None

    def step(self, trainer: Trainer, numbers: dict[str, float], pieces: list[Any]) -> None:
        """A step is done.   numbers: its losses.   pieces: its batches, of which the last is shown."""
        if not self.first:
            return
        config, state = trainer.config, trainer.state
        if config.minutes:
            text = f"training, minute {state.elapsed / 60:.0f} of {config.minutes:g}"
            self.bar.set_description(text, refresh=False)
        self.bar.update(config.batch_size)
        before = state.images - config.batch_size
        if before // config.print_freq != state.images // config.print_freq:
            self._losses(trainer, numbers)
        shown = state.images // config.display_freq
        if self.writers and self.show and trainer.made is not None and shown != self._pictured:
            for label, picture in self.show(pieces[-1], trainer.made).items():
                self._each("add_image", label, picture, state.images)
            self._pictured = shown

    def _losses(self, trainer: Trainer, numbers: dict[str, float]) -> None:
        state, (then, images) = trainer.state, self._said
        self._said = time.monotonic(), state.images
        seconds = (self._said[0] - then) / (state.images - images)
        text = " ".join(f"{name}: {value:.4f}" for name, value in numbers.items())
        self.bar.set_postfix_str(text, refresh=False)
        line = f"(epoch: {state.epoch}, iters: {state.epoch_images}, time: {seconds:.3f}) {text}\n"
        self._guard(self._write, line)
        shown = {f"loss/{name}": value for name, value in numbers.items()}
        rate = trainer.optimizer.param_groups[0]["lr"]
        shown |= {"lr": rate, "images_per_second": 1 / seconds if seconds else math.nan, "epoch": state.epoch}
        for name, value in shown.items():
            self._each("add_scalar", name, value, state.images)

    def close(self) -> None:
        """No more will come."""
        self.bar.close()
        self._each("close")

    def _write(self, line: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "loss_log.txt", "a") as file:
            file.write(line)

    def _each(self, method: str, *what: Any) -> None:
        """Call a method of every Writer."""
        for writer in self.writers:
            self._guard(getattr(writer, method), *what)

    def _guard(self, write: Callable[..., None], *what: Any) -> None:
        try:
            write(*what)
        except OSError as error:
            self.bar.write(f"losses and pictures are not written any more: {error}; training goes on")
            self.writers = []


def tensorboard_writer(folder: Path, step: int) -> Writer | None:
    """torch's SummaryWriter that forgets what an interrupted run logged after `step`; None, and a line, if TensorBoard
    is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # a heavy import that no test of a loop needs
    except ImportError:
        print("no TensorBoard here (pip install tensorboard): losses are in loss_log.txt, pictures are not kept")
        return None
    return SummaryWriter(str(folder), purge_step=step or None)


class WandB:
    """Weights & Biases behind the three methods of a SummaryWriter."""

    def __init__(self, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError("--wandb needs the package: pip install wandb (and wandb login)") from error
        self._image = wandb.Image
        self._run = wandb.init(project="text2cinemagraph", name=folder.name, dir=str(folder), resume="allow")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """One number of a step."""
        self._run.log({name: value}, step=step)

    def add_image(self, name: str, picture: torch.Tensor, step: int) -> None:
        """picture: [3,H,W] in [0,1]."""
        self._run.log({name: self._image(picture.permute(1, 2, 0).numpy())}, step=step)

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


class SecondsBar:
    """A progress bar in seconds, for a training whose time is given."""

    def __init__(self, trainer: Trainer, name: str) -> None:
        minutes = trainer.config.minutes or 0
        self.seconds, done = round(minutes * 60), round(min(trainer.state.elapsed, minutes * 60))
        self.bar = tqdm(total=self.seconds, initial=done, unit="s", desc=name)

    def step(self, trainer: Trainer, numbers: dict[str, float], pieces: list[Any]) -> None:
        """A step is done; its mean loss is shown where it was looked at."""
        self.bar.update(round(min(trainer.state.elapsed, self.seconds)) - self.bar.n)
        if numbers:
            self.bar.set_postfix(steps=trainer.state.steps, loss=f"{trainer.loss:.4f}", refresh=False)

    def close(self) -> None:
        """No more will come."""
        self.bar.close()
