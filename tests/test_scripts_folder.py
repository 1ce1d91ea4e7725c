"""test_motion.py, test_video.py and the training scripts: published command lines, and one small run of each over a
folder.
"""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.data.flow import read_flow, write_motion
from text2cinemagraph.data.media import read_image, write_image
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.models.networks import build_motion, build_video
from text2cinemagraph.options.cli import read_command
from text2cinemagraph.options.train import MotionApply, MotionOptions, MotionTrain, VideoApply, VideoOptions, VideoTrain

ROOT = Path(__file__).resolve().parents[1]
MOTION = dict(netG="spadeunet", input_nc=6, nf=4, spade_hidden=4, fineSize=256, motion_norm=4.0)
VIDEO = dict(encoder_channels=[8, 8, 13], decoder_channels=[12, 3], decoder_resample=["none", "none"], norm_G="batch")

# The original README's commands, with our folders' names left as they are.
PUBLISHED = {
    MotionTrain: [
        (
            "--name a --gpu_ids 0,1,2,3 --no_instance --label_nc 0 --input_nc 4 --output_nc 2 --fineSize 512"
            " --batchSize 16 --norm instance --dataset_name motion --motion_norm 64.0 --netG spadexattnunetsd"
            " --dataroot d/train --no_vgg_loss --use_epe_loss --use_prompts --use_mask --mask_path d/masks"
            " --captions_file c.txt"
        ),
        (
            "--name b --gpu_ids 0,1,2,3 --no_instance --label_nc 0 --input_nc 6 --output_nc 2 --fineSize 512"
            " --batchSize 16 --norm sync:spectral_instance --dataset_name motion --motion_norm 64.0 --netG spadeunet"
            " --dataroot d/train --no_vgg_loss --use_epe_loss --use_mask --mask_path d/masks --use_hint --hints_path"
            " d/hints"
        ),
    ],
    VideoTrain: [
        (
            "--name c --gpu_ids 0,1,2,3 --no_instance --label_nc 0 --input_nc 8 --output_nc 3 --fineSize 512"
            " --batchSize 16 --norm_G sync:spectral_instance --dataset_name frame --netG spadeunet4softmaxsplating"
            " --dataroot d/train --use_l1_loss --tr_stage stage1 --frames_basepath d/train"
        ),
        (
            "--name c --continue_train --niter 150 --gpu_ids 0,1,2,3 --no_instance --label_nc 0 --input_nc 8"
            " --output_nc 3 --fineSize 512 --batchSize 16 --norm_G sync:spectral_instance --dataset_name frame --netG"
            " spadeunet4softmaxsplating --dataroot d/train --use_l1_loss --tr_stage stage2 --frames_basepath d/train"
            " --motion_basepath r/images --motion_norm 64.0"
        ),
    ],
    MotionApply: [
        (
            "--name a --phase train --no_instance --label_nc 0 --input_nc 4 --output_nc 2 --fineSize 512 --batchSize 1"
            " --which_epoch 200 --netG spadexattnunetsd --dataroot d/train --use_mask --use_prompts --captions_file"
            " c.txt"
        ),
        (
            "--name a --no_instance --label_nc 0 --input_nc 4 --output_nc 2 --fineSize 512 --batchSize 1 --netG"
            " spadexattnunetsd --dataset_name motion --dataroot d/validation --use_mask --use_seg_mask --use_prompts"
            " --mask_path d/masks --captions_file c.txt"
        ),
    ],
    VideoApply: [
        "--name c --no_instance --label_nc 0 --input_nc 8 --output_nc 3 --fineSize 512 --batchSize 1 --dataset_name"
        " frame --netG spadeunet4softmaxsplating --dataroot d/validation --motion_basepath r/images --speed 1.0"
    ],
}


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(monkeypatch, name, *flags):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, flags), "--gpu_ids", "-1"])
    script(name).main()


@pytest.mark.parametrize("kind, line", [(kind, line) for kind, lines in PUBLISHED.items() for line in lines])
def test_published_commands_are_understood(monkeypatch, kind, line):
    words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", ["script.py", *words])
    options = read_command(kind, "")
    for flag, value in zip(words, words[1:]):
        if flag.startswith("--") and not value.startswith("--") and flag[2:] not in kind.IDLE:
            assert str(getattr(options, flag[2:])) == value


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("train_*.yaml")), ids=lambda path: path.name)
def test_every_training_configuration_loads(monkeypatch, path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--lr", "0.5"])
    options = read_command(VideoTrain if "video" in path.name else MotionTrain, "")
    assert options.lr == 0.5 and options.name.startswith("mini/")


@pytest.fixture
def folder(tmp_path):
    """Two pictures with their true flow, and a small untrained network of either kind."""
    torch.manual_seed(0)
    for item in ("00000", "00001"):
        write_image(tmp_path / "data" / f"{item}_input.jpg", torch.rand(3, 64, 80))
        write_motion(
            tmp_path / "data" / f"{item}_motion.pth", torch.cat([torch.zeros(2, 32, 80), torch.ones(2, 32, 80)], 1)
        )
    for name, net, options in (
        ("m", build_motion(MotionOptions(**MOTION)), MOTION),
        ("v", build_video(VideoOptions(**VIDEO)), VIDEO),
    ):
        for which in ("latest", "25"):
            save_checkpoint(tmp_path / name / f"{which}_net_G.safetensors", net.state_dict(), {"options": options})
    return tmp_path


def test_pictures_to_flow_to_clips(folder, monkeypatch, capsys):
    shared = (
        "--checkpoints_dir",
        folder,
        "--dataroot",
        folder / "data",
        "--results_dir",
        folder / "results",
        "--which_epoch",
        25,
    )
    call(
        monkeypatch,
        "test_motion",
        "--name",
        "m",
        "--prompt",
        "a river in left to right direction",
        "--hint_speed",
        4,
        *shared,
    )
    images = folder / "results" / "m" / "test_25" / "images"
    assert "px/frame; 1.414 if nothing moved (2 pictures)" in capsys.readouterr().out
    flow = read_flow(images / "00001_flow.npz")
    assert (
        flow.shape == (2, 64, 80) and not flow[:, :32].any() and flow[:, 32:].any()
    )  # masked by where the truth moves
    assert torch.load(images / "00001_Motion.pt", weights_only=True).shape == (1, 2, 64, 80)
    torch.testing.assert_close(read_flow(images / "00001_Motion.pt") * 64, flow, atol=2e-3, rtol=0)
    for name in ("input_image", "mask", "synthesized_flow_masked", "real_flow", "hint"):
        assert read_image(images / f"00000_input_{name}.jpg").shape == (3, 64, 80)

    call(
        monkeypatch, "test_video", "--name", "v", "--motion_basepath", images, "--n_frames", 4, "--how_many", 1, *shared
    )
    clips = sorted((folder / "results" / "v" / "test_25" / "images").iterdir())
    assert [clip.name for clip in clips] == ["00000_video.mp4"]
    assert [frame.shape for frame in read_video(clips[0])] == [(64, 80, 3)] * 4


def test_batches_give_what_single_pictures_give(folder, monkeypatch):
    """Three pictures, two of one size: --batchSize 3 and 1 differ by rounding alone."""
    write_image(folder / "data" / "00002_input.jpg", torch.rand(3, 64, 64))
    write_motion(folder / "data" / "00002_motion.pth", torch.ones(2, 64, 64))
    words = (
        "--name",
        "m",
        "--prompt",
        "a river in upwards direction",
        "--checkpoints_dir",
        folder,
        "--dataroot",
        folder / "data",
    )
    for size in (1, 3):
        call(monkeypatch, "test_motion", *words, "--batchSize", size, "--results_dir", folder / str(size))
    for item in ("00000", "00001", "00002"):
        one, three = (
            read_flow(folder / str(size) / "m" / "test_latest" / "images" / f"{item}_flow.npz") for size in (1, 3)
        )
        torch.testing.assert_close(one, three, atol=1e-3, rtol=1e-3)
        assert one.abs().max() > 0.01
    with pytest.raises(ValueError, match="batchSize=0"):
        call(monkeypatch, "test_motion", *words, "--batchSize", 0)


def test_what_is_missing_is_said(folder, monkeypatch):
    shared = ("--checkpoints_dir", folder, "--dataroot", folder / "data", "--results_dir", folder / "results")
    with pytest.raises(ValueError, match="no direction for 00000"):
        call(monkeypatch, "test_motion", "--name", "m", "--prompt", "a river", *shared)
    with pytest.raises(FileNotFoundError, match="latest, 25|25, latest"):
        call(monkeypatch, "test_motion", "--name", "m", *shared, "--which_epoch", 7)
    (folder / "data" / "00000_motion.pth").unlink()
    with pytest.raises(ValueError, match="--use_seg_mask"):
        call(monkeypatch, "test_motion", "--name", "m", *shared)


def test_a_training_from_the_command_line(folder, monkeypatch, capsys):
    flags = [
        "--dataroot",
        folder / "data",
        "--checkpoints_dir",
        folder,
        "--name",
        "new/m",
        "--netG",
        "spadeunet",
        "--nf",
        4,
        "--spade_hidden",
        4,
        "--fineSize",
        256,
        "--batchSize",
        2,
        "--gan",
        "false",
        "--use_epe_loss",
        "--niter",
        1,
        "--niter_decay",
        0,
    ]
    call(monkeypatch, "train_motion", *flags)
    card = json.loads((folder / "new" / "m" / "latest_net_G.json").read_text())
    assert "nf: 4\n" in (folder / "new" / "m" / "opt.txt").read_text()
    assert (folder / "new" / "m" / "iter.txt").read_text() == "2\n0\n"
    assert (
        card["options"]["nf"] == 4
        and card["trained"]["steps"] == 1
        and card["command"].startswith("python train_motion.py --data")
    )
    call(monkeypatch, "train_motion", *flags[:-3], 2, *flags[-2:], "--continue_train")
    assert json.loads((folder / "new" / "m" / "latest_net_G.json").read_text())["trained"]["steps"] == 2
