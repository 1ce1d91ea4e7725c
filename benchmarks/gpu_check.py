"""What only a graphics card can show: the kernels' numbers and speed, every network on it, in at most eight minutes.

    make gpu-check
    python -m benchmarks.gpu_check --parts kernels splat video   # some of the parts
    python -m benchmarks.gpu_check --device cpu --quick          # whether the script itself works, without a card

Every part is written to docs/results/gpu.json when it is done; what is there of the same card, asked the same way, is
passed over, so that an interrupted check goes on (--again makes everything anew). After --minutes no further part is
begun. A part whose numbers are out of bounds, or one of whose commands failed, counts as failed and is run again next
time. Networks have the published shapes and random weights.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.benchmarks.record import FOLDER, machine
from text2cinemagraph.benchmarks.video import clip_of
from text2cinemagraph.data.files import atomic
from text2cinemagraph.models.euler import displacement_maps
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.softmax_splatting import reference, splat_blend

# Largest difference as a share of the largest value; some ten times what an H200 showed (docs/results/gpu.json).
WITHIN = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}
VIDEO_WITHIN = 0.1  # on [-1,1], frames of the GPU against those of the CPU, whose convolutions round otherwise
COMMAND_SECONDS = 240  # a command that takes longer hangs


@dataclass
class Card:
    """Where the parts run.  quick: small sizes and few repeats, for trying the script."""

    device: torch.device
    quick: bool
    no_compile: bool = False
    scenes: str = ""  # a folder of mini.procedural --video, where a machine cannot write videos

    def seconds(self, function: Callable[[], Any], repeats: int = 5, warm: int = 2) -> float:
        """Median seconds of function() between synchronisations."""
        times = []
        for _ in range(warm + repeats):
            self.wait()
            start = time.perf_counter()
            function()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times[warm:])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, function: Callable[[], Any]) -> tuple[Any, float | None]:
        """(result, peak GiB allocated while it ran); None GiB without a card."""
        if self.device.type != "cuda":
            return function(), None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        result = function()
        self.wait()
        return result, round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp(min=1e-12))


def command(words: list[str]) -> subprocess.CompletedProcess:
    """A script of the repository, run as a user runs it; RuntimeError where it fails or hangs."""
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=root, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{words[0]} did not end within {COMMAND_SECONDS} s") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} ended with {done.returncode}: {done.stderr[-600:]}")
    return done


def can_write_videos() -> bool:
    """Whether PyAV is here, whole: some machines have only a part of it."""
    return importlib.util.find_spec("av") is not None and importlib.util.find_spec("av.container") is not None


def kernels_part(card: Card) -> dict[str, Any]:
    """Values and gradients of the kernels against the reference in double precision; the same bits every time."""
    from text2cinemagraph.softmax_splatting import kernels

    if card.device.type != "cuda":
        return {"skipped": "the kernels run on a GPU alone"}
    size = 64 if card.quick else 256
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(2, 65, size, size, generator=generator).to(card.device)
    # Between two steps of 1/256 px, so that no float32 sum lands on a pixel, where the gradient has a step.
    flow = ((torch.randn(2, 2, size, size, generator=generator) * 9 * 256).round() / 256 + 1 / 512).to(card.device)
    upstream = torch.randn(input.shape, generator=generator).to(card.device)
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for deterministic in (True, False):
            ours = [input.to(dtype).requires_grad_(), flow.clone().requires_grad_()]
            true = [ours[0].detach().double().requires_grad_(), flow.double().requires_grad_()]
            made, wanted = kernels.splat_sum(*ours, deterministic), reference.splat_sum(*true)
            gradients = (
                torch.autograd.grad(made, ours, upstream.to(dtype)),
                torch.autograd.grad(wanted, true, upstream.to(dtype).double()),
            )
            again = kernels.splat_sum(*(t.detach() for t in ours), deterministic)
            found[f"{dtype}".removeprefix("torch.") + (" lists" if deterministic else " atomic")] = {
                "value": relative(made.detach(), wanted.detach()),
                "grad_input": relative(gradients[0][0], gradients[1][0]),
                "grad_flow": relative(gradients[0][1], gradients[1][1]),
                "same_bits": bool(torch.equal(made.detach(), again)),
            }
    wrong = [
        f"{name} {what} {value:.1e}"
        for name, row in found.items()
        for what, value in row.items()
        if what != "same_bits" and not value <= WITHIN[name.split()[0]]
    ]
    wrong += [
        f"{name}: other bits the second time" for name, row in found.items() if "lists" in name and not row["same_bits"]
    ]
    return found | ({"failed": "; ".join(wrong)} if wrong else {})


def splat_part(card: Card) -> dict[str, Any]:
    """What s6 asks of the splat per frame, by every path, as a share of what copying memory reaches."""
    from text2cinemagraph.benchmarks.splat import copy_bandwidth, definition

    found, failed = {}, []
    bandwidth = copy_bandwidth(card.device)
    found["copy_bytes_per_second"] = bandwidth
    for size in (128,) if card.quick else (512, 1024):
        flow = clip_of(size, 0.4)[1]
        moves = [displacement_maps(sign * flow, 30)[-1].to(card.device) for sign in (1, -1)]
        weights = [torch.rand(size, size, device=card.device) for _ in range(2)]
        for dtype in (torch.float32, torch.bfloat16):
            features = torch.randn(1, 64, size, size, device=card.device, dtype=dtype)
            rows = features.contiguous(memory_format=torch.channels_last)[0]
            paths = {"lists": lambda: splat_blend(rows, moves, weights)}  # noqa: B023
            if dtype == torch.float32:
                paths["index_add"] = lambda: definition(rows, moves, weights)  # noqa: B023
                paths["torch_lists"] = lambda: torch_blend(rows, moves, weights)  # noqa: B023
            if card.device.type == "cuda":
                paths["atomic"] = lambda: atomic_blend(rows, moves, weights)  # noqa: B023
            moved = 2 * rows.nbytes + 2 * moves[0].nbytes + 2 * weights[0].nbytes  # features in and out, the rest in
            for name, path in paths.items():
                try:
                    spent = card.seconds(path, 3 if card.quick else 20, 3)
                except Exception as error:  # noqa: BLE001  one path less, the others count
                    failed.append(f"{size} {dtype} {name}: {type(error).__name__}: {error}".replace("torch.", "", 1))
                    continue
                found[f"{size} {dtype} {name}".replace("torch.", "")] = {
                    "milliseconds": round(spent * 1e3, 4),
                    "share_of_copy": round(moved / spent / bandwidth, 3),
                }
    return found | ({"failed": "; ".join(failed)} if failed else {})


def torch_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The lists in plain torch operations, which need no cupy."""
    from text2cinemagraph.softmax_splatting import gather

    return gather.splat_blend(features, displacements, weights)


def atomic_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernel without lists: both directions added up by atomicAdd, then the division."""
    from text2cinemagraph.softmax_splatting import kernels

    total = 0
    for displacement, weight in zip(displacements, weights):
        stacked = torch.cat([features * weight, weight[None]])[None].float()
        total = total + kernels.splat_sum(stacked, displacement[None], False)[0]
    return total[:-1] / total[-1:].clamp(min=1e-8), total[-1:]


def video_part(card: Card) -> dict[str, Any]:
    """Sixty frames by the published video network: seconds of a whole clip, by size, precision and engine."""
    from text2cinemagraph.benchmarks.video import calibrated_weights
    from text2cinemagraph.models.networks import build_video
    from text2cinemagraph.models.video import VideoModel
    from text2cinemagraph.options.train import VideoOptions

    n_frames = 6 if card.quick else 60
    with tempfile.TemporaryDirectory() as folder:
        calibrated_weights(Path(folder) / "weights.pt")
        state = torch.load(Path(folder) / "weights.pt", weights_only=True)

    def model(dtype, device):
        net = build_video(VideoOptions())
        net.load_state_dict(state)
        return VideoModel(net.fold().to(device, dtype, memory_format=torch.channels_last), VideoOptions())

    def clip(video, image, flow, engine):
        for frame in video.frames(image, flow, n_frames, engine=engine):
            last = frame
        return last

    found = {}
    image, flow = clip_of(128, 0.4)
    wanted = list(model(torch.float32, torch.device("cpu")).frames(image, flow, 6, static_reuse=False))
    made = list(model(torch.float32, card.device).frames(image.to(card.device), flow.to(card.device), 6))
    found["difference_from_cpu"] = max(float((a - b.cpu()).abs().max()) for a, b in zip(wanted, made))
    if not found["difference_from_cpu"] <= VIDEO_WITHIN:
        raise RuntimeError(f"frames differ from the CPU's by {found['difference_from_cpu']:.3f} on [-1,1]")
    engines = ("torch",) if card.quick or card.no_compile else ("torch", "compile")
    for engine in engines:
        for size in (128,) if card.quick else (512, 1024):
            for dtype in (torch.bfloat16, torch.float32):
                if engine == "compile" and (size, dtype) != (512, torch.bfloat16):
                    continue  # minutes each: one is enough to see what it brings
                video = model(dtype, card.device)
                image, flow = (t.to(card.device) for t in clip_of(size, 0.4))
                start = time.perf_counter()
                clip(video, image, flow, engine)
                card.wait()
                first = time.perf_counter() - start
                spent, peak = card.peak(lambda: card.seconds(lambda: clip(video, image, flow, engine), 2, 0))  # noqa: B023
                name = f"{size} {dtype} {engine}".replace("torch.", "")
                found[name] = {"first_s": round(first, 2), "clip_s": round(spent, 3), "peak_gib": peak}
                print(f"  video {name}: {found[name]}", flush=True)
    return found


def drawing_part(card: Card) -> dict[str, Any]:
    """s1 and s2 by a U-Net of Stable Diffusion 1.4's shape, and its autoencoder: seconds and memory at 512 px."""
    from diffusers import AutoencoderKL
    from text2cinemagraph.benchmarks.unet_calls import untrained_diffusion
    from text2cinemagraph.img2img.twin import artistic, twin
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.pipeline.drawing import feature_plan

    if card.quick:
        return {"skipped": "the U-Net has 860 million weights"}
    found, steps, half = {}, 10, torch.float16
    with torch.device(card.device):
        diffusion = untrained_diffusion()
    diffusion.unet.to(card.device, half)
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    plan = feature_plan(InferenceOptions(), diffusion.unet)

    def both():
        with torch.inference_mode():
            made = artistic(diffusion, noise, "source", guidance_scale=5.0, steps=steps, plan=plan, feature_memory=64e9)
            card.wait()  # what s1 still has in flight is s1's
            start = time.perf_counter()
            twin(
                diffusion,
                noise,
                "source",
                "target",
                negative_prompt="source",
                source_scale=5.0,
                guidance_scale=7.5,
                steps=steps,
                plan=plan,
                features=made.features,
            )
            card.wait()
            return time.perf_counter() - start

    both()
    start = time.perf_counter()
    second, peak = card.peak(both)
    card.wait()
    found["s1_s_per_step"] = round((time.perf_counter() - start - second) / steps, 3)
    found["s2_s_per_step"], found["peak_gib"] = round(second / steps, 3), peak
    diffusion.unet.cpu()
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).to(card.device, half)
    with torch.inference_mode():
        latent = noise.to(card.device, half)
        found["decode_s"], found["decode_peak_gib"] = card.peak(lambda: card.seconds(lambda: vae.decode(latent), 3))
    return found


def motion_part(card: Card) -> dict[str, Any]:
    """s5 by both published networks at 512 px, float32."""
    from text2cinemagraph.models.networks import build_motion
    from text2cinemagraph.options.train import MotionOptions

    side, found = (128 if card.quick else 512), {}
    for name, channels in (("spadexattnunetsd", 4), ("spadeunet", 6)):
        if card.quick and channels == 4:
            continue
        with torch.device(card.device):
            net = build_motion(MotionOptions(netG=name, input_nc=channels)).eval()
        label = torch.randn(1, channels, side, side, device=card.device)
        context = torch.randn(1, 77, 768, device=card.device) if channels == 4 else None
        with torch.inference_mode():
            spent, peak = card.peak(lambda: card.seconds(lambda: net(label, context), 3))  # noqa: B023
        found[name] = {"seconds": round(spent, 4), "peak_gib": peak}
    return found


def training_part(card: Card) -> dict[str, Any]:
    """A few steps of every training script on rendered landscapes, as a user starts them; losses must be finite."""
    found: dict[str, Any] = {}
    gpu = "0" if card.device.type == "cuda" else "-1"
    if not card.scenes and not can_write_videos():
        raise RuntimeError("landscapes with frames cannot be rendered without PyAV: pip install av, or give --scenes")
    with tempfile.TemporaryDirectory() as folder:
        scenes = card.scenes or f"{folder}/train"
        if not card.scenes:
            run = ["-m", "text2cinemagraph.mini.procedural", "--output", scenes, "--count", "12", "--seed", "0"]
            command([*run, "--video", "--workers", "4"])
        common = ["--gpu_ids", gpu, "--checkpoints_dir", f"{folder}/checkpoints", "--dataroot", scenes]
        side = ["--batchSize", "4", "--niter", "2", "--niter_decay", "0", "--print_freq", "4"]
        published = "--norm_G sync:spectral_instance --netG spadeunet4softmaxsplating --use_l1_loss --tr_stage stage1"
        direction = "--input_nc 6 --norm sync:spectral_instance --netG spadeunet --use_epe_loss --use_hint"
        for name, script, words in (
            ("direction", "train_motion.py", [*direction.split(), "--motion_norm", "64", "--fineSize", "256"]),
            ("video", "train_video.py", [*published.split(), "--fineSize", "64" if card.quick else "256"]),
        ):
            for dtype in ("fp32", "bf16"):
                words_all = [script, "--name", f"{name}-{dtype}", *common, *side, *words, "--dtype", dtype]
                start = time.perf_counter()
                command(words_all)
                last = (Path(folder) / "checkpoints" / f"{name}-{dtype}" / "loss_log.txt").read_text().splitlines()[-1]
                check_losses(last)
                found[f"{name} {dtype}"] = {"seconds": round(time.perf_counter() - start, 1), "last": last}
    return found


def check_losses(line: str) -> None:
    """RuntimeError where a loss in a line of loss_log.txt is no finite number, or there is none."""
    losses = dict(re.findall(r"(\w+): (\S+)", line.partition(")")[2]))
    lost = [name for name, value in losses.items() if not math.isfinite(float(value))]
    if lost or not losses:
        raise RuntimeError(f"no finite loss for {', '.join(lost) or 'anything'} in: {line}")


def pipeline_part(card: Card) -> dict[str, Any]:
    """All six stages with the weights of this repository, as a user runs them."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "inference_t2c.py",
            "--config",
            "configs/inference_mini.yaml",
            "--name",
            "gpu",
            f"twin_extraction.exp_path_root={folder}",
        ]
        words += [f"runtime.device={card.device.type}"]
        if not can_write_videos():  # up to the flow
            words += ["--stage", "s1-s5"]
        return {"said": command(words).stdout.splitlines()[-3:]}


PARTS = {
    "kernels": kernels_part,
    "splat": splat_part,
    "video": video_part,
    "pipeline": pipeline_part,
    "motion": motion_part,
    "training": training_part,
    "drawing": drawing_part,
}


def main() -> int | None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small: tries the script, measures nothing")
    parser.add_argument("--no_compile", action="store_true", help="leave out engine=compile, which takes long to start")
    parser.add_argument("--scenes", default="", help="landscapes of mini.procedural --video; empty: rendered")
    parser.add_argument(
        "--minutes",
        type=number(float, above=0, most=1000),
        default=8,
        help="begin no part later (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="also what docs/results/gpu.json has already")
    parser.add_argument("--output", default=str(FOLDER / "gpu.json"), help="the file of results (default: %(default)s)")
    flags = parser.parse_args()
    if flags.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; this check is for a machine with one (--device cpu --quick tries it)")
    card, path = Card(torch.device(flags.device), flags.quick, flags.no_compile, flags.scenes), Path(flags.output)
    before = json.loads(path.read_text()) if path.is_file() and not flags.again else {}
    asked = {"device": card.device.type, "quick": card.quick, "no_compile": card.no_compile}
    same = before.get("machine", {}).get("gpu") == machine()["gpu"] and before.get("asked", asked) == asked
    found = before if same else {}
    found |= {"machine": machine(), "asked": asked}
    failed, late, began = [], [], time.monotonic()
    for name in flags.parts:
        if name in found and "failed" not in found[name]:
            continue
        if time.monotonic() - began > 60 * flags.minutes:
            late.append(name)
            continue
        print(f"{name}: {PARTS[name].__doc__}", flush=True)
        start = time.perf_counter()
        try:
            found[name] = PARTS[name](card)
        except Exception as error:  # noqa: BLE001  the other parts are still worth their minutes
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        failed += [name] if "failed" in found[name] else []
        found[name]["seconds_of_part"] = round(time.perf_counter() - start, 1)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
        if card.device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"written: {path}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if late:
        print(f"not begun within {flags.minutes:g} minutes: {', '.join(late)}; the same command goes on")
    return 1 if failed or late else 0


if __name__ == "__main__":
    run_main(main)
