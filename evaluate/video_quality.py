"""How near a made clip is to the true one, frame by frame: PSNR, SSIM and, where its weights are at hand, LPIPS."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

LEVELS = 255
CEILING = 100.0  # dB of two equal pictures, so that means stay finite
# torchvision's, below torch.hub.get_dir()/checkpoints; LPIPS' own part comes with torchmetrics
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"


class QualityMeter:
    """Compares two clips that arrive frame by frame."""

    def __init__(
        self, mask: torch.Tensor | np.ndarray | None = None, every: int = 4, device: torch.device | str = "cpu"
    ) -> None:
        """mask: bool [1,H,W] or [H,W], where to look as well; None = only the whole picture.

        every: SSIM and LPIPS look at every which frame (they are 20 times slower than PSNR, and neighbouring frames say
        the same).
        """
        self._mask = None if mask is None else np.asarray(mask, dtype=bool).reshape(np.shape(mask)[-2:])
        self._every, self._count, self._rows = every, 0, {}
        self._lpips = lpips_network(str(device)) if lpips_missing() is None else None

    def add(self, frame: np.ndarray, truth: np.ndarray) -> None:
        """frame, truth: uint8 [H,W,3] of one size."""
        if frame.shape != truth.shape:
            raise ValueError(
                f"the clip is {frame.shape[1]}x{frame.shape[0]}, the true one {truth.shape[1]}x{truth.shape[0]}; "
                "bring them to one size"
            )
        error = np.square(frame.astype(np.float32) - truth).mean(-1)
        self._keep("psnr", error, lambda values: psnr(float(values.mean(dtype=np.float64))))
        if self._count % self._every == 0:
            self._keep("ssim", ssim_map(frame, truth), lambda values: float(values.mean()))
            if self._lpips:
                self._rows.setdefault("lpips", []).append(self._lpips(frame, truth))
                if self._mask is not None and self._mask.any():
                    pasted = np.where(self._mask[..., None], frame, truth)  # outside the mask nothing can differ
                    self._rows.setdefault("lpips_masked", []).append(self._lpips(pasted, truth))
        self._count += 1

    def result(self) -> dict[str, float]:
        """{psnr (dB), ssim, lpips and the same "..._masked"}: means over the frames; what was not measured is
        left out.
        """
        return {name: float(np.mean(values)) for name, values in self._rows.items()}

    def _keep(self, name, values, mean):
        self._rows.setdefault(name, []).append(mean(values))
        if self._mask is not None and self._mask.any():
            self._rows.setdefault(f"{name}_masked", []).append(mean(values[self._mask]))


def psnr(mean_square: float) -> float:
    """dB, of levels 0..255; at most 100."""
    return CEILING if mean_square == 0 else min(CEILING, float(10 * np.log10(LEVELS**2 / mean_square)))


def ssim_map(frame: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity per pixel, [H,W], mean over the colours; Gaussian window of 1.5 px as in Wang et al., TIP
    2004.
    """
    if min(frame.shape[:2]) < 11:
        return np.full(frame.shape[:2], float((frame == truth).all()))  # smaller than the window
    _, similarity = structural_similarity(
        frame,
        truth,
        channel_axis=2,
        data_range=LEVELS,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return similarity.mean(-1)


def lpips_missing() -> str | None:
    """Why LPIPS cannot be measured here, in words; None if it can. Nothing is downloaded."""
    if importlib.util.find_spec("torchmetrics") is None:
        return "LPIPS is not measured: torchmetrics is not installed (pip install torchmetrics)"
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS
    if not path.is_file():
        return f"LPIPS is not measured: fetch https://download.pytorch.org/models/{LPIPS_WEIGHTS} to {path}"
    return None


@functools.lru_cache(maxsize=1)
def lpips_network(device: torch.device | str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of two frames, uint8 [H,W,3] -> LPIPS (AlexNet), 0 = equal."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # slow to import, seldom used

    network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device).eval()

    @torch.no_grad()
    def distance(frame: np.ndarray, truth: np.ndarray) -> float:
        both = (
            torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].to(device) / 255 for x in (frame, truth)
        )
        network.reset()
        return float(network(*both))

    return distance
