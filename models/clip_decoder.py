"""The decoder of one clip on a CPU: the numbers of Projector.forward, in buffers that are kept from frame to frame.

Three things make it cheap. Everything between two convolutions (norm, ReLU, mask, re-weighting, shortcut) is one
compiled pass from the convolution's output into the next one's input. The mask is one channel. And where nothing can
change during the clip, nothing is
computed: every layer works on the rectangle that the moving pixels can reach by then, in a buffer whose rim holds the
layer's values at rest. That is exact, because norms are constants at inference (net.fold()) and a zero flow leaves
features as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.models import winograd
from text2cinemagraph.models.networks import DecoderBlock, Projector
from text2cinemagraph.models.winograd import Convolution, Scratch
from text2cinemagraph.softmax_splatting.compiled import compiled
from text2cinemagraph.softmax_splatting.cpu import in_slabs

Size = tuple[int, int]
Convolve = Callable[[np.ndarray], np.ndarray]

WORTH_IT = 0.9  # share of the whole work above which the rectangles are not worth their bookkeeping

# ---------------------------------------------------------------- one pass between two convolutions; arrays are [h,w,C]


@compiled
def _enter(x, scale, shift, mask, out, first, last):
    """out = relu(x * scale + shift) * mask, the norm and mask before a block's first convolution."""
    for i in range(first, last):
        for j in range(x.shape[1]):
            m = mask[i, j]
            for c in range(x.shape[2]):
                value = x[i, j, c] * scale[c] + shift[c]
                out[i, j, c] = (value if value > 0 else np.float32(0)) * m


@compiled
def _between(x, ratio, bias, valid, out, first, last):
    """out = relu(x * ratio + bias) * valid, from the first convolution to the second."""
    for i in range(first, last):
        for j in range(x.shape[1]):
            r, v = ratio[i, j], valid[i, j]
            for c in range(x.shape[2]):
                value = x[i, j, c] * r + bias[c]
                out[i, j, c] = (value if value > 0 else np.float32(0)) * v


@compiled
def _leave(x, ratio, bias, valid, shortcut, out, first, last):
    """out = (x * ratio + bias) * valid + shortcut, from the second convolution to the block's sum."""
    for i in range(first, last):
        for j in range(x.shape[1]):
            r, v = ratio[i, j], valid[i, j]
            for c in range(x.shape[2]):
                out[i, j, c] = (x[i, j, c] * r + bias[c]) * v + shortcut[i, j, c]


@compiled
def _leave_alone(x, ratio, bias, valid, out, first, last):
    """out = (x * ratio + bias) * valid."""
    for i in range(first, last):
        for j in range(x.shape[1]):
            r, v = ratio[i, j], valid[i, j]
            for c in range(x.shape[2]):
                out[i, j, c] = (x[i, j, c] * r + bias[c]) * v


def _pass(kernel: Callable[..., None], rows: int, *arrays: Any) -> None:
    """Run a kernel over all rows."""
    in_slabs(lambda first, last: kernel(*arrays, first, last), rows)


# ---------------------------------------------------------------- rectangles


class Rect:
    """Rows y0..y1 and columns x0..x1 (ends excluded) of a layer's grid."""

    def __init__(self, y0: int, y1: int, x0: int, x1: int) -> None:
        self.y0, self.y1, self.x0, self.x1 = y0, y1, x0, x1

    def grown(self, by: int, size: Sequence[int] | None = None) -> Rect:
        """Larger by `by` cells on every side; clipped to a grid of size (H, W) if given."""
        rect = Rect(self.y0 - by, self.y1 + by, self.x0 - by, self.x1 + by)
        return rect.clipped(size) if size else rect

    def clipped(self, size: Sequence[int]) -> Rect:
        return Rect(max(self.y0, 0), min(self.y1, size[0]), max(self.x0, 0), min(self.x1, size[1]))

    def pooled(self, size: Size) -> Rect:
        """The cells of AvgPool2d(3, 2, 1) whose windows touch this; size: (H, W) before pooling, even."""
        return Rect(self.y0 // 2, self.y1 // 2 + 1, self.x0 // 2, self.x1 // 2 + 1).clipped(
            (size[0] // 2, size[1] // 2)
        )

    def windows(self) -> Rect:
        """What those cells read, one cell beyond the grid included."""
        return Rect(2 * self.y0 - 1, 2 * self.y1, 2 * self.x0 - 1, 2 * self.x1)

    def doubled(self, size: Size) -> Rect:
        """The pixels that bilinear doubling of this reaches; size: (H, W) before."""
        return Rect(2 * self.y0 - 1, 2 * self.y1 + 1, 2 * self.x0 - 1, 2 * self.x1 + 1).clipped(
            (2 * size[0], 2 * size[1])
        )

    def of(self, array: np.ndarray, origin: Rect | None = None) -> np.ndarray:
        """The view of an array [h,w,...] whose first cell is the rectangle `origin`'s corner (default: the grid's)."""
        y, x = (origin.y0, origin.x0) if origin else (0, 0)
        return array[self.y0 - y : self.y1 - y, self.x0 - x : self.x1 - x]

    @property
    def shape(self) -> Size:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def area(self) -> int:
        return self.shape[0] * self.shape[1]


def moving_rect(flow: torch.Tensor) -> Rect:
    """The rectangle outside which no frame of the clip differs from the picture at rest.  flow: [2,H,W], px/frame, not
    all 0.

    A particle takes the velocity of the pixel it is nearest to, so it stops within half a pixel and one step of the
    moving pixels; the splat spreads it over the pixel before and after.
    """
    rows, columns = (flow != 0).any(0).any(1).nonzero(), (flow != 0).any(0).any(0).nonzero()
    reach = int(np.ceil(0.5 + float(flow.abs().max()))) + 1
    return Rect(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1).grown(reach, flow.shape[1:])


# ---------------------------------------------------------------- the decoder


class _Block:
    """One DecoderBlock on a rectangle: its weights as arrays, and its buffers.

    Where the rectangle is the whole grid, nothing has to stay from one frame to the next, and all blocks share the same
    memory.
    """

    def __init__(self, block: DecoderBlock, size: Size, region: Rect, *, scratch: Scratch, number: int) -> None:
        """size: (H, W) of the input's grid.   region: the Rect of the input that changes from frame to frame.

        scratch: winograd.Scratch, shared by all blocks.   number: the block's place in the decoder.
        """
        self.block, self.size, self.resample, self.scratch, self.number = block, size, block.resample, scratch, number
        scale, shift = block.bn_noise1.folded_scale, block.bn_noise1.folded_shift
        if scale is None or shift is None:
            raise ValueError("a network that is not folded; call net.fold() first")
        self.scale, self.shift = scale.flatten().numpy(), shift.flatten().numpy()
        self.biases = block.conv_aa.bias.numpy(), block.conv_ab.bias.numpy()
        self.changed, self.whole = region, region.shape == tuple(size)
        self.first, self.second = region.grown(1, size), region.grown(2, size)  # outputs of the two convolutions
        self.input = self.sum = self.out = self.second
        if self.resample == "Down":
            self.out = self.second.pooled(size)
            self.input = self.sum = self.second if self.whole else self.out.windows()
        elif self.resample == "Up":
            self.out, self.sum = self.second.doubled(size), self.second.grown(1, size)
        self.convolve = (
            _convolution(block.conv_aa.weight, self.first.shape, scratch),
            _convolution(block.conv_ab.weight, self.second.shape, scratch),
        )
        if not self.whole:
            self.x, *self.a, self.total = (np.zeros(shape, np.float32) for _, shape in self._places())

    def _places(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(name, array shape) of x, of both convolutions' inputs with their rims, and of the sum."""
        channels = self.block.conv_aa.in_channels, self.block.conv_aa.out_channels
        return (
            ("x", (*self.input.shape, channels[0])),
            ("a0", (*winograd.padded_shape(self.first.shape), channels[0])),
            ("a1", (*winograd.padded_shape(self.second.shape), channels[1])),
            (f"total{self.number % 2}", (*self.sum.shape, channels[1])),
        )  # two take turns: the next block reads it

    def _borrow(self, x: np.ndarray) -> None:
        """The whole grid's buffers, for one frame: the rims of the convolutions' inputs are 0."""
        _, *rest = self._places()
        *self.a, self.total = (self.scratch.array(name, shape) for name, shape in rest)
        for a, rect in zip(self.a, (self.first, self.second)):
            a[0], a[rect.shape[0] + 1 :], a[:, 0], a[:, rect.shape[1] + 1 :] = 0, 0, 0, 0
        self.x = x

    def take_rest(self, whole: _Block) -> None:
        """Fill the buffers with the values at rest, which the same block on the whole grid has just computed."""
        if self.whole:  # the change has reached all of it: nothing stays
            return
        for own, rect, other, origin in (
            (self.x, self.input, whole.x, whole.input),
            (self.total, self.sum, whole.total, whole.sum),
            (self.a[0], self.first.grown(1), whole.a[0], whole.first.grown(1)),
            (self.a[1], self.second.grown(1), whole.a[1], whole.second.grown(1)),
        ):
            seen = Rect(
                max(rect.y0, origin.y0), min(rect.y1, origin.y1), max(rect.x0, origin.x0), min(rect.x1, origin.x1)
            )
            seen.of(own, rect)[:] = seen.of(other, origin)

    def __call__(self, x: np.ndarray, masks: Masks) -> np.ndarray:
        """x: [h,w,C] of the changed rectangle.   masks: see Masks.  Returns [h',w',C'] of the rectangle `out`."""
        if self.whole:
            self._borrow(x)
        else:
            self.changed.of(self.x, self.input)[:] = x
        _pass(
            _enter,
            len(x),
            x,
            self.scale,
            self.shift,
            self.changed.of(masks.before),
            self.changed.of(self.a[0], self.first.grown(1)),
        )
        made = self.convolve[0](self.a[0])
        _pass(
            _between,
            len(made),
            made,
            self.first.of(masks.ratios[0]),
            self.biases[0],
            self.first.of(masks.valid[0]),
            self.first.of(self.a[1], self.second.grown(1)),
        )
        made = self.convolve[1](self.a[1])
        closing = self.second.of(masks.ratios[1]), self.biases[1], self.second.of(masks.valid[1])
        total = self.second.of(self.total, self.sum)
        if self.resample == "Down":
            _pass(_leave_alone, len(made), made, *closing, total)
            rim = 1 if self.whole else 0  # a buffer of a part has its rim with it
            beside = F.conv2d(F.avg_pool2d(_nchw(self.x), 3, 2, rim), self.block.conv_b.weight)
            return _nhwc(F.avg_pool2d(_nchw(self.total), 3, 2, rim).add_(beside))
        shortcut = self.second.of(self.x, self.input)
        if not self.block.identity:
            shortcut = _nhwc(F.conv2d(_nchw(shortcut), self.block.conv_b.weight))
        _pass(_leave, len(made), made, *closing, shortcut, total)
        if self.resample == "none":
            return total
        doubled = F.interpolate(_nchw(self.total), scale_factor=2, mode="bilinear", align_corners=False)
        return self.out.of(_nhwc(doubled), Rect(2 * self.sum.y0, 0, 2 * self.sum.x0, 0))


def _nchw(array: np.ndarray) -> torch.Tensor:
    """[h,w,C] -> tensor [1,C,h,w], channels-last, the same memory."""
    return torch.from_numpy(array)[None].permute(0, 3, 1, 2)


def _nhwc(tensor: torch.Tensor) -> np.ndarray:
    """The reverse."""
    return tensor[0].permute(1, 2, 0).numpy()


def _convolution(weight: torch.Tensor, shape: Size, scratch: Scratch) -> Convolve:
    """A 3x3 convolution to an output of `shape`, from a buffer that has its own rim: by Winograd where there are
    channels enough.
    """
    if min(weight.shape[:2]) >= winograd.LEAST:
        return Convolution(weight, shape, scratch)
    return lambda buffer: _nhwc(F.conv2d(_nchw(buffer[: shape[0] + 2, : shape[1] + 2]), weight))


class Masks:
    """What the holes of one frame make of a block: before [H,W], and per convolution ratio and valid [H,W]."""

    def __init__(self, mask: torch.Tensor, block: DecoderBlock) -> None:
        """mask: [1,1,H,W] float32 of 0 and 1."""
        self.before, self.ratios, self.valid = mask[0, 0].numpy(), [], []
        for conv in (block.conv_aa, block.conv_ab):
            covered = F.avg_pool2d(mask, 3, 1, 1, divisor_override=1) * conv.in_channels
            mask = covered.clamp(0, 1)
            self.ratios.append((conv.in_channels * 9 / (covered + 1e-8) * mask)[0, 0].numpy())
            self.valid.append(mask[0, 0].numpy())
        self.after = block._resample_mask(mask)


class ClipDecoder:
    """Decodes the frames of one clip."""

    def __init__(
        self,
        projector: Projector,
        features: torch.Tensor,
        flow: torch.Tensor | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """projector: of a folded network, float32 on the CPU.   features: [C,H,W] of the picture at rest, sides as the
        network needs them.

        flow: [2,H,W] in px/frame at that size, so that what it cannot change is decoded once; None = every frame is
        decoded whole.   scratch: winograd.Scratch to share with decoders that take turns; None = one of its own.
        """
        self.projector, self.size, self.scratch = projector, tuple(features.shape[1:]), scratch or Scratch()
        whole = Rect(0, self.size[0], 0, self.size[1])
        self.whole_masks = self._masks(torch.ones(1, 1, *self.size))
        blocks = self.blocks = list(self._blocks(whole))
        if flow is not None and (flow != 0).any():
            parts = list(self._blocks(moving_rect(flow)))
            if sum(b.first.area + b.second.area for b in parts) < WORTH_IT * sum(
                b.first.area + b.second.area for b in blocks
            ):
                self.still = self._rest(features, blocks, parts)
                self.blocks = parts
        self.rect, self.out = self.blocks[0].changed, self.blocks[-1].out

    def _blocks(self, region):
        size = self.size
        for number, block in enumerate(self.projector.eblocks):
            yield (made := _Block(block, size, region, scratch=self.scratch, number=number))
            region = made.out
            size = {"Down": (size[0] // 2, size[1] // 2), "Up": (size[0] * 2, size[1] * 2)}.get(block.resample, size)

    def _masks(self, mask):
        masks = []
        for block in self.projector.eblocks:
            masks.append(Masks(mask, block))
            mask = masks[-1].after
        return masks

    def _rest(self, features, blocks, parts):
        """Decode the picture at rest once, whole; what the parts need of it stays with them.  Returns its frame
        [H,W,3].
        """
        x = features.permute(1, 2, 0).numpy()
        for block, part, mask in zip(blocks, parts, self.whole_masks):
            made = block(x, mask)
            part.take_rest(block)
            x = made
        return np.tanh(x)

    def __call__(self, blended: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """blended: [C,H,W].   total: [1,H,W], what landed on each pixel; 0 = a hole.  Returns the frame [3,H,W] in
        [-1,1].
        """
        masks = self.whole_masks if (total > 0).all() else self._masks((total > 0).float()[None])
        x = self.rect.of(blended.permute(1, 2, 0).numpy())
        for block, mask in zip(self.blocks, masks):
            x = block(x, mask)
        made = np.tanh(x)
        if self.out.shape == self.size:
            return torch.from_numpy(made).permute(2, 0, 1)
        frame = self.still.copy()
        self.out.of(frame)[:] = made
        return torch.from_numpy(frame).permute(2, 0, 1)
