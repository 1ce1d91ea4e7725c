"""Results folders: what is done stays done until something it was made from changes; processes share the rest."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.data.flow import write_flow, write_motion
from text2cinemagraph.data.media import write_image
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.clips import predicted_clips
from text2cinemagraph.evaluate.index_page import write_index
from text2cinemagraph.jobs.finished import Finished
from text2cinemagraph.jobs.leases import SECONDS, Leases
from text2cinemagraph.jobs.share import run_on_all, share_of
from text2cinemagraph.models.networks import build_motion, build_video
from text2cinemagraph.options.train import MotionOptions, VideoOptions

ROOT = Path(__file__).resolve().parents[1]
MOTION = dict(netG="spadeunet", input_nc=6, nf=4, spade_hidden=4, fineSize=256, motion_norm=4.0)
VIDEO = dict(encoder_channels=[8, 8, 13], decoder_channels=[12, 3], decoder_resample=["none", "none"], norm_G="batch")


@dataclass
class Options:
    folder: str
    which_epoch: str = "latest"
    speed: float = 1.0
    gpu_ids: str = "0"


def test_an_item_is_done_while_nothing_changes(tmp_path):
    weights, picture, made = (tmp_path / name for name in ("latest_net_G.pth", "a.jpg", "a.mp4"))
    for path in (weights, picture, made):
        path.write_bytes(b"1")

    def known(**changes):
        finished = Finished(tmp_path / "results", Options(str(tmp_path), **changes))
        return finished.record("a", finished.key(picture, "caption"), [made])

    finished = Finished(tmp_path / "results", Options(str(tmp_path)))
    assert known() is None
    finished.end("a", finished.key(picture, "caption"), epe=1.5)
    assert known() == {"epe": 1.5} == known(gpu_ids="0,1") and finished.numbers(["a", "b"]) == [{"epe": 1.5}]
    assert known(speed=2.0) is None and known(which_epoch="25") is None
    picture.write_bytes(b"2")
    assert known() is None
    picture.write_bytes(b"1")
    assert known() and finished.record("a", finished.key(picture, "other"), [made]) is None
    weights.write_bytes(b"other weights")
    assert known() is None
    weights.write_bytes(b"1")
    finished = Finished(tmp_path / "results", Options(str(tmp_path)))
    finished.end("a", finished.key(picture, "caption"))
    assert known() == {}
    made.unlink()
    assert known() is None
    made.write_bytes(b"1")
    finished.begin("a")
    assert known() is None


@pytest.mark.parametrize(
    "ids, gpus, environment, expected",
    [
        ("0", 0, {}, (0, 1, "0")),
        ("1,2", 4, {}, (0, 1, "1")),
        ("-1", 4, {}, (0, 1, "-1")),
        ("0,1", 2, {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, "1")),
        ("0,5,1", 2, {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, "1")),
        ("0", 4, {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2"}, (2, 4, "2")),
        ("-1", 4, {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, "-1")),
        ("0", 0, {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, "0")),
    ],
)
def test_shares(monkeypatch, ids, gpus, environment, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    share = share_of(ids)
    assert (share.rank, share.world, share.gpu_ids) == expected
    assert share.of(list(range(9))) == list(range(expected[0], 9, expected[1]))


def test_shares_that_make_no_sense(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK=2 with WORLD_SIZE=2"):
        share_of("0")


def test_one_process_per_gpu(monkeypatch, tmp_path):
    """A script that writes down what it was told; the worst exit code comes back."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (tmp_path / "s.py").write_text(
        "import os, sys\nrank = os.environ['RANK']\n"
        f"open(r'{tmp_path}/' + rank, 'w').write(os.environ['WORLD_SIZE'] + sys.argv[1])\nsys.exit(3 * int(rank))\n"
    )
    command = [str(tmp_path / "s.py"), "x"]
    assert run_on_all("0,1,2", command) == 3
    assert (tmp_path / "0").read_text() == "2x" == (tmp_path / "1").read_text() and not (tmp_path / "2").exists()
    assert all(run_on_all(ids, command) is None for ids in ("1", "-1", "5,6"))


def test_index_of_a_results_folder(tmp_path):
    for name in (
        "b_input_mask.jpg",
        "b_input_synthesized_flow_masked.jpg",
        "a_video.mp4",
        "b<&_video.mp4",
        "c_flow.npz",
    ):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    page = write_index(tmp_path).read_text()
    assert (
        "3 results" in page
        and 'src="images/a_video.mp4" loop muted' in page
        and "b&lt;&amp;" in page
        and "<&_" not in page
    )
    assert (
        "synthesized flow masked" in page
        and page.index("<h2>a</h2>") < page.index("<h2>b</h2>")
        and "report.html" not in page
    )


# ---------------------------------------------------------------- the two scripts
@pytest.fixture
def folder(tmp_path):
    """Three pictures with their true flow, and a small untrained network of either kind."""
    torch.manual_seed(0)
    for n in range(3):
        write_image(tmp_path / "data" / f"{n:05d}_input.jpg", torch.rand(3, 64, 80))
        write_motion(
            tmp_path / "data" / f"{n:05d}_motion.pth", torch.cat([torch.zeros(2, 32, 80), torch.ones(2, 32, 80)], 1)
        )
    for name, net, options in (
        ("m", build_motion(MotionOptions(**MOTION)), MOTION),
        ("v", build_video(VideoOptions(**VIDEO)), VIDEO),
    ):
        save_checkpoint(tmp_path / name / "latest_net_G.safetensors", net.state_dict(), {"options": options})
    return tmp_path


def load(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch, folder, name, *words):
    module = load(name)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            f"{name}.py",
            "--checkpoints_dir",
            str(folder),
            "--dataroot",
            str(folder / "data"),
            "--results_dir",
            str(folder / "results"),
            *map(str, words),
        ],
    )
    module.main()


def test_clips_are_still_looped_kept_and_remade(folder, monkeypatch):
    words = ("--name", "v", "--n_frames", 6)
    run(monkeypatch, folder, "test_video", *words)
    results = folder / "results" / "v" / "test_latest"
    clips = predicted_clips(results)
    assert sorted(clips) == ["00000", "00001", "00002"] and len(list(read_video(clips["00000"]))) == 6
    numbers = json.loads((results / "finished" / "00000.json").read_text())["numbers"]
    assert numbers["still_max"] == 0 and numbers["motion_inside"] > 0 and numbers["frames"] == 6
    page = (results / "index.html").read_text()
    assert page.count("<video") == 3
    before = {item: path.stat().st_mtime_ns for item, path in clips.items()}
    (results / "finished" / "00001.json").unlink()  # as if killed while making this one
    write_motion(folder / "data" / "00002_motion.pth", torch.ones(2, 64, 80))
    run(monkeypatch, folder, "test_video", *words)
    again = {item: path.stat().st_mtime_ns for item, path in clips.items()}
    assert [again[item] == before[item] for item in sorted(clips)] == [True, False, False]
    run(monkeypatch, folder, "test_video", *words, "--speed", 0.5)
    assert all(path.stat().st_mtime_ns > again[item] for item, path in clips.items())
    run(monkeypatch, folder, "test_video", *words, "--composite", "false")
    assert json.loads((results / "finished" / "00000.json").read_text())["numbers"]["still_max"] > 0


def test_two_processes_share_the_pictures(folder, monkeypatch, capsys):
    words = ("--name", "m", "--prompt", "a river in left to right direction", "--hint_speed", 4)
    images = folder / "results" / "m" / "test_latest" / "images"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, made in (("0", ["00000", "00002"]), ("1", ["00000", "00001", "00002"])):
        monkeypatch.setenv("RANK", rank)
        run(monkeypatch, folder, "test_motion", *words)
        assert sorted(path.name[:5] for path in images.glob("*_flow.npz")) == made
    assert "(3 pictures)" in capsys.readouterr().out
    page = (images.parent / "index.html").read_text()
    assert page.count("<section>") == 3 and "synthesized flow masked" in page
    times = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    run(monkeypatch, folder, "test_motion", *words)
    assert (
        times == {path: path.stat().st_mtime_ns for path in images.iterdir()}
        and "(3 pictures)" in capsys.readouterr().out
    )


def test_by_lease_a_process_makes_what_is_free_and_what_others_leave(folder, monkeypatch):
    """Another machine holds one clip and falls silent."""
    results = folder / "results" / "v" / "test_latest"
    other = Leases(results / ".leases", seconds=1)
    held = other.claim("00001")
    held.path.write_text(json.dumps({"token": held.token, "process": ["another machine", 1, "1"]}))
    past = held.path.stat().st_mtime - SECONDS
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    os.utime(held.path, (past, past))
    run(monkeypatch, folder, "test_video", "--name", "v", "--n_frames", 4, "--share", "lease")
    assert len(predicted_clips(results)) == 3 and not held.held()
    other.close()
    assert not (results / ".leases").exists()
    run(
        monkeypatch,
        folder,
        "test_motion",
        "--name",
        "m",
        "--prompt",
        "a river in upwards direction",
        "--share",
        "lease",
    )
    assert len(list((folder / "results" / "m" / "test_latest" / "images").glob("*_flow.npz"))) == 3


def test_torchrun(folder):
    """As a user starts it: two processes, one result each or more, no collision."""
    write_flow(folder / "flow" / "00000_flow.npz", torch.ones(2, 64, 80))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(ROOT / "test_video.py"),
        "--name",
        "v",
        "--n_frames",
        "4",
        "--checkpoints_dir",
        str(folder),
        "--dataroot",
        str(folder / "data"),
        "--results_dir",
        str(folder / "r"),
        "--gpu_ids",
        "-1",
    ]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(predicted_clips(folder / "r" / "v" / "test_latest")) == 3
    assert np.all(
        [len(list(read_video(path))) == 4 for path in predicted_clips(folder / "r" / "v" / "test_latest").values()]
    )
