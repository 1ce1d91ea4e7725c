"""The looks: same bytes from the same seed, the same look at every size, layout kept, nothing over a mask's border."""

import cv2
import numpy as np
import pytest
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.mini.styles import STYLES, stylize
from text2cinemagraph.painters.easel import Easel
from text2cinemagraph.painters.looks import LOOKS, check_look, paint
from text2cinemagraph.painters.strokes import Coat, Strokes, bristle_brush, lay, round_brush


@pytest.fixture(scope="module")
def picture():
    """A drawn landscape, 96x128 px."""
    return np.ascontiguousarray(Scene(11, "river", "day", size=128).image[16:112])


def disc(size):
    """A bright disc on a dark ground, with a soft shade over both; the same at every size."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    inside = np.clip((0.3 - np.hypot(x - 0.5, y - 0.5)) * size + 0.5, 0, 1)[..., None]
    ground, bright = np.array((0.15, 0.3, 0.5)), np.array((0.9, 0.7, 0.3))
    return np.float32((ground + (bright - ground) * inside) * (0.8 + 0.2 * x[..., None]))


@pytest.mark.parametrize("look", LOOKS)
def test_layout_range_and_bytes(picture, look):
    painted = paint(picture, look, seed=3)
    assert painted.shape == picture.shape and painted.dtype == np.float32
    assert 0 <= painted.min() and painted.max() <= 1
    assert painted.tobytes() == paint(picture, look, seed=3).tobytes()
    assert np.abs(painted - picture).mean() > 0.02
    gray, was = (cv2.GaussianBlur(p.mean(-1), (0, 0), 3) for p in (painted, picture))
    assert np.corrcoef(gray.ravel(), was.ravel())[0, 1] > 0.8  # light stays light, and where it was


@pytest.mark.parametrize("look", LOOKS)
def test_the_same_look_at_two_sizes(look):
    small, large = (paint(disc(size), look, seed=1) for size in (256, 512))
    halved = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
    error = np.square(cv2.GaussianBlur(halved - small, (0, 0), 1)).mean()
    other = np.square(cv2.GaussianBlur(paint(disc(256), look, seed=2) - small, (0, 0), 1)).mean()
    assert error < 0.5 * other, "strokes must lie where they lay at the other size, not where another seed puts them"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("level", [(0, 0), (0.02, 0.05)])
def test_pictures_with_nothing_to_see_are_painted_too(look, level):
    """Black, and a dim night: some coats then have no stroke to lay."""
    shade = np.linspace(*level, 96, dtype=np.float32)[None, :, None]
    painted = paint(np.broadcast_to(shade, (72, 96, 3)).copy(), look, seed=1)
    assert painted.shape == (72, 96, 3) and np.isfinite(painted).all()


def test_strength_leads_from_the_picture_to_the_paint(picture):
    assert np.array_equal(paint(picture, "oil", strength=0), picture)
    away = [np.abs(paint(picture, "oil", strength=s) - picture).mean() for s in (0.2, 0.5, 1)]
    assert away[0] < away[1] < away[2]


@pytest.mark.parametrize("look", ("oil", "pastel", "pointillism"))
def test_no_stroke_crosses_the_border_of_the_mask(look):
    """Left of the border all is red, right of it blue, and no edge in the picture says where the border is."""
    size = 1024  # nothing is enlarged, so that no resampling mixes the sides
    picture = np.zeros((size, size, 3), np.float32) + 0.5
    mask = np.zeros((size, size), bool)
    mask[:, size // 2 :] = True
    easel = Easel(picture, 0, mask)
    canvas, relief = picture.copy(), np.zeros((size, size), np.float32)
    strokes = easel.strokes(easel.study, Coat(12, 4, 4), lines=easel.lines(2.0))
    right = strokes.center[:, 0] >= size // 2
    strokes.color = np.where(right[:, None], (0, 0, 1.0), (1.0, 0, 0))
    lay(canvas, strokes, bristle_brush(), relief=relief, side=np.uint8(mask))
    assert canvas[:, : size // 2, 2].max() <= 0.5 and canvas[:, size // 2 :, 0].max() <= 0.5
    inside = paint(disc(256), look, mask=np.zeros((256, 256), bool))
    assert np.array_equal(inside, paint(disc(256), look))  # a mask without a border changes nothing


def test_strokes_follow_a_known_flow():
    flat = np.full((256, 256, 3), 0.5, np.float32)
    for angle in (0.3, 1.4):
        flow = np.zeros((2, 256, 256), np.float32) + np.float32([np.cos(angle), np.sin(angle)])[:, None, None]
        lines = Easel(flat, 0, flow=flow).lines(2.0)
        assert np.allclose(np.arctan2(lines[..., 1], lines[..., 0]), 2 * angle, atol=0.15)


def test_strokes_leave_the_ripples_for_a_known_flow():
    """Ripples run from left to right, the water falls: strokes inside the mask go down, those outside stay."""
    y = np.mgrid[:256, :256][0]
    picture = np.repeat(np.float32(0.5 + 0.08 * np.sin(y / 3))[..., None], 3, 2)
    mask = np.zeros((256, 256), bool)
    mask[:, 128:] = True
    flow = np.float32([np.zeros((256, 256)), np.where(mask, 1.5, 0)])
    deviation = {}
    for name, known in (("without", None), ("with", flow)):
        easel = Easel(picture, 0, mask, known)
        strokes = easel.strokes(easel.study, Coat(9, 3, 3, tolerance=0.1), lines=easel.lines(2.0))
        x = strokes.center[:, 0]
        for side, there in (("water", x > 140), ("shore", x < 116)):
            deviation[name, side] = np.degrees(np.arccos(np.abs(np.sin(strokes.angle[there])))).mean()
    assert deviation["without", "water"] > 80 and deviation["with", "water"] < 10
    assert deviation["with", "shore"] == pytest.approx(deviation["without", "shore"], abs=1)
    slow = Easel(picture, 0, mask, np.float32([0 * y, np.where(mask, np.where(y < 128, 2, 0.1), 0)])).lines(2.0)
    assert slow[64, 192, 0] < -0.9 and slow[192, 192, 0] > 0.9  # where it hardly moves, the ripples decide


@pytest.mark.parametrize("look", ("oil", "starry", "pastel"))
def test_paint_shows_where_the_water_goes(look):
    """The direction in which a painted picture changes least, inside what moves: nearer to the flow than without."""
    rng = np.random.default_rng(0)
    picture = np.repeat(cv2.GaussianBlur(rng.random((300, 300), np.float32), (0, 0), 9)[..., None], 3, 2)
    picture = np.float32(np.clip(0.5 + 4 * (picture - 0.5), 0, 1))
    mask = np.ones((300, 300), bool)
    flow = np.zeros((2, 300, 300), np.float32) + np.float32([0.6, 0.8])[:, None, None]
    away = []
    for known in (None, flow):
        gray = paint(picture, look, mask=mask, flow=known).mean(-1)
        gx, gy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
        along = np.arctan2(-2 * gx * gy, gy * gy - gx * gx)  # twice the angle
        weight = np.hypot(gx, gy)
        turned = np.cos(along - 2 * np.arctan2(0.8, 0.6))
        away.append((weight * turned).sum() / weight.sum())
    assert away[1] > away[0] + 0.3 and away[1] > 0.3, away


def test_lines_run_along_edges():
    y, x = np.mgrid[:256, :256]
    edge = np.repeat(np.float32(y > 0.5 * x + 60)[..., None], 3, 2)
    lines = Easel(edge, 0).lines(2.0)
    angle = np.arctan2(lines[..., 1], lines[..., 0])[180, 240] / 2
    assert angle == pytest.approx(np.arctan(0.5), abs=0.1)


def test_contours_are_drawn_of_what_stands_out():
    """An edge alone is a line; the same step among its like (ripples) is hardly one. Pieces know how long they are."""
    y, x = np.mgrid[:256, :256]
    alone, among = (np.repeat(np.float32(0.35 + 0.3 * step)[..., None], 3, 2) for step in (y > 128, y // 4 % 2))
    edge, ripples = (Easel(p, 0).contours().max() for p in (alone, among))
    assert edge > 0.012 and edge > 1.25 * ripples  # of a step alone, less is lost than of many
    easel = Easel(np.zeros((512, 512, 3), np.float32), 0)  # two px a unit
    marked = np.zeros((512, 512), bool)
    marked[100, 100:180] = marked[300:310, 50] = True
    lengths = easel.lengths(marked)
    assert lengths[100, 140] == 40 and lengths[305, 50] == 5 and not lengths[~marked].any()


def test_stars_only_in_a_sky():
    scene = Scene(11, "river", "day", size=128)
    sky = scene.labels == 0
    starry = paint(scene.image, "starry", labels={"sky": sky})
    plain = paint(scene.image, "starry")
    yellow = [((p[..., 0] - p[..., 2]) > 0.2)[sky].sum() for p in (starry, plain)]
    assert yellow[0] > 20 and yellow[0] > yellow[1]
    land = cv2.erode(np.uint8(~sky), np.ones((25, 25))) > 0
    assert np.abs(starry - plain)[land].mean() < 0.1


def test_a_stroke_lies_where_it_is_told():
    canvas, relief = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.float32)
    one = Strokes(
        *(np.array(v, float) for v in ([[40, 20]], [0], [0], [10], [4], [[1, 0.5, 0]], [1], np.zeros((1, 8))))
    )
    lay(canvas, one, round_brush(), relief=relief, side=np.zeros((64, 64), np.uint8))
    y, x = np.nonzero(canvas[..., 0] > 0.5)
    assert abs(x.mean() - 39.5) < 0.6 and abs(y.mean() - 19.5) < 0.6
    assert 0.55 < len(x) / (np.pi * 10 * 4) < 1
    assert np.allclose(canvas[20, 40], (1, 0.5, 0), atol=0.02)


def test_mistakes_are_named(picture):
    with pytest.raises(ValueError, match="did you mean watercolor"):
        check_look("water color")
    with pytest.raises(ValueError, match="did you mean starry"):
        paint(picture, "van gogh")
    with pytest.raises(ValueError, match="expected one of oil"):
        paint(picture, "zzz")
    with pytest.raises(ValueError, match="0 .the picture itself. to 1"):
        paint(picture, "oil", strength=2)
    with pytest.raises(ValueError, match="mask is 10x10 px, the picture 128x96"):
        paint(picture, "oil", mask=np.zeros((10, 10), bool))
    with pytest.raises(ValueError, match="32 px"):
        paint(picture[:8], "oil")


@pytest.mark.parametrize("style", STYLES)
def test_the_renderer_paints_its_second_edition_here(style):
    scene = Scene(11, "waterfall", "day", size=64)
    first, second = (stylize(scene, style, edition) for edition in (1, 2))
    assert second.shape == first.shape and np.abs(second - first).mean() > 0.01
