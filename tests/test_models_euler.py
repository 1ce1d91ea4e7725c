"""Euler integration: analytic answers, and the original's numbers to the bit."""

import json
import re

import numpy as np
import pytest
import torch
from text2cinemagraph.models.euler import displacement_maps, displacements, displacements_reversed, integrate

from tests.golden_numbers import evaluate, load_golden, recipe


def test_a_constant_field_moves_n_times_its_velocity():
    velocity = torch.tensor([0.5, -0.25])[None, :, None, None].expand(1, 2, 20, 30)
    moved, visible = integrate(velocity, [8])
    assert torch.equal(moved[0, :, 2:, :26], torch.tensor([4.0, -2.0])[:, None, None].expand(2, 18, 26))
    assert not visible[0, 0, :2].any() and not visible[0, 0, :, 26:].any() and visible[0, 0, 2:, :26].all()
    assert (moved[0][:, ~visible[0, 0]] == 31).all()  # max(H,W)+1: a splat drops it


def test_a_rotation_stays_near_its_circle():
    velocity = torch.from_numpy(recipe().vortex((1, 2, 65, 65), 0.02))
    moved, _ = integrate(velocity, [40])
    angle, x = torch.tensor(0.02 * 40), 10.0  # the pixel 10 px right of the centre
    expected = torch.stack([x * angle.cos() - x, x * angle.sin()])
    assert (moved[0, :, 32, 42] - expected).norm() < 0.5


def test_read_between_the_pixels_a_path_is_exactly_the_fields_own_and_nearer_to_the_circle():
    y, x = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    turn, n = 0.005, 60  # radians per frame: below half a pixel per frame, where rounding shows most
    inside = x.square() + y.square() < 28**2
    start, apart = torch.complex(x, y), {}
    for lookup in ("nearest", "bilinear"):
        *_, moved = displacements(turn * torch.stack([-y, x]), n, lookup)
        came = start + torch.complex(*moved)
        steps = start * complex(1, turn) ** n  # Euler's steps in the field itself, which is linear
        circle = start * torch.exp(torch.tensor(1j * turn * n))
        apart[lookup] = [float((came - end).abs()[inside].mean()) for end in (steps, circle)]
    assert apart["bilinear"][0] < 1e-4 and apart["nearest"][0] > 0.01
    assert apart["bilinear"][1] < 0.6 * apart["nearest"][1]


@pytest.mark.parametrize("lookup", ["nearest", "bilinear"])
def test_backwards_in_time_are_the_same_maps_and_who_leaves_is_lost(lookup):
    velocity = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(5))
    forth, back = (list(maps(velocity, 10, lookup)) for maps in (displacements, displacements_reversed))
    assert torch.equal(torch.stack(forth), torch.stack(back[::-1]))
    lost = [(moved == 17).all(0) for moved in forth]
    assert lost[-1].any() and all((later | ~earlier).all() for earlier, later in zip(lost, lost[1:]))


def test_each_batch_element_has_its_own_time_and_zero_steps_do_nothing():
    velocity = torch.randn(3, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    together, visible = integrate(velocity, torch.tensor([0, 3, 7]))
    assert together[0].abs().max() == 0 and visible[0].all()
    for i, n in enumerate((0, 3, 7)):
        assert torch.equal(together[i : i + 1], integrate(velocity[i : i + 1], [n])[0])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 16, 17])
def test_all_maps_of_a_clip_equal_integration_from_the_start(n):
    velocity = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(n))
    maps = displacement_maps(velocity, n)
    assert maps.shape == (n + 1, 2, 12, 16)
    for k in range(n + 1):
        assert torch.equal(maps[k], integrate(velocity[None], [k])[0][0])
    backwards = list(displacements_reversed(velocity, n))
    assert len(backwards) == n + 1 and torch.equal(
        torch.stack(backwards[::-1]), torch.stack(list(displacements(velocity, n)))
    )


@pytest.mark.golden
def test_golden_to_the_bit():
    file, info = load_golden("euler")
    flows = {name: evaluate(text, seed=info["seed"], round=np.round).float() for name, text in info["flows"].items()}
    for name, velocity in flows.items():
        for n in info["frames"]:
            moved, visible = integrate(velocity, [n])
            key, step = f"{name}.f{n}", int(file[f"{name}.f{n}.disp_stride"])
            assert np.array_equal(moved[0, :, ::step, ::step].numpy(), file[f"{key}.disp"]), key
            assert np.array_equal(np.packbits(~visible.numpy()), file[f"{key}.invalid"]), key
    for key in [k for k in file.files if k.startswith("batch.")]:
        size, step = key.split(".")[1], int(re.search(r"stride (\d+)", info["batch"])[1])
        frames = json.loads(re.search(r"\[.*?\]", info["batch"])[0])
        moved, _ = integrate(torch.cat([flows[f"drift.{size}"], flows[f"vortex.{size}"]]), frames)
        assert np.array_equal(moved[..., ::step, ::step].numpy(), file[key]), key
