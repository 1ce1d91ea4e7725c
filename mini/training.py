"""One training that can stop and go on, with a running average of the weights; and the schedules of its rate."""

import json
import math
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from text2cinemagraph.data.files import atomic
from tqdm import tqdm


class Training:
    """An optimisation that can stop and go on: modules by name, AdamW, a running average of the weights, the time used.

    path: checkpoint file.   average: decay of the running average; 0 keeps none.
    """

    def __init__(self, modules, path, rate, betas, weight_decay, average=0.0):
        self.modules, self.path, self.rate, self.decay = modules, Path(path), rate, average
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, rate, betas=betas, weight_decay=weight_decay)
        self.average = [p.detach().clone() for p in self.parameters] if average else []
        self.steps, self.samples, self.seconds, self.losses = 0, 0, 0.0, []

    def resume(self):
        """Go on from the checkpoint file, if there is one; returns whether."""
        if not self.path.is_file():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = [tensor.float() for tensor in state["average"]]
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

    def run(self, loss_of_batch, batch_size, minutes, schedule, warmup, watch=None, save_seconds=240):
        """Step until `minutes` are used in all.  schedule: share of the time used -> share of the rate.  watch(self):
        after each step.
        """
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        progress = tqdm(
            total=round(minutes * 60), initial=round(min(self.seconds, minutes * 60)), unit="s", desc=self.path.stem
        )
        while self.seconds < minutes * 60:
            share = self.seconds / (minutes * 60)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * min(1, (self.steps + 1) / warmup) * schedule(share)
            self._step(loss_of_batch(batch_size), batch_size)
            if watch:
                watch(self)
            self.seconds = time.monotonic() - started
            progress.update(round(min(self.seconds, minutes * 60)) - progress.n)
            progress.set_postfix(steps=self.steps, loss=f"{np.mean(self.losses):.4f}", refresh=False)
            if time.monotonic() - saved > save_seconds:
                self.save()
                saved = time.monotonic()
        progress.close()
        self.save()

    def _step(self, loss, batch_size):
        if not loss.isfinite():
            raise ValueError(
                f"the loss became {loss.item()} at step {self.steps}; start again with --resume, or with another --seed"
            )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps, self.samples, self.losses = (
            self.steps + 1,
            self.samples + batch_size,
            [*self.losses[-199:], loss.item()],
        )
        if self.average:  # the first steps count little: decay grows to its value
            with torch.no_grad():
                torch._foreach_lerp_(
                    self.average, self.parameters, 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
                )

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
