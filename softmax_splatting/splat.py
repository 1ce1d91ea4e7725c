"""The door of the room: checks, normalisation, choice of backend."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from text2cinemagraph.softmax_splatting import reference

MODES = ("summation", "average", "linear", "softmax")


def splat(
    input: torch.Tensor, flow: torch.Tensor, metric: torch.Tensor | None = None, mode: str = "summation"
) -> torch.Tensor:
    """Throw each pixel of input to position + flow and add what lands on each pixel with bilinear weights.

    input: [N,C,H,W].   flow: [N,2,H,W], px, (dx right, dy down); what falls outside the image is dropped.
    metric: [N,1,H,W], importance Z, for linear (weight Z) and softmax (weight exp Z) only.
    mode: summation = plain sum; average | linear | softmax = weighted mean, 0 where nothing lands.
    Returns [N,C,H,W]. Differentiable in all tensors; float32 and float64.
    Source: Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, CVPR 2020.
    """
    _check(input, flow, metric, mode)
    if mode == "summation":
        return _sum(input, flow)
    if metric is None:  # average
        weight = torch.ones_like(input[:, :1])
    elif mode == "linear":
        weight = metric
    else:
        weight = (metric - _level(metric.detach())).exp()
    total = _sum(torch.cat([input * weight, weight], 1), flow)
    norm = total[:, -1:]
    return total[:, :-1] / torch.where(norm == 0, 1, norm)


def splat_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float = 1e-8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the same features splatted along several displacement fields: inference only, the heart of a frame.

    features: [C,H,W].   displacements: list of [2,H,W] in px.   weights: list of [H,W], >= 0.
    Returns the weighted mean [C,H,W], 0 in holes, and the sum of weights [1,H,W].
    """
    if features.device.type == "cpu" and features.dtype == torch.float32:
        from text2cinemagraph.softmax_splatting import cpu  # compiled on first use

        return cpu.splat_blend(features, displacements, weights, eps)
    if _has_kernels(features):
        from text2cinemagraph.softmax_splatting import kernels

        return kernels.splat_blend(features, displacements, weights, eps)
    if features.is_cuda:
        from text2cinemagraph.softmax_splatting import gather

        return gather.splat_blend(features, displacements, weights, eps)
    total: Any = 0
    for displacement, weight in zip(displacements, weights):
        weighted = torch.cat([features * weight, weight[None]])
        total = total + _sum(weighted[None], displacement[None])[0]
    return total[:-1] / total[-1:].clamp(min=eps), total[-1:]


def _level(metric: torch.Tensor) -> torch.Tensor:
    """A constant per image, which cancels in the mean: the middle of its metrics, so that exp reaches far both ways."""
    low, high = metric.amin((1, 2, 3), keepdim=True), metric.amax((1, 2, 3), keepdim=True)
    return torch.maximum((low + high) / 2, high - 60)  # e^60 leaves room for the features and their sum


def _sum(input: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Summation by the fastest backend that can do it."""
    needs_grad = torch.is_grad_enabled() and (input.requires_grad or flow.requires_grad)
    if input.device.type == "cpu" and input.dtype == torch.float32 and not needs_grad:
        from text2cinemagraph.softmax_splatting import cpu

        return cpu.splat_sum(input, flow)
    if _has_kernels(input):
        from text2cinemagraph.softmax_splatting import kernels

        return kernels.splat_sum(input, flow)
    if input.is_cuda and not needs_grad and input.dtype != torch.float64:
        from text2cinemagraph.softmax_splatting import gather

        return gather.splat_sum(input, flow)
    return reference.splat_sum(input, flow)


def _has_kernels(tensor: torch.Tensor) -> bool:
    """Do our CUDA kernels take this tensor? They need cupy, and leave double precision to the reference."""
    return tensor.is_cuda and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16) and _has_cupy()


@functools.cache
def _has_cupy() -> bool:
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()  # a cupy for another CUDA than the driver's imports, and fails here
    except Exception as error:  # noqa: BLE001  whatever is wrong with it, there is another way
        warnings.warn(
            f"the CUDA kernels need cupy ({error}); going on without, slower: requirements-gpu.txt", stacklevel=2
        )
        return False
    return True


def _check(input: torch.Tensor, flow: torch.Tensor, metric: torch.Tensor | None, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"splat mode '{mode}' is unknown; use {', '.join(MODES)}")
    n, _, height, width = input.shape
    if flow.shape != (n, 2, height, width):
        raise ValueError(
            f"flow of shape {tuple(flow.shape)} for an input of {tuple(input.shape)}; expected {(n, 2, height, width)}"
        )
    needs_metric = mode in ("linear", "softmax")
    if needs_metric and (metric is None or metric.shape != (n, 1, height, width)):
        found = None if metric is None else tuple(metric.shape)
        raise ValueError(f"splat mode '{mode}' needs a metric of shape {(n, 1, height, width)}; found {found}")
    if not needs_metric and metric is not None:
        raise ValueError(f"splat mode '{mode}' uses no metric; leave it out or use linear or softmax")
