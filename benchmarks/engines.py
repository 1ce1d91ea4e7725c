"""The engines of s6's decoder on this CPU (`video.engine`): seconds of a frame, taking turns in one process.

    python -m benchmarks.engines                                  # 256 and 512 px, one thread
    python -m benchmarks.engines --engines torch --sizes 256

The network is the published one with random weights whose norms were calibrated (as in benchmarks/video.py); what is
decoded is the middle frame of a clip. "torch" is Winograd's convolution of models/winograd.py; "static30" is the same
where the flow moves within a square of 30 % of the picture and the rest is decoded once per clip, which only that
engine can do. CPU seconds are user + system of the process, medians over the rounds; a ratio above 1 says that torch is
faster. The result joins those of other CPUs in docs/results/engines.json, where the rows of OpenVINO are of commit
0fa86b0: it lost on both CPUs, and went.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from text2cinemagraph.benchmarks.record import FOLDER, keep, machine
from text2cinemagraph.benchmarks.video import calibrated_weights, clip_of
from text2cinemagraph.data.files import read_json
from text2cinemagraph.models.engines import ENGINES
from text2cinemagraph.models.euler import displacements, displacements_reversed
from text2cinemagraph.models.networks import build_video
from text2cinemagraph.models.video import VideoModel
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.train import VideoOptions
from text2cinemagraph.softmax_splatting import splat_blend
from tqdm import tqdm

FRAMES = 60
# What makes libraries take a newer CPU for an older one: kept with the numbers.
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "NUMBA_CPU_NAME")


def network(folder: str) -> VideoModel:
    """The published video network, folded, ready to make frames."""
    weights = str(Path(folder) / "weights.pt")
    calibrated_weights(weights)
    net = build_video(VideoOptions())
    net.load_state_dict(torch.load(weights, weights_only=True))
    net = net.eval().requires_grad_(False).fold().to(memory_format=torch.channels_last)
    return VideoModel(net, VideoOptions())


def middle_frame(model: VideoModel, size: int) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """(features [C,H,W] of the picture at rest, flow [2,H,W] px/frame, what is decoded for the clip's middle frame)."""
    image, flow = clip_of(size, 0.3)
    given, half = model.encoded(image), FRAMES // 2
    features = given.features[0]
    ahead = list(displacements(flow, half))[-1]
    behind = list(displacements_reversed(-flow, FRAMES))[half]
    importance = model.net.importance(given.metric)[0, 0]
    return features, flow, splat_blend(features, (ahead, behind), (importance * 0.5, importance * 0.5))


@torch.inference_mode()
def race(model: VideoModel, size: int, engines: list[str], rounds: int) -> dict:
    """{engine: {"setup_cpu_s", "frame_cpu_s", "frame_wall_s", "max_diff" to torch, "ratio_cpu" to torch}}"""
    features, flow, frame = middle_frame(model, size)
    decoders, results = {}, {}
    for name in ("torch", "static30", *(engine for engine in engines if engine != "torch")):
        began = time.process_time()
        moved, engine = (flow, "torch") if name == "static30" else (None, name)
        decoders[name] = model.decoders.of_clip(features, moved, engine=engine)
        made = decoders[name](*frame)  # the first frame compiles, or fills what is reused
        results[name] = {"setup_cpu_s": round(time.process_time() - began, 2), "frame": made}
    spent: dict[str, list] = {name: [] for name in decoders}
    for _ in tqdm(range(rounds), f"{size} px"):
        for name, decode in decoders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            decode(*frame)
            spent[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    exact = results["torch"].pop("frame")
    for name, result in results.items():
        cpu, wall = (statistics.median(column) for column in zip(*spent[name]))
        off = float((result.pop("frame", exact) - exact).abs().max())
        result |= {"frame_cpu_s": round(cpu, 3), "frame_wall_s": round(wall, 3), "max_diff": float(f"{off:.2g}")}
    for result in results.values():
        result["ratio_cpu"] = round(result["frame_cpu_s"] / results["torch"]["frame_cpu_s"], 2)
    return results


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--sizes", type=number(least=64, most=2048), nargs="+", default=[256, 512], help="px")
    parser.add_argument("--rounds", type=number(least=1, most=1000), default=7)
    parser.add_argument("--threads", type=number(least=1, most=256), default=1)
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/engines.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = network(folder)
    sizes = {str(size): race(model, size, options.engines, options.rounds) for size in options.sizes}
    limits = {name: os.environ[name] for name in LIMITS if name in os.environ}
    cpu = ", ".join([machine()["cpu"], *(f"{name}={value}" for name, value in limits.items())])
    path = FOLDER / "engines.json"
    known = read_json(path, "remove it")["cpus"] if path.is_file() else {}
    mine = {"threads": options.threads, "versions": {"torch": torch.__version__}, "sizes": sizes}
    keep("engines", {"cpus": {**known, cpu: mine}}, None if options.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
