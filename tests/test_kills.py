"""Long work killed twenty times at random moments: what it makes at last is what an undisturbed run makes."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.data.flow import write_flow, write_motion
from text2cinemagraph.data.media import VideoWriter, write_image
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.models.networks import build_video
from text2cinemagraph.options.train import VideoOptions

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
SMALL = (
    "--gpu_ids -1 --input_nc 8 --output_nc 3 --fineSize 64 --batchSize 2 --netG spadeunet4softmaxsplating "
    "--norm_G batch --dataroot data/train --frames_basepath data/train --use_l1_loss --niter 8 --niter_decay 0 --ndf 4 "
    "--n_layers_D 2 --save_epoch_freq 1 --print_freq 2"
)
NETWORK = '--encoder_channels "[8, 8, 9]" --decoder_channels "[8, 3]" --decoder_resample "[none, none]"'
FLOW = (
    "--gpu_ids -1 --input_nc 6 --output_nc 2 --fineSize 256 --batchSize 2 --netG spadeunet --norm instance --nf 4 "
    "--spade_hidden 4 --ndf 4 --n_layers_D 2 --dataroot data/train --motion_norm 64.0 --use_epe_loss --use_hint "
    "--no_vgg_loss --niter 8 --niter_decay 0 --save_epoch_freq 1 --print_freq 2"
)
QUICK = (
    "twin_extraction.ddim_steps=3 twin_generation.feature_injection_threshold=2 video.n_frames=4 "
    "attn_mask.fallback=true runtime.threads=1"
)
# name: the command, what is compared, what is added once there is something to go on from.
COMMANDS = {
    "gallery": (f"-m text2cinemagraph.demo.gallery --prompts prompts.txt --output out {QUICK}", "out/*/*.[mp]*", ""),
    "gen_mask": (
        f"{ROOT}/demo/gen_mask.py --input pictures --output masks --vocab 'sea; sky' "
        f"--checkpoint {ROOT}/checkpoints/mini/segmenter",
        "masks/*.png",
        "",
    ),
    "test_video": (
        f"{ROOT}/test_video.py --name v --n_frames 12 --dataroot data/test --gpu_ids -1",
        "results/v/test_latest/images/*.mp4",
        "",
    ),
    "train_video": (
        f"{ROOT}/train_video.py --name video --tr_stage stage1 {SMALL} {NETWORK}",
        "checkpoints/video/latest_net_G.safetensors",
        "--continue_train",
    ),
    "train_motion": (
        f"{ROOT}/train_motion.py --name flow {FLOW}",
        "checkpoints/flow/latest_net_G.safetensors",
        "--continue_train",
    ),
    "build_from_videos": (
        f"{ROOT}/dataset/build_from_videos.py --videos videos --output built --size 64",
        "built/*/*_motion.pth",
        "",
    ),
}


def prepare(folder):
    """Everything that the commands read."""
    torch.manual_seed(0)
    (folder / "prompts.txt").write_text("a river in the style of an oil painting\na calm lake\n")
    for name in ("configs", "dataset"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "mini").symlink_to(ROOT / "checkpoints" / "mini")
    for n in range(24):
        scene = Scene(n, "sea", "day", size=96)
        write_image(folder / "pictures" / f"{n:02}.png", torch.from_numpy(scene.image.copy()).permute(2, 0, 1))
    for split, count in (("train", 4), ("test", 8)):
        root = folder / "data" / split
        for n in range(count):
            flow = torch.zeros(2, 256, 256)
            flow[0, 128:] = 1 + n / 4
            write_image(root / f"{n:05}_input.jpg", torch.rand(3, 256, 256))
            write_motion(root / f"{n:05}_motion.pth", flow)
            write_flow(root / f"{n:05}_flow.npz", flow)
            for frame in range(60 if split == "train" else 0):
                write_image(root / f"{n:05}_gt" / "images" / f"{frame}.png", torch.full((3, 64, 64), frame / 60))
    options = dict(encoder_channels=[8, 8, 13], decoder_channels=[12, 3], decoder_resample=["none"] * 2, norm_G="batch")
    card = {"network": "netG_video", "options": {**options, "fineSize": 256}}
    network = build_video(VideoOptions(**options))
    save_checkpoint(folder / "checkpoints" / "v" / "latest_net_G.safetensors", network.state_dict(), card)
    (folder / "videos").mkdir()
    for n in range(2):
        with VideoWriter(folder / "videos" / f"{n}.mp4") as video:
            for frame in Scene(n, "river", "day", size=96).video():
                video.write(np.ascontiguousarray(frame))


def start(folder, line):
    """The command in that folder, as a process that may be killed with all that it starts."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    return subprocess.Popen(
        [sys.executable, *shlex.split(line)],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(folder, line):
    """Seconds that the undisturbed command takes."""
    began, process = time.monotonic(), start(folder, line)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said[-2000:]
    return time.monotonic() - began


def made(folder, pattern):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern)}
    assert found
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("T2C_SLOW"), reason="two minutes each; set T2C_SLOW=1")
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_again_and_again(name, tmp_path):
    line, pattern, go_on = COMMANDS[name]
    whole, killed, draw = tmp_path / "whole", tmp_path / "killed", random.Random(name)
    for folder in (whole, killed):
        folder.mkdir()
        prepare(folder)
    seconds = finish(whole, line)
    idle = finish(whole, f"{line} {go_on}")  # nothing is left to do: what starting takes
    cut = 0
    for _ in range(KILLS):
        begun = go_on and list(killed.glob(str(Path(pattern).parent / "train_state*")))
        process = start(killed, f"{line} {go_on if begun else ''}")
        try:
            process.communicate(timeout=idle * draw.uniform(0.6, 1) + draw.uniform(0, max(seconds - idle, 1) / 4))
        except subprocess.TimeoutExpired:
            cut += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert cut > KILLS / 4
    finish(killed, f"{line} {go_on if begun else ''}")
    assert made(killed, pattern) == made(whole, pattern)
    assert not [path for path in killed.rglob("*.part*") if path.is_file() and "checkpoints/mini" not in str(path)]
