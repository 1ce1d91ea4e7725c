"""GIF, WebP and APNG of a clip: read back, they loop, keep time, and what stands still stands still."""

import numpy as np
import pytest
import torch
from PIL import Image
from text2cinemagraph.data.animation import ClipWriter, durations, write_animation
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.summary import summary, write_summary
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.inference_t2c import ARTIFACTS, STAGES

PANELS = [panel for stage in STAGES for panel in stage.panels]


def clip(count=12, side=64):
    """A gradient with a coloured square that wanders over its lower half."""
    y, x = np.mgrid[0:side, 0:side]
    base = np.stack([x * 4, y * 4, 255 - x * 2], -1).clip(0, 255).astype(np.uint8)
    frames = []
    for n in range(count):
        frame = base.copy()
        frame[40:56, 3 * n : 3 * n + 12] = (250, 220 - 10 * n, 30)
        frames.append(frame)
    return frames


def read_back(path):
    with Image.open(path) as file:
        frames, times = [], []
        for n in range(file.n_frames):
            file.seek(n)
            frames.append(np.asarray(file.convert("RGB")))
            times.append(file.info["duration"])
        return frames, times, file.info.get("loop")


@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_animations_read_back(tmp_path, name):
    frames = clip()
    write_animation(tmp_path / f"v.{name}", frames, 30)
    found, times, loop = read_back(tmp_path / f"v.{name}")
    assert len(found) == 12 and loop == 0 and sum(times) == pytest.approx(400, abs=1)
    for made, wanted in zip(found, frames):
        assert np.abs(made.astype(int) - wanted).mean() < (0.1 if name == "apng" else 7)
    if name != "webp":
        assert all((frame[:38] == found[0][:38]).all() for frame in found)
    if name == "apng":
        assert all((a == b).all() for a, b in zip(found, frames))
    assert not [p for p in tmp_path.iterdir() if ".part" in p.name]


def test_durations_keep_step():
    assert durations(6, 30, 10) == [30, 40, 30, 30, 40, 30] and sum(durations(60, 30, 10)) == 2000
    assert durations(4, 25, 10) == [40] * 4
    assert set(durations(10, 100, 10)) == {20}  # faster ones are slowed down by browsers


def test_the_writer_keeps_only_what_is_asked_for(tmp_path):
    for formats in (["mp4", "gif", "webp"], ["gif"]):
        with ClipWriter(tmp_path / "video.mp4", formats, 30) as writer:
            for frame in clip():
                writer.write(frame)
        assert {p.name for p in tmp_path.iterdir()} == {"video.mp4"} | {f"video.{name}" for name in formats}
    assert len(list(read_video(tmp_path / "video.mp4"))) == 12
    with pytest.raises(ValueError, match="avi is unknown; choose from mp4, webm, gif, webp, apng"):
        ClipWriter(tmp_path / "video.mp4", ["avi"])


def test_an_interrupted_clip_leaves_the_old_one(tmp_path):
    with ClipWriter(tmp_path / "video.mp4", ["gif"]) as writer:
        for frame in clip():
            writer.write(frame)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt), ClipWriter(tmp_path / "video.mp4", ["gif"]) as writer:
        writer.write(clip()[0])
        raise KeyboardInterrupt
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_summary_shows_what_is_there(tmp_path):
    experiment = Experiment(tmp_path, "one", ARTIFACTS)
    assert summary(experiment, PANELS) is None
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[:, 20:] = True
    experiment.write(image=torch.rand(3, 40, 60))
    small = summary(experiment, PANELS)
    experiment.write(twin=torch.rand(3, 40, 60), mask_odise=mask, mask=mask, flow=mask * torch.ones(2, 1, 1))
    with ClipWriter(experiment.path("video")) as writer:
        for frame in clip(20, 64):
            writer.write(frame)
    write_summary(experiment, PANELS)
    sheet = np.asarray(Image.open(tmp_path / "one" / "summary.png"))
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 4 * 384 + 3 * 6 and sheet.shape[0] == 2 * small.shape[0]
    assert (sheet == summary(experiment, PANELS)).all()


def test_webm_is_written_beside_the_mp4_and_quality_counts(tmp_path):
    frames = [np.random.default_rng(n).integers(0, 256, (32, 48, 3), np.uint8) for n in range(4)]
    sizes = []
    for quality in (5, 40):
        with ClipWriter(tmp_path / "video.mp4", ["mp4", "webm"], 30, quality) as writer:
            for frame in frames:
                writer.write(frame)
        assert len(list(read_video(tmp_path / "video.webm"))) == 4
        sizes.append([(tmp_path / name).stat().st_size for name in ("video.mp4", "video.webm")])
    assert all(small < large for large, small in zip(*sizes))
    with ClipWriter(tmp_path / "video.mp4") as writer:
        writer.write(frames[0])
    assert not (tmp_path / "video.webm").exists()
