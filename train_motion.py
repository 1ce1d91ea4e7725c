"""Train the network that predicts how the masked part of a picture moves.

    python train_motion.py --config configs/train_motion_mini.yaml [--batchSize 8 ...]
    python train_motion.py --name motion --gpu_ids 0,1,2,3 --batchSize 16 --use_epe_loss --captions_file ...

Several GPUs: --gpu_ids 0,1,2,3, or torchrun / accelerate launch, also over several machines. Results, pictures and
curves: <checkpoints_dir>/<name>; to look at them: tensorboard --logdir <checkpoints_dir>/<name>/logs
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from text2cinemagraph.options.cli import read_command, run_main
from text2cinemagraph.options.runtime import say
from text2cinemagraph.options.train import MotionOptions, MotionTrain


def main() -> int | None:
    options = read_command(MotionTrain, __doc__)

    import torch
    from text2cinemagraph.data.datasets import MotionDataset, typical_speed
    from text2cinemagraph.models.motion import load_text_encoder
    from text2cinemagraph.models.networks import build_motion
    from text2cinemagraph.models.training.commands import broken_items, card_of, train
    from text2cinemagraph.models.training.pix2pix import MotionTask, Pix2Pix, start_discriminator, start_weights
    from text2cinemagraph.models.training.processes import own_gpu, spread
    from text2cinemagraph.options.runtime import first_process, runtime_of

    code = spread(options.gpu_ids, sys.argv)
    if code is not None:
        return code
    runtime = runtime_of(own_gpu(options.gpu_ids), options.seed, options.threads)
    dataset = MotionDataset(
        options.dataroot,
        options.fineSize,
        mask_folder(options),
        options.captions_file if options.takes_text else "",
        use_hint=options.use_hint,
        hints_path=options.hints_path,
        flip=not options.no_flip,
        seed=options.seed,
        strict=options.strict,
        as_published=options.as_published,
        most=options.max_dataset_size,
        report=broken_items(options),
    )
    torch.manual_seed(options.seed)
    net = start_weights(build_motion(options), options.init)
    if options.takes_text:
        start_attention(net, options)
    text = load_text_encoder(options.text_encoder_path, runtime) if options.takes_text else (None, None)
    model = Pix2Pix(
        MotionTask(net, options, *text),
        start_discriminator(options),
        use_epe=options.use_epe_loss,
        use_l1=options.use_l1_loss,
        weight=options.lambda_feat,
        match_features=not options.no_ganFeat_loss,
        least_squares=not options.no_lsgan,
    )
    card = card_of(options, MotionOptions, dataset, sys.argv)
    if options.takes_text and options.ship_text_encoder:
        if first_process():
            ship_text_encoder(options)
        card["options"]["text_encoder_path"] = "."
    if options.takes_hint:  # as published: unit vectors, which the network takes for motion_norm
        card["options"]["hint_speed"] = (
            options.motion_norm if options.as_published else round(typical_speed(dataset), 3)
        )
    train(model, dataset, card, options=options, runtime=runtime)
    return None


def mask_folder(options: MotionTrain) -> str:
    """The folder of masks to train with; "" = masks from the true flow. The original ignores --mask_path without
    --use_seg_mask.
    """
    if options.use_seg_mask or not options.mask_path:
        return options.mask_path
    if options.as_published:
        say(f"masks come from the true flow, as published; --use_seg_mask takes those of {options.mask_path}")
        return ""
    if not Path(options.mask_path).is_dir():
        say(f"no folder {options.mask_path}: masks come from the true flow (demo/gen_mask.py makes such a folder)")
        return ""
    say(f"masks of {options.mask_path}, as at test time (--as_published takes them from the true flow)")
    return options.mask_path


# ------------------------------------------------------------------ attention blocks from Stable Diffusion

ORIGINAL = Path("img2img/models/ldm/stable-diffusion-v1/sd-v1-4-full-ema.ckpt")  # where the original has it
UNET_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


def start_attention(net: Any, options: MotionTrain) -> None:
    """Give the attention blocks Stable Diffusion's weights and freeze those that the original freezes; a continued
    training has them.
    """
    from text2cinemagraph.data.checkpoint import read_tensors

    source = attention_source(options)
    if options.continue_train and (source or options.as_published):
        for name in net.frozen_parameters():
            net.get_parameter(name).requires_grad_(False)
    elif source and not options.continue_train:
        net.import_attention(read_tensors(source))
        say(f"attention blocks start with {source}")
    elif not options.continue_train:
        say("attention blocks start at random (as published they start with Stable Diffusion 1.4: --attention_weights)")


def attention_source(options: MotionTrain) -> Path | None:
    """The file with the U-Net's weights, or None to start at random."""
    if options.attention_weights != "auto":
        return unet_file(options.attention_weights) if options.attention_weights else None
    choices = (Path(options.text_encoder_path) / "unet", options.text_encoder_path, ORIGINAL)
    fits = (options.width, options.context_dim) == (320, 768)  # those of Stable Diffusion
    source = next((path for path in map(known_unet, choices) if path), None) if fits else None
    if fits and source is None and options.as_published and not options.continue_train:
        raise FileNotFoundError(
            f"as published, the attention blocks start with Stable Diffusion 1.4, but neither "
            f"{options.text_encoder_path}/unet nor {ORIGINAL} is there; set --attention_weights"
        )
    return source


def unet_file(path: str | Path) -> Path:
    """A diffusers folder (the whole model's or its unet's) or a file -> the file that holds the U-Net."""
    found = known_unet(Path(path) / "unet") or known_unet(path)
    if found is None:
        raise FileNotFoundError(
            f"no Stable Diffusion U-Net at {path}; expected a diffusers folder (with unet/), a .safetensors or a .ckpt"
        )
    return found


def known_unet(path: str | Path) -> Path | None:
    """The file with weights that a path is, or that lies in a folder; None if there is none."""
    path = Path(path)
    return path if path.is_file() else next((path / name for name in UNET_FILES if (path / name).is_file()), None)


def ship_text_encoder(options: MotionTrain) -> None:
    """Copy tokenizer and text encoder beside the weights, unless they are there already."""
    from text2cinemagraph.models.training.commands import folder_of

    if Path(options.text_encoder_path).resolve() == folder_of(options).resolve():
        return
    for part in ("tokenizer", "text_encoder"):
        shutil.copytree(Path(options.text_encoder_path) / part, folder_of(options) / part, dirs_exist_ok=True)


if __name__ == "__main__":
    run_main(main)
