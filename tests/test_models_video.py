"""VideoModel: equal to the published per-frame network, still where nothing moves, any size, loadable."""

import pytest
import torch

from data.checkpoint import save_checkpoint
from models.networks import build_video
from models.video import BLENDS, THIN, VideoModel, composite, fill_holes, load_video_model
from options.runtime import make_runtime
from options.train import VideoOptions

SMALL = dict(encoder_channels=[8, 8, 13], decoder_channels=[12, 16, 8, 3], decoder_resample=["none", "Down", "Up", "none"])


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
        expected = [(net(picture, picture, flow[None], torch.tensor([[0, n, count - 1]]))[0] + 1) / 2 for n in range(count)]
    frames = list(VideoModel(net.fold() if folded else net, options).frames(image, flow, count))
    assert len(frames) == count
    for n, (frame, wanted) in enumerate(zip(frames, expected)):
        torch.testing.assert_close(frame, wanted, atol=2e-5, rtol=0, msg=lambda text, n=n: f"frame {n}: {text}")
        assert 0 <= frame.min() and frame.max() <= 1


def test_nothing_moves_without_flow_and_the_loop_closes():
    net, options = small_net()
    image = torch.rand(3, 16, 24)
    frames = list(VideoModel(net, options).frames(image, torch.zeros(2, 16, 24), 5))
    for frame in frames[1:]:
        torch.testing.assert_close(frame, frames[0], atol=1e-5, rtol=0)
    moving = list(VideoModel(net, options).frames(image, 0.01 * swirl(16, 24), 40))
    step = (moving[0] - moving[-1]).abs().mean()                               # from the last frame back to the first
    assert step < 2 * max((a - b).abs().mean() for a, b in zip(moving, moving[1:]))


@pytest.mark.parametrize("size", [(17, 23), (9, 40)])
def test_any_size(size):
    net, options = small_net()
    frames = list(VideoModel(net.fold(), options).frames(torch.rand(3, *size), swirl(*size), 3))
    assert all(frame.shape == (3, *size) and frame.isfinite().all() for frame in frames)


def test_frames_come_one_at_a_time_and_errors_at_once():
    net, options = small_net()
    model = VideoModel(net, options)
    frame = next(iter(model.frames(torch.rand(3, 16, 16), swirl(16, 16), 10 ** 3)))
    assert not frame.requires_grad
    image = torch.rand(3, 16, 16)
    for arguments, word in (((image, swirl(8, 8), 3), "expected"), ((image, swirl(16, 16), 0), "n_frames")):
        with pytest.raises(ValueError, match=word):
            model.frames(*arguments)


def test_load(tmp_path):
    net, options = small_net()
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {"options": SMALL})
    model = load_video_model(tmp_path, VideoOptions(), make_runtime("cpu"))
    assert model.options == options and model is load_video_model(tmp_path, VideoOptions(), make_runtime("cpu"))
    image, flow = torch.rand(3, 16, 16), swirl(16, 16)
    for ours, wanted in zip(model.frames(image, flow, 3), VideoModel(net, options).frames(image, flow, 3)):
        torch.testing.assert_close(ours, wanted, atol=2e-5, rtol=0)


def test_composite_keeps_the_picture_outside_and_the_frame_well_inside():
    image, frame, mask = torch.rand(3, 20, 20), torch.rand(3, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 8:] = True
    out = composite(frame, image, mask)
    assert torch.equal(out[:, :8], image[:, :8]) and torch.equal(out[:, 10:], frame[:, 10:])
    share = (out - image)[:, 8] / (frame - image)[:, 8]
    assert (share > 0).all() and (share < 0.5).all()
    assert torch.equal(composite(frame, image, mask, feather=0), torch.where(mask, frame, image))


def test_blending_is_symmetric_and_smooth_is_flat_at_the_seam():
    for share in BLENDS.values():
        assert share(0) == 0 and share(1) == pytest.approx(1) and share(0.5) == pytest.approx(0.5)
        assert all(share(u) + share(1 - u) == pytest.approx(1) for u in (0.1, 0.3))
    assert BLENDS["smooth"](0.01) < 1e-4 < BLENDS["linear"](0.01)
    net, options = small_net()
    model, image, flow = VideoModel(net, options), torch.rand(3, 16, 24), 0.3 * swirl(16, 24)
    linear, smooth = (list(model.frames(image, flow, 8, blend)) for blend in ("linear", "smooth"))
    torch.testing.assert_close(linear[0], smooth[0])                           # frame 0 is the picture alone
    assert (linear[1] - smooth[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="abrupt"):
        model.frames(image, flow, 8, "abrupt")


def test_kept_detail_makes_frame_0_the_picture():
    net, options = small_net()
    model, image, flow = VideoModel(net.fold(), options), torch.rand(3, 16, 24), 0.3 * swirl(16, 24)
    frames = list(model.frames(image, flow, 6, keep_detail=True))
    torch.testing.assert_close(frames[0], image, atol=1e-4, rtol=0)
    assert (next(model.frames(image, flow, 6)) - image).abs().max() > 0.05     # this untrained network alone loses a lot
    assert (frames[3] - image).abs().mean() > 0.01                             # and it does move


def test_holes_show_the_picture_at_rest_and_stragglers_hardly_count():
    rest, moved, own = torch.zeros(3, 1, 4), torch.ones(3, 1, 4), torch.full((1, 4), 2.0)
    landed = torch.tensor([[[0.0, 2.0 * THIN / 2, 2.0 * THIN, 5.0]]])
    filled = fill_holes(rest, moved, landed, own)
    assert torch.allclose(filled, torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(3, 1, 4))
    assert torch.equal(fill_holes(rest, moved, own[None], own), moved)       # where as much lands as left, nothing of the picture at rest
