"""What trains the small family on a GPU, tried on the CPU with few small pictures."""

import json
import tarfile

import numpy as np
import pytest
import torch
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.mini import gpu_family, train_segmenter, train_unet
from text2cinemagraph.mini.album import Page, deck_of, power_above, shares_of_looks, to_range
from text2cinemagraph.mini.procedural import Job
from text2cinemagraph.mini.scene_stream import SceneStream, render_scene
from text2cinemagraph.mini.weathering import as_photographs, blurred, compressed, enlarged, with_colours_of
from text2cinemagraph.options.runtime import make_runtime


def counted(captions):
    """Stands in for a tokenizer: the length of each caption, in a row of four."""
    return np.repeat([[len(caption)] for caption in captions], 4, 1)


def ramp(size=32):
    """uint8 [size,size,3]: red tells the column, green the row."""
    grid = np.stack([*np.meshgrid(np.arange(size), np.arange(size)), np.zeros((size, size))], -1)
    return grid.astype(np.uint8)


@pytest.fixture
def page():
    page = Page(32, 2, 3, "cpu", wordings=(2, 4))
    for i in range(2):
        label = np.full((32, 32), i)
        page.add(np.stack([ramp() + 32 * i] * 3), [0, 1, 2], label, np.full((3, 2, 4), i))
    return page


def test_a_page_takes_what_it_has_room_for(page):
    assert page.full() and page.count == 6 and page.scenes == 2
    with pytest.raises(ValueError, match="full"):
        page.add(np.stack([ramp()]), [0], np.zeros((32, 32)), np.zeros((1, 2, 4)))


def test_windows_are_windows_of_the_pictures(page):
    torch.manual_seed(0)
    cut = ((page.windows(64, 32 - 8) / 2 + 0.5) * 255).round()
    assert cut.shape == (64, 3, 24, 24)
    across, down = cut[:, 0].diff(dim=-1), cut[:, 1].diff(dim=-2)
    assert set(across.unique().tolist()) == {-1.0, 1.0} and down.eq(1).all()  # some are mirrored, none turned
    assert (cut[:, 1, 0, 0] % 2 == 0).all()  # even corners
    assert page.windows(8, 16).shape == (8, 3, 16, 16)  # a quarter of them of 32 px, shrunk


def test_labels_stay_with_their_pictures(page):
    pictures, labels = page.labelled(40, 0.5)
    second = (pictures / 2 + 0.5).amax((1, 2, 3)) * 255 > 40
    assert torch.equal(labels[:, 0, 0] == 1, second) and 0 < second.sum() < 40


def test_every_look_is_drawn_equally_often():
    shares = shares_of_looks(torch.tensor([0, 0, 0, 1, 3]))
    assert shares.tolist() == pytest.approx([1 / 9] * 3 + [1 / 3] * 2)


def test_latents_come_with_their_captions(page):
    class Mean:
        def encode(self, x):
            latent = torch.nn.functional.avg_pool2d(x, 8)
            return type("Encoded", (), {"latent_dist": type("Point", (), {"mode": lambda self: latent})()})()

    page.encode(Mean(), batch=4)
    assert page.encoded == 4  # the rest waits for a full batch
    page.encode(Mean(), batch=4, everything=True)
    deck = deck_of(page, torch.full((1, 4), 9))
    latents, tokens = deck.draw(50, silent=0.3)
    said = tokens[:, 0] != 9
    assert latents.shape == (50, 3, 4, 4) and 0 < said.sum() < 50
    assert torch.equal(latents[said].amax((1, 2, 3)) > -0.7, tokens[said, 0] == 1)
    assert {round(v, 2) for v in latents[:, 0].diff(dim=-1).unique().tolist()} == {-0.06, 0.06}  # both views


def test_power_above_a_frequency():
    x = torch.arange(32)
    fast, slow = (torch.cos(2 * np.pi * x / period).expand(1, 3, 32, 32) for period in (3.2, 16))
    assert power_above(slow, 1 / 4) < 1e-3 * power_above(fast, 1 / 4)


def test_photographs_keep_the_scene():
    torch.manual_seed(0)
    scene = to_range(torch.from_numpy(ramp(64) * 3)[None].expand(16, -1, -1, -1))
    made = as_photographs(scene)
    assert made.shape == scene.shape and made.abs().max() <= 1 and made.isfinite().all()
    means = made.mean((2, 3)).std(0)
    assert (means > 0.03).any()  # in many colours
    still = (made[:, 1, -16:].mean((1, 2)) > made[:, 1, :16].mean((1, 2))).float().mean()
    assert still == 1  # bright stays below


def test_parts_of_a_photograph():
    grey = torch.full((2, 3, 16, 16), 0.5)
    assert (compressed(grey, torch.ones(2, 1, 1, 1)) - grey).abs().max() < 0.01
    noise = torch.rand(2, 3, 32, 32)
    coarse, fine = (((compressed(noise, torch.full((2, 1, 1, 1), c)) - noise) ** 2).mean() for c in (2.0, 0.2))
    assert fine < 0.1 * coarse
    soft = blurred(noise, torch.tensor([0.3, 2.0]))
    assert (soft[0] - noise[0]).abs().max() < 0.05 and soft[1].std() < 0.4 * noise[1].std()
    other = torch.rand(2, 3, 32, 32) * 0.5
    assert torch.allclose(with_colours_of(noise, other).mean((2, 3)), other.mean((2, 3)), atol=1e-5)
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, 16:] = 7
    seen, named = enlarged(labels[:, None].float().expand(-1, 3, -1, -1), labels)
    assert set(named.unique().tolist()) == {0, 7} and ((seen[:, 0] > 3.5) == (named > 3)).float().mean() > 0.95


def test_a_stream_hands_over_what_it_rendered():
    jobs = [Job(i, None, 32, seed=5) for i in range(3)]
    stream, found = SceneStream(jobs, 1, 2, counted), []
    while not stream.over:
        found += stream.collect(wait=True)
    stream.close()
    assert len(found) == 3 and not stream.failure
    wanted = render_scene(jobs[0], 2, counted)
    same = [scene for scene in found if np.array_equal(scene.pictures, wanted.pictures)]
    assert len(same) == 1 and np.array_equal(same[0].tokens, wanted.tokens) and same[0].looks == wanted.looks
    assert wanted.pictures.shape == (3, 32, 32, 3) and wanted.tokens.shape == (3, 2, 4) and wanted.looks[0] == 0


def test_a_renderer_that_fails_ends_the_stream_alone():
    stream = SceneStream([Job(0, None, 8), Job(1, None, 32)], 1, 2, counted)  # 8 px: too small a scene
    while not stream.over:
        stream.collect(wait=True)
    assert "scene size 8" in stream.failure
    stream.close()


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_whole_run_in_small(tmp_path, monkeypatch, capsys, device):
    monkeypatch.setattr(train_unet, "UNET", train_unet.UNET | {"block_out_channels": (16, 16, 16, 16)})
    monkeypatch.setattr(gpu_family, "EDITION", 1)  # the second edition paints for seconds
    monkeypatch.setattr(gpu_family, "LARGE_EVERY", 2)
    small = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "head": 16}
    monkeypatch.setattr(train_segmenter, "SEGMENTER", small)
    out = tmp_path / "out"
    gpu_family.main(
        [
            *("--output", str(out), "--minutes", "0.1", "--workers", "1", "--scenes", "10", "--held", "1"),
            *("--batch", "2", "--sampler_steps", "2", "--sizes", "64", "128", "--device", device, "--fresh"),
        ]
    )
    assert "failed: nothing" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"autoencoder.tar", "unet.tar", "segmenter.tar", "family.json", "log.txt", "samples.jpg"}
    with tarfile.open(out / "unet.tar") as archive:
        assert "diffusion/unet/diffusion_pytorch_model.safetensors" in archive.getnames()
    gpu_family.main(["--install", str(out), "--into", str(tmp_path / "family")])
    card = json.loads((tmp_path / "family/diffusion/card.json").read_text())
    assert card["unet"]["steps"] >= 0 and len(card["sha256"]) == 3 and card["dataset"]["pictures"] > 0
    diffusion = load_diffusion(str(tmp_path / "family/diffusion"), make_runtime("cpu", "fp32"))
    latent = diffusion.encode(torch.rand(1, 3, 128, 128))  # groups of one channel need more than one place
    assert diffusion.predict_noise(latent, 500, diffusion.encode_text(["river"])).isfinite().all()
    assert (tmp_path / "family/segmenter/card.json").is_file()
