"""Suggested arrows give the flow again; pictures of a motion show it."""

import numpy as np
import pytest
import torch
from text2cinemagraph.data.arrows import sample_arrows
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.data.harmonic import harmonic_flow
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion, read_motion_file, write_motion_file
from text2cinemagraph.data.motion_picture import flow_arrows, motion_picture, with_wheel
from text2cinemagraph.data.suggest import given_again, suggest_arrows


def scene(side=200):
    """(mask, flow) of a sky that drifts to the left, faster above, and a sea that turns round a point."""
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for _ in range(2)), indexing="ij")
    sky, sea = y < side * 0.4, y > side * 0.45
    flow = torch.stack([-(1.5 - y / side), 0.1 * torch.sin(x / 30)]) * sky
    flow = flow + torch.stack([-(y - side * 1.2), x - side * 0.5]) / side * 1.5 * sea
    return (sky | sea)[None], flow


def test_suggested_arrows_read_back_give_the_flow_again(tmp_path):
    mask, flow = scene()
    motion, share = suggest_arrows(flow, mask, 8)
    write_motion_file(tmp_path / "motion.json", motion)
    again = read_motion_file(tmp_path / "motion.json").at_size((200, 200))
    found = harmonic_flow(mask, sample_arrows(again, mask))
    assert 8 <= len(again.arrows) <= 24 and again.size == (200, 200)
    assert given_again(found, flow, mask) >= 0.8 and share >= 0.8
    assert given_again(-found, flow, mask) == 0


def test_more_arrows_are_suggested_only_where_few_do_not_reach():
    mask = torch.ones(1, 100, 140, dtype=torch.bool)
    even = torch.tensor([0.5, -0.2])[:, None, None].expand(2, 100, 140)
    motion, share = suggest_arrows(even, mask, 3)
    assert len(motion.arrows) == 1 and share == 1  # one says it all
    assert motion.arrows[0].speed == pytest.approx(0.5385, rel=0.01)
    with pytest.raises(ValueError, match="the flow is zero inside the mask"):
        suggest_arrows(torch.zeros(2, 50, 50), torch.ones(1, 50, 50, dtype=torch.bool), 3)


def test_the_picture_of_a_motion_is_dark_with_bright_arrows():
    mask, flow = scene()
    image = torch.full((3, 200, 200), 0.8)
    motion = DrawnMotion((Arrow(((40.0, 150.0), (110.0, 150.0)), 1.0),), ((150.0, 180.0),))
    plain, drawn = motion_picture(image, mask, flow), motion_picture(image, mask, flow, motion)
    assert plain.shape == (200, 200, 3) and plain.dtype == np.uint8
    assert abs(int(plain[84, 100, 0]) - 204 * 0.3) < 8  # between sky and sea: no arrow
    changed = (plain != drawn).any(2)
    assert changed[148:153, 45:105].mean() > 0.9 and changed[176:184, 146:154].mean() > 0.5
    assert not changed[:100].any()
    yellow = drawn[150, 70].astype(int)
    assert yellow[0] > 200 and yellow[2] < 130


def test_small_arrows_point_with_the_flow():
    mask, flow = scene()
    found = flow_arrows(flow, mask)
    assert len(found) > 60 and flow_arrows(flow * 0, mask) == []
    for (x0, y0), (x1, y1), speed in found:
        middle = flow[:, int((y0 + y1) / 2), int((x0 + x1) / 2)]
        assert (middle * torch.tensor([x1 - x0, y1 - y0])).sum() > 0.9 * speed * np.hypot(x1 - x0, y1 - y0)


def test_the_wheel_shows_the_colour_of_each_direction():
    flow = torch.zeros(2, 100, 120)
    flow[0] = 1.0  # to the right
    pixels = flow_to_color(flow)
    shown = with_wheel(pixels)
    assert (shown[:70] == pixels[:70]).all() and (shown != pixels).any()
    middle_y, middle_x = 100 - 2 - 13, 120 - 2 - 13
    right = shown[middle_y, middle_x + 8].astype(int)
    left = shown[middle_y, middle_x - 8].astype(int)
    assert np.abs(right - pixels[0, 0]).max() < 90 and np.abs(left - pixels[0, 0]).max() > 150
