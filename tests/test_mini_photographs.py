"""The segmenter on photographs: masks by hand are read right, figures are shares."""

from types import SimpleNamespace

import numpy as np
import pytest
from text2cinemagraph.mini.photographs import CAMERA_SKY, CHINA_LAKE, CHINA_SKY, filled, photographs
from text2cinemagraph.options.inference import Odise
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.pipeline.networks import Networks


def test_polygons_are_filled():
    assert np.array_equal(filled(("2,1 5,1 5,3 2,3",), (6, 8)), np.pad(np.ones((3, 4), bool), ((1, 2), (2, 2))))
    lake, sky, other = (
        filled(p, size) for p, size in ((CHINA_LAKE, (427, 640)), (CHINA_SKY, (427, 640)), (CAMERA_SKY, (512, 512)))
    )
    assert not (lake & sky).any() and lake.any() and sky[0].all()
    assert 0.05 < lake.mean() < 0.15 and 0.3 < sky.mean() < 0.5 and 0.2 < other.mean() < 0.4


def test_figures(monkeypatch):
    """A segmenter that calls the lower half water and the upper half sky, in the place of the trained one."""
    import torch
    from text2cinemagraph.mini import photographs as module

    def halves(image, words, bench):
        mask = torch.zeros(1, *image.shape[-2:], dtype=torch.bool)
        half = image.shape[-2] // 2
        mask[:, (slice(half, None) if words == module.WATER else slice(None, half))] = True
        return mask

    monkeypatch.setattr(module, "_seen", halves)
    found = photographs(
        SimpleNamespace(options=SimpleNamespace(odise=Odise()), runtime=make_runtime("cpu"), networks=Networks())
    )
    assert found["water_where_none_is"]["mean_share"] == pytest.approx(0.5, abs=0.01)
    half = np.zeros((427, 640), bool)
    half[:213] = True
    sky = filled(CHINA_SKY, (427, 640))
    assert found["sky"]["s3"] == pytest.approx((half & sky).sum() / (half | sky).sum())
    assert all(0 <= found[name][key] <= 1 for name in ("lake", "sky", "gray_sky") for key in ("s3", "to_edges"))
