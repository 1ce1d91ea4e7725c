"""The decoder of a clip: the network's own numbers, on whole frames and on the rectangle that can change; every
engine.
"""

import importlib.util
import os
import sys

import pytest
import torch
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.models.clip_decoder import ClipDecoder, Rect, moving_rect
from text2cinemagraph.models.engines import Decoders
from text2cinemagraph.models.euler import displacements
from text2cinemagraph.models.networks import build_video
from text2cinemagraph.models.video import VideoModel, load_video_model
from text2cinemagraph.options.runtime import dtype_of, make_runtime
from text2cinemagraph.options.train import VideoOptions
from text2cinemagraph.softmax_splatting import splat_blend

from tests.comparison import assert_near

SMALL = dict(
    encoder_channels=[8, 8, 13],
    decoder_channels=[12, 16, 16, 8, 8, 3],
    decoder_resample=["none", "Down", "Down", "Up", "Up", "none"],
)
SAME = 1e-4  # of the largest number; a pixel that was not computed anew is off by a hundred times as much
H, W = 144, 176  # px; a moving pixel reaches some forty pixels through the decoder


def small_net(seed=0, **options):
    """A folded network whose norms have seen pictures."""
    torch.manual_seed(seed)
    options = VideoOptions(**{**SMALL, **options})
    net = build_video(options).train()
    with torch.no_grad():
        for _ in range(3):
            net(
                torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.randn(1, 2, 32, 32), torch.tensor([[0, 2, 5]])
            )
    return net.eval().fold(), options


def frame_of(net, features, flow, n, back):
    """(blended, total) as s6 makes them: some frames forward, some back."""
    ahead, behind = list(displacements(flow, n))[-1], list(displacements(-flow, back))[-1]
    return splat_blend(features, (ahead, behind), (torch.full((H, W), 0.6), torch.full((H, W), 0.4)))


def patch_of_flow(y, x, height, width, speed=1.3):
    flow = torch.zeros(2, H, W)
    flow[0, y : y + height, x : x + width], flow[1, y : y + height, x : x + width] = speed, -0.4 * speed
    return flow


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("patch", [(60, 80, 8, 8), (0, 0, 9, 5), (H - 9, W - 8, 9, 8), (30, 0, 3, W), (71, 87, 1, 1)])
@torch.no_grad()
def test_only_what_can_change_is_computed_and_nothing_differs(patch, threads):
    net, _ = small_net()
    torch.set_num_threads(threads)  # conftest.py puts it back
    flow, features = patch_of_flow(*patch), torch.randn(12, H, W)
    whole, part = ClipDecoder(net.projector, features), ClipDecoder(net.projector, features, flow)
    assert part.out.area < whole.out.area == H * W
    for n, back in ((0, 7), (3, 4), (6, 1), (3, 4)):
        blended, total = frame_of(net, features, flow, n, back)
        wanted = net.projector(blended[None], (total > 0).float()[None])[0]
        assert_near(whole(blended, total), wanted, SAME)
        assert_near(part(blended, total), wanted, SAME)
    holes = torch.rand(1, H, W) > 0.3  # and with many holes, everywhere
    wanted = net.projector((features * holes)[None], holes.float()[None])[0]
    assert_near(whole(features * holes, holes.float()), wanted, SAME)


@torch.no_grad()
def test_a_clip_is_the_same_with_and_without_static_reuse():
    net, options = small_net()
    image, flow = torch.rand(3, H, W), patch_of_flow(20, 30, 12, 20)
    model = VideoModel(net, options)
    for detail in (False, True):
        plain = list(model.frames(image, flow, 6, keep_detail=detail, static_reuse=False))
        for one, other in zip(model.frames(image, flow, 6, keep_detail=detail), plain):
            assert_near(one, other, SAME)


@torch.no_grad()
@pytest.mark.parametrize("side", [1, 30, 50, 60, 70, 80])
def test_a_change_that_reaches_the_edges_on_its_way(side):
    """From one pixel to all of the picture: some of the last blocks work on their whole grid, the first ones on a
    part.
    """
    net, options = small_net()
    model, image = VideoModel(net, options), torch.rand(3, 96, 96)
    flow = torch.zeros(2, 96, 96)
    flow[:, 48 - side // 2 : 49 + side // 2, 48 - side // 2 : 49 + side // 2] = 0.4
    frames = [list(model.frames(image, flow, 5, static_reuse=reuse)) for reuse in (True, False)]
    for one, other in zip(*frames):
        assert_near(one, other, SAME)


@torch.no_grad()
def test_the_rectangle_holds_everything_that_moves():
    torch.manual_seed(1)
    flow = torch.zeros(2, 40, 50)
    flow[:, 12:20, 15:30] = torch.randn(2, 8, 15) * 2
    rect = moving_rect(flow)
    features = torch.rand(3, 40, 50)
    for displacement in [*displacements(flow, 20), *displacements(-flow, 20)]:
        moved, _ = splat_blend(features, (displacement,), (torch.ones(40, 50),))
        changed = ((moved - features).abs() > 1e-6).any(0)
        changed[rect.y0 : rect.y1, rect.x0 : rect.x1] = False
        assert not changed.any()
    assert rect.area < 40 * 50


def test_rectangles():
    grid = (64, 96)
    assert vars(Rect(3, 5, 0, 96).grown(2, grid)) == dict(y0=1, y1=7, x0=0, x1=96)
    for y0, y1 in ((0, 1), (3, 4), (4, 5), (6, 9), (63, 64)):  # pooling: which cells see rows y0..y1
        touched = [j for j in range(32) if any(y0 <= row < y1 for row in range(2 * j - 1, 2 * j + 2))]
        pooled = Rect(y0, y1, 0, 96).pooled(grid)
        assert pooled.y0 <= touched[0] and touched[-1] < pooled.y1 <= touched[-1] + 2


@pytest.mark.parametrize(
    "engine",
    [
        "openvino",
        pytest.param(
            "compile",
            marks=pytest.mark.skipif(
                not os.environ.get("T2C_SLOW"), reason="torch.compile takes minutes and a C++ compiler; set T2C_SLOW=1"
            ),
        ),
    ],
)
@torch.no_grad()
def test_engines_give_the_same_frames(engine):
    if engine == "openvino" and importlib.util.find_spec("openvino") is None:  # an import would report its use
        pytest.skip("OpenVINO is missing: pip install openvino")
    net, options = small_net()
    features = torch.randn(12, H, W)
    blended, total = frame_of(net, features, patch_of_flow(10, 10, 20, 20), 3, 4)
    made = Decoders(net).of_clip(features, engine=engine)(blended, total)
    assert_near(made, net.projector(blended[None], (total > 0).float()[None])[0], SAME)
    assert sys.modules.get("openvino_telemetry") is None, "OpenVINO tells others that it is used"


@torch.no_grad()
def test_half_precision_stays_near():
    net, options = small_net()
    image, flow = torch.rand(3, H, W), patch_of_flow(20, 30, 12, 20)
    exact = list(VideoModel(net, options).frames(image, flow, 3))
    net.to(torch.bfloat16)
    for one, other in zip(VideoModel(net, options).frames(image, flow, 3), exact):
        assert 10 * torch.log10(1 / (one - other).square().mean()) > 40  # dB


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_half_precision_stays_near_on_trained_weights(kind):
    """40 dB and more on the network of this repository, on a landscape and its flow."""
    scene = Scene(3, kind="river", size=96)
    image, flow = torch.from_numpy(scene.image).float().permute(2, 0, 1).contiguous(), torch.from_numpy(scene.flow)
    exact, near = (
        load_video_model("checkpoints/mini/video", None, make_runtime("cpu"), dtype=dtype_of(each)).frames(
            image, flow, 5
        )
        for each in ("fp32", kind)
    )
    errors = [(one - other.float()).square().mean().item() for one, other in zip(exact, near)]
    assert 1e-9 < max(errors) < 1e-4  # the worst frame; 1e-4 of 1 is 40 dB


def test_unknown_engines_are_told():
    net, options = small_net()
    with pytest.raises(ValueError, match="torch, compile, openvino"):
        VideoModel(net, options).frames(torch.rand(3, 8, 8), torch.zeros(2, 8, 8), 3, engine="tensorrt")
