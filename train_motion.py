"""Train the network that predicts how the masked part of a picture moves.

    python train_motion.py --config configs/train_motion_mini.yaml [--batchSize 8 ...]
"""

import shutil
import sys
from pathlib import Path

import torch

from data.checkpoint import read_checkpoint
from data.datasets import MotionDataset
from models.motion import load_text_encoder
from models.networks import build_discriminator, build_motion
from models.pix2pix import MotionTask, Pix2Pix, start_weights
from models.training import card_of, folder_of, train
from options.cli import read_command, run_main
from options.runtime import runtime_of
from options.train import MotionOptions, MotionTrain


def main():
    options = read_command(MotionTrain, __doc__)
    runtime = runtime_of(options.gpu_ids, options.seed, options.threads)
    dataset = MotionDataset(options.dataroot, options.fineSize, options.mask_path if options.use_seg_mask else "",
                            options.captions_file if options.takes_text else "", options.use_hint, options.hints_path,
                            flip=not options.no_flip, seed=options.seed, strict=options.strict)
    torch.manual_seed(options.seed)
    net = start_weights(build_motion(options), options.init)
    if options.attention_weights:
        net.import_attention(read_checkpoint(options.attention_weights)[0])
    text = load_text_encoder(options.text_encoder_path, runtime) if options.takes_text else (None, None)
    critic = None
    if options.gan:
        critic = build_discriminator(options.input_nc + options.output_nc, options.ndf, options.n_layers_D, options.num_D)
        start_weights(critic, "normal")
    model = Pix2Pix(MotionTask(net, options, *text), critic, options.use_epe_loss, options.use_l1_loss)
    card = card_of(options, MotionOptions, dataset, sys.argv)
    if options.takes_text and options.ship_text_encoder:
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(Path(options.text_encoder_path) / part, folder_of(options) / part, dirs_exist_ok=True)
        card["options"]["text_encoder_path"] = "."
    train(model, dataset, card, options, runtime)


if __name__ == "__main__":
    run_main(main)
