"""The splat on a GPU: what is in kernels.cu, launched through cupy, with gradients.

Inside, an image is rows [pixels, channels]: channels last, padded to a multiple of four.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.softmax_splatting import reference

BLOCK = 256  # threads per block
LANES = 16  # threads per pixel at most: 16 x 4 channels = the 64 of the video features
OPTIONS = ("--std=c++17",)

SOURCE = Path(__file__).with_name("kernels.cu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MODULES = ("lists", *(str(dtype).removeprefix("torch.") for dtype in DTYPES))


@functools.cache
def source_of(module: str) -> str:
    """The CUDA source of one of MODULES."""
    return f"#define T2C_{module.upper()}\n{SOURCE.read_text()}"


def splat_sum(input: torch.Tensor, flow: torch.Tensor, deterministic: bool | None = None) -> torch.Tensor:
    """Summation splat of CUDA tensors, same as reference.splat_sum, gradients included. input: [N,C,H,W]; flow:
    [N,2,H,W] in px.

    deterministic: True = each pixel collects what lands on it, the same bits every time; False = each source pixel adds
    itself atomically, fewer launches; None = as torch.use_deterministic_algorithms says. The gradients are
    deterministic in any case.
    """
    if input.dtype not in DTYPES:
        return reference.splat_sum(input, flow)
    _check(flow, (len(input), 2, *input.shape[-2:]), input.device)
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    return _SplatSum.apply(input, flow, deterministic)


def splat_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float = 1e-8
) -> tuple[torch.Tensor, torch.Tensor]:
    """As softmax_splatting.splat_blend, for CUDA tensors; deterministic. The result is channels-last in memory.

    Fastest with features that are channels-last and whose channels are a multiple of four: they are then read where
    they lie.
    """
    channels, height, width = features.shape
    if features.dtype not in DTYPES:
        raise TypeError(f"features of type {features.dtype}; expected one of {', '.join(str(d) for d in DTYPES)}")
    flow = torch.stack([d.detach() for d in displacements]).float()
    weight = torch.stack([w.detach() for w in weights]).float()
    _check(flow, (len(flow), 2, height, width), features.device)
    _check(weight, (len(flow), height, width), features.device)
    total = torch.empty(1, height, width, dtype=torch.float32, device=features.device)
    start, entries = _lists(flow, 1, weight=weight, total=total, eps=float(eps))
    blended = _image(_gather(start, entries, _rows(features.detach()[None])), (1, channels, height, width))
    return blended[0], total


class _SplatSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, flow: torch.Tensor, deterministic: bool) -> torch.Tensor:
        moves, rows, (n, _, height, width) = flow.detach().float().contiguous(), _rows(input.detach()), input.shape
        ctx.save_for_backward(moves, rows if ctx.needs_input_grad[1] else None)
        ctx.shape, ctx.dtypes = input.shape, (input.dtype, flow.dtype)
        if deterministic:
            start, entries = _lists(moves, n)
            return _image(_gather(start, entries, rows), input.shape)
        out = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
        _launch(
            _module_of(rows),
            "scatter_rows",
            len(rows),
            _lanes(rows),
            moves,
            rows,
            out,
            len(rows),
            _groups(rows),
            height,
            width,
        )
        return _image(out.to(input.dtype), input.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        (moves, rows), (n, _, height, width) = ctx.saved_tensors, ctx.shape
        grad = _rows(grad)
        wants_input, wants_flow, _ = ctx.needs_input_grad
        grad_rows = torch.empty_like(grad) if wants_input else None
        grad_flow = (
            torch.empty(len(grad), _lanes(grad), 2, dtype=torch.float32, device=grad.device) if wants_flow else None
        )
        _launch(
            _module_of(grad),
            "gather_gradient",
            len(grad),
            _lanes(grad),
            moves,
            rows,
            grad,
            grad_rows,
            grad_flow,
            len(grad),
            _groups(grad),
            height,
            width,
        )
        if wants_input:
            grad_rows = _image(grad_rows, ctx.shape)
        if grad_flow is not None:
            grad_flow = _image(grad_flow.sum(1), (n, 2, height, width)).to(ctx.dtypes[1])
        return grad_rows, grad_flow, None


def _check(tensor, shape, device):
    """A kernel that gets something else would read foreign memory without a word."""
    if tensor.shape != shape or tensor.device != device:
        raise ValueError(f"tensor {tuple(tensor.shape)} on {tensor.device}; expected {shape} on {device}")


def _rows(image):
    """[N,C,H,W] as rows [N*H*W, C rounded up to a multiple of four]; no copy of a channels-last image that fits."""
    n, channels, height, width = image.shape
    rows = image.permute(0, 2, 3, 1)
    rows = F.pad(rows, (0, -channels % 4)) if channels % 4 else rows  # pad would copy even for nothing
    rows = rows.contiguous().view(n * height * width, rows.shape[-1])
    return rows if rows.data_ptr() % 16 == 0 else rows.clone()  # a view into the middle of a tensor


def _image(rows, shape):
    """The rows as [N,C,H,W], still channels-last in memory."""
    n, channels, height, width = shape
    return rows.view(n, height, width, rows.shape[1])[..., :channels].permute(0, 3, 1, 2)


def _groups(rows):
    return rows.shape[1] // 4


def _lanes(rows):
    return min(LANES, _groups(rows))


def _module_of(rows):
    return str(rows.dtype).removeprefix("torch.")


def _lists(flow, images, *, weight=None, total=None, eps=0.0):
    """What lands on each pixel of the images, in the order of the sources.

    flow: [M,2,H,W] float32; field m throws into image m % images.   weight: [M,H,W] float32, or None = 1.
    total: [images*H*W] float32, receives the sums of the weights, which are then divided by max(total, eps); None =
    leave them.
    Returns start [images*H*W + 1] int32, and entries (row, weight) [4*M*H*W, 2]: as many as there could be, for asking
    how many there are would make the processor wait for the GPU.
    """
    fields, _, height, width = flow.shape
    sources, targets = fields * height * width, images * height * width
    if sources >= 2**29:
        raise ValueError(f"{sources} pixels in one splat; at most {2**29 - 1}, for lists are counted in 32 bits")
    flow, weight = flow.contiguous(), None if weight is None else weight.contiguous()
    count = torch.zeros(targets, dtype=torch.int32, device=flow.device)
    start = torch.zeros(targets + 1, dtype=torch.int32, device=flow.device)
    entries = torch.empty(4 * sources, 2, dtype=torch.int32, device=flow.device)
    _launch("lists", "count_landings", sources, 1, flow, weight, count, sources, images, height, width)
    torch.cumsum(count, 0, dtype=torch.int32, out=start[1:])
    _launch("lists", "fill_lists", sources, 1, flow, weight, start, count, entries, sources, images, height, width)
    _launch("lists", "order_lists", targets, 1, start, entries, total, eps, targets)
    return start, entries


def _gather(start, entries, rows):
    out = torch.empty(len(start) - 1, rows.shape[1], dtype=rows.dtype, device=rows.device)
    _launch(_module_of(rows), "gather_rows", len(out), _lanes(rows), start, entries, rows, out, len(out), _groups(rows))
    return out


def _launch(module, kernel, pixels, lanes, *arguments):
    """Run a kernel with lanes threads for each pixel, on the device and the stream its tensors are used on.

    arguments: tensors and None go as pointers, int as 32-bit integers, float as float32.
    """
    if not pixels:
        return
    cupy = _cupy()
    device = next(a.device.index for a in arguments if isinstance(a, torch.Tensor))
    rows = BLOCK // lanes
    with cupy.cuda.Device(device), _stream(cupy, torch.cuda.current_stream(device)):
        _kernel(module, kernel)((-(-pixels // rows),), (lanes, rows), tuple(map(_argument, arguments)))


def _stream(cupy, stream):
    """torch's stream as cupy's: by the protocol both know, or as older cupys (before 14) take it."""
    known = hasattr(cupy.cuda.Stream, "from_external") and hasattr(stream, "__cuda_stream__")
    if known:
        return cupy.cuda.Stream.from_external(stream)
    return cupy.cuda.ExternalStream(stream.cuda_stream, stream.device_index)


def _argument(value):
    if value is None or isinstance(value, torch.Tensor):
        return np.uint64(0 if value is None else value.data_ptr())
    return np.float32(value) if isinstance(value, float) else np.int32(value)


@functools.cache
def _kernel(module, name):
    """A kernel that can be launched; cupy compiles and loads it once for each device it is used on."""
    return _cupy().RawModule(code=source_of(module), options=OPTIONS).get_function(name)


def _cupy():
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            "The CUDA kernels of softmax_splatting need cupy: pip install cupy-cuda12x (or cupy-cuda13x, "
            "after the CUDA version of torch)"
        ) from error
    return cupy
