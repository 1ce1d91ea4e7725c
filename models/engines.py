"""What computes the video network's decoder, frame after frame: the choice of `video.engine`.

Every engine is a function (blended [C,H,W], total [1,H,W]) -> frame [3,H,W] in [-1,1], made once per clip.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from text2cinemagraph.models.clip_decoder import ClipDecoder
from text2cinemagraph.models.networks import Projector, SymmetricSplattingNet
from text2cinemagraph.models.winograd import Scratch

ENGINES = ("torch", "compile")
Decoder = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Decoders:
    """Makes the decoder of each clip of one network. It owns what an engine compiled, which goes when the network goes;
    the network itself stays as it is.
    """

    def __init__(self, network: SymmetricSplattingNet) -> None:
        """network: folded, on its device and in its dtype."""
        self.network = network
        self._compiled: Callable[..., torch.Tensor] | None = None

    def of_clip(
        self,
        features: torch.Tensor,
        flow: torch.Tensor | None = None,
        *,
        engine: str = "torch",
        scratch: Scratch | None = None,
    ) -> Decoder:
        """The decoder of one clip.

        features: [C,H,W] of the picture at rest.   flow: [2,H,W] in px/frame: what it cannot change is decoded once
        (engine torch on a CPU in float32 alone); None = all, every frame.   scratch: what several decoders share on a
        CPU; None = one of its own.
        """
        if engine not in ENGINES:
            raise ValueError(f"video.engine={engine!r} is unknown; choose one of {', '.join(ENGINES)}")
        projector = self.network.projector
        weight = next(projector.parameters())
        if engine == "compile":  # minutes for the first frame, CUDA graphs where there is a GPU
            if self._compiled is None:
                mode = "reduce-overhead" if weight.is_cuda else "default"
                self._compiled = torch.compile(projector, dynamic=False, mode=mode)
            return _module(self._compiled, weight.dtype)
        if weight.is_cuda:
            return _graphed(projector, features, weight.dtype)
        whole = weight.device.type == "cpu" and weight.dtype == torch.float32
        if whole and projector.eblocks[0].folded:
            return ClipDecoder(projector, features, flow, scratch)
        return _module(projector, weight.dtype)


def _module(projector: Callable[..., torch.Tensor], dtype: torch.dtype) -> Decoder:
    """The network as it is: on a GPU, or in another precision."""

    def decode(blended: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        made = projector(blended[None].to(dtype, memory_format=torch.channels_last), (total > 0).float()[None])
        return made[0].float()

    return decode


def _graphed(projector: Projector, features: torch.Tensor, dtype: torch.dtype) -> Decoder:
    """The same as one CUDA graph: recorded once per clip (a tenth of a second), then launched as a whole.

    A frame's two hundred small kernels otherwise wait for Python: docs/results/gpu.json has both.
    """
    decode, (_, height, width) = _module(projector, dtype), features.shape
    blended = torch.zeros_like(features[None]).contiguous(memory_format=torch.channels_last)[0]
    total = torch.zeros(1, height, width, device=features.device)
    with torch.cuda.device(features.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries choose their kernels before anything is recorded
            for _ in range(3):
                decode(blended, total)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = decode(blended, total)

    def replay(new_blended: torch.Tensor, new_total: torch.Tensor) -> torch.Tensor:
        blended.copy_(new_blended)
        total.copy_(new_total)
        graph.replay()
        return made.clone()

    return replay
