"""What the studio's page shows of itself: thumbnails of the looks, and the README's screenshot and session.

python -m benchmarks.studio_page looks   # demo/studio/static/looks/: one small picture a look
python -m benchmarks.studio_page         # docs/assets/studio.webp and studio_session.webp, as make readme-assets does

A session is driven as a hand would, in Debian's chromium; tests/test_studio_page.py uses the same hand.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from text2cinemagraph.options.cli import Parser, run_main

ROOT = Path(__file__).resolve().parents[1]
LOOKS, ASSETS = ROOT / "demo" / "studio" / "static" / "looks", ROOT / "docs" / "assets"
THUMB = (104, 78)  # px, of a look
CHROMIUM = "/usr/bin/chromium"
# No network but the studio's own; WebGL2 by SwiftShader where there is no graphics card.
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
)
LIMIT = 1.5e6  # bytes of the session's loop
NEEDS = "the page is shown by Debian's chromium and playwright: apt-get install chromium; pip install playwright"


def missing() -> str:
    """Why no browser can be driven here, in one line; "" where one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError:
        return NEEDS
    return "" if os.access(CHROMIUM, os.X_OK) else NEEDS


def shown_scene(size: int = 512) -> Any:
    """A landscape that may be shown: the procedural one of the looks' sheet."""
    from text2cinemagraph.mini.scene import Scene

    return Scene(11, "river", "day", size=size)


# ---------------------------------------------------------------- thumbnails of the looks
def look_thumbnails(folder: Path = LOOKS) -> None:
    """One picture in every look, and as it is (none.webp), 104x78 px."""
    import numpy as np
    from PIL import Image
    from text2cinemagraph.data.files import atomic, make_folder
    from text2cinemagraph.mini.scene import LABELS
    from text2cinemagraph.painters.looks import LOOKS as NAMES
    from text2cinemagraph.painters.looks import paint

    scene = shown_scene()
    sky = {"sky": scene.labels == LABELS.index("sky")}
    make_folder(folder)
    for name in ("none", *NAMES):
        painted = scene.image if name == "none" else paint(scene.image, name, labels=sky)
        picture = Image.fromarray(np.uint8(np.round(painted * 255)))
        high = round(picture.width * THUMB[1] / THUMB[0])
        top = (picture.height - high) // 2
        small = picture.crop((0, top, picture.width, top + high)).resize(THUMB, Image.Resampling.LANCZOS)
        with atomic(folder / f"{name}.webp") as path:
            small.save(path, "WEBP", quality=82, method=6)


# ---------------------------------------------------------------- a server and a hand
@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[str]:
    """A studio of its own on a free port, its projects in `folder`; gives its address. Ends with the block."""
    command = [sys.executable, "-m", "text2cinemagraph.demo.studio", "--port", "0", "--folder", str(folder), *words]
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "w") as output:
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _address(server, log)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server, log):
    for _ in range(600):
        found = re.search(r"http://\S+", log.read_text())
        if found:
            return found[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the studio did not start: {log.read_text()[-500:]}")


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """Debian's chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        try:
            yield browser
        finally:
            browser.close()


class Hand:
    """Does on the page what a hand does: places are shares of the picture, (0, 0) its upper left corner."""

    def __init__(self, page: Any, address: str) -> None:
        """page: of playwright.   address: of the studio."""
        self.page, self.address = page, address
        self.wrong: list[str] = []  # what the page's scripts stumbled over
        page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def open(self) -> None:
        """The empty page."""
        self.page.goto(self.address)
        self.until("document.body.dataset.ready === 'true'")

    def until(self, condition: str, seconds: float = 60) -> None:
        """Wait for an expression of JavaScript. The page's policy forbids playwright's own way, which is eval."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            if time.monotonic() > end:
                shown = self.page.locator("#toasts, #progress-text, #cards").all_inner_texts()
                raise TimeoutError(f"not within {seconds:g} s: {condition} {shown} {self.wrong}")
            time.sleep(0.03)

    def choose(self, path: Path) -> None:
        """Choose a file, as with the button."""
        self.page.set_input_files("#file", str(path))

    def opened(self) -> None:
        """Wait until a project is open, and all of its picture, mask and arrows is there."""
        self.until("document.body.dataset.open === studio.state.doc?.id && !!studio.state.size")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place of the picture, in px of the window."""
        box = self.page.locator("#over").bounding_box()
        view = self.page.evaluate("({...studio.view, size: studio.state.size})")
        left, top, zoom, size = view["x"], view["y"], view["zoom"], view["size"]
        return box["x"] + left + x * size[0] * zoom, box["y"] + top + y * size[1] * zoom

    def drag(
        self, places: Sequence[tuple[float, float]], steps: int = 6, seen: Callable[[], None] | None = None
    ) -> None:
        """Press at the first place, go along the others, let go.  seen: called after each of them."""
        mouse = self.page.mouse
        mouse.move(*self.place(*places[0]))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.place(*place), steps=steps)
            if seen:
                seen()
        mouse.up()

    def saved(self) -> None:
        """Wait until the server has everything."""
        self.page.evaluate("studio.flush()")
        self.until("!studio.unsaved()")


# ---------------------------------------------------------------- the README's pictures of it
# Down the river, where it is narrow and where it is wide.
NARROW = ((0.505, 0.42), (0.435, 0.5), (0.44, 0.58), (0.48, 0.66))
WIDE = (
    ((0.5, 0.68), (0.54, 0.8), (0.54, 1)),
    ((0.52, 0.68), (0.68, 0.82), (0.84, 0.98)),
    ((0.6, 0.8), (0.6, 1), (0.8, 1), (0.66, 0.9)),
)
ARROWS = (
    ((0.5, 0.44), (0.44, 0.5), (0.44, 0.56)),
    ((0.47, 0.62), (0.56, 0.75), (0.6, 0.85)),
    ((0.62, 0.74), (0.75, 0.9)),
)


def session(folder: Path = ASSETS) -> None:
    """The README's studio.webp (a still) and studio_session.webp: a picture, paint, three arrows, a look, the loop."""
    import tempfile

    import numpy as np
    from PIL import Image
    from text2cinemagraph.mini.scene import Scene

    with tempfile.TemporaryDirectory() as place, serving(Path(place, "projects")) as address, browsing() as browser:
        picture = Path(place, "river.png")
        scene = Scene(3, "river", "sunset", size=768, edition=2)
        Image.fromarray(np.uint8(np.round(scene.image * 255))).save(picture)
        page = browser.new_context(viewport=WINDOW, color_scheme="dark").new_page()
        film, hand = Film(page), Hand(page, address)
        hand.open()
        page.evaluate("studio.live.least = 1")  # all pixels: a film has the time
        page.mouse.click(5, 400)
        film.hold(700)
        hand.choose(picture)
        hand.opened()
        page.locator("#prompt").fill("a river at sunset")
        page.locator(".looks img").last.evaluate("(image) => image.decode()")
        film.hold(700)
        page.locator("#over").focus()
        for _ in range(4):
            page.keyboard.press("[")
        hand.drag(NARROW, seen=film.add)
        for _ in range(4):
            page.keyboard.press("]")
        for stroke in WIDE:
            hand.drag(stroke, seen=film.add)
        page.keyboard.press("a")
        for arrow in ARROWS:
            hand.drag(arrow, seen=film.add)
        hand.until("studio.live.ready && studio.live.frames > 5")
        for _ in range(22):
            film.add()
        page.locator("[data-look=starry]").click()
        film.hold(600)
        hand.until("studio.state.doc.stages[0].state === 'fresh' && studio.live.ready", 120)
        page.wait_for_timeout(800)
        page.keyboard.press("Escape")
        for _ in range(30):
            film.add()
        page.mouse.move(5, 5)
        film.still(folder / "studio.webp")
        film.write(folder / "studio_session.webp")


WINDOW = {"width": 1280, "height": 800}
SHOWN = (800, 500)  # px of the session's loop


class Film:
    """Screenshots of a page that become a loop."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._frames: list[Any] = []
        self._times: list[int] = []  # ms

    def add(self, milliseconds: int = 90) -> None:
        """What the page shows now, for so long."""
        from PIL import Image

        self._frames.append(self._shot().resize(SHOWN, Image.Resampling.LANCZOS))
        self._times.append(milliseconds)

    hold = add

    def _shot(self):
        import cv2
        import numpy as np
        from PIL import Image

        pixels = cv2.imdecode(np.frombuffer(self._page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        return Image.fromarray(pixels[..., ::-1].copy())

    def still(self, path: Path) -> None:
        """Write what the page shows now."""
        from text2cinemagraph.data.files import atomic

        with atomic(path) as temporary:
            self._shot().save(temporary, "WEBP", quality=86, method=6)

    def write(self, path: Path) -> None:
        """Write the loop, of at most LIMIT bytes.  Raises ValueError where no quality is low enough."""
        import io

        from text2cinemagraph.data.files import atomic

        for quality in (55, 45, 35):
            packed = io.BytesIO()
            self._frames[0].save(
                packed,
                "WEBP",
                save_all=True,
                append_images=self._frames[1:],
                duration=self._times,
                loop=0,
                quality=quality,
                method=4,
                minimize_size=False,
            )
            if packed.tell() <= LIMIT:
                break
        else:
            raise ValueError(f"the session takes {packed.tell() / 1e6:.1f} MB at the lowest quality: lower SHOWN")
        with atomic(path) as temporary:
            temporary.write_bytes(packed.getvalue())
        print(f"{path}: {packed.tell() / 1e6:.2f} MB, {sum(self._times) / 1000:.1f} s, {len(self._frames)} frames")


def main() -> None:
    """The command line."""
    parser = Parser(usage="python -m benchmarks.studio_page [looks]", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("looks", "session"), default="session")
    if parser.parse_args().what == "looks":
        look_thumbnails()
    elif missing():
        raise ModuleNotFoundError(missing())
    else:
        session()


if __name__ == "__main__":
    run_main(main)
