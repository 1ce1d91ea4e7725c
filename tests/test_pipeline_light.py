"""Where light rests under video.light=auto: by the classes of the vocabulary, and never in the published form."""

import os
from pathlib import Path

import pytest
import torch
from text2cinemagraph import Cinemagraph, inference_t2c
from text2cinemagraph.data.class_masks import read_classes
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.media import read_image, read_mask, write_image
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.img2img.segment import parse_vocabulary
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.options.inference import Video
from text2cinemagraph.pipeline.animating import is_still_water, rendering_of, resting_light, still_waters

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Configurations name weights relative to the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake under a sky, as a file."""
    path = tmp_path_factory.mktemp("lake") / "lake.png"
    write_image(path, torch.from_numpy(Scene(4, "lake", "day", size=128).image.copy()).permute(2, 0, 1))
    return path


def halves(height=40, width=30):
    """Three masks [1,H,W]: the upper half, the lower half, both."""
    upper = torch.zeros(1, height, width, dtype=torch.bool)
    upper[:, : height // 2] = True
    return upper, ~upper, torch.ones_like(upper)


def run(lake, folder, *words):
    given = ["--config", "configs/inference_mini.yaml", "--name", "e", "--image", str(lake)]
    quick = [
        "video.n_frames=8",
        "video.formats=[mp4]",
        "video.speed=5",
        "video.quality=0",
        f"twin_extraction.exp_path_root={folder}",
    ]
    inference_t2c.main([*given, "--prompt", "a lake", *quick, *words])
    return folder / "e"


def test_only_words_for_water_that_stands_count():
    still = "lake", "lakes", "Alpine Lake", "sea", "swimming pool", "harbour", "rock pools"
    assert all(is_still_water([word]) for word in still) and is_still_water(["lake", "pond"])
    flows = "water", "river", "waterfall", "sky", "clouds", "lake shore", "seal", "whirlpool", ""
    assert not any(is_still_water([word]) for word in flows)
    assert not is_still_water(["lake", "river"]) and not is_still_water([])


def test_every_pixel_counts_for_the_nearest_class():
    upper, lower, both = halves()
    mask = both.clone()
    mask[:, 15:25] = False  # a shore between them
    where, names = still_waters(mask, parse_vocabulary("sky; lake, pond"), {"sky": upper, "lake": lower})
    assert names == ["lake"] and not where[:, :19].any() and where[:, 21:].all()
    assert still_waters(mask, parse_vocabulary("sky; river"), {"sky": upper, "river": lower}) == (None, [])
    assert still_waters(mask, parse_vocabulary("sky; lake"), {"sky": upper, "lake": lower & ~both})[0] is None
    whole, names = still_waters(mask, parse_vocabulary("sea, ocean"), {})
    assert names == ["sea"] and whole.all()


def test_the_published_form_does_not_ask_and_what_is_said_counts():
    _, lower, _ = halves()
    assert Video().light == "auto" and Video().motion_of(False) == "splat"
    assert rendering_of(Video(), own_picture=False, resting=lower)["light"] == "travels"
    assert rendering_of(Video(), own_picture=True)["light"] == "travels"
    assert torch.equal(rendering_of(Video(), own_picture=True, resting=lower)["light"], lower)
    for said in ("travels", "rests"):
        assert rendering_of(Video(light=said), own_picture=True, resting=lower)["light"] == said


def test_the_folder_says_what_s3_saw(tmp_path):
    upper, lower, both = halves()
    experiment = Experiment(tmp_path, "e", inference_t2c.ARTIFACTS)
    experiment.folder.mkdir()
    assert resting_light(experiment, both) == (None, [])  # nobody has segmented
    experiment.note("s3", (), (), {"odise": {"vocab": "lake, pond"}})
    assert resting_light(experiment, both)[0].all()
    experiment.write(classes_odise={"lake": lower, "sky": upper})
    experiment.note("s3", (), (), {"odise": {"vocab": "lake, pond; sky"}})
    where, names = resting_light(experiment, both)
    assert names == ["lake"] and torch.equal(where, lower)
    experiment.write(classes={"lake": upper, "sky": lower})  # s4's word counts before s3's
    assert torch.equal(resting_light(experiment, both)[0], upper)
    assert resting_light(experiment, both[:, 1:]) == (None, [])
    for name in ("classes", "classes_odise"):
        os.unlink(experiment.path(name))
    experiment.give(mask=both)
    assert resting_light(experiment, both) == (None, [])  # a mask of somebody's own


def test_a_lake_keeps_its_light_while_the_sky_takes_its_along(lake, tmp_path, capsys):
    folder = run(lake, tmp_path, "odise.vocab=lake; sky, clouds")
    assert "light rests on: lake (video.light=travels" in capsys.readouterr().out
    classes, frames = read_classes(folder / "mask_classes.png"), {"auto": list(read_video(folder / "video.mp4"))}
    assert all(classes[name].sum() > 500 for name in ("lake", "sky"))
    for light in ("rests", "travels"):
        run(lake, tmp_path, "--stage", "s6", f"video.light={light}")
        frames[light] = list(read_video(folder / "video.mp4"))
    assert "rests on" not in capsys.readouterr().out
    apart = {
        (light, name): float(abs(frames["auto"][4].astype(int) - frames[light][4])[where[0].numpy()].mean())
        for light in ("rests", "travels")
        for name, where in classes.items()
    }
    assert apart["rests", "lake"] < 0.3 * apart["travels", "lake"]
    assert apart["travels", "sky"] < 0.3 * apart["rests", "sky"]


def test_one_class_of_many_waters_travels_and_the_library_does_the_same(lake, tmp_path, capsys):
    folder = run(lake, tmp_path)
    assert "light rests" not in capsys.readouterr().out
    model, image = Cinemagraph.load("inference_mini", "odise.vocab=lake; sky"), read_image(lake)
    flow = 0.8 * torch.ones(2, *image.shape[1:]) * read_mask(folder / "mask_self_attn_erosion.png")
    found = model.segment(image)
    auto, travels, rests = (
        list(model.animate(image, flow=flow, n_frames=8, light=light).frames)[4]
        for light in ("auto", "travels", "rests")
    )
    lakes = found.class_masks["lake"][0]
    assert (auto - rests)[:, lakes].abs().mean() < 0.3 * (auto - travels)[:, lakes].abs().mean()
