"""s3's door and its backends: labels and words, tiny random models of every kind through their own processors, `auto`,
user's mistakes.
"""

import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from text2cinemagraph.img2img import segment as door
from text2cinemagraph.img2img import segmenters
from text2cinemagraph.img2img.odise_package import masks_of
from text2cinemagraph.img2img.segment import (
    BACKENDS,
    EmptyMask,
    Segmenter,
    choose_backend,
    load_segmenter,
    segment,
)
from text2cinemagraph.img2img.segmenters import Loaded, match_labels
from text2cinemagraph.options.runtime import make_runtime

from tests.published_files import save_stable_diffusion

LABELS = {0: "sky", 1: "sea", 2: "tree"}
RUNTIME = make_runtime("cpu")
SWIN = dict(
    image_size=64,
    patch_size=4,
    embed_dim=8,
    depths=[1] * 4,
    num_heads=[1] * 4,
    window_size=2,
    out_features=["stage1", "stage2", "stage3", "stage4"],
)


# ---------------------------------------------------------------- words


# What moves among ADE20K's 150 labels, which the recommended segmenter has; releases name them in one of two wordings.
ADE20K_SHORT = {
    2: "sky",
    4: "tree",
    21: "water",
    26: "sea",
    60: "river",
    104: "fountain",
    109: "swimming pool",
    113: "waterfall",
    128: "lake",
}
ADE20K_LONG = ADE20K_SHORT | {109: "swimming pool, swimming bath, natatorium", 113: "waterfall, falls"}


@pytest.mark.parametrize("labels", [ADE20K_SHORT, ADE20K_LONG])
def test_the_published_vocabulary_finds_all_water_of_ade20k_and_nothing_else(labels):
    found, unmatched = match_labels(["water", "waterfall", "river", "ocean", "lake", "sea"], labels)
    assert found == [21, 26, 60, 109, 113, 128] and not unmatched
    assert match_labels(["clouds"], labels) == ([2], []) and match_labels(["fountains"], labels) == ([104], [])


def test_words_find_labels():
    ade = {0: "sky", 1: "sea", 2: "waterfall, falls", 3: "river", 4: "water", 5: "sandbox", 6: "lake"}
    assert match_labels(["ocean"], ade) == ([1], [])
    assert match_labels(["waterfalls", "clouds"], ade) == ([0, 2], [])
    assert match_labels(["water"], ade)[0] == [1, 2, 3, 4, 6]
    assert match_labels(["water"], {0: "pool table", 1: "water-other"})[0] == [1]
    assert match_labels(["beaches", "cloud"], {0: "sand", 1: "clouds"})[0] == [0, 1]
    assert match_labels(["sand", "dragon"], ade) == ([], ["sand", "dragon"])


@pytest.fixture
def red_is_sky():
    """A segmenter that calls red "sky", green "sea" and the rest "tree", at a size and a scale of its own."""

    def model(pixel_values):
        return SimpleNamespace(logits=20 * torch.nn.functional.avg_pool2d(pixel_values, 4))

    def processor(images, return_tensors):
        pictures = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        return hf.BatchFeature(
            {"pixel_values": torch.nn.functional.interpolate(pictures, (32, 64)), "other": torch.zeros(1)}
        )

    model.config, model.device = SimpleNamespace(id2label=LABELS, model_type="any"), "cpu"
    return Segmenter("transformers", Loaded(model, processor, "some/model"))


def test_segmentation_of_planted_colours(red_is_sky):
    image = torch.zeros(3, 40, 100)
    image[0, :20], image[1, 20:, :50], image[2, 20:, 50:] = 1, 1, 1

    def find(vocabulary):
        return segment(image, vocabulary, red_is_sky)

    with pytest.warns(UserWarning, match="dragon"):
        found = find("ocean, waves; clouds, dragon")
    assert found.mask.shape == (1, 40, 100) and found.mask.dtype == torch.bool and found.unmatched == ["dragon"]
    assert found.class_masks["clouds"][0, :19].all() and found.backend == "transformers"
    assert found.class_masks["ocean"][0, 21:, :49].all() and not found.class_masks["ocean"][0, :19].any()
    assert not found.mask[0, 21:, 52:].any() and 0.9 < found.scores["clouds"] <= 1
    with pytest.raises(ValueError, match="no label for any of: dragon, ghost; its labels: sky, sea, tree"):
        find("dragon, ghost")
    with pytest.warns(UserWarning, match="whole picture"):
        assert find("sky; sea; forest").mask.all()
    image[1] = image[2] = 0
    image[0] = 1
    with pytest.raises(EmptyMask, match="mask is empty.*odise.vocab"):
        find("sea")


# ---------------------------------------------------------------- tiny models of every kind


def tokenizer(folder):
    """CLIP's tokenizer with letters for words."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        "!",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return hf.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def segformer(folder):
    config = hf.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, id2label=LABELS
    )
    hf.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    hf.SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def mask2former(folder):
    config = hf.Mask2FormerConfig(
        backbone_config=hf.SwinConfig(**SWIN),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=5,
        id2label=LABELS,
    )
    hf.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    hf.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)


def oneformer(folder):
    config = hf.OneFormerConfig(
        backbone_config=hf.SwinConfig(**SWIN),
        num_queries=6,
        hidden_dim=32,
        mask_dim=32,
        conv_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        query_dec_layers=1,
        text_encoder_width=16,
        text_encoder_context_length=16,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=60,
        task_seq_len=16,
        id2label=LABELS,
        is_training=False,
    )
    hf.OneFormerForUniversalSegmentation(config).save_pretrained(folder)
    (folder / "classes.json").write_text(
        json.dumps({str(i): {"name": name, "isthing": 0} for i, name in LABELS.items()})
    )
    pictures = hf.OneFormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128},
        repo_path=str(folder),
        class_info_file="classes.json",
        num_labels=3,
        num_text=4,
    )
    hf.OneFormerProcessor(pictures, tokenizer(folder / "words"), max_seq_length=16, task_seq_length=16).save_pretrained(
        folder
    )


def eomt(folder):
    config = hf.EomtConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=8,
        num_blocks=2,
        num_queries=5,
        num_upscale_blocks=1,
        num_register_tokens=1,
        id2label=LABELS,
    )
    hf.EomtForUniversalSegmentation(config).save_pretrained(folder)
    hf.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True).save_pretrained(folder)


@pytest.mark.parametrize("make", [segformer, mask2former, oneformer, eomt])
def test_models_with_labels(make, tmp_path):
    """Scores come out at the picture's size; every pixel belongs to the best label; a damaged folder is refused."""
    torch.manual_seed(3)
    make(tmp_path)
    image = torch.rand(3, 50, 90)
    with torch.inference_mode():
        masks, scores, unmatched = segmenters.transformers_labels(
            image, [["sea"], ["sky"], ["forest"]], segmenters.load_labels(tmp_path, RUNTIME)
        )
    assert list(masks) == ["sea", "sky", "forest"] and not unmatched
    together = torch.stack(list(masks.values())).sum(0)
    assert together.shape == (1, 50, 90) and (together == 1).all()
    assert all(0 <= score <= 1 for score in scores.values()) and max(scores.values()) > 0
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_segmenter("transformers", tmp_path, RUNTIME)


def test_a_lost_weight_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    segformer(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("decode_head.classifier.bias")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="classifier.bias"):
        load_segmenter("transformers", tmp_path, RUNTIME)


def clipseg(folder):
    text = dict(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    vision = dict(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    config = hf.CLIPSegConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    hf.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    hf.CLIPSegProcessor(
        hf.ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer(folder / "words")
    ).save_pretrained(folder)


def sam3(folder):
    small = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16)
    backbone = dict(
        **small,
        model_type="sam3_vit_model",
        num_hidden_layers=2,
        image_size=56,
        patch_size=14,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=28,
    )
    config = hf.Sam3Config(
        vision_config=dict(
            backbone_config=backbone, fpn_hidden_size=16, backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]]
        ),
        text_config=dict(
            **small,
            vocab_size=60,
            projection_dim=16,
            num_hidden_layers=1,
            max_position_embeddings=32,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        ),
        geometry_encoder_config=dict(**small, num_layers=1),
        detr_encoder_config=dict(**small, num_layers=1),
        detr_decoder_config=dict(**small, num_layers=1, num_queries=4),
        mask_decoder_config=dict(hidden_size=16, num_attention_heads=2),
    )
    hf.Sam3Model(config).save_pretrained(folder)
    hf.Sam3Processor(
        hf.Sam3ImageProcessor(size={"height": 56, "width": 56}), tokenizer(folder / "words")
    ).save_pretrained(folder)


@pytest.mark.parametrize("make", [clipseg, sam3])
def test_models_of_any_word(make, tmp_path, monkeypatch):
    torch.manual_seed(0)
    make(tmp_path)
    monkeypatch.setattr(segmenters, "LIKELY", 0.0)  # untrained: let everything count
    with torch.inference_mode():
        found = segment(torch.rand(3, 40, 60), "sea, lake; sky", load_segmenter(make.__name__, tmp_path, RUNTIME))
    masks, scores = found.class_masks, found.scores
    assert list(masks) == ["sea", "sky"] and found.unmatched == [] and found.backend == make.__name__
    assert all(mask.shape == (1, 40, 60) and mask.dtype == torch.bool and mask.all() for mask in masks.values())
    assert all(0 <= score <= 1 for score in scores.values())


def test_a_class_is_where_one_of_its_words_is_likely():
    maps = torch.zeros(3, 1, 2, 2)
    maps[0, 0, 0, 0], maps[1, 0, 1, 1], maps[2, 0] = 0.9, 0.6, 0.4
    masks, scores, _ = segmenters._by_class([["sea", "lake"], ["sky"]], maps)
    assert masks["sea"][0].tolist() == [[True, False], [False, True]] and scores["sea"] == pytest.approx(0.75)
    assert not masks["sky"].any() and scores["sky"] == 0


# ---------------------------------------------------------------- which one


def test_auto_takes_odise_only_whole_and_says_why_it_passed_over_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints" / "odise"
    diffusion, clip = folder / "stable-diffusion-v1-3", folder / "clip-vit-large-patch14-336"
    segformer(tmp_path / "checkpoints" / "segmenter")
    steps = (
        (lambda: save_stable_diffusion(diffusion, "bin"), "no ODISE weights at checkpoints/odise"),
        (lambda: torch.save({"w": torch.ones(3)}, folder / "odise_label_coco_50e-b67d2efc.pth"), "CLIP: .* is missing"),
        (lambda: clip_336(clip, POINTER), "CLIP: .*git-lfs pointer.*data.fetch odise-clip"),
        (lambda: clip_336(clip, pickled()[:-9]), "CLIP: .*was cut off"),
    )
    for lay, reason in steps:
        lay()
        assert choose_backend("auto", "") == ("transformers", "checkpoints/segmenter")
        said = capsys.readouterr().out
        assert re.search(f"s3: odise is passed over: .*{reason}", said), said
    clip_336(clip, pickled())
    assert choose_backend("auto", "") == ("odise", "checkpoints/odise") and not capsys.readouterr().out
    (diffusion / "unet" / "diffusion_pytorch_model.bin").write_bytes(POINTER)
    assert choose_backend("auto", "")[0] == "transformers" and "unet" in capsys.readouterr().out


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def pickled():
    file = io.BytesIO()
    torch.save({"w": torch.ones(3)}, file)
    return file.getvalue()


def clip_336(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(content)


def test_auto_takes_what_is_here_and_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="no whole segmenter on this disk.*checkpoints/odise.*data.fetch segmenter"
    ):
        choose_backend("auto", "")
    clipseg(tmp_path / "checkpoints" / "clipseg")
    assert choose_backend("auto", "") == ("clipseg", "checkpoints/clipseg")
    segformer(tmp_path / "checkpoints" / "segmenter")
    assert choose_backend("auto", "") == ("transformers", "checkpoints/segmenter")
    (tmp_path / "checkpoints" / "odise").mkdir()
    assert choose_backend("auto", "")[0] == "transformers"  # an empty folder is no model
    assert choose_backend("auto", "checkpoints/clipseg") == ("clipseg", "checkpoints/clipseg")
    assert choose_backend("sam3", "") == ("sam3", "checkpoints/sam3")
    with pytest.raises(ValueError, match="choose auto, odise, odise-package, sam3"):
        choose_backend("oddise", "")
    for name in ("odise", "sam3", "clipseg"):  # what is missing is said, with what to fetch
        with pytest.raises((FileNotFoundError, ValueError), match="fetch|download"):
            load_segmenter(name, "checkpoints/nothing", RUNTIME)


def test_licences_are_known_for_every_backend():
    assert set(BACKENDS) == {"odise", "odise-package", "sam3", "transformers", "clipseg"}
    assert all(entry.licence for entry in BACKENDS.values()) and "non-commercial" in BACKENDS["odise"].licence
    assert door.BACKENDS["transformers"].words == "labels"


def test_the_package_adapter():
    with pytest.raises(ImportError, match="requirements-odise.txt"):
        load_segmenter("odise-package", "", RUNTIME)
    panoptic = torch.tensor([[0, 1], [2, 3]])
    masks, scores, _ = masks_of(
        panoptic, [{"id": 1, "category_id": 0}, {"id": 3, "category_id": 0}], [["sea", "lake"], ["sky"]]
    )
    assert masks["sea"][0].tolist() == [[False, True], [False, True]] and scores == {"sea": 1.0, "sky": 0.0}
