"""TrainingConfig: all that is decided before a training begins, and how the learning rate follows from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from text2cinemagraph.models.training.state import TrainingState


def half_cosine(share: float) -> float:
    """From 1 to 0 along half a cosine.   share: of the run that is done, 0..1."""
    return 0.5 + 0.5 * math.cos(math.pi * share)


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; nothing of it changes while it is. Names as in TrainOptions where it has them.

    A training ends after niter + niter_decay epochs, as published; or, with `minutes` (0 counts: nothing is left to do)
    or `samples`, when the first of these is used up, resumed runs counted in.
    """

    # how long, and at which rate
    lr: float = 2e-4
    niter: int = 100  # epochs at lr
    niter_decay: int = 100  # epochs in which it falls in a line to 0
    minutes: float | None = None
    samples: int = 0  # pictures; 0 = no such limit
    decay: Callable[[float], float] = half_cosine  # share of the minutes or samples that are used -> share of lr
    warmup: int = 1  # steps in which the rate rises
    # the optimiser
    betas: tuple[float, float] = (0.5, 0.999)  # the original's
    weight_decay: float = 0.0
    max_norm: float = 0.0  # longer gradients are shortened; 0 = none
    average: float = 0.0  # highest decay of the running average of the weights; 0 = there is none
    check_every: int = 1  # steps between two looks at the losses, for which a GPU has to wait; see Trainer.step
    advice: str = (  # what to do where a loss is not finite
        "nothing was saved since: go on from the last save with a lower lr (--continue_train --lr ...), and look for "
        "odd values in the data"
    )
    # the data
    batch_size: int = 1  # of one step, over all processes and pieces together
    serial_batches: bool = False  # in the order of the files
    workers: int = 0  # processes that read; 0 = this one
    seed: int = 0
    # how it is computed
    device: torch.device | str = "cpu"  # of a single process; many have the accelerator's
    dtype: str = "fp32"
    gradient_accumulation: int = 1  # pieces of a batch
    gradient_checkpointing: bool = False
    compile: bool = False
    synchronised_norms: bool = True  # batch statistics over all processes
    # what is shown
    print_freq: int = 100  # images
    display_freq: int = 100  # images
    tensorboard: bool = False
    wandb: bool = False
    # what is kept, and how to go on
    save_latest_freq: int = 2000  # images; 0 = never
    save_epoch_freq: int = 25  # epochs
    save_seconds: float = 0.0  # 0 = never
    half: bool = False  # exported weights as float16
    resume: bool = False
    which_epoch: str = "latest"
    stage: str = ""
    restart_stage: bool = False  # a new stage begins with a new optimiser and the full rate, as published

    @property
    def by_epochs(self) -> bool:
        """Epochs end the training, not minutes or samples."""
        return self.minutes is None and not self.samples

    def share_done(self, state: TrainingState) -> float:
        """How much of the minutes or samples is used, 0..1 and beyond."""
        used = 0.0 if self.minutes is None else state.elapsed / (60 * self.minutes) if self.minutes > 0 else 1.0
        return max(used, state.images / self.samples if self.samples else 0.0)

    def rate(self, state: TrainingState) -> float:
        """Share of lr for the next step. As published, the first epoch of decay still runs at lr."""
        if self.by_epochs:
            late = max(0, state.epoch - 1 - max(self.niter, state.decay_from - 1))
            share = 1 - late / max(1, self.niter_decay)
        else:
            share = self.decay(min(1.0, self.share_done(state)))
        return share * min(1.0, (state.steps + 1) / self.warmup) * state.rate_scale

    def over(self, state: TrainingState) -> bool:
        """Nothing is left to do."""
        return state.epoch > self.niter + self.niter_decay if self.by_epochs else self.share_done(state) >= 1
