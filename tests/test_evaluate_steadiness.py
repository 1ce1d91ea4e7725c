"""Known loops: what pulses by 30 % is measured as 30 %, a doubled picture as one half, a picture at rest as itself."""

import cv2
import numpy as np
import pytest
from text2cinemagraph.evaluate.steadiness import steadiness

SIZE, FRAMES = 160, 24


def texture(seed=0, sigma=0.8):
    noise = np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma)
    return 128 + 30 * noise / noise.std()


def gray(luma):
    return np.repeat(np.float32(luma)[..., None], 3, 2)


def moved(luma, by):
    return np.roll(luma, by, axis=1)


def velocity(dx=2.0):
    return np.stack([np.full((SIZE, SIZE), dx), np.zeros((SIZE, SIZE))]).astype(np.float32)


def test_a_picture_at_rest_is_as_it_was():
    found = steadiness([gray(texture())] * FRAMES, velocity=velocity(0))
    for name in ("sharpness_least", "sharpness_mean", "speckle"):
        assert found[name] == pytest.approx(1, abs=1e-6) or found[name] is None
    for name in ("pulse", "flash", "brightness_drift", "colour_drift", "residual"):
        assert found[name] == pytest.approx(0, abs=1e-4)


def test_a_pulse_of_thirty_percent_is_thirty_percent():
    luma = texture()
    energy = 1 + 0.15 * np.cos(2 * np.pi * np.arange(FRAMES) / FRAMES + np.pi)  # largest less least is 0.3 of the mean
    found = steadiness([gray(128 + (luma - 128) * np.sqrt(e / energy[0])) for e in energy])
    assert found["pulse"] == pytest.approx(0.3, abs=0.03)
    assert found["sharpness_least"] == pytest.approx(1, abs=1e-3)


def test_a_flash_is_seen_where_the_loop_closes():
    luma = texture()
    frames = [gray(luma)] + [gray(128 + (luma - 128) * np.sqrt(0.8))] * (FRAMES - 1)
    found = steadiness(frames)
    assert found["flash"] == pytest.approx(0.2, abs=0.01) and found["pulse"] == pytest.approx(0, abs=1e-4)


def test_drift_of_brightness_and_colour():
    frames = [gray(texture()) for _ in range(FRAMES)]
    frames[7] = frames[7] + np.float32([6, 0, 0])
    found = steadiness(frames)
    assert found["colour_drift"] == pytest.approx(6, abs=1e-3)
    assert found["brightness_drift"] == pytest.approx(6 * 0.299, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_double_image_correlates_with_itself(share):
    """The mean of two copies, 2 px/frame * 24 frames apart, as symmetric splatting joins them."""
    luma, dx = texture(), 2
    frames = [
        gray((1 - share) * moved(luma, n * dx) + share * moved(luma, (n - FRAMES) * dx)) if n else gray(luma)
        for n in range(FRAMES)
    ]
    found = steadiness(frames, velocity=velocity(dx))
    assert found["double_image"] == pytest.approx(share, abs=0.06)
    if not share:
        assert found["residual"] < 1.5  # moved by whole pixels along the flow, but for the border


@pytest.mark.parametrize("alike", [0.3, 0.6])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_texture_that_repeats_itself_at_that_distance_counts_the_same(alike, share):
    """Of this texture so much comes again after each 2 px/frame * 24 frames; the plain correlation would see less."""
    dx, period, wide = 2, 2 * FRAMES, np.concatenate([texture(seed) for seed in (2, 3, 4)], 1)
    again = np.tile(texture(1)[:, :period], (1, -(-wide.shape[1] // period)))[:, : wide.shape[1]]
    wide = 128 + np.sqrt(alike) * (again - 128) + np.sqrt(1 - alike) * (wide - 128)
    cut = lambda by: wide[:, SIZE - by : 2 * SIZE - by]  # noqa: E731
    frames = [
        gray((1 - share) * cut(n * dx) + share * cut((n - FRAMES) * dx)) if n else gray(cut(0)) for n in range(FRAMES)
    ]
    found = steadiness(frames, velocity=velocity(dx))["double_image"]
    assert found == pytest.approx(share * (1 - share) / (share**2 + (1 - share) ** 2), abs=0.03)


def test_no_double_image_is_claimed_of_a_pattern_that_is_the_same_again():
    pattern = np.tile(texture()[:, : 2 * FRAMES], (1, 4))[:, :SIZE]
    frames = [gray(pattern)] * FRAMES
    assert steadiness(frames, velocity=velocity(2))["double_image"] is None


def test_boiling_is_a_residual():
    frames = [gray(texture(seed)) for seed in range(FRAMES)]
    found = steadiness(frames, velocity=velocity())
    assert found["residual"] == pytest.approx(30 * np.sqrt(2) * np.sqrt(2 / np.pi), rel=0.1)  # of two normal textures


def test_step_and_speckle_at_the_edge():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, 80:] = True
    smooth = cv2.GaussianBlur(texture(), (0, 0), 4)
    jump, comb = smooth.copy(), smooth.copy()
    jump[:, 80:] += 40
    comb[:, 80:92:2] += 20
    still, jumped, combed = (steadiness([gray(smooth)] + [gray(x)] * (FRAMES - 1), mask) for x in (smooth, jump, comb))
    assert still["step"] == pytest.approx(1) and jumped["step"] > 3 and combed["speckle"] > 5 * still["speckle"]


def test_errors_say_what_fits():
    with pytest.raises(ValueError, match="at least"):
        steadiness([gray(texture())] * 3)
    with pytest.raises(ValueError, match="use the mask"):
        steadiness([gray(texture())] * FRAMES, np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="black"):
        steadiness([gray(texture())] * FRAMES, np.zeros((SIZE, SIZE), bool))
