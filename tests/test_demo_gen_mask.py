"""Masks for a folder: names, resuming, broken pictures. The segmenter itself is tested elsewhere."""

import pytest
import torch

from data.media import read_image, read_mask, write_image
from demo.gen_mask import gen_mask, overlay, pictures


def lower_half(image):
    mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    mask[:, image.shape[1] // 2:] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    for name in ("1_input.jpg", "2_input.png", "river.PNG"):
        write_image(tmp_path / "in" / name, torch.rand(3, 8, 10))
    (tmp_path / "in" / "1_motion.pth").write_bytes(b"x")
    (tmp_path / "in" / "1_gt").mkdir()
    return tmp_path


def test_pictures_are_found_by_id(folder):
    assert {name: path.name for name, path in pictures(folder / "in").items()} == {
        "1": "1_input.jpg", "2": "2_input.png", "river": "river.PNG"}
    write_image(folder / "in" / "1.png", torch.rand(3, 8, 10))
    with pytest.raises(ValueError, match="1.png and 1_input.jpg .* 1_mask.png"):
        pictures(folder / "in")
    with pytest.raises(FileNotFoundError, match="no pictures"):
        pictures(folder / "in" / "1_gt")
    with pytest.raises(FileNotFoundError, match="no folder"):
        pictures(folder / "nowhere")


def test_masks_are_written_once_and_broken_pictures_skipped(folder):
    (folder / "in" / "0_input.jpg").write_bytes(b"no picture")
    written, kept, broken = gen_mask(folder / "in", folder / "out", lower_half)
    assert (written, kept) == (3, 0) and len(broken) == 1 and "0_input.jpg" in broken[0]
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["1_mask.png", "2_mask.png", "river_mask.png"]
    assert torch.equal(read_mask(folder / "out" / "1_mask.png"), lower_half(torch.zeros(3, 8, 10)))
    (folder / "out" / "2_mask.png").unlink()
    assert gen_mask(folder / "in", folder / "out", lower_half)[:2] == (1, 2)


def test_overlay_tints_the_mask_only(folder):
    assert gen_mask(folder / "in", folder / "out", lower_half, with_overlay=True)[0] == 3
    assert read_image(folder / "out" / "1_overlay.jpg").shape == (3, 8, 10)
    image = torch.rand(3, 8, 10)
    tinted = overlay(image, lower_half(image))
    assert torch.equal(tinted[:, :4], image[:, :4]) and (tinted[:, 4:] != image[:, 4:]).all()
