"""Known answers for the rooms of s1 to s4."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from img2img.attention_mask import AttentionMean, cluster, clusters_picture, components, erode, resize_labels, vote
from img2img.ddim import invert, step, timesteps
from img2img.diffusion import load_diffusion
from img2img.features import inject, ldm_layer, record
from img2img.prompts import load_nouns, twin_prompt
from img2img.segment import parse_vocabulary, segment
from img2img.segmenters import match_labels
from img2img.twin import negative_weights
from options.runtime import make_runtime

ATTENTION, RESNET = "up_blocks.1.attentions.0", "up_blocks.0.resnets.1"


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
                                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=16,
                                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4, norm_num_groups=8).eval()


def call(unet, seed, rows=2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return unet(torch.randn(1, 4, 8, 8, generator=generator).expand(rows, -1, -1, -1), 5,
                    torch.randn(rows, 3, 16, generator=generator)).sample


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
    with inject(unet, seen, rows=(1, 1, 0)), record(unet, (), ()):
        pass
    with inject(unet, seen, rows=(1, 1, 0)):
        swapped = call(unet, 1, rows=3)
    assert swapped.shape[0] == 3 and hooks(unet) == 0


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
    with pytest.raises(ValueError, match="ddim_steps"):
        timesteps(0)


def test_inversion_undoes_sampling_for_a_gaussian():
    """For data N(0, s^2) the best noise prediction is linear in x, and DDIM's path is known: both directions follow it."""
    alphas, s2 = torch.linspace(0.9999, 0.01, 1000).double(), 0.25
    def predict(x, t):
        return x * (1 - alphas[t]) ** 0.5 / (alphas[t] * s2 + 1 - alphas[t])
    x0 = torch.tensor([0.3, -0.7]).double()
    noise = invert(predict, x0, alphas, 999)
    x = noise
    for t in range(999, 0, -1):
        x = step(x, predict(x, t), float(alphas[t]), float(alphas[t - 1]))
    assert torch.allclose(x, x0, rtol=1e-2)                          # first-order steps: exact only in the limit
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
    regions[:, side // 2:], regions[side // 2:, :2] = 1, 2
    vectors = 6 * torch.eye(3)[torch.from_numpy(regions.ravel())]
    return regions, vectors.repeat(2, 1, 1)


@pytest.mark.parametrize("kind", ["kmeans", "spectral"])
def test_planted_regions_come_back(kind):
    regions, vectors = planted()
    mean = AttentionMean((16, 16))                                     # a latent twice as fine as the attention
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
    assert pieces.max() + 1 == 5                                       # two of 0, one of 1 (it touches itself diagonally), two of 2
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
    mask[:, :6, :4] = True                                             # three quarters of segment 0
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


@pytest.mark.parametrize("prompt, start", [
    ("a large waterfall falling from hills during sunset in the style of Leonid Afremov", "waterfall, sunset, "),
    ("Rivers and lakes", "rivers, lakes, "), ("a wave in the style of the sea", "wave, "), ("a red car", "nature, ")])
def test_twin_prompt(prompt, start):
    assert twin_prompt(prompt, load_nouns("dataset/nouns.json")).startswith(start)
    assert twin_prompt(prompt, ["x"]) == "nature, bright, realistic, photography, 4k, 8k"


def test_vocabulary():
    assert parse_vocabulary("water, River ; sky,") == [["water", "river"], ["sky"]]
    with pytest.raises(ValueError, match="vocab"):
        parse_vocabulary(" ; ,")


def test_words_meet_labels():
    ade = {0: "sky", 1: "sea", 2: "falls", 3: "water", 4: "river", 5: "seat", 6: "swimming pool, swimming bath", 7: "sandbox"}
    assert match_labels(["ocean"], ade) == ([1], [])
    assert match_labels(["waterfalls", "clouds"], ade) == ([0, 2], [])
    assert match_labels(["water"], ade)[0] == [1, 2, 3, 4, 6]
    assert match_labels(["sand", "dragon"], ade) == ([], ["sand", "dragon"])


def test_what_is_missing_is_named():
    runtime = make_runtime("cpu")
    with pytest.raises(FileNotFoundError, match="checkpoints/none.*checkpoints/README.md"):
        load_diffusion("checkpoints/none", runtime)
    with pytest.raises(FileNotFoundError, match="checkpoints/none"):
        segment(torch.zeros(3, 8, 8), "sea", "transformers", "checkpoints/none", runtime)
    with pytest.raises(ValueError, match="sam9.*transformers"):
        segment(torch.zeros(3, 8, 8), "sea", "sam9", "x", runtime)
