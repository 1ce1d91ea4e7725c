"""Distances of clips whose distance is known, and the order of clips from perfect to senseless."""

import numpy as np
import pytest
import torch
from text2cinemagraph.evaluate import video_quality
from text2cinemagraph.evaluate.video_quality import QualityMeter, lpips_missing, psnr, ssim_map


def pictures(seed, count=5, size=(32, 40)):
    return np.random.default_rng(seed).integers(20, 200, (count, *size, 3)).astype(np.uint8)


def measure(frames, truth, mask=None):
    meter = QualityMeter(mask, every=2)
    for pair in zip(frames, truth):
        meter.add(*pair)
    return meter.result()


def test_equal_clips():
    frames = pictures(0)
    assert measure(frames, frames) == {"psnr": 100, "ssim": pytest.approx(1)}


def test_a_shift_of_ten_levels_in_one_half():
    frames, mask = pictures(0), np.zeros((1, 32, 40), bool)
    mask[:, :, :20] = True
    brighter = np.where(mask[0, :, :, None], frames + 10, frames)
    found = measure(brighter, frames, mask)
    assert found["psnr_masked"] == pytest.approx(10 * np.log10(255**2 / 100))
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / 50))
    assert found["ssim_masked"] < found["ssim"] < 1
    assert measure(brighter, frames, ~mask)["psnr_masked"] == 100
    assert "psnr_masked" not in measure(brighter, frames, mask & False)
    with pytest.raises(ValueError, match="the clip is 40x30, the true one 40x32"):
        measure(frames[:, :30], frames)


def test_ssim_of_constants_is_the_formula():
    """Without structure only the luminance term is left: (2ab + c) / (a^2 + b^2 + c), c = (0.01 * 255)^2."""
    first, second, c = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 150, np.uint8), 2.55**2
    assert ssim_map(first, second).mean() == pytest.approx((2 * 100 * 150 + c) / (100**2 + 150**2 + c), rel=1e-3)
    assert psnr(0) == 100 and psnr(255**2) == 0


def test_lpips_is_measured_only_with_weights_at_hand(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "not measured" in lpips_missing() and "lpips" not in measure(pictures(0), pictures(1))
    monkeypatch.setattr(video_quality, "lpips_missing", lambda: None)
    monkeypatch.setattr(
        video_quality,
        "lpips_network",
        lambda device: lambda frame, truth: float(np.abs(frame - truth.astype(float)).mean()),
    )
    mask = np.zeros((32, 40), bool)
    mask[:4] = True
    found = measure(pictures(0), pictures(1), mask)
    assert found["lpips_masked"] == pytest.approx(found["lpips"] / 8, rel=0.2)
