"""Losses: known answers. (The original's numbers: tests/test_models_training.py.)"""

import pytest
import torch
from text2cinemagraph.models import losses
from text2cinemagraph.models.training.pix2pix import MotionTask, Pix2Pix, VideoTask
from text2cinemagraph.options.train import MotionOptions


def test_epe_is_the_mean_length():
    flow, target = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)
    flow[0, 0], flow[0, 1] = 3, 4
    assert losses.epe(flow, target) == pytest.approx(2.5)


def test_gan_looks_at_the_last_map_only():
    verdicts = [
        [torch.full((1, 2, 2, 2), 9.0), torch.full((1, 1, 2, 2), 0.5)],
        [torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 2, 2)],
    ]
    assert losses.gan(verdicts, True) == pytest.approx(0.25)
    assert losses.gan(verdicts, False) == pytest.approx(1.25)


def test_feature_matching_ignores_the_verdict_and_leaves_real_alone():
    real = [[torch.ones(1, 1, 2, 2, requires_grad=True) for _ in range(5)] for _ in range(2)]
    fake = [[torch.full((1, 1, 2, 2), 3.0, requires_grad=True) for _ in range(5)] for _ in range(2)]
    loss = losses.feature_matching(fake, real)
    assert loss.item() == pytest.approx(8.0)  # 2 scales x 4 maps x |3 - 1| x 1/2
    loss.backward()
    assert real[0][0].grad is None and fake[0][0].grad is not None and fake[0][-1].grad is None


def test_something_must_be_minimised():
    task = VideoTask(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="use_l1_loss"):
        Pix2Pix(task)


def test_vgg_weights_shallow_and_deep_layers():
    features = torch.nn.Sequential(*(torch.nn.Identity() for _ in range(37)))
    loss = losses.VGGLoss(features)(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    assert loss.item() == pytest.approx(1 / 32 + 1 / 16 + 1 / 8 + 1 / 4 + 1)


def test_motion_task_speaks_the_networks_units():
    from text2cinemagraph.data.datasets import MotionBatch

    options = MotionOptions(netG="spadeunet", input_nc=6, motion_norm=4.0)
    flow = torch.full((1, 2, 8, 8), 2.0)
    batch = MotionBatch(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool), flow, flow, [""])
    condition, fake, real = MotionTask(lambda x, context: x[:, 4:], options)(batch)
    assert condition.shape == (1, 6, 8, 8) and condition[0, :, 0, 0].tolist() == [1, 1, 1, 1, 0.5, 0.5]
    assert torch.equal(fake, real) and real.max() == 0.5
