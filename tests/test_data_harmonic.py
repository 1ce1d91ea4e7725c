"""Arrows inside a mask: channels, bends, regions, shores and anchors with known answers."""

import numpy as np
import pytest
import torch
from text2cinemagraph.data.arrows import sample_arrows
from text2cinemagraph.data.harmonic import arrowless_share, harmonic_flow
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion, read_motion_file

SIDE = 192


def flow_of(mask, motion, **more):
    """numpy [2,H,W] of a bool [H,W] and a DrawnMotion or the short text form."""
    motion = read_motion_file(motion) if isinstance(motion, str) else motion
    mask = torch.from_numpy(mask)[None]
    return harmonic_flow(mask, sample_arrows(motion.at_size(mask.shape[-2:]), mask), **more).numpy()


def grid(side=SIDE):
    """y, x of the pixels' centres."""
    return np.mgrid[:side, :side] + 0.5


def angles(flow, tangent):
    """Degrees between two fields [2,...]."""
    cross, dot = flow[0] * tangent[1] - flow[1] * tangent[0], (flow * tangent).sum(0)
    return np.degrees(np.abs(np.arctan2(cross, dot)))


def channel(angle, width=40):
    """(mask of a straight channel through the picture's middle, its direction)."""
    y, x = grid() - SIDE / 2
    direction = np.array([np.cos(angle), np.sin(angle)])
    return np.abs(x * direction[1] - y * direction[0]) < width / 2, direction


# ---------------------------------------------------------------- channels
@pytest.mark.parametrize("degrees", [0, 30, 90, 225])
def test_an_arrow_in_a_straight_channel_gives_a_uniform_flow_along_it(degrees):
    mask, direction = channel(np.radians(degrees))
    tail = SIDE / 2 - 10 * direction
    flow = flow_of(mask, DrawnMotion((Arrow((tuple(tail), tuple(tail + 20 * direction)), 1.5),)))
    inside = flow[:, mask]
    assert angles(inside, direction[:, None]).max() < 10
    speed = np.linalg.norm(inside, axis=0)
    assert speed.min() > 1.5 * 0.97 and speed.max() < 1.5 * 1.001
    assert not flow[:, ~mask].any()


def test_an_arrow_across_a_channel_s_axis_is_held_where_it_lies_and_the_channel_turns_it():
    mask, _ = channel(0.0)
    flow = flow_of(mask, "90,96>102,100@1")
    assert angles(flow[:, 98, 96], np.array([12.0, 4.0])) < 8
    assert angles(flow[:, 96, 10], np.array([1.0, 0.0])) < 3


def u_shape(side, width):
    """(mask, tangent [2,H,W]) of a channel: down on the left, round at the bottom, up on the right."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    from_middle, radius = np.hypot(x, y), side * 0.27
    bend, legs = np.abs(from_middle - radius) < width / 2, np.abs(np.abs(x) - radius) < width / 2
    tangent = np.stack([np.where(y >= 0, y / from_middle, 0), np.where(y >= 0, -x / from_middle, -np.sign(x))])
    return np.where(y >= 0, bend, legs), tangent


@pytest.mark.parametrize("side, width", [(128, 12), (192, 30), (320, 50)])
def test_a_u_shaped_channel_turns_the_flow_round(side, width):
    mask, tangent = u_shape(side, width)
    x = side * (0.5 - 0.27)
    flow = flow_of(mask, f"{x},{side * 0.25}>{x},{side * 0.35}@1")
    assert angles(flow[:, mask], tangent[:, mask]).max() < 15
    speed = np.linalg.norm(flow[:, mask], axis=0)
    assert speed.min() > 0.95 and speed.max() < 1.01  # one smooth velocity field would keep a twentieth


def test_a_coarser_grid_gives_the_same_flow():
    mask, tangent = u_shape(320, 50)
    fine, coarse = (flow_of(mask, "74,80>74,110@1", cells=cells) for cells in (25600, 6400))
    assert np.linalg.norm(fine - coarse, axis=0)[mask].mean() < 0.05


# ---------------------------------------------------------------- regions
def test_regions_without_contact_do_not_influence_each_other():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:80], mask[82:170] = True, True  # two pixels of shore between them
    both = flow_of(mask, "60,40>90,40@1; 90,120>60,120@2")
    upper, lower = flow_of(mask[:80], "60,40>90,40@1"), flow_of(mask, "90,120>60,120@2")
    np.testing.assert_allclose(both[:, :76], upper[:, :76], atol=1e-5)
    np.testing.assert_array_equal(both[:, 82:170], lower[:, 82:170])
    assert both[0, :80].min() > 0.9 and both[0, 82:170].max() < -1.8
    assert not lower[:, :80].any()  # no arrow: it stands still
    motion = read_motion_file("90,120>60,120@2")
    tensor = torch.from_numpy(mask)[None]
    assert arrowless_share(tensor, sample_arrows(motion, tensor)) == pytest.approx(80 / 168)


def test_two_arrows_that_contradict_each_other_meet_at_rest():
    mask = np.ones((SIDE, SIDE), bool)
    flow = flow_of(mask, "30,96>50,96@1; 160,96>140,96@1")
    speed = np.linalg.norm(flow, axis=0)
    assert speed[96, 40] > 0.95 and speed[96, 150] > 0.95 and speed[96, 95] < 0.1
    assert flow[0, :, :60].min() > 0.5 and flow[0, :, 135:].max() < -0.5


# ---------------------------------------------------------------- shores
def test_nothing_flows_through_the_shore_unless_an_arrow_says_so():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:120] = True  # the sea; below it stands the beach
    held = flow_of(mask, "96,40>96,80@1")
    assert held[1, 60, 96] > 0.95 and np.abs(held[1, 119]).max() < 0.3
    crossing = flow_of(mask, "96,60>96,140@1")
    assert crossing[1, 119, 90:102].min() > 0.9 and not crossing[:, 120:].any()
    assert crossing[1, 119, 96] > 3 * held[1, 119, 96]


def test_a_rock_is_flowed_round():
    y, x = grid()
    rock = np.hypot(x - 96, y - 96) < 20
    mask = (np.abs(y - 96) < 60) & ~rock
    flow = flow_of(mask, "20,96>50,96@1")
    assert flow[1, 84, 74] < -0.2 < 0.2 < flow[1, 108, 74]  # it parts
    assert flow[0, 60, 96] > 0.9 and flow[0, 132, 96] > 0.9
    inward = (flow[0] * (96 - x) + flow[1] * (96 - y)) / np.hypot(x - 96, y - 96)
    rim = mask & (np.hypot(x - 96, y - 96) < 21.5)
    assert np.abs(inward[rim]).max() < 0.4 and np.abs(inward[rim]).mean() < 0.1


# ---------------------------------------------------------------- anchors
def test_anchors_stand_and_do_not_turn_the_flow():
    mask, _ = channel(0.0, width=100)
    motion = DrawnMotion((Arrow(((20, 96), (40, 96)), 1.0),), ((120.0, 96.0), (150.0, 80.0)))
    flow = flow_of(mask, motion)
    speed = np.linalg.norm(flow, axis=0)
    for x, y in motion.anchors:
        assert speed[int(y) - 1 : int(y) + 1, int(x) - 1 : int(x) + 1].max() < 0.05
    assert speed[96, 30] > 0.95
    moving = mask & (speed > 0.1)
    assert angles(flow[:, moving], np.array([1.0, 0.0])[:, None]).max() < 8


# ---------------------------------------------------------------- what a hand may do
def test_an_arrow_keeps_its_own_direction_and_speed():
    rng = np.random.default_rng(0)
    mask = np.ones((SIDE, SIDE), bool)
    ends = rng.uniform(30, 160, (5, 2))
    arrows = tuple(
        Arrow((tuple(tail), tuple(tail + 25 * np.array([np.cos(a), np.sin(a)]))), speed)
        for tail, a, speed in zip(ends, rng.uniform(0, 6.28, 5), rng.uniform(0.2, 2, 5))
    )
    tensor = torch.from_numpy(mask)[None]
    samples = sample_arrows(DrawnMotion(arrows), tensor)
    flow = harmonic_flow(tensor, samples).numpy()
    for number in range(5):
        own = samples.owners == number
        x, y = samples.places[own].astype(int).T
        found, said = flow[:, y, x], samples.velocities[own].T
        assert np.median(angles(found, said)) < 3
        assert np.abs(np.linalg.norm(found, axis=0) / np.linalg.norm(said, axis=0) - 1).max() < 0.3


def test_a_trembling_hand_draws_a_smooth_arrow():
    path = tuple((20 + i, 96 + (i % 2)) for i in range(150))  # a staircase of 150 points
    flow = flow_of(np.ones((SIDE, SIDE), bool), DrawnMotion((Arrow(path, 1.0),)))
    assert angles(flow.reshape(2, -1), np.array([[1.0], [0.0]])).max() < 12


def test_a_brook_narrower_than_a_cell_still_flows():
    mask = np.zeros((400, 400), bool)
    mask[200:203] = True  # three pixels
    mask[:100] = True
    flow = flow_of(mask, "100,201>140,201@1; 100,50>60,50@1")
    assert flow[0, 201].min() > 0.9 and flow[0, :100].max() < -0.9


def test_arrows_outside_the_mask_are_named():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:90] = True
    with pytest.raises(ValueError, match=r"arrows\[1\] lies outside the mask"):
        flow_of(mask, "20,20>40,20; 20,120>40,120")


def test_arrows_partly_outside_count_inside_only():
    mask, _ = channel(0.0)
    tensor = torch.from_numpy(mask)[None]
    samples = sample_arrows(read_motion_file("96,20>96,96@1"), tensor)
    assert tensor[0][samples.places[:, 1].astype(int), samples.places[:, 0].astype(int)].all()
    assert len(samples.crossings) == 1 and samples.crossings[0, 1] == pytest.approx(76, abs=1.5)
