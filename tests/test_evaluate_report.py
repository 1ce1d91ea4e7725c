"""Reports over folders of procedural clips: the true ones, made ones, frozen ones and senseless ones, in this order."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from text2cinemagraph.data.flow import write_flow, write_motion
from text2cinemagraph.data.media import VideoWriter, write_mask
from text2cinemagraph.evaluate.measures import MEASURES
from text2cinemagraph.evaluate.report import items_of, main, measure_all, ranking, summary
from text2cinemagraph.mini.scene import KINDS, Scene
from text2cinemagraph.models.euler import displacements, displacements_reversed
from text2cinemagraph.options.cli import run_main
from text2cinemagraph.softmax_splatting import splat_blend

SIZE = 96
SCENES = KINDS[:4]
KINDS_OF_CLIP = ("truth", "splat", "frozen", "shuffled")


def splatted(image, flow, count=60):
    """The plain symmetric splat of colours along the true flow: what a video network starts from.  image: uint8
    [H,W,3].
    """
    picture, one = torch.from_numpy(image).permute(2, 0, 1).float() / 255, torch.ones(image.shape[:2])
    flow = torch.from_numpy(flow)
    for n, moves in enumerate(zip(displacements(flow, count - 1), displacements_reversed(-flow, count))):
        blended, total = splat_blend(picture, list(moves), [one * (1 - n / count), one * (n / count)])
        yield np.uint8((torch.where(total > 0, blended, picture).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """gt/ with a scene of four kinds, masks/, and one results folder per way of making clips."""
    folder = tmp_path_factory.mktemp("report")
    for n, kind in enumerate(SCENES):
        scene, item = Scene(10 + n, kind=kind, size=SIZE), f"{n:05d}"
        truth = list(scene.video())
        shuffled = [truth[i] for i in np.random.default_rng(n).permutation(len(truth))]
        made = {
            "truth": truth,
            "splat": splatted(truth[0], scene.flow),
            "frozen": [truth[0]] * 60,
            "shuffled": shuffled,
        }
        write(folder / "gt" / f"{item}_gt.mp4", truth)
        for name, frames in made.items():
            write(folder / name / "images" / f"{item}_video.mp4", frames)
        write_motion(folder / "gt" / f"{item}_motion.pth", torch.from_numpy(scene.flow))
        write_mask(folder / "masks" / f"{item}_mask.png", torch.from_numpy(scene.mask)[None])
        write_flow(folder / "flow" / f"{item}_flow.npz", torch.from_numpy(scene.flow) * 0.5)
    return folder


def write(path, frames):
    with VideoWriter(path) as video:
        for frame in frames:
            video.write(frame)


@pytest.fixture(scope="module")
def rows(folder):
    """{way: {id: row}}."""
    return {name: measure_all(items_of(folder / name, folder / "gt", folder / "masks"))[0] for name in KINDS_OF_CLIP}


def test_motion_orders_the_clips(rows):
    """By what is seen to move: truth < splat < frozen < shuffled, for every scene."""
    for item in rows["truth"]:
        order = [rows[name][item]["motion_difference"] for name in KINDS_OF_CLIP]
        assert order == sorted(order) and order[0] == 0, (item, order)
        error = [rows[name][item]["motion_error"] for name in KINDS_OF_CLIP]
        assert max(error[:2]) < error[2] < error[3], (item, error)
    means = {name: {what: found["mean"] for what, found in summary(rows[name]).items()} for name in KINDS_OF_CLIP}
    assert means["splat"]["motion_difference"] < 0.5 * means["frozen"]["motion_difference"]
    assert means["frozen"]["motion_share"] < 0.1 and 0.7 < means["splat"]["motion_share"] < 1.3
    assert means["truth"]["psnr"] == 100 and means["truth"]["ssim"] == pytest.approx(1)


def test_rows_of_a_frozen_clip(rows):
    row = rows["frozen"]["00000"]
    assert row["frames"] == 60 and row["motion_inside"] < 0.5 and row["still_mean"] < 0.5
    assert rows["splat"]["00000"]["motion_inside"] > 4 * row["motion_inside"]


def test_flow_files(folder):
    (row, *_), _ = (
        list(found.values()) for found in measure_all(items_of(folder / "flow", folder / "gt", folder / "masks"))
    )
    assert row["epe_masked"] == pytest.approx(row["epe_masked_at_rest"] / 2, rel=1e-4) and row["angle_masked"] < 0.1
    assert row["epe_512_masked"] == pytest.approx(row["epe_masked"] * 512 / SIZE) and row["epe"] < row["epe_masked"]
    assert "motion_error" not in row


def test_the_command_and_its_page(folder, monkeypatch, capsys, tmp_path):
    result = {
        "type": "fvd_16",
        "mode": "published",
        "features": "i3d",
        "value": 123.4,
        "interval_95": [100, 140],
        "n": 5,
        "feature_dim": 400,
        "floor": None,
        "warnings": ["few clips"],
    }
    (folder / "splat" / "images" / "fvd_16_published.json").write_text(json.dumps(result))
    (folder / "splat" / "finished").mkdir()
    (folder / "splat" / "finished" / "00000.json").write_text(
        json.dumps({"numbers": {"still_max": 0.0, "seam_ratio_masked": 1.1}})
    )
    for n in (0, 1):
        write_flow(folder / "splat" / "images" / f"{n:05d}_flow.npz", torch.zeros(2, SIZE, SIZE))
    (folder / "splat" / "images" / "77_video.mp4").write_bytes(b"broken")
    run(monkeypatch, folder / "splat", "--gt_path", folder / "gt", "--output", tmp_path)
    out, text = capsys.readouterr()
    report, page = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.html").read_text()
    assert report["n"] == 4 and list(report["items"]["00000"]) and "motion_error" in out and "saved:" in text
    assert report["items"]["00000"]["still_max_before"] == 0 and report["summary"]["seam_ratio_masked_before"]["n"] == 1
    assert report["ordered_by"] == "motion_difference" and len(report["worst_to_best"]) == 4
    assert any("77_video.mp4 is not a readable video" in note for note in report["notes"])
    assert (
        page.count("data:image/webp") == 8 and page.count("data:image/jpeg") >= 8 and "<svg" in page and "123" in page
    )
    assert not re.search(
        r"""(src|href)=['"](?!data:)""", page.replace("xlink:href=", "xlink=").replace('href="#', "")
    ), "needs other files"
    assert set(report["summary"]) <= set(MEASURES)
    line = run(monkeypatch, folder / "splat", "--gt_path", folder / "gt", "--strict", code=1) or capsys.readouterr().err
    assert "77_video.mp4 is not a readable video" in line and "leave out --strict" in line
    (folder / "splat" / "images" / "77_video.mp4").unlink()


def run(monkeypatch, *words, code=None):
    monkeypatch.setattr(sys, "argv", ["report", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == code


def test_mistakes_are_one_line(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="check RESULTS_FOLDER"):
        items_of(tmp_path / "none", folder / "gt")
    with pytest.raises(ValueError, match="nothing to measure"):
        items_of(tmp_path, folder / "gt")
    with pytest.raises(FileNotFoundError, match="check --mask_path"):
        items_of(folder / "splat", folder / "gt", tmp_path / "none")


def test_order_of_measures():
    rows = {
        "a": {"seam_ratio": 3.0, "psnr": 30.0},
        "b": {"seam_ratio": 0.9, "psnr": 20.0},
        "c": {"seam_ratio": None, "psnr": 25.0},
    }
    assert ranking(rows) == ("seam_ratio", ["a", "b"]) and ranking({"a": {}}) == (None, ["a"])
    found = summary(rows)
    assert found["psnr"]["worst_id"] == "b" and found["seam_ratio"]["worst"] == 3 and found["seam_ratio"]["n"] == 2
