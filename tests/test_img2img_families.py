"""Stable Diffusion 1.x, 2.x and XL by one door: diffusers' own pictures, the twin's identity, the layers of each."""

import json
import shutil

import pytest
import torch
from text2cinemagraph.benchmarks.families import compare
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.families import FAMILIES, family_of
from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import Runtime, make_runtime

from tests.test_scripts_folder import ROOT

PUBLISHED = {
    "twin_attention": [f"up_blocks.{i}.attentions.{j}" for i in (1, 2, 3) for j in (0, 1, 2)][1:],
    "twin_resnets": ["up_blocks.1.resnets.1"],
    "mask_attention": [f"down_blocks.1.attentions.{j}" for j in (0, 1)]
    + [f"up_blocks.2.attentions.{j}" for j in (0, 1, 2)],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{family: (folder in the published form, what compare() found)}."""
    found = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        found[family] = folder, compare(family, folder)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_latents_give_diffusers_picture_and_an_own_twin_changes_nothing(folders, family):
    row = folders[family][1]
    assert row["family"] == FAMILIES[family].name and row["predicts"] == (
        "v_prediction" if family == "sd2" else "epsilon"
    )
    assert row["picture_deviation"] > 0.05  # there is a picture to differ from
    assert row["max_difference_to_pipeline"] <= 1e-4
    assert row["max_difference_of_own_twin"] <= 1e-5
    assert row["max_difference_of_other_twin"] > 0.01


def test_the_layers_are_the_published_ones_and_their_like(folders):
    for family in ("sd1", "sd2"):
        assert {key: folders[family][1][key] for key in PUBLISHED} == PUBLISHED
    xl = folders["sdxl"][1]
    blocks = [f"up_blocks.0.attentions.{j}.transformer_blocks.{k}" for j in (1, 2) for k in range(3)]
    assert xl["twin_attention"] == blocks + [
        f"up_blocks.1.attentions.{j}.transformer_blocks.{k}" for j in (0, 1, 2) for k in (0, 1)
    ]
    assert xl["twin_resnets"] == ["up_blocks.0.resnets.1"]
    assert {name.split(".attentions")[0] for name in xl["mask_attention"]} == {"down_blocks.2", "up_blocks.0"}


def test_the_table_in_docs_holds_every_family_within_its_bound():
    rows = json.loads((ROOT / "docs/results/families.json").read_text())["families"]
    assert [row["family"] for row in rows] == [family.name for family in FAMILIES.values()]
    assert all(row["max_difference_to_pipeline"] <= 1e-4 and row["max_difference_of_own_twin"] <= 1e-5 for row in rows)


def test_a_family_is_read_off_the_unets_own_config():
    assert family_of({"cross_attention_dim": 768}) is FAMILIES["sd1"]
    assert family_of({"cross_attention_dim": 1024, "use_linear_projection": True}) is FAMILIES["sd2"]
    with pytest.raises(ValueError, match="wants a further input \\(image\\); known are Stable Diffusion 1.x"):
        family_of({"addition_embed_type": "image"})


def test_xl_without_its_second_encoder_is_told_and_its_autoencoder_computes_in_float32(folders, tmp_path):
    shutil.copytree(folders["sdxl"][0], tmp_path / "xl")
    half = load_diffusion(str(tmp_path / "xl"), Runtime(torch.device("cpu"), torch.float16))
    assert half.unet.dtype == half.second.text_encoder.dtype == torch.float16 and half.vae.dtype == torch.float32
    shutil.rmtree(tmp_path / "xl" / "text_encoder_2")
    with pytest.raises(FileNotFoundError, match="text_encoder_2 missing"):
        load_diffusion(str(tmp_path / "xl"), make_runtime("cpu"))


def test_an_empty_prompt_is_zeros_only_where_the_folder_says_so(folders, tmp_path):
    shutil.copytree(folders["sdxl"][0], tmp_path / "xl")
    index = tmp_path / "xl" / "model_index.json"
    zeros = load_diffusion(str(tmp_path / "xl"), make_runtime("cpu")).encode_text(["", "a river"])
    assert not zeros.states[0].any() and not zeros.pooled[0].any() and zeros.states[1].any() and zeros.pooled[1].any()
    index.write_text(json.dumps({**json.loads(index.read_text()), "force_zeros_for_empty_prompt": False}))
    assert load_diffusion(str(tmp_path / "xl"), make_runtime("cpu")).encode_text([""]).states.any()


@pytest.mark.parametrize("name, family", [("inference_sd2", "sd2"), ("inference_sdxl", "sdxl")])
def test_the_configuration_of_a_family_draws_at_its_size_and_leaves_the_layers_to_it(name, family):
    options = load_options(InferenceOptions, ROOT / "configs" / f"{name}.yaml", ["twin_extraction.prompt=a river"])
    assert (options.twin_extraction.H, options.twin_extraction.W) == (FAMILIES[family].side,) * 2
    assert not options.twin_generation.attention_layers and not options.attn_mask.layers
