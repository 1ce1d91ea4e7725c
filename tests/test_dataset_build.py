"""A data folder from videos: the camera check, the flow of a known motion, layout, split, resuming, broken files."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from text2cinemagraph.data.datasets import FrameDataset, MotionBatch, MotionDataset
from text2cinemagraph.data.flow import read_motion
from text2cinemagraph.data.media import VideoWriter, read_image
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.dataset import build_from_videos as build
from text2cinemagraph.dataset.build_from_videos import Settings, build_from_videos, choose_sides, collect
from text2cinemagraph.dataset.camera import camera_motion
from text2cinemagraph.dataset.motion import load_raft, mean_flow, raft_file
from text2cinemagraph.dataset.videos import find_videos, read_frames

SIZE, BOX = (128, 176), (slice(32, 96), slice(40, 136))  # px; where the texture moves
VELOCITY = 1.0, 0.5  # px/frame, right and down
SETTINGS = Settings(size=128, validation_share=0.3)


def texture(size, seed):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((*size, 3), dtype=np.float32), (0, 0), 2.5)
    return np.uint8(255 * (noise - noise.min()) / (noise.max() - noise.min()))


def scene(n=60, velocity=VELOCITY, pan=0.0, seed=0):
    """n frames, uint8 [H,W,3]: a texture moving inside BOX before another one that a camera passes by at `pan`
    px/frame.
    """
    height, width = SIZE
    far, near = texture((height, width + 100), seed), texture((2 * height, 2 * width), seed + 1)
    for k in range(n):
        frame = cv2.warpAffine(far, np.float32([[1, 0, -pan * k], [0, 1, 0]]), (width, height))
        moved = cv2.warpAffine(
            near, np.float32([[1, 0, velocity[0] * k - 80], [0, 1, velocity[1] * k - 50]]), (width, height)
        )
        frame[BOX] = moved[BOX]
        yield frame


def write_video(path, **what):
    with VideoWriter(path) as video:
        for frame in scene(**what):
            video.write(frame)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "river one.mp4", n=125)
    write_video(folder / "lake.mp4", seed=5)
    write_video(folder / "pan.mp4", pan=0.5)
    write_video(folder / "short.mp4", n=20)
    whole = (folder / "lake.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "notes.mov").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def built(videos, tmp_path_factory):
    """(OUTPUT, build.json's content) of one uninterrupted run."""
    output = tmp_path_factory.mktemp("built")
    return output, build_from_videos(videos, output, SETTINGS)


def motions(output):
    return {path.name: path.read_bytes() for path in output.glob("*/*_motion.pth")}


def test_flow_is_the_known_motion_inside_and_near_nothing_outside(built):
    flow = read_motion(next(built[0].glob("*/river-one_000_motion.pth")))
    assert flow.shape == (2, *SIZE)
    inside = flow[:, 48:80, 56:120]  # 16 px from the edge of BOX: outside of Farneback's window
    true = torch.tensor(VELOCITY)[:, None, None]
    assert (inside - true).norm(dim=0).max() < 0.2 * true.norm()
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[16:112, 24:152] = False
    assert flow.norm(dim=0)[outside].max() < 0.1 * true.norm()
    assert flow.norm(dim=0)[outside].mean() < 0.02 * true.norm()


def test_layout_and_split_by_video(built):
    output, content = built
    sides = {
        side: {path.name.removesuffix("_input.jpg") for path in (output / side).glob("*_input.jpg")}
        for side in build.SIDES
    }
    assert sides["train"] | sides["validation"] == {"river-one_000", "river-one_001", "lake_000"}
    assert len({content["sides"]["river-one"], content["sides"]["lake"]}) == 2
    assert {"river-one_000", "river-one_001"} in sides.values()  # both clips on one side
    folder = output / content["sides"]["lake"]
    frames = list(read_video(folder / "lake_000_gt.mp4"))
    stored = [cv2.imread(str(folder / "lake_000_gt" / "images" / f"{n}.png"))[..., ::-1] for n in range(60)]
    assert len(frames) == 60 and np.abs(np.int16(frames[30]) - stored[30]).mean() < 4
    assert np.abs(read_image(folder / "lake_000_input.jpg").permute(1, 2, 0).numpy() * 255 - stored[0]).mean() < 5


def test_the_loaders_read_it(built):
    for side in build.SIDES:
        motion, frames = MotionDataset(built[0] / side, 64, strict=True), FrameDataset(built[0] / side, 64, strict=True)
        assert len(motion) == len(frames)
        batch = MotionBatch.collate([motion[n] for n in range(len(motion))])
        assert batch.image.shape[1:] == (3, 64, 64) and batch.mask.any() and batch.flow.isfinite().all()
        assert frames[0].middle.shape == (3, 64, 64)


def test_what_is_refused_is_named_in_the_report(built):
    kept, refused = collect(built[1], built[0])
    reasons = dict(refused)
    assert len(kept) == 3 and set(reasons) == {"pan_000", "short.mp4", "cut.mp4", "notes.mov"}
    assert "camera moves by" in reasons["pan_000"] and "%" in reasons["pan_000"]
    assert "too short" in reasons["short.mp4"] and "damaged" in reasons["cut.mp4"] and "damaged" in reasons["notes.mov"]
    page = (built[0] / "report.html").read_text()
    assert all(text in page for text in ("cut.mp4", "river-one_001", "px/frame", "report/lake_000_flow.jpg"))
    assert (built[0] / "report" / "lake_000.jpg").is_file()


def test_camera_numbers():
    def percent(**what):
        return camera_motion([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scene(**what)])

    assert percent()[0] < 0.1  # % of the short side
    moved, _ = percent(pan=0.05)
    assert moved == pytest.approx(59 * 0.05 / 128 * 100, rel=0.1)
    frames = [*scene(n=30), *scene(n=30, seed=9)]
    assert camera_motion([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])[1]  # a cut
    assert camera_motion([np.zeros(SIZE, np.uint8)] * 60) is None


def test_telephone_videos_are_turned_upright(videos, tmp_path):
    content = bytearray((videos / "lake.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 44  # 40 bytes into the box's content after its 4 flags
    content[matrix : matrix + 36] = b"".join(
        v.to_bytes(4, "big", signed=True) for v in (0, 1 << 16, 0, -(1 << 16), 0, 0, SIZE[0] << 16, 0, 1 << 30)
    )
    (tmp_path / "turned.mp4").write_bytes(content)
    plain = next(read_frames(videos / "lake.mp4", 1000))
    assert np.array_equal(next(read_frames(tmp_path / "turned.mp4", 1000)), np.rot90(plain, -1))


def test_killed_and_resumed_equals_uninterrupted(built, videos, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=build_from_videos, args=(videos, tmp_path, SETTINGS))
    process.start()
    while process.is_alive() and not any((tmp_path / "report").glob("*.json")):
        time.sleep(0.01)
    time.sleep(0.1)  # in the middle of the next clip
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("report/*.json")}
    assert 0 < len(before) < 3, "the process was faster than its killer"
    build_from_videos(videos, tmp_path, SETTINGS)
    assert motions(tmp_path) == motions(built[0])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert not list(tmp_path.rglob("*.part*"))
    assert len(list(tmp_path.glob("*/river-one_001_gt/images/*.png"))) == 60


def test_another_run_keeps_the_clips_and_the_sides_and_takes_new_videos(built, videos, tmp_path):
    output, more = tmp_path / "out", tmp_path / "videos"
    shutil.copytree(built[0], output)
    shutil.copytree(videos, more)
    write_video(more / "a.mp4", seed=7)
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*_motion.pth")}
    content = build_from_videos(more, output, SETTINGS, workers=2)
    assert {**content["sides"], **built[1]["sides"]} == content["sides"] and "a" in content["sides"]
    after = {path: path.stat().st_mtime_ns for path in output.glob("*/*_motion.pth")}
    assert len(after) == 4 and {**after, **before} == after


def test_other_settings_need_overwrite(built, videos, tmp_path):
    few, output = tmp_path / "videos", tmp_path / "out"
    few.mkdir()
    shutil.copy(videos / "lake.mp4", few)
    shutil.copytree(built[0], output)
    with pytest.raises(ValueError, match="built with --size 128"):
        build_from_videos(few, output, Settings(size=96, validation_share=0.3))
    build_from_videos(few, output, Settings(size=96), overwrite=True)
    assert [path.name for path in output.glob("*/*_input.jpg")] == ["lake_000_input.jpg"]
    assert read_image(output / "train" / "lake_000_input.jpg").shape == (3, 96, 132)
    (output / "build.json").unlink()
    with pytest.raises(ValueError, match="not built here"):
        build_from_videos(few, output, Settings(size=96))


def test_the_set_itself_is_no_source(videos, tmp_path):
    write_video(tmp_path / "set" / "train" / "v_000_gt.mp4", n=2)
    shutil.copy(videos / "short.mp4", tmp_path)
    assert list(find_videos(tmp_path, tmp_path / "set")) == ["short"]
    shutil.copy(videos / "short.mp4", tmp_path / "short.mov")
    with pytest.raises(ValueError, match="would both be called short"):
        find_videos(tmp_path, tmp_path / "set")


def test_sides():
    names = [str(n) for n in range(20)]
    sides = choose_sides({}, names, 0.1, 0)
    assert sum(side == "validation" for side in sides.values()) == 2
    grown = choose_sides(sides, [*names, *"abcdefghij"], 0.1, 0)
    assert {**grown, **sides} == grown and sum(side == "validation" for side in grown.values()) == 3
    assert set(choose_sides({}, ["a", "b"], 0.1, 0).values()) == {"train", "validation"}
    assert (
        choose_sides({}, ["a"], 0.5, 0) == {"a": "train"} and "validation" not in choose_sides({}, names, 0, 0).values()
    )


def test_raft_runs_with_weights_from_a_file_alone(tmp_path, monkeypatch):
    from torchvision.models.optical_flow import raft_small

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="download.pytorch.org/models/raft_large.*--raft_weights"):
        raft_file("")
    weights = tmp_path / "raft.pth"
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), weights)  # the shape of the computation, not its quality
    frames = list(scene(n=3))
    flow = mean_flow(frames, "raft", raft_file(weights))
    assert flow.shape == (2, *SIZE) and flow.isfinite().all()
    weights.with_name("other.pth").write_bytes(b"broken")
    with pytest.raises(ValueError, match="holds no weights"):
        load_raft(str(weights.with_name("other.pth")))


@pytest.mark.parametrize(
    "flags, said",
    [
        ([], "no videos in"),
        (["--flow_method", "lucas"], "choose from"),
        (["--clip_frames", "30"], "expected 60 to"),
        (["--validation_share", "1"], "less than 1"),
        (["--max_camera_motion", "nan"], "expected a finite number, 0 to 100"),
    ],
)
def test_mistakes_are_named(flags, said, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build", "--videos", str(tmp_path), "--output", str(tmp_path / "out"), *flags])
    with pytest.raises(ValueError, match=said):
        build.main()


def test_nothing_usable_is_an_error_with_a_report(videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "videos").mkdir()
    shutil.copy(videos / "short.mp4", tmp_path / "videos")
    monkeypatch.setattr(sys, "argv", ["build", "--videos", str(tmp_path / "videos"), "--output", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="no clip of 1 videos"):
        build.main()
    assert "too short" in capsys.readouterr().err and "too short" in (tmp_path / "out" / "report.html").read_text()


def test_facts_of_a_clip_are_kept(built):
    facts = json.loads((built[0] / "report" / "river-one_000.json").read_text())
    assert facts["size"] == list(SIZE) and not facts["refused"]
    assert facts["fastest"] == pytest.approx(np.hypot(*VELOCITY), rel=0.1)
    assert 0.6 * np.hypot(*VELOCITY) < facts["speed"] < np.hypot(*VELOCITY)  # Farneback's soft edge moves, but slower
