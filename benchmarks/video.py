"""s6 against a plain statement of the published algorithm: same weights, same run, both interleaved, each in a process
of its own.

    python -m benchmarks.video --size 256 --frames 60                 # the last line is one JSON object
    python -m benchmarks.video --size 512 --threads 1 2 --memory_frames 60 120
    python -m benchmarks.video --size 256 --engine compile

Ours makes the whole clip, set-up included; of the published form `--sampled` frames are timed (each costs the same) and
taken times the number of frames. CPU seconds are user + system of the process; the allocator is the default one unless
the environment says otherwise. The network is the published one with random weights whose norms were calibrated; the
flow stands still outside a central square.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from text2cinemagraph.benchmarks.published_video import published_frame
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.models.engines import ENGINES
from text2cinemagraph.models.layers import remove_spectral
from text2cinemagraph.models.networks import build_video
from text2cinemagraph.models.video import VideoModel
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.train import VideoOptions
from tqdm import tqdm


def calibrated_weights(path: str | Path) -> None:
    """Random weights of the published network whose power iterations and running statistics have settled."""
    torch.manual_seed(0)
    net = build_video(VideoOptions()).train()
    with torch.no_grad():
        for _ in range(40):
            net(
                torch.rand(2, 3, 32, 32) * 2 - 1,
                torch.rand(2, 3, 32, 32) * 2 - 1,
                torch.randn(2, 2, 32, 32) / 2,
                torch.tensor([[0, 20, 59], [0, 40, 59]]),
            )
    torch.save(net.state_dict(), path)


def clip_of(size: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(image [3,size,size] in [0,1], flow [2,size,size] px/frame): smooth noise; the flow moves within a square of that
    share of the area.
    """
    generator = torch.Generator().manual_seed(1)
    image, flow = (
        torch.nn.functional.interpolate(torch.randn(1, c, 12, 12, generator=generator), (size, size), mode="bicubic")[0]
        for c in (3, 2)
    )
    side = round(size * share**0.5)
    corner = (size - side) // 2
    inside = torch.zeros(1, size, size)
    inside[:, corner : corner + side, corner : corner + side] = 1
    return (image / 4 + 0.5).clamp(0, 1), flow.clamp(-1, 1) * 0.5 * inside


def cpu_seconds() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def worker(
    pipe: Connection,
    kind: str,
    *,
    weights: str,
    size: int,
    share: float,
    n_frames: int,
    threads: int,
    engine: str,
    static_reuse: bool,
) -> None:
    """Serves frames: receives a frame number, sends (frame in [-1,1], CPU seconds, wall seconds, peak bytes)."""
    torch.set_num_threads(threads)
    net = build_video(VideoOptions())
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval().requires_grad_(False)
    image, flow = clip_of(size, share)
    if kind == "published":
        remove_spectral(net)  # plain weights; its norms stay norms
    if kind == "ours":
        net = net.fold().to(memory_format=torch.channels_last)
        frames = VideoModel(net, VideoOptions()).frames(image, flow, n_frames, engine=engine, static_reuse=static_reuse)
    pipe.send("ready")
    while (n := pipe.recv()) is not None:
        cpu, wall = cpu_seconds(), time.perf_counter()
        if kind == "ours":
            frame = next(frames) * 2 - 1
        else:
            frame = published_frame(net, image[None] * 2 - 1, flow[None], n=n, n_frames=n_frames)[0]
        spent = cpu_seconds() - cpu, time.perf_counter() - wall
        pipe.send((frame.numpy(), *spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def start(context: SpawnContext, kind: str, **case: Any) -> Connection:
    """The pipe to a process that is ready.  kind, case: see worker."""
    here, there = context.Pipe()
    process = context.Process(target=worker, args=(there, kind), kwargs=case, daemon=True)
    process.start()
    assert here.recv() == "ready"
    return here


def ask(pipe: Connection, n: int) -> Any:
    pipe.send(n)
    return pipe.recv()


def race(
    weights: str,
    size: int,
    share: float,
    *,
    n_frames: int,
    sampled: int,
    threads: int,
    engine: str,
    static_reuse: bool,
    published: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """One clip of ours with frames of the published form in between.  published: (cpu, wall) per frame, where already
    known.
    """
    context = multiprocessing.get_context("spawn")
    case = {"weights": weights, "size": size, "share": share, "n_frames": n_frames}
    case |= {"threads": threads, "engine": engine, "static_reuse": static_reuse}
    ours, theirs = start(context, "ours", **case), start(context, "published", **case)
    timed = set(np.linspace(0, n_frames - 1, sampled).round().astype(int).tolist())
    costs, cpu, wall, difference, peak = [], 0.0, 0.0, 0.0, 0
    for n in tqdm(range(n_frames), f"{size} px, {threads} thread(s), square of {share:.0%}"):
        frame, cpu_n, wall_n, peak = ask(ours, n)
        cpu, wall = cpu + cpu_n, wall + wall_n
        if n in timed:
            wanted, *cost, _ = ask(theirs, n)
            costs.append(cost)
            difference = max(difference, float(np.abs(frame - wanted).max()))
    for pipe in (ours, theirs):
        pipe.send(None)
    per_frame = published or tuple(statistics.median(column) for column in zip(*costs))
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "published_cpu_s_per_frame": per_frame[0],
        "published_wall_s_per_frame": per_frame[1],
        "ratio_cpu": per_frame[0] * n_frames / cpu,
        "ratio_wall": per_frame[1] * n_frames / wall,
        "max_diff": difference,
        "peak_bytes": peak,
    }


def peak_of_clip(weights: str, size: int, n_frames: int, *, threads: int, engine: str) -> int:
    """Peak memory in bytes of a process that makes a whole clip, ours, every pixel of a square of 40 % moving."""
    case = {"weights": weights, "size": size, "share": 0.4, "n_frames": n_frames}
    case |= {"threads": threads, "engine": engine, "static_reuse": False}
    pipe = start(multiprocessing.get_context("spawn"), "ours", **case)
    peaks = [ask(pipe, n)[-1] for n in tqdm(range(n_frames), f"{size} px, {n_frames} frames, memory")]
    pipe.send(None)
    return max(peaks)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.video", description=__doc__)
    parser.add_argument("--size", type=number(least=32, most=8192), default=256, help="px")
    parser.add_argument("--frames", type=number(least=2, most=10_000), default=60)
    parser.add_argument(
        "--sampled",
        type=number(least=1, most=10_000),
        default=5,
        help="frames of the published form that are really timed",
    )
    parser.add_argument(
        "--threads",
        type=number(least=0, most=512),
        nargs="+",
        default=[1],
        help="numbers of CPU threads; the first one's ratios are the result",
    )
    parser.add_argument("--engine", default="torch", choices=ENGINES)
    parser.add_argument(
        "--memory_frames",
        type=number(least=2, most=10_000),
        nargs="+",
        default=[],
        help="also the peak memory of clips of so many frames, ours alone",
    )
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/video_<size>_<engine>.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.pt")
        calibrated_weights(weights)
        runs = []
        for threads in options.threads:
            shared = weights, options.size
            how = {"n_frames": options.frames, "threads": threads, "engine": options.engine}
            plain = race(*shared, 0.4, sampled=options.sampled, static_reuse=False, **how)
            known = plain["published_cpu_s_per_frame"], plain["published_wall_s_per_frame"]
            still = race(*shared, 0.3, sampled=2, static_reuse=True, published=known, **how)
            runs.append({"threads": threads, "plain": plain, "static30": still})
        peaks = {
            str(n): peak_of_clip(weights, options.size, n, threads=options.threads[0], engine=options.engine)
            for n in options.memory_frames
        }
    first = runs[0]
    keep(
        f"video_{options.size}_{options.engine}",
        {
            "size": options.size,
            "frames": options.frames,
            "sampled": options.sampled,
            "engine": options.engine,
            "ratio_cpu": round(first["plain"]["ratio_cpu"], 2),
            "ratio_wall": round(first["plain"]["ratio_wall"], 2),
            "max_diff": max(first["plain"]["max_diff"], first["static30"]["max_diff"]),
            "ratio_static30": round(first["static30"]["ratio_cpu"], 2),
            "gain_static30": round(first["static30"]["ratio_cpu"] / first["plain"]["ratio_cpu"], 2),
            "peak_bytes": first["plain"]["peak_bytes"],
            "peak_bytes_by_frames": peaks,
            "runs": runs,
        },
        None if options.no_keep else FOLDER,
    )


if __name__ == "__main__":
    run_main(main)
