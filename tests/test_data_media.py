"""Pictures, masks and videos: what is written comes back, and what cannot be read is named."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from text2cinemagraph.data.files import atomic, sha256
from text2cinemagraph.data.media import VideoWriter, read_image, read_mask, to_uint8, write_image, write_mask
from text2cinemagraph.data.videos import read_video


def test_every_level_survives_a_round_trip(tmp_path):
    levels = torch.arange(256).float().view(1, 16, 16).repeat(3, 1, 1) / 255
    write_image(tmp_path / "a.png", levels)
    assert torch.equal(read_image(tmp_path / "a.png"), levels)


def test_values_are_truncated_as_the_original_does():
    assert to_uint8(torch.full((3, 1, 1), 0.999))[0, 0, 0] == 254
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(3, 1, 1)).ravel().tolist() == [0, 255, 127]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "LA"])
def test_any_picture_mode_becomes_rgb(tmp_path, mode):
    Image.new("L", (7, 5), 255).convert(mode if mode != "I;16" else "I").convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 5, 7) and image.min() >= 0 and image.max() <= 1


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").min() == 1


def test_masks(tmp_path):
    mask = torch.rand(1, 6, 9) > 0.5
    write_mask(tmp_path / "m.png", mask)
    assert torch.equal(read_mask(tmp_path / "m.png", (6, 9)), mask)
    with pytest.raises(ValueError, match="9x6.*7x6"):
        read_mask(tmp_path / "m.png", (6, 7))


def test_masks_of_every_mode_size_and_polarity(tmp_path):
    mask = torch.zeros(1, 8, 12, dtype=torch.bool)
    mask[:, 2:6, 3:9] = True
    gray = Image.fromarray(mask[0].numpy().astype(np.uint8) * 255)
    for mode, picture in {
        "1": gray.convert("1"),
        "L01": Image.fromarray(mask[0].numpy().astype(np.uint8)),
        "P": gray.convert("P"),
        "RGB": gray.convert("RGB"),
        "I;16": Image.fromarray(mask[0].numpy().astype(np.uint16) * 65535),
        "alpha": Image.merge("RGBA", [gray.point(lambda _: 0)] * 3 + [gray]),
    }.items():
        picture.save(tmp_path / "m.png")
        assert torch.equal(read_mask(tmp_path / "m.png", (8, 12)), mask), mode
    gray.save(tmp_path / "m.png")
    assert torch.equal(read_mask(tmp_path / "m.png", (8, 12), invert=True), ~mask)
    larger = read_mask(tmp_path / "m.png", (16, 24))
    assert torch.equal(larger, mask.repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_broken_pictures_are_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match="bad.png"):
        read_image(tmp_path / "bad.png")
    with pytest.raises(FileNotFoundError, match="none.png"):
        read_image(tmp_path / "none.png")


def test_truncated_picture_is_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a.jpg"):
        read_image(tmp_path / "a.jpg")


def test_video_round_trip(tmp_path):
    frames = [torch.full((3, 34, 51), n / 10) for n in range(10)]
    with VideoWriter(tmp_path / "v.mp4") as video:
        for frame in frames:
            video.write(frame)
    back = list(read_video(tmp_path / "v.mp4"))
    assert len(back) == 10 and back[0].shape == (34, 52, 3)  # odd width gains one column
    assert all(abs(float(b.mean()) - n * 25.5) < 3 for n, b in enumerate(back))


def test_nothing_is_left_of_an_interrupted_write(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"the old one")
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(tmp_path / "v.mp4") as video:
            video.write(torch.zeros(3, 16, 16))
            raise KeyboardInterrupt
    with pytest.raises(RuntimeError):
        with atomic(tmp_path / "b.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == b"the old one"


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf")


def test_videos_say_how_their_colours_are_coded(tmp_path):
    """Untagged, a player takes large pictures for BT.709 and shifts greens and reds."""
    with VideoWriter(tmp_path / "v.mp4") as video:
        for _ in range(3):
            video.write(np.full((32, 32, 3), (30, 180, 60), np.uint8))
    with av.open(str(tmp_path / "v.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (6, 1)
