"""VideoModel: equal to the published per-frame network, still where nothing moves, any size, loadable."""

import pytest
import torch
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.models.blend import BLENDS, GAP, THIN, blend_filled, close_gaps
from text2cinemagraph.models.networks import build_video
from text2cinemagraph.models.video import VideoModel, fade_in, lay_over, load_video_model
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.train import VideoOptions
from text2cinemagraph.softmax_splatting import splat_blend

from tests.comparison import assert_near

SMALL = dict(
    encoder_channels=[8, 8, 13], decoder_channels=[12, 16, 8, 3], decoder_resample=["none", "Down", "Up", "none"]
)


def small_net(seed=0, **options):
    torch.manual_seed(seed)
    options = VideoOptions(**{**SMALL, **options})
    return build_video(options).eval(), options


def swirl(height, width, speed=0.7):
    y, x = torch.meshgrid(torch.linspace(-3, 3, height), torch.linspace(-3, 3, width), indexing="ij")
    return speed * torch.stack([y.cos() + 0.3, x.sin()])


@pytest.mark.parametrize("resample", [["none"] * 4, SMALL["decoder_resample"]])
@pytest.mark.parametrize("folded", [False, True])
def test_frames_equal_the_network_called_frame_by_frame(resample, folded):
    net, options = small_net(decoder_resample=resample)
    image, flow, count = torch.rand(3, 24, 32), swirl(24, 32), 7
    picture = image[None] * 2 - 1
    with torch.no_grad():
        expected = [
            (net(picture, picture, flow[None], torch.tensor([[0, n, count - 1]]))[0] + 1) / 2 for n in range(count)
        ]
    frames = list(VideoModel(net.fold() if folded else net, options).frames(image, flow, count))
    assert len(frames) == count
    for n, (frame, wanted) in enumerate(zip(frames, expected)):
        assert_near(frame, wanted, 1e-4, message=f"frame {n}")
        assert 0 <= frame.min() and frame.max() <= 1


def test_nothing_moves_without_flow_and_the_loop_closes():
    net, options = small_net()
    image = torch.rand(3, 16, 24)
    frames = list(VideoModel(net, options).frames(image, torch.zeros(2, 16, 24), 5))
    for frame in frames[1:]:
        assert_near(frame, frames[0], 1e-4)
    moving = list(VideoModel(net, options).frames(image, 0.01 * swirl(16, 24), 40))
    step = (moving[0] - moving[-1]).abs().mean()  # from the last frame back to the first
    assert step < 2 * max((a - b).abs().mean() for a, b in zip(moving, moving[1:]))


@pytest.mark.parametrize("size", [(17, 23), (9, 40)])
def test_any_size(size):
    """At rest the frames are the network's picture, of one padded to the sizes that it takes; moving ones differ."""
    net, options = small_net()
    (height, width), image = size, torch.rand(3, *size)
    margin = (0, -width % options.multiple, 0, -height % options.multiple)
    padded = torch.nn.functional.pad(image[None] * 2 - 1, margin, mode="replicate")
    with torch.no_grad():
        network = net(padded, padded, torch.zeros_like(padded[:, :2]), torch.tensor([[0, 1, 2]]))[0]
    model = VideoModel(net.fold(), options)
    still = list(model.frames(image, torch.zeros(2, *size), 3))
    moving = list(model.frames(image, swirl(*size), 3))
    for frame, moved in zip(still, moving, strict=True):
        assert_near(frame, (network[:, :height, :width] + 1) / 2, 1e-4)
        assert moved.shape == (3, *size) and moved.isfinite().all()
    assert (moving[1] - still[1]).abs().mean() > 1e-3


def test_frames_come_one_at_a_time_and_errors_at_once():
    net, options = small_net()
    model = VideoModel(net, options)
    frame = next(iter(model.frames(torch.rand(3, 16, 16), swirl(16, 16), 10**3)))
    assert not frame.requires_grad
    image = torch.rand(3, 16, 16)
    for arguments, word in (((image, swirl(8, 8), 3), "expected"), ((image, swirl(16, 16), 0), "n_frames")):
        with pytest.raises(ValueError, match=word):
            model.frames(*arguments)


def test_load(tmp_path):
    net, options = small_net()
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {"options": SMALL})
    model = load_video_model(tmp_path, VideoOptions(), make_runtime("cpu"))
    assert model.options == options
    image, flow = torch.rand(3, 16, 16), swirl(16, 16)
    for ours, wanted in zip(model.frames(image, flow, 3), VideoModel(net, options).frames(image, flow, 3)):
        assert_near(ours, wanted, 1e-4)


def test_composite_keeps_the_picture_outside_and_the_frame_well_inside():
    image, frame, mask = torch.rand(3, 20, 20), torch.rand(3, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 8:] = True
    out = lay_over(frame, image, fade_in(mask))
    assert torch.equal(out[:, :8], image[:, :8]) and torch.equal(out[:, 10:], frame[:, 10:])
    share = (out - image)[:, 8] / (frame - image)[:, 8]
    assert (share > 0).all() and (share < 0.5).all()
    assert torch.equal(lay_over(frame, image, fade_in(mask, 0)), torch.where(mask, frame, image))


def test_blending_is_symmetric_and_smooth_is_flat_at_the_seam():
    for share in BLENDS.values():
        assert share(0) == 0 and share(1) == pytest.approx(1) and share(0.5) == pytest.approx(0.5)
        assert all(share(u) + share(1 - u) == pytest.approx(1) for u in (0.1, 0.3))
    assert BLENDS["smooth"](0.01) < 1e-4 < BLENDS["linear"](0.01)
    net, options = small_net()
    model, image, flow = VideoModel(net, options), torch.rand(3, 16, 24), 0.3 * swirl(16, 24)
    linear, smooth = (list(model.frames(image, flow, 8, blend=blend)) for blend in ("linear", "smooth"))
    assert_near(linear[0], smooth[0], 1e-4)  # frame 0 is the picture alone
    assert (linear[1] - smooth[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="abrupt"):
        model.frames(image, flow, 8, blend="abrupt")


def test_the_flow_can_be_read_between_the_pixels():
    net, options = small_net()
    model, image, flow = VideoModel(net.fold(), options), torch.rand(3, 24, 32), 0.3 * swirl(24, 32)
    published, between = (list(model.frames(image, flow, 8, **how)) for how in ({}, {"lookup": "bilinear"}))
    assert torch.equal(published[3], list(model.frames(image, flow, 8, lookup="nearest"))[3])
    assert torch.equal(published[0], between[0]) and (published[3] - between[3]).abs().max() > 1e-4
    even = 0.5 * torch.ones(2, 24, 32)  # nothing lies between equal velocities
    for one, other in zip(model.frames(image, even, 4), model.frames(image, even, 4, lookup="bilinear")):
        assert_near(one, other, 1e-4)
    with pytest.raises(ValueError, match="video.lookup='cubic' is unknown"):
        model.frames(image, flow, 8, lookup="cubic")


def test_kept_detail_makes_frame_0_the_picture():
    net, options = small_net()
    model, image, flow = VideoModel(net.fold(), options), torch.rand(3, 16, 24), 0.3 * swirl(16, 24)
    frames = list(model.frames(image, flow, 6, keep_detail=True))
    torch.testing.assert_close(frames[0], image, atol=1e-4, rtol=0)
    assert (next(model.frames(image, flow, 6)) - image).abs().max() > 0.05  # this untrained network alone loses a lot
    assert (frames[3] - image).abs().mean() > 0.01  # and it does move


def test_holes_show_the_picture_at_rest_and_stragglers_hardly_count():
    """A picture of ones that moves out to the right over features that were 0, 1, 2, ... at rest."""
    rest, own = torch.arange(8.0).expand(1, 8, 8).contiguous(), torch.full((8, 8), 2.0)
    moved = torch.zeros(2, 8, 8)
    moved[0] = 4  # columns 0..3 are left behind
    blended = blend_filled(rest, [(moved, 1.0)], own)
    torch.testing.assert_close(blended[0, 0, :2], rest[0, 0, :2])  # a hole: the picture at rest, but for its rim
    torch.testing.assert_close(blended[0, 0, 4:], rest[0, 0, :4])  # what landed
    torch.testing.assert_close(blend_filled(rest, [(0 * moved, 0.3), (0 * moved, 0.7)], own), rest)
    moved[0] = 4 - THIN / 18  # of one column a straggler: 0.15 / 18 of its weight in column 3
    torch.testing.assert_close(blend_filled(rest, [(moved, 1.0)], own)[0, 0, :2], rest[0, 0, :2], atol=0.05, rtol=0)


def test_gaps_take_the_mean_of_what_is_near():
    landed = torch.tensor([[1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, GAP / 2, 1.0]])
    moved = torch.tensor([[[4.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 4.0]]])
    closed, cover = close_gaps(moved.clone(), landed)
    first = (1 * 4 + 3 * 4 + 3 * 3 * 8) / (1 + 3 + 3 * 3)  # the first column counts for the one before it too
    assert closed[0, 0, 1].item() == pytest.approx(first) and closed[0, 0, 5] == 0  # nothing is near the middle
    around = (3 * 2 + 4 * 6 * GAP / 2 + 3 * 4 + 4 * 1) / (3 + 4 * GAP / 2 + 3 + 1)  # and the last one
    assert closed[0, 0, 9].item() == pytest.approx(0.5 * 6 + 0.5 * around)
    assert (
        torch.equal(closed[0, 0, [0, 2, 8, 10]], moved[0, 0, [0, 2, 8, 10]]) and cover[0, 5] == 0 and cover.max() <= 1
    )


@pytest.mark.parametrize("times", [1, 2])
def test_a_flow_that_stretches_makes_no_comb(times):
    """Rows pulled to twice or three times their distance: the other way's rows would show in between."""
    y = torch.arange(32.0)[:, None].expand(32, 16)
    rest, own = torch.sin(y / 5)[None].contiguous(), torch.ones(32, 16)
    stretch, other = (
        torch.stack([torch.zeros_like(y), displacement]) for displacement in (times * y, torch.full_like(y, 5))
    )
    mixed = splat_blend(rest, [stretch, other], [0.6 * own, 0.4 * own])[0]
    closed = blend_filled(rest, [(stretch, 0.6), (other, 0.4)], own)
    comb, none = (x[:, 8:28].diff(dim=1).diff(dim=1).abs().mean() for x in (mixed, closed))
    assert none < 0.2 * comb
