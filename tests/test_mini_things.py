"""The second edition of the landscapes: things in the layouts of the first, rivers from the side, drifting skies."""

import numpy as np
import pytest
from text2cinemagraph.data.hint import DIRECTIONS
from text2cinemagraph.mini.canvas import LABELS
from text2cinemagraph.mini.captions import without_directions, wordings
from text2cinemagraph.mini.procedural import caption
from text2cinemagraph.mini.scene import FLUIDS, Scene

SIZE = 96


def find(kind, wanted):
    """The first scene of the second edition that is as wanted."""
    return next(scene for scene in (Scene(seed, kind, "day", SIZE, edition=2) for seed in range(60)) if wanted(scene))


def test_one_seed_gives_one_second_edition_and_another_first():
    once, again, first = (
        Scene(7, "lake", "day", SIZE, edition=2),
        Scene(7, "lake", "day", SIZE, edition=2),
        Scene(7, "lake", "day", SIZE),
    )
    assert once.image.tobytes() == again.image.tobytes() and once.things == again.things
    assert first.things == () and once.horizon_y == first.horizon_y


@pytest.mark.parametrize(
    "name, kind, label",
    [
        ("house", "river", "house"),
        ("boat", "lake", "boat"),
        ("bridge", "river", "bridge"),
        ("cliff", "sea", "rock"),
        ("tree", "waterfall", "tree"),
    ],
)
def test_things_are_labelled_and_stand_still(name, kind, label):
    scene = find(kind, lambda s: name in s.things and LABELS.index(label) in s.labels)
    where = scene.labels == LABELS.index(label)
    assert where.sum() > 15 and not scene.mask[where].any() and (scene.flow[:, where] == 0).all()


def test_a_thing_changes_the_picture_where_it_is_and_nowhere_else():
    scene = find("sea", lambda s: s.things == ("boat",) and not s.drifts)
    plain = Scene(scene.seed, "sea", "day", SIZE)
    boat = scene.labels == LABELS.index("boat")
    rows, columns = np.nonzero(boat)
    reach = SIZE // 4
    box = np.s_[max(rows.min() - reach, 0) : rows.max() + reach, max(columns.min() - reach, 0) : columns.max() + reach]
    change = np.abs(scene.image - plain.image).max(-1)
    assert change[boat].mean() > 0.05
    change[box] = 0
    assert change.max() < 0.01


def test_water_under_a_drifting_sky_moves_both():
    scene = find("lake", lambda s: s.drifts and s.directed and s.sky_direction != s.direction)
    sky, lake = (scene.labels == LABELS.index(name) for name in ("sky", "lake"))
    assert scene.mask[sky].all() and scene.mask[lake].all()
    frames = list(scene.video(12))
    moved = np.abs(frames[6].astype(int) - frames[0]).max(-1) > 2
    still = ~scene.mask
    assert moved[sky].mean() > 0.3 and moved[lake].mean() > 0.3 and moved[still].mean() < 0.1
    told = caption(scene)
    assert f"in {scene.direction} direction" in told and f"clouds drifting in {scene.sky_direction} direction" in told
    assert not any(phrase in without_directions(told) for phrase in DIRECTIONS)


def test_a_river_from_the_side_flows_along_its_banks():
    scene = find("river", lambda s: s.crosses)
    river = scene.labels == LABELS.index("river")
    assert river[:, :8].any() and river[:, -8:].any()  # from edge to edge
    flow = scene.flow[:, river]
    assert (np.abs(flow[0]) > np.abs(flow[1])).mean() > 0.8
    assert len(set(np.sign(flow[0]))) == 1
    assert FLUIDS["river"] == ("river",)


def test_captions_name_what_stands_there():
    scene = {"kind": "lake", "light": "day", "things": ("boat",), "captions": {"natural": "lake, nature"}}
    told = wordings(scene, None, np.random.default_rng(0), 60)
    assert 15 < sum("with a boat" in words for words in told) < 40
