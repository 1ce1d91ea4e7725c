"""Stable Diffusion in one file: the same numbers as the diffusers folder; what is refused, and what is ignored in
it.
"""

import json
import os

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from text2cinemagraph.benchmarks import families
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.single_file import UNET, UNET_EMA
from text2cinemagraph.models.motion import load_text_encoder
from text2cinemagraph.options.runtime import Runtime, make_runtime

from tests.golden_numbers import GOLDEN
from tests.published_files import save_full_ema, save_stable_diffusion
from tests.published_single_files import single_file

LDM, TEXT = "backbone.feature_extractor.ldm_extractor.ldm.ldm.", "cond_stage_model.transformer."
RUNTIME = make_runtime("cpu")


@pytest.fixture(scope="module")
def state():
    """A small model of the published names (those of the golden ODISE model), random weights."""
    shapes = json.loads((GOLDEN / "odise" / "tiny_keys.json").read_text())["frozen_shapes"]
    names = {name.removeprefix(LDM): shape for name, shape in shapes.items()}
    names = {name.replace(TEXT, f"{TEXT}text_model."): shape for name, shape in names.items()}
    torch.manual_seed(0)
    return {
        name: torch.randn(shape) * 0.05
        for name, shape in names.items()
        if name.startswith((UNET, "first_stage_model.", TEXT))
    }


@pytest.fixture
def folder(tmp_path):
    """A folder with a tokenizer where a single file looks for it."""
    (tmp_path / "tokenizer").mkdir()
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    return tmp_path


def predicted(model):
    with torch.no_grad():
        x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        return model.predict_noise(x, 500, model.encode_text(["a b"])), model.decode(x)


def test_ckpt_safetensors_and_folder_are_one_model(state, folder):
    save_full_ema(folder / "sd-v1-4.ckpt", state)
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "sd-v1-4.safetensors")
    from_ckpt = load_diffusion(str(folder / "sd-v1-4.ckpt"), RUNTIME)
    noise, picture = predicted(from_ckpt)
    assert noise.std() > 0 and picture.shape == (1, 3, 128, 128) and from_ckpt.prediction_type == "epsilon"
    assert from_ckpt.alphas_cumprod[0] == pytest.approx(0.99915)
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(from_ckpt, name).save_pretrained(folder / "diffusers" / name)
    (folder / "diffusers" / "scheduler").mkdir()
    (folder / "diffusers" / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(
            {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        )
    )
    for source in (folder / "sd-v1-4.safetensors", folder / "diffusers"):
        other = predicted(load_diffusion(str(source), RUNTIME))
        torch.testing.assert_close(other[1], picture)
        torch.testing.assert_close(other[0], noise)


def test_the_plain_weights_are_taken_unless_the_averaged_ones_are_asked_for(state, folder):
    averaged = {
        UNET_EMA + name.removeprefix("model.").replace(".", ""): 2 * t
        for name, t in state.items()
        if name.startswith(UNET)
    }
    save_full_ema(folder / "both.ckpt", {**state, **averaged, "model_ema.decay": torch.tensor(0.99)})
    plain, ema = (
        load_diffusion(str(folder / "both.ckpt"), RUNTIME, choice).unet.conv_in.weight for choice in (False, True)
    )
    assert torch.equal(plain, state[f"{UNET}input_blocks.0.0.weight"]) and torch.equal(ema, 2 * plain)
    save_full_ema(folder / "plain.ckpt", state)
    with pytest.raises(ValueError, match="no averaged weights.*ema=false"):
        load_diffusion(str(folder / "plain.ckpt"), RUNTIME, True)


def test_slices_change_no_number_that_matters(state, folder):
    save_full_ema(folder / "m.ckpt", state)
    whole = predicted(load_diffusion(str(folder / "m.ckpt"), RUNTIME))
    sliced = predicted(load_diffusion(str(folder / "m.ckpt"), make_runtime("cpu", slicing=True)))
    torch.testing.assert_close(sliced[0], whole[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["safetensors", "fp16.safetensors", "bin", "fp16.bin"])
def test_a_diffusers_folder_loads_in_every_published_form(tmp_path, form):
    """Also with what CompVis' files of 2022 have: the autoencoder's old names, position_ids, PNDM's scheduler."""
    unet = save_stable_diffusion(tmp_path / "sd", form)
    model = load_diffusion(str(tmp_path / "sd"), RUNTIME)
    close = {"atol": 1e-3, "rtol": 1e-3} if "fp16" in form else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(model.unet.conv_in.weight, unet.conv_in.weight, **close)
    assert model.unet.dtype == torch.float32 and model.prediction_type == "epsilon"
    tokenizer, text_encoder = load_text_encoder(tmp_path / "sd", RUNTIME)  # s5's way to the same folder
    tokens = tokenizer(["a river"], return_tensors="pt").input_ids
    assert torch.equal(text_encoder(tokens).last_hidden_state, model.text_encoder(tokens).last_hidden_state)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_git_lfs_pointer_and_a_cut_file_are_named(tmp_path, part):
    save_stable_diffusion(tmp_path / "sd")
    path = next((tmp_path / "sd" / part).glob("*.safetensors"))
    for content, word in (
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (path.read_bytes()[:-1], "cut off"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path.name}.*{word}"):
            load_diffusion(str(tmp_path / "sd"), RUNTIME)


class Attack:
    def __reduce__(self):
        return os.mkdir, (os.environ["T2C_ATTACK"],)


def test_what_is_no_such_file_is_refused_in_a_line(state, folder, monkeypatch):
    monkeypatch.setenv("T2C_ATTACK", str(folder / "executed"))
    torch.save({"state_dict": {**state, "x": Attack()}}, folder / "evil.ckpt")
    (folder / "half.ckpt").write_bytes((folder / "evil.ckpt").read_bytes()[:5000])
    save_file({"conv1.weight": torch.zeros(3)}, folder / "other.safetensors")
    lacking = {name: t for name, t in state.items() if "output_blocks.5" not in name}
    save_file({name: t.contiguous() for name, t in lacking.items()}, folder / "lacking.safetensors")
    for name, word in (
        ("evil.ckpt", "more than tensors"),
        ("half.ckpt", "truncated"),
        ("other.safetensors", "no U-Net"),
        ("lacking.safetensors", "cannot be loaded"),
    ):
        with pytest.raises(ValueError, match=word) as error:
            load_diffusion(str(folder / name), RUNTIME)
        assert "\n" not in str(error.value)
    assert not (folder / "executed").exists()
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "whole.safetensors")
    with pytest.raises(FileNotFoundError, match="needs CLIP's tokenizer.*hf download"):
        load_diffusion(str(folder / "whole.safetensors"), RUNTIME, False, str(folder / "nowhere"))


def published(family):
    """A tiny pipeline with heads of 64 channels and norms of 32 groups, as the released ones have them."""
    xl = {"block_out_channels": (64, 64, 128), "attention_head_dim": (1, 1, 2)}
    xl["projection_class_embeddings_input_dim"] = 6 * 8 + 48  # OpenCLIP's projection is square
    shape = xl if family == "sdxl" else {"block_out_channels": (64, 64, 128, 128), "attention_head_dim": (1, 1, 2, 2)}
    made = families.make_pipeline(family, norm_num_groups=32, **shape)
    one_head = {"num_attention_heads": 1, "hidden_act": "gelu" if family == "sd2" else "quick_gelu"}
    text = families._text(made.tokenizer, **one_head)
    scaling = made.vae.config.scaling_factor
    kinds = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(3, 3, *kinds, block_out_channels=(32,) * 4, scaling_factor=scaling)
    made.register_modules(text_encoder=text, vae=vae)
    if family == "sdxl":
        wide = {"hidden_size": 48, "projection_dim": 48, "num_attention_heads": 1, "hidden_act": "gelu"}
        made.register_modules(text_encoder_2=families._text(made.tokenizer, True, **wide))
    return made


@pytest.mark.parametrize("family, name", [("sd2", "768-v-ema"), ("sd2", "512-base-ema"), ("sdxl", "sd_xl_base_1.0")])
def test_a_single_file_of_2_or_xl_is_the_diffusers_folder(family, name, tmp_path):
    pipeline, file = published(family), tmp_path / f"{name}.safetensors"
    pipeline.save_pretrained(tmp_path / "folder", safe_serialization=True)
    save_file(single_file(pipeline, family), file)
    words = tmp_path / "folder" / "tokenizer"
    folder, one = (
        load_diffusion(str(tmp_path / "folder"), RUNTIME),
        load_diffusion(str(file), RUNTIME, False, str(words)),
    )
    assert one.family is folder.family and one.spatial_factor == folder.spatial_factor
    assert one.prediction_type == ("v_prediction" if name == "768-v-ema" else "epsilon")
    other = load_diffusion(str(file), RUNTIME, False, str(words), predicts="v_prediction")
    assert other.prediction_type == "v_prediction"
    one.prediction_type = folder.prediction_type
    # The folder's tokenizers pad as CLIP's; those of a file as OpenCLIP's, with "!": so nothing is left to pad here.
    prompts = ["a b " * 40, "the river and the sea " * 20]
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(one.decode(x), folder.decode(x))
        noise = [model.predict_noise(x, 500, model.encode_text(prompts)) for model in (one, folder)]
    assert noise[0].std() > 0.01
    torch.testing.assert_close(*noise)


def test_a_file_of_xl_keeps_its_autoencoder_in_float32(tmp_path):
    pipeline = published("sdxl")
    pipeline.tokenizer.save_pretrained(tmp_path / "tokenizer")
    save_file(single_file(pipeline, "sdxl"), tmp_path / "xl.safetensors")
    half = load_diffusion(str(tmp_path / "xl.safetensors"), Runtime(torch.device("cpu"), torch.float16))
    assert half.unet.dtype == half.second.text_encoder.dtype == torch.float16 and half.vae.dtype == torch.float32
    assert half.tokenizer.pad_token == "<|endoftext|>" and half.second.tokenizer.pad_token == "!"


def test_a_hub_id_that_is_not_in_the_cache_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither as a folder nor in the local hub cache.*data.fetch"):
        load_diffusion("nobody/no-such-model", RUNTIME)
