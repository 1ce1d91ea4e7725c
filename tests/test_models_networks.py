"""The networks: the published names and shapes, the original's numbers, and the same classes at any other size."""

import copy
import functools

import numpy as np
import pytest
import torch
from text2cinemagraph.models.clip_decoder import ClipDecoder
from text2cinemagraph.models.euler import integrate
from text2cinemagraph.models.layers import SPADE, PartialConv2d, initialise, resize_condition
from text2cinemagraph.models.networks import (
    DIFFUSION_BLOCKS,
    build_discriminator,
    build_motion,
    build_video,
    up_as_mask,
)
from text2cinemagraph.options.train import MotionOptions, VideoOptions

from tests.comparison import assert_near
from tests.golden_numbers import check, evaluate, load_golden, load_recipe, manifest, recipe, stride_of

MINI_VIDEO = dict(
    encoder_channels=[8, 8, 13], decoder_channels=[12, 16, 8, 3], decoder_resample=["none", "Down", "Up", "none"]
)


def watch_stages(net, file, prefix):
    """Compare the summary of every module's output with the golden one while the network runs; returns the set of those
    seen.
    """
    seen, calls = set(), {}

    def compare(name, output):
        output = output[0] if isinstance(output, tuple) else output
        row = file[f"{prefix}stage.{name}"][calls.setdefault(name, 0)]
        calls[name] += 1
        assert_near(recipe().summary(output.numpy()), row[:3], 1e-4, message=name)
        assert list(output.shape) == list(row[3:])
        seen.add(name)

    for name, module in net.named_modules():
        if f"{prefix}stage.{name}" in file.files:
            module.register_forward_hook(lambda _, __, output, name=name: compare(name, output))
    return seen


# ------------------------------------------------------------------ golden numbers


@pytest.mark.golden
@torch.no_grad()
def test_golden_spadeunet():
    file, info = load_golden("netG_spadeunet")
    net = load_recipe(
        build_motion(MotionOptions(netG="spadeunet", input_nc=6, no_tanh=info["no_tanh"])), info["net"], info["seed"]
    )
    seen = watch_stages(net, file, "")
    check(file, "out", net(evaluate(info["label"], seed=info["seed"])), 1e-4)
    assert len(seen) == 29  # 16 convolutions, 13 SPADEs


@pytest.mark.golden
@torch.no_grad()
def test_golden_xattn():
    file, info = load_golden("netG_xattn")
    net = load_recipe(build_motion(MotionOptions(no_tanh=info["no_tanh"])), info["net"], info["seed"])
    seen = watch_stages(net, file, "")
    context = evaluate(info["context"], seed=info["seed"])
    check(file, "out", net(evaluate(info["label"], seed=info["seed"]), context), 1e-4)
    assert len(seen) == 38  # and 9 attention blocks


@pytest.mark.golden
@torch.no_grad()
def test_golden_discriminator():
    file, info = load_golden("netD")
    for name, expression in info["inputs"].items():
        x = evaluate(expression, seed=info["seed"])
        net = load_recipe(build_discriminator(x.shape[1]), f"netD_{name}", info["seed"])
        for i, features in enumerate(net(x)):
            for j, feature in enumerate(features):
                check(file, f"{name}.scale{i}.feat{j}", feature, 1e-4)
            assert_near(features[-1], file[f"{name}.scale{i}.final"], 1e-4)


@functools.cache
def golden_video_net():
    info = load_golden("netG_video")[1]
    return load_recipe(build_video(VideoOptions(z_max="batch")), info["net"], info["seed"])


@pytest.mark.golden
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("case", sorted(load_golden("netG_video")[1]["cases"]))
@torch.no_grad()
def test_golden_video(case, folded):
    file, info = load_golden("netG_video")
    label = evaluate(info["cases"][case]["label"], seed=info["seed"])
    index = torch.tensor(info["cases"][case]["index"])
    net = copy.deepcopy(golden_video_net())
    if folded:
        net.fold()
    start, end, flow = label.split([3, 3, 2], 1)
    codes = {"start": net.encode(start), "end": net.encode(end)}
    for name, (features, metric) in codes.items():
        check(file, f"{case}.feat_{name}", features[:, ::8], 1e-5)
        check(file, f"{case}.Z_{name}", metric, 1e-5)
    first, middle, last = index.unbind(1)
    ahead, back = integrate(flow, middle - first)[0], integrate(-flow, last + 1 - middle)[0]
    check(file, f"{case}.disp_forward", ahead, 0)
    check(file, f"{case}.disp_backward", back, 0)

    alpha = (1 - (middle - first) / (last - first + 1))[:, None, None, None]
    blended, mask = net.blend(codes["start"], codes["end"], ahead, back, alpha=alpha)
    step, expected = stride_of(file, f"{case}.blended")
    near_but_for_isolated_pixels(blended[:, ::8, ::step, ::step], expected)
    assert abs(1 - mask.mean().item() - float(file[f"{case}.hole_fraction"])) < 4 / mask.numel()

    seen = watch_stages(net, file, f"{case}.")
    out = net(start, end, flow, index)
    step, expected = stride_of(file, f"{case}.out")
    near_but_for_isolated_pixels(out[..., ::step, ::step], expected)
    assert len(seen) == 16
    for i in range(len(out) if folded else 0):  # and the decoder of clips
        made = ClipDecoder(net.projector, blended[i])(blended[i], mask[i])
        near_but_for_isolated_pixels(made[..., ::step, ::step], expected[i])


def near_but_for_isolated_pixels(value, expected):
    """Where almost nothing landed, features are a quotient of two small sums, and rounding shows."""
    assert_near(value, expected, 1e-4, outliers=1e-3)
    error = value.numpy() - expected
    assert np.sqrt(np.square(error).mean()) < 1e-3 * np.sqrt(np.square(expected).mean())


@pytest.mark.golden
@pytest.mark.parametrize("name", ["train_video", "train_directional"])
def test_golden_train_mode(name):
    """Batch statistics, power iterations (twice where the encoder runs twice) and running averages."""
    file, info = load_golden(name)
    video = name == "train_video"
    net = (
        build_video(VideoOptions(z_max="batch")) if video else build_motion(MotionOptions(netG="spadeunet", input_nc=6))
    )
    with torch.no_grad():
        load_recipe(net, info["netG"]["manifest"], info["netG"]["weights_seed"]).train()
        label = evaluate(info["label"], seed=info["seed"], B=info["B"], H=info["H"], W=info["W"])
        fake = net(*label.split([3, 3, 2], 1), torch.tensor(info["index"])) if video else net(label)
    check(file, "fake", fake, 1e-3)
    for buffer, expected in zip(file["buffers_after.names"], file["buffers_after.summary"]):
        assert_near(recipe().summary(net.state_dict()[buffer]), expected, 1e-4, message=buffer)


# ------------------------------------------------------------------ small networks of the same classes


@pytest.mark.parametrize("netG, size", [("spadeunet", 256), ("spadexattnunetsd", 64)])
def test_small_motion_networks_train(netG, size):
    options = MotionOptions(
        netG=netG, input_nc=6, nf=32 if netG != "spadeunet" else 8, spade_hidden=16, context_dim=24, heads=4
    )
    net = initialise(build_motion(options))
    assert options.multiple == (256 if netG == "spadeunet" else 64)
    x, context = torch.randn(2, 6, size, size), torch.randn(2, 5, 24)
    out = net(x, context)
    assert out.shape == (2, 2, size, size) and out.abs().max() <= 1
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_small_video_network_trains_and_is_finite_before_training():
    net = build_video(VideoOptions(**MINI_VIDEO))
    picture, flow = torch.rand(2, 3, 24, 32) * 2 - 1, torch.randn(2, 2, 24, 32)
    index = torch.tensor([[0, 3, 9], [2, 2, 5]])
    with torch.no_grad():
        assert net.eval()(picture, picture, flow, index).isfinite().all()
    out = net.train()(picture, picture.flip(-1), flow, index)
    assert out.shape == picture.shape
    out.mean().backward()
    unused = {name for name, p in net.named_parameters() if p.grad is None}
    assert all(".conv_b." in name for name in unused), unused  # kept only for the published names


def test_z_max_agrees_for_one_picture_and_isolates_pictures_of_a_batch():
    torch.manual_seed(0)
    net = build_video(VideoOptions(**MINI_VIDEO)).eval()
    picture, flow = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 2, 16, 16)
    index = torch.tensor([[0, 4, 9]] * 2)
    with torch.no_grad():
        together = net(picture, picture, flow, index)
        alone = net(picture[:1], picture[:1], flow[:1], index[:1])
        assert_near(together[:1], alone, 1e-4)
        net.z_max = "batch"
        torch.testing.assert_close(net(picture[:1], picture[:1], flow[:1], index[:1]), alone, atol=0, rtol=0)


def test_attention_is_imported_from_either_naming_of_stable_diffusion():
    torch.manual_seed(0)
    options = MotionOptions(nf=32, spade_hidden=4, context_dim=16, heads=4)
    net, mapping = build_motion(options), manifest("sd_mapping")
    state = net.state_dict()
    assert set(mapping["ldm_to_netG"].values()) == {name for name in state if name.startswith("attn_")}
    original = {theirs: torch.randn_like(state[ours]) for theirs, ours in mapping["ldm_to_netG"].items()}
    net.import_attention(original)
    assert all(torch.equal(net.state_dict()[ours], original[theirs]) for theirs, ours in mapping["ldm_to_netG"].items())
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == set(mapping["frozen_parameters"]) == set(net.frozen_parameters())

    renamed = {
        theirs.replace(old, new): tensor
        for new, old in DIFFUSION_BLOCKS.values()
        for theirs, tensor in original.items()
        if theirs.startswith(old + ".")
    }
    other = build_motion(options)
    other.import_attention(renamed)
    assert all(
        torch.equal(other.state_dict()[ours], net.state_dict()[ours]) for ours in mapping["ldm_to_netG"].values()
    )
    renamed.pop("mid_block.attentions.0.norm.weight")
    with pytest.raises(ValueError, match="mid_block.attentions.0.norm.weight is missing"):
        other.import_attention(renamed)


def test_the_diffusers_names_hold_the_published_shapes():
    """The place of each block, checked by width against diffusers' own Stable Diffusion 1.x U-Net."""
    unet_class = pytest.importorskip("diffusers").UNet2DConditionModel
    with torch.device("meta"):
        unet = unet_class(sample_size=64, cross_attention_dim=768, attention_head_dim=8).state_dict()
        net = build_motion(MotionOptions()).state_dict()
    for name, tensor in net.items():
        if name.startswith("attn_"):
            block, leaf = name.split(".", 1)
            assert unet[f"{DIFFUSION_BLOCKS[block][0]}.{leaf}"].shape == tensor.shape, name


# ------------------------------------------------------------------ layers with known answers


def test_up_as_mask_keeps_channel_three_sharp():
    larger = up_as_mask(torch.eye(4).expand(1, 5, 4, 4))
    assert set(larger[0, 3].unique().tolist()) == {0.0, 1.0} and larger[0, 2].unique().numel() > 2


def test_condition_keeps_its_mask_binary_and_refuses_other_channel_counts():
    condition = torch.rand(1, 6, 32, 32)
    condition[:, 3] = (condition[:, 3] > 0.5).float()
    small = resize_condition(condition, (8, 8))
    assert set(small[0, 3].unique().tolist()) <= {0.0, 1.0} and small.shape == (1, 6, 8, 8)
    with pytest.raises(ValueError, match="expected 4"):
        SPADE(8, 1, 4)(torch.rand(1, 8, 4, 4), condition[:, :1])


def test_partial_convolution_equals_one_mask_per_channel():
    """The authors convolve a C-channel mask with ones; one shared channel gives the same numbers."""
    torch.manual_seed(0)
    conv, x = PartialConv2d(6, 4), torch.randn(2, 6, 12, 12)
    mask = (torch.rand(2, 1, 12, 12) > 0.7).float()
    count = torch.nn.functional.conv2d(mask.expand(-1, 6, -1, -1), torch.ones(4, 6, 3, 3), padding=1)
    valid = count.clamp(0, 1)
    plain = torch.nn.functional.conv2d(x * mask, conv.weight, padding=1)
    expected = (plain * (6 * 9 / (count + 1e-8) * valid) + conv.bias[:, None, None]) * valid
    out, new_mask = conv(x, mask)
    assert_near(out, expected, 1e-5)
    assert torch.equal(new_mask, valid[:, :1]) and (0 < new_mask.mean() < 1)


def test_options_say_what_does_not_fit():
    for wrong, word in (
        ({"nf": 33}, "multiple of 32"),
        ({"netG": "unet"}, "spadeunet"),
        ({"input_nc": 5}, "4 or 6"),
        ({"use_prompts": False}, "caption"),
    ):
        with pytest.raises(ValueError, match=word):
            MotionOptions(**wrong)
    with pytest.raises(ValueError, match="as many Up as Down"):
        VideoOptions(decoder_resample=["Down"] + ["none"] * 7)
