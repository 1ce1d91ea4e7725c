"""Known answers for the rooms of s1 to s4."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from text2cinemagraph.img2img.attention_mask import (
    AttentionMean,
    cluster,
    clusters_picture,
    components,
    erode,
    resize_labels,
    vote,
)
from text2cinemagraph.img2img.ddim import alpha_pairs, invert, step, timesteps
from text2cinemagraph.img2img.diffusion import Diffusion, load_diffusion
from text2cinemagraph.img2img.features import inject, ldm_layer, record
from text2cinemagraph.img2img.prompts import load_nouns, twin_prompt
from text2cinemagraph.img2img.segment import load_segmenter, parse_vocabulary
from text2cinemagraph.img2img.twin import negative_weights
from text2cinemagraph.options.runtime import make_runtime
from transformers import CLIPTextConfig, CLIPTextModel

ATTENTION, RESNET = "up_blocks.1.attentions.0", "up_blocks.0.resnets.1"


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=16,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def call(unet, seed, rows=2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return unet(
            torch.randn(1, 4, 8, 8, generator=generator).expand(rows, -1, -1, -1),
            5,
            torch.randn(rows, 3, 16, generator=generator),
        ).sample


def hooks(unet):
    return sum(len(m._forward_hooks) for m in unet.modules())


def test_injecting_its_own_features_changes_nothing(unet):
    with record(unet, (ATTENTION,), (RESNET,)) as seen:
        plain = call(unet, 1)
    assert set(seen.queries) == set(seen.keys) == {ATTENTION} and set(seen.resnets) == {RESNET}
    with inject(unet, seen, rows=(0, 1)):
        assert torch.equal(call(unet, 1), plain)
        assert not torch.equal(call(unet, 2), plain)
    assert hooks(unet) == 0


def test_rows_choose_whose_features_a_row_gets(unet):
    with record(unet, (), ("up_blocks.1.resnets.1",)) as seen:
        call(unet, 1)
    with inject(unet, seen, rows=(1, 1, 0)), record(unet, (), ("up_blocks.1.resnets.1",)) as got:
        call(unet, 1, rows=3)
    before = seen.resnets["up_blocks.1.resnets.1"]
    assert torch.equal(got.resnets["up_blocks.1.resnets.1"], before[[1, 1, 0]]) and not torch.equal(
        before[0], before[1]
    )
    assert hooks(unet) == 0


def test_hooks_are_gone_after_an_error(unet):
    with pytest.raises(RuntimeError), record(unet, (ATTENTION,), (RESNET,)):
        raise RuntimeError
    with pytest.raises(ValueError, match="up_blocks.9"), record(unet, (ATTENTION, "up_blocks.9.attentions.0")):
        pass
    assert hooks(unet) == 0


def test_ldm_numbers():
    assert ldm_layer("output", 4, "resnets") == "up_blocks.1.resnets.1"
    assert ldm_layer("output", 11, "attentions") == "up_blocks.3.attentions.2"
    assert ldm_layer("input", 4, "attentions") == "down_blocks.1.attentions.0"
    assert ldm_layer("input", 8, "attentions") == "down_blocks.2.attentions.1"


def test_timesteps():
    assert timesteps(50)[:2] == [981, 961] and timesteps(50)[-1] == 1
    assert all(len(timesteps(n)) == n for n in (1, 7, 30, 60, 111, 999))
    assert max(max(timesteps(n)) for n in range(1, 1000)) == 999
    for n in (0, 1000):
        with pytest.raises(ValueError, match=f"ddim_steps={n}"):
            timesteps(n)
    alphas = torch.linspace(0.999, 0.01, 1000)
    assert [(a, b) for _, a, b in alpha_pairs(alphas, 3)] == [
        (alphas[a].item(), alphas[b].item()) for a, b in ((667, 334), (334, 1), (1, 0))
    ]


def test_inversion_undoes_sampling_for_a_gaussian():
    """For data N(0, s^2) the best noise prediction is linear in x, and DDIM's path is known: both directions
    follow it.
    """
    alphas, s2 = torch.linspace(0.9999, 0.01, 1000).double(), 0.25

    def predict(x, t):
        return x * (1 - alphas[t]) ** 0.5 / (alphas[t] * s2 + 1 - alphas[t])

    x0 = torch.tensor([0.3, -0.7]).double()
    noise = invert(predict, x0, alphas, 999)
    x = noise
    for t in range(999, 0, -1):
        x = step(x, predict(x, t), float(alphas[t]), float(alphas[t - 1]))
    assert torch.allclose(x, x0, rtol=1e-2)  # first-order steps: exact only in the limit
    assert torch.allclose(noise, x0 / s2**0.5 * (alphas[999] * s2 + 1 - alphas[999]) ** 0.5, rtol=2e-2)
    with pytest.raises(ValueError, match="999"):
        invert(predict, x0, alphas, 50)


def test_negative_weights():
    assert negative_weights(0.75, "linear", 5) == [0.75, 0.5625, 0.375, 0.1875, 0.0]
    assert negative_weights(0.5, "constant", 3) == [0.5] * 3
    assert negative_weights(1, "exp", 3)[-1] == pytest.approx(np.exp(-6))
    assert negative_weights(1, "linear", 1) == [1]
    with pytest.raises(ValueError, match="cubic"):
        negative_weights(1, "cubic", 3)


def planted(side=8, tokens=4):
    """Queries and keys of three regions that look only at themselves."""
    regions = np.zeros((side, side), int)
    regions[:, side // 2 :], regions[side // 2 :, :2] = 1, 2
    vectors = 6 * torch.eye(3)[torch.from_numpy(regions.ravel())]
    return regions, vectors.repeat(2, 1, 1)


@pytest.mark.parametrize("kind", ["kmeans", "spectral"])
def test_planted_regions_come_back(kind):
    regions, vectors = planted()
    mean = AttentionMean((16, 16))  # a latent twice as fine as the attention
    mean.add(vectors, vectors, 1)
    mean.add(vectors, vectors, 1)
    assert mean.tensors()["grid"].tolist() == [8, 8]
    assert torch.allclose(mean.mean().sum(-1), torch.ones(64, 2), atol=1e-5)
    labels = cluster(mean.mean(), (8, 8), 3, kind, seed=3)
    assert len(set(zip(labels.ravel(), regions.ravel()))) == 3


def test_attention_of_unlike_layers_is_refused():
    mean = AttentionMean((4, 4))
    with pytest.raises(ValueError, match="max_timestep"):
        mean.mean()
    mean.add(torch.zeros(2, 16, 4), torch.zeros(2, 16, 4), 2)
    with pytest.raises(ValueError, match="resolution"):
        mean.add(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), 2)


def test_every_cluster_is_split_into_its_pieces():
    labels = np.array([[0, 0, 1, 0], [1, 1, 2, 0], [2, 1, 1, 0]])
    pieces = components(labels)
    assert pieces.max() + 1 == 5  # two of 0, one of 1 (it touches itself diagonally), two of 2
    assert components(labels, background=0).max() + 1 == 4


def test_more_segments_than_a_byte_can_count():
    labels = np.arange(32 * 32).reshape(32, 32)
    assert resize_labels(labels, (64, 64)).max() == 1023
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, :2, :2] = True
    assert torch.equal(vote(labels, mask, 1.0), mask)


def test_vote_and_combine():
    segments = np.array([[0, 0, 1, 1]] * 4)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :6, :4] = True  # three quarters of segment 0
    assert vote(segments, mask, 0.75)[0, :, :4].all() and not vote(segments, mask, 0.75)[0, :, 4:].any()
    assert not vote(segments, mask, 0.76).any()
    assert torch.equal(vote(segments, mask, 0.7, "intersection"), mask)


def test_erosion_spares_the_border():
    mask = torch.ones(1, 9, 9, dtype=torch.bool)
    assert erode(mask, 5, 2).all()
    mask[:, 4, 4] = False
    assert (~erode(mask, 3, 1)).sum() == 9 and torch.equal(erode(mask, 3, 0), mask)


def test_clusters_have_colours_of_their_own():
    picture = clusters_picture(np.arange(12).reshape(3, 4), (30, 40))
    assert picture.shape == (3, 30, 40) and len(picture.flatten(1).T.unique(dim=0)) == 12


@pytest.mark.parametrize(
    "prompt, start",
    [
        ("a large waterfall falling from hills during sunset in the style of Leonid Afremov", "waterfall, sunset, "),
        ("Rivers and lakes", "rivers, lakes, "),
        ("a wave in the style of the sea", "wave, "),
        ("a red car", "nature, "),
    ],
)
def test_twin_prompt(prompt, start):
    assert twin_prompt(prompt, load_nouns("dataset/nouns.json")).startswith(start)
    assert twin_prompt(prompt, ["x"]) == "nature, bright, realistic, photography, 4k, 8k"


def test_vocabulary():
    assert parse_vocabulary("water, River ; sky,") == [["water", "river"], ["sky"]]
    with pytest.raises(ValueError, match="vocab"):
        parse_vocabulary(" ; ,")


def test_what_is_missing_is_named():
    runtime = make_runtime("cpu")
    with pytest.raises(FileNotFoundError, match="checkpoints/none.*checkpoints/README.md"):
        load_diffusion("checkpoints/none", runtime)
    with pytest.raises(FileNotFoundError, match="checkpoints/none"):
        load_segmenter("transformers", "checkpoints/none", runtime)
    with pytest.raises(ValueError, match="sam9.*transformers"):
        load_segmenter("sam9", "x", runtime)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, unet):
    """A diffusers folder of Stable Diffusion 1.x's kind, tiny and untrained."""
    folder = tmp_path_factory.mktemp("diffusion")
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=6,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    for name, part in {"unet": unet, "vae": vae, "text_encoder": text}.items():
        part.save_pretrained(folder / name)
    write(
        folder / "scheduler/scheduler_config.json",
        _class_name="PNDMScheduler",
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    write(
        folder / "tokenizer/vocab.json",
        **{w: i for i, w in enumerate(("<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"))},
    )
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    write(folder / "tokenizer/tokenizer_config.json", model_max_length=8, tokenizer_class="CLIPTokenizer")
    return folder


def write(path, **content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_diffusers_folder_is_loaded(folder, unet):
    diffusion = load_diffusion(str(folder), make_runtime("cpu"))
    assert diffusion.spatial_factor == 2 and diffusion.latent_shape(16, 24) == (1, 4, 8, 12)
    with pytest.raises(ValueError, match="18x16.*multiples of 4"):
        diffusion.latent_shape(16, 18)
    context = diffusion.encode_text(["", "a b"])
    assert context.shape == (2, 8, 16) and not torch.equal(context[0], context[1])
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    latent = diffusion.encode(image)
    draws = [diffusion.encode(image, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert latent.shape == (1, 4, 8, 12) and torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    made = diffusion.decode(latent)
    assert made.shape == image.shape and 0 <= made.min() and made.max() <= 1
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2
    assert torch.allclose(diffusion.alphas_cumprod, (1 - betas).cumprod(0), atol=1e-5)


def test_noise_from_velocity(unet):
    """v = sqrt(a) epsilon - sqrt(1-a) x0 and x = sqrt(a) x0 + sqrt(1-a) epsilon give epsilon back."""
    alphas, context = torch.linspace(0.999, 0.01, 1000).double(), torch.zeros(2, 3, 16)
    x, epsilon = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    a = alphas[500].item()
    x0 = (x - (1 - a) ** 0.5 * epsilon) / a**0.5

    def network(x, t, context):
        return SimpleNamespace(sample=(a**0.5 * epsilon - (1 - a) ** 0.5 * x0).expand(len(context), -1, -1, -1))

    network.dtype = torch.float32
    assert torch.allclose(
        Diffusion(None, None, None, network, alphas_cumprod=alphas, prediction_type="v_prediction").predict_noise(
            x, 500, context
        )[1],
        epsilon,
        atol=1e-5,
    )


def damage(folder, name, change):
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "part, change, said",
    [
        ("text_encoder/model", lambda w: w.pop(sorted(w)[0]), "text_encoder/ do not fit .1 missing"),
        ("unet/diffusion_pytorch_model", lambda w: w.pop("conv_in.bias"), "1 missing, such as conv_in.bias"),
        ("unet/diffusion_pytorch_model", lambda w: w.update(other=torch.zeros(1)), "1 unexpected, such as other"),
        ("vae/diffusion_pytorch_model", lambda w: w.update({"quant_conv.bias": torch.zeros(3)}), "quant_conv.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, tmp_path, part, change, said):
    broken = copied(folder, tmp_path)
    damage(broken, f"{part}.safetensors", change)
    with pytest.raises(ValueError, match=said):
        load_diffusion(str(broken), make_runtime("cpu"))


def copied(folder, target):
    return shutil.copytree(folder, target / "copy")


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("text_encoder/model.safetensors", "version https://git-lfs.github.com/spec/v1\n", "cannot be loaded"),
        ("vae/config.json", '{"_class_name": "AutoencoderTiny"}', "AutoencoderTiny, expected AutoencoderKL"),
        ("scheduler/scheduler_config.json", '{"prediction_type": "sample"}', "'sample', expected epsilon"),
        ("tokenizer/vocab.json", None, "vocab.json"),
    ],
)
def test_a_damaged_folder_is_refused(folder, tmp_path, name, text, said):
    broken = copied(folder, tmp_path)
    (broken / name).unlink() if text is None else (broken / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        load_diffusion(str(broken), make_runtime("cpu"))
