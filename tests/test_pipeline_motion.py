"""Motion drawn by hand or said for each thing, through the door that users take: s5 on the weights of the mini tier."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.arrow_hint import leaves_arrows
from text2cinemagraph.data.arrows import pixel, sample_arrows
from text2cinemagraph.data.class_masks import read_classes, write_classes
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.hint import sample_angle
from text2cinemagraph.data.media import read_image, read_mask, write_image, write_mask
from text2cinemagraph.data.motion_file import read_motion_file
from text2cinemagraph.data.suggest import given_again
from text2cinemagraph.img2img.attention_mask import vote_classes
from text2cinemagraph.pipeline.command_line import drawn_motion, follow_motion_file, read_command_line

ROOT = Path(__file__).resolve().parents[1]
SIZE = (120, 160)


@pytest.fixture(scope="module", autouse=True)
def at_the_root():
    """Configurations name weights relative to the repository, as users run it."""
    before = os.getcwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)


@pytest.fixture
def photo(tmp_path):
    """A folder with photo.png, and mask.png: a sky above, water below."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 15, 20), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")[0].clamp(0, 1)
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, :50], mask[:, 60:] = True, True
    write_image(tmp_path / "photo.png", image)
    write_mask(tmp_path / "mask.png", mask)
    return tmp_path


def run(folder, *words, stage="s1-s5", config="configs/inference_mini.yaml"):
    inference_t2c.main(
        [
            "--config",
            config,
            "--name",
            "e",
            "--stage",
            stage,
            *map(str, words),
            f"twin_extraction.exp_path_root={folder}",
        ]
    )
    return folder / "e"


def flow_in(folder):
    return torch.from_numpy(np.load(folder / "flow.npz")["flow"])


def labelme(size):
    """As labelme writes it beside an image: two polygons, two hints, and the picture inside."""
    shapes = [
        {"label": "motion", "shape_type": "polygon", "points": [[0, 0], [160, 0], [160, 50], [0, 50]]},
        {"label": "motion", "shape_type": "polygon", "points": [[0, 60.4], [160, 60.4], [160, 120], [0, 120]]},
        {"label": "hint0", "shape_type": "line", "points": [[90.5, 20], [40.5, 20]]},
        {"label": "hint1", "shape_type": "line", "points": [[40, 90], [100, 90]]},
    ]
    shapes = [entry | {"group_id": None, "flags": {}} for entry in shapes]
    return {
        "version": "5.0.2",
        "flags": {},
        "shapes": shapes,
        "imagePath": "21.png",
        "imageData": "iVBORw0KGgo=",
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


# ---------------------------------------------------------------- arrows
def test_a_folder_of_3d_cinemagraphy_runs_from_one_command(photo, capsys):
    """demo/0/image.png with labelme's image.json: no mask, no prompt, no network in s5."""
    (photo / "0").mkdir()
    (photo / "photo.png").rename(photo / "0" / "image.png")
    (photo / "0" / "image.json").write_text(json.dumps(labelme(SIZE)))
    words = ("--image", photo / "0" / "image.png", "--arrows", photo / "0" / "image.json", "video.n_frames=4")
    folder = run(photo, *words, "optical_flow.model_name=none", stage="all")
    flow = flow_in(folder)
    assert flow[0, :49].max() < -0.3 and flow[0, 62:].min() > 0.3 and not flow[:, 52:59].any()
    assert (folder / "video.mp4").is_file() and (folder / "motion.png").is_file()
    assert read_image(folder / "motion.png").shape == (3, *SIZE)
    assert read_motion_file(folder / "motion.json").mask is None  # the mask is the experiment's own
    record = json.loads((folder / "experiment.json").read_text())
    assert {"image", "mask", "motion"} <= set(record["given"]) and "motion" in record["stages"]["s5"]["read"]


def test_the_network_is_held_to_the_arrows(photo):
    words = (
        "--image",
        photo / "photo.png",
        "--mask",
        photo / "mask.png",
        "optical_flow.hint_model_name=mini/motion-direction",
    )
    arrows = "20,25>50,25@0.6; 120,110>120,70@0.9; 30,80>60,80@0.4"
    folder = run(photo, *words, "--arrows", arrows, "optical_flow.method=network")
    flow, mask = flow_in(folder), read_mask(photo / "mask.png")
    samples = sample_arrows(read_motion_file(folder / "motion.json").at_size(SIZE), mask)
    y, x = pixel(samples.places, SIZE)
    assert not leaves_arrows(flow[:, y, x].T.numpy().astype(np.float64), samples.velocities).any()
    exact = flow_in(run(photo, *words, "--arrows", arrows))
    assert not torch.equal(exact, flow) and not flow[:, ~mask[0]].any() and (folder / "hint.png").is_file()


def test_arrows_of_an_earlier_run_stay_until_a_picture_comes_without(photo):
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png")
    first = flow_in(run(photo, *words, "--arrows", "20,25>50,25@0.6; 20,90>50,90@0.6"))
    assert torch.equal(flow_in(run(photo, stage="s5")), first)
    folder = run(photo, *words, "--prompt", "a lake")
    assert not torch.equal(flow_in(folder), first) and not (folder / "motion.png").exists()


def test_suggested_arrows_can_be_corrected(photo, capsys):
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png")
    hinted = ("--use_hint", "--prompt", "a lake in upwards, left to right direction", "--suggest_arrows", 8)
    folder = run(photo, *words, *hinted, config="configs/inference_mini_directional.yaml")
    predicted = flow_in(folder)
    assert "arrows in" in capsys.readouterr().out
    suggested = photo / "mine.json"
    suggested.write_text((folder / "motion.json").read_text())
    again = flow_in(run(photo, *words, "--arrows", suggested))
    assert given_again(again, predicted, read_mask(photo / "mask.png")) > 0.8
    with pytest.raises(ValueError, match="--suggest_arrows would write over"):
        run(photo, *words, "--arrows", suggested, "--suggest_arrows", 3)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--arrows", "20,55>50,55"], r"arrows\[0\] lies outside the mask"),
        (["--arrows", "20,25>500,25"], "lies beyond the picture of 160x120"),
        (["--arrows", "20,25>20,25"], "the arrow has no length"),
        (["--arrows", "none.json"], "no motion file at none.json"),
        (["--arrows", "{photo}/anchors.json", "optical_flow.method=arrows"], "needs at least one arrow"),
        (["--arrows", "{photo}/other.json"], "drawn on a picture of 100x100, this one is 160x120"),
        (["optical_flow.method=constant", "--prompt", "a lake"], "constant needs a direction"),
        (["optical_flow.method=magic"], "optical_flow.method"),
        (["--suggest_arrows", "-1"], "optical_flow.suggest"),
    ],
)
def test_mistakes_are_one_line(photo, words, said):
    (photo / "anchors.json").write_text('{"anchors": [[20, 20]]}')
    (photo / "other.json").write_text('{"size": [100, 100], "anchors": [[20, 20]]}')
    words = [word.format(photo=photo) for word in words]
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        run(photo, "--image", photo / "photo.png", "--mask", photo / "mask.png", *words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words, speed, n_frames",
    [
        ((), 2, 90),
        (("video.speed=0.3", "video.n_frames=7"), 0.3, 7),
        (("video.seconds=4",), 2, 120),
    ],
)
def test_speed_and_seconds_of_the_file_count_unless_the_command_line_says(tmp_path, words, speed, n_frames):
    (tmp_path / "m.json").write_text('{"arrows": [{"path": [[1, 1], [9, 1]]}], "speed": 2, "seconds": 3}')
    config = ["--config", "configs/inference_mini.yaml", "--arrows", str(tmp_path / "m.json"), *words]
    options, chosen, said = read_command_line(config, "", inference_t2c.STAGES)
    experiment = Experiment(tmp_path, "e", inference_t2c.ARTIFACTS)
    follow_motion_file(options, drawn_motion(options, chosen, experiment), said)
    assert (options.video.speed, options.video.n_frames) == (speed, n_frames)
    # The arrows that stay in the folder count for a later run of the last stages too.
    experiment.give(motion=drawn_motion(options, chosen, experiment))
    later = ["--config", "configs/inference_mini.yaml", "--stage", "s5-s6", *words]
    options, chosen, said = read_command_line(later, "", inference_t2c.STAGES)
    follow_motion_file(options, drawn_motion(options, chosen, experiment), said)
    assert (options.video.speed, options.video.n_frames) == (speed, n_frames)


def test_an_arrow_that_comes_back_on_itself(photo):
    folder = run(
        photo,
        *("--image", photo / "photo.png", "--mask", photo / "mask.png", "--arrows", "20,60>50,60>20,60"),
        *("--stage", "s5"),
    )
    assert np.isfinite(np.load(folder / "flow.npz")["flow"]).all()


@pytest.mark.parametrize("flag", [("--arrows", "20,60>50,60"), ("--suggest_arrows", "3")])
def test_a_flow_of_ones_own_leaves_nothing_for_arrows(photo, flag):
    with pytest.raises(ValueError, match=f"{flag[0]} have nothing to do"):
        run(photo, "--image", photo / "photo.png", "--flow", photo / "photo.png", *flag)


# ---------------------------------------------------------------- words
TWO = "a river flowing in left to right direction under clouds drifting in right to left direction"


def test_two_directions_move_their_own_regions(photo):
    """Water and sky by the network, each within 20 degrees of its own phrase."""
    words = ("--image", photo / "photo.png", "--mask", photo / "mask.png")
    folder = run(photo, *words, stage="s1")
    mask = read_mask(photo / "mask.png")
    sky = mask.clone()
    sky[:, 55:] = False
    write_classes(folder / "mask_classes.png", {"water": mask & ~sky, "sky": sky})
    vocabulary = "odise.vocab=water, river; sky, clouds"
    more = ("--use_hint", "--prompt", TWO, vocabulary, "optical_flow.hint_model_name=mini/motion-direction")
    for method in ("network", "constant"):
        flow = flow_in(run(photo, *more, f"optical_flow.method={method}", stage="s5"))
        for region, phrase in ((mask & ~sky, "left to right"), (sky, "right to left")):
            dx, dy = flow[:, region[0]].mean(1).tolist()
            off = np.degrees(np.arctan2(-dy, dx)) - sample_angle(phrase, 1)
            assert abs((off + 180) % 360 - 180) < 20, (method, phrase)
    assert (folder / "motion.png").is_file()


def test_s1_sees_no_clause_of_several(tmp_path):
    quick = ("twin_extraction.ddim_steps=2", "twin_generation.feature_injection_threshold=1")
    plain = "a river flowing under clouds drifting"
    pictures = [(run(tmp_path, "--prompt", p, *quick, stage="s1") / "image.png").read_bytes() for p in (TWO, plain)]
    assert pictures[0] == pictures[1]


def test_what_cannot_be_bound_is_told_before_anything_is_drawn(photo):
    with pytest.raises(ValueError, match=r"follows no noun of its own .*nouns found: river"):
        run(photo, "--use_hint", "--prompt", TWO)


# ---------------------------------------------------------------- masks per class
def test_classes_come_back_from_their_picture(tmp_path):
    one, two = torch.zeros(2, 1, 6, 9, dtype=torch.bool)
    one[:, :3], two[:, 2:5] = True, True
    write_classes(tmp_path / "c.png", {"sea": one, "sky": two})
    classes = read_classes(tmp_path / "c.png")
    assert list(classes) == ["sea", "sky"]
    assert torch.equal(classes["sea"], one) and torch.equal(classes["sky"], two & ~one)
    write_mask(tmp_path / "m.png", one)
    with pytest.raises(ValueError, match="names no classes"):
        read_classes(tmp_path / "m.png")
    (tmp_path / "t.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        read_classes(tmp_path / "t.png")


def test_segments_give_their_class_to_pixels_that_s3_left_out():
    segments = torch.zeros(4, 8, dtype=torch.int64)
    segments[:, 4:] = 1
    water, sky = torch.zeros(2, 1, 4, 8, dtype=torch.bool)
    water[0, :2, :4], water[0, 0, 4], sky[0, :2, 4:] = True, True, True
    mask = torch.ones(1, 4, 8, dtype=torch.bool)
    voted = vote_classes(segments, {"water": water, "sky": sky & ~water}, mask)
    assert torch.equal(voted["water"] | voted["sky"], mask)
    assert voted["water"][0, :, :4].all() and voted["sky"][0, 2:, 4:].all() and voted["water"][0, 0, 4]
