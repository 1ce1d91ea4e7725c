"""The FVD command over folders of clips, with a small stand-in for the I3D network that takes the same call."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph.data.media import VideoWriter, write_image
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.backbones import load_backbone
from text2cinemagraph.evaluate.clips import FRAMES, pair, predicted_clips, read_clip
from text2cinemagraph.evaluate.compute_fvd import compute_fvd, main
from text2cinemagraph.evaluate.fvd import distance_of_features
from text2cinemagraph.options.cli import run_main

ROOT = Path(__file__).resolve().parents[1]


class StandIn(torch.nn.Module):
    """The call of StyleGAN-V's i3d_torchscript.pt; 12 numbers about colours and changes in time."""

    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale and not resize and return_features, "called in another way than the original"
        assert list(x.shape[1:]) == [3, x.shape[2], 224, 224], "not [N,3,T,224,224]"
        step = (x[:, :, 1:] - x[:, :, :-1]).abs()
        return torch.cat([x.mean([2, 3, 4]), x.std([2, 3, 4]), step.mean([2, 3, 4]), x[:, :, 0].amax([2, 3])], 1)


class Plain(torch.nn.Module):
    """Any other video network."""

    def forward(self, x):
        return x.mean([3, 4]).flatten(1)[:, :5]


class Wrong(torch.nn.Module):
    """A picture network: fails on clips."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)


def write_clip(path, seed, count=60, size=(32, 48)):
    """A gray gradient that slides; its speed and colour depend on the seed."""
    rng = np.random.default_rng(seed)
    ramp, colour, speed = np.linspace(0, 6.3, size[1]), rng.uniform(60, 250, 3), rng.uniform(0.02, 0.2)
    with VideoWriter(path) as video:
        for t in range(count):
            row = (np.sin(ramp + speed * t) + 1) / 2
            video.write(np.uint8(np.broadcast_to(row[None, :, None] * colour, (*size, 3))))


def script(path, module):
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six true clips and predictions of them, and the stand-in."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(6):
        write_clip(folder / "gt" / f"{n:05d}_gt.mp4", n)
        write_clip(folder / "pred" / f"{n:05d}_video.mp4", 100 + n)
    script(folder / "i3d.pt", StandIn())
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """The command in this process: run(*words) -> exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)  # where --cache lies by default

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["evaluate/compute_fvd.py", "--device", "cpu", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            run_main(main)
        return stop.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def result(run):
    """result(folder, *words) -> what the command finds, and what it says beside it."""

    def call(folder, *words):
        code, out, text = run(*flags(folder), *words)
        assert code == 0, text
        return json.loads(out), text

    return call


@pytest.fixture
def fails(run):
    """fails(*words) -> the one line that a mistake gives."""

    def call(*words):
        code, _, text = run(*words)
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert code == 1 and len(lines) == 1 and "Traceback" not in text, text
        return lines[0]

    return call


def flags(folder):
    return (
        "--pred_path",
        folder / "pred",
        "--gt_path",
        folder / "gt",
        "--i3d",
        folder / "i3d.pt",
        "--cache",
        folder / "cache",
        "--output",
        folder / "result.json",
    )


def test_the_published_command(clips):
    done = subprocess.run(
        [sys.executable, "evaluate/compute_fvd.py", *map(str, flags(clips)), "--type", "fvd_60"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found, text = json.loads(done.stdout), done.stderr
    assert found == json.loads((clips / "result.json").read_text())
    real, fake = (
        np.stack([by_hand(clips / side / f"{n:05d}_{end}.mp4") for n in range(6)])
        for side, end in (("gt", "gt"), ("pred", "video"))
    )
    assert found["value"] == pytest.approx(distance_of_features(real, fake), rel=1e-5)
    assert found["interval_95"][0] <= found["value"] <= found["interval_95"][1]
    assert (found["n"], found["feature_dim"], found["floor"]["n"]) == (6, 12, 3)
    assert found["missing"] == found["surplus"] == [] and found["skipped"] == {}
    assert "PyAV" in found["decoder"] and "swscale" in found["resize"] and found["frames"] == "0, 1, ..., 59"
    assert any("6 clips for 12 features" in warning for warning in found["warnings"]) and "warning: 6 clips" in text
    assert len(list((clips / "cache").rglob("*.npy"))) == 12


def by_hand(path):
    """The stand-in's features, written out once more."""
    clip = torch.from_numpy(np.stack(list(read_video(path, (224, 224))))).permute(3, 0, 1, 2)[None] / 127.5 - 1
    return StandIn()(clip, False, False, True)[0].numpy()


def test_sixteen_frames_are_every_third(clips):
    sixteen, every = read_clip(clips / "gt" / "00000_gt.mp4", FRAMES["fvd_16"], "published"), list(FRAMES["fvd_16"])
    sixty = read_clip(clips / "gt" / "00000_gt.mp4", FRAMES["fvd_60"], "published")
    assert every == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45]
    assert sixty.shape == (60, 224, 224, 3) and np.array_equal(sixteen, sixty[every])


def test_the_two_modes_are_near_and_named(clips, result):
    published, clean = (result(clips, "--type", "fvd_16", "--mode", mode)[0] for mode in ("published", "clean"))
    assert published["resize"] != clean["resize"] and "Pillow" in clean["resize"]
    assert published["value"] != clean["value"] and published["value"] == pytest.approx(clean["value"], rel=0.1)
    frames = [
        read_clip(clips / "gt" / "00000_gt.mp4", FRAMES["fvd_16"], mode).astype(float)
        for mode in ("published", "clean")
    ]
    assert np.abs(frames[0] - frames[1]).mean() < 2


def test_a_killed_run_continues_to_the_same_number(clips, tmp_path, monkeypatch):
    """Killed in the third batch: the first two are not computed again, half a file is not trusted, the number is the
    same.
    """
    backbone, pairing = (
        load_backbone(str(clips / "i3d.pt"), "", "", torch.device("cpu")),
        pair(clips / "gt", clips / "pred"),
    )
    whole = compute_fvd(pairing, backbone, "fvd_16", cache=tmp_path / "a", batch=2)
    calls, compute = [], backbone.features

    def counted(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(batch)

    monkeypatch.setattr(backbone, "features", counted)
    with pytest.raises(KeyboardInterrupt):
        compute_fvd(pairing, backbone, "fvd_16", cache=tmp_path / "b", batch=2)
    kept = sorted((tmp_path / "b").rglob("*.npy"))
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    again = compute_fvd(pairing, backbone, "fvd_16", cache=tmp_path / "b", batch=2)
    assert (
        again == whole and sum(calls) == 2 + 2 + 2 + 2 + 8
    )  # two kept, one of them damaged, one interrupted, four not begun
    compute_fvd(pairing, backbone, "fvd_16", cache=tmp_path / "b", batch=2)
    assert len(calls) == 8
    compute_fvd(pairing, backbone, "fvd_60", cache=tmp_path / "b", batch=6)
    assert len(calls) == 10, "other frames, other features"


def test_folders_of_pictures_and_the_original_names(clips, tmp_path):
    """Lossless frames beside the encoded clip give nearly the same; <id>_input_video.mp4 is found, also in images/
    below.
    """
    for n in range(2):
        for t, frame in enumerate(read_video(clips / "gt" / f"{n:05d}_gt.mp4")):
            write_image(tmp_path / "gt" / f"{n:05d}_gt" / "images" / f"{t}.png", frame)
        write_clip(tmp_path / "pred" / "images" / f"{n:05d}_input_video.mp4", n)
    pairing = pair(tmp_path / "gt", tmp_path / "pred")
    assert list(pairing.real) == ["00000", "00001"] and pairing.real["00000"].is_dir()
    for mode in ("published", "clean"):
        stored, encoded = (
            read_clip(path, FRAMES["fvd_16"], mode).astype(float)
            for path in (pairing.real["00000"], clips / "gt" / "00000_gt.mp4")
        )
        assert stored.shape == encoded.shape and np.abs(stored - encoded).mean() < 3
    backbone = load_backbone("i3d", clips / "i3d.pt", "", torch.device("cpu"))
    assert compute_fvd(pairing, backbone, "fvd_16", draws=20)["value"] < 0.1
    write_clip(tmp_path / "pred" / "images" / "00000_video.mp4", 0, 3)
    with pytest.raises(ValueError, match="two predictions of 00000"):
        predicted_clips(tmp_path / "pred")


def test_missing_surplus_unreadable_and_short_clips_are_named(clips, tmp_path, result, fails):
    for n in range(4):
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / "gt" / f"{n:05d}_gt.mp4").symlink_to(clips / "gt" / f"{n:05d}_gt.mp4")
    (tmp_path / "gt" / "00004_gt.mp4").write_bytes(b"no video")
    write_clip(tmp_path / "gt" / "00005_gt.mp4", 5, 40)
    (tmp_path / "pred").mkdir()
    for n, new in ((0, 0), (1, 1), (2, 2), (4, 4), (5, 5), (5, 9)):
        (tmp_path / "pred" / f"{new:05d}_video.mp4").symlink_to(clips / "pred" / f"{n:05d}_video.mp4")
    script(tmp_path / "i3d.pt", StandIn())
    found, text = result(tmp_path)
    assert (found["n"], found["missing"], found["surplus"]) == (3, ["00003"], ["00009"])
    short, unreadable = sorted(found["skipped"].values(), key=lambda reason: "readable" in reason)
    assert "00004_gt.mp4 is not a readable video" in unreadable
    assert "00005_gt.mp4 is too short" in short and "expected 46" in short
    assert text.count("skipped: ") == 2 and any(
        "1 true clips without a prediction: 00003" in w for w in found["warnings"]
    )
    arguments = (
        "--pred_path",
        tmp_path / "pred",
        "--gt_path",
        tmp_path / "gt",
        "--i3d",
        tmp_path / "i3d.pt",
        "--strict",
    )
    assert "1 true clips have no prediction: 00003" in fails(*arguments)
    (tmp_path / "gt" / "00003_gt.mp4").unlink()
    assert "00004_gt.mp4 is not a readable video" in fails(*arguments)


def test_mistakes_are_one_line(clips, tmp_path, fails):
    gt, pred, i3d = clips / "gt", clips / "pred", ("--i3d", clips / "i3d.pt")
    (tmp_path / "empty").mkdir()
    assert "no folder at" in fails("--pred_path", tmp_path / "none", "--gt_path", gt, *i3d)
    assert "no clips in" in fails("--pred_path", tmp_path / "empty", "--gt_path", gt, *i3d)
    assert "expected <id>_gt.mp4" in fails("--pred_path", pred, "--gt_path", tmp_path / "empty", *i3d)
    write_clip(tmp_path / "other" / "77_video.mp4", 0, 3)
    assert "no common names" in fails("--pred_path", tmp_path / "other", "--gt_path", gt, *i3d)
    for n in range(2):
        write_clip(tmp_path / "short" / f"{n:05d}_video.mp4", 0, 12)
    line = fails("--pred_path", tmp_path / "short", "--gt_path", gt, *i3d, "--cache", "", "--type", "fvd_60")
    assert "0 pairs of clips can be compared" in line and "at most 12 frames, expected 60" in line
    folders = ("--pred_path", pred, "--gt_path", gt, "--cache", "")
    assert "python -m data.fetch i3d" in fails(*folders, "--i3d", tmp_path / "i3d.pt")
    (tmp_path / "text.pt").write_text("hello")
    assert "no TorchScript file" in fails(*folders, "--i3d", tmp_path / "text.pt")
    assert "does not take rescale" in fails(*folders, "--i3d", script(tmp_path / "plain.pt", Plain()))
    assert "cannot be called as a video network" in fails(
        *folders, "--features", script(tmp_path / "wrong.pt", Wrong())
    )
    assert "neither i3d" in fails(*folders, "--features", "r3d_18")
    assert "use torchvision:r3d_18, " in fails(*folders, "--features", "torchvision:resnet18")
    assert "r3d_18" in fails(*folders, "--features", "torchvision:r3d_18", "--weights", tmp_path / "none.pth")
    assert "holds no weights" in fails(*folders, "--features", "torchvision:r3d_18", "--weights", tmp_path / "text.pt")
    assert "expected 0 to 4096" in fails(*folders, "--batch", -1)


def test_other_networks(clips, tmp_path, result):
    """Any TorchScript file by its path; torchvision's with a weights file (here of random weights, as a file is a
    file).
    """
    found, _ = result(clips, "--features", script(tmp_path / "plain.pt", Plain()))
    assert found["features"] == "plain.pt" and found["feature_dim"] == 5
    from torchvision.models.video import r3d_18

    torch.save(r3d_18(weights=None).state_dict(), tmp_path / "r3d.pth")
    backbone = load_backbone("torchvision:r3d_18", "", tmp_path / "r3d.pth", torch.device("cpu"))
    assert backbone.features([np.zeros((4, 224, 224, 3), np.uint8)]).shape == (1, 512)
