"""The studio's page in a real browser, driven as a hand would: paint, arrows, previews, render, downloads, undo."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from text2cinemagraph.benchmarks.studio_page import Hand, browsing, missing, serving, shown_scene
from text2cinemagraph.data.videos import read_video
from text2cinemagraph.evaluate.loop_error import seam_ratio

if missing():
    pytest.skip(missing(), allow_module_level=True)

SIDE = 320
RIVER = ((0.5, 0.5), (0.52, 0.66), (0.46, 0.95))  # down the middle of it, shares of the picture
BANK = ((0.04, 0.62), (0.3, 0.9))  # corners of a place that stands still
AXE = "axe-core@4.10.2"
SIZES = ((1280, 720), (1600, 1000), (1024, 768))


@pytest.fixture(scope="module")
def scene():
    return shown_scene(SIDE)


@pytest.fixture(scope="module")
def picture(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "river.png"
    Image.fromarray(np.uint8(np.round(scene.image * 255))).save(path)
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("studio") / "projects") as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def new_hand(browser, address):
    """Makes hands with a window each, and checks at the end that no script of the page stumbled.

    The preview does not play by itself unless a test asks: drawn without a graphics card, it takes a core.
    """
    hands = []

    def make(**context):
        quiet = {"viewport": {"width": 1280, "height": 720}, "accept_downloads": True, "reduced_motion": "reduce"}
        settings = quiet | context
        hand = Hand(browser.new_context(**settings).new_page(), address)
        hands.append(hand)
        hand.open()
        return hand

    yield make
    for hand in hands:
        hand.page.context.close()
        assert hand.wrong == []


@pytest.fixture
def hand(new_hand):
    return new_hand()


def begin(hand, picture):
    """A picture, paint on the river, three arrows along it."""
    hand.choose(picture)
    hand.opened()
    hand.drag(RIVER)
    hand.page.keyboard.press("a")
    for (x0, y0), (x1, y1) in (((0.5, 0.52), (0.52, 0.64)), ((0.52, 0.68), (0.49, 0.8)), ((0.48, 0.83), (0.46, 0.93))):
        hand.drag(((x0, y0), (x1, y1)))


def arrows(hand):
    return hand.page.evaluate("studio.state.arrows.map(({path, speed}) => ({path, speed}))")


def painted(hand):
    """The page's mask, bool [H,W]."""
    found = hand.page.evaluate("({width: studio.layer.width, mask: [...studio.layer.mask]})")
    return np.array(found["mask"]).reshape(-1, found["width"]) > 0


def seen(hand):
    """What the canvas shows of the picture, at the picture's size, uint8 [H,W,3]."""
    (x0, y0), (x1, y1) = hand.place(0, 0), hand.place(1, 1)
    data = hand.page.screenshot(clip={"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0})
    shot = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(shot).astype(int)


def grown(mask, by):
    """The mask and what lies within `by` px of it."""
    import cv2

    return cv2.dilate(np.uint8(mask), np.ones((2 * by + 1, 2 * by + 1))) > 0


# ---------------------------------------------------------------- a session
def test_a_session_from_the_picture_to_a_loop_that_closes(new_hand, picture, tmp_path):
    hand = new_hand(reduced_motion="no-preference")
    page = hand.page
    begin(hand, picture)
    assert len(arrows(hand)) == 3 and 0.03 < painted(hand).mean() < 0.3

    # The browser's own preview plays at once, inside the mask and nowhere else.
    hand.until("studio.live.ready && studio.state.show === 'live' && studio.state.playing")
    assert page.locator("#approximate").is_visible()
    hand.until("studio.live.frames > 20")
    page.keyboard.press("o")
    first, moved = seen(hand), None
    for _ in range(20):
        page.wait_for_timeout(150)
        moved = np.abs(seen(hand) - first).max(-1)
        if (moved > 12).sum() > 200:
            break
    mask = painted(hand)
    assert (moved > 12)[mask].mean() > 0.1
    assert moved[~grown(mask, 3)].max() <= 2
    assert page.evaluate("studio.live.kind") == "webgl2"
    hand.until("studio.live.fps >= 24", 60)  # draws fewer pixels until it is fast enough

    # Half a second, so that the renders are short.
    length = page.get_by_role("slider", name="Length")
    length.evaluate("(e) => { e.value = 0.5; e.dispatchEvent(new Event('input')); }")
    page.locator("#format-webm").check()
    page.click("#preview")
    hand.until("studio.state.show === 'preview'", 120)
    hand.until("document.querySelector('#clip').currentTime > 0.05")
    page.click("#render")
    hand.until("!document.querySelector('#progress').hidden")
    hand.until("studio.state.show === 'final' && document.querySelector('#progress').hidden", 180)
    assert {card["name"]: card["state"] for card in page.evaluate("studio.state.doc.stages")} == {
        **dict.fromkeys(("s1", "s2", "s4"), "yours"),
        "s3": "missing",
        **dict.fromkeys(("s5", "s6"), "fresh"),
    }
    kinds = [link.inner_text() for link in page.locator("#downloads a").all()]
    assert sorted(kinds) == ["gif", "mp4", "webm"]
    with page.expect_download() as download:
        page.locator("#downloads a", has_text="mp4").click()
    download.value.save_as(tmp_path / "loop.mp4")
    frames = np.stack(list(read_video(tmp_path / "loop.mp4")))
    assert frames.shape == (15, SIDE, SIDE, 3)
    assert 0.5 < seam_ratio(frames, mask) < 1.5  # the last step to the first is one as all others
    assert np.abs(np.diff(frames[:, ~grown(mask, 8)].astype(int), axis=0)).mean() < 0.5

    # The command that the page shows names this project.
    page.click("#command summary")
    assert page.evaluate("studio.state.doc.id") in page.locator("#command-text").inner_text()


def test_scribbles_and_words_say_what_moves(hand, picture):
    page = hand.page
    hand.choose(picture)
    hand.opened()
    page.keyboard.press("s")
    hand.drag(RIVER[:2])
    page.keyboard.press("s")  # the other colour
    hand.drag(((0.1, 0.8), (0.25, 0.8)))
    page.get_by_role("button", name="Complete").click()
    hand.until("studio.layer.moving > 0")
    completed = painted(hand)
    assert completed[round(0.6 * SIDE), round(0.51 * SIDE)] and not completed[round(0.8 * SIDE), round(0.2 * SIDE)]

    page.locator("#words").fill("river")
    page.keyboard.press("Enter")
    hand.until(f"studio.layer.moving !== {completed.sum()}", 120)
    assert page.evaluate("studio.state.doc.stages[2].state") == "fresh"
    found = painted(hand)
    assert (found != completed).any() and found.any()
    page.locator("#over").focus()
    page.keyboard.press("Control+z")
    assert (painted(hand) == completed).all()

    page.locator(".card .look").nth(2).click()
    assert page.locator("#looked").is_visible() and not page.locator("#tint").is_visible()
    page.locator(".card .look").nth(2).click()
    assert not page.locator("#looked").is_visible()


def test_undo_and_redo_and_a_reload_that_keeps_all(hand, picture):
    page = hand.page
    begin(hand, picture)
    page.keyboard.press("f")
    hand.drag(((0.4, 0.9), (0.55, 0.9)))
    mask, drawn = painted(hand), arrows(hand)
    frozen = page.evaluate("studio.layer.marks.filter((mark) => mark === 3).length")
    assert frozen > 100

    for _ in range(5):  # the freeze, three arrows, the paint
        page.keyboard.press("Control+z")
    assert not painted(hand).any() and arrows(hand) == [] and page.locator("#undo").is_disabled()
    for _ in range(5):
        page.keyboard.press("Control+Shift+Z")
    assert (painted(hand) == mask).all() and arrows(hand) == drawn

    page.locator(".arrows .pick").nth(1).click()
    page.keyboard.press("v")
    page.locator("#over").focus()
    page.keyboard.press(".")
    faster = arrows(hand)
    assert faster[1]["speed"] > 0 and drawn[1]["speed"] is None
    hand.saved()
    page.reload()
    hand.until("document.body.dataset.ready === 'true'")
    hand.opened()
    assert (painted(hand) == mask).all()
    assert page.evaluate("studio.layer.marks.filter((mark) => mark === 3).length") == frozen
    kept = arrows(hand)
    assert [a["speed"] for a in kept] == [a["speed"] for a in faster]
    for before, after in zip(faster, kept):
        assert np.allclose(before["path"], after["path"], atol=0.01)


def test_a_project_is_exported_and_dropped_again(hand, picture, tmp_path):
    page = hand.page
    begin(hand, picture)
    hand.saved()
    before, mask, drawn = page.evaluate("studio.state.doc.id"), painted(hand), arrows(hand)
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "project.json")
    assert json.loads((tmp_path / "project.json").read_text())["picture"].startswith("data:image/png;base64,")
    page.click("#home")
    assert page.locator(".project").count() >= 1
    page.evaluate(
        """(text) => { const data = new DataTransfer();
        data.items.add(new File([text], 'project.json', {type: 'application/json'}));
        window.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }""",
        (tmp_path / "project.json").read_text(),
    )
    hand.until(f"(document.body.dataset.open ?? '{before}') !== '{before}'")
    assert (painted(hand) == mask).all()
    for one, other in zip(drawn, arrows(hand)):
        assert np.allclose(one["path"], other["path"], atol=0.01)


def test_what_is_no_picture_is_told_in_one_line(hand, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    before = hand.page.evaluate("fetch('/api/projects').then((r) => r.json()).then((all) => all.length)")
    hand.choose(broken)
    hand.until("document.querySelector('#alert').textContent !== ''")
    line = hand.page.locator("#alert").inner_text()
    assert 10 < len(line) < 200 and "\n" not in line and str(tmp_path) not in line
    assert hand.page.locator(".toast.error").is_visible() and hand.page.locator("#start").is_visible()
    assert hand.page.evaluate("fetch('/api/projects').then((r) => r.json()).then((all) => all.length)") == before


def test_two_tabs_and_the_later_one_is_asked(browser, hand, picture):
    page = hand.page
    begin(hand, picture)
    hand.saved()
    other = Hand(page.context.new_page(), page.url)
    other.open()
    other.opened()
    # The first tab does not hear of the other's save before its own: its stream of events is cut.
    page.evaluate("studio.state.doc.revision -= 1; studio.state.project.prompt = 'a river'")
    page.locator("#prompt").fill("a wide river")
    page.locator("#sheet").wait_for(state="visible")
    page.get_by_role("button", name="Keep mine").click()
    hand.saved()
    other.until("studio.state.project.prompt === 'a wide river'")  # and hears of the first one's
    assert other.wrong == []


# ---------------------------------------------------------------- for everybody
def press_until(hand, key, condition, most=90):
    for _ in range(most):
        if hand.page.evaluate(condition):
            return
        hand.page.keyboard.press(key)
    raise AssertionError(f"{key} never led to {condition}")


def test_keys_alone_draw_bend_and_delete_arrows(hand, picture):
    page = hand.page
    hand.choose(picture)
    hand.opened()
    page.evaluate("document.activeElement.blur()")
    press_until(hand, "Tab", "document.activeElement.id === 'over'")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    middle = arrows(hand)[0]["path"]
    assert np.allclose(np.mean(middle, 0), SIDE / 2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    moved = np.subtract(arrows(hand)[0]["path"], middle)
    assert (moved > 0).all() and np.allclose(moved[0], moved[1]) and moved[0, 0] > moved[0, 1]
    page.keyboard.press("Alt+ArrowRight")
    (x0, y0), (x1, y1) = arrows(hand)[0]["path"]
    assert np.isclose(np.degrees(np.arctan2(y1 - y0, x1 - x0)), 5, atol=0.1)
    page.keyboard.press("Alt+ArrowUp")
    assert np.hypot(*np.subtract(*arrows(hand)[0]["path"])) > np.hypot(*np.subtract(*middle))
    page.keyboard.press("Enter")
    assert len(arrows(hand)) == 2
    page.keyboard.press("Delete")
    assert len(arrows(hand)) == 1
    press_until(hand, "Tab", "document.activeElement.id === 'words'")
    press_until(hand, "Tab", "document.activeElement.id === 'render'")
    page.keyboard.press("?")
    assert page.locator("#sheet").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#sheet").is_visible()


def test_fingers_pinch_the_picture_and_paint_on_it(new_hand, picture):
    hand = new_hand(has_touch=True, viewport={"width": 1024, "height": 768})
    hand.choose(picture)
    hand.opened()
    touch = hand.page.context.new_cdp_session(hand.page)

    def fingers(kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    (ax, ay), (bx, by) = hand.place(0.4, 0.5), hand.place(0.6, 0.5)
    before = hand.page.evaluate("studio.view.zoom")
    fingers("touchStart", (ax, ay))
    fingers("touchStart", (ax, ay), (bx, by))
    for step in range(1, 6):
        fingers("touchMove", (ax - 10 * step, ay), (bx + 10 * step, by))
    fingers("touchEnd")
    assert hand.page.evaluate("studio.view.zoom") > 1.3 * before
    assert not painted(hand).any()  # the first finger's stroke is taken back
    x, y = hand.place(0.5, 0.5)
    fingers("touchStart", (x, y))
    fingers("touchMove", (x + 40, y))
    fingers("touchEnd")
    assert painted(hand).any()


def test_without_webgl_a_plain_canvas_does_it(new_hand, picture, address):
    hand = new_hand(reduced_motion="no-preference")
    hand.page.goto(f"{address}?live=2d")
    hand.until("document.body.dataset.ready === 'true'")
    begin(hand, picture)
    hand.until("studio.live.ready && studio.live.frames > 5")
    assert hand.page.evaluate("studio.live.kind") == "canvas2d"
    hand.page.keyboard.press("o")
    first = seen(hand)
    hand.page.wait_for_timeout(500)
    moved, mask = np.abs(seen(hand) - first).max(-1), painted(hand)
    assert (moved > 12)[mask].mean() > 0.05 and moved[~grown(mask, 3)].max() <= 2


def test_who_wants_no_motion_gets_none_by_itself(hand, picture):
    begin(hand, picture)
    hand.until("studio.live.ready")
    assert hand.page.evaluate("[studio.state.show, studio.state.playing]") == ["still", False]
    hand.page.keyboard.press("k")
    hand.until("studio.live.frames > 3")


# What is too small to hit, what lies outside the window, what floats over another float, what would need scrolling.
OVERLAPS = """() => {
  const shown = (e) => e.checkVisibility() && e.getBoundingClientRect().width > 0;
  const all = (what) => [...document.querySelectorAll(what)].filter(shown);
  const box = (e) => e.getBoundingClientRect();
  const buttons = all('.bar button, .bar a, .rail button, .foot button, .float button, .card button');
  const outside = ({left, top, right, bottom}) =>
    left < -1 || top < -1 || right > innerWidth + 1 || bottom > innerHeight + 1;
  const crosses = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const floats = all('.float, .hint, .approximate').map(box), panel = document.querySelector('#sections');
  const name = (e) => e.id || e.className;
  return {
    small: buttons.filter((e) => box(e).width < 24 || box(e).height < 24).map(name),
    out: buttons.filter((e) => outside(box(e))).map(name),
    covered: floats.some((a, i) => floats.slice(i + 1).some((b) => crosses(a, b))),
    wide: document.documentElement.scrollWidth > innerWidth || panel.scrollWidth > panel.clientWidth,
  };
}"""


def test_nothing_is_cut_or_covered_at_three_sizes(new_hand, picture):
    hand = new_hand(reduced_motion="no-preference")  # with the preview and what floats over it
    begin(hand, picture)
    hand.page.locator("#prompt").fill("a river of a long name " * 12)
    hand.until("studio.live.ready")
    for width, height in SIZES:
        hand.page.set_viewport_size({"width": width, "height": height})
        hand.page.wait_for_timeout(100)
        assert hand.page.evaluate(OVERLAPS) == {"small": [], "out": [], "covered": False, "wide": False}, (
            width,
            height,
        )


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core, fetched by npm into a cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "text2cinemagraph" / AXE
    script = cache / "package" / "axe.min.js"
    if not script.is_file():
        if not shutil.which("npm"):
            pytest.skip("axe-core needs npm: apt-get install npm")
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=cache, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"axe-core cannot be fetched by npm: {done.stderr.strip()[-120:]}")
        shutil.unpack_archive(next(cache.glob("*.tgz")), cache, filter="data")
    return script.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious(new_hand, picture, axe, scheme):
    hand = new_hand(color_scheme=scheme)
    page = hand.page

    def serious():
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    assert serious() == []
    begin(hand, picture)
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    hand.until("studio.live.ready")
    assert serious() == []
    page.click("#help")
    assert serious() == []
