"""Masks brought to a picture's edges: planted shapes come back from rough masks and from a few strokes."""

import numpy as np
import pytest
import torch
from text2cinemagraph.evaluate.scribbles import agreement, strokes_of
from text2cinemagraph.img2img.edges import from_strokes, guided, refined, refined_classes, without_islands


def planted(size=(180, 240), seed=0):
    """A picture of two textures and the bool map of one of them: below a wavy shore, with an island."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    water = (y > 90 + 12 * np.sin(x / 25)) & (np.hypot(x - 170, y - 140) > 18)
    blue, brown = np.array((0.2, 0.45, 0.6)), np.array((0.5, 0.4, 0.25))
    picture = np.where(water[..., None], blue, brown) + rng.normal(0, 0.04, (*size, 3))
    return torch.from_numpy(np.float32(picture.clip(0, 1))).permute(2, 0, 1), torch.from_numpy(water)[None]


def test_a_rough_mask_moves_to_the_edge():
    image, true = planted()
    rough = torch.zeros_like(true)
    rough[:, 115:, 40:] = True  # misses the shore's waves, covers the island
    found, agreed = refined(image, rough)
    before, after = (agreement(mask[0].numpy(), true[0].numpy()) for mask in (rough, found))
    assert after > 0.95 > before
    assert agreed == pytest.approx(agreement(rough[0].numpy(), found[0].numpy()))


def test_a_good_mask_agrees_and_trivial_ones_stay():
    image, true = planted()
    found, agreed = refined(image, true)
    assert agreed > 0.95 and agreement(found[0].numpy(), true[0].numpy()) > 0.95
    for mask in (torch.zeros_like(true), torch.ones_like(true)):
        assert refined(image, mask) == (mask, 1.0)


def test_islands_leave_a_mask():
    mask = torch.zeros(1, 100, 200, dtype=torch.bool)
    mask[:, :50] = True
    mask[:, 70:80, 20:30] = True  # 100 px of 10,100
    mask[:, 90:97, 100:110] = True  # 70 px
    kept = without_islands(mask)
    assert not kept[:, 60:].any() and torch.equal(kept[:, :60], mask[:, :60])
    assert torch.equal(without_islands(mask, 0.009)[:, :85], mask[:, :85])
    assert not without_islands(torch.zeros_like(mask)).any()


def test_classes_do_not_overlap():
    image, true = planted()
    rough = torch.zeros_like(true)
    rough[:, 120:] = True
    classes, least = refined_classes(image, {"water": rough, "land": ~rough})
    assert not (classes["water"] & classes["land"]).any() and least < 1
    assert torch.equal(classes["water"], refined(image, rough)[0])
    assert agreement(classes["land"][0].numpy(), ~true[0].numpy()) > 0.95


@pytest.mark.parametrize("scale", (1, 4))
def test_strokes_find_the_shape(scale):
    image, true = planted()
    image = torch.nn.functional.interpolate(image[None], scale_factor=scale, mode="bicubic")[0].clamp(0, 1)
    true = true.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    moves, still = (torch.from_numpy(strokes_of(region))[None] for region in (true[0].numpy(), ~true[0].numpy()))
    assert 0 < moves.float().mean() < 0.1 and not (moves & still).any()
    found = from_strokes(image, moves, still)
    assert found.shape == true.shape and agreement(found[0].numpy(), true[0].numpy()) > 0.95
    assert (found[moves].float().mean(), found[still].float().mean()) == (1, 0)
    assert torch.equal(found, from_strokes(image, moves, still))


def test_one_kind_of_strokes_is_not_enough():
    image, true = planted()
    with pytest.raises(ValueError, match="must not move"):
        from_strokes(image, true, torch.zeros_like(true))


def test_the_guided_filter_keeps_what_is_linear_in_the_guide():
    rng = np.random.default_rng(0)
    guide = np.float32(rng.random((40, 50, 3)))
    values = np.float32(guide @ np.array([0.2, -0.5, 0.9]) + 0.1)
    assert np.abs(guided(guide, values, 3, 1e-6) - values).max() < 0.02
    flat = np.full((40, 50, 3), 0.5, np.float32)
    step = np.float32(np.arange(50) >= 25)[None].repeat(40, 0)
    smooth = guided(flat, step, 3, 1e-4)[20]  # nothing to follow: a box blur of a box blur
    assert np.allclose(smooth[[10, 40]], [0, 1], atol=1e-4) and np.all(np.diff(smooth[15:35]) > -1e-5)
