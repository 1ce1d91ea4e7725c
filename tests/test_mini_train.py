"""The trainer of the mini tier's image models: on a few small scenes, for seconds."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.segment import load_segmenter, segment
from text2cinemagraph.mini import train as train_mini
from text2cinemagraph.mini import train_autoencoder, train_segmenter, train_unet, training
from text2cinemagraph.mini.scenes import LABELS, read_scenes, to_tensor
from text2cinemagraph.options.runtime import make_runtime
from transformers import CLIPTokenizer

ROOT = Path(__file__).parents[1]

CAPTIONS = {
    "natural": "river flowing in left to right direction, nature, bright, 4k",
    "oil": "a large river in the style of oil painting",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four scenes: sky above, river below, each natural and painted."""
    root = tmp_path_factory.mktemp("data")
    folder, rng, lines = root / "train", np.random.default_rng(0), []
    for part in ("train", "train_styled", "train_labels"):
        (root / part).mkdir()
    for i in range(4):
        label = np.zeros((256, 256), np.uint8)
        label[128 + 16 * i :] = LABELS.index("river")
        picture = np.where(label[..., None] > 0, (150, 90, 30), (230, 200, 160)) + rng.normal(0, 9, (256, 256, 3))
        picture = picture.clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:05d}_input.jpg"), picture)
        cv2.imwrite(str(root / f"train_styled/{i:05d}_oil.jpg"), cv2.blur(picture, (5, 5)))
        cv2.imwrite(str(root / f"train_labels/{i:05d}_label.png"), label)
        lines.append(
            json.dumps(
                {"id": f"{i:05d}", "seed": i, "kind": "river", "light": "day", "styles": ["oil"], "captions": CAPTIONS}
            )
        )
    (root / "train_metadata.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    return folder


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train_unet, "UNET", train_unet.UNET | {"block_out_channels": (16, 16, 16, 16)})
    monkeypatch.setattr(
        train_segmenter, "SEGMENTER", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "head": 16}
    )


def test_scenes_are_sorted_and_captions_name_no_direction(data):
    scenes = read_scenes(data)
    assert [scene["id"] for scene in scenes.scenes] == ["00000", "00001", "00002", "00003"]
    assert len(scenes.variants()) == 8 and scenes.variants()[1] == (0, "oil")
    assert "direction" not in scenes.caption(0) and scenes.caption(0).startswith("river")
    assert scenes.picture(0).shape == (256, 256, 3) and scenes.label(0)[-1, 0] == 6


def test_missing_data_says_how_to_render(tmp_path):
    with pytest.raises(FileNotFoundError, match="mini.procedural"):
        read_scenes(tmp_path / "none")


def test_schedules():
    assert training.cosine(0) == pytest.approx(1) and training.cosine(1) == pytest.approx(0.02)
    assert (
        training.late_decay(0.4) == 1
        and training.late_decay(0.75) == pytest.approx(0.5)
        and training.late_decay(1) == 0.02
    )


def test_reconstruction_loss():
    x = torch.rand(2, 3, 32, 32)
    assert train_autoencoder.reconstruction_loss(x, x) == 0
    assert train_autoencoder.reconstruction_loss(x + 0.1, x).item() == pytest.approx(
        0.1 + 0.3 * 3 * 0.1, rel=1e-4
    )  # gradients do not see it


def test_pca_start_reconstructs_what_it_spans():
    torch.manual_seed(0)
    basis, vae = torch.randn(8, 3 * 64), PatchAutoencoder()
    patches = (torch.randn(500, 8) @ basis * 0.1).view(-1, 3, 8, 8)
    vae.start_from_pca(patches)
    with torch.no_grad():
        x = patches[:4].reshape(2, 2, 3, 8, 8).permute(0, 2, 3, 1, 4).reshape(2, 3, 8, 16)
        assert torch.allclose(vae.decode_base(vae.encode_base(x)), x, atol=1e-3)


def test_a_silent_decoder_is_woken(tmp_path):
    vae = PatchAutoencoder()
    torch.nn.init.constant_(vae.decoder[-1].bias, 0.5)
    trainer = train_autoencoder.autoencoder_trainer(vae, training.config_of(average=0.9), tmp_path / "vae.pt")
    probe = torch.zeros(1, 3, 16, 16)
    train_autoencoder.keep_awake(trainer, vae, probe)
    torch.nn.init.zeros_(vae.decoder[-1].bias)
    torch.nn.init.zeros_(vae.decoder[-1].weight)
    train_autoencoder.keep_awake(trainer, vae, probe)
    assert vae.decoder[-1].bias.eq(0.5).all() and trainer.state.rate_scale == 0.5


def line(path, **more):
    """A Trainer of one weight and one bias that learn to be 3 together."""
    torch.manual_seed(0)
    weight = torch.nn.Linear(1, 1)
    config = training.config_of(batch_size=4, lr=0.1, betas=(0.9, 0.99), decay=training.cosine, **more)
    return training.trainer_of(
        training.Learning({"line": weight}, lambda x: (weight(x) - 3).square().mean()), config, path
    )


def ones(count):
    return torch.ones(count, 1)


def test_training_stops_goes_on_and_averages(tmp_path):
    path = tmp_path / "line.pt"
    run = line(path, samples=40, average=0.9)
    training.learn(run, ones, path)
    assert run.state.steps == 10 and training.notes(run, batch=4)["samples"] == 40
    assert 0 < run.loss < 9
    other = line(path, samples=80, average=0.9, resume=True)
    assert other.state.steps == 10 and all(torch.equal(a, b) for a, b in zip(other.parameters, run.parameters))
    before, mean = other.parameters[0].clone(), other.average.shadow_params[0]
    with other.averaged():
        assert torch.equal(other.parameters[0], mean) and not torch.equal(mean, before)
    assert torch.equal(other.parameters[0], before)
    training.learn(other, ones, path)
    assert other.state.steps == 20 and torch.equal(line(path, resume=True).parameters[0], other.parameters[0])


def test_minutes_end_a_training(tmp_path):
    run = line(tmp_path / "line.pt", minutes=0.002)
    training.learn(run, ones, tmp_path / "line.pt")
    assert run.state.steps > 3 and run.state.elapsed >= 0.12
    again = line(tmp_path / "line.pt", minutes=0.002, resume=True)
    training.learn(again, ones, tmp_path / "line.pt")
    assert again.state.steps == run.state.steps


def test_a_broken_loss_stops_with_advice(tmp_path):
    with pytest.raises(ValueError, match="--resume"):
        training.learn(line(tmp_path / "line.pt"), lambda n: torch.full((n, 1), float("nan")), tmp_path / "line.pt")


def test_where_losses_are_looked_at_seldom_the_last_good_weights_come_back(tmp_path):
    """As on a GPU, where each look would make a step wait."""
    run = line(tmp_path / "line.pt", samples=48, check_every=4)
    draws = iter([1.0] * 6 + [float("nan")] * 2 + [1.0] * 4)
    training.learn(run, lambda n: torch.full((n, 1), next(draws)), tmp_path / "line.pt")
    assert run.state.steps == 12 and run.state.rate_scale == 0.5
    assert all(p.isfinite().all() for p in run.parameters) and run.loss < 9


def test_tokenizer_reads_back(tmp_path):
    train_unet.train_tokenizer(list(CAPTIONS.values()) * 20, tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    tokens = train_unet.tokenize(tokenizer, ["a large River", "", "zebra " * 50])
    assert tokens.shape == (3, train_unet.WORDS)
    assert tokenizer.tokenize("A large river") == ["a</w>", "large</w>", "river</w>"]
    assert tokens[0, 0] == tokenizer.bos_token_id and tokens[1, 1] == tokenizer.eos_token_id == tokens[2, -1]


def test_segmenter_understands_every_size():
    processor, net = train_segmenter.segmenter_processor(), train_segmenter.build_segmenter().eval()
    assert sum(p.numel() for p in net.parameters()) < 2.5e6
    for size, wanted in (
        ((256, 256), (256, 256)),
        ((512, 512), (256, 256)),
        ((384, 512), (256, 352)),
        ((100, 90), (256, 224)),
    ):
        pixels = processor(images=[np.zeros((*size, 3), np.uint8)], return_tensors="pt")["pixel_values"]
        assert tuple(pixels.shape[-2:]) == wanted
    assert net.config.id2label[9] == "sea"


def test_all_parts_from_the_command_line(data, tmp_path, small, capsys):
    output = tmp_path / "mini"
    common = ["--data", str(data), "--output", str(output), "--batch", "4", "--samples", "8"]
    vocabulary = output / "diffusion/tokenizer/vocab.json"
    train_mini.main(["autoencoder", *common])
    train_mini.main(["unet", *common])
    steps = json.loads((output / "diffusion/card.json").read_text())["unet"]["steps"]
    train_mini.main(["unet", *common, "--resume"])  # as many pictures were seen: nothing is added
    card = json.loads((output / "diffusion/card.json").read_text())
    assert (
        card["unet"]["steps"] == steps == 2
        and card["dataset"]["pictures"] == 8
        and card["unet"]["command"].endswith("--resume")
    )
    assert set(card["sha256"]) == {
        f"{part}.safetensors"
        for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    }
    train_mini.main(["decoder", *common])  # sharpened, the U-Net stays right for it
    sharpened = json.loads((output / "diffusion/card.json").read_text())["sha256"]
    assert (
        sharpened["vae/diffusion_pytorch_model.safetensors"]
        != card["sha256"]["vae/diffusion_pytorch_model.safetensors"]
    )
    train_mini.main(["decoder", *common, "--resume"])  # done already
    assert json.loads((output / "diffusion/card.json").read_text())["sha256"] == sharpened
    train_mini.main(["segmenter", *common])
    assert vocabulary.read_bytes() == (ROOT / "checkpoints/mini/diffusion/tokenizer/vocab.json").read_bytes()
    check_diffusion(output / "diffusion", read_scenes(data))
    check_segmenter(output / "segmenter", read_scenes(data))
    shutil.rmtree(tmp_path / "mini-work")
    train_mini.main(["unet", *common, "--minutes", "0", "--resume"])  # nothing to go on from: the exported weights
    again = json.loads((output / "diffusion/card.json").read_text())
    assert (
        again["sha256"]["unet/diffusion_pytorch_model.safetensors"]
        == card["sha256"]["unet/diffusion_pytorch_model.safetensors"]
    )
    train_mini.main(["autoencoder", *common, "--seed", "5"])  # other latents: the folder must not mix the two
    assert "another autoencoder's latents" in capsys.readouterr().out
    assert json.loads((output / "diffusion/card.json").read_text()) == again
    (tmp_path / "mini-work/unet.pt").unlink()
    train_mini.main(
        ["unet", *common, "--minutes", "0", "--resume"]
    )  # a fresh autoencoder, no U-Net yet: the exported one is of no use
    last = json.loads((output / "diffusion/card.json").read_text())
    assert last["autoencoder"]["seed"] == 5 and last["sha256"] != again["sha256"]


def check_diffusion(folder, scenes):
    """The folder loads; even after a second of training, PCA shows in the reconstruction and the latents are
    unit-like.
    """
    diffusion = load_diffusion(str(folder), make_runtime("cpu", "fp32"))
    picture = (to_tensor([scenes.picture(0)]) + 1) / 2
    with torch.no_grad():
        latent = diffusion.encode(picture)
        assert latent.shape == diffusion.latent_shape(256, 256) == (1, 8, 32, 32)
        assert 0.3 < latent.std() < 3
        assert (diffusion.decode(latent) - picture).abs().mean() < 0.05
        assert diffusion.predict_noise(latent, 500, diffusion.encode_text(["river"])).isfinite().all()


def check_segmenter(folder, scenes):
    """The door of s3 opens it, at an odd size too, and it knows all labels: every pixel is one of them."""
    image = (to_tensor([scenes.picture(0)])[0, :, :200] + 1) / 2
    segmenter = load_segmenter("transformers", str(folder), make_runtime("cpu", "fp32"))
    with pytest.warns(UserWarning, match="whole picture"):
        found = segment(image.contiguous(), "; ".join(LABELS), segmenter)
    assert found.mask.shape == (1, 200, 256) and not found.unmatched and set(found.class_masks) == set(LABELS)
    assert (torch.stack(list(found.class_masks.values())).sum(0) >= 1).all()  # "water" is any of the waters
    assert max(found.scores.values()) > 1 / len(LABELS)


def test_scores_of_a_perfect_and_a_shifted_segmenter(data):
    scenes = read_scenes(data)

    def drawn(offset):
        boundaries = iter(np.repeat([128 + 16 * i for i in range(4)], 2))

        def net(pixel_values):
            logits = torch.zeros(1, len(LABELS), 256, 256)
            logits[0, 6, next(boundaries) + offset :] = 1
            return SimpleNamespace(logits=logits)

        return net

    assert train_segmenter.segmenter_scores(drawn(0), scenes)["natural"] == {
        "river": {"iou": 1.0, "worst": 1.0, "scene": "00000"},
        "accuracy": 1.0,
    }
    assert train_segmenter.segmenter_scores(drawn(40), scenes)["painted"]["river"] == {
        "iou": 0.603,
        "worst": 0.5,
        "scene": "00003",
    }
