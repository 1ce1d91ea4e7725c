"""What a training leaves on disk: weights and their card for use, and one file with all that is needed to go on.

The state is one file because one file can be replaced whole: accelerate's save_state writes a folder of five, which a
kill in mid-save leaves torn, and its load_state goes on in silence where random states cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from text2cinemagraph.data.checkpoint import load_weights, read_checkpoint, save_checkpoint
from text2cinemagraph.data.files import atomic, remove_leftovers, sha256
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.state import TrainingState
from text2cinemagraph.models.training.trainer import Trainer
from text2cinemagraph.options.runtime import say
from torch import nn

STATE = "train_state.pt"
PARTS = ("networks", "frozen", "optimizer", "average", "scaler", "state", "rng")  # of it
LETTERS = {"generator": "G", "discriminator": "D"}  # of the files, as published


def write_state(path: str | Path, trainer: Trainer) -> None:
    """All that the training needs to go on, whole or not at all."""
    with atomic(path) as temporary:
        torch.save(trainer.state_dict(), temporary)


def read_state(path: str | Path, advice: str = "remove it to go on from latest_net_G alone") -> dict[str, Any]:
    """What write_state wrote; ValueError for anything else, with what to do then."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())[:60]}); {advice}") from error
    lacking = [name for name in PARTS if not isinstance(state, dict) or name not in state]
    if lacking:
        raise ValueError(f"{path} is no state of a training (it lacks {', '.join(lacking[:3])}); {advice}")
    return state


class TrainingFolder:
    """The files of one training, <checkpoints_dir>/<name>; the first process writes them, the others wait."""

    def __init__(self, folder: str | Path, card: dict[str, Any]) -> None:
        """card: what the generator's card should say; images, steps and minutes are added."""
        self.folder, self.card = Path(folder), card

    def save(self, trainer: Trainer, epoch: str | None = None) -> None:
        """Write `latest`, `epoch` too if given, and the state."""
        if trainer.accelerator.is_main_process:
            try:
                for which in ("latest", epoch) if epoch else ("latest",):
                    self._export(trainer, which)
                with atomic(self.folder / "iter.txt") as text:
                    write_state(self.folder / STATE, trainer)
                    Path(text).write_text(f"{trainer.state.epoch}\n{trainer.state.epoch_images}\n")
            except (OSError, RuntimeError, SafetensorError) as error:
                reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
                raise OSError(f"cannot save into {self.folder}: {reason}; {self._last_good()}") from error
        trainer.accelerator.wait_for_everyone()

    def mend(self, trainer: Trainer) -> None:
        """Remove what a kill left, and write the weights again if it fell between them and their card."""
        if trainer.accelerator.is_main_process:
            remove_leftovers(self.folder)
            if (self.folder / STATE).is_file() and trainer.config.resume and not self._export_is_whole():
                self._export(trainer, "latest")
        trainer.accelerator.wait_for_everyone()

    def _last_good(self) -> str:
        if not (self.folder / STATE).is_file():
            return "nothing was saved before; make room and start again"
        return (
            f"the save before this one is whole (epoch, images: {' '.join(self._iter())}); "
            "make room and go on with --continue_train"
        )

    def _export(self, trainer: Trainer, which: str) -> None:
        state, networks = trainer.state, trainer.model.networks
        trained = {"steps": state.steps, "images": state.images, "minutes": round(state.elapsed / 60, 1)}
        for name, network in networks.items():
            path = self.folder / f"{which}_net_{LETTERS[name]}.safetensors"
            if name == "generator":
                card = {**self.card, "trained": trained}
                save_checkpoint(path, network.state_dict(), card, trainer.config.half)
            else:
                save_checkpoint(path, network.state_dict(), {"trained": trained})

    def _export_is_whole(self) -> bool:
        try:
            card = read_checkpoint(self.folder)[1] or {}
            return sha256(self.folder / "latest_net_G.safetensors") == card.get("sha256")
        except (ValueError, OSError):
            return False

    def _iter(self) -> list[str]:
        path = self.folder / "iter.txt"
        return path.read_text().split() if path.is_file() else []

    # ------------------------------------------------------------ to go on
    def saved(self, model: Any, config: TrainingConfig) -> dict[str, Any]:
        """What a Trainer of the model goes on from.

        Without a state, or for another epoch than latest: its networks are loaded here, and the optimiser begins anew,
        as in the original.
        """
        path = self.folder / STATE
        if config.which_epoch != "latest" or not path.is_file() and list(self.folder.glob("latest_net_G.*")):
            return {"state": vars(self._from_networks(model, config))}
        if not path.is_file():
            raise FileNotFoundError(f"nothing to continue at {path}; leave out --continue_train, or check --name")
        saved = read_state(path)
        if ("discriminator" in saved["networks"]) != ("discriminator" in model.networks):
            word = "with" if "discriminator" in saved["networks"] else "without"
            raise ValueError(f"{path} was trained {word} a discriminator; set gan as it was")
        state = TrainingState(**saved["state"])
        state.batch = state.epoch_images // config.batch_size
        if config.restart_stage and state.stage != config.stage:
            state.decay_from = state.epoch
            del saved["optimizer"]
            say(f"{config.stage} begins in epoch {state.epoch} with a new optimiser and the full rate, as published")
        return {**saved, "state": vars(state)}

    def _from_networks(self, model: Any, config: TrainingConfig) -> TrainingState:
        which = config.which_epoch
        load_networks(model.networks, self.folder, which)
        inside, epoch = 0, int(which) + 1 if which.isdigit() else 1
        if which == "latest" and self._iter():
            epoch, inside = (int(float(word)) for word in self._iter()[:2])
        say(f"going on in epoch {epoch} with the networks of {self.folder}/{which}_net_*; the optimiser begins anew")
        batch = inside // config.batch_size
        return TrainingState(
            epoch=epoch,
            batch=batch,
            epoch_images=batch * config.batch_size,
            decay_from=epoch if config.restart_stage else 1,
        )


def load_networks(
    networks: dict[str, nn.Module], folder: str | Path, which: str = "latest", tell: Callable[[str], None] = say
) -> None:
    """Load <which>_net_G and, where there is a discriminator, <which>_net_D of a folder; ours or the authors' .pth."""
    load_weights(networks["generator"], read_checkpoint(folder, which)[0], f"{folder}/{which}_net_G")
    if "discriminator" not in networks:
        return
    names = [Path(folder) / f"{which}_net_D{suffix}" for suffix in (".safetensors", ".pth")]
    path = next((name for name in names if name.is_file()), None)
    if path:
        load_weights(networks["discriminator"], read_checkpoint(path)[0], path)
    else:
        tell(f"no {which}_net_D in {folder}: the discriminator begins anew")
