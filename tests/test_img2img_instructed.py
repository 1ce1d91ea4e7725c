"""The instructed twin: image-editing models by their class, what is refused, and how far a twin drifted."""

import json
import os
import shutil

import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus as qwen_edit
import pytest
import torch
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.media import read_image, write_image, write_mask
from text2cinemagraph.img2img.instructed import drift, edited, load_editor, working_size
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.options.inference import TwinEditing
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.painters.looks import paint

from tests.instructed_models import MAKERS
from tests.published_files import save_stable_diffusion
from tests.test_scripts_folder import ROOT

RUNTIME = make_runtime("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{pipeline class: its folder in the published form}."""
    found = {}
    for name, make in MAKERS.items():
        found[name] = tmp_path_factory.mktemp("editor") / name
        make().save_pretrained(found[name], safe_serialization=True)
    return found


@pytest.fixture(scope="module")
def scene():
    """A landscape [3,256,256] and what a painter makes of it."""
    picture = Scene(7, "river", "day", size=256).image
    return tuple(torch.from_numpy(x.copy()).permute(2, 0, 1) for x in (picture, paint(picture, "oil", seed=1)))


@pytest.mark.parametrize("name", MAKERS)
@torch.inference_mode()
def test_a_model_is_known_by_its_class_and_gives_a_picture_of_the_same_size(folders, name, monkeypatch):
    for size in ("VAE_IMAGE_SIZE", "CONDITION_IMAGE_SIZE"):  # px², at which that pipeline reads its pictures
        monkeypatch.setattr(qwen_edit, size, 128 * 128)
    editor = load_editor(str(folders[name]), RUNTIME)
    assert type(editor).__name__ == name
    steps = []
    network = getattr(editor, "transformer", None) or editor.unet
    network.register_forward_hook(lambda *_: steps.append(1))

    def asked(words, seed=1, **how):
        steps.clear()
        picture = torch.rand(3, 90, 130, generator=torch.Generator().manual_seed(0))
        return edited(editor, picture, words, seed=seed, megapixels=0.02, **how)

    few = {} if name == "Flux2KleinPipeline" else {"steps": 2}
    one = asked("a lake", **few)
    # Distilled: one call a step, four steps. Qwen: with and without words. InstructPix2Pix: both in one call.
    assert len(steps) == {"Flux2KleinPipeline": 4, "QwenImageEditPlusPipeline": 4}.get(name, 2)
    assert one.shape == (3, 90, 130) and one.std() > 0.05 and 0 <= one.min() and one.max() <= 1
    assert torch.equal(one, asked("a lake", **few))
    assert not torch.equal(one, asked("a forest, at night", **few)) and not torch.equal(one, asked("a lake", 2, **few))


def test_an_undistilled_model_keeps_its_pipelines_own_steps(folders, tmp_path):
    from text2cinemagraph.img2img.instructed import _card

    shutil.copytree(folders["Flux2KleinPipeline"], tmp_path / "base")
    index = tmp_path / "base" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "is_distilled": False}))
    assert _card(load_editor(str(tmp_path / "base"), RUNTIME)) == (0, None)


def test_what_is_no_such_model_is_refused_in_a_line(folders, tmp_path):
    save_stable_diffusion(tmp_path / "sd")
    (tmp_path / "sd" / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    for name, change in (
        ("code", {"unet": ["my_code", "MyUNet"]}),
        ("custom", {"_class_name": ["pipeline", "Own"]}),
        ("unknown", {"_class_name": "NoSuchPipeline"}),
    ):
        shutil.copytree(folders["Flux2KleinPipeline"], tmp_path / name)
        index = tmp_path / name / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    shutil.copytree(folders["Flux2KleinPipeline"], tmp_path / "cut")
    file = next((tmp_path / "cut" / "transformer").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    shutil.copytree(folders["Flux2KleinPipeline"], tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "vae")
    for name, said in (
        ("sd", "it takes no picture with a prompt"),
        ("code", "code of its own .unet"),
        ("custom", "code of its own"),
        ("unknown", "no such class"),
        ("cut", "was cut off"),
        ("part", "cannot be loaded"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            load_editor(str(tmp_path / name), RUNTIME)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="hf download black-forest-labs"):
        load_editor("checkpoints/twin-editor", RUNTIME)


def test_sizes_keep_the_shape():
    assert working_size(512, 512, 1.0) == (1024, 1024) and working_size(3000, 4000, 1.0) == (896, 1152)
    assert working_size(64, 2000, 0.01) == (64, 576)


# ---------------------------------------------------------------- drift


def shifted(picture, dx, dy):
    return torch.roll(picture, (dy, dx), (1, 2))[:, 16:-16, 16:-16].contiguous()


@pytest.mark.parametrize("dx, dy", [(0, 0), (3, 0), (0, 5), (-6, 4)])
def test_a_shift_is_measured_in_px_of_a_short_side_of_512(scene, dx, dy):
    picture, painting = scene
    found = drift(shifted(painting, 0, 0), shifted(picture, dx, dy))  # 224 px a side
    way = (dx**2 + dy**2) ** 0.5 * 512 / 224
    assert found.px == pytest.approx(way, abs=1.5 if way else 2.5) and found.shared > TwinEditing.shared


def test_the_limits_part_a_twin_from_what_is_none(scene):
    picture, painting = scene
    other = Scene(8, "waterfall", "day", size=256).image.copy()
    pairs = {
        "noise": (picture, torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0))),
        "nothing": (picture, torch.zeros(3, 256, 256)),
        "another scene": (picture, torch.from_numpy(other).permute(2, 0, 1)),
        "a shift": (shifted(painting, 0, 0), shifted(picture, 4, 0)),
    }
    kept = drift(painting, picture)
    assert kept.px <= TwinEditing.drift and kept.shared >= TwinEditing.shared
    for what, pair in pairs.items():
        found = drift(*pair)
        assert found.px > TwinEditing.drift or found.shared < TwinEditing.shared, (what, found)


def test_the_figures_beside_the_limits_are_those_of_the_measurement():
    pairs = json.loads((ROOT / "docs/results/twin_drift.json").read_text())["pairs"]
    assert pairs["in place"]["px"][3] < 2.8 <= TwinEditing.drift < pairs["shift 4 px"]["px"][0]
    assert pairs["another photograph"]["shared"][3] <= 0.38 < TwinEditing.shared <= pairs["in place"]["shared"][0]


# ---------------------------------------------------------------- as a user runs it


def run(folder, *words):
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        settings = [f"twin_extraction.exp_path_root={folder}", "twin_extraction.inversion_steps=999"]
        inference_t2c.main(["--config", "configs/inference_mini.yaml", "--name", "e", *settings, *map(str, words)])
    finally:
        os.chdir(before)
    return folder / "e"


def test_a_painting_of_ones_own_gets_a_twin_without_inversion(folders, scene, tmp_path, capsys):
    write_image(tmp_path / "own.png", scene[1])
    write_mask(tmp_path / "mask.png", torch.ones(1, 256, 256, dtype=torch.bool))
    model = f"twin_editing.model={folders['Flux2KleinPipeline']}"
    small = ("twin_generation.method=edit", model, "twin_editing.megapixels=0.02", "--prompt", "a river at night")
    words = ("--image", tmp_path / "own.png", "--stage", "s1-s2", *small)
    with pytest.raises(ValueError, match="the twin (drifted by|has) .*twin_refused.png; another .*seed"):
        run(tmp_path, *words)
    folder = tmp_path / "e"
    assert (folder / "twin_refused.png").is_file() and not (folder / "twin.png").exists()
    folder = run(tmp_path, *words, "twin_editing.drift=512", "twin_editing.shared=0")
    said = capsys.readouterr().out
    assert "s1 skipped: image.png is yours" in said and "photograph of the same scene (river" in said
    assert not (folder / "twin_refused.png").exists() and not (folder / "noise.safetensors").exists()
    twin = (folder / "twin.png").read_bytes()
    assert read_image(folder / "twin.png").shape == (3, 256, 256)
    # Later stages of the same picture read that twin, not the picture itself.
    run(tmp_path, *words[:2], "--mask", tmp_path / "mask.png", "--stage", "s3-s5", *small)
    assert (folder / "twin.png").read_bytes() == twin


def test_a_missing_model_is_told_before_anything_is_drawn(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image-editing model at checkpoints/twin-editor"):
        run(tmp_path, "twin_generation.method=edit")
    assert not (tmp_path / "e").exists()
