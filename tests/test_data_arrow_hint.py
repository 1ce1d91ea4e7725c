"""Dense hints from arrows, shores that stand, and arrows that a network must not leave."""

import numpy as np
import pytest
import torch
from text2cinemagraph.data.arrow_hint import arrow_hint, fade_at_shores, keep_arrows, leaves_arrows
from text2cinemagraph.data.arrows import pixel, sample_arrows
from text2cinemagraph.data.harmonic import harmonic_flow
from text2cinemagraph.data.hint import blend_hint
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion, read_motion_file

EVERYWHERE = torch.ones(1, 96, 128, dtype=torch.bool)


def samples_of(text, mask=EVERYWHERE, anchors=()):
    motion = read_motion_file(text)
    return sample_arrows(DrawnMotion(motion.arrows, anchors), mask)


# ---------------------------------------------------------------- the blend
def test_short_arrows_blend_as_published():
    """With one sample an arrow it is data.hint.blend_hint: the same weights and the same sigma."""
    places, values = [(20.5, 30.5), (100.5, 60.5), (60.5, 80.5)], [(1.0, 0.0), (0.0, -2.0), (-1.0, 1.0)]
    arrows = tuple(
        Arrow(((x, y), (x + 1e-3 * dx, y + 1e-3 * dy)), float(np.hypot(dx, dy)))
        for (x, y), (dx, dy) in zip(places, values)
    )
    ours = arrow_hint(EVERYWHERE, sample_arrows(DrawnMotion(arrows), EVERYWHERE))
    flow = torch.zeros(2, 96, 128)
    for (x, y), value in zip(places, values):
        flow[:, int(y), int(x)] = torch.tensor(value)
    published = blend_hint(flow, np.array([(int(y), int(x)) for x, y in places]), EVERYWHERE)
    assert (ours - published).abs().max() < 0.02 * 2


def test_a_long_arrow_does_not_narrow_the_blend():
    """sigma follows the number of arrows, not of samples."""
    two_short = arrow_hint(EVERYWHERE, samples_of("10,48>14,48@1; 118,48>122,48@3"))
    two_long = arrow_hint(EVERYWHERE, samples_of("2,48>40,48@1; 88,48>126,48@3"))
    middle = two_long[0, 48, 44:84]
    assert middle.min() > 1 and middle.max() < 3 and (middle.diff() >= -1e-6).all()  # no step between them
    assert (two_long - two_short)[0, 48, 64].abs() < 0.15


def test_far_from_every_arrow_the_nearest_counts():
    wide = torch.ones(1, 40, 2000, dtype=torch.bool)
    hint = arrow_hint(wide, samples_of("5,20>15,20@1; 30,20>20,20@2", wide))
    assert hint.isfinite().all() and hint[0, 20, 1990] == pytest.approx(-2, abs=0.01)


def test_parts_that_do_not_touch_listen_to_their_own_arrows():
    mask = EVERYWHERE.clone()
    mask[:, 40:44], mask[:, :, 124:126] = False, False
    hint = arrow_hint(mask, samples_of("20,20>40,20@1; 40,70>20,70@2", mask))
    assert torch.allclose(hint[0, :40, :124], torch.tensor(1.0)) and torch.allclose(
        hint[0, 44:, :124], torch.tensor(-2.0)
    )
    assert not hint[:, 40:44].any() and hint[0, 20, 127] != 0  # a part without an arrow hears all


def test_an_anchor_slows_the_blend():
    plain, held = (arrow_hint(EVERYWHERE, samples_of("20,48>40,48@1", anchors=a)) for a in ((), ((90, 48),)))
    assert plain[0].min() == pytest.approx(1, abs=1e-5)
    assert held[0, 48, 90] < 0.5 < 0.55 < held[0, 48, 30] < 1


# ---------------------------------------------------------------- shores
def test_a_flow_from_words_fades_at_shores_and_not_at_the_border():
    mask = torch.zeros(1, 512, 512, dtype=torch.bool)
    mask[:, :300] = True
    flow = fade_at_shores(torch.ones(2, 512, 512) * mask, mask)
    assert flow[0, 0].min() == 1 and flow[0, :, 0][:200].min() == 1  # borders
    assert (flow[0, :280] == 1).all() and flow[0, 299, 9] == pytest.approx(1 / 20) and not flow[:, 300:].any()
    brook = torch.zeros_like(mask)
    brook[:, 100:108] = True
    assert fade_at_shores(brook.float().repeat(2, 1, 1), brook)[0, 103].min() == 1
    whole = torch.ones_like(mask)
    assert torch.equal(fade_at_shores(whole.float(), whole), whole.float())


# ---------------------------------------------------------------- arrows held
def test_arrows_keep_their_place_whatever_the_network_says():
    samples = samples_of("20,30>50,30@1; 100,80>100,50@0.5", anchors=((64, 48),))
    exact = harmonic_flow(EVERYWHERE, samples)
    wrong = torch.stack([torch.full((96, 128), -0.7), torch.full((96, 128), 0.7)])
    kept = keep_arrows(wrong, samples, exact)
    y, x = pixel(samples.places, (96, 128))
    assert not leaves_arrows(kept[:, y, x].T.numpy(), samples.velocities).any()
    assert torch.allclose(kept[:, 90, 5], wrong[:, 90, 5])  # far away the network's word counts
    assert kept[:, 47:49, 63:65].norm(dim=0).max() < 0.05


def test_a_network_that_follows_the_arrows_is_left_alone():
    samples = samples_of("20,30>50,30@1")
    close = torch.stack([torch.full((96, 128), 0.9), torch.full((96, 128), 0.1)])
    assert torch.equal(keep_arrows(close, samples, harmonic_flow(EVERYWHERE, samples)), close)


def test_what_leaves_an_arrow():
    said = np.array([[1.0, 0.0]] * 5)
    found = np.array([[1, 0.3], [1, 0.4], [0.72, 0], [0.68, 0], [0, 0]])
    assert leaves_arrows(found, said).tolist() == [False, True, False, True, True]
