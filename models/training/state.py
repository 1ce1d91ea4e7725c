"""TrainingState: where a training stands; and the state of every random generator."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass
class TrainingState:
    """Where a training stands; saved with it."""

    epoch: int = 1
    batch: int = 0  # of this epoch
    epoch_images: int = 0  # of this epoch
    images: int = 0  # of all epochs
    steps: int = 0
    elapsed: float = 0.0  # seconds
    decay_from: int = 1  # the epoch from which on the rate falls, if that is after niter (as_published: stage 2)
    rate_scale: float = 1.0  # of the rate; halved each time that weights had to be put back
    stage: str = ""

    def step(self, images: int, elapsed: float) -> None:
        """A batch of so many images is done."""
        self.images, self.epoch_images, self.elapsed = self.images + images, self.epoch_images + images, elapsed
        self.batch, self.steps = self.batch + 1, self.steps + 1

    def next_epoch(self) -> None:
        """An epoch is done."""
        self.epoch, self.batch, self.epoch_images = self.epoch + 1, 0, 0


def random_state() -> dict[str, Any]:
    """The state of every random generator, in types that torch.load reads without running code."""
    _, words, position, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(words).astype(np.int64)), position, *rest],
        "gpus": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo what was drawn since random_state()."""
    torch.set_rng_state(state["torch"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    words, *rest = state["numpy"]
    np.random.set_state(("MT19937", words.cpu().numpy().astype(np.uint32), *rest))
    if state["gpus"] and len(state["gpus"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["gpus"]])
