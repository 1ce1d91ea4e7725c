"""Activation memory of one training step of the 320-million network at 512 px: with and without checkpointing, in fp32
and bf16.

    python -m benchmarks.training_memory        # counts on the meta device: no GPU, no memory, seconds
    python -m benchmarks.training_memory --measure  # also one real step, on the GPU or (15 GB, minutes) the CPU

Counted is what the forward pass of network and losses keeps for the way back, each storage once; parameters are not.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable

import torch
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.models.networks import build_motion
from text2cinemagraph.models.training.memory import checkpoint_layers
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.train import MotionOptions

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GIB = 2**30


class Kept:
    """Adds up the storages that autograd keeps; parameters and inputs, given as `own`, do not count."""

    def __init__(self, own: Iterable[torch.Tensor]) -> None:
        self.own, self.storages = {tensor.untyped_storage()._cdata for tensor in own}, {}

    def __call__(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.storages[storage._cdata] = storage  # held, so that no other storage takes the same place
        return tensor

    @property
    def gib(self) -> float:
        """Of all storages together."""
        return sum(storage.nbytes() for storage in self.storages.values()) / GIB


def step(
    net: torch.nn.Module,
    device: str,
    dtype: torch.dtype,
    *,
    size: int,
    batch: int = 1,
    keep_on: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Forward pass with the endpoint error as loss; the loss, [] float32. keep_on: called with every tensor kept."""
    x, context = torch.zeros(batch, 4, size, size, device=device), torch.zeros(batch, 77, 768, device=device)
    with torch.autograd.graph.saved_tensors_hooks(keep_on or (lambda t: t), lambda t: t):
        with torch.autocast("cpu" if device == "meta" else device, dtype, enabled=dtype != torch.float32):
            flow = net(x, context)
        return flow.float().norm(dim=1).mean()


def counted(checkpointing: bool, dtype: str, size: int, batch: int) -> float:
    """GiB that a forward pass keeps. In half precision every kept tensor counts half: the meta device has no
    autocast.
    """
    with torch.device("meta"):
        net = _without_warm_up()
    if checkpointing:
        checkpoint_layers(net)
    kept = Kept([*net.parameters(), *net.buffers()])
    step(net, "meta", torch.float32, size=size, batch=batch, keep_on=kept)
    return kept.gib / (1 if dtype == "fp32" else 2)


def _without_warm_up():
    return build_motion(
        MotionOptions(netG="spadexattnunetsd")
    )  # plain convolutions: nothing is computed while it is built


def measured(checkpointing: bool, dtype: str, *, size: int, batch: int, device: str) -> float:
    """GiB at the peak of forward and backward above what weights and gradients take, on a real device."""
    net = build_motion(MotionOptions(netG="spadexattnunetsd")).to(device, memory_format=torch.channels_last)
    if checkpointing:
        checkpoint_layers(net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if device == "cpu":
        before = _peak()
        step(net, device, DTYPES[dtype], size=size, batch=batch).backward()
        return _peak() - before
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(net, device, DTYPES[dtype], size=size, batch=batch).backward()
    return (torch.cuda.max_memory_allocated() - before) / GIB


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.training_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=number(least=32, most=8192), default=512, help="px")
    parser.add_argument("--batch", type=number(least=0, most=65_536), default=1)
    parser.add_argument(
        "--measure",
        choices=("no", "plain", "checkpointing"),
        nargs="?",
        const="plain",
        default="no",
        help="one real step in fp32; on a CPU a process can measure one of the two, as its peak only grows",
    )
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/training_memory.json")
    flags = parser.parse_args()
    names = {False: "plain", True: "checkpointing"}
    result = {
        "size": flags.size,
        "batch": flags.batch,
        "counted_gib": {
            dtype: {names[on]: round(counted(on, dtype, flags.size, flags.batch), 2) for on in (False, True)}
            for dtype in DTYPES
        },
    }
    if flags.measure != "no":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        result["measured_gib"] = {
            "device": device,
            flags.measure: round(
                measured(flags.measure == "checkpointing", "fp32", size=flags.size, batch=flags.batch, device=device), 2
            ),
        }
    keep("training_memory", result, None if flags.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
