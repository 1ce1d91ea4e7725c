"""The studio's server as its page uses it: every route, what it refuses, what survives a kill. Renders are real."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.media import read_mask
from text2cinemagraph.options.cli import LONGEST_LINE
from text2cinemagraph.options.fields import shown

try:
    import httpx
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient
    from text2cinemagraph.demo.studio import worker
    from text2cinemagraph.demo.studio.api import Studio, make_app
    from text2cinemagraph.demo.studio.guard import Guard
    from text2cinemagraph.demo.studio.store import Store
    from text2cinemagraph.demo.studio.workers import HEAVY, TaskFailed, Worker, WorkerDied
except ModuleNotFoundError as error:
    if error.name not in ("starlette", "uvicorn", "httpx"):
        raise
    pytest.skip("pip install -r requirements-studio.txt httpx", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "of-this-test"
CONFIG = "configs/inference_mini_directional.yaml"
SIZE, LARGER = (48, 64), (128, 128)  # of the pictures: H, W; of those whose renders are interrupted
ARROWS = {"size": [64, 48], "arrows": [{"path": [[10, 34], [50, 34]], "speed": 0.8}], "anchors": []}
QUICK = {"video.n_frames": 4, "video.formats": ["mp4"]}
SLOW = {"video.n_frames": 600, "video.formats": ["mp4"]}


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(data, "PNG")
    return data.getvalue()


def photo(seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def lower_half(size=SIZE):
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 2 - 4 :] = 255
    return mask


class Page:
    """What the page would do, by HTTP."""

    def __init__(self, address, token=TOKEN):
        self.client = httpx.Client(base_url=address, timeout=120)
        self.headers = {"origin": address, "x-studio-token": token}

    def ask(self, method, path, status=200, **more):
        answer = self.client.request(method, path, headers=self.headers, **more)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text[:300])
        if status >= 400:
            line = answer.json()["error"]
            assert line and "\n" not in line and len(line) < LONGEST_LINE, line
        return answer.json() if answer.headers.get("content-type") == "application/json" else answer

    def project(self, picture=None, mask=None, **keys):
        """A new project with a picture, a mask and what else its document says.  -> its id"""
        name = self.ask("POST", "/api/projects", 201, json={})["id"]
        if picture is not None:
            self.ask("PUT", f"/api/projects/{name}/picture", content=png(picture))
        if mask is not None:
            self.ask("PUT", f"/api/projects/{name}/mask", content=png(mask))
        self.change(name, **({"options": QUICK} | keys))
        return name

    def get(self, name):
        return self.ask("GET", f"/api/projects/{name}")

    def change(self, name, **keys):
        now = self.get(name)
        body = {"revision": now["revision"], "project": now["project"] | keys}
        return self.ask("PUT", f"/api/projects/{name}", json=body)

    def start(self, name, what="run", **body):
        return self.ask("POST", f"/api/projects/{name}/{what}", 202, json=body)["job"]

    def ended(self, job):
        for _ in range(2400):
            job = self.ask("GET", f"/api/jobs/{job['id']}")
            if job["state"] not in ("queued", "running"):
                return job
            time.sleep(0.05)
        raise AssertionError(f"still {job}")

    def has_begun(self, job):
        """Wait until a job is at its frames."""
        while job["stage"] != "s6" or job["done"] < 2:
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.02)
            job = self.ask("GET", f"/api/jobs/{job['id']}")

    def done(self, name, what="run", **body):
        job = self.ended(self.start(name, what, **body))
        assert job["state"] == "done", job
        return job

    def states(self, name):
        return {card["name"]: card["state"] for card in self.get(name)["stages"]}


class Serving:
    """A server in a thread of this process."""

    def __init__(self, folder):
        self.studio = Studio(folder, CONFIG, TOKEN)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = uvicorn.Config(make_app(self.studio), log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(settings)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    os.chdir(ROOT)  # configurations name weights relative to the repository
    with Serving(tmp_path_factory.mktemp("studio")) as server:
        yield server


@pytest.fixture
def page(serving):
    return Page(serving.address)


# ---------------------------------------------------------------- what the page is told
def test_about_is_made_of_the_declarations(page):
    told = page.ask("GET", "/api/about")
    assert [stage["name"] for stage in told["stages"]] == [stage.name for stage in inference_t2c.STAGES]
    assert [stage["picture"] for stage in told["stages"]][-2:] == ["flow_color", "video"]
    assert "oil" in [look["name"] for look in told["looks"]] and "webm" in told["formats"]
    options = {option["key"]: option for option in told["options"]}
    speed, blend = options["video.speed"], options["video.blend"]
    assert (speed["kind"], speed["least"], speed["most"]) == ("number", -20, 20)
    assert blend["kind"] == "choice" and "variance" in blend["choices"]
    assert told["defaults"]["twin_extraction.ddim_steps"] == 30  # of the configuration, not of the class
    assert not [key for key in options if "checkpoint" in key or key.startswith("inputs.")]
    assert {"path": CONFIG} in [{"path": entry["path"]} for entry in told["configs"]]


def test_the_page_gets_the_token_and_only_its_own_files(page, tmp_path, monkeypatch):
    from text2cinemagraph.demo.studio import api

    (tmp_path / "index.html").write_text('<html><head><meta name="studio-token" content="">')
    (tmp_path / "app.js").write_text("1")
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(api, "STATIC", tmp_path)
    got = page.ask("GET", "/")
    assert f'content="{TOKEN}"' in got.text and got.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert got.headers["x-content-type-options"] == "nosniff"
    assert page.ask("GET", "/static/app.js").headers["content-type"].startswith("text/javascript")
    for name in ("notes.txt", "index.html", "../api.py", "%2e%2e/api.py", "..%2fapi.py", ""):
        assert page.client.get(f"/static/{name}").status_code == 404


# ---------------------------------------------------------------- from a picture to a video
@pytest.fixture(scope="module")
def lake(serving):
    """A project whose render is done, with its page.  -> (page, id)"""
    page = Page(serving.address)
    every = {"video.formats": page.ask("GET", "/api/about")["formats"]}
    name = page.project(photo(), lower_half(), motion=ARROWS, options=QUICK | every)
    page.done(name, stages="s1-s6")
    return page, name


def test_a_render_leaves_its_files(lake):
    page, name = lake
    told = page.get(name)
    assert told["size"] == [64, 48] and told["problem"] is None
    assert page.states(name) == {
        "s1": "yours",
        "s2": "yours",
        "s3": "missing",
        "s4": "yours",
        "s5": "fresh",
        "s6": "fresh",
    }
    whole = page.ask("GET", told["files"]["video"]["mp4"])
    part = page.client.get(told["files"]["video"]["mp4"], headers={"range": "bytes=10-19"})
    assert whole.headers["content-type"] == "video/mp4" and part.status_code == 206
    assert part.content == whole.content[10:20]
    saved = page.ask("GET", f"/api/projects/{name}/files/video?download=1")
    assert saved.headers["content-disposition"] == f'attachment; filename="{name}-video.mp4"'
    assert [entry["id"] for entry in page.ask("GET", "/api/projects")].count(name) == 1
    for artifact in ("picture", "own_mask", "thumb", "flow_color", "motion_picture", "summary"):
        data = page.ask("GET", told["files"][artifact]).content
        assert Image.open(io.BytesIO(data)).format == "PNG"
    for kind, url in told["files"]["video"].items():
        assert page.ask("GET", f"{url}&download=1").headers["content-type"].endswith(f"/{kind}")
    assert sorted(told["files"]["video"]) == sorted(page.ask("GET", "/api/about")["formats"])
    page.ask("GET", f"/api/projects/{name}/files/video.exe", 404)
    page.ask("GET", f"/api/projects/{name}/files/completed", 404)
    for artifact in ("noise", "experiment.json", "%2e%2e", "%2e%2e%2fproject.json", "studio.json"):
        assert page.client.get(f"/api/projects/{name}/files/{artifact}").status_code == 404


def test_the_same_video_headless_byte_for_byte(lake, tmp_path):
    """From the folder, from the exported file, and by the spelled-out command that the page shows."""
    page, name = lake
    told = page.get(name)
    wanted = page.ask("GET", told["files"]["video"]["mp4"]).content
    (tmp_path / "lake.json").write_text(json.dumps(page.ask("GET", f"/api/projects/{name}/project.json")))
    command = told["command"].split(" ")
    assert command[:3] == ["python", "inference_t2c.py", "--project"]
    for source in (command[3], tmp_path / "lake.json"):
        inference_t2c.main(["--project", str(source), "--name", "e", f"twin_extraction.exp_path_root={tmp_path}"])
        assert (tmp_path / "e" / "video.mp4").read_bytes() == wanted
    assert "--arrows" in told["motion_command"] and "video.n_frames=4" in told["motion_command"]
    dropped = page.ask("POST", "/api/projects/import", 201, content=(tmp_path / "lake.json").read_bytes())["id"]
    assert page.get(dropped)["project"] == told["project"]
    page.done(dropped, stages="s5-s6")
    assert page.ask("GET", page.get(dropped)["files"]["video"]["mp4"]).content == wanted


def test_a_preview_leaves_the_render_alone(lake):
    page, name = lake
    before = page.get(name)
    page.done(name, stages="s5-s6", preview=True)
    after = page.get(name)
    assert after["files"]["video"] == before["files"]["video"] and after["stages"] == before["stages"]
    assert page.ask("GET", after["files"]["preview"]).headers["content-type"] == "video/mp4"


def test_changes_mark_what_is_stale(serving):
    page = Page(serving.address)
    name = page.project(photo(1), lower_half(), motion=ARROWS)
    assert set(page.states(name).values()) == {"yours", "missing"}
    page.done(name, stages="s5-s6")
    page.change(name, options=QUICK | {"video.speed": 0.9})
    assert page.states(name)["s6"] == "stale" and page.states(name)["s5"] == "fresh"
    page.change(name, options=QUICK, motion=ARROWS | {"arrows": [{"path": [[50, 34], [10, 34]]}]})
    assert page.states(name)["s5"] == page.states(name)["s6"] == "stale"
    page.change(name, motion=ARROWS)
    assert page.states(name)["s5"] == page.states(name)["s6"] == "fresh"
    page.ask("PUT", f"/api/projects/{name}/mask", content=png(255 - lower_half((96, 128))))  # twice the picture's size
    assert page.get(name)["size"] == [64, 48] == list(Image.open(serving_file(page, name, "own_mask")).size)
    assert page.states(name)["s5"] == "stale"
    page.change(name, options={"video.motion": "splat", "video.blend": "variance"})
    assert "blend=variance" in page.get(name)["problem"]


def test_flow_is_what_s5_gives(lake):
    """In the picture's own size the page sees the very arrows that s5 follows, on a coarser grid; smaller, scaled."""
    page, name = lake
    answer = page.ask("POST", f"/api/projects/{name}/flow", json={"short_side": 48})
    assert answer.headers["x-flow-source"] == "stage" and float(answer.headers["x-flow-scale"]) == 1
    size = int(answer.headers["x-flow-height"]), int(answer.headers["x-flow-width"])
    made = np.frombuffer(answer.content, "<f4").reshape(2, *size)
    with np.load(serving_file(page, name, "flow")) as file:
        assert np.array_equal(made, file["flow"])
    page.change(name, motion=ARROWS | {"arrows": [{"path": [[10, 34], [50, 34]], "speed": 0.4}]})
    try:
        answer = page.ask("POST", f"/api/projects/{name}/flow", json={"short_side": 48})
        half = np.frombuffer(answer.content, "<f4").reshape(2, *size)
        assert answer.headers["x-flow-source"] == "arrows"
        assert np.abs(2 * half - made).max() < 0.02 * np.abs(made).max()
        small = page.ask("POST", f"/api/projects/{name}/flow", json={"short_side": 32})
        assert float(small.headers["x-flow-scale"]) == pytest.approx(2 / 3)
        fastest = np.abs(np.frombuffer(small.content, "<f4")).max()
        assert fastest == pytest.approx(np.abs(half).max() * 2 / 3, rel=0.1)
        page.ask("POST", f"/api/projects/{name}/flow", 400, json={"short_side": 5000})
        page.change(name, motion=ARROWS | {"arrows": [{"path": [[3, 3], [9, 3]]}]})
        page.ask("POST", f"/api/projects/{name}/flow", 400, json={})  # outside the mask
    finally:
        page.change(name, motion=ARROWS)


def serving_file(page, name, artifact):
    return io.BytesIO(page.ask("GET", f"/api/projects/{name}/files/{artifact}").content)


def test_a_mask_by_words_by_scribbles_and_a_look(page):
    """s3 and s4 on a drawn landscape; scribbles over two plain halves; s1 with a look, and the preview of that."""
    scene = np.zeros((96, 128, 3), np.uint8)
    scene[:48], scene[48:] = (120, 170, 235), (30, 70, 110)
    scene += np.random.default_rng(0).integers(0, 12, scene.shape, np.uint8)
    name = page.project(scene)
    strokes = np.zeros((96, 128, 4), np.uint8)
    strokes[80:84, 20:100], strokes[10:14, 20:100] = (0, 255, 0, 255), (255, 0, 0, 255)
    page.ask("POST", f"/api/projects/{name}/complete", 409)
    page.ask("PUT", f"/api/projects/{name}/strokes", content=png(strokes))
    got = page.ask("GET", page.ask("POST", f"/api/projects/{name}/complete")["url"]).content
    found = np.asarray(Image.open(io.BytesIO(got))) > 127
    assert found[50:].mean() > 0.95 and found[:46].mean() < 0.05
    page.ask("DELETE", f"/api/projects/{name}/strokes")
    job = page.ended(page.start(name, "words", vocab="water, sea; sky"))
    assert job["state"] == "done", job
    assert page.get(name)["project"]["options"]["odise.vocab"] == "water, sea; sky"
    assert Image.open(serving_file(page, name, "mask")).size == (128, 96)
    page.ask("POST", f"/api/projects/{name}/paint", 409)
    page.change(name, style="pencil", motion={"size": [128, 96], "arrows": [{"path": [[20, 80], [100, 80]]}]})
    assert page.states(name)["s1"] == "stale"
    page.done(name, "paint")
    assert page.states(name)["s1"] == "fresh"
    painted = np.asarray(Image.open(serving_file(page, name, "image")))
    assert np.abs(painted.astype(int) - scene).mean() > 5
    page.done(name, stages="s5-s6", preview=True)


def test_suggested_arrows_lie_in_the_mask_and_in_the_picture(serving):
    page = Page(serving.address)
    name = page.project(photo(2, (96, 128)), lower_half((96, 128)), motion=ARROWS | {"size": [128, 96]})
    told = page.ask("POST", f"/api/projects/{name}/suggest", json={"count": 3})
    assert told["motion"]["size"] == [128, 96] and len(told["motion"]["arrows"]) >= 1
    assert all(path[0][1] > 40 for path in (arrow["path"] for arrow in told["motion"]["arrows"]))
    assert page.get(name)["project"]["motion"]["arrows"][0]["speed"] == 0.8  # the page decides what to do with them
    page.ask("POST", f"/api/projects/{name}/suggest", 400, json={"count": 5000})


def test_without_a_mask_the_stages_before_run_too(page):
    name = page.project(photo(3), motion=ARROWS)
    job = page.ended(page.start(name, stages="s5-s6"))
    assert any(line.startswith("s3: ") for line in job["lines"]), job
    name = page.project()
    job = page.ended(page.start(name, stages="s5-s6", preview=True))
    assert job["state"] == "failed" and "there is no picture yet" in job["error"]
    job = page.ended(page.start(name, stages="s6"))
    assert job["state"] == "failed" and "the prompt is empty" in job["error"]
    page.ask("POST", f"/api/projects/{name}/run", 400, json={"stages": "s9"})
    page.ask("POST", f"/api/projects/{name}/run", 400, json={"stages": "s5-s2"})
    page.ask("POST", f"/api/projects/{name}/mask", 405)
    page.ask("PUT", f"/api/projects/{name}/mask", 409, content=png(lower_half()))


def test_what_a_project_has_no_longer_is_not_used(serving):
    """A mask and arrows that were deleted do not stay in the experiment."""
    page = Page(serving.address)
    name = page.project(photo(4), lower_half(), motion=ARROWS)
    page.done(name, stages="s5-s6")
    folder = serving.studio.store.folder(name)
    assert folder.experiment().given("mask") and folder.experiment().given("motion")
    page.ask("DELETE", f"/api/projects/{name}/mask")
    page.change(name, motion=None)
    assert page.states(name)["s6"] == "stale"
    page.ended(page.start(name, stages="s5"))
    assert not folder.experiment().given("mask") and not folder.experiment().given("motion")


def test_another_picture_takes_the_old_ones_things_with_it(page):
    name = page.project(photo(5), lower_half(), motion=ARROWS)
    page.done(name, stages="s6")
    kept = page.ask("PUT", f"/api/projects/{name}/picture?keep=1", content=png(photo(6)))
    assert kept["size"] == [64, 48] and page.get(name)["project"]["motion"] is not None
    assert page.states(name)["s6"] == "stale"
    page.ask("PUT", f"/api/projects/{name}/picture", content=png(photo(6, (64, 48))))
    now = page.get(name)
    assert now["size"] == [48, 64] and now["project"]["motion"] is None and now["project"]["mask"] is None
    assert set(now["files"]) == {"picture", "thumb", "video"} and now["files"]["video"] == {}


# ---------------------------------------------------------------- two tabs, and a page that listens
def test_two_tabs(page):
    name = page.project(photo())
    first, second = page.get(name), page.get(name)
    saved = page.ask(
        "PUT", f"/api/projects/{name}", json=first["project"] | {"prompt": "sea", "revision": first["revision"]}
    )
    late = page.ask(
        "PUT", f"/api/projects/{name}", 409, json={"revision": second["revision"], "project": {"prompt": "b"}}
    )
    assert late["project"]["prompt"] == "sea" and late["revision"] == saved["revision"]
    again = page.ask("PUT", f"/api/projects/{name}", json={"revision": late["revision"], "project": {"prompt": "b"}})
    assert again["project"]["prompt"] == "b" and again["project"]["picture"] == "picture.png"
    page.ask("PUT", f"/api/projects/{name}", 400, json={"prompt": "without a revision"})
    for wrong in ({"prompt": 5}, {"options": {"inputs.image": "/etc/passwd"}}, {"config": "own.yaml"}, {"style": "x"}):
        page.ask("PUT", f"/api/projects/{name}", 400, json={"revision": again["revision"], "project": wrong})
    page.ask("PUT", f"/api/projects/{name}", 400, content=b"{")
    page.ask("PUT", f"/api/projects/{name}", 413, content=b" " * (9 * 2**20))


def events(page, name, until, start):
    """Messages of the stream until one fits; `start` is called when the stream is open."""
    found = []
    with page.client.stream("GET", f"/api/projects/{name}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                if not found:
                    start()
                found.append(json.loads(line.removeprefix("data: ")))
                if until(found[-1]):
                    return found


def test_a_page_hears_what_happens(page):
    name = page.project(photo(), lower_half(), motion=ARROWS)
    jobs = []
    found = events(
        page,
        name,
        lambda said: said["type"] == "job" and said["job"]["state"] == "done",
        lambda: jobs.append(page.start(name, stages="s5-s6")),
    )
    said = [entry["job"] for entry in found if entry["type"] == "job"]
    assert [entry["state"] for entry in said][0] == "queued" and {entry["id"] for entry in said} == {jobs[0]["id"]}
    assert [entry["stage"] for entry in said if entry["stage"]][0] == "s5"
    frames = [(entry["done"], entry["total"]) for entry in said if entry["stage"] == "s6" and entry["total"]]
    assert (0, 4) in frames and (4, 4) in frames
    found = events(
        page, name, lambda said: said.get("revision", 0) > found[0]["revision"], lambda: page.change(name, seed=5)
    )
    assert found[-1]["type"] == "project"


def test_a_render_is_cancelled_and_the_next_one_runs(page):
    name = page.project(photo(0, LARGER), lower_half(LARGER), motion=None)
    page.change(name, motion={"arrows": [{"path": [[15, 100], [100, 100]]}]}, options=SLOW)
    job, waiting = page.start(name, stages="s5-s6"), page.start(name, stages="s6")
    preview = page.start(name, stages="s5-s6", preview=True)
    newer = page.start(name, stages="s5-s6", preview=True)
    assert page.ask("GET", f"/api/jobs/{preview['id']}")["state"] == "cancelled"
    page.has_begun(job)
    assert page.states(name)["s6"] == "running"
    page.ask("PUT", f"/api/projects/{name}/picture", 409, content=png(photo()))
    for entry in (newer, waiting, job):
        assert page.ask("DELETE", f"/api/jobs/{entry['id']}")["state"] == "cancelled"
    assert "mp4" not in page.get(name)["files"]["video"]
    page.change(name, options=QUICK)
    page.done(name, stages="s6")
    page.ask("DELETE", f"/api/jobs/{job['id']}")  # it stays what it was
    page.ask("GET", "/api/jobs/0000", 404)
    page.ask("DELETE", f"/api/projects/{name}")
    page.ask("GET", f"/api/projects/{name}", 404)
    page.ask("GET", "/api/projects/aaaaaaaa", 404)
    assert page.client.get("/api/projects/..%2f..%2fetc").status_code == 404


def test_a_worker_that_dies_takes_only_its_job(serving):
    page = Page(serving.address)
    name = page.project(photo(0, LARGER), lower_half(LARGER))
    page.change(name, motion={"arrows": [{"path": [[15, 100], [100, 100]]}]}, options=SLOW)
    job, after = page.start(name, stages="s5-s6"), page.start(name, stages="s5")
    page.has_begun(job)
    os.kill(serving.studio.renders.pid, signal.SIGKILL)
    job, after = page.ended(job), page.ended(after)
    assert job["state"] == "failed" and "want of memory" in job["error"] and "\n" not in job["error"]
    assert after["state"] == "done", after
    os.kill(serving.studio.hands.pid, signal.SIGKILL)
    time.sleep(0.2)
    page.ask("PUT", f"/api/projects/{name}/mask", content=png(lower_half(LARGER)))


# ---------------------------------------------------------------- bad uploads
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, rows, depth=8, colour=0, extra=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def saved(image, kind, **more):
    data = io.BytesIO()
    image.save(data, kind, **more)
    return data.getvalue()


def odd_files():
    """(what, bytes, statuses) of fifty files: broken, huge, odd."""
    good = png(photo())
    picture = Image.open(io.BytesIO(good))
    jpeg, gif, webp, tiff, bmp = (saved(picture, kind) for kind in ("JPEG", "GIF", "WEBP", "TIFF", "BMP"))
    yield from (
        (f"{kind} cut", data[: len(data) // 3], (400, 415))
        for kind, data in zip("pjgwtb", (good, jpeg, gif, webp, tiff, bmp))
    )
    yield from (
        (f"{kind} head only", data[:20], (415,)) for kind, data in zip("pjgwtb", (good, jpeg, gif, webp, tiff, bmp))
    )
    rng = np.random.default_rng(0)
    for what, data in zip("pjgw", (good, jpeg, gif, webp)):
        wrong = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(12, 40, 12)
        wrong[places] = rng.integers(0, 255, 12)
        yield f"{what} head damaged", wrong.tobytes(), (200, 400, 413, 415)
    texts = {
        "empty": (b"", (400,)),
        "text": (b"hello", (415,)),
        "html": (b"<script>alert(1)</script>", (415,)),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', (415,)),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n", (415,)),
        "pdf": (b"%PDF-1.7\n", (415,)),
        "zip": (b"PK\x03\x04" + bytes(100), (415,)),
        "zeros": (bytes(10_000), (415,)),
        "noise": (rng.bytes(10_000), (415,)),
        "elf": (b"\x7fELF" + bytes(64), (415,)),
        "mp4": (b"\0\0\0\x18ftypmp42" + bytes(64), (415,)),
        "heic": (b"\0\0\0\x18ftypheic" + bytes(64), (415,)),
        "ppm": (b"P6 64 64 255\n" + bytes(64 * 64 * 3), (415,)),
        "tga": (bytes([0, 0, 2]) + bytes(9) + struct.pack("<HH", 64, 64) + bytes([24, 0]) + bytes(64 * 64 * 3), (415,)),
        "xbm": (b"#define a_width 64\n#define a_height 64\nstatic char a_bits[] = {0x00};", (415,)),
        "psd": (b"8BPS" + bytes(100), (415,)),
        "pickle": (b"\x80\x04\x95" + bytes(20), (415,)),
    }
    yield from ((what, data, statuses) for what, (data, statuses) in texts.items())
    bomb = raw_png(30_000, 30_000, bytes(30_000 // 8 * 60), depth=1)
    yield "png of 900 megapixels", bomb, (413,)
    yield "png of 2^31 px", raw_png(2**31 - 1, 2**31 - 1, b"\0"), (413, 415)
    yield "png of no px", raw_png(0, 0, b""), (400, 415)
    yield "png with too few rows", raw_png(600, 600, bytes(601)), (200, 400, 415)
    text = zlib.compress(bytes(80 * 2**20), 9)
    yield (
        "png with a text that swells",
        raw_png(64, 64, bytes(65 * 64), extra=chunk(b"zTXt", b"a\0\0" + text)),
        (400, 415),
    )
    yield (
        "png with a profile that swells",
        raw_png(64, 64, bytes(65 * 64), extra=chunk(b"iCCP", b"a\0\0" + text)),
        (200, 400, 415),
    )
    frame = saved(picture, "GIF", save_all=True, append_images=[picture.rotate(90)] * 3)
    yield "animated gif", frame, (200,)
    grown = bytearray(gif)
    grown[6:10] = struct.pack("<HH", 65_000, 65_000)
    yield "gif of 4225 megapixels", bytes(grown), (413,)
    small = Image.new("RGB", (3, 3))
    yield "3x3 px", saved(small, "PNG"), (400,)
    yield "1x2000 px", saved(Image.new("L", (1, 2000)), "PNG"), (400,)
    yield "60x2000 px", saved(Image.new("L", (60, 2000)), "PNG"), (400,)
    yield "transparent", saved(picture.convert("RGBA"), "PNG"), (200,)
    yield "cmyk jpeg", saved(picture.convert("CMYK"), "JPEG"), (200,)
    yield "16 bits", png(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20), (200,)
    yield "palette", saved(picture.convert("P"), "PNG"), (200,)
    yield "black and white", saved(picture.convert("1"), "PNG"), (200,)
    floats = np.full((48, 64), np.nan, np.float32)
    yield "tiff of NaN", saved(Image.fromarray(floats), "TIFF"), (400,)
    yield "36 megapixels", saved(Image.new("1", (6000, 6000)), "PNG"), (200,)


def memory_of(pid):
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def test_fifty_bad_uploads(serving):
    page = Page(serving.address)
    name, files = page.project(photo()), list(odd_files())
    assert len(files) >= 50
    before = memory_of(os.getpid())
    for what, data, statuses in files:
        answer = page.client.put(f"/api/projects/{name}/picture", content=data, headers=page.headers)
        assert answer.status_code in statuses, (what, answer.status_code, answer.text[:200])
        if answer.status_code != 200:
            line = answer.json()["error"]
            assert line and "\n" not in line and len(line) < LONGEST_LINE, (what, line)
            assert str(serving.studio.store.root) not in line, line  # nobody needs to know where it lay
    for key in ("mask", "strokes"):
        page.ask("PUT", f"/api/projects/{name}/{key}", 415, content=b"nothing")
        page.ask("PUT", f"/api/projects/{name}/{key}", 400, content=png(lower_half()))  # another shape
    assert memory_of(os.getpid()) - before < 100e6  # the server's own process decodes nothing
    hands = serving.studio.hands.pid
    assert hands is None or memory_of(hands) < HEAVY
    assert page.get(name)["size"] == [6000, 6000]
    assert not list((serving.studio.store.root / name / "incoming").iterdir())


def test_too_many_bytes_are_counted_while_they_come(serving, monkeypatch):
    from text2cinemagraph.demo.studio import api

    page = Page(serving.address)
    name = page.project()
    monkeypatch.setattr(api, "MEGABYTES", 1)
    page.ask("PUT", f"/api/projects/{name}/picture", 413, content=bytes(3 * 2**20))
    page.ask("PUT", f"/api/projects/{name}/picture", 413, content=(bytes(2**18) for _ in range(8)))  # no length said
    page.ask("PUT", f"/api/projects/{name}/picture", 413, content=bytes(5 * 2**20))  # so much is not even read


def test_bad_imports(page):
    before = len(page.ask("GET", "/api/projects"))
    inside = {"picture": "data:image/png;base64,AAAA"}
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"picture": "picture.png"}',
        json.dumps(inside).encode(),
        b'{"config": "x.yaml"}',
    ):
        page.ask("POST", "/api/projects/import", 400, content=content)
    assert len(page.ask("GET", "/api/projects")) == before


# ---------------------------------------------------------------- who may ask
@pytest.mark.parametrize(
    "headers, said",
    [
        ({"host": "evil.example:80"}, "not known by that name"),
        ({"origin": "http://evil.example"}, "Origin"),
        ({"origin": None}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"x-studio-token": "guessed"}, "X-Studio-Token"),
        ({"x-studio-token": None}, "X-Studio-Token"),
        ({"sec-fetch-site": "cross-site"}, "other sites"),
    ],
)
def test_what_is_not_ours_is_refused(page, headers, said):
    sent = {key: value for key, value in (page.headers | headers).items() if value is not None}
    answer = page.client.post("/api/projects", json={}, headers=sent)
    assert answer.status_code == 403 and said in answer.json()["error"]


def test_reading_needs_no_token_but_the_right_name(page):
    assert page.client.get("/api/projects").status_code == 200
    assert page.client.get("/api/projects", headers={"host": "rebound.example"}).status_code == 403
    assert page.client.get("/api/projects", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert page.client.get("/", headers=link).status_code != 403


def test_on_another_address_everything_needs_the_token():
    inner = Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])])
    client = TestClient(Guard(inner, token=TOKEN, host="0.0.0.0"), base_url="http://192.168.1.5:7860")
    assert client.get("/").status_code == 403 and client.get("/?token=guessed").status_code == 403
    assert client.get("/api/projects", headers={"x-studio-token": TOKEN}).text == "in"
    first = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert first.status_code == 303 and first.headers["location"] == "/"
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=strict" in first.headers["set-cookie"]
    assert client.get("/api/projects").text == "in"  # by the cookie
    assert client.post("/api/projects", headers={"origin": "http://192.168.1.5:7860"}).status_code == 403
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 403


def test_a_missing_library_is_told_with_the_install_line(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    run = [sys.executable, "-m", "text2cinemagraph.demo.studio"]
    done = subprocess.run([*run, "--port", "0"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 1 and "pip install -r requirements-studio.txt" in done.stderr
    assert done.stderr.count("\n") == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([*run, "--port", port], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "cannot listen on" in done.stderr and done.stderr.count("\n") == 1


# ---------------------------------------------------------------- kills
START = """
import socket, sys, uvicorn
from text2cinemagraph.demo.studio.api import Studio, make_app
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
app = make_app(Studio(sys.argv[1], "configs/inference_mini_directional.yaml", sys.argv[2]))
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
"""


def test_a_server_killed_in_mid_render_loses_only_the_render(tmp_path):
    words = [sys.executable, "-c", START, str(tmp_path / "studio"), TOKEN]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        page = Page(server.stdout.readline().strip())
        name = page.project(photo(0, LARGER), lower_half(LARGER), prompt="a lake")
        page.change(name, motion={"arrows": [{"path": [[15, 100], [100, 100]]}]}, options=SLOW)
        job = page.start(name, stages="s5-s6")
        page.has_begun(job)
        before, workers = page.get(name), children(server.pid)
        assert len(workers) == 2
    finally:
        server.kill()
        server.wait()
    for _ in range(200):
        if not any(Path("/proc", str(pid)).exists() for pid in workers):
            break
        time.sleep(0.05)
    assert not any(Path("/proc", str(pid)).exists() for pid in workers)  # they do not work on for nobody
    store = Store(tmp_path / "studio")
    assert not [path for path in (tmp_path / "studio").rglob("*.part*")]
    folder = store.folder(name)
    assert folder.project().content() == before["project"] and folder.revision == before["revision"]
    assert folder.experiment().has("flow") and not folder.experiment().has("video")
    assert read_mask(folder.own("own_mask")).shape == (1, *LARGER)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(word) for word in found]


def test_a_task_that_takes_too_long_or_makes_no_sense():
    async def tries():
        hands = Worker("hands")
        try:
            with pytest.raises(TaskFailed, match="a mistake of the program"):
                await hands.call("store")
            with pytest.raises(TaskFailed, match="more than 0.001 seconds"):
                await hands.call("warm_up", clip=True, timeout=0.001)
            assert hands.pid is None
            call = asyncio.create_task(hands.call("warm_up", clip=False))
            while hands.pid is None:
                await asyncio.sleep(0.01)
            await hands.kill()
            with pytest.raises(WorkerDied):
                await call
        finally:
            await hands.kill()

    asyncio.run(tries())


def test_lines_are_handed_on_whole():
    heard = []
    lines = worker.Lines(heard.append)
    print("one", end="", file=lines)
    print(" line\rtwo\n\n three", file=lines)
    assert heard == ["one line", "two", "three"] and re.match(worker.STAGE, "s5: Find") and shown("a") == "a"
