"""One training step of the original, number by number; and the loop: schedule, files, resuming, what stops it."""

import json
import math
import os

import numpy as np
import pytest
import torch
from text2cinemagraph.data.checkpoint import read_checkpoint
from text2cinemagraph.data.datasets import FrameBatch, MotionBatch
from text2cinemagraph.models.losses import VGGLoss
from text2cinemagraph.models.networks import build_discriminator, build_motion, build_video
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.loop import fit
from text2cinemagraph.models.training.pix2pix import MotionTask, Pix2Pix, VideoTask, start_weights
from text2cinemagraph.models.training.state import TrainingState
from text2cinemagraph.models.training.trainer import Trainer
from text2cinemagraph.options.train import MotionOptions, VideoOptions
from torch import nn

from tests.golden_numbers import check, evaluate, load_golden, load_recipe, manifest, recipe

SMALL = dict(netG="spadeunet", nf=4, spade_hidden=4, motion_norm=4.0)
SMALL_VIDEO = dict(
    encoder_channels=[8, 8, 9], decoder_channels=[8, 3], decoder_resample=["none", "none"], norm_G="batch"
)


# ------------------------------------------------------------------ golden numbers


def golden_motion(info):
    label = evaluate(info["label"], seed=info["seed"], **{k: info[k] for k in "BHW"})
    real = evaluate(
        "m=mask(seed,'train.mask',(B,1,H,W));" + info["real"], seed=info["seed"], **{k: info[k] for k in "BHW"}
    )
    options = MotionOptions(netG="spadexattnunetsd" if info["context"] else "spadeunet", input_nc=label.shape[1])
    task = MotionTask(build_motion(options), options)
    if info["context"]:
        context = evaluate(info["context"].split(" used")[0], seed=info["seed"], B=info["B"])
        task.context = lambda captions: context
    hint = label[:, 4:] * options.motion_norm if options.takes_hint else None
    batch = MotionBatch((label[:, :3] + 1) / 2, label[:, 3:4], real * options.motion_norm, hint, [""] * info["B"])
    return task, batch, dict(use_epe=True)


def golden_video(info):
    names = {"seed": info["seed"], **{k: info[k] for k in "BHW"}}
    start, end, flow = evaluate(info["label"], **names).split([3, 3, 2], 1)
    real = evaluate(info["real"], **names)
    batch = FrameBatch((start + 1) / 2, (real + 1) / 2, (end + 1) / 2, flow, torch.tensor(info["index"]))
    return VideoTask(build_video(VideoOptions(z_max="batch"))), batch, dict(use_l1=True, vgg=golden_vgg(info["vgg"]))


def golden_vgg(entry):
    from torchvision.models import vgg19

    features = vgg19().features
    own = features.state_dict()
    for each in manifest(entry["manifest"]):
        value = recipe().tensor(entry["weights_seed"], each["name"], each["shape"], each["dtype"])
        own[each["name"].split(".", 1)[1]].copy_(torch.from_numpy(value))
    return VGGLoss(features)


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        "directional",
        "video",
        pytest.param(
            "xattn",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    not os.environ.get("T2C_SLOW"), reason="320 million parameters and their moments; set T2C_SLOW=1"
                ),
            ],
        ),
    ],
)
def test_golden_step(name):
    """Losses, output, gradients and buffers of one step, and the losses after it, are the original's."""
    file, info = load_golden(f"train_{name}")
    task, batch, losses = (golden_video if name == "video" else golden_motion)(info)
    load_recipe(task.net, info["netG"]["manifest"], info["netG"]["weights_seed"])
    if name == "xattn":  # frozen from the start in the original, whatever they hold
        for frozen in task.net.frozen_parameters():
            task.net.get_parameter(frozen).requires_grad_(False)
    names = manifest(info["netD"]["manifest"])
    channels = next(entry["shape"][1] for entry in names if entry["name"] == "scale0_layer0.0.weight")
    critic = load_recipe(build_discriminator(channels), info["netD"]["manifest"], info["netD"]["weights_seed"])
    model = Pix2Pix(task, critic, **losses).train()
    config = TrainingConfig(lr=info["adam"]["lr"], betas=(info["adam"]["betas"][0], 0.999))
    trainer = Trainer(model, config)

    before = {key: value.clone() for key, value in task.net.named_parameters()}
    buffers = {}

    def keep_first(*_):
        if not buffers:
            buffers.update((key, value.clone()) for key, value in task.net.named_buffers())

    task.net.register_forward_hook(keep_first)
    terms = trainer.step([batch])
    assert list(terms) == info["loss_names"]
    for key, value in terms.items():
        assert value == pytest.approx(float(file[f"loss.{key}"]), rel=1e-4), key
    check(file, "fake", trainer.made, 1e-3)
    for module, kind in ((task.net, "gradG"), (critic, "gradD")):
        within = LAST_LAYERS if name == "xattn" and kind == "gradG" else ("",)
        compare_gradients(module, file[f"{kind}.names"], file[f"{kind}.norm"], within)
    if "buffers_after.names" in file.files:
        for key, row in zip(file["buffers_after.names"], file["buffers_after.summary"]):
            np.testing.assert_allclose(
                recipe().summary(buffers[str(key)].numpy()), row, rtol=1e-4, atol=4e-5, err_msg=str(key)
            )
    for key in (key for key in file.files if key.startswith("adam_step_mean_abs.")):
        parameter = key.split(".", 1)[1]
        step = (task.net.get_parameter(parameter) - before[parameter]).abs().mean().item()
        assert step == pytest.approx(float(file[key]), rel=0.03), key
    after = {key.split(".", 1)[1]: float(file[key]) for key in file.files if key.startswith("loss_after_step.")}
    if after:
        with torch.no_grad():
            terms = model(batch).terms
        for key, value in terms.items():
            assert value.item() == pytest.approx(after[key], rel=1e-3), key


# Before these the golden gradients of train_xattn are not the derivative of its own losses, which we meet: along our
# gradient of dconv4.weight (norm 41.624 in float64) finite differences give 41.616, the file says 35.144.
LAST_LAYERS = (
    "dconv5",
    "dconv6",
    "dconv7",
    "dconv8",
    "spade_layer.",
    "spade_layer2_1",
    "spade_layer4_1",
    "spade_layer8_7",
    "attn_output_block_1",
)


# Of the largest gradient: what the order of sums, another on every kind of CPU, makes of one in which much cancels.
ROUNDING = 5e-5


def compare_gradients(module, names, norms, within):
    """Norms above a thousandth of the largest agree; smaller ones are rounding (biases before a norm); -1 is no
    gradient.

    within: only names that start so.
    """
    parameters = dict(module.named_parameters())
    for name, expected in zip(names, norms):
        if not str(name).startswith(within):
            continue
        gradient = parameters[str(name)].grad
        if expected < 0 or gradient is None:
            assert expected <= 0 and (gradient is None or not gradient.any()), name
        elif expected > 1e-3 * norms.max():
            assert gradient.norm().item() == pytest.approx(expected, rel=1e-3, abs=ROUNDING * norms.max()), name


# ------------------------------------------------------------------ the loop, on toys


class Toy(torch.utils.data.Dataset):
    """Batches of flow that a small convolution can learn."""

    def __init__(self, count=8):
        self.count, self.epoch, self.seen = count, 0, []

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        self.seen.append((self.epoch, index))
        image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return MotionBatch(image, torch.ones(1, 16, 16, dtype=torch.bool), 4 * (image[:2] - 0.5), None, "")


class ToyNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x, context=None):
        return self.conv(x)


def toy(gan=True, **losses):
    task = MotionTask(ToyNet(), MotionOptions(**SMALL))
    torch.manual_seed(2)
    critic = build_discriminator(6, ndf=4, n_layers=2, num_d=2) if gan else None
    return Pix2Pix(task, critic, **(losses or dict(use_epe=True)))


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_equal(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_one_batch_is_learnt_by_heart(tmp_path):
    model, dataset = toy(gan=False), Toy(2)
    with torch.no_grad():
        first = model(dataset[0].collate([dataset[0], dataset[1]])).terms["G_EPE"].item()
    fit(model, dataset, TrainingConfig(0.05, 60, 1, batch_size=2, betas=(0.9, 0.999)), tmp_path)
    with torch.no_grad():
        last = model(dataset[0].collate([dataset[0], dataset[1]])).terms["G_EPE"].item()
    assert last < first / 10


def test_a_small_published_network_learns_one_picture():
    torch.manual_seed(0)
    net = start_weights(build_video(VideoOptions(**SMALL_VIDEO)), "normal")
    image = torch.rand(3, 32, 32)
    item = FrameBatch(image, image, image, torch.zeros(2, 32, 32), torch.tensor([0, 20, 59]))
    batch, model = item.collate([item, item]), Pix2Pix(VideoTask(net), use_l1=True).train()
    trainer = Trainer(model, TrainingConfig(lr=0.01, betas=(0.9, 0.999)))
    values = [trainer.step([batch])["G_L1"] for _ in range(25)]
    assert values[-1] < 0.4 * values[0]


@pytest.mark.parametrize("gan", [False, True])
def test_going_on_is_as_if_never_stopped(tmp_path, gan, monkeypatch):
    """To the bit, in the middle of an epoch too, and where the network itself draws."""
    monkeypatch.setattr(ToyNet, "forward", lambda self, x, context=None: self.conv(x + torch.randn_like(x) / 10))
    whole = toy(gan)
    fit(whole, Toy(), TrainingConfig(1e-3, 2, 2, batch_size=2, save_epoch_freq=1), tmp_path / "whole")

    class Interrupt(Exception):
        pass

    class Fragile(Toy):
        def __getitem__(self, index):
            if self.epoch == 3 and len([s for s in self.seen if s[0] == 3]) == 6:
                raise Interrupt
            return super().__getitem__(index)

    broken = toy(gan)  # stops in epoch 3, after a save in the middle of it
    with pytest.raises(Interrupt):
        fit(broken, Fragile(), TrainingConfig(1e-3, 2, 2, batch_size=2, save_latest_freq=4), tmp_path / "broken")
    resumed, dataset = toy(gan), Toy()
    torch.manual_seed(99)
    progress = fit(resumed, dataset, TrainingConfig(1e-3, 2, 2, batch_size=2, resume=True), tmp_path / "broken")
    assert_equal(weights(whole), weights(resumed))
    assert progress.images == 32 and progress.steps == 16 and progress.epoch == 5
    assert dataset.seen and dataset.seen[0][0] == 3 and len([s for s in dataset.seen if s[0] == 3]) < 8


def test_every_epoch_shows_every_item_once_in_another_order(tmp_path):
    dataset = Toy(8)
    fit(toy(False), dataset, TrainingConfig(1e-3, 1, 1, batch_size=4), tmp_path)
    orders = [[index for e, index in dataset.seen if e == epoch] for epoch in (1, 2)]
    assert [sorted(order) for order in orders] == [list(range(8))] * 2 and orders[0] != orders[1]


def test_files_and_card(tmp_path):
    model = toy()
    fit(
        model,
        Toy(),
        TrainingConfig(1e-3, 2, 1, batch_size=4, print_freq=8, save_epoch_freq=2),
        tmp_path,
        card={"options": SMALL},
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "latest_net_G.safetensors",
        "latest_net_G.json",
        "2_net_G.safetensors",
        "train_state.pt",
        "loss_log.txt",
    }
    state_dict, card = read_checkpoint(tmp_path)
    assert_equal(
        {f"task.net.{key}": value for key, value in state_dict.items()},
        {key: value for key, value in weights(model).items() if key.startswith("task.net.")},
    )
    assert card["options"] == SMALL and card["trained"]["steps"] == 6 and card["trained"]["images"] == 24
    lines = (tmp_path / "loss_log.txt").read_text().splitlines()
    assert len(lines) == 3 and all(
        word in lines[0] for word in ("G_GAN:", "G_GAN_Feat:", "G_EPE:", "D_real:", "D_fake:")
    )
    json.dumps(card)


def test_half_precision_is_for_the_export_only(tmp_path):
    model = toy(False)
    fit(model, Toy(), TrainingConfig(1e-3, 1, 0, batch_size=4, half=True), tmp_path)
    exported, _ = read_checkpoint(tmp_path)
    own = model.generator.state_dict()
    assert not torch.equal(exported["conv.weight"], own["conv.weight"])
    torch.testing.assert_close(exported["conv.weight"], own["conv.weight"], atol=1e-3, rtol=1e-3)
    state = torch.load(tmp_path / "train_state.pt", weights_only=True)
    assert torch.equal(state["networks"]["generator"]["conv.weight"], own["conv.weight"])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_save(tmp_path):
    class Odd(Toy):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            if self.epoch == 2:
                item.flow[0, 0, 0] = math.nan
            return item

    with pytest.raises(ValueError, match="G_EPE is nan") as error:
        fit(toy(False), Odd(), TrainingConfig(1e-3, 5, 0, batch_size=4, save_epoch_freq=1), tmp_path)
    assert "\n" not in str(error.value)
    assert all(value.isfinite().all() for value in read_checkpoint(tmp_path, "1")[0].values())


def test_resuming_needs_the_same_kind_of_training(tmp_path):
    with pytest.raises(FileNotFoundError, match="continue_train"):
        fit(toy(), Toy(), TrainingConfig(resume=True), tmp_path / "none")
    fit(toy(False), Toy(), TrainingConfig(1e-3, 1, 0, batch_size=8), tmp_path)
    with pytest.raises(ValueError, match="without a discriminator"):
        fit(toy(), Toy(), TrainingConfig(resume=True), tmp_path)


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batchSize=9"):
        fit(toy(), Toy(8), TrainingConfig(batch_size=9), tmp_path)


def test_nothing_to_minimise_is_refused():
    with pytest.raises(ValueError, match="--use_epe_loss"):
        toy(False, use_epe=False)


def test_the_critic_learns_from_its_own_loss_only():
    """Gradients of the discriminator are those of 0.5 * (D_real + D_fake), whatever the generator's loss is."""
    batch = Toy()[0].collate([Toy()[0]])
    gradients = []
    for generator_too in (True, False):
        model = toy().train()
        if generator_too:
            Trainer(model, TrainingConfig(lr=0.0)).step([batch])
        else:
            terms = model(batch).terms
            (0.5 * (terms["D_real"] + terms["D_fake"])).backward()
        gradients.append([p.grad.clone() for p in model.discriminator.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


# ------------------------------------------------------------------ plans and first weights


def test_published_schedule():
    config = TrainingConfig(2e-4, 100, 100)
    rates = [config.rate(TrainingState(epoch=epoch)) for epoch in (1, 100, 101, 102, 200)]
    assert rates == pytest.approx([1, 1, 1, 0.99, 0.01])
    assert not config.over(TrainingState(epoch=200, elapsed=1e9)) and config.over(TrainingState(epoch=201))


def test_time_and_picture_budgets():
    config = TrainingConfig(1e-3, minutes=10)
    rates = [
        config.rate(TrainingState(epoch=epoch, elapsed=seconds)) for epoch, seconds in ((1, 0), (7, 300), (1, 600))
    ]
    assert rates == pytest.approx([1, 0.5, 0])
    assert config.over(TrainingState(elapsed=600)) and not config.over(TrainingState(epoch=1000, elapsed=599))
    assert TrainingConfig(minutes=0).over(TrainingState())
    counted = TrainingConfig(minutes=10, samples=100, warmup=4)
    assert counted.share_done(TrainingState(images=50, elapsed=60)) == 0.5 and counted.over(TrainingState(images=100))
    assert counted.rate(TrainingState(steps=1, rate_scale=0.5)) == pytest.approx(0.25)


def test_first_weights():
    torch.manual_seed(0)
    net = build_motion(MotionOptions(**{**SMALL, "nf": 16}))
    before = {key: value.clone() for key, value in net.named_parameters()}
    start_weights(net, "default")
    assert all(torch.equal(value, net.get_parameter(key)) for key, value in before.items())
    start_weights(net, "normal")
    assert net.spade_layer8_0.mlp_gamma.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(
        net.conv4.weight_orig, before["conv4.weight_orig"]
    )  # spectral ones keep torch's, as on the authors' GPU
    assert all(torch.equal(value, net.get_parameter(key)) for key, value in before.items() if key.endswith("bias"))


def test_identity_start_is_a_plain_splat():
    """1x1 shortcuts pass colours on, so that an untrained network already shows something of the picture."""
    torch.manual_seed(0)
    net = start_weights(build_video(VideoOptions(**SMALL_VIDEO)), "identity").train()
    image = torch.rand(1, 3, 32, 32) - 0.5
    with torch.no_grad():
        made = net(image, image, torch.zeros(1, 2, 32, 32), torch.tensor([[0, 0, 59]]))
    for a, b in zip(made[0], image[0]):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.7
