"""The splat's backends beside the scatter_add form of the published code, in one run, interleaved.

    python -m benchmarks.splat --size 512 --channels 64               # CPU seconds; the last line is one JSON object
    python -m benchmarks.splat --device cuda  # the CUDA kernels

What is timed is what s6 asks of it per frame: both directions, their weights, the sum and the division.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from text2cinemagraph.benchmarks.published_video import splat_sum
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.benchmarks.video import clip_of
from text2cinemagraph.models.euler import displacement_maps
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.softmax_splatting import reference, splat_blend
from tqdm import tqdm


def published(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """NCHW, scatter_add, one direction after the other."""
    total = 0
    for displacement, weight in zip(displacements, weights):
        total = total + splat_sum(torch.cat([features * weight, weight[None]])[None], displacement[None])
    return (total[0, :-1] / total[0, -1:].clamp(min=1e-8)), total[0, -1:]


def definition(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax_splatting.reference: index_add on rows, on any device."""
    total = sum(
        reference.splat_sum(torch.cat([features * weight, weight[None]])[None], displacement[None])[0]
        for displacement, weight in zip(displacements, weights)
    )
    return total[:-1] / total[-1:].clamp(min=1e-8), total[-1:]


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """CPU seconds on the CPU; seconds between two synchronisations on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        function()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    start = time.process_time()
    function()
    return time.process_time() - start


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read plus written, of copying 256 MB."""
    source = torch.empty(1 << 26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(5))


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.splat", description=__doc__)
    parser.add_argument("--size", type=number(least=32, most=8192), default=512, help="px")
    parser.add_argument(
        "--channels", type=number(least=1, most=4096), default=64, help="of the features; the weight is one more"
    )
    parser.add_argument(
        "--moving",
        type=number(float, least=0, most=1),
        default=0.4,
        help="share of the picture that moves, a central square",
    )
    parser.add_argument("--repeats", type=number(least=1, most=10_000), default=7)
    parser.add_argument("--threads", type=number(least=0, most=512), default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/splat_<size>_<device>.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device, size = torch.device(options.device), options.size
    flow = clip_of(size, options.moving)[1]
    displacements = [displacement_maps(sign * flow, 30)[-1].to(device) for sign in (1, -1)]
    features = torch.randn(options.channels, size, size, device=device).contiguous()
    rows = features[None].contiguous(memory_format=torch.channels_last)[0]
    weights = [torch.rand(size, size, device=device) for _ in range(2)]
    forms = {
        "ours": lambda: splat_blend(rows, displacements, weights),
        "index_add": lambda: definition(features, displacements, weights),
    }
    if device.type == "cpu":
        forms["published"] = lambda: published(features, displacements, weights)
    results = {name: form() for name, form in forms.items()}
    base = results.get("published", results["index_add"])
    difference = max((one - other).abs().max().item() for one, other in zip(results["ours"], base))
    times = {name: [] for name in forms}
    for _ in tqdm(range(options.repeats), "rounds"):
        for name, form in forms.items():
            times[name].append(seconds(form, device))
    median = {name: statistics.median(values) for name, values in times.items()}
    moved = (
        2 * features.nbytes + 2 * flow.nbytes + 2 * weights[0].nbytes
    )  # features read once and written once, the rest read
    keep(
        f"splat_{size}_{device.type}",
        {
            "size": size,
            "channels": options.channels + 1,
            "moving": options.moving,
            "threads": options.threads,
            "device": options.device,
            "seconds": median,
            "ratio": round(median.get("published", median["index_add"]) / median["ours"], 2),
            "max_diff": difference,
            "bytes": moved,
            "share_of_copy_bandwidth": round(moved / median["ours"] / copy_bandwidth(device), 3),
        },
        None if options.no_keep else FOLDER,
    )


if __name__ == "__main__":
    run_main(main)
