"""Motion drawn by hand: what is read, what is scaled, and what is refused in words."""

import json
import math

import numpy as np
import pytest
import torch
from text2cinemagraph.data.media import write_mask
from text2cinemagraph.data.motion_file import Arrow, DrawnMotion, read_motion_file, write_motion_file


def written(folder, content, name="motion.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# ---------------------------------------------------------------- motion.json
def test_a_motion_file_comes_back_as_it_was_written(tmp_path):
    polygons = (((0.0, 0.0), (40.0, 0.0), (40.0, 30.0)),)
    motion = DrawnMotion(
        (Arrow(((1.0, 2.0), (3.5, 4.0), (10.0, 4.0)), 1.25), Arrow(((5.0, 5.0), (6.0, 5.0)))),
        ((7.0, 8.0),),
        (60, 80),
        polygons,
        2.0,
        4.0,
    )
    write_motion_file(tmp_path / "a.json", motion)
    assert read_motion_file(tmp_path / "a.json") == motion
    entries = json.loads((tmp_path / "a.json").read_text())
    assert entries["version"] == 1 and entries["size"] == [80, 60]  # width, height: as a picture's size is written
    assert len((tmp_path / "a.json").read_text().splitlines()) == 12  # an arrow is a line of its own


def test_the_size_of_the_picture_is_optional_and_another_size_is_scaled(tmp_path):
    entry = {"size": [100, 50], "arrows": [{"path": [[10, 10], [30, 10]], "speed": 2}], "anchors": [[50, 25]]}
    large = read_motion_file(written(tmp_path, entry)).at_size((100, 200))
    assert large.arrows[0].path == ((20, 20), (60, 20)) and large.arrows[0].speed == 4 and large.anchors == ((100, 50),)
    same = read_motion_file(written(tmp_path, {"arrows": [{"path": [[10, 10], [30, 10]]}]})).at_size((50, 100))
    assert same.arrows[0].path == ((10, 10), (30, 10))
    with pytest.raises(ValueError, match="drawn on a picture of 100x50, this one is 100x100"):
        read_motion_file(written(tmp_path, entry)).at_size((100, 100))


def test_speed_comes_from_the_length_unless_it_is_said():
    assert Arrow(((0, 0), (30, 40))).speed_at((512, 512)) == pytest.approx(50 / 60)
    assert Arrow(((0, 0), (300, 400))).speed_at((512, 600)) == 2.0  # a long arrow is a path: a 256th of the short side
    assert Arrow(((0, 0), (300, 400)), 0.3).speed_at((512, 512)) == 0.3


def test_five_hundred_points_and_a_resting_hand_are_read(tmp_path):
    circle = [[50 + 40 * math.cos(t), 50 + 40 * math.sin(t)] for t in np.linspace(0, 3, 500)]
    motion = read_motion_file(written(tmp_path, {"arrows": [{"path": circle}, {"path": [[1, 1], [1, 1], [9, 1]]}]}))
    assert len(motion.arrows[0].path) == 500 and motion.arrows[0].length() == pytest.approx(120, rel=1e-4)
    assert motion.arrows[1].path == ((1, 1), (9, 1))


@pytest.mark.parametrize(
    "content, said",
    [
        (
            {"arrows": [{"path": [[1, 1], [9, 1]]}, {"path": [[5, 5]]}]},
            r"arrows\[1\]: an arrow needs at least 2 points",
        ),
        ({"arrows": [{"path": [[5, 5], [5, 5]]}]}, r"arrows\[0\]: the arrow has no length"),
        ('{"arrows": [{"path": [[1, NaN], [2, 2]]}]}', r"arrows\[0\]: expected points \[x, y\] of finite px"),
        ('{"arrows": [{"path": [[1, 1e400], [2, 2]]}]}', r"arrows\[0\]: expected points \[x, y\] of finite px"),
        ({"arrows": [{"path": [[1, 1], [9, "a"]]}]}, r"arrows\[0\]: expected points"),
        ({"arrows": [{"path": [[1, 1], [True, 1]]}]}, r"arrows\[0\]: expected points"),
        ({"arrows": [{"path": "left"}]}, r"arrows\[0\]: expected a list of points"),
        ({"arrows": [[1, 2]]}, r"arrows\[0\]: expected {"),
        ({"arrows": {"path": []}}, "arrows: expected a list, found dict"),
        ({"arrows": [{"path": [[1, 1], [9, 1]], "speed": -2}]}, r"arrows\[0\]: speed: expected a number from 0"),
        ({"arrows": [{"path": [[1, 1], [9, 1]], "speed": 0}]}, r"arrows\[0\]: speed is 0"),
        ({"arrows": [{"path": [[1, 1], [9, 1]], "sped": 1}]}, r"arrows\[0\]: the key 'sped' is unknown"),
        ({"arrows": [], "anchors": []}, "holds no arrows, no anchors and no mask"),
        ({"arows": []}, "the key 'arows' is unknown; expected version, size, arrows"),
        ({"version": 2, "arrows": []}, "version is 2; this program reads version 1"),
        ({"size": [10], "arrows": [{"path": [[1, 1], [9, 1]]}]}, r"size: expected \[width, height\]"),
        ({"anchors": [[1, 2, 3]]}, r"anchors\[0\]: expected points"),
        ({"anchors": [[1, 2]], "mask": "../secret.png"}, "mask: expected a picture beside the motion file"),
        ({"anchors": [[1, 2]], "mask": "/etc/secret.png"}, "mask: expected a picture beside the motion file"),
        ({"anchors": [[1, 2]], "mask": [[[1, 2], [3, 4]]]}, r"mask\[0\]: a polygon needs at least 3 points"),
        ({"may_move": [[1, 2]]}, "it has points of may_move but none of must_not_move; mark at least one of each"),
        ({"must_not_move": [[1, 2]], "arrows": []}, "points of must_not_move but none of may_move"),
        ({"may_move": [[1, 2]], "must_not_move": [[3]]}, r"must_not_move\[0\]: expected points \[x, y\]"),
        ({"may_move": [[1, 2]], "must_not_move": [[3, 4]], "mask": "m.png"}, "mask and may_move both say what may"),
        ({"anchors": [[1, 2]], "speed": 0}, "speed and seconds: expected a number that is not 0"),
        ({"anchors": [[1, 2]], "seconds": "4"}, "seconds: expected a number"),
        ("[1, 2]", "expected an object with the key arrows, found a list"),
        ("{", "is no JSON"),
        ("[" * 100000, "is no JSON"),
    ],
)
def test_mistakes_are_told_by_the_entry_in_one_line(tmp_path, content, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_motion_file(written(tmp_path, content))
    text = str(caught.value).replace(str(tmp_path), "")
    assert len(text) < 200 and "\n" not in text and "motion.json" in text


def test_points_beyond_the_picture_are_refused_by_name(tmp_path):
    path = written(tmp_path, {"arrows": [{"path": [[1, 1], [9, 1]]}, {"path": [[5, 5], [700, 5]]}]})
    with pytest.raises(ValueError, match=r"arrows\[1\]: the point \(700, 5\) lies beyond the picture of 512x256"):
        read_motion_file(path).at_size((256, 512))
    with pytest.raises(FileNotFoundError, match="no motion file at"):
        read_motion_file(tmp_path / "none.json")


def test_the_mask_is_a_picture_beside_the_file_or_polygons(tmp_path):
    left = torch.zeros(1, 20, 30, dtype=torch.bool)
    left[:, :, :15] = True
    write_mask(tmp_path / "left.png", left)
    named = read_motion_file(written(tmp_path, {"anchors": [[1, 2]], "mask": "left.png"}))
    assert torch.equal(named.mask_at((20, 30)), left)
    drawn = read_motion_file(
        written(tmp_path, {"size": [30, 20], "mask": [[[0, 0], [15, 0], [15, 20], [0, 20]], [[2, 2], [9, 2], [9, 9]]]})
    )
    assert (
        drawn.mask_at((20, 30)) ^ left
    ).sum() <= 20  # a rim of a pixel; the second polygon lies in the first: no hole
    assert torch.equal(drawn.mask_at((40, 60))[:, 10, :], drawn.mask_at((40, 60))[:, 30, :])
    assert drawn.mask_at((40, 60)).float().mean() == pytest.approx(0.5, abs=0.03)


def test_points_stand_in_the_place_of_a_mask(tmp_path):
    entry = {"size": [100, 50], "may_move": [[10, 10], [90, 40]], "must_not_move": [[100, 0]]}
    motion = read_motion_file(written(tmp_path, entry))
    moves, still = motion.marks_at((500, 1000))  # drawn on a tenth of the size
    assert moves.shape == still.shape == (1, 500, 1000) and not (moves & still).any()
    assert moves[0, 100, 100] and moves[0, 400, 900] and still[0, 0, 999]
    radius = np.sqrt(500 * 1000) / 100
    assert moves.sum() == pytest.approx(2 * np.pi * radius**2, rel=0.1)
    write_motion_file(tmp_path / "again.json", motion)
    assert read_motion_file(tmp_path / "again.json") == motion
    assert motion.mask_at((50, 100)) is None and DrawnMotion(anchors=((1, 1),)).marks_at((9, 9)) is None
    with pytest.raises(ValueError, match=r"must_not_move\[0\]: the point \(100, 0\) lies beyond the picture of 90x50"):
        read_motion_file(written(tmp_path, entry | {"size": [90, 50]})).at_size((50, 90))


# ---------------------------------------------------------------- the short form
def test_arrows_are_read_from_a_short_text():
    motion = read_motion_file("100,200>180,210; 300,50>300,120>320,140@1.5")
    assert motion.arrows == (
        Arrow(((100, 200), (180, 210))),
        Arrow(((300, 50), (300, 120), (320, 140)), 1.5),
    )
    assert read_motion_file(" 1 , 2 > 3,4 ;").arrows == (Arrow(((1, 2), (3, 4))),)


@pytest.mark.parametrize(
    "text, said",
    [
        ("100,200>180", "cannot read|expected points"),
        ("1,2>3,4@", None),
        ("1,2>1,2", "no length"),
        (";>;", "cannot read"),
        ("1,2>3,4@0", "speed is 0"),
        ("1,,2>3,4", 'cannot read "1,,2>3,4"; write x,y>x,y'),
    ],
)
def test_a_short_text_that_cannot_be_read_is_told(text, said):
    if said is None:
        assert read_motion_file(text).arrows == (Arrow(((1, 2), (3, 4))),)
    else:
        with pytest.raises(ValueError, match=said):
            read_motion_file(text)


# ---------------------------------------------------------------- labelme, as users of 3D-Cinemagraphy have it
def labelme(shapes, **more):
    return {"version": "5.0.2", "flags": {}, "shapes": shapes, "imageData": "iVBORw0KGgo=", **more}


def shape(kind, points, label="motion"):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}


def test_labelme_polygons_are_the_mask_and_lines_the_arrows(tmp_path):
    content = labelme(
        [
            shape("polygon", [[10.5, 20], [90, 20], [90, 40], [10.5, 40]]),
            shape("line", [[20, 30], [50.25, 30]], "hint0"),
            shape("linestrip", [[60, 30], [70, 30], [80, 35]], "hint1"),
            shape("point", [[15, 25]], "stand"),
            shape("rectangle", [[0, 50], [10, 60]]),
            shape("circle", [[50, 80], [50, 90]]),
            shape("mask", [[1, 1], [2, 2]]),
        ],
        imagePath="21.png",
        imageHeight=100,
        imageWidth=100,
    )
    motion = read_motion_file(written(tmp_path, content, "image.json"))
    assert [arrow.path[0] for arrow in motion.arrows] == [(20, 30), (60, 30)] and motion.anchors == ((15, 25),)
    assert motion.size == (100, 100) and "shapes[6] (mask of 2 points) is left out" in motion.notes
    area = motion.mask_at((100, 100)).sum()
    assert area == pytest.approx(79.5 * 20 + 100 + math.pi * 100, rel=0.09)  # cv2 fills the rim too
    without_size = read_motion_file(written(tmp_path, labelme([shape("line", [[1, 1], [5, 5]])]), "b.json"))
    assert without_size.size is None and without_size.mask is None


def test_labelme_mistakes_are_told(tmp_path):
    for shapes, said in (
        ([shape("line", [[1, 1]])], r"shapes\[0\]: an arrow needs at least 2 points"),
        ([shape("line", "x")], r"shapes\[0\]: expected a list of points"),
        ([3], r"shapes\[0\]: expected an object"),
        ({}, "shapes: expected a list"),
        ([], "holds no arrows"),
    ):
        with pytest.raises(ValueError, match=said):
            read_motion_file(written(tmp_path, labelme(shapes)))
