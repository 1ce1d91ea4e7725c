"""project.json: read back as written, refused in one line where it is wrong, and rendered as its command line says."""

import base64
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.project import (
    FILE,
    LARGEST_FILE,
    Files,
    Project,
    argv,
    project_of,
    read_project,
    self_contained,
    settable,
    unpacked,
    write_project,
)
from text2cinemagraph.options.cli import LONGEST_LINE
from text2cinemagraph.pipeline.command_line import read_command_line

ROOT = Path(__file__).resolve().parents[1]
ARROWS = {"size": [64, 48], "arrows": [{"path": [[10, 30], [50, 30]], "speed": 0.8}], "anchors": [[5, 40]]}
QUICK = {"video.n_frames": 4, "video.formats": ["mp4"]}


@pytest.fixture(autouse=True)
def at_the_root():
    """Configurations name weights relative to the repository, as users run it."""
    os.chdir(ROOT)


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def url(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture
def photo():
    """Bytes of a picture of 64x48 px, and of a mask: its lower half."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    picture = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC))
    mask = np.zeros((48, 64), np.uint8)
    mask[20:] = 255
    return png(picture), png(mask)


@pytest.fixture
def lake(tmp_path, photo):
    """The folder of a project with picture, mask and arrows."""
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "picture.png").write_bytes(photo[0])
    (folder / "mask.png").write_bytes(photo[1])
    project = Project(
        picture="picture.png", mask="mask.png", motion=project_of({"motion": ARROWS}).motion, options=QUICK
    )
    write_project(folder / FILE, project)
    return folder


# ---------------------------------------------------------------- reading and writing
def test_it_comes_back_as_it_was_written(lake):
    project, path = read_project(lake)
    assert path == lake / FILE and read_project(path)[0] == project
    assert project_of(project.content()) == project
    assert project.content()["strokes"] is None and project.motion["arrows"][0]["speed"] == 0.8


def test_what_is_left_out_has_its_default():
    assert project_of({}) == Project()
    assert project_of({"motion": {"arrows": []}, "strokes": None, "picture": ""}) == Project()
    points = {"may_move": [[1, 2]], "must_not_move": [[3, 4]]}  # a mask without an arrow
    assert project_of({"motion": points}).motion.items() >= points.items()


WRONG = [
    ([], "expected a project"),
    ({"format": "psd"}, "format is psd"),
    ({"version": 2}, "version is 2"),
    ({"promt": "a"}, "'promt' is unknown"),
    ({"prompt": 3}, "prompt=3: expected text"),
    ({"prompt": "x" * 5000}, "at most 2000 characters"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"seed": 1.5}, "seed=1.5: expected a whole number"),
    ({"seed": True}, "seed=True"),
    ({"seed": 2**40}, "expected -1 to"),
    ({"use_hint": "yes"}, "expected true or false"),
    ({"config": "../secret.yaml"}, "expected a YAML"),
    ({"config": "/etc/passwd"}, "expected a YAML"),
    ({"config": 5}, "expected a YAML"),
    ({"style": "oil; rm"}, "expected the name of a look"),
    ({"picture": "../../etc/passwd"}, "beside project.json"),
    ({"picture": "/etc/passwd"}, "beside project.json"),
    ({"picture": "a/b.png"}, "beside project.json"),
    ({"picture": "..\\b.png"}, "beside project.json"),
    ({"mask": ".hidden"}, "beside project.json"),
    ({"mask": ["mask.png"]}, "beside project.json"),
    ({"strokes": "data:text/html;base64,PGI+"}, "expected a data URL of a picture"),
    ({"picture": "data:image/png,plain"}, "expected a data URL of a picture"),
    ({"motion": []}, "motion: expected an object"),
    ({"motion": {"arrows": [{"path": [[1, 1]]}]}}, "needs at least 2 points"),
    ({"motion": {"arrows": [{"path": [[1, 1], [float("nan"), 2]]}]}}, "finite px"),
    ({"motion": {"arows": []}}, "'arows' is unknown"),
    ({"motion": {"size": [0, 5]}}, "size: expected"),
    ({"motion": ARROWS | {"mask": "../mask.png"}}, "motion.mask: expected polygons"),
    ({"options": []}, "options: expected an object"),
    ({"options": {"video.sped": 1}}, "video.sped is no option"),
    ({"options": {"video.speed": "fast"}}, "video.speed=fast: expected a number"),
    ({"options": {"video.speed": float("inf")}}, "video.speed"),
    ({"options": {"video.n_frames": 1}}, "video.n_frames=1"),
    ({"options": {"video.formats": ["exe"]}}, "video.formats"),
    ({"options": {"video.formats": ["mp4"] * 1000}}, "at most 64 entries"),
    ({"options": {"odise.vocab": "x" * 5000}}, "at most 1000 characters"),
    ({"options": {"video.fps": None}}, "video.fps=None"),
]


@pytest.mark.parametrize("content, said", WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_named_in_one_line(tmp_path, content, said):
    file = tmp_path / "p.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError) as caught:
        read_project(file)
    line = str(caught.value).replace(str(file), "p.json")
    assert said in line and "\n" not in line and len(line) < LONGEST_LINE


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no project at"):
        read_project(tmp_path / "nowhere.json")
    for data in (b"", b"\xff\xfe\0", b"{", b"[" * 100_000):
        (tmp_path / "p.json").write_bytes(data)
        with pytest.raises(ValueError, match="this is no JSON"):
            read_project(tmp_path / "p.json")
    with open(tmp_path / "p.json", "wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(ValueError, match="expected a project of at most 192 MB"):
        read_project(tmp_path / "p.json")


def test_no_option_that_names_a_place_can_be_set():
    for name in ("twin_extraction.ckpt", "twin_extraction.exp_path_root", "odise.checkpoint", "inputs.image"):
        with pytest.raises(ValueError, match="no option that a project may set"):
            project_of({"options": {name: "/etc"}})
    free = [name for name, (entry, kind) in settable().items() if kind.scalar is str and not entry.metadata["choices"]]
    assert sorted(free) == ["odise.vocab", "twin_generation.negative_prompt", "twin_generation.prompt"]
    assert "video.speed" in settable() and "video.preview" not in settable()


# ---------------------------------------------------------------- pictures
def test_a_self_contained_project_unpacks_to_the_same_pixels(lake, tmp_path):
    project, _ = read_project(lake)
    held = self_contained(project, lake)
    assert held.picture.startswith("data:image/png;base64,")
    files = unpacked(project_of(json.loads(json.dumps(held.content()))), tmp_path, tmp_path / "into")
    for key in ("picture", "mask"):
        there, before = (np.asarray(Image.open(p)) for p in (getattr(files, key), lake / f"{key}.png"))
        assert np.array_equal(there, before)
    assert files.strokes is None and json.loads(files.motion.read_text())["arrows"] == project.motion["arrows"]


@pytest.mark.parametrize(
    "value, said",
    [
        ("data:image/png;base64,????", "the data URL is damaged"),
        (url(b"no picture at all"), "the project's picture is not a readable picture"),
        (url(b"%!PS-Adobe", "image/png"), "not a readable picture"),
        ("gone.png", "no picture at"),
    ],
)
def test_a_picture_that_is_none_is_told(tmp_path, value, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        unpacked(Project(picture=value), tmp_path, tmp_path / "into")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.png"))


def test_a_jpeg_in_a_data_url_becomes_a_png_and_a_mask_black_and_white(tmp_path, photo):
    data = io.BytesIO()
    Image.open(io.BytesIO(photo[0])).save(data, "JPEG")
    project = Project(picture=url(data.getvalue(), "image/jpeg"), mask=url(photo[0]))
    with pytest.raises(ValueError, match="the project's mask is a photograph"):
        unpacked(project, tmp_path, tmp_path)
    files = unpacked(replace(project, mask=url(photo[1])), tmp_path, tmp_path)
    assert Image.open(files.picture).format == "PNG" and Image.open(files.mask).mode == "L"


# ---------------------------------------------------------------- the command line
def test_the_command_line_says_all_of_it():
    project = project_of(
        {
            "prompt": "-a river, 100 % 'calm' ${x}",
            "seed": 7,
            "style": "oil",
            "use_hint": True,
            "options": {
                "video.speed": -1.5,
                "video.formats": ["mp4", "gif"],
                "video.shore": False,
                "odise.vocab": "sea",
            },
        }
    )
    files = Files(picture=Path("p.png"), mask=Path("m.png"), strokes=Path("s.png"), motion=Path("m.json"))
    words = argv(project, files, root="somewhere", name="e", stages="s5-s6", extra=["video.fps=25"])
    assert "--mask_strokes" not in words  # the mask was made of them
    options, chosen, _ = read_command_line(words, "", inference_t2c.STAGES)
    o = options.twin_extraction
    assert (o.prompt, o.seed, o.experiment_name, o.exp_path_root) == (project.prompt, 7, "e", "somewhere")
    assert chosen == ("s5", "s6") and options.painting.style == "oil" and options.optical_flow.use_hint
    i = options.inputs
    assert (i.image, i.mask, i.mask_strokes, i.arrows) == ("p.png", "m.png", "", "m.json")
    v = options.video
    assert (v.speed, v.formats, v.shore, v.fps, options.odise.vocab) == (-1.5, ["mp4", "gif"], False, 25, "sea")
    words = argv(project, replace(files, mask=None), root="r", name="e")
    assert words[words.index("--mask_strokes") + 1] == "s.png"


def test_what_is_said_besides_the_project_wins(lake, tmp_path):
    root = f"twin_extraction.exp_path_root={tmp_path}"

    def read(*words):
        return read_command_line(["--project", str(lake), root, *words], "", inference_t2c.STAGES)

    options, chosen, said = read()
    assert options.twin_extraction.experiment_name == "lake" and chosen[0] == "s1" and "video.n_frames" in said
    assert options.inputs.arrows == str(tmp_path / "lake" / "project" / "motion.json")
    options, chosen, _ = read("--stage", "s6", "--prompt", "sea", "video.n_frames=9", "--name", "other", "--use_hint")
    assert (options.twin_extraction.prompt, options.video.n_frames, chosen) == ("sea", 9, ("s6",))
    assert options.twin_extraction.experiment_name == "other" and options.optical_flow.use_hint
    options, _, _ = read("--config", "configs/inference_mini.yaml", "twin_extraction.prompt=hills")
    assert options.twin_extraction.ddim_steps == 30 and options.twin_extraction.prompt == "hills"


def test_the_project_renders_as_its_command_line_does(lake, tmp_path, photo):
    """The same bytes from the folder, from one self-contained file with an odd name, and from flags written by hand."""
    project, _ = read_project(lake)
    alone = tmp_path / "my lake (2).json"
    write_project(alone, self_contained(project, lake))
    root = f"twin_extraction.exp_path_root={tmp_path / 'out'}"
    inference_t2c.main(["--project", str(lake), root])
    inference_t2c.main(["--project", str(alone), root])
    by_hand = ["--image", lake / "picture.png", "--mask", lake / "mask.png", "--arrows", "10,30>50,30@0.8"]
    (tmp_path / "m.json").write_text(json.dumps(ARROWS))
    by_hand[-1] = tmp_path / "m.json"
    quick = ["video.n_frames=4", "video.formats=[mp4]", "twin_extraction.seed=23", "optical_flow.use_hint=false"]
    config = ["--config", "configs/inference_mini_directional.yaml", "--name", "hand"]
    inference_t2c.main([*config, *map(str, by_hand), *quick, root])
    videos = [(tmp_path / "out" / name / "video.mp4").read_bytes() for name in ("lake", "my lake -2", "hand")]
    assert len(videos[0]) > 500 and videos[0] == videos[1] == videos[2]
