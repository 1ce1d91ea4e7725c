"""Networks that turn a clip into a feature vector. Nothing is ever downloaded here, and no untrained network is ever
used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import sha256

I3D_CALL = {
    "rescale": False,
    "resize": False,
    "return_features": True,
}  # of StyleGAN-V's i3d_torchscript.pt: 400 logits
TORCHVISION = ("r3d_18", "mc3_18", "r2plus1d_18")  # 112 px, last layer "fc"
GET_I3D = "run python -m data.fetch i3d, or give --i3d FILE, or --features torchvision:r3d_18"


class Backbone:
    """Clips to feature vectors.  name: for people; key: name and weights in short, for the cache."""

    def __init__(
        self,
        name: str,
        key: str,
        network: torch.nn.Module,
        call: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor],
        *,
        device: torch.device,
    ) -> None:
        self.name, self.key, self._network, self._call, self._device = name, key, network, call, device

    @torch.no_grad()
    def features(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """clips: list of uint8 [T,224,224,3].  Returns float32 [N,D]; the network sees x/127.5-1 as [N,3,T,224,224]."""
        batch = (
            torch.from_numpy(np.stack(clips))
            .to(self._device)
            .permute(0, 4, 1, 2, 3)
            .contiguous()
            .float()
            .div_(127.5)
            .sub_(1)
        )
        try:
            # No optimiser of TorchScript (its second call differs from its first) and no TF32: the same clip, the same
            # numbers.
            with torch.jit.optimized_execution(False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                found = self._call(self._network, batch)
        except (RuntimeError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise ValueError(
                    f"{self.name} needs more memory for {len(clips)} clips at once than there is; use a smaller --batch"
                ) from error
            raise ValueError(
                f"{self.name} cannot be called as a video network ({_last_line(error)}); expected one that takes "
                "[N,3,T,224,224] in [-1,1] and returns [N,D]"
            ) from error
        if not torch.is_tensor(found) or found.dim() != 2 or len(found) != len(clips):
            shape = tuple(found.shape) if torch.is_tensor(found) else type(found).__name__
            raise ValueError(
                f"{self.name} returns {shape} for {len(clips)} clips; expected one vector per clip, [{len(clips)},D]"
            )
        if not found.isfinite().all():
            raise ValueError(f"{self.name} returns values that are not finite; check the file and --device")
        return found.float().cpu().numpy()


def load_backbone(features: str, i3d: str | Path, weights: str | Path, device: torch.device) -> Backbone:
    """The Backbone of --features: "i3d" (the file `i3d`), "torchvision:<name>" (`weights`, or torchvision's own cache),
    or a path.
    """
    if features == "i3d":
        if not Path(i3d).is_file():
            raise FileNotFoundError(f"no I3D network at {i3d}; {GET_I3D}")
        network = _torchscript(i3d, device)
        if not _takes(network, I3D_CALL):
            raise ValueError(
                f"{i3d} does not take {', '.join(I3D_CALL)}, as I3D does; run python -m data.fetch i3d, or use it "
                "as it is: --features FILE"
            )
        return Backbone("i3d", f"i3d-{sha256(i3d)[:16]}", network, _call_i3d, device=device)
    if features.startswith("torchvision:"):
        return _torchvision(features.partition(":")[2], weights, device)
    if not Path(features).is_file():
        raise FileNotFoundError(
            f"--features {features} is neither i3d, torchvision:{'|'.join(TORCHVISION)} nor a TorchScript file"
        )
    network = _torchscript(features, device)
    call = _call_i3d if _takes(network, I3D_CALL) else lambda network, batch: network(batch)
    return Backbone(Path(features).name, f"{Path(features).stem}-{sha256(features)[:16]}", network, call, device=device)


def _call_i3d(network, batch):
    return network(batch, **I3D_CALL)


def _torchscript(path, device):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # torch.jit is deprecated, but the published file is what it is
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is no TorchScript file ({_last_line(error)}); {GET_I3D}") from error


def _takes(network, names):
    known = {argument.name for argument in network.forward.schema.arguments}
    return known >= set(names)


def _torchvision(name, weights, device):
    if name not in TORCHVISION:
        raise ValueError(
            f"--features torchvision:{name} is unknown; use"
            f" {', '.join(f'torchvision:{known}' for known in TORCHVISION)}"
        )
    from torchvision.models import get_model, get_model_weights  # slow to import, needed for these backbones only

    trained = get_model_weights(name).DEFAULT
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / trained.url.rsplit("/", 1)[1]
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights of torchvision's {name} at {path}; fetch {trained.url} and give --weights its path"
        )
    network = get_model(name, weights=None)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a wrong file makes the unpickler and load_state_dict raise nearly anything
        raise ValueError(
            f"{path} holds no weights of torchvision's {name} ({_last_line(error)}); fetch {trained.url}"
        ) from error
    network.fc = torch.nn.Identity()
    mean, deviation = (
        torch.tensor(values, device=device)[:, None, None, None]
        for values in (trained.transforms().mean, trained.transforms().std)
    )

    def call(network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool3d(batch, (1, 2, 2))  # 112 px, as it was trained
        return network(((small + 1) / 2 - mean) / deviation)

    return Backbone(
        f"torchvision:{name}", f"{name}-{sha256(path)[:16]}", network.eval().to(device), call, device=device
    )


def _last_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
