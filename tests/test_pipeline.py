"""The six stages on the weights in checkpoints/mini, as a user runs them: small and short, but the real thing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from text2cinemagraph import inference_t2c
from text2cinemagraph.data import animation
from text2cinemagraph.data.media import read_image, read_mask, write_image, write_mask
from text2cinemagraph.data.videos import read_video

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    "twin_extraction.ddim_steps=4",
    "twin_generation.feature_injection_threshold=3",
    "video.n_frames=6",
    "attn_mask.fallback=true",
]
PROMPT = (
    "a large river flowing in left to right, downwards direction in front of mountains in the style of an oil painting"
)


@pytest.fixture(scope="module", autouse=True)
def at_the_root():
    """Configurations name weights relative to the repository, as users run it."""
    before = os.getcwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)


def run(folder, *words, name="e", config="configs/inference_mini.yaml"):
    inference_t2c.main(
        ["--config", config, "--name", name, *map(str, words), f"twin_extraction.exp_path_root={folder}", *QUICK]
    )
    return folder / name


def digests(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("all"), "--stage", "all")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture nobody drew here, of odd size, with a mask: a textured lower half."""
    folder = tmp_path_factory.mktemp("photo")
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 20, 24), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, (141, 179), mode="bicubic")[0].clamp(0, 1)
    mask = torch.zeros(1, 141, 179, dtype=torch.bool)
    mask[:, 70:130, 20:160] = True
    write_image(folder / "photo.png", image)
    write_mask(folder / "mask.png", mask)
    return folder


def test_all_makes_every_file(made):
    assert {artifact.file for stage in inference_t2c.STAGES for artifact in stage.makes} <= set(digests(made))
    assert not [p for p in made.iterdir() if ".part" in p.name]
    frames = list(read_video(made / "video.mp4"))
    assert len(frames) == 6 and frames[0].shape == (256, 256, 3)
    assert sum(p.stat().st_size for p in made.iterdir()) < 100e6


def test_stage_by_stage_makes_the_same_files(made, tmp_path):
    for stage in ("s1", "s2", "s3", "s4-s5", "s6"):
        folder = run(tmp_path, "--stage", stage)
    one, other = digests(made), digests(folder)
    assert set(one) == set(other)
    for name in one:
        if name == "experiment.json":
            a, b = json.loads(one[name]), json.loads(other[name])
            assert a["stages"] == b["stages"]
        else:
            assert one[name] == other[name], name


def test_rerunning_s4_leaves_the_rest(made, tmp_path, capsys):
    before, copy = digests(made), shutil.copytree(made, tmp_path / made.name)
    run(tmp_path, "--stage", "s4", "attn_mask.threshold=0.05", "attn_mask.combine=segments", name=copy.name)
    after = digests(copy)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed and changed <= {
        "mask_self_attn.png",
        "mask_self_attn_erosion.png",
        "clusters.png",
        "experiment.json",
        "summary.png",
    }
    assert "s5" in capsys.readouterr().out  # told to be out of date


def test_the_prompt_of_the_command_line_counts(tmp_path):
    one = run(tmp_path, "--stage", "s1", "--prompt", "a calm lake at night", name="a")
    other = run(tmp_path, "--stage", "s1", "--prompt", "a calm lake in left to right direction at night", name="b")
    third = run(tmp_path, "--stage", "s1", "--prompt", "a waterfall in autumn", name="c")
    assert (one / "image.png").read_bytes() == (other / "image.png").read_bytes() != (third / "image.png").read_bytes()


@pytest.mark.parametrize("phrase, sign", [("left to right", 1), ("right to left", -1)])
def test_own_picture_with_a_direction(photo, tmp_path, capsys, phrase, sign):
    folder = run(
        tmp_path,
        "--image",
        photo / "photo.png",
        "--mask",
        photo / "mask.png",
        "--use_hint",
        "--prompt",
        f"water flowing in {phrase} direction",
        config="configs/inference_mini_directional.yaml",
    )
    said = capsys.readouterr().out
    assert all(f"{stage} skipped" in said for stage in ("s1", "s2", "s3", "s4"))
    flow, mask = np.load(folder / "flow.npz")["flow"], read_mask(photo / "mask.png")[0].numpy()
    assert flow.shape == (2, 141, 179) and not flow[:, ~mask].any()
    assert np.sign(flow[0][mask].mean()) == sign
    assert len(list(read_video(folder / "video.mp4"))) == 6
    assert torch.equal(read_image(folder / "image.png"), read_image(photo / "photo.png"))


def test_own_flow_moves_exactly_the_mask(photo, tmp_path):
    mask = read_mask(photo / "mask.png")
    np.savez(tmp_path / "flow.npz", np.stack([mask[0].numpy() * 1.5, mask[0].numpy() * 0.0]).astype(np.float32))
    frames = []

    class Kept(animation.ClipWriter):  # what goes to the encoder, before it loses anything
        def write(self, frame):
            frames.append(np.asarray(frame))
            super().write(frame)

    original, animation.ClipWriter = animation.ClipWriter, Kept
    try:
        run(tmp_path, "--image", photo / "photo.png", "--flow", tmp_path / "flow.npz")
    finally:
        animation.ClipWriter = original
    still, moving = ~mask[0].numpy(), mask[0].numpy()
    source = np.asarray(Image.open(photo / "photo.png"))
    assert all((frame[still] == source[still]).all() for frame in frames)
    assert np.mean([np.abs(frame[moving].astype(int) - source[moving]).mean() for frame in frames[1:]]) > 1


def test_what_moves_alone_is_written_with_the_mask_as_its_alpha(photo, tmp_path):
    mask = read_mask(photo / "mask.png")
    flow = torch.tensor([0.6, 0.0])[:, None, None] * mask
    np.savez(tmp_path / "flow.npz", flow.numpy())
    own = "--image", photo / "photo.png", "--flow", tmp_path / "flow.npz", "video.feather=0.02"
    plain = run(tmp_path, *own, "video.formats=[apng]", name="plain")
    alone = run(tmp_path, *own, "video.formats=[apng]", "video.alpha=true", name="alone")
    assert (plain / "video.mp4").read_bytes() == (alone / "video.mp4").read_bytes()
    picture, inside = np.asarray(Image.open(photo / "photo.png"), np.float32), mask[0].numpy()
    with Image.open(plain / "video.apng") as whole, Image.open(alone / "video.apng") as layer:
        assert whole.n_frames == layer.n_frames == 6
        for n in range(6):
            whole.seek(n)
            layer.seek(n)
            wanted, found = np.asarray(whole.convert("RGB")), np.asarray(layer.convert("RGBA"), np.float32)
            share = found[..., 3:] / 255
            assert not share[~inside].any() and (share[75:125, 25:155] == 1).all() and len(np.unique(share)) > 3
            assert np.abs(share * found[..., :3] + (1 - share) * picture - wanted).max() < 3


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--stage", "s2"], "--stage s1"),
        (["--stage", "s3"], "--stage s2"),
        (["--stage", "s4"], "--stage s3"),
        (["--stage", "s5"], "--stage s2"),
        (["--stage", "s6"], "--stage s1"),
        (["--stage", "s7"], "s7"),
        (["--stage", "s5-s3"], "s5-s3"),
        (["--use_hint", "--prompt", "a river in the mountain direction"], "direction"),
        (["--prompt", " "], "prompt"),
        (["--image", "none.png"], "none.png"),
        (["--image", "README.md"], "README.md"),
        (["odise.checkpoint=checkpoints/none", "--stage", "s3", "--image", "{photo}"], "checkpoints/none"),
        (["optical_flow.model_name=none", "--image", "{photo}", "--mask", "{mask}"], "checkpoints/none"),
        (["twin_extraction.ckpt=checkpoints/none"], "checkpoints/none"),
        (["--image", "{photo}", "--mask", "{photo}", "--flow", "README.md"], "README.md"),
        (["--name", "a/b"], "experiment_name"),
        (["video.sped=1"], "video.speed"),
        (["--config", "configs/none.yaml"], "configs/none.yaml"),
    ],
)
def test_mistakes_are_one_line(photo, tmp_path, words, expected):
    words = [w.format(photo=photo / "photo.png", mask=photo / "mask.png") for w in words]
    with pytest.raises((ValueError, OSError)) as error:
        run(tmp_path, *words)
    assert expected in str(error.value) and "\n" not in str(error.value).strip(), error.value


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.zeros((3, 5, 5), np.float32), "flow"),
        (np.full((2, 141, 179), np.nan, np.float32), "NaN"),
        (np.ones((2, 14, 17), np.float32), "17x14"),
        (np.zeros((2, 141, 179), np.float32), "nothing"),
    ],
)
def test_bad_flows_are_named_and_nothing_is_lost(photo, tmp_path, array, expected):
    folder = run(tmp_path, "--image", photo / "photo.png", "--mask", photo / "mask.png", "--stage", "s1")
    before = digests(folder)
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match=expected):
        run(tmp_path, "--image", photo / "photo.png", "--flow", tmp_path / "bad.npy")
    assert digests(folder) == before


def test_masks_must_fit_and_mark_something(photo, tmp_path):
    write_mask(tmp_path / "small.png", torch.ones(1, 10, 30).bool())
    write_mask(tmp_path / "black.png", torch.zeros(1, 141, 179).bool())
    with pytest.raises(ValueError, match="30x10.*179x141"):
        run(tmp_path, "--image", photo / "photo.png", "--mask", tmp_path / "small.png")
    with pytest.raises(ValueError, match="black"):
        run(tmp_path, "--image", photo / "photo.png", "--mask", tmp_path / "black.png")
    with pytest.raises(ValueError, match="30x10.*256x256"):
        run(tmp_path, "--mask", tmp_path / "small.png")


def test_an_unusable_output_folder_is_told_before_anything_is_drawn(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(tmp_path / "file")
    assert "s1:" not in capsys.readouterr().out


def test_the_script_prints_one_line_and_fails(tmp_path):
    done = subprocess.run(
        [sys.executable, "inference_t2c.py", "--config", "configs/none.yaml"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_own_picture_is_inverted_when_s2_shall_draw_its_twin(photo, tmp_path, capsys):
    words = (
        "--image",
        photo / "photo.png",
        "--prompt",
        "a river",
        "twin_extraction.inversion_steps=9",
        "twin_extraction.H=128",
        "twin_extraction.W=128",
    )
    folder = run(tmp_path, "--stage", "s1-s2", *words)
    image, twin = read_image(folder / "image.png"), read_image(folder / "twin.png")
    assert torch.equal(image, read_image(photo / "photo.png"))  # yours, not what the model makes of it
    assert twin.shape == image.shape and not torch.equal(twin, image)
    before = digests(folder)
    again = run(tmp_path, "--stage", "s2", *words)  # the noise of this picture is kept
    assert (
        digests(again)["twin.png"] == before["twin.png"]
        and digests(again)["noise.safetensors"] == before["noise.safetensors"]
    )
    write_mask(folder / "mask_odise.png", read_mask(photo / "mask.png"))
    run(tmp_path, "--stage", "s4", *words)
    assert (
        read_image(folder / "clusters.png").shape == image.shape and "no self-attention" not in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="divisor of 999"):
        run(tmp_path, *words, "twin_extraction.inversion_steps=50")


def test_the_twins_words_follow_the_prompt_of_the_command_line(tmp_path, capsys):
    run(tmp_path, "--stage", "s1-s2", "--prompt", "a calm lake at night")
    said = capsys.readouterr()
    assert "twin prompt: lake" in said.out + said.err and "waterfall" not in said.out + said.err


def test_s2_takes_over_what_s1_was_told(tmp_path):
    """Another prompt given to s2 alone changes the twin's words, not what s1 drew."""
    folder = run(tmp_path, "--stage", "s1", "--prompt", "a calm lake at night")
    image = (folder / "image.png").read_bytes()
    run(
        tmp_path,
        "--stage",
        "s2",
        "twin_generation.prompt=lake, nature, photography",
        "--prompt",
        "a calm lake at night",
    )
    twin = (folder / "twin.png").read_bytes()
    run(
        tmp_path,
        "--stage",
        "s2",
        "twin_generation.prompt=lake, nature, photography",
        "twin_generation.negative_prompt=a calm lake at night",
        "twin_extraction.scale=9",
    )
    assert (folder / "image.png").read_bytes() == image
    assert (folder / "twin.png").read_bytes() == twin  # the source is still drawn at s1's own scale
    with pytest.raises(ValueError, match="s1 took 6 steps"):
        inference_t2c.main(
            [
                "--config",
                "configs/inference_mini.yaml",
                "--name",
                "e",
                "--stage",
                "s2",
                f"twin_extraction.exp_path_root={tmp_path}",
                "twin_extraction.ddim_steps=8",
            ]
        )


def test_a_drawn_seed_is_kept_for_the_later_stages(tmp_path):
    folder = run(tmp_path, "--stage", "s1", "twin_extraction.seed=-1")
    seed = json.loads((folder / "experiment.json").read_text())["stages"]["s1"]["options"]["twin_extraction"]["seed"]
    run(tmp_path, "--stage", "s2-s4", "twin_extraction.seed=-1")
    again = json.loads((folder / "experiment.json").read_text())["stages"]
    assert 0 <= seed == again["s4"]["options"]["twin_extraction"]["seed"]


def test_an_own_picture_does_not_stick(photo, tmp_path):
    folder = run(tmp_path, "--image", photo / "photo.png", "--mask", photo / "mask.png", "--stage", "s1")
    assert read_image(folder / "image.png").shape[-2:] == (141, 179)
    run(tmp_path, "--stage", "s1-s2")
    assert read_image(folder / "image.png").shape[-2:] == read_image(folder / "twin.png").shape[-2:] == (256, 256)


def test_missing_networks_are_told_before_anything_is_drawn(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoints/none"):
        run(tmp_path, "video.motion=features", "video.model_name=none")
    assert not (tmp_path / "e" / "image.png").exists()
