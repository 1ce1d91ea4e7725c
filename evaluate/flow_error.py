"""How far a predicted flow is from the true one: endpoint error and angle."""

from __future__ import annotations

import torch

MIN_SPEED = 0.01  # px/frame: slower pixels of the true flow have no direction worth comparing


def endpoint_error(flow: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> float | None:
    """Mean length of the difference vector, in px/frame; None if the mask is empty.

    flow, target: [2,H,W] px/frame.  mask: bool [1,H,W], or None for the whole picture.
    """
    _check(flow, target, mask)
    return _mean((flow - target).norm(dim=0), mask)


def angle_error(flow: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> float | None:
    """Mean angle between predicted and true direction in degrees, 0..180, where the truth moves (> 0.01 px/frame).

    flow, target: [2,H,W]; mask: bool [1,H,W] or None.  A pixel predicted at rest counts 90 degrees. None if nothing
    moves.
    """
    _check(flow, target, mask)
    cross = flow[0] * target[1] - flow[1] * target[0]
    angle = torch.rad2deg(torch.atan2(cross.abs(), (flow * target).sum(0)))
    angle[(flow == 0).all(0)] = 90.0
    moving = (target.norm(dim=0) > MIN_SPEED)[None]
    return _mean(angle, moving if mask is None else moving & mask)


def flow_error(flow: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, float | None]:
    """All numbers of one flow, {"epe", "epe_512", "angle"} and with a mask the same again as "..._masked".

    epe: px/frame at the picture's own size; epe_512: what it would be with a short side of 512 px; angle: degrees.
    """
    scale, result = 512 / min(target.shape[-2:]), {}
    for name, where in (("", None),) if mask is None else (("", None), ("_masked", mask)):
        error = endpoint_error(flow, target, where)
        result |= {
            f"epe{name}": error,
            f"epe_512{name}": None if error is None else error * scale,
            f"angle{name}": angle_error(flow, target, where),
        }
    return result


def _check(flow, target, mask):
    if flow.dim() != 3 or flow.shape != target.shape or (mask is not None and mask.shape != (1, *flow.shape[1:])):
        raise ValueError(
            f"expected two flows [2,H,W] and a mask [1,H,W] of one size, found {tuple(flow.shape)}, "
            f"{tuple(target.shape)}" + ("" if mask is None else f", {tuple(mask.shape)}")
        )


def _mean(values, mask):
    chosen = values if mask is None else values[mask[0]]
    return float(chosen.mean()) if chosen.numel() else None
