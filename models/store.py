"""Store: what a training leaves on disk, for use (weights and their card) and to go on after a break (train_state.pt)."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from text2cinemagraph.data.checkpoint import load_weights, read_checkpoint, save_checkpoint
from text2cinemagraph.data.files import atomic, remove_leftovers, sha256

STATE = "train_state.pt"
PARTS = ("generator", "optimizers", "discriminator", "scaler", "progress", "since", "stage", "rng", "frozen")  # of it


@dataclass
class Progress:
    """Where a training stands: batches and images of this epoch, images and steps over all, seconds."""

    epoch: int = 1
    batch: int = 0
    images: int = 0
    steps: int = 0
    elapsed: float = 0.0
    inside: int = 0


class Store:
    """Saves and restores a training: exports for use, and train_state.pt with everything needed to go on."""

    def __init__(self, folder, model, card, half, plan, beta1, engine, manner):
        self.folder, self.model, self.card, self.half = folder, model, card, half
        self.plan, self.engine, self.manner = plan, engine, manner
        self.beta1, self.optimizers = beta1, []
        self._new_optimizers()
        if engine.crew.first:
            remove_leftovers(folder)

    def _new_optimizers(self):
        networks = (module for module in (self.model.generator, self.model.discriminator) if module is not None)
        self.optimizers = [adam(module, self.plan.lr, self.beta1) for module in networks]

    def save(self, progress, epoch=None):
        """Write `latest`, `epoch` too if given, and the state; the first process does, the others wait."""
        if self.engine.crew.first:
            try:
                for which in ("latest", epoch) if epoch else ("latest",):
                    self._export(which, progress)
                self._write_state(progress)
            except (OSError, RuntimeError, SafetensorError) as error:
                reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
                raise OSError(f"cannot save into {self.folder}: {reason}; {self._last_good()}") from error
        self.engine.crew.wait()

    def _last_good(self):
        if not (self.folder / STATE).is_file():
            return "nothing was saved before; make room and start again"
        return (
            f"the save before this one is whole (epoch, images: {' '.join(_lines(self.folder / 'iter.txt'))}); "
            "make room and go on with --continue_train"
        )

    def _export(self, which, progress):
        trained = {"steps": progress.steps, "images": progress.images, "minutes": round(progress.elapsed / 60, 1)}
        save_checkpoint(
            self.folder / f"{which}_net_G.safetensors",
            self.model.generator.state_dict(),
            {**self.card, "trained": trained},
            self.half,
        )
        if self.model.discriminator is not None:
            save_checkpoint(
                self.folder / f"{which}_net_D.safetensors", self.model.discriminator.state_dict(), {"trained": trained}
            )

    def _write_state(self, progress):
        discriminator = self.model.discriminator
        state = {
            "generator": self.model.generator.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "discriminator": discriminator.state_dict() if discriminator is not None else None,
            "scaler": self.engine.scaler.state_dict(),
            "progress": vars(progress),
            "since": self.plan.since,
            "stage": self.manner.stage,
            "rng": random_state(),
            "frozen": [name for name, p in self.model.generator.named_parameters() if not p.requires_grad],
        }
        with atomic(self.folder / STATE) as temporary, atomic(self.folder / "iter.txt") as text:
            torch.save(state, temporary)
            Path(text).write_text(f"{progress.epoch}\n{progress.inside}\n")

    def restore(self, which, batch_size):
        """Load what save wrote; its Progress. Without a state, or for another epoch than latest: the networks alone, as the original."""
        path = self.folder / STATE
        if which != "latest" or not path.is_file() and list(self.folder.glob("latest_net_G.*")):
            return self._restore_networks(which, batch_size)
        if not path.is_file():
            raise FileNotFoundError(f"nothing to continue at {path}; leave out --continue_train, or check --name")
        state = _read_state(path, self.engine.crew.device)
        if (state["discriminator"] is None) != (self.model.discriminator is None):
            raise ValueError(
                f"{path} was trained {'without' if state['discriminator'] is None else 'with'} a discriminator; "
                "set gan as it was"
            )
        load_weights(self.model.generator, state["generator"], path)
        if self.model.discriminator is not None:
            load_weights(self.model.discriminator, state["discriminator"], path)
        for name, parameter in self.model.generator.named_parameters():
            parameter.requires_grad_(name not in state["frozen"])
        self._new_optimizers()
        progress = Progress(**state["progress"])
        progress.batch = progress.inside // batch_size
        if self.manner.restart and state["stage"] != self.manner.stage:
            self.plan.since = progress.epoch
            self._say(
                f"{self.manner.stage} begins in epoch {progress.epoch} with new optimisers and the full rate, as published"
            )
        else:
            self.plan.since = state["since"]
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
        self.engine.scaler.load_state_dict(state["scaler"] if self.engine.scaler.is_enabled() else {})
        set_random_state(state["rng"])
        if self.engine.crew.first and not _export_is_whole(self.folder):
            self._export("latest", progress)  # killed between the weights and their card
        self.engine.crew.wait()
        return progress

    def _restore_networks(self, which, batch_size):
        load_networks(self.model, self.folder, which, self._say)
        inside, epoch = 0, int(which) + 1 if which.isdigit() else 1
        if which == "latest" and (self.folder / "iter.txt").is_file():
            epoch, inside = (int(float(word)) for word in _lines(self.folder / "iter.txt")[:2])
        if self.manner.restart:
            self.plan.since = epoch
        self._say(
            f"going on in epoch {epoch} with the networks of {self.folder}/{which}_net_*; the optimisers begin anew"
        )
        return Progress(epoch, inside // batch_size, inside=inside // batch_size * batch_size)

    def _say(self, text):
        if self.engine.crew.first:
            print(text, flush=True)


def load_networks(model, folder, which="latest", say=print):
    """Load <which>_net_G and, for a Pix2Pix with a discriminator, <which>_net_D of a folder; ours or the authors' .pth."""
    state_dict, _ = read_checkpoint(folder, which)
    load_weights(model.generator, state_dict, f"{folder}/{which}_net_G")
    if model.discriminator is None:
        return
    paths = [
        path
        for path in (Path(folder) / f"{which}_net_D{suffix}" for suffix in (".safetensors", ".pth"))
        if path.is_file()
    ]
    if paths:
        load_weights(model.discriminator, read_checkpoint(paths[0])[0], paths[0])
    else:
        say(f"no {which}_net_D in {folder}: the discriminator begins anew")


def _lines(path):
    return Path(path).read_text().split() if Path(path).is_file() else []


def _read_state(path, device):
    advice = "remove it to go on from latest_net_G alone"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())[:60]}); {advice}") from error
    lacking = [name for name in PARTS if not isinstance(state, dict) or name not in state]
    if lacking:
        raise ValueError(f"{path} is no state of a training (it lacks {', '.join(lacking[:3])}); {advice}")
    return state


def _export_is_whole(folder):
    try:
        return sha256(folder / "latest_net_G.safetensors") == (read_checkpoint(folder)[1] or {}).get("sha256")
    except (ValueError, OSError):
        return False


def random_state():
    """The state of every random generator, in types that torch.load reads without running code."""
    _, words, position, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [torch.from_numpy(words.astype(np.int64)), position, *rest],
        "gpus": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state):
    """Undo what was drawn since random_state()."""
    torch.set_rng_state(state["torch"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    words, *rest = state["numpy"]
    np.random.set_state(("MT19937", words.cpu().numpy().astype(np.uint32), *rest))
    if state["gpus"] and len(state["gpus"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["gpus"]])


def adam(module, lr, beta1):
    """The optimiser of a network's trained parameters, with the original's second beta."""
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr, betas=(beta1, 0.999))
