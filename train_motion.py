"""Train the network that predicts how the masked part of a picture moves.

    python train_motion.py --config configs/train_motion_mini.yaml [--batchSize 8 ...]
"""

import argparse
import dataclasses
import shlex
import shutil
import sys
from pathlib import Path

from data.checkpoint import read_checkpoint
from data.datasets import MotionDataset
from models.motion import load_text_encoder
from models.networks import build_discriminator, build_motion
from models.pix2pix import MotionTask, Pix2Pix, start_weights
from models.training import Plan, fit
from options.cli import add_flags, load_options, run_main
from options.runtime import make_runtime
from options.train import MotionOptions, MotionTrain


def main():
    options = parse(MotionTrain, __doc__)
    runtime = runtime_of(options)
    dataset = MotionDataset(options.dataroot, options.fineSize, options.mask_path if options.use_seg_mask else "",
                            options.captions_file if options.takes_text else "", options.use_hint, options.hints_path,
                            flip=not options.no_flip, seed=options.seed)
    net = start_weights(build_motion(options), options.init)
    if options.attention_weights:
        net.import_attention(read_checkpoint(options.attention_weights)[0])
    text = load_text_encoder(options.text_encoder_path, runtime) if options.takes_text else (None, None)
    critic = None
    if options.gan:
        critic = build_discriminator(options.input_nc + options.output_nc, options.ndf, options.n_layers_D, options.num_D)
        start_weights(critic, "normal")
    model = Pix2Pix(MotionTask(net, options, *text), critic, options.use_epe_loss, options.use_l1_loss)
    folder = Path(options.checkpoints_dir) / options.name
    card = card_of(options, MotionOptions, dataset)
    if options.takes_text and options.ship_text_encoder:
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(Path(options.text_encoder_path) / part, folder / part, dirs_exist_ok=True)
        card["options"]["text_encoder_path"] = "."
    train(model, dataset, folder, card, options, runtime)


def parse(cls, text):
    """Options of a training script: defaults < --config < flags."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file with options; flags win over it")
    add_flags(parser, cls)
    flags = vars(parser.parse_args())
    config = flags.pop("config")
    return load_options(cls, config, [f"{name}={value}" for name, value in flags.items()])


def runtime_of(options):
    """The first of gpu_ids if this machine has a GPU, else the CPU; float32."""
    first = options.gpu_ids.split(",")[0].strip()
    device = make_runtime("cpu" if first.startswith("-") else "auto", "fp32", options.seed, options.threads).device.type
    return make_runtime(f"cuda:{first}" if device == "cuda" else device, "fp32", options.seed)


def card_of(options, architecture, dataset):
    """What a checkpoint says about itself: the options that build it, and how it was trained."""
    kept = {field.name: getattr(options, field.name) for field in dataclasses.fields(architecture)}
    return {"options": kept, "command": shlex.join(["python", *sys.argv]), "dataset": {"root": options.dataroot, "items": len(dataset)},
            "train_options": dataclasses.asdict(options)}


def train(model, dataset, folder, card, options, runtime):
    """fit() with the options' numbers; says where the result lies."""
    progress = fit(model, dataset, Plan(options.lr, options.niter, options.niter_decay, options.minutes), folder, card,
                   options.batchSize, options.beta1, runtime.device, options.seed, options.nThreads, options.continue_train,
                   options.print_freq, options.save_latest_freq, options.save_epoch_freq, options.half, options.bf16)
    print(f"{progress.images} images in {progress.elapsed / 60:.1f} minutes; weights: {folder}/latest_net_G.safetensors")


if __name__ == "__main__":
    run_main(main)
