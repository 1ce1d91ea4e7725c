"""--style and --mask_strokes as a user runs them, on the weights in checkpoints/mini: small and short."""

import json
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.media import read_image, read_mask, write_image, write_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.mini.scene import Scene

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def at_the_root():
    before = os.getcwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A landscape that stands for a photograph, 130x160 px, its river's mask, and strokes on and off the river."""
    folder = tmp_path_factory.mktemp("photo")
    scene = Scene(11, "river", "day", size=160)
    cut, mask = scene.image[20:150], scene.mask[20:150]
    write_image(folder / "photo.png", torch.from_numpy(cut.copy()).permute(2, 0, 1))
    write_mask(folder / "mask.png", torch.from_numpy(mask.copy())[None])
    strokes = np.zeros((130, 160, 4), np.uint8)
    y, x = np.nonzero(mask)
    deep = np.argsort(-y)[: len(y) // 2]
    strokes[y[deep[::7]], x[deep[::7]]] = (0, 255, 0, 255)
    y, x = np.nonzero(~mask)
    strokes[y[::40], x[::40]] = (255, 0, 0, 255)
    Image.fromarray(strokes).save(folder / "strokes.png")
    return folder


def run(folder, *words, name="e", formats="[mp4]"):
    settings = ["video.n_frames=4", f"video.formats={formats}", f"twin_extraction.exp_path_root={folder}"]
    inference_t2c.main(["--config", "configs/inference_mini.yaml", "--name", name, *map(str, words), *settings])
    return folder / name


def test_a_painted_loop_of_a_photograph(photo, tmp_path, capsys):
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png")
    folder = run(tmp_path, *words, "--style", "oil", "--prompt", "a river", formats="[mp4,apng]")
    said = capsys.readouterr().out
    assert "s1: Paint your photograph" in said and "s2 skipped: twin.png is yours" in said
    assert not (folder / "noise.safetensors").exists()  # no diffusion model was asked
    photograph, image, twin = (read_image(folder / name) for name in ("photograph.png", "image.png", "twin.png"))
    assert torch.equal(photograph, read_image(photo / "photo.png")) and torch.equal(photograph, twin)
    assert image.shape == photograph.shape and (image - photograph).abs().mean() > 0.02
    frames = list(read_video(folder / "video.mp4"))
    assert len(frames) == 4 and frames[0].shape == (130, 160, 3)
    still, painting = ~read_mask(photo / "mask.png")[0].numpy(), np.asarray(Image.open(folder / "image.png"))
    exact = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(folder / "video.apng"))]
    assert len(exact) == 4 and all(np.array_equal(frame[still], painting[still]) for frame in exact)
    assert not np.array_equal(exact[2], painting)
    change = np.abs(np.int16(frames[2]) - np.int16(frames[0])).max(-1)
    assert change[~still].mean() > 4 * change[still].mean()  # a codec lies between, and neighbours share its blocks
    # Another look of the photograph in the folder, without giving it again; then the loop of it.
    before = (folder / "image.png").read_bytes()
    run(tmp_path, "--stage", "s1", "--style", "pencil")
    assert (folder / "image.png").read_bytes() != before and torch.equal(read_image(folder / "twin.png"), twin)
    run(tmp_path, "--stage", "s6")


def test_without_style_the_photograph_itself_moves_again(photo, tmp_path):
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png", "--stage", "s1-s4")
    run(tmp_path, *words, "--style", "oil")
    folder = run(tmp_path, *words)
    assert torch.equal(read_image(folder / "image.png"), read_image(photo / "photo.png"))


def test_the_painted_picture_stays_when_later_stages_run_again(photo, tmp_path):
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png", "--style", "oil")
    folder = run(tmp_path, *words, "--stage", "s1")
    before = (folder / "image.png").read_bytes()
    run(tmp_path, *words, "--stage", "s3-s4")
    assert (folder / "image.png").read_bytes() == before
    write_image(tmp_path / "other.png", torch.rand(3, 130, 160))
    with pytest.raises(ValueError, match="paints in s1"):
        run(tmp_path, "--image", tmp_path / "other.png", "--style", "oil", "--stage", "s3-s4")
    with pytest.raises(FileNotFoundError, match="noise.safetensors; a painted photograph"):
        run(tmp_path, "--style", "oil", "--stage", "s2")
    # Another photograph of another size: the first one's mask is not its own.
    write_image(tmp_path / "third.png", torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(0)))
    run(tmp_path, "--image", tmp_path / "third.png", "--style", "oil", "--stage", "s1")
    assert read_image(folder / "image.png").shape == (3, 90, 120)


def test_brushstrokes_follow_arrows(photo, tmp_path, capsys):
    """What arrows say is the flow of s5: painting by it, found in a first run, gives the same picture to the byte."""
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png", "--style", "starry")
    mask = read_mask(photo / "mask.png")[0].numpy()
    y, x = np.nonzero(mask)
    row = int(np.median(y))
    left, right = x[y == row].min() + 2, x[y == row].max() - 2
    arrows = ("--arrows", f"{left},{row}>{right},{row}@0.5")
    folder = run(tmp_path, *words, *arrows, "--stage", "s1-s5")
    told = read_image(folder / "image.png")
    plain = read_image(run(tmp_path, *words, "--stage", "s1", name="plain") / "image.png")
    assert (told - plain)[:, torch.from_numpy(mask)].abs().mean() > 0.02
    by_flow = run(tmp_path, *words, "--flow", folder / "flow.npz", "--stage", "s1", name="flow")
    assert (by_flow / "image.png").read_bytes() == (folder / "image.png").read_bytes()
    # Another look of the same photograph: its arrows count still.
    run(tmp_path, "--stage", "s1", "--style", "ink")
    again = run(tmp_path, *words[:-1], "ink", *arrows, "--stage", "s1", name="again")
    assert (again / "image.png").read_bytes() == (folder / "image.png").read_bytes()
    assert "do not follow the arrows" not in capsys.readouterr().out
    run(tmp_path, *words[:2], "--style", "ink", *arrows, "--stage", "s1", name="maskless")
    assert "do not follow the arrows, as the mask is not known yet" in capsys.readouterr().out


def test_points_in_the_place_of_a_mask(photo, tmp_path):
    """Five points on the river and some on the land, in the motion file that also has the arrow."""
    true = read_mask(photo / "mask.png")
    (y, x), (down, across) = (np.nonzero(m) for m in (true[0].numpy(), ~true[0].numpy()))
    water = [[int(x[i]), int(y[i])] for i in np.linspace(len(y) * 0.3, len(y) - 1, 5).astype(int)]
    land = [[int(across[i]), int(down[i])] for i in range(0, len(down), len(down) // 9)]
    content = {"size": [160, 130], "may_move": water, "must_not_move": land}
    (tmp_path / "m.json").write_text(json.dumps(content))
    words = ("--image", photo / "photo.png", "--arrows", tmp_path / "m.json")
    folder = run(tmp_path, *words, "--stage", "s1-s5")  # no arrow: the network says how
    found = read_mask(folder / "mask_self_attn_erosion.png")
    assert (found & true).sum() / (found | true).sum() > 0.6
    assert not (folder / "motion.json").exists()
    own = run(tmp_path, *words, "--mask", photo / "mask.png", "--stage", "s1-s4", name="own")
    assert torch.equal(read_mask(own / "mask_self_attn_erosion.png"), true)  # a given mask counts before points
    (tmp_path / "m.json").write_text(json.dumps(content | {"must_not_move": water}))
    with pytest.raises(ValueError, match="at the same places"):
        run(tmp_path, *words)
    (tmp_path / "m.json").write_text(json.dumps(content | {"may_move": [[170, 3]]}))
    with pytest.raises(ValueError, match=r"may_move\[0\]: the point .170, 3. lies beyond the picture of 160x130"):
        run(tmp_path, *words)


def test_strokes_in_the_place_of_a_mask(photo, tmp_path):
    folder = run(tmp_path, "--image", photo / "photo.png", "--mask_strokes", photo / "strokes.png", "--stage", "s1-s5")
    found, true = read_mask(folder / "mask_self_attn_erosion.png"), read_mask(photo / "mask.png")
    assert (found & true).sum() / (found | true).sum() > 0.6


def test_s3_says_how_sure_it_is_of_a_photograph(photo, tmp_path, capsys):
    run(tmp_path, "--image", photo / "photo.png", "--stage", "s1-s4")
    assert "own edges agree with" in capsys.readouterr().out


def test_stages_that_have_nothing_to_do_say_so_and_name_the_next(tmp_path, photo, capsys):
    own = ("--image", photo / "photo.png", "--mask_strokes", photo / "strokes.png")
    for stage, said in (
        ("s4", "nothing to do: mask_self_attn_erosion.png is yours, no stage has to make it; go on with --stage s5"),
        ("s1-s2", "nothing to do: image.png, twin.png are yours, no stage has to make them; go on with --stage s3"),
    ):
        run(tmp_path, *(own if stage == "s4" else own[:2]), "--stage", stage, name=stage)
        told = capsys.readouterr().out
        assert said in told and "time:" not in told and "peak memory" not in told


@pytest.mark.parametrize(
    "words, said",
    [
        (("--style", "oil"), "give --image photo.jpg"),
        (("--style", "oyl", "--image", "photo.png"), "did you mean oil"),
        (("--image", "photo.png", "--mask", "mask.png", "--mask_strokes", "strokes.png"), "give one of them"),
        (("--mask_strokes", "strokes.png"), "give --image too"),
    ],
)
def test_mistakes_are_named(photo, tmp_path, words, said):
    words = [photo / w if str(w).endswith(".png") else w for w in words]
    with pytest.raises(ValueError, match=said):
        run(tmp_path, *words)


def test_a_segmenter_is_loaded_once_and_freed_when_no_later_stage_asks(photo, tmp_path, monkeypatch):
    """s1 looks for the sky and s3 for water with one model; afterwards it is on no shelf."""
    from text2cinemagraph.img2img import segment as door
    from text2cinemagraph.pipeline import segmenting
    from text2cinemagraph.pipeline.networks import Networks

    loaded, held = [], []

    def load(*arguments):
        loaded.append(weakref.ref(found := door.load_segmenter(*arguments)))
        return found

    class Shelf(Networks):
        def keep(self, names):
            super().keep(names)
            held.append(set(self._shelf))

    monkeypatch.setattr(segmenting, "load_segmenter", load)
    settings = [f"twin_extraction.exp_path_root={tmp_path}", "--image", str(photo / "photo.png"), "--style", "starry"]
    inference_t2c.main(["--config", "configs/inference_mini.yaml", "--stage", "s1-s3", *settings], Shelf())
    assert len(loaded) == 1 and loaded[0]() is None
    assert held[0] == {"segmenter"} and held[-1] == set()


@pytest.mark.parametrize("probability,known", [(0.6, False), (0.95, True)])
def test_stars_are_painted_where_the_sky_is_sure(probability, known, monkeypatch, capsys):
    from text2cinemagraph.img2img import segment
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.options.runtime import make_runtime
    from text2cinemagraph.pipeline import segmenting
    from text2cinemagraph.pipeline.networks import Networks
    from text2cinemagraph.pipeline.painting import find_sky
    from text2cinemagraph.pipeline.stages import RunState

    sky = torch.ones(1, 4, 4, dtype=torch.bool)
    found = segment.Segmentation(sky, {"sky": sky}, {"sky": probability})
    monkeypatch.setattr(segmenting, "segmenter_of", lambda *_: None)
    monkeypatch.setattr(segment, "segment", lambda *_: found)
    state = RunState(make_runtime("cpu"), Networks())
    assert (find_sky(torch.zeros(3, 4, 4), InferenceOptions(), state) is not None) == known
    assert ("no stars" in capsys.readouterr().out) != known
