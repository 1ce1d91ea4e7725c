"""One training that can stop and go on, with a running average of the weights; and the schedules of its rate."""

import json
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from text2cinemagraph.data.files import atomic
from tqdm import tqdm


@dataclass(frozen=True)
class Plan:
    """How long and with what a network is trained.

    minutes: time in all, resumed runs counted in.   samples: stop after so many pictures, too; 0 = no such limit.
    batch, rate, average: 0 = the trainer's own.   average: highest decay of the running average of the weights; its
    window is a ninth of the steps made until then, so a long run wants it nearer to 1.
    seed: of weights and draws.   resume: go on from the checkpoint.   device: where the networks and their data are.
    """

    minutes: float = 10
    samples: int = 0
    batch: int = 0
    rate: float = 0.0
    average: float = 0.0
    seed: int = 0
    resume: bool = False
    device: torch.device = torch.device("cpu")


def half_precision(device):
    """Context: products in bfloat16, weights and sums in float32.  A fifth faster on CPUs that have it, ten times on a
    GPU.
    """
    return torch.autocast(torch.device(device).type, torch.bfloat16)


class Training:
    """An optimisation that can stop and go on: modules by name, AdamW, a running average of the weights, the time used.

    path: checkpoint file.   average: highest decay of the running average; 0 keeps none.   The modules may be on any
    device; there the average is kept too. Off the CPU, a look at the loss would make every step wait for the device:
    there it is looked at every CHECK_EVERY steps, and a loss that is not finite puts the last good weights back.
    """

    CHECK_EVERY = 100

    def __init__(self, modules, path, rate, betas, weight_decay, average=0.0):
        self.modules, self.path, self.rate, self.decay = modules, Path(path), rate, average
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self.asynchronous = self.parameters[0].device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.parameters, rate, betas=betas, weight_decay=weight_decay, fused=self.asynchronous
        )
        self.average = [p.detach().clone() for p in self.parameters] if average else []
        self.steps, self.samples, self.seconds, self.losses = 0, 0, 0.0, []
        self._good = []  # weights and average at the last check, off the CPU

    def resume(self):
        """Go on from the checkpoint file, if there is one; returns whether."""
        if not self.path.is_file():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = [tensor.float().to(p.device) for tensor, p in zip(state["average"], self.parameters)]
        self.steps, self.samples, self.seconds = state["steps"], state["samples"], state["seconds"]
        return True

    def save(self):
        """Write the checkpoint file."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "samples": self.samples,
            "seconds": self.seconds,
        }
        with atomic(self.path) as path:
            torch.save(state, path)

    def run(
        self,
        loss_of_batch,
        batch_size,
        minutes,
        schedule,
        warmup,
        watch=None,
        *,
        samples=0,
        save_seconds=240,
        save=None,
    ):
        """Step until `minutes` are used in all, or `samples` pictures seen (0 = no limit).

        loss_of_batch(batch_size): a loss.   schedule: share of the run done -> share of the rate; warmup: steps of
        rising rate.   watch(self): after each step.   save(): every save_seconds, instead of self.save.
        """
        save = save or self.save
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        progress = tqdm(
            total=round(minutes * 60), initial=round(min(self.seconds, minutes * 60)), unit="s", desc=self.path.stem
        )
        while (share := self._share(minutes, samples)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * min(1, (self.steps + 1) / warmup) * schedule(share)
            self._step(loss_of_batch(batch_size), batch_size)
            if watch:
                watch(self)
            self.seconds = time.monotonic() - started
            progress.update(round(min(self.seconds, minutes * 60)) - progress.n)
            if not self.asynchronous or self.steps % self.CHECK_EVERY == 0:
                progress.set_postfix(steps=self.steps, loss=f"{self.loss:.4f}", refresh=False)
            if time.monotonic() - saved > save_seconds:
                save()
                saved = time.monotonic()
        progress.close()
        save()

    def _share(self, minutes, samples):
        """How much of the run is done, 0..1."""
        used = self.seconds / (minutes * 60) if minutes > 0 else 1.0
        return max(used, self.samples / samples if samples else 0.0)

    @property
    def loss(self):
        """Mean of the last 200 losses (nan before the first)."""
        return float(torch.stack(self.losses).mean()) if self.losses else math.nan

    def _step(self, loss, batch_size):
        if not self.asynchronous:
            if not loss.isfinite():
                raise ValueError(
                    f"the loss became {loss.item()} at step {self.steps}; start again with --resume, or with another "
                    "--seed"
                )
        elif self.steps % self.CHECK_EVERY == 0:
            self._keep_or_put_back()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps, self.samples = self.steps + 1, self.samples + batch_size
        self.losses = [*self.losses[-199:], loss.detach()]
        if self.average:  # the first steps count little: decay grows to its value
            with torch.no_grad():
                torch._foreach_lerp_(
                    self.average, self.parameters, 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
                )

    @torch.no_grad()
    def _keep_or_put_back(self):
        """Off the CPU: keep the weights while the losses are finite, else take the last kept ones and half the rate."""
        tensors = [*self.parameters, *self.average]
        if not self.losses or torch.stack(self.losses[-self.CHECK_EVERY :]).isfinite().all():
            self._good = [p.detach().clone() for p in tensors]
            return
        tqdm.write(f"the loss became {self.losses[-1].item()} before step {self.steps}: back to the last good weights")
        for tensor, kept in zip(tensors, self._good):
            tensor.copy_(kept)
        self.rate, self.losses = self.rate / 2, []
        self.optimizer.state.clear()

    @contextmanager
    def averaged(self):
        """Inside, the modules hold the averaged weights (if there are any)."""
        own = [p.detach().clone() for p in self.parameters]
        self.put(self.average or own)
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, tensors):
        for parameter, tensor in zip(self.parameters, tensors):
            parameter.copy_(tensor)

    def notes(self, **more):
        """For the card."""
        return {"steps": self.steps, "samples": self.samples, "minutes": round(self.seconds / 60, 1), **more}


def cosine(share):
    """From 1 to 0.02 along half a cosine."""
    return 0.02 + 0.49 * (1 + math.cos(math.pi * share))


def late_decay(share):
    """1, falling linearly to 0.02 over the second half."""
    return 1.0 if share < 0.5 else max(0.02, (1 - share) / 0.5)


def write_json(path, content):
    """Readable JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path):
    """The content of a JSON file, {} where there is none."""
    return json.loads(Path(path).read_text()) if Path(path).is_file() else {}
