"""GIF, WebP and APNG of a clip: read back, they loop, keep time, and what stands still stands still."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from text2cinemagraph.data.animation import ClipWriter, durations, write_animation, write_clip
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.media import check_encoder
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


def with_alpha(path):
    """The frames of a file as uint8 [H,W,4]; a webm by libvpx, because FFmpeg's own VP9 leaves the alpha out."""
    if path.suffix != ".webm":
        with Image.open(path) as file:
            frames = []
            for n in range(file.n_frames):
                file.seek(n)
                frames.append(np.asarray(file.convert("RGBA")))
            return frames
    with av.open(str(path)) as container:
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = container.demux(container.streams.video[0])
        return [frame.to_ndarray(format="rgba") for packet in packets for frame in decoder.decode(packet)]


@pytest.mark.parametrize("name, off", [("webm", 3), ("webp", 0), ("apng", 0)])
def test_alpha_comes_back_as_it_was_written(tmp_path, name, off):
    share = (np.clip(np.arange(64) - 20, 0, 15) * 17).astype(np.uint8)  # 0 to 255 over 15 rows
    frames = [np.dstack([frame, np.tile(share[:, None], 64)]) for frame in clip()]
    path = write_clip(tmp_path / f"v.{name}", frames)
    found = with_alpha(path)
    assert len(found) == 12 and all(frame.shape == (64, 64, 4) for frame in found)
    for made, wanted in zip(found, frames):
        apart = np.abs(made.astype(int) - wanted)
        assert apart[..., 3].max() <= off and apart[40:, :, :3].mean() < 7
    if name == "webm":
        opaque = list(read_video(path))  # who knows no alpha sees the colours
        assert np.abs(opaque[0].astype(int) - frames[0][..., :3]).mean() < 7


@pytest.mark.parametrize("name", ["mp4", "gif"])
def test_alpha_is_refused_where_the_format_carries_none(tmp_path, name):
    frames = [np.dstack([frame, frame[..., 0]]) for frame in clip(2)]
    with pytest.raises(ValueError, match=f"v.{name}.* alpha; write a .webm, .webp or .apng"):
        write_clip(tmp_path / f"v.{name}", frames)
    assert not list(tmp_path.iterdir())


def test_the_writer_keeps_the_whole_picture_in_the_mp4_and_what_moves_beside_it(tmp_path):
    frames = clip()
    with ClipWriter(tmp_path / "video.mp4", ["mp4", "webm", "apng"]) as writer:
        for frame in frames:
            writer.write(frame, np.dstack([frame, 0 * frame[..., 0] + 90]))
    assert np.abs(next(iter(read_video(tmp_path / "video.mp4"))).astype(int) - frames[0]).mean() < 7
    for name in ("webm", "apng"):
        assert np.abs(with_alpha(tmp_path / f"video.{name}")[5][..., 3].astype(int) - 90).max() <= 2


def test_a_codec_that_is_not_there_is_told_in_one_line():
    check_encoder("libvpx-vp9", "video.webm")
    with pytest.raises(ValueError, match="video.webm needs libnothing, which this PyAV lacks; pip install") as told:
        check_encoder("libnothing", "video.webm")
    assert len(str(told.value)) < 200
