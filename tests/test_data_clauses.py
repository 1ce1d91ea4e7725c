"""Several directions in one prompt: what each clause moves, and how fast."""

import pytest
import torch
from text2cinemagraph.data.clauses import Clause, clauses_hint, read_clauses, share_out
from text2cinemagraph.data.hint import DIRECTIONS, find_directions, prompt_hint, sample_angle, without_directions

TWO = "a river flowing in left to right direction under clouds drifting in right to left direction"
CLASSES = [["water", "river", "lake"], ["sky", "clouds"]]


def test_each_clause_moves_the_nearest_noun_before_it():
    assert read_clauses(TWO, CLASSES) == [Clause("left to right", 1, "water"), Clause("right to left", 1, "sky")]
    turned = "clouds in upwards direction over a house, a lake in the rain in downwards direction"
    assert [clause.subject for clause in read_clauses(turned, CLASSES)] == ["sky", "water"]
    nearer = "a river and a lake in upwards direction, skies in downwards direction"
    assert [clause.subject for clause in read_clauses(nearer, [["river"], ["lake"], ["sky"]])] == ["lake", "sky"]


@pytest.mark.parametrize(
    "written, meant", [("cloud", "clouds"), ("rivers", "river"), ("skies", "sky"), ("Lakes", "lake")]
)
def test_one_or_many_is_the_same_noun(written, meant):
    prompt = f"{written} in upwards direction, a fire in downwards direction"
    assert read_clauses(prompt, [[meant], ["fire"]])[0].subject == meant


def test_one_clause_alone_moves_the_whole_mask_as_ever():
    for phrase in DIRECTIONS:
        prompt = f"a fountain in {phrase} direction"
        (clause,) = read_clauses(prompt, CLASSES)
        assert clause == Clause(phrase, 1.0, None)
        mask = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0)) > 0.4
        assert torch.equal(clauses_hint(mask, [clause], {}, speed=0.7, seed=3), prompt_hint(prompt, mask, 0.7, 3))
    assert read_clauses("a fountain", CLASSES) == []


@pytest.mark.parametrize(
    "words, factor",
    [
        ("drifting slowly", 0.5),
        ("slowly drifting", 0.5),
        ("gently moving", 0.5),
        ("that flows fast", 2),
        ("flowing RAPIDLY", 2),
        ("of a slowly dying star", 1),
        ("rapidly growing, drifting", 1),
        ("breakfast", 1),
        ("drifting", 1),
    ],
)
def test_a_word_before_the_clause_scales_its_speed(words, factor):
    assert read_clauses(f"clouds {words} in upwards direction", CLASSES) == [Clause("upwards", factor)]
    two = read_clauses(f"a river in upwards direction, clouds {words} in downwards direction", CLASSES)
    assert [clause.speed for clause in two] == [1, factor]


@pytest.mark.parametrize(
    "prompt, said",
    [
        ("a fire in upwards direction over a river in downwards direction", r"no noun .* \(nouns found: river\)"),
        ("a river in upwards direction, and in downwards direction", r'"in downwards direction" follows no noun'),
        ("a river in upwards direction at a lake in downwards direction", r'two directions for "water" .*river, lake'),
        ("a fire in upwards direction, smoke in downwards direction", "nouns found: none"),
    ],
)
def test_what_cannot_be_bound_is_told_with_the_nouns_found(prompt, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_clauses(prompt, CLASSES)
    assert len(str(caught.value)) < 240


def test_s1_sees_no_clause():
    assert without_directions(TWO) == "a river flowing under clouds drifting"
    assert without_directions("a stream in upwards direction, and in downwards direction") == "a stream, and"
    assert without_directions("a stream") == "a stream"
    assert [each.phrase for each in find_directions(TWO)] == ["left to right", "right to left"]


def test_each_region_gets_its_own_velocity():
    mask = torch.ones(1, 20, 30, dtype=torch.bool)
    mask[:, :, 25:] = False
    sky = torch.zeros_like(mask)
    sky[:, :10] = True
    regions = {"water": ~sky, "sky": sky}
    clauses = read_clauses(TWO.replace("drifting", "slowly drifting"), CLASSES)
    hint = clauses_hint(mask, clauses, regions, speed=2.0, seed=1)
    assert torch.equal(hint[:, 10:, :25], prompt_hint("in left to right direction", mask, 2.0, 1)[:, 10:, :25])
    assert torch.equal(hint[:, :10, :25], prompt_hint("in right to left direction", mask, 1.0, 1)[:, :10, :25])
    assert not hint[:, :, 25:].any() and sample_angle("right to left", 1) != sample_angle("left to right", 1)


def test_pixels_without_a_class_go_to_the_nearest_one():
    mask = torch.ones(1, 4, 9, dtype=torch.bool)
    mask[:, 3] = False
    one, two = torch.zeros_like(mask), torch.zeros_like(mask)
    one[:, :, :2], two[:, :, 6:] = True, True
    shared = share_out(mask, {"one": one, "two": two})
    assert torch.equal(shared["one"] | shared["two"], mask) and not (shared["one"] & shared["two"]).any()
    assert shared["one"][0, 0].tolist() == [True] * 4 + [False] * 5  # the middle column, 4, is nearer to 6 than to 1
    assert not any(region.any() for region in share_out(mask, {"one": one & False}).values())
