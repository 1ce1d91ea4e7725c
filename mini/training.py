"""How the small family is trained: for so many minutes, on batches that are drawn without end, by models.training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.models.training.batches import endless
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.files import read_state, write_state
from text2cinemagraph.models.training.log import SecondsBar
from text2cinemagraph.models.training.loop import Watch, run
from text2cinemagraph.models.training.trainer import Losses, Trainer
from torch import nn

# Off the CPU a look at the losses makes every step wait for the device.
CHECK_EVERY = {"cuda": 100}
ADVICE = "start again with --resume, or with another --seed"


def half_precision(device: torch.device | str) -> torch.autocast:
    """Context: products in bfloat16, weights and sums in float32.  A fifth faster on CPUs that have it, ten times on a
    GPU.
    """
    return torch.autocast(torch.device(device).type, torch.bfloat16)


class Learning(nn.Module):
    """Networks and the loss that all of them learn from."""

    def __init__(self, networks: dict[str, nn.Module], loss: Callable[[Any], torch.Tensor]) -> None:
        """loss(batch): to be minimised."""
        super().__init__()
        self.networks: Any = nn.ModuleDict(networks)
        self.loss = loss

    def forward(self, batch: Any) -> Losses:
        """The loss of a batch."""
        loss = self.loss(batch)
        return Losses(loss, {"loss": loss})


def config_of(**decided: Any) -> TrainingConfig:
    """The TrainingConfig of a part of the family: what all parts share, and what is decided for this one."""
    shared = {
        "minutes": 10.0,
        "max_norm": 1.0,
        "save_latest_freq": 0,
        "save_seconds": 240.0,
        "advice": ADVICE,
        "check_every": CHECK_EVERY.get(torch.device(decided.get("device", "cpu")).type, 1),
    }
    return TrainingConfig(**{**shared, **decided})


def trainer_of(learning: Learning, config: TrainingConfig, path: Path) -> Trainer:
    """The Trainer of networks; it goes on from the file, if that is there and the config says so."""
    saved = read_state(path, "remove it to begin again") if config.resume and path.is_file() else None
    return Trainer(learning, config, saved=saved, source=path)


def learn(
    trainer: Trainer,
    draw: Callable[[int], Any],
    path: Path,
    *,
    save: Callable[[], None] | None = None,
    watch: Watch | None = None,
) -> None:
    """Train until the minutes or pictures of the config are used up.

    draw(count): a batch on the trainer's device.   path: the file to go on from.   save(): instead of writing that.
    """
    batches = endless(lambda: draw(trainer.config.batch_size))
    keep = (lambda *_: save()) if save else lambda *_: write_state(path, trainer)
    run(trainer, batches, log=SecondsBar(trainer, path.stem), save=keep, watch=watch)


def notes(trainer: Trainer, **more: Any) -> dict[str, Any]:
    """For the card."""
    state = trainer.state
    return {"steps": state.steps, "samples": state.images, "minutes": round(state.elapsed / 60, 1), **more}


def cosine(share: float) -> float:
    """From 1 to 0.02 along half a cosine."""
    return 0.02 + 0.49 * (1 + math.cos(math.pi * share))


def late_decay(share: float) -> float:
    """1, falling linearly to 0.02 over the second half."""
    return 1.0 if share < 0.5 else max(0.02, (1 - share) / 0.5)


def write_json(path: str | Path, content: Any) -> None:
    """Readable JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, {} where there is none."""
    return json.loads(Path(path).read_text()) if Path(path).is_file() else {}
