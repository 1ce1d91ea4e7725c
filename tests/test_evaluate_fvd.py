"""The Fréchet distance against the original's numbers and against what mathematics says."""

import numpy as np
import pytest
from text2cinemagraph.evaluate.fvd import (
    Moments,
    bootstrap_interval,
    distance_of_features,
    frechet_distance,
    split_half_floor,
)

from tests.golden_numbers import load_golden, recipe


@pytest.mark.golden
@pytest.mark.parametrize("tag", ["full", "deficient"])
def test_golden_distance(tag):
    file, made = load_golden("fvd")
    names = {
        "seed": made["seed"],
        "shape": tuple(int(n) for n in file[f"{tag}.shape"]),
        "float64": np.float64,
        **vars(recipe()),
    }
    fake, real = (eval(made[kind].replace("<tag>", tag), names) for kind in ("fake", "real"))
    gaussians = [Moments().add(portion[:7]).add(portion[7:]).gaussian() for portion in (fake, real)]
    expected = float(file[f"{tag}.stable"])
    assert frechet_distance(*gaussians[0], *gaussians[1]) == pytest.approx(expected, rel=1e-7)
    assert distance_of_features(fake, real) == pytest.approx(expected, rel=1e-10)
    assert expected == pytest.approx(float(file[f"{tag}.authors_float64"]), rel=1e-6)
    assert np.square(gaussians[0][0] - gaussians[1][0]).sum() == pytest.approx(
        float(file[f"{tag}.mean_term"]), rel=1e-9
    )


def test_gaussians_whose_distance_is_known():
    """Diagonal covariances: the sum of (difference of means)^2 + (difference of deviations)^2."""
    rng = np.random.default_rng(0)
    mean1, mean2, deviation1, deviation2 = rng.normal(size=(4, 12))
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]  # turning both changes nothing
    found = frechet_distance(
        turn @ mean1, turn @ np.diag(deviation1**2) @ turn.T, turn @ mean2, turn @ np.diag(deviation2**2) @ turn.T
    )
    expected = np.square(mean1 - mean2).sum() + np.square(np.abs(deviation1) - np.abs(deviation2)).sum()
    assert found == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(mean1, np.eye(12), mean1, np.eye(12)) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(mean1, np.zeros((12, 12)), mean2, np.zeros((12, 12))) == pytest.approx(
        np.square(mean1 - mean2).sum()
    )


def test_two_dimensions_in_general_position():
    """tr (S1 S2)^1/2 of 2x2 matrices is sqrt(tr S1S2 + 2 sqrt(det S1S2))."""
    first, second = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[0.5, -0.2], [-0.2, 3.0]])
    product = first @ second
    expected = np.trace(first + second) - 2 * np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(np.zeros(2), first, np.zeros(2), second) == pytest.approx(expected, rel=1e-12)


def test_moments_lose_no_digits_beside_a_large_mean():
    features = np.random.default_rng(1).normal(size=(50, 4)) + 1e7
    moments = Moments()
    for start in range(0, 50, 3):
        moments.add(features[start : start + 3].astype(np.float64))
    mean, covariance = moments.gaussian()
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(features.T), rtol=1e-7)
    with pytest.raises(ValueError, match="1 feature vectors have no covariance"):
        Moments().add(np.ones((1, 3))).gaussian()


def test_the_interval_holds_the_true_distance_about_as_often_as_it_says():
    """3 dimensions, 80 vectors: the bias is small there, so the interval shall hold the closed form."""
    true, held = 0.25 * 3, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(size=(80, 3)), rng.normal(size=(80, 3)) + 0.5
        low, high = bootstrap_interval(first, second, draws=60, seed=seed)
        assert low <= distance_of_features(first, second) <= high
        held += low <= true <= high
    assert held >= 32


def test_the_floor_is_what_equal_sets_measure():
    """162 clips, 400 features: far from 0 although both sets come from one Gaussian."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(162, 400)), rng.normal(size=(162, 400))
    floor = split_half_floor(real, fake, splits=4)
    assert floor["n"] == 81 and floor["low"] <= floor["mean"] <= floor["high"]
    assert floor["value_at_n"] == pytest.approx(floor["mean"], rel=0.05)
    assert distance_of_features(real, fake) > 150
    assert split_half_floor(real, fake * 3, splits=4)["value_at_n"] > 2 * floor["mean"]
    assert split_half_floor(real[:3], fake[:3]) is None
