"""--style with painting.method=diffusion: the photograph in other words, on a tiny random model."""

import os

import pytest
import torch
from text2cinemagraph import inference_t2c
from text2cinemagraph.benchmarks.families import make_pipeline
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.media import read_image, write_image, write_mask
from text2cinemagraph.img2img import twin as loops
from text2cinemagraph.img2img.features import Features
from text2cinemagraph.img2img.twin import artistic, invert_picture
from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.painters.looks import LOOKS
from text2cinemagraph.pipeline.drawing import drawn_over, feature_plan, load_drawing_model, noise_behind, source_of
from text2cinemagraph.pipeline.networks import Networks
from text2cinemagraph.pipeline.painting import IN_WORDS, style_prompt
from text2cinemagraph.pipeline.stages import RunState

from tests.test_scripts_folder import ROOT

SMALL = ("ddim_steps=4", "inversion_steps=9", "H=128", "W=128")


@pytest.fixture(scope="module")
def tier(tmp_path_factory):
    """A folder with `sd/` in the published form, a photograph of 100x150 px and the mask of its lower half."""
    folder = tmp_path_factory.mktemp("tier")
    make_pipeline("sd1").save_pretrained(folder / "sd", safe_serialization=True)
    y, x = torch.meshgrid(torch.linspace(0, 1, 100), torch.linspace(0, 1, 150), indexing="ij")
    write_image(folder / "photo.png", torch.stack([y, x, (6 * x).sin() ** 2]))
    write_mask(folder / "mask.png", (y > 0.5)[None])
    return folder


def words(tier, root):
    return [f"twin_extraction.{word}" for word in (*SMALL, f"ckpt={tier / 'sd'}", f"exp_path_root={root}")]


def run(tier, root, *more, config="inference"):
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        inference_t2c.main(["--config", f"configs/{config}.yaml", "--name", "e", *words(tier, root), *map(str, more)])
    finally:
        os.chdir(before)
    return root / "e"


@pytest.fixture
def bench(tier, tmp_path):
    options = load_options(InferenceOptions, ROOT / "configs" / "inference.yaml", words(tier, tmp_path))
    state = RunState(make_runtime("cpu", seed=3), Networks())
    experiment = Experiment(tmp_path, "e", inference_t2c.ARTIFACTS)
    return options, experiment, state, load_drawing_model(options, state)


@torch.inference_mode()
def test_all_injected_with_the_sources_own_words_gives_its_reconstruction(bench, tier):
    options, experiment, state, diffusion = bench
    options.twin_generation.scale, options.twin_generation.feature_injection_threshold = 1.0, 1000
    noise = noise_behind(read_image(tier / "photo.png"), options, experiment, state)
    o, plan = options.twin_extraction, feature_plan(options, diffusion.unet)
    made = artistic(diffusion, noise, *source_of(o, own=True), steps=o.ddim_steps, plan=plan)
    for features in (made.features, None):
        same = drawn_over(
            options, diffusion, noise, source=("", 1.0), prompt="", features=features, title="", size=None
        )
        assert (same - made.image[0]).abs().max() < 1e-5
    other = drawn_over(options, diffusion, noise, source=("", 1.0), prompt="snow", features=made.features, title="")
    free = drawn_over(options, diffusion, noise, source=("", 1.0), prompt="snow", features=[Features()] * 4, title="")
    assert made.image.std() > 0.05 and (other - made.image[0]).abs().max() > 0.01
    assert (other - free).abs().max() < 1e-5  # features that do not suffice are computed beside it


@torch.inference_mode()
def test_an_interrupted_inversion_goes_on_where_it_stopped(bench, tier, monkeypatch):
    diffusion = bench[3]
    monkeypatch.setattr(loops, "KEPT_EVERY", 2)
    photo, calls = torch.nn.functional.interpolate(read_image(tier / "photo.png")[None], (128, 192))[0], []
    handle = diffusion.unet.register_forward_hook(lambda *_: calls.append(1))

    def inverted(image, steps, **how):
        calls.clear()
        return invert_picture(diffusion, image, steps, torch.Generator().manual_seed(0), **how)

    def stop(found):
        kept.append(found)
        if len(kept) == 2:
            raise KeyboardInterrupt

    whole, kept = inverted(photo, 9), []
    assert len(calls) == 9 + 1
    with pytest.raises(KeyboardInterrupt):
        inverted(photo, 9, keep=stop)
    assert [int(found["done"]) for found in kept] == [2, 4]
    assert torch.equal(inverted(photo, 9, kept=kept[1], keep=kept.append), whole) and len(calls) == 5 + 1
    assert torch.equal(inverted(photo, 9, kept=kept[-1]), whole) and len(calls) == 1
    for image, steps in ((photo.flip(2), 9), (photo, 27)):  # of another picture, of other steps: from the beginning
        inverted(image, steps, kept=kept[-1])
        assert len(calls) == steps + 1
    handle.remove()


def test_a_photograph_drawn_in_other_words_is_its_own_twin(tier, tmp_path, capsys):
    own = ("--image", tier / "photo.png", "--prompt", "a lake in left to right direction in the style of Monet")
    folder = run(tier, tmp_path, *own, "--style", "charcoal on paper", "--mask", tier / "mask.png", "--stage", "s1-s2")
    said = capsys.readouterr().out
    assert "drawn as: a lake in the style of charcoal on paper" in said and "s2 skipped: twin.png is yours" in said
    photograph, image, twin = (read_image(folder / name) for name in ("photograph.png", "image.png", "twin.png"))
    assert torch.equal(photograph, read_image(tier / "photo.png")) and torch.equal(photograph, twin)
    assert image.shape == photograph.shape and (image - photograph).abs().mean() > 0.02
    assert (folder / "attention.safetensors").is_file() and not (folder / "noise.safetensors").exists()
    # Another look of the photograph that lies there: the noise behind it is known by now.
    before, found = (folder / "image.png").read_bytes(), (folder / "inversion.safetensors").read_bytes()
    run(tier, tmp_path, "--style", "oil", "--stage", "s1")
    assert (folder / "image.png").read_bytes() != before
    assert (folder / "inversion.safetensors").read_bytes() == found
    # s4 reads the photograph's own attention.
    write_mask(folder / "mask_odise.png", torch.ones(1, 100, 150, dtype=torch.bool))
    (folder / "mask_self_attn_erosion.png").unlink(missing_ok=True)
    run(tier, tmp_path, "--style", "oil", "--stage", "s4")
    assert read_image(folder / "clusters.png").shape == photograph.shape
    with pytest.raises(FileNotFoundError, match="noise.safetensors; a painted photograph"):
        run(tier, tmp_path, "--style", "oil", "--stage", "s2")


@pytest.mark.parametrize(
    "config, more, said",
    [
        ("inference", ["painting.method=rule"], "unknown style 'oyl'.*did you mean oil.*painting.method=diffusion"),
        ("inference", ["twin_extraction.inversion_steps=0"], "inversion_steps is 0"),
        ("inference", ["painting.strength=0.5"], "feature_injection_threshold"),
        ("inference", ["--stage", "s1"], None),
    ],
)
def test_mistakes_are_named(tier, tmp_path, config, more, said):
    given = ("--image", tier / "photo.png") if said else ()
    with pytest.raises(ValueError, match=said or "--style oyl paints a photograph of yours") as error:
        run(tier, tmp_path, "--style", "oyl", *given, *more, config=config)
    assert len(str(error.value)) < 210 and "\n" not in str(error.value)


def test_a_style_takes_the_place_of_the_prompts_own():
    assert set(IN_WORDS) == set(LOOKS)
    assert style_prompt("a river in the style of Monet", "oil") == "a river in the style of an oil painting"
    assert style_prompt("a sea, in left to right direction, at night", "Turner").endswith("in the style of Turner")
    assert style_prompt("", "Turner") == "a picture in the style of Turner"
