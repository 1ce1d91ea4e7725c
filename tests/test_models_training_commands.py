"""The original's training commands, run as printed with small networks; what they leave behind; data that is broken."""

import io
import json
import os
import pickle
import re
import shlex
import shutil
import sys
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import torch
from PIL import Image
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.data.flow import write_motion
from text2cinemagraph.data.media import read_image, write_image, write_mask
from text2cinemagraph.mini.procedural import Job, generate
from text2cinemagraph.models.networks import DIFFUSION_BLOCKS, build_motion
from text2cinemagraph.options.cli import read_command
from text2cinemagraph.options.compat import SCRIPTS
from text2cinemagraph.options.train import MotionOptions, MotionTrain, VideoTrain

from tests.published_files import save_full_ema
from tests.test_scripts_folder import ROOT, script

WORDS = ROOT / "checkpoints" / "mini" / "motion"  # a small tokenizer and text encoder
COMMON = "--gpu_ids 0,1,2,3 --no_instance --label_nc 0 "
MOTION = (
    COMMON + "--input_nc 4 --output_nc 2 --fineSize 512 --batchSize 16 --norm instance --dataset_name motion "
    "--motion_norm 64.0 --netG spadexattnunetsd --dataroot data/train --no_vgg_loss --use_epe_loss "
    "--use_prompts --use_mask --mask_path data/masks --captions_file ./captions.txt"
)
DIRECTION = (
    COMMON
    + "--input_nc 6 --output_nc 2 --fineSize 512 --batchSize 16 --norm sync:spectral_instance --dataset_name motion "
    "--motion_norm 64.0 --netG spadeunet --dataroot data/train --no_vgg_loss --use_epe_loss --use_mask "
    "--mask_path data/masks --use_hint --hints_path data/hints"
)
VIDEO = (
    COMMON
    + "--input_nc 8 --output_nc 3 --fineSize 512 --batchSize 16 --norm_G sync:spectral_instance --dataset_name frame "
    "--netG spadeunet4softmaxsplating --dataroot data/train --use_l1_loss --frames_basepath data/train "
)
PREDICT = (
    "--phase train --no_instance --label_nc 0 --input_nc 4 --output_nc 2 --fineSize 512 --batchSize 1 "
    "--netG spadexattnunetsd --dataroot data/train --use_mask --use_prompts --captions_file ./captions.txt"
)
SMALL = (
    "--fineSize 64 --batchSize 2 --niter 1 --niter_decay 0 --ndf 4 --n_layers_D 2 --save_epoch_freq 1 --print_freq 2 "
    "--max_dataset_size 2 "
)
SMALL_MOTION = f"{SMALL} --nf 32 --heads 2 --context_dim 96 --spade_hidden 4 --text_encoder_path {WORDS} "
SMALL_VIDEO = f'{SMALL} --encoder_channels "[8, 8, 9]" --decoder_channels "[8, 3]" --decoder_resample "[none, none]" '


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four items of 64x80 px with frames, masks, hints and captions; the working directory is there."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    root = Path("data/train")
    for k in range(4):
        item, flow = f"{k:05}", torch.zeros(2, 64, 80)
        flow[0, 32:] = 1 + k / 4
        write_image(root / f"{item}_input.jpg", torch.rand(3, 64, 80))
        write_motion(root / f"{item}_motion.pth", flow)
        write_mask(Path("data/masks") / f"{item}_mask.png", flow[:1] != 0)
        (Path("data/hints") / item).mkdir(parents=True)
        for n in range(1, 6):
            torch.save(flow.double(), Path("data/hints") / item / f"{n}_blend.pth")
        frames = root / f"{item}_gt" / "images"
        for n in range(60):
            write_image(frames / f"{n}.png", torch.full((3, 64, 80), n / 60))
    Path("captions.txt").write_text("".join(f"dataset/train/{k:05}:a lake, still water: mountain\n" for k in range(4)))
    return tmp_path


def call(monkeypatch, name, line):
    """Run a script's main() with a command line."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(line)])
    return script(name).main()


def trained(name):
    """The card of a training's last weights."""
    return json.loads(Path("checkpoints", name, "latest_net_G.json").read_text())


def test_every_training_command_as_printed(folder, monkeypatch, capsys):
    """Flow, predicted flow for stage 2, frames in two stages; then what a user of the original looks for."""
    call(monkeypatch, "train_motion", f"--name motion {MOTION} {SMALL_MOTION}")
    said = capsys.readouterr().out
    assert "nothing follows from it here: --no_instance, --label_nc, --dataset_name" in said.replace("\n", " ")
    assert (
        "training on the CPU" in said
        and "masks of data/masks, as at test time" in said
        and "attention blocks start at random" in said
    )
    call(monkeypatch, "train_video", f"--name video {VIDEO} --tr_stage stage1 {SMALL_VIDEO}")
    assert "no VGG loss: set --vgg_weights" in capsys.readouterr().out
    call(
        monkeypatch, "test_motion", f"--name motion {PREDICT} --which_epoch 1 --gpu_ids -1 --text_encoder_path {WORDS}"
    )
    flows = Path("results/motion/train_1/images")
    assert torch.load(flows / "00003_Motion.pt", weights_only=True).shape == (1, 2, 64, 80)
    call(
        monkeypatch,
        "train_video",
        f"--name video --continue_train {VIDEO} --tr_stage stage2 --motion_basepath {flows} --motion_norm 64.0 "
        f"{SMALL_VIDEO} --niter 2",
    )
    assert trained("video")["trained"]["steps"] == 2 and trained("motion")["options"]["nf"] == 32
    look_around(Path("checkpoints"))


def test_wandb_where_it_is_missing_is_told_before_anything_is_trained(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="--wandb needs the package: pip install wandb"):
        call(monkeypatch, "train_video", f"--name video {VIDEO} --tr_stage stage1 {SMALL_VIDEO} --wandb")
    assert not list(Path("checkpoints").rglob("*.safetensors"))


def look_around(root):
    """The files of a training, as the original's users know them, and TensorBoard's."""
    names = {path.name for path in (root / "video").iterdir()}
    assert names >= {
        "iter.txt",
        "opt.txt",
        "loss_log.txt",
        "latest_net_G.safetensors",
        "1_net_G.safetensors",
        "1_net_D.safetensors",
    }
    assert (root / "video" / "iter.txt").read_text() == "3\n0\n"
    options = (root / "motion" / "opt.txt").read_text().splitlines()
    assert (
        options[0] == "------------ Options -------------"
        and options[-1].startswith("-------------- End")
        and "niter: 1" in options
    )
    labels = {"start_image", "end_image", "generated_image", "real_image", "real_flow"}
    assert pictures(root / "video" / "logs", 64) == labels
    assert pictures(root / "motion" / "logs", 64) == {"input_image", "mask", "real_flow", "synthesized_flow"}


def pictures(logs, side):
    """Names of the pictures that TensorBoard shows of a training; each of its last step is one that can be opened."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs))
    events.Reload()
    for name in events.Tags()["images"]:
        assert Image.open(io.BytesIO(events.Images(name)[-1].encoded_image_string)).size == (side, side)
    assert events.Scalars("loss/G_GAN")[-1].value > 0
    return set(events.Tags()["images"])


def test_the_direction_command_as_printed_and_as_published(folder, monkeypatch, capsys):
    """As published: masks from the true flow although --mask_path is given; crops without zoom, so large pictures."""
    for path in Path("data/train").glob("*_input.jpg"):
        write_image(path, read_image(path).repeat(1, 4, 4))
    small = SMALL_MOTION.replace("--fineSize 64", "--fineSize 256").replace("--nf 32", "--nf 4")
    call(monkeypatch, "train_motion", f"--name direction {DIRECTION} {small} --as_published")
    assert "masks come from the true flow, as published" in capsys.readouterr().out
    log = Path("checkpoints/direction/loss_log.txt").read_text()
    assert re.match(
        r"\(epoch: 1, iters: 2, time: \d+\.\d+\) G_GAN: \d+\.\d+ G_GAN_Feat: \d+\.\d+ G_EPE: \d+\.\d+ "
        r"D_real: \d+\.\d+ D_fake:",
        log,
    )
    assert "hint_flow" in pictures(Path("checkpoints/direction/logs"), 256)


def test_flags_of_the_original_that_say_nothing(monkeypatch, capsys):
    idle = SCRIPTS["train_video"]
    flags = " ".join(f"--{name} {1 if idle[name].only is None else idle[name].only}" for name in idle)
    monkeypatch.setattr(sys, "argv", ["train_video.py", *shlex.split(f"--name x {flags} --tf_log --verbose --no_flip")])
    assert read_command(VideoTrain, "").name == "x"
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and all(name in said for name in idle)
    monkeypatch.setattr(sys, "argv", ["train_video.py", "--no_tensorboard"])
    with pytest.raises(ValueError, match="unknown argument --no_tensorboard; did you mean --tensorboard"):
        read_command(VideoTrain, "")


@pytest.mark.parametrize("kind", [MotionTrain, VideoTrain])
def test_help_says_what_every_flag_does(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit):
        read_command(kind, "Train.")
    text = " ".join(capsys.readouterr().out.split())
    assert "--batchSize NUMBER of one step, over all GPUs and pieces together (1 to 65536; default: 1)" in text
    assert "--loadSize [VALUE] nothing in this code depends on it" in text
    assert "--tokenizer_path" in text and "--display_freq" in text


def test_tokenizer_path_is_the_text_encoders(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["x", "--captions_file", "c", "--tokenizer_path", "sd", "--text_encoder_path", "sd"]
    )
    assert read_command(MotionTrain, "").text_encoder_path == "sd"


# ------------------------------------------------------------------ attention from Stable Diffusion


def diffusion_unet(form):
    """Write what a small Stable Diffusion's U-Net would hold of ours, all 0.01, in one of the forms.

    Returns the path to give, and the file.
    """
    net = build_motion(MotionOptions(**TEXT))
    source = {}
    for name, value in net.state_dict().items():
        if name.startswith("attn_"):
            block, leaf = name.split(".", 1)
            source[f"{DIFFUSION_BLOCKS[block][form == 'ckpt']}.{leaf}"] = torch.full_like(value, 0.01)
    path = {
        "model folder": "sd/unet/diffusion_pytorch_model.safetensors",
        "unet folder": "sd/diffusion_pytorch_model.safetensors",
        "safetensors": "sd/unet.safetensors",
        "ckpt": "sd/sd-v1-4-full-ema.ckpt",
    }[form]
    Path(path).parent.mkdir(parents=True)
    if form == "ckpt":
        save_full_ema(path, source)
    else:
        save_checkpoint(path, source, {})
    return "sd" if "folder" in form else path, path


TEXT = dict(nf=32, heads=2, context_dim=96, spade_hidden=4)


@pytest.mark.parametrize("form", ["model folder", "unet folder", "safetensors", "ckpt"])
def test_attention_from_every_form_of_stable_diffusion(tmp_path, monkeypatch, capsys, form):
    """A diffusers folder, its unet, a .safetensors and CompVis' .ckpt start and freeze the same attention blocks."""
    monkeypatch.chdir(tmp_path)
    given, path = diffusion_unet(form)
    options = MotionTrain(**TEXT, captions_file="c", attention_weights=given)
    net = build_motion(options)
    script("train_motion").start_attention(net, options)
    assert f"attention blocks start with {path}" in capsys.readouterr().out
    assert all(value.eq(0.01).all() for name, value in net.state_dict().items() if name.startswith("attn_"))
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == set(net.frozen_parameters())


def test_frozen_attention_stays_frozen(folder, monkeypatch):
    """Through training, saving and going on."""
    given, _ = diffusion_unet("ckpt")
    line = (
        f"--name motion {MOTION} {SMALL_MOTION} --attention_weights {given} --gan false --no_html --tensorboard false"
    )
    call(monkeypatch, "train_motion", line)
    call(monkeypatch, "train_motion", f"{line} --continue_train --niter 2")
    assert not Path("checkpoints/motion/logs").exists()
    state = torch.load("checkpoints/motion/train_state.pt", weights_only=True)
    for name, value in state["networks"]["generator"].items():
        frozen = "attn2.to_k" in name or "attn2.to_q" in name
        assert (f"generator.{name}" in state["frozen"]) == frozen and (not frozen or value.eq(0.01).all())
    assert (
        state["networks"]["generator"]["attn_middle_block.proj_in.weight"].ne(0.01).any()
        and state["state"]["steps"] == 2
    )


def test_attention_that_is_not_there(folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no Stable Diffusion U-Net at nowhere"):
        call(monkeypatch, "train_motion", f"--name motion {MOTION} {SMALL_MOTION} --attention_weights nowhere")


# ------------------------------------------------------------------ broken data


class Harm:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_broken_items_are_reported_and_nothing_runs(folder, monkeypatch, capsys):
    """Truncated jpg, hostile pickle, missing frame; gray, transparent and odd-sized pictures are fine."""
    root = Path("data/train")
    shrink = (root / "00000_input.jpg").read_bytes()
    (root / "00000_input.jpg").write_bytes(shrink[: len(shrink) // 2])
    (root / "00001_motion.pth").write_bytes(lz4.frame.compress(pickle.dumps(Harm())))
    for n in range(1, 60):
        (root / "00002_gt" / "images" / f"{n}.png").unlink()
    odd = {
        "00004": np.full((67, 91), 90, np.uint8),
        "00005": np.full((64, 80, 4), 120, np.uint8),
        "00006": np.full((71, 65, 3), 200, np.uint8),
    }
    for item, pixels in odd.items():
        Image.fromarray(pixels).save(root / f"{item}_input.png")
        write_motion(root / f"{item}_motion.pth", torch.ones(2, *pixels.shape[:2]))
    small = SMALL_MOTION.replace("--max_dataset_size 2", "").replace("--batchSize 2", "--batchSize 7")
    flags = MOTION.replace("--mask_path data/masks", "").replace("./captions.txt", "all.txt")
    Path("all.txt").write_text("".join(f"{k:05}:a lake\n" for k in range(7)))
    call(monkeypatch, "train_motion", f"--name motion {flags} {small} --gan false --nThreads 2 --tensorboard false")
    assert "2 items could not be read: 0000" in capsys.readouterr().out and not Path("harmed").exists()
    report = Path("checkpoints/motion/broken_items.txt").read_text()
    assert re.search("00000: .*not a readable image", report) and re.search(
        "00001: .*only a plain numpy array is allowed", report
    )
    assert len(report.splitlines()) == 2
    with pytest.warns(UserWarning, match="item 00002 is skipped"):
        call(
            monkeypatch,
            "train_video",
            f"--name video {VIDEO} {SMALL_VIDEO.replace('--max_dataset_size 2', '')} --niter 2 --gan false --no_html "
            "--tensorboard false",
        )
    report = Path("checkpoints/video/broken_items.txt").read_text()
    assert (
        re.search("00002: .*00002_gt.* holds 1 frames", report) and "00001: " in report and not Path("harmed").exists()
    )
    with pytest.raises(ValueError, match="item 0000.*leave out --strict"):
        call(monkeypatch, "train_motion", f"--name motion {flags} {small} --gan false --strict")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Four small landscapes with frames, in the layout that the shipped configurations expect."""
    root = tmp_path_factory.mktemp("scenes")
    generate([Job(i, root / "train", size=128, video=True) for i in range(4)])
    return root


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("train_*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_trains(scenes, tmp_path, monkeypatch, config):
    monkeypatch.chdir(ROOT)
    kind, train = "video" if "video" in config.stem else "motion", scenes / "train"
    own = (
        f"--stills '[{scenes}/train_styled]'"
        if kind == "video"
        else f"--mask_path {scenes}/train_masks"
        + (f" --captions_file {scenes}/train_metadata.jsonl" if "direction" not in config.stem else "")
    )
    call(
        monkeypatch,
        f"train_{kind}",
        f"--config {config} --name t --checkpoints_dir {tmp_path} --dataroot {train} {own} --minutes 0.01 "
        "--batchSize 4 --threads 1 --gpu_ids -1",
    )
    card = json.loads((tmp_path / "t" / "latest_net_G.json").read_text())
    assert card["trained"]["steps"] >= 1
    if "direction" in config.stem:  # how long a hint made from words should be, measured
        assert 0.01 < card["options"]["hint_speed"] < 5


def test_going_on_with_a_shipped_network_in_its_own_folder(scenes, tmp_path, monkeypatch):
    """Its text encoder lies where it would be copied to."""
    monkeypatch.chdir(ROOT)
    shutil.copytree(ROOT / "checkpoints" / "mini" / "motion", tmp_path / "motion")
    call(
        monkeypatch,
        "train_motion",
        f"--config configs/train_motion_mini.yaml --name motion --checkpoints_dir {tmp_path} --text_encoder_path "
        f"{tmp_path}/motion --dataroot {scenes}/train --mask_path {scenes}/train_masks "
        f"--captions_file {scenes}/train_metadata.jsonl --minutes 0.01 --batchSize 4 --threads 1 --gpu_ids -1",
    )
    assert (tmp_path / "motion" / "text_encoder" / "model.safetensors").is_file()
