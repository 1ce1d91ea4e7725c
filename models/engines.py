"""What computes the video network's decoder, frame after frame: the choice of `video.engine`.

Every engine is a function (blended [C,H,W], total [1,H,W]) -> frame [3,H,W] in [-1,1], made once per clip.
"""

import functools

import torch
from text2cinemagraph.models.clip_decoder import ClipDecoder

ENGINES = ("torch", "compile", "openvino")


def make_decoder(projector, features, flow=None, engine="torch", scratch=None):
    """The decoder of one clip.

    projector: of a folded SymmetricSplattingNet, on its device and in its dtype.   features: [C,H,W] of the picture at
    rest.
    flow: [2,H,W] in px/frame: what it cannot change is decoded once (engine torch on a CPU in float32 alone); None =
    all, every frame.   scratch: winograd.Scratch that several decoders share on a CPU; None = one of its own.
    """
    if engine not in ENGINES:
        raise ValueError(f"video.engine={engine!r} is unknown; choose one of {', '.join(ENGINES)}")
    weight = next(projector.parameters())
    if engine == "openvino":
        return _openvino(projector, tuple(features.shape))
    if (
        engine == "torch"
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and projector.eblocks[0].folded
    ):
        return ClipDecoder(projector, features, flow, scratch)
    if engine == "torch" and weight.is_cuda:
        return _graphed(projector, features, weight.dtype)
    return _module(_compiled(projector) if engine == "compile" else projector, weight.dtype)


def _module(projector, dtype):
    """The network as it is: on a GPU, or in another precision."""

    def decode(blended, total):
        made = projector(blended[None].to(dtype, memory_format=torch.channels_last), (total > 0).float()[None])
        return made[0].float()

    return decode


def _graphed(projector, features, dtype):
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

    def replay(new_blended, new_total):
        blended.copy_(new_blended)
        total.copy_(new_total)
        graph.replay()
        return made.clone()

    return replay


@functools.lru_cache(maxsize=1)
def _compiled(projector):
    """torch.compile: minutes for the first frame, CUDA graphs where there is a GPU."""
    on_gpu = next(projector.parameters()).is_cuda
    return torch.compile(projector, dynamic=False, mode="reduce-overhead" if on_gpu else "default")


@functools.lru_cache(maxsize=1)
def _openvino(projector, shape):
    """OpenVINO on the CPU, float32; optional."""
    try:
        import openvino
    except ImportError as error:
        raise ImportError("video.engine=openvino needs OpenVINO: pip install openvino") from error
    blended, mask = torch.zeros(1, *shape), torch.ones(1, 1, *shape[1:])
    graph = openvino.convert_model(
        projector.cpu().float(), example_input=(blended, mask), input=[blended.shape, mask.shape]
    )
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    ready = openvino.Core().compile_model(graph, "CPU", settings)

    def decode(blended, total):
        made = ready((blended[None].contiguous().numpy(), (total > 0).float()[None].numpy()))
        return torch.from_numpy(made[0][0].copy())

    return decode
