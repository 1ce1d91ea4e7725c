"""Train the network that turns a picture and its flow into frames.

stage1: true flow; stage2: flow predicted by test_motion.py.

    python train_video.py --config configs/train_video_mini.yaml [--batchSize 4 ...]
    python train_video.py --name video --gpu_ids 0,1,2,3 --batchSize 16 --use_l1_loss --vgg_weights vgg19-dcbb9e9d.pth
    python train_video.py --name video --continue_train --niter 150 --tr_stage stage2
        --motion_basepath results/motion/train_200/images ...

Several GPUs: --gpu_ids 0,1,2,3, or torchrun / accelerate launch, also over several machines. Results, pictures and
curves: <checkpoints_dir>/<name>; to look at them: tensorboard --logdir <checkpoints_dir>/<name>/logs
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.options.cli import read_command, run_main
from text2cinemagraph.options.runtime import say
from text2cinemagraph.options.train import VideoOptions, VideoTrain

if TYPE_CHECKING:
    from torch import nn


def main() -> int | None:
    options = read_command(VideoTrain, __doc__)

    import torch
    from text2cinemagraph.data.datasets import FrameDataset
    from text2cinemagraph.models.networks import build_video
    from text2cinemagraph.models.training.commands import broken_items, card_of, train
    from text2cinemagraph.models.training.pix2pix import Pix2Pix, VideoTask, start_discriminator, start_weights
    from text2cinemagraph.models.training.processes import own_gpu, spread
    from text2cinemagraph.options.runtime import runtime_of

    code = spread(options.gpu_ids, sys.argv)
    if code is not None:
        return code
    runtime = runtime_of(own_gpu(options.gpu_ids), options.seed, options.threads)
    dataset = FrameDataset(
        options.frames_basepath or options.dataroot,
        options.fineSize,
        options.motion_basepath if options.tr_stage == "stage2" else "",
        options.motion_norm,
        stills=options.stills,
        stills_share=options.stills_share,
        seed=options.seed,
        strict=options.strict,
        as_published=options.as_published,
        most=options.max_dataset_size,
        report=broken_items(options),
    )
    torch.manual_seed(options.seed)
    net = start_weights(build_video(options), options.init)
    model = Pix2Pix(
        VideoTask(net, options.freeze_norm),
        start_discriminator(options),
        use_epe=options.use_epe_loss,
        use_l1=options.use_l1_loss,
        vgg=vgg_loss(options),
        weight=options.lambda_feat,
        match_features=not options.no_ganFeat_loss,
        least_squares=not options.no_lsgan,
    )
    card = card_of(options, VideoOptions, dataset, sys.argv)
    train(model, dataset, card, options=options, runtime=runtime)
    return None


def vgg_loss(options: VideoTrain) -> nn.Module | None:
    """The perceptual loss, or None. Published trainings have it; without its weights, which are the user's to bring,
    ours goes without.
    """
    from text2cinemagraph.models.losses import VGGLoss

    if options.no_vgg_loss:
        return None
    if not options.vgg_weights and not options.as_published:
        say("no VGG loss: set --vgg_weights to torchvision's vgg19-dcbb9e9d.pth for it (published trainings have it)")
        return None
    return VGGLoss(vgg_features(options.vgg_weights))


def vgg_features(path: str | Path) -> nn.Module:
    """The convolutional part of torchvision's VGG19 with the weights of a file."""
    from text2cinemagraph.data.checkpoint import load_weights, read_tensors

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no VGG19 weights at '{path}': set --vgg_weights to torchvision's vgg19-dcbb9e9d.pth, "
            "or train without the VGG loss (--no_vgg_loss)"
        )
    from torchvision.models import vgg19

    weights = read_tensors(path)  # before the large network is built
    net = vgg19()
    load_weights(net, weights, path)
    return net.features


if __name__ == "__main__":
    run_main(main)
