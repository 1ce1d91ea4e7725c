"""The mean motion of a clip, estimated by OpenCV's Farneback or torchvision's RAFT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.options.runtime import make_runtime

METHODS = ("farneback", "raft")
RAFT_FILE = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"  # torchvision's Raft_Large_Weights.C_T_SKHT_V2


def mean_flow(frames: Sequence[np.ndarray], method: str = "farneback", raft_weights: str | Path = "") -> torch.Tensor:
    """Mean flow between neighbouring frames: [2,H,W] px/frame. frames: list of uint8 [H,W,3] of one size.   method: of
    METHODS.
    """
    pairs = _raft_pairs(frames, raft_weights) if method == "raft" else _farneback_pairs(frames)
    total, count = 0, 0
    for flow in pairs:
        total, count = total + flow, count + 1
    return torch.as_tensor(total / count)


def _farneback_pairs(frames):
    """float32 [2,H,W] px/frame per pair; OpenCV's polynomial expansion, with windows wide enough for the weak texture
    of water.
    """
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    for first, second in zip(gray, gray[1:]):
        flow = cv2.calcOpticalFlowFarneback(
            first, second, None, pyr_scale=0.5, levels=4, winsize=21, iterations=3, poly_n=7, poly_sigma=1.5, flags=0
        )
        yield flow.transpose(2, 0, 1)


def _raft_pairs(frames, weights, batch=4):
    """[2,H,W] px/frame per pair from torchvision's RAFT. It wants [-1,1], sides that 8 divides, and 128 px or more."""
    net, device = load_raft(weights)
    height, width = frames[0].shape[:2]
    padding = (0, max(128, -(-width // 8) * 8) - width, 0, max(128, -(-height // 8) * 8) - height)
    for start in range(0, len(frames) - 1, batch):
        window = (
            torch.from_numpy(np.stack(frames[start : start + batch + 1])).to(device).permute(0, 3, 1, 2) / 127.5 - 1
        )
        window = F.pad(window, padding, mode="replicate")
        with torch.inference_mode():
            flow = net(window[:-1], window[1:])[-1]  # the last of its refinements
        yield from flow[..., :height, :width].float().cpu()


@lru_cache(1)
def load_raft(weights: str | Path) -> tuple[torch.nn.Module, torch.device]:
    """(net, device) from a file of torchvision's weights, RAFT large or small; kept for the process's next clips."""
    from torchvision.models.optical_flow import raft_large, raft_small

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        small = state["feature_encoder.convnormrelu.0.weight"].shape[0] == 32  # 64 in RAFT large
        net = (raft_small if small else raft_large)(weights=None, progress=False)
        net.load_state_dict(state)
    except Exception as error:  # a damaged zip or pickle raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{weights} holds no weights of torchvision's RAFT large or small ({reason}); fetch them again"
        ) from error
    device = make_runtime("auto", "fp32").device
    return net.to(device).eval(), device


def raft_file(asked: str | Path) -> Path:
    """Path of the weights: the file asked for, else torchvision's cache. Nothing is fetched here: FileNotFoundError
    says from where.
    """
    path = Path(asked or Path(torch.hub.get_dir()) / "checkpoints" / RAFT_FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"no RAFT weights at {path}; fetch https://download.pytorch.org/models/{RAFT_FILE} there or give "
            "--raft_weights FILE; --flow_method farneback needs none"
        )
    return str(path.resolve())
