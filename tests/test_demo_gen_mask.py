"""Masks for a folder: names, resuming, broken pictures. The segmenter itself is tested elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from text2cinemagraph.data.media import read_image, read_mask, write_image
from text2cinemagraph.demo.gen_mask import gen_mask, overlay, pictures, report
from text2cinemagraph.img2img.segment import EmptyMask
from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.share import Share

ROOT = Path(__file__).resolve().parents[1]


def lower_half(image):
    mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    mask[:, image.shape[1] // 2 :] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    for name in ("1_input.jpg", "2_input.png", "river.PNG"):
        write_image(tmp_path / "in" / name, torch.rand(3, 32, 40))
    (tmp_path / "in" / "1_motion.pth").write_bytes(b"x")
    (tmp_path / "in" / "1_gt").mkdir()
    return tmp_path


def test_pictures_are_found_by_id(folder):
    assert {name: path.name for name, path in pictures(folder / "in").items()} == {
        "1": "1_input.jpg",
        "2": "2_input.png",
        "river": "river.PNG",
    }
    write_image(folder / "in" / "1.png", torch.rand(3, 32, 40))
    with pytest.raises(ValueError, match="1.png and 1_input.jpg .* 1_mask.png"):
        pictures(folder / "in")
    with pytest.raises(FileNotFoundError, match="no pictures"):
        pictures(folder / "in" / "1_gt")
    with pytest.raises(FileNotFoundError, match="no folder"):
        pictures(folder / "nowhere")


def test_masks_are_written_once_and_broken_pictures_skipped(folder):
    (folder / "in" / "0_input.jpg").write_bytes(b"no picture")
    outcome = gen_mask(folder / "in", folder / "out", lower_half)
    assert (outcome.written, outcome.kept) == (3, 0) and len(outcome.broken) == 1 and "0_input.jpg" in outcome.broken[0]
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["1_mask.png", "2_mask.png", "river_mask.png"]
    assert torch.equal(read_mask(folder / "out" / "1_mask.png"), lower_half(torch.zeros(3, 32, 40)))
    (folder / "out" / "2_mask.png").unlink()
    outcome = gen_mask(folder / "in", folder / "out", lower_half)
    assert (outcome.written, outcome.kept) == (1, 2)


def test_overlay_tints_the_mask_only(folder):
    assert gen_mask(folder / "in", folder / "out", lower_half, with_overlay=True).written == 3
    assert read_image(folder / "out" / "1_overlay.jpg").shape == (3, 32, 40)
    image = torch.rand(3, 32, 40)
    tinted = overlay(image, lower_half(image))
    assert torch.equal(tinted[:, :16], image[:, :16]) and (tinted[:, 16:] != image[:, 16:]).all()


def test_pictures_without_anything_get_no_mask_and_are_named(folder, capsys):
    def only_river(image):
        if len(found) == 2:
            return lower_half(image)
        found.append(1)
        raise EmptyMask("the mask is empty")

    found = []
    outcome = gen_mask(folder / "in", folder / "out", only_river)
    assert outcome.written == 1 and outcome.empty == ["1_input.jpg", "2_input.png"]
    assert [p.name for p in (folder / "out").iterdir()] == ["river_mask.png"]
    report(outcome, "out", "dragon")
    assert "nothing of 'dragon' found in 1_input.jpg, 2_input.png; widen --vocab" in capsys.readouterr().err


def test_shares_are_disjoint_and_whole(folder):
    for k in range(2):
        gen_mask(folder / "in", folder / f"out{k}", lower_half, share=Share(k, 2, "-1"))
    names = [sorted(p.name for p in (folder / f"out{k}").iterdir()) for k in range(2)]
    assert names == [["1_mask.png", "river_mask.png"], ["2_mask.png"]]


def test_by_lease_a_picture_without_anything_is_searched_once(folder):
    """The second process passes over what the first has made, and what it has found nothing in."""
    searched = []

    def find_mask(image):
        searched.append(image.shape)
        if len(searched) == 1:
            raise EmptyMask("the mask is empty")
        return lower_half(image)

    (folder / "in" / "0_input.jpg").write_bytes(b"no picture")
    for written, kept in ((2, 0), (0, 2)):
        with Leases(folder / "out" / ".leases") as leases:
            outcome = gen_mask(folder / "in", folder / "out", find_mask, leases=leases, settings="water")
        assert (outcome.written, outcome.kept, len(searched)) == (written, kept, 3)
        assert (
            outcome.empty == ["1_input.jpg"] and len(outcome.broken) == 1 and not (folder / "out" / ".leases").exists()
        )
    with Leases(folder / "out" / ".leases") as leases:  # another vocabulary may find something
        assert gen_mask(folder / "in", folder / "out", find_mask, leases=leases, settings="sky").written == 1


def test_killed_in_the_middle_and_restarted(tmp_path):
    """The command of the README over twenty pictures, with the segmenter of this repository."""
    y = torch.linspace(0, 1, 96)[None, :, None]
    for n in range(20):  # a bright sky over a sea, of twenty tints
        picture = torch.where(
            y < 0.45, torch.tensor([0.6, 0.75, 0.95])[:, None, None], torch.tensor([0.1, 0.35, 0.6])[:, None, None]
        )
        ripples = 0.06 * torch.sin(y * 300 + torch.linspace(0, 40, 128) + n) * (y >= 0.45)
        write_image(tmp_path / "in" / f"{n:02}_input.jpg", (picture + ripples + n / 1000).clamp(0, 1))
    command = [
        sys.executable,
        "demo/gen_mask.py",
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
        "--vocab",
        "water, waterfall, river, ocean, lake, sea; sky",
        "--checkpoint",
        "checkpoints/mini/segmenter",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("*_mask.png"))) < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (tmp_path / "out" / f".19_mask.{run.pid}.part.png").write_bytes(b"half a mask")  # what a kill in mid-write leaves
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*_mask.png") if not p.name.startswith(".")}
    assert 5 <= len(before) < 20
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"{20 - len(before)} masks written" in done.stdout and "licence" in done.stderr
    masks = sorted((tmp_path / "out").iterdir())
    assert len(masks) == 20 and all(read_mask(mask).any() for mask in masks)
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in before.items())
