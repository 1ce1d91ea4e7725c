"""Procedural landscapes: one seed gives the same bytes, videos follow the flow and loop, the files can be read."""

import json

import cv2
import numpy as np
import pytest
from text2cinemagraph.data.flow import read_motion
from text2cinemagraph.data.hint import DIRECTIONS, find_direction
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.share import Share
from text2cinemagraph.mini.procedural import KINDS, LABELS, LIGHTS, SPLITS, STYLES, Job, Scene, caption, generate
from text2cinemagraph.mini.scene import FLUIDS, direction_phrase
from text2cinemagraph.mini.styles import stylize


@pytest.fixture(scope="module")
def scenes():
    """One scene of every kind, 96 px, each in another light."""
    return {kind: Scene(40 + i, kind, LIGHTS[i], size=96) for i, kind in enumerate(KINDS)}


def test_same_seed_same_bytes():
    first, second, other = Scene(3, size=64), Scene(3, size=64), Scene(4, size=64)
    for name in ("image", "labels", "mask", "flow"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    assert first.image.tobytes() != other.image.tobytes()
    for style in STYLES:
        assert stylize(first, style).tobytes() == stylize(second, style).tobytes(), style
    assert [caption(first, s) for s in (None, *STYLES)] == [caption(second, s) for s in (None, *STYLES)]


def test_global_random_state_changes_nothing():
    np.random.seed(1)
    first = Scene(5, size=64).image
    np.random.seed(2)
    assert first.tobytes() == Scene(5, size=64).image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_ranges_and_labels(scenes, kind):
    scene = scenes[kind]
    assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.float32
    assert 0 <= scene.image.min() and scene.image.max() <= 1 and scene.image.std() > 0.05
    assert scene.labels.dtype == np.uint8 and scene.labels.max() < len(LABELS)
    assert scene.mask.dtype == bool and 0.03 < scene.mask.mean() < 0.8
    assert {LABELS[i] for i in np.unique(scene.labels[scene.mask])} == set(FLUIDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_flow_is_zero_outside_the_mask(scenes, kind):
    scene = scenes[kind]
    assert scene.flow.shape == (2, 96, 96) and scene.flow.dtype == np.float32
    assert not scene.flow[:, ~scene.mask].any()
    assert np.linalg.norm(scene.flow[:, scene.mask], axis=0).max() > 0.1


def test_size_only_changes_resolution():
    large, small = Scene(11, "river", "day", size=256), Scene(11, "river", "day", size=128)
    assert (large.labels[::2, ::2] == small.labels).mean() > 0.93
    halved = cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(halved - small.image).mean() < 0.05
    assert small.mean_flow == pytest.approx(large.mean_flow / 2, abs=0.08)  # px/frame of half as many px


@pytest.mark.parametrize("kind", ("lake", "clouds"))
def test_undirected_lakes_and_clouds_move_right(kind):
    made = [Scene(seed, kind, "day", size=64) for seed in range(24)]
    assert all(scene.mean_flow[0] > 0 for scene in made if not scene.directed)
    assert any(scene.mean_flow[0] < 0 for scene in made if scene.directed)
    assert 4 < sum(scene.directed for scene in made) < 20


def test_direction_phrase_known_answers():
    assert direction_phrase((1, 0)) == "left to right"
    assert direction_phrase((-1, 0)) == "right to left"
    assert direction_phrase((0, 1)) == "downwards"
    assert direction_phrase((0, -1)) == "upwards"
    assert direction_phrase((1, 0.5)) == "left to right, downwards"
    assert direction_phrase((-0.5, -1)) == "upwards, right to left"


def test_captions_name_the_direction_only_if_directed():
    for seed in range(30):
        scene = Scene(seed, size=32)
        for style in (None, *STYLES):
            text = caption(scene, style)
            assert ":" not in text and "  " not in text and "\n" not in text
            assert find_direction(text)[0] == (scene.direction if scene.directed else None), text
            assert ("in the style of" in text) == (style is not None)
        assert scene.direction in DIRECTIONS


@pytest.mark.parametrize("kind", KINDS)
def test_video_loops_and_keeps_the_rest_still(scenes, kind):
    scene = scenes[kind]
    frames = np.stack(list(scene.video(60))).astype(np.float32)
    assert frames.shape == (60, 96, 96, 3)
    assert np.array_equal(frames[0], np.uint8(scene.image * 255))
    steps = [np.abs(a - b)[scene.mask].mean() for a, b in zip(frames, np.roll(frames, -1, 0))]
    assert 0.6 < steps[-1] / np.mean(steps[:-1]) < 1.5  # the loop's seam is a step like any other
    still = cv2.erode(np.uint8(~scene.mask), np.ones((7, 7))) > 0
    assert np.abs(frames - frames[0])[:, still].max() <= 1


def carried(picture, flow, n):
    """The picture after n frames of the flow, as read from files: every pixel fetches its colour from where it came."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    field = np.ascontiguousarray(flow.transpose(1, 2, 0))
    for _ in range(n):
        step = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x, y = x - step[..., 0], y - step[..., 1]
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), x, y


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_colour_follows_the_flow(kind):
    scene, n = Scene(70, kind, "day", size=128), 10
    frames = scene.video(60)
    first = next(frames).astype(np.float32)
    later = [next(frames) for _ in range(n)][-1].astype(np.float32)
    moved, x, y = carried(first, scene.flow, n)
    inner = cv2.erode(np.uint8(scene.mask), np.ones((5, 5))).astype(np.float32)
    inside = (inner > 0) & (cv2.remap(inner, x, y, cv2.INTER_LINEAR) > 0.99)
    error = np.square(moved - later)[inside].mean()
    assert error < 0.35 * np.square(first - later)[inside].mean(), "carrying frame 0 must beat repeating it by far"


@pytest.mark.parametrize("style", STYLES)
def test_styles_keep_the_layout(scenes, style):
    scene = scenes["river"]
    painted = stylize(scene, style)
    assert painted.shape == scene.image.shape and painted.dtype == np.float32
    assert 0 <= painted.min() and painted.max() <= 1
    assert np.abs(painted - scene.image).mean() > 0.02
    river, land = scene.mask, scene.labels == LABELS.index("grass")
    assert np.abs(painted[river].mean(0) - painted[land].mean(0)).max() > 0.03  # the river is still seen


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="river, waterfall"):
        Scene(0, "volcano")
    with pytest.raises(ValueError, match="32 px"):
        Scene(0, size=8)
    with pytest.raises(ValueError, match="starry, oil"):
        stylize(Scene(0, size=32), "cubism")


def test_no_two_scenes_share_a_seed(tmp_path):
    jobs = [Job(i, tmp_path / "x", seed=seed, split=split) for i in range(500) for seed in (0, 1) for split in SPLITS]
    assert len({job.scene_seed for job in jobs}) == len(jobs)


def test_files_of_the_eulerian_layout(tmp_path):
    jobs = [Job(i, tmp_path / "train", size=64, video=True, n_styles=2) for i in range(2)]
    assert generate(jobs) == 2
    items = [json.loads(line) for line in (tmp_path / "train_metadata.jsonl").read_text().splitlines()]
    assert [item["id"] for item in items] == ["00000", "00001"]
    for item in items:
        name, scene = item["id"], Scene(item["seed"], size=64)
        assert item["kind"] in KINDS and item["light"] in LIGHTS
        assert set(item["captions"]) == {"natural", *item["styles"]}
        picture = read_image(tmp_path / "train" / f"{name}_input.jpg").permute(1, 2, 0).numpy()
        assert np.abs(picture - scene.image).mean() < 0.03
        assert np.array_equal(read_motion(tmp_path / "train" / f"{name}_motion.pth").numpy(), scene.flow)
        assert np.array_equal(read_mask(tmp_path / "train_masks" / f"{name}_mask.png")[0].numpy(), scene.mask)
        labels = cv2.imread(str(tmp_path / "train_labels" / f"{name}_label.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels, scene.labels)
        for style in item["styles"]:
            assert read_image(tmp_path / "train_styled" / f"{name}_{style}.jpg").shape == (3, 64, 64)
        assert sum(1 for _ in read_video(tmp_path / "train" / f"{name}_gt.mp4")) == 60
        assert len(list((tmp_path / "train" / f"{name}_gt" / "images").glob("*.png"))) == 60
    lines = (tmp_path / "train_captions.txt").read_text().splitlines()
    assert [line.split(":") for line in lines] == [[item["id"], item["captions"]["natural"]] for item in items]


def test_an_interrupted_run_goes_on(tmp_path):
    jobs = [Job(i, tmp_path / "train", size=32, n_styles=1) for i in range(4)]
    assert generate(jobs) == 4 and generate(jobs) == 0
    metadata = tmp_path / "train_metadata.jsonl"
    whole = metadata.read_text()
    metadata.write_text(whole[:-40])  # the last line is torn
    (tmp_path / "train_masks" / "00001_mask.png").unlink()
    assert generate(jobs) == 2
    assert metadata.read_text() == whole
    other = [Job(i, tmp_path / "train", size=32, seed=1, n_styles=1) for i in range(4)]
    with pytest.raises(ValueError, match="another --seed"):  # two sets must not share a list
        generate(other)
    assert generate(jobs[:2]) == 0 and metadata.read_text() == whole  # fewer asked for: the others stay


def test_two_machines_fill_one_folder(tmp_path):
    """By rank and by lease: the lists are those of one process."""
    alone, ranks, lease = (
        [Job(i, tmp_path / name / "train", size=32, n_styles=1) for i in range(5)] for name in ("one", "two", "three")
    )
    generate(alone)
    assert [generate(ranks, share=Share(rank, 2)) for rank in range(2)] == [3, 2]
    with Leases(tmp_path / "three" / ".leases") as leases:
        assert generate(lease, workers=2, leases=leases) == 5
    for name in ("train_metadata.jsonl", "train_captions.txt", "train/00003_motion.pth"):
        whole = (tmp_path / "one" / name).read_bytes()
        assert whole == (tmp_path / "two" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "three").iterdir()) and not any(n[0] == "." for n in names)
