"""The library's doors: a picture set once and rendered often, motion by words and arrows, and the example script."""

import numpy as np
import pytest
import torch
from text2cinemagraph import Cinemagraph, read_image, write_clip
from text2cinemagraph.data.files import sha256
from text2cinemagraph.data.flow import read_flow
from text2cinemagraph.data.media import write_image, write_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.demo import own_photo
from text2cinemagraph.inference_t2c import main
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.models.loop import LoopRenderer
from text2cinemagraph.models.video import VideoModel, fade_in, lay_over

RIVER = "a river flowing in left to right direction"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """(folder with photo.png and mask.png, the picture, its mask): noise, of which the lower half may move."""
    folder = tmp_path_factory.mktemp("photo")
    rng = np.random.default_rng(3)
    small = torch.from_numpy(rng.random((1, 3, 16, 24), dtype=np.float32))
    image = torch.nn.functional.interpolate(small, (64, 96), mode="bicubic").clamp(0, 1)[0]
    mask = torch.zeros(1, 64, 96, dtype=torch.bool)
    mask[:, 32:] = True
    write_image(folder / "photo.png", image)
    write_mask(folder / "mask.png", mask)
    return folder, read_image(folder / "photo.png"), mask


@pytest.fixture(scope="module")
def model():
    return Cinemagraph.load("inference_mini_directional", "video.n_frames=6", "runtime.threads=1")


def test_the_package_loads_nothing_until_it_is_asked():
    import text2cinemagraph

    assert "Cinemagraph" in dir(text2cinemagraph)
    with pytest.raises(AttributeError, match="Cinemagraf"):
        text2cinemagraph.Cinemagraf()


def test_the_library_makes_what_the_command_line_makes(photo, model, tmp_path):
    folder, image, mask = photo
    main(
        ["--config", "inference_mini_directional", "--image", str(folder / "photo.png"), "--stage", "s1-s6"]
        + [
            "--mask",
            str(folder / "mask.png"),
            "--prompt",
            RIVER,
            "--use_hint",
            f"twin_extraction.exp_path_root={tmp_path}",
        ]
        + ["video.n_frames=6", "runtime.threads=1", "--name", "run"]
    )
    loop = model.animate(image, mask, prompt=RIVER)
    assert torch.equal(loop.flow, read_flow(tmp_path / "run" / "flow.npz"))
    path = write_clip(tmp_path / "library.mp4", loop.frames, loop.fps, model.options.video.quality)
    assert sha256(path) == sha256(tmp_path / "run" / "video.mp4")


def test_a_picture_is_encoded_once_for_many_loops(photo, model, monkeypatch):
    _, image, mask = photo
    encoded, encode = [], VideoModel.encoded
    monkeypatch.setattr(VideoModel, "encoded", lambda self, picture: encoded.append(1) or encode(self, picture))
    loop = model.video.set_image(image, mask)
    flow = torch.tensor([0.1, 0.05])[:, None, None] * mask  # below the clamp
    slow, fast = (list(loop.render(flow, 4, speed=speed, motion="splat")) for speed in (0.5, 2.0))
    assert len(encoded) == 1 and not torch.equal(slow[2], fast[2])
    again = list(model.video.set_image(image, mask).render(2.0 * flow, 4, motion="splat", clamp="none"))
    assert len(encoded) == 2 and all(torch.equal(a, b) for a, b in zip(fast, again))
    for frame in (*slow, *fast):
        assert torch.equal(frame[:, :32], image[:, :32])


def test_motion_from_words_from_arrows_and_from_both_doors(photo, model):
    _, image, mask = photo
    told = model.motion.predict(image, mask, arrows="10,48>80,48")
    assert told.method == "arrows" and told.hint is None
    assert (told.flow[0][mask[0]] > 0).all() and not told.flow[:, ~mask[0]].any()
    words = model.motion.predict(image, mask, prompt=RIVER)
    assert words.method == "network"
    assert torch.equal(words.hint, model.motion.hint_from(mask, prompt=RIVER))
    assert model.motion.hint_from(mask, arrows="10,48>80,48")[0][mask[0]].mean() > 0
    assert model.motion.hint_from(mask) is None


def test_what_moves_is_found_where_no_mask_is_given(model):
    scene = Scene(11, "river", "day", size=128)
    image = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)
    loop = model.animate(image, prompt=RIVER, n_frames=3, fps=12)
    assert torch.equal(loop.mask, model.segment(image).mask)
    true = torch.from_numpy(scene.mask.copy())[None]
    assert (loop.mask & true).sum() > 0.5 * (loop.mask | true).sum()
    frames = list(loop.frames)
    assert (len(frames), loop.fps) == (3, 12) and not torch.equal(frames[1], frames[0])
    assert torch.equal(frames[1][:, ~loop.mask[0]], image[:, ~loop.mask[0]])


@pytest.mark.parametrize("motion", ["pixels", "splat"])
def test_what_moves_alone_laid_over_the_picture_is_the_loop(photo, model, motion):
    _, image, mask = photo
    flow, loop = mask.float() * torch.tensor([0.6, 0.2])[:, None, None], model.video.set_image(image, mask)
    whole, alone = (list(loop.render(flow, 4, motion=motion, feather=0.05, alpha=alpha)) for alpha in (False, True))
    for frame, layer in zip(whole, alone):
        assert layer.shape == (4, *image.shape[1:])
        assert torch.equal(lay_over(layer[:3], image, layer[3:]), frame)
        assert torch.equal(layer[3:], fade_in(mask, 3)) and not layer[3:][~mask].any()
        assert torch.equal(layer[:3, ~mask[0]], image[:, ~mask[0]])
    assert (alone[0][3] == 1).any() and ((alone[0][3] > 0) & (alone[0][3] < 1)).any()


def test_what_does_not_fit_is_told(photo, model):
    _, image, mask = photo
    with pytest.raises(ValueError, match="set_image"):
        LoopRenderer().render(torch.zeros(2, 64, 96))
    loop = LoopRenderer().set_image(image, mask)
    flow = mask.float().expand(2, -1, -1)
    for arguments, word in (
        ({"motion": "splat"}, "load"),
        ({"motion": "sideways"}, "sideways"),
        ({"composite": False}, "composite"),
        ({"motion": "splat", "numbers": (0, 2)}, "numbers"),
        ({"alpha": True, "motion": "splat", "composite": False}, "alpha"),
    ):
        with pytest.raises(ValueError, match=word):
            loop.render(flow, 4, **arguments)
    with pytest.raises(ValueError, match="expected"):
        LoopRenderer().set_image(image, mask[:, :8])
    with pytest.raises(ValueError, match="black"):
        model.motion.predict(image, torch.zeros_like(mask), arrows="10,48>80,48")
    with pytest.raises(ValueError, match="ends in none"):
        write_clip("loop.avi", [])


def test_the_example_for_own_photographs(photo, tmp_path):
    folder, _, mask = photo
    words = [str(folder / "photo.png"), str(tmp_path / "loop.mp4"), "10,48>80,48"]
    own_photo.main([*words, "--mask", str(folder / "mask.png"), "--seconds", "0.2"])
    frames = [frame.astype(int) for frame in read_video(tmp_path / "loop.mp4")]
    assert len(frames) == 6  # an animated picture would leave out frames that are equal
    assert np.abs(frames[3] - frames[0])[mask[0].numpy()].mean() > 1
    lines = open(own_photo.__file__).read().splitlines()
    assert len(lines) <= 40
