"""From words to an angle to a flow; the original's numbers where it is right, the intended behaviour where it is
not.
"""

import json
import math
import re

import numpy as np
import pytest
import torch
from text2cinemagraph.data.hint import (
    DIRECTIONS,
    blend_hint,
    blended_hint,
    cluster_centers,
    direction_hint,
    find_direction,
    sample_angle,
)

from tests.comparison import assert_near
from tests.golden_numbers import GOLDEN, evaluate, load_golden

# Captions of inference.json where the original's rewritten prompt or its answer is wrong, and what is meant.
FIXED = {
    "a waterfall in the rain in downwards direction": ("downwards", "a waterfall in the rain"),
    "waves on a mountain in right to left direction at night": ("right to left", "waves on a mountain at night"),
    "rain in left to right direction": ("left to right", "rain"),
    "a river flowing in Left to Right direction": ("left to right", "a river flowing"),
    "a stream in upwards direction, and in downwards direction": ("upwards", "a stream, and in downwards direction"),
}


def golden_seed():
    return load_golden("hints")[1]["seed"]


def hint_flows():
    """The flows [2,H,W] of hints.npz by name."""
    info = load_golden("hints")[1]
    expressions = {name: text.partition(" * discs ") for name, text in info["flows"].items()}
    flows = {name: evaluate(plain, seed=info["seed"]).float() for name, (plain, _, _) in expressions.items()}
    return {name: flow * discs(expressions[name][2], *flow.shape[1:]) for name, flow in flows.items()}


def discs(text, height, width):
    """The union of the discs of "(cy*h,cx*w,r) in (.2,.2,7),(...) with ..." as bool [H,W]; everywhere where there is no
    text.
    """
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")  # as numpy has it
    triples = [
        [float(number) for number in triple.split(",")] for triple in re.findall(r"\(([\d.]+,[\d.]+,[\d.]+)\)", text)
    ]
    inside = [(y - cy * height) ** 2 + (x - cx * width) ** 2 < r * r for cy, cx, r in triples]
    return torch.stack(inside).any(0) if inside else torch.ones(height, width, dtype=torch.bool)


# ---------------------------------------------------------------- golden numbers
@pytest.mark.golden
def test_angles_are_the_originals():
    theta = json.loads((GOLDEN / "inference.json").read_text())["theta"]
    assert list(theta["values"]) == list(DIRECTIONS)
    for phrase, values in theta["values"].items():
        ours = [sample_angle(phrase, seed) for seed in theta["python_random_seeds"]]
        assert ours == pytest.approx(values, abs=1e-9), phrase


@pytest.mark.golden
def test_clauses_are_found_as_the_original_means():
    for case in json.loads((GOLDEN / "inference.json").read_text())["find_dir"]:
        expected = FIXED.get(case["caption"], (case["directional_returns"], case["prompt_for_s1"]))
        assert find_direction(case["caption"]) == expected


@pytest.mark.golden
def test_constant_hint_is_the_originals():
    case = json.loads((GOLDEN / "inference.json").read_text())["generate_hint"]
    golden, seed = np.load(GOLDEN / "inference.npz"), golden_seed()
    mask = evaluate(case["mask"], seed=seed)[0] > 0
    for i, phrase in enumerate(case["phrases"]):
        hint = direction_hint(mask, sample_angle(phrase, seed * 7 + i))
        unit = hint[:, mask[0]].mean(1)  # of length 1, so a bound of 1e-4 is one of its size
        np.testing.assert_allclose(unit, golden[f"generate_hint.{i}.uv_on_mask_mean"], atol=1e-4)
        deviation = (hint[:, mask[0]] - hint[:, mask[0]].mean(1, keepdim=True)).abs().max()
        assert deviation <= golden[f"generate_hint.{i}.max_dev"] + 1e-6
        assert not hint[:, ~mask[0]].any() and golden[f"generate_hint.{i}.offmask_absmax"] == 0


@pytest.mark.golden
def test_blended_hint_is_the_originals():
    golden, case = load_golden("hints")
    stride = case["stride"]
    for name, flow in hint_flows().items():
        power = flow.double().square().sum(0, keepdim=True)
        mask = power > power.mean() / 10
        most, least = (int((power > power.mean() / 10 * share).sum()) for share in (1 - ROUNDING, 1 + ROUNDING))
        assert least <= golden[f"{name}.mask_count"] <= most and most - least < 4
        for k in range(1, 6):
            for kind in ("auto", "n10"):
                hint = blend_hint(flow, golden[f"{name}.k{k}.{kind}.centers_yx"], mask)[:, ::stride, ::stride]
                undecided = 2 * (most - least) / hint.numel()  # pixels of the threshold may be in the mask or not
                assert_near(hint, golden[f"{name}.k{k}.{kind}.hint"], 1e-5, undecided, message=f"{name} {k} {kind}")
            ours, theirs = cluster_centers(mask, k), golden[f"{name}.k{k}.n10.centers_yx"]
            assert spread(mask, ours) == pytest.approx(spread(mask, theirs), rel=0.01)
            assert_near(blended_hint(flow, k), blend_hint(flow, ours, mask), 1e-5, 2 * (most - least) / flow.numel())


ROUNDING = 1e-5  # a float32 sum over the pixels is nearer than this to the true one


def spread(mask, centers):
    """Mean squared distance [px^2] of a mask's pixels to their nearest centre (y, x): what KMeans minimises."""
    pixels = np.argwhere(mask[0].numpy())
    return np.square(pixels[:, None] - np.asarray(centers)[None]).sum(2).min(1).mean()


# ---------------------------------------------------------------- words
@pytest.mark.parametrize("phrase", list(DIRECTIONS))
def test_every_phrase_is_found_whatever_its_spaces_and_case(phrase):
    for written in (
        phrase,
        phrase.upper(),
        phrase.replace(", ", " , "),
        phrase.replace(", ", ","),
        phrase.replace(" ", "  "),
    ):
        assert find_direction(f"a river in {written} direction near a mountain") == (phrase, "a river near a mountain")


@pytest.mark.parametrize(
    "prompt",
    [
        "a mountain in the rain",
        "a waterfall, upwards",
        "captain left to right direction",
        "a river in upwards directions",
        "a river within downwards direction",
        "",
    ],
)
def test_prompts_without_a_clause_stay_as_they_are(prompt):
    assert find_direction(prompt) == (None, prompt)


def test_what_is_left_of_a_prompt_reads_well():
    assert find_direction("a sea in upwards direction, at night") == ("upwards", "a sea, at night")
    assert find_direction("In downwards direction, a waterfall") == ("downwards", "a waterfall")
    assert find_direction("in downwards direction") == ("downwards", "")


def test_angles_lie_in_their_range_and_left_to_right_uses_both():
    for phrase, ranges in DIRECTIONS.items():
        angles = [sample_angle(phrase, seed) for seed in range(60)]
        assert all(any(low <= a <= high for low, high in ranges) for a in angles)
    flat = [sample_angle("left to right", seed) < 180 for seed in range(600)]
    assert 0.25 < np.mean(flat) < 0.42
    assert sample_angle("upwards", 3) == sample_angle("upwards", 3)
    with pytest.raises(ValueError, match="sideways"):
        sample_angle("sideways", 0)


# ---------------------------------------------------------------- fields
def test_direction_hint_points_where_it_says():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, :3] = True
    up = direction_hint(mask, 90, 2.5)
    assert up.shape == (2, 6, 8) and up.dtype == torch.float32
    assert torch.allclose(up[1, :3], torch.tensor(-2.5)) and up[0].abs().max() < 1e-6 and not up[:, 3:].any()
    right_down = direction_hint(mask, 330)
    assert right_down[0, 0, 0] == pytest.approx(math.cos(math.pi / 6)) and right_down[1, 0, 0] == pytest.approx(0.5)


def test_a_tiny_mask_gives_no_hint():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[0, 0, :4] = True
    assert not direction_hint(mask, 0).any()
    mask[0, 0, 4] = True
    assert direction_hint(mask, 0).any()


def test_blended_hint_of_few_pixels_none_and_a_constant_flow():
    assert not blended_hint(torch.zeros(2, 6, 8), 5).any()
    flow = torch.zeros(2, 6, 30)  # far apart for sigma = 6 / 2, so that they do not mix
    flow[:, 1, 2] = torch.tensor([1.0, -2.0])
    flow[:, 4, 26] = torch.tensor([-1.0, 2.0])
    few = blended_hint(flow, 5)  # the original saves a file of the wrong shape here
    assert few.shape == flow.shape and torch.allclose(few, flow, atol=1e-5)
    constant = torch.tensor([3.0, 1.0])[:, None, None].expand(2, 20, 30)
    assert torch.allclose(blended_hint(constant, 3), constant, atol=1e-5)
    assert torch.equal(blended_hint(constant, 3, seed=1), blended_hint(constant, 3, seed=1))
