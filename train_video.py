"""Train the network that turns a picture and its flow into frames. stage1: true flow; stage2: flow predicted by test_motion.py.

    python train_video.py --config configs/train_video_mini.yaml [--batchSize 4 ...]
"""

import sys
from pathlib import Path

import torch

from data.datasets import FrameDataset
from models.losses import VGGLoss
from models.networks import build_discriminator, build_video
from models.pix2pix import Pix2Pix, VideoTask, start_weights
from models.training import card_of, train
from options.cli import read_command, run_main
from options.runtime import runtime_of
from options.train import VideoOptions, VideoTrain


def main():
    options = read_command(VideoTrain, __doc__)
    runtime = runtime_of(options.gpu_ids, options.seed, options.threads)
    dataset = FrameDataset(options.frames_basepath or options.dataroot, options.fineSize,
                           options.motion_basepath if options.tr_stage == "stage2" else "", options.motion_norm,
                           options.stills, options.stills_share, seed=options.seed, strict=options.strict)
    torch.manual_seed(options.seed)
    net = start_weights(build_video(options), options.init)
    critic = None
    if options.gan:
        critic = build_discriminator(options.input_nc + options.output_nc, options.ndf, options.n_layers_D, options.num_D)
        start_weights(critic, "normal")
    vgg = None if options.no_vgg_loss else VGGLoss(vgg_features(options.vgg_weights))
    model = Pix2Pix(VideoTask(net, options.freeze_norm), critic, options.use_epe_loss, options.use_l1_loss, vgg)
    train(model, dataset, card_of(options, VideoOptions, dataset, sys.argv), options, runtime)


def vgg_features(path):
    """The convolutional part of torchvision's VGG19 with the weights of a file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no VGG19 weights at '{path}': set --vgg_weights to torchvision's vgg19-dcbb9e9d.pth, "
                                "or train without the VGG loss (--no_vgg_loss)")
    from torchvision.models import vgg19
    net = vgg19()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.features


if __name__ == "__main__":
    run_main(main)
