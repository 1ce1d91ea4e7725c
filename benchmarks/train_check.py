"""Every training command of the original's README, with small networks on a small procedural set: does what comes out
beat doing nothing?

    make train-mini-check                      # or: python -m benchmarks.train_check --work /tmp/train_check

Renders the set, makes hints, trains flow (with captions; with directions), predicts flow for stage 2, trains frames in
two stages, and compares on scenes never seen: endpoint error against the mean flow of the training set, PSNR inside the
masks against the first frame, copied. Two processes at a time, within 15 minutes on 2 cores. Exit code 1 if a
comparison is lost.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.datasets import ids
from text2cinemagraph.data.flow import motion_mask, read_flow, read_motion
from text2cinemagraph.data.media import read_image
from text2cinemagraph.evaluate.flow_error import endpoint_error
from text2cinemagraph.models.video import load_video_model
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.train import VideoOptions

ROOT = Path(__file__).resolve().parents[1]
COMMON = "--gpu_ids 0,1,2,3 --no_instance --label_nc 0 "
# As printed, with the placeholders for names and our short paths filled in.
README = {
    "motion": (
        "train_motion.py --name motion "
        + COMMON
        + "--input_nc 4 --output_nc 2 --fineSize 512 --batchSize 16 --norm instance --dataset_name motion --motion_norm"
        " 64.0 --netG spadexattnunetsd --dataroot data/train --no_vgg_loss --use_epe_loss --use_prompts --use_mask"
        " --mask_path data/train_masks --captions_file ./data/train_captions.txt"
    ),
    "direction": (
        "train_motion.py --name direction " + COMMON + "--input_nc 6 --output_nc 2 --fineSize 512 --batchSize 16 "
        "--norm sync:spectral_instance --dataset_name motion --motion_norm 64.0 --netG spadeunet --dataroot data/train "
        "--no_vgg_loss --use_epe_loss --use_mask --mask_path data/train_masks --use_hint --hints_path data/train_hints"
    ),
    "stage1": (
        "train_video.py --name video "
        + COMMON
        + "--input_nc 8 --output_nc 3 --fineSize 512 --batchSize 16 --norm_G sync:spectral_instance --dataset_name"
        " frame --netG spadeunet4softmaxsplating --dataroot data/train --use_l1_loss --tr_stage stage1"
        " --frames_basepath data/train"
    ),
    "predict": (
        "test_motion.py --name motion --phase train --no_instance --label_nc 0 --input_nc 4 --output_nc 2 --fineSize"
        " 512 --batchSize 1 --which_epoch 200 --netG spadexattnunetsd --dataroot data/train --use_mask --use_prompts"
        " --captions_file ./data/train_captions.txt"
    ),
    "stage2": (
        "train_video.py --name video --continue_train --niter 150 "
        + COMMON
        + "--input_nc 8 --output_nc 3 --fineSize 512 --batchSize 16 --norm_G sync:spectral_instance --dataset_name"
        " frame --netG spadeunet4softmaxsplating --dataroot data/train --use_l1_loss --tr_stage stage2"
        " --frames_basepath data/train --motion_basepath results/motion/train_200/images --motion_norm 64.0"
    ),
    "hints": "dataset/generate_flow_hint.py --dataroot data/train --save_path data/train_hints --n_clusters 5",
}
WORDS = ROOT / "checkpoints" / "mini" / "motion"  # a small tokenizer and text encoder
NORM = "--motion_norm 1"  # these scenes move by 0.05 ... 0.4 px/frame at 64 px
# Said after the printed flags, which they override: sizes and lengths, nothing else.
SMALL = {
    "motion": (
        f"{NORM} --fineSize 64 --batchSize 8 --nf 32 --heads 4 --context_dim 96 --text_encoder_path {WORDS}"
        " --spade_hidden 16 --ndf 8 --init default --lr 0.0005 --niter 8 --niter_decay 8 --save_epoch_freq 8"
        " --print_freq 80 --display_freq 800"
    ),
    "direction": (
        f"{NORM} --fineSize 256 --batchSize 8 --nf 8 --spade_hidden 16 --ndf 8 --lr 0.001 --niter 2 --niter_decay 2 "
        "--save_epoch_freq 2 --print_freq 80 --display_freq 800"
    ),
    "stage1": (
        '--fineSize 64 --batchSize 4 --encoder_channels "[16, 16, 17]" --decoder_channels "[16, 16, 3]"'
        ' --decoder_resample "[none, none, none]" --init identity --ndf 8 --lr 0.002 --beta1 0.9 --niter 20'
        " --niter_decay 20 --save_epoch_freq 20 --print_freq 80 --display_freq 400"
    ),
    "predict": f"{NORM} --fineSize 64 --which_epoch 16 --text_encoder_path {WORDS}",
}
SMALL["stage2"] = f"{SMALL['stage1']} --niter 30 --motion_basepath results/motion/train_16/images {NORM}"
VALIDATE = {  # the same networks on scenes they never saw
    "motion": (
        "test_motion.py --name motion --dataroot data/validation --use_seg_mask --mask_path data/validation_masks "
        f"--captions_file data/validation_captions.txt --text_encoder_path {WORDS}"
    ),
    "direction": (
        "test_motion.py --name direction --dataroot data/validation --use_seg_mask --mask_path data/validation_masks "
        "--hints_path data/validation_hints"
    ),
    "hints": (
        "dataset/generate_flow_hint.py --dataroot data/validation --save_path data/validation_hints --n_clusters 5"
    ),
}
FRAMES = (5, 15, 30, 45, 55)  # compared with the true ones


class Kitchen:
    """Runs commands in the working folder, each with its own log there."""

    def __init__(self, work: Path) -> None:
        self.work, self.seconds = Path(work), {}
        self.work.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, command: str) -> None:
        """One command, without its "python"."""
        script, *flags = shlex.split(command)
        words = [
            sys.executable,
            *(["-m", "mini.procedural"] if script == "mini.procedural" else [str(ROOT / script)]),
            *flags,
        ]
        started = time.monotonic()
        with open(self.work / f"{name}.log", "w") as log:
            code = subprocess.run(
                words,
                cwd=self.work,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            ).returncode
        self.seconds[name] = round(time.monotonic() - started)
        print(f"{name}: {self.seconds[name]} s", flush=True)
        if code:
            raise ValueError(
                f"{name} ended with exit code {code}; see {self.work / name}.log, which ends: "
                f"{(self.work / f'{name}.log').read_text().strip().splitlines()[-1:]}"
            )

    def in_turn(self, *steps: tuple[str, str]) -> None:
        """Several, one after the other."""
        for name, command in steps:
            self.run(name, command)


def render(kitchen: Kitchen, scenes: int, clips: int) -> None:
    """The training and validation sets; `clips` of the scenes have frames."""
    for split, count, videos in (("train", scenes, clips), ("validation", max(16, clips // 2), max(16, clips // 2))):
        line = f"mini.procedural --output data/{split} --split {split} --size 64 --styles 0 --workers 2"
        kitchen.in_turn(
            (f"render_{split}_clips", f"{line} --count {videos} --video"),
            (f"render_{split}", f"{line} --count {count}"),
        )


def train_all(kitchen: Kitchen) -> None:
    """README's commands, two lanes side by side, then stage 2."""

    def command(name):
        return f"{README[name]} {SMALL.get(name, '')}"

    lanes = (
        [("motion", command("motion")), ("predict", command("predict")), ("validate_motion", VALIDATE["motion"])],
        [
            ("hints", command("hints")),
            ("stage1", command("stage1")),
            ("direction", command("direction")),
            ("validation_hints", VALIDATE["hints"]),
            ("validate_direction", VALIDATE["direction"]),
        ],
    )
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda lane: kitchen.in_turn(*lane), lanes))
    kitchen.run("stage2", command("stage2"))


# ------------------------------------------------------------------ what came out


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def flow_errors(work: Path) -> dict[str, float]:
    """Endpoint errors inside the masks on the validation set, px/frame: both networks, the mean flow of the training
    set, rest.
    """
    train, validation = work / "data" / "train", work / "data" / "validation"
    flows = [read_motion(train / f"{item}_motion.pth") for item in ids(train)]
    typical = torch.stack([flow[:, motion_mask(flow)[0]].mean(1) for flow in flows if motion_mask(flow).any()]).mean(0)
    errors = {"motion": [], "direction": [], "mean flow": [], "rest": []}
    for item in ids(validation):
        truth = read_motion(validation / f"{item}_motion.pth")
        where = motion_mask(truth)
        guesses = {"mean flow": typical[:, None, None].expand_as(truth), "rest": torch.zeros_like(truth)}
        guesses |= {
            name: read_flow(work / "results" / name / "test_latest" / "images" / f"{item}_flow.npz")
            for name in ("motion", "direction")
        }
        for name, guess in guesses.items():
            errors[name].append(endpoint_error(guess, truth, where))
    return {name: round(mean(values), 4) for name, values in errors.items()}


def psnr(image: torch.Tensor, target: torch.Tensor, where: torch.Tensor) -> float:
    """Of the pixels where [1,H,W] is True, in dB."""
    return (-10 * (image - target).square()[:, where[0]].mean().clamp(min=1e-10).log10()).item()


def frame_quality(work: Path) -> tuple[dict[str, float], Any]:
    """Mean PSNR in dB inside the masks of a clip made from the first frame and the true flow: after each stage, and of
    that frame, copied.
    """
    validation, found = work / "data" / "validation", {"stage1": [], "stage2": [], "first frame": []}
    last = json.loads((work / "checkpoints" / "video" / "latest_net_G.json").read_text())
    for name, which in (("stage1", "40"), ("stage2", "latest")):
        model = load_video_model(work / "checkpoints" / "video", VideoOptions(), make_runtime("cpu", "fp32"), which)
        for item in ids(validation):
            frames = validation / f"{item}_gt" / "images"
            image, flow = read_image(frames / "0.png"), read_motion(validation / f"{item}_motion.pth")
            where, truth = motion_mask(flow), {n: read_image(frames / f"{n}.png") for n in FRAMES}
            made = {n: frame for n, frame in enumerate(model.frames(image, flow, 60)) if n in FRAMES}
            found[name] += [psnr(made[n], truth[n], where) for n in FRAMES]
            if name == "stage1":
                found["first frame"] += [psnr(image, truth[n], where) for n in FRAMES]
    return {name: round(mean(values), 2) for name, values in found.items()}, last["trained"]


def main() -> int | None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.train_check", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", default="/tmp/train_check", help="folder for data and results; what is there is used again"
    )
    parser.add_argument("--scenes", type=number(least=1, most=1_000_000), default=200, help="scenes to train with")
    parser.add_argument("--clips", type=number(least=1, most=100_000), default=32, help="of these, scenes with frames")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/train_check.json")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    started, kitchen = time.monotonic(), Kitchen(flags.work)
    render(kitchen, flags.scenes, flags.clips)
    train_all(kitchen)
    errors, (quality, trained) = flow_errors(kitchen.work), frame_quality(kitchen.work)
    won = {
        "motion": errors["motion"] < errors["mean flow"],
        "direction": errors["direction"] < errors["mean flow"],
        "stage1": quality["stage1"] > quality["first frame"],
        "stage2": quality["stage2"] > quality["first frame"],
    }
    keep(
        "train_check",
        {
            "epe_px_per_frame": errors,
            "masked_psnr_db": quality,
            "better_than_baseline": won,
            "video_trained": trained,
            "seconds": {**kitchen.seconds, "all": round(time.monotonic() - started)},
        },
        None if flags.no_keep else FOLDER,
    )
    return 0 if all(won.values()) else 1


if __name__ == "__main__":
    run_main(main)
