"""Strokes of two colours: read by hue, brought to the picture's size, mistakes named."""

import numpy as np
import pytest
from PIL import Image
from text2cinemagraph.data.strokes import read_strokes


def drawn(path, size=(60, 80), colors=((0, 200, 0), (220, 20, 20)), mode="RGBA"):
    pixels = np.zeros((*size, 4), np.uint8)
    for i, color in enumerate(colors):
        pixels[10 + 30 * i : 14 + 30 * i, 20:60] = (*color, 255)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ("RGBA", "RGB"))
@pytest.mark.parametrize("wet", ((0, 200, 0), (30, 60, 240)))
def test_two_colours(tmp_path, mode, wet):
    moves, still = read_strokes(drawn(tmp_path / "s.png", colors=(wet, (220, 20, 20)), mode=mode), (60, 80))
    assert moves.shape == still.shape == (1, 60, 80)
    assert moves[0, 10:14, 20:60].all() and moves.sum() == 160
    assert still[0, 40:44, 20:60].all() and still.sum() == 160


@pytest.mark.parametrize("size", ((30, 40), (180, 240)))
def test_another_size_of_the_same_shape(tmp_path, size):
    moves, still = read_strokes(drawn(tmp_path / "s.png"), size)
    for found in (moves, still):
        assert found.shape == (1, *size) and found.float().mean() == pytest.approx(160 / 4800, rel=0.3)


def test_mistakes_are_named(tmp_path):
    path = tmp_path / "s.png"
    with pytest.raises(ValueError, match="80x60 px, the picture 80x80"):
        read_strokes(drawn(path), (80, 80))
    with pytest.raises(ValueError, match="no red stroke"):
        read_strokes(drawn(path, colors=((0, 200, 0),)), (60, 80))
    with pytest.raises(ValueError, match="no green or blue stroke"):
        read_strokes(drawn(path, colors=((220, 0, 0),)), (60, 80))
    Image.new("RGB", (80, 60), (0, 200, 0)).save(path)
    with pytest.raises(ValueError, match="coloured all over"):
        read_strokes(path, (60, 80))
    with pytest.raises(FileNotFoundError, match="no picture of strokes"):
        read_strokes(tmp_path / "none.png", (60, 80))
