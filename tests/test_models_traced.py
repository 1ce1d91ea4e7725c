"""Loops whose pixels are read where they come from: known motions, known contrasts, nothing outside the mask."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from text2cinemagraph.models.blend import LEVELS, bands, cells, contrasts, joined, summed
from text2cinemagraph.models.continuation import continue_under
from text2cinemagraph.models.trace import Paths, grid_step, traced, traced_reversed
from text2cinemagraph.models.traced import TracedClip, receptive_radius, traced_frames
from text2cinemagraph.options.inference import Video
from text2cinemagraph.pipeline.animating import preview_of, rendering_of
from text2cinemagraph.softmax_splatting import backward_warp
from text2cinemagraph.softmax_splatting.backward_warp import warp_blend

from tests.test_models_video import SMALL, small_net, swirl


def noise(height=96, width=96, seed=0, channels=3):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def everywhere(image):
    return torch.ones(1, *image.shape[1:], dtype=torch.bool)


def constant(height, width, dx, dy):
    return torch.tensor([dx, dy])[:, None, None].expand(2, height, width).contiguous()


# ---------------------------------------------------------------- reading


def test_reading_at_whole_pixels_gives_them_exactly_and_mirrors_beyond_the_border():
    picture = noise(12, 15)
    read = warp_blend(picture, [constant(12, 15, 3.0, -2.0)], [1.0], (0, 12, 0, 15))
    assert torch.equal(read[:, 2:, :12], picture[:, :10, 3:])
    torch.testing.assert_close(read[:, 2:, 12], picture[:, :10, 13])  # one beyond the last column is one before it
    torch.testing.assert_close(read[:, 1, 0], picture[:, 1, 3])


def test_reading_keeps_straight_lines_between_pixels():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    read = warp_blend((2 * x - y)[None], [constant(20, 20, 0.3, -0.6)], [1.0], (0, 20, 0, 20))
    torch.testing.assert_close(read[0, 4:-4, 4:-4], (2 * (x + 0.3) - (y - 0.6))[4:-4, 4:-4], atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", [1, 2])
def test_the_torch_form_reads_the_same(step):
    picture, rows = noise(33, 41, channels=5), [-(-(side - 1) // step) + 1 for side in (33, 41)]
    generator = torch.Generator().manual_seed(1)
    fields = [
        F.interpolate(20 * torch.randn(1, 2, 4, 4, generator=generator), rows, mode="bilinear", align_corners=True)[0]
        for _ in range(2)
    ]
    share = torch.rand(20, 30, generator=generator)
    wanted = torch.rand(20, 30, generator=generator) > 0.2
    arguments = picture, fields, [share, 1 - share], (5, 25, 3, 33)
    ours, torchs = (
        form(*arguments, step=step, wanted=wanted) for form in (warp_blend, backward_warp._warp_blend_torch)
    )
    # Where a map is nearly at the limit of "crowded", rounding may decide.
    far = ((ours - torchs).abs().amax(0) > 1e-4).float().mean()
    assert far < 0.01 and (ours[:, ~wanted] == 0).all()


def test_a_crowded_map_reads_a_mean_and_not_a_sample():
    stripes = (torch.arange(64) % 2).float().expand(1, 64, 64).contiguous()
    x = torch.arange(64.0).expand(64, 64)
    squeezed = torch.stack([(x - 32) * 1.37, torch.zeros(64, 64)])  # 2.37 px of the picture per px of the frame
    read = warp_blend(stripes, [squeezed], [1.0], (20, 44, 25, 39))
    assert read.std() < 0.5 * stripes.std()


@pytest.mark.parametrize("pace", [3.7, 5.3, 8.9])
def test_the_more_crowded_the_map_the_more_points_are_read(pace):
    """Neighbours that come from far apart would be a line of dots; the true mean over each pixel is known here."""
    picture = noise(24, 400, seed=2, channels=1).expand(1, 24, 400).contiguous()
    x = torch.arange(400.0).expand(24, 400)
    squeezed = torch.stack([(x - 200) * (pace - 1), torch.zeros(24, 400)])
    window = (4, 20, 185, 215)
    read = warp_blend(picture, [squeezed], [1.0], window)
    torchs = backward_warp._warp_blend_torch(picture, [squeezed], [1.0], window, step=1, wanted=None)
    torch.testing.assert_close(read, torchs, atol=1e-4, rtol=0)
    fine = torch.arange(32 * 30) / 32 - 0.5 + 185  # 32 points in each pixel of the frame
    at = (fine + (fine - 200) * (pace - 1)).expand(16, -1)
    y = torch.arange(4.0, 20.0)[:, None].expand_as(at)
    true = backward_warp._read_torch(picture, at, y).reshape(1, 16, 30, 32).mean(-1)
    one = backward_warp._read_torch(picture, at[:, 16::32], y[:, 16::32])
    assert (read - true).square().mean() < 0.15 * (one - true).square().mean()


# ---------------------------------------------------------------- paths


def test_paths_in_a_constant_flow_and_around_a_vortex():
    *_, last = traced(constant(20, 30, 0.5, -0.25), 8, against=True)
    torch.testing.assert_close(last, constant(20, 30, -4.0, 2.0))
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    turn = 0.05  # radians per frame
    *_, last = traced(turn * torch.stack([-y, x]), 30, against=False)
    angle = torch.tensor(30 * turn)
    expected = torch.stack([x * angle.cos() - y * angle.sin() - x, x * angle.sin() + y * angle.cos() - y])
    inside = x.square() + y.square() < 18**2
    torch.testing.assert_close(last[:, inside], expected[:, inside], atol=0.02, rtol=0)


@pytest.mark.parametrize("step", [1, 2])
def test_paths_reversed_are_the_same_maps_and_a_coarse_grid_agrees(step):
    flow = swirl(25, 33)
    forth = list(traced(flow, 11, True, step))
    back = list(traced_reversed(flow, 11, True, step))
    assert len(forth) == len(back) == 12
    for a, b, fine in zip(forth, reversed(back), traced(flow, 11, True)):
        assert torch.equal(a, b) and torch.equal(a, fine[:, ::step, ::step])


def test_paths_by_torch_are_the_same():
    flow = swirl(24, 33)
    *_, ours = traced(flow, 5, True)
    paths = Paths(flow, True)
    for _ in range(5):
        middle = paths.position - 0.5 * paths._velocity_at(paths.position)
        paths.position = paths.position - paths._velocity_at(middle)
    torch.testing.assert_close(ours, paths.displacement(), atol=1e-4, rtol=0)


def test_forth_and_back_again_is_the_identity():
    flow = swirl(64, 64, speed=0.5)
    *_, there = traced(flow, 10, against=False)
    *_, back = traced(flow, 10, against=True)
    again = warp_blend(there, [back], [1.0], (0, 64, 0, 64)) + back
    assert again[:, 12:-12, 12:-12].abs().max() < 0.05


def test_the_grid_is_coarser_for_larger_pictures():
    assert [grid_step(*size) for size in ((512, 900), (768, 768), (1080, 1920), (2160, 3840))] == [1, 1, 2, 4]


# ---------------------------------------------------------------- continuation


def test_fluid_is_mirrored_under_what_stands_still():
    image, flow = noise(40, 40), torch.zeros(2, 40, 40)
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[:, :, :20] = True
    flow[0, :, :20] = 1.5
    made, moving, where, own = continue_under(image, flow, mask, reach=6, shore=False)
    assert torch.equal(made[:, :, :20], image[:, :, :20])  # a small picture keeps its outermost pixels
    for i in range(6):  # mirrored at the last column of the fluid
        assert torch.equal(made[:, :, 20 + i], image[:, :, 18 - i])
    assert torch.equal(made[:, :, 26:], image[:, :, 26:])
    assert (moving[0, :, :26] == 1.5).all() and (moving[:, :, 26:] == 0).all()
    assert where[0, :, :26].all() and not where[0, :, 26:].any()


def test_a_dark_lip_at_the_edge_stands_still_and_does_not_travel():
    image, mask = torch.full((3, 128, 128), 0.1), torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, 30:] = True
    image[:, 32:] = 0.8 + 0.1 * noise(96, 128)  # the mask begins two rows too early: dark rows of the fluid
    flow = mask * constant(128, 128, 0.0, 1.0)
    kept, dropped = (list(traced_frames(image, flow, mask, 40, shore=shore, numbers=[6]))[0] for shore in (False, True))
    assert kept[:, 36:38].mean() < 0.3 and dropped[:, 34:].min() > 0.6
    assert dropped[:, 30:32].max() < 0.3


# ---------------------------------------------------------------- contrast


def test_mixed_colours_stay_where_water_comes_from_and_travel_along_a_shore():
    image = torch.full((3, 200, 200), 0.2)
    image[:, 100:] = 0.8
    image[:, 100:103] = torch.tensor([0.45, 0.55, 0.65])[None, :, None]  # the edge is soft
    mask = torch.zeros(1, 200, 200, dtype=torch.bool)
    mask[:, 100:] = True
    along, across = constant(200, 200, 0.5, 0.0), constant(200, 200, 0.0, 0.5)
    own = {
        name: continue_under(image, flow * mask, mask, 16)[3] for name, flow in (("along", along), ("across", across))
    }
    assert not own["across"][0, 100:103].any() and own["across"][0, 105:].all()
    assert own["along"][0, 101:].all()
    for upstream in (-across, along - across):  # a sink; a shore that is crossed at an angle
        assert not continue_under(image, upstream * mask, mask, 16)[3][0, 100:103].any()


@pytest.mark.parametrize("size", [(64, 64), (61, 83), (17, 30)])
def test_bands_add_up(size):
    image = noise(*size)
    found, rest = bands(image)
    assert len(found) == LEVELS
    torch.testing.assert_close(summed(found, rest), image, atol=1e-5, rtol=0)


def test_a_mean_of_two_textures_gets_their_contrast_back():
    a, b = noise(256, 256, 0), noise(256, 256, 1)
    size = cells((256, 256))
    wanted = (contrasts(bands(a)[0], size) + contrasts(bands(b)[0], size)) / 2
    mean = (a + b) / 2
    assert mean.var() < 0.6 * a.var()
    made = joined(mean, wanted)
    assert made[:, 16:-16, 16:-16].var() == pytest.approx(a.var().item(), rel=0.07)
    assert torch.allclose(joined(a, contrasts(bands(a)[0], size)), a, atol=1e-4)  # nothing to give back
    assert torch.allclose(joined(mean, None), mean, atol=1e-5)


# ---------------------------------------------------------------- whole clips


def test_a_constant_flow_shifts_the_picture_and_the_middle_stays_as_sharp():
    image = noise(96, 96)
    frames = list(traced_frames(image, constant(96, 96, 1.0, 0.0), everywhere(image), 24, blend="smooth"))
    assert torch.equal(frames[0], image)
    torch.testing.assert_close(frames[1][:, :, 30:60], image[:, :, 29:59], atol=5e-3, rtol=0)
    torch.testing.assert_close(frames[-1][:, :, 30:60], image[:, :, 31:61], atol=5e-3, rtol=0)
    sharp = list(traced_frames(image, constant(96, 96, 1.0, 0.0), everywhere(image), 24))
    energies = [[(f - F.avg_pool2d(f, 3, 1, 1)).var() for f in clip] for clip in (frames, sharp)]
    assert energies[0][12] < 0.6 * energies[0][0]
    assert min(energies[1]) > 0.85 * energies[1][0]


def test_numbers_picks_frames_and_errors_come_at_once():
    image = noise(24, 32)
    flow, mask = 0.3 * swirl(24, 32), everywhere(image)
    whole = list(traced_frames(image, flow, mask, 8))
    some = list(traced_frames(image, flow, mask, 8, numbers=[0, 3, 7]))
    assert len(whole) == 8 and all(torch.equal(a, whole[n]) for a, n in zip(some, (0, 3, 7)))
    for arguments, word in (
        (dict(blend="cubic"), "video.blend"),
        (dict(light="off"), "video.light"),
        (dict(light=mask[:, 1:]), "light"),
        (dict(n_frames=0), "n_frames"),
        (dict(mask=mask[:, 1:]), "expected"),
    ):
        with pytest.raises(ValueError, match=word):
            traced_frames(**{**dict(image=image, flow=flow, mask=mask, n_frames=8), **arguments})


def test_light_at_rest_keeps_large_brightness_and_moves_detail():
    x = torch.linspace(0, 1, 128).expand(128, 128)
    image = (0.3 + 0.4 * x + 0.2 * noise(128, 128, channels=1)[0]).expand(3, 128, 128).contiguous()
    flow, mask = constant(128, 128, 2.0, 0.0), everywhere(image)
    travels, rests = (
        list(traced_frames(image, flow, mask, 60, light=light, numbers=[20]))[0] for light in ("travels", "rests")
    )
    drift = [F.avg_pool2d((frame - image)[None], 32).abs().mean() for frame in (travels, rests)]
    assert drift[0] > 0.05 and drift[1] < 0.2 * drift[0]
    assert (rests - image).abs().mean() > 0.03  # and yet something moves


def test_light_rests_in_one_half_and_travels_in_the_other():
    y = torch.linspace(0, 12, 160)[:, None].expand(160, 120)
    image = (0.5 + 0.3 * y.sin() + 0.2 * (noise(160, 120, channels=1)[0] - 0.5)).expand(3, 160, 120).contiguous()
    flow, mask = constant(160, 120, 0.0, 1.0), everywhere(image)
    left = mask.clone()
    left[..., 60:] = False
    frames = {
        name: list(traced_frames(image, flow, mask, 40, light=light, numbers=[18]))[0]
        for name, light in (("travels", "travels"), ("rests", "rests"), ("left", left), ("everywhere", mask))
    }
    assert torch.equal(frames["everywhere"], frames["rests"])
    torch.testing.assert_close(frames["left"][..., :36], frames["rests"][..., :36], atol=0.02, rtol=0)
    torch.testing.assert_close(frames["left"][..., -36:], frames["travels"][..., -36:], atol=0.02, rtol=0)
    assert (frames["rests"] - frames["travels"])[..., :36].abs().mean() > 0.05


def test_features_in_tiles_are_those_of_the_whole_picture(monkeypatch):
    net, options = small_net(encoder_channels=[8, 13], decoder_channels=[12, 3], decoder_resample=["none"] * 2)
    net = net.fold()
    assert receptive_radius(net) == (4, 4)
    image, flow, mask = noise(64, 70), 0.4 * swirl(64, 70), everywhere(noise(64, 70))
    clips = []
    for tile in (512, 24):
        monkeypatch.setattr("text2cinemagraph.models.traced.TILE", tile)
        clips.append(list(traced_frames(image, flow, mask, 6, network=net, multiple=options.multiple)))
    for whole, tiled in zip(*clips):
        torch.testing.assert_close(whole, tiled, atol=1e-4, rtol=0)
    assert torch.equal(clips[0][0], image)


@pytest.mark.parametrize("size", [(17, 23), (9, 40), (1, 30)])
@pytest.mark.parametrize("network", [False, True])
def test_any_size(size, network):
    net, options = small_net(**SMALL)
    image = noise(*size)
    reading = {"network": net.fold(), "multiple": options.multiple} if network else {}
    frames = list(traced_frames(image, swirl(*size), everywhere(image), 3, **reading))
    assert all(frame.shape == (3, *size) and frame.isfinite().all() for frame in frames)


def test_only_what_may_move_is_made():
    image = noise(300, 300)
    mask = torch.zeros(1, 300, 300, dtype=torch.bool)
    mask[:, 200:230, 40:90] = True
    clip = TracedClip(
        image,
        0.5 * mask * torch.ones(2, 1, 1),
        mask,
        10,
        shore=False,
        network=None,
        decoders=None,
        multiple=1,
        keep_detail=True,
        engine="torch",
    )
    assert clip.tiles == [(192, 238, 32, 98)]
    assert np.isclose(clip.flow[:, 205, 50], 0.5).all()


def test_a_preview_is_small_and_shows_every_second_frame():
    image, flow = noise(600, 800), constant(600, 800, 1.5, 0.0)
    asked = rendering_of(Video(n_frames=60, speed=12.0), own_picture=True)
    small, slow, mask, rendering, fps = preview_of(image, flow, everywhere(image), asked, fps=30)
    assert (rendering["n_frames"], rendering["speed"], fps) == (30, 24.0, 15)
    assert small.shape == (3, 384, 512) and mask.shape == (1, 384, 512)
    torch.testing.assert_close(slow, constant(384, 512, 1.5 * 384 / 600, 0.0))
    resting = everywhere(image)
    resting[:, :300] = False
    asked = rendering_of(Video(), own_picture=True, resting=resting)
    light = preview_of(image, flow, everywhere(image), asked, fps=30)[3]["light"]
    assert light.shape == (1, 384, 512) and not light[:, :190].any() and light[:, 194:].all()


def test_motion_and_blend_follow_the_picture_unless_told():
    assert (Video().motion_of(False), Video().motion_of(True)) == ("splat", "pixels")
    assert (Video().blend_of("splat"), Video().blend_of("pixels")) == ("linear", "variance")
    assert Video(blend="variance").motion_of(False) == "pixels" and Video(motion="splat").motion_of(True) == "splat"
    assert Video(seconds=1.5, fps=20).n_frames == 30
    with pytest.raises(ValueError, match="video.motion"):
        Video(motion="splat", blend="variance")
