"""Comparing numbers that another CPU adds up in another order: bounds are shares of the largest number."""

import numpy as np


def numbers(value):
    """A tensor, array or nested list as a float64 array."""
    value = value.detach().cpu().double().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, np.float64)


def assert_agree(found, expected, least):
    """The share of places where two arrays of labels are equal is at least `least`."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    share = (found == expected).mean()
    assert share >= least, f"{share:.2%} of the places agree, expected {least:.2%}"


def assert_near(value, expected, within, outliers=0.0, message=""):
    """Everywhere |value - expected| <= within * max |expected|.

    outliers: the share of places that may be further off, where a rounding decides between two answers (a pixel on the
    border between two cells, a division by a sum that is nearly 0).
    """
    value, expected = numbers(value), numbers(expected)
    assert value.shape == expected.shape, f"{message}: shape {value.shape} instead of {expected.shape}"
    assert np.isfinite(expected).all(), f"{message}: the expected numbers are not finite"
    largest = np.abs(expected).max(initial=0.0)
    off = np.abs(value - expected)
    wrong = ~(off <= within * largest)  # NaN is wrong
    assert wrong.mean() <= outliers if wrong.size else True, (
        f"{message}: {wrong.sum()} of {wrong.size} numbers are off by up to {off[wrong].max():.3g}, "
        f"where {within * largest:.3g} ({within:g} of the largest, {largest:.4g}) is allowed"
    )
