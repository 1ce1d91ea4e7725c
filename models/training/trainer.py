"""Trainer: networks under training with their optimiser, average and precision; one step of them, on accelerate."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate import Accelerator
from text2cinemagraph.data.checkpoint import load_weights
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.processes import accelerator_of, device_of
from text2cinemagraph.models.training.state import TrainingState, random_state, set_random_state
from text2cinemagraph.options.runtime import dtype_of
from torch import nn
from tqdm import tqdm

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

RECENT = 200  # losses that the shown mean is made of


@dataclass
class Losses:
    """What a model under training makes of a batch."""

    total: torch.Tensor  # to be minimised
    terms: dict[str, torch.Tensor]  # what is shown of it, scalars by name
    made: torch.Tensor | None = None  # its output


class Trainable(Protocol):
    """A module whose forward(batch) gives Losses, and which names the networks that a training saves."""

    networks: dict[str, nn.Module]


@dataclass
class ParameterGroup:
    """Parameters that are trained alike; None = as the TrainingConfig says."""

    parameters: Sequence[nn.Parameter]
    lr: float | None = None
    betas: tuple[float, float] | None = None
    max_norm: float | None = None
    steady: bool = False  # always at lr
    averaged: bool = True


class Trainer:
    """A model under training.

    state: TrainingState.   average: diffusers' EMAModel, or None.   made: the model's last output.
    """

    def __init__(
        self,
        model: Any,
        config: TrainingConfig,
        *,
        accelerator: Accelerator | None = None,
        groups: Sequence[ParameterGroup] | None = None,
        saved: dict[str, Any] | None = None,
        source: str | Path = "the saved training",
    ) -> None:
        """model: Trainable.   accelerator: of accelerator_of; None = a new one.

        groups: what is trained, if not all parameters that require gradients, alike.
        saved: what state_dict() gave, or parts of it, to go on from.   source: where from, for messages.
        """
        self.accelerator = accelerator or accelerator_of(config.device, config.gradient_accumulation)
        self.device = device_of(self.accelerator, config.device)
        self.model, self.config, self.state = model.to(self.device), config, TrainingState(stage=config.stage)
        saved = saved or {}
        self._load_networks(saved, source)
        groups = groups or [ParameterGroup([p for p in model.parameters() if p.requires_grad])]
        self.parameters = [p for group in groups for p in group.parameters]
        self._averaged = [p for group in groups if group.averaged for p in group.parameters]
        self.average = self._new_average() if config.average else None
        optimizer = torch.optim.AdamW(  # without weight decay it is the published Adam
            [self._options(group) for group in groups],
            fused=self.parameters[0].is_cuda and config.dtype != "fp16",
        )
        # In one process both come back as they are; in many the gradients become means over all of them.
        self._wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        # Ours: accelerate computes fp16 on a CPU silently in float32, and knows one precision per Python process.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.dtype == "fp16")
        self._load_rest(saved)
        self.made: torch.Tensor | None = None
        self._recent: deque[torch.Tensor] = deque(maxlen=RECENT)
        self._kept: list[torch.Tensor] = []
        self.start_clock()

    def _new_average(self) -> EMAModel:
        from diffusers.training_utils import EMAModel  # a heavy import that most trainings do not need

        return EMAModel(self._averaged, decay=self.config.average, foreach=True)

    def _options(self, group: ParameterGroup) -> dict[str, Any]:
        config = self.config
        lr = config.lr if group.lr is None else group.lr
        return {
            "params": list(group.parameters),
            "lr": lr,
            "full_lr": lr,
            "betas": group.betas or config.betas,
            "weight_decay": config.weight_decay,
            "max_norm": config.max_norm if group.max_norm is None else group.max_norm,
            "steady": group.steady,
        }

    # ------------------------------------------------------------ one step
    def start_clock(self) -> None:
        """What state.elapsed counts begins now, after what it holds."""
        self._started = time.monotonic() - self.state.elapsed

    def step(self, pieces: Sequence[Any]) -> dict[str, float]:
        """One step of the optimiser for batches that together are this process's part of a whole one.

        Returns the loss terms as numbers, means over pieces and processes: each config.check_every steps, else {}.
        Raises ValueError where they are not finite and check_every is 1; else the last good weights are put back.
        """
        config, state = self.config, self.state
        looked_at = state.steps % config.check_every == 0
        if looked_at and config.check_every > 1:
            self._keep_or_put_back()
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * (1 if group["steady"] else config.rate(state))
        self.model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        terms: dict[str, torch.Tensor] = {}
        for piece in pieces:
            with self.accelerator.accumulate(self._wrapped):
                with torch.autocast(self.device.type, dtype_of(config.dtype), enabled=config.dtype != "fp32"):
                    losses = self._wrapped(piece)
                self.accelerator.backward(self.scaler.scale(losses.total))
            total = total + losses.total.detach() / len(pieces)
            for name, value in losses.terms.items():
                terms[name] = terms.get(name, torch.zeros_like(total)) + value.detach() / len(pieces)
        self.made = None if losses.made is None else losses.made.detach()
        numbers, elapsed = self._numbers(terms if looked_at else {})
        if config.check_every == 1:
            self._check(numbers)
        self._shorten_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.step(self._averaged)
        self._recent.append(total)
        state.step(config.batch_size, elapsed)
        return numbers

    def _numbers(self, terms: dict[str, torch.Tensor]) -> tuple[dict[str, float], float]:
        """Terms and seconds, means over all processes, which so have one clock."""
        elapsed = time.monotonic() - self._started
        values = torch.stack(list(terms.values())).tolist() if terms else []
        if self.accelerator.num_processes > 1:
            own = torch.tensor([*values, elapsed], dtype=torch.float64, device=self.device)
            *values, elapsed = self.accelerator.reduce(own, "mean").tolist()
        return dict(zip(terms, values)), elapsed

    def _check(self, numbers: dict[str, float]) -> None:
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            name, step = broken[0], self.state.steps
            raise ValueError(f"the loss {name} is {numbers[name]} at step {step}; {self.config.advice}")

    def _shorten_gradients(self) -> None:
        if not any(group["max_norm"] for group in self.optimizer.param_groups):
            return
        self.scaler.unscale_(self.optimizer)
        for group in self.optimizer.param_groups:
            if group["max_norm"]:
                torch.nn.utils.clip_grad_norm_(group["params"], group["max_norm"])

    # ------------------------------------------------------------ weights that went wrong
    @torch.no_grad()
    def keep(self) -> None:
        """Remember the weights as good."""
        self._kept = [tensor.detach().clone() for tensor in self._tensors()]

    @torch.no_grad()
    def put_back(self) -> bool:
        """Take the weights that were kept last, with half the rate and new moments; False if there are none."""
        for tensor, kept in zip(self._tensors(), self._kept):
            tensor.copy_(kept)
        if self._kept:
            self.state.rate_scale /= 2
            self.optimizer.state.clear()
        return bool(self._kept)

    def _tensors(self) -> list[torch.Tensor]:
        return [*self.parameters, *(self.average.shadow_params if self.average else ())]

    def _keep_or_put_back(self) -> None:
        """Keep the weights while the losses are finite, else take the last kept ones."""
        last = list(self._recent)[-self.config.check_every :]
        if not last or torch.stack(last).isfinite().all():
            self.keep()
        elif self.put_back():
            tqdm.write(
                f"the loss became {last[-1].item()} before step {self.state.steps}: back to the last good weights"
            )
            self._recent.clear()

    # ------------------------------------------------------------ what is known of it
    @property
    def loss(self) -> float:
        """Mean of the last RECENT losses; nan before the first."""
        return float(torch.stack(list(self._recent)).mean()) if self._recent else math.nan

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the networks hold the averaged weights, if there are any."""
        if self.average is None:
            yield
            return
        self.average.store(self._averaged)
        self.average.copy_to(self._averaged)
        try:
            yield
        finally:
            self.average.restore(self._averaged)

    def take_average(self) -> None:
        """The networks hold the averaged weights from now on."""
        if self.average is not None:
            self.average.copy_to(self._averaged)

    # ------------------------------------------------------------ to go on from
    def state_dict(self) -> dict[str, Any]:
        """All that a training needs to go on as if it had never stopped, in types that torch.load reads safely."""
        networks: dict[str, nn.Module] = self.model.networks
        return {
            "networks": {name: network.state_dict() for name, network in networks.items()},
            "frozen": [name for name, parameter in _named(networks) if not parameter.requires_grad],
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": self.scaler.state_dict(),
            "state": asdict(self.state),
            "rng": random_state(),
        }

    def _load_networks(self, saved: dict[str, Any], source: str | Path) -> None:
        networks: dict[str, nn.Module] = self.model.networks
        for name, weights in saved.get("networks", {}).items():
            load_weights(networks[name], weights, source)
        if "frozen" in saved:
            for name, parameter in _named(networks):
                parameter.requires_grad_(name not in saved["frozen"])

    def _load_rest(self, saved: dict[str, Any]) -> None:
        if "optimizer" in saved:
            self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None and saved.get("average"):
            self.average.load_state_dict(saved["average"])
            self.average.to(self.device)
        if self.scaler.is_enabled() and saved.get("scaler"):
            self.scaler.load_state_dict(saved["scaler"])
        self.state = TrainingState(**{**saved.get("state", {}), "stage": self.config.stage})
        if "rng" in saved:
            set_random_state(saved["rng"])


def _named(networks: dict[str, nn.Module]) -> Iterable[tuple[str, nn.Parameter]]:
    for name, network in networks.items():
        for key, parameter in network.named_parameters():
            yield f"{name}.{key}", parameter
