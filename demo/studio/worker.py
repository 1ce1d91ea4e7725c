"""The process that computes for the studio: reads tasks as lines of JSON, answers with lines of JSON.

    python -m text2cinemagraph.demo.studio.worker renders|hands

Two such processes run. "renders" makes what the six stages make and keeps their networks. "hands" answers at once what
a hand at the mouse waits for (the flow of the arrows, a mask of scribbles) and reads what people upload, so that a file
that makes a decoder take memory, or die, takes nothing from the server.

A task is {"id", "do", ...}. Answers are {"id", "line"} for what is printed, {"id", "stage"}, {"id", "done", "total",
"what"} for progress, and last {"id", "result", "memory"} or {"id", "error", "memory"}. Where the task list ends,
because the server is gone, the process ends too, in the middle of a render if need be: files are written atomically.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import queue
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tqdm
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.artifacts import OWN_MEGAPIXELS
from text2cinemagraph.data.notes import forget_told
from text2cinemagraph.options.cli import one_line, told
from text2cinemagraph.pipeline.networks import Networks

STAGE = re.compile(rf"({'|'.join(stage.name for stage in inference_t2c.STAGES)}): ")
PREVIEW_SIDE = 384  # px of the short side of the picture that a preview is made from, as pipeline.animating.PREVIEW
THUMB = 256  # px, longer side


class Refused(ValueError):
    """A file that is not taken.  status: of the HTTP answer."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class Lines(io.TextIOBase):
    """A stdout that hands on whole lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._rest = tell, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text.replace("\r", "\n")).split("\n")
        for line in lines:
            if line.strip():
                self._tell(line.strip())
        return len(text)


# ---------------------------------------------------------------- what "renders" does
def render(task: dict, shelf: Networks) -> dict:
    """Run a command line of inference_t2c.py.

    words: its arguments.   small: [[from, to]], pictures to be had at preview size first.
    """
    from text2cinemagraph.data.media import read_image, resize_image, write_image

    for source, target in task.get("small", ()):
        if not Path(target).is_file() or os.stat(target).st_mtime_ns <= os.stat(source).st_mtime_ns:
            image = read_image(source)
            scale = min(1, PREVIEW_SIDE / min(image.shape[-2:]))
            size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
            write_image(target, resize_image(image, size).clamp(0, 1))
    inference_t2c.main(task["words"], networks=shelf)
    return {}


def warm_up(task: dict, shelf: Networks) -> dict:
    """Load, and compile where it must be, what the first task would wait for.  clip: whether that makes a clip."""
    import text2cinemagraph.data.animation  # noqa: F401
    import text2cinemagraph.data.summary  # noqa: F401
    import text2cinemagraph.pipeline.moving  # noqa: F401
    import text2cinemagraph.pipeline.own_files  # noqa: F401
    import torch
    from text2cinemagraph.data.arrows import sample_arrows
    from text2cinemagraph.data.harmonic import harmonic_flow
    from text2cinemagraph.data.motion_file import parse_arrows
    from text2cinemagraph.models.traced import traced_frames

    mask = torch.ones(1, 32, 32, dtype=torch.bool)
    found = harmonic_flow(mask, sample_arrows(parse_arrows("8,16>24,16"), mask))
    if task["clip"]:
        list(traced_frames(torch.rand(3, 32, 32), found, mask, 2))
    return {}


# ---------------------------------------------------------------- what "hands" does
def looks(task: dict, shelf: Networks) -> dict:
    """The names of the looks that --style takes."""
    from text2cinemagraph.painters.looks import LOOKS

    return {"looks": list(LOOKS)}


def store(task: dict, shelf: Networks) -> dict:
    """Read a picture that somebody uploaded and write its pixels anew.

    key: picture, mask or strokes.   source, target: paths.   size: [H, W] that it must have, or null.   megapixels: the
    most.   thumb: where a small copy goes, or null.   Returns {"size": [W, H]}.
    """
    from text2cinemagraph.data.pictures import opened
    from text2cinemagraph.data.project import store_picture

    source, key = Path(task["source"]), task["key"]
    try:
        with opened(source, key, 1e9) as picture:
            width, height = picture.size
    except ValueError as error:
        raise Refused(str(error).replace(str(source), f"the {key}"), 415) from error
    if width * height > task["megapixels"] * 1e6:
        raise Refused(
            f"the {key} is {width}x{height} px ({width * height / 1e6:.0f} megapixels); expected at most "
            f"{task['megapixels']:g}; make it smaller",
            413,
        )
    size = tuple(task["size"]) if task.get("size") else None
    try:
        height, width = store_picture(key, source, Path(task["target"]), size=size, max_megapixels=task["megapixels"])
    except ValueError as error:
        status = 415 if "not a readable" in str(error) else 400
        raise Refused(str(error).replace(str(source), f"the {key}"), status) from error
    if task.get("thumb"):
        thumbnail(task["target"], task["thumb"])
    return {"size": [width, height]}


def thumbnail(source: str, target: str) -> None:
    """A small copy of a picture of ours."""
    from text2cinemagraph.data.files import atomic
    from text2cinemagraph.data.pictures import open_picture

    picture = open_picture(source).convert("RGB")
    picture.thumbnail((THUMB, THUMB))
    with atomic(target) as temporary:
        picture.save(temporary)


def unpack(task: dict, shelf: Networks) -> dict:
    """Lay out a project.json that holds its pictures.

    source: the file.   folder: where they go.   megapixels: the most.   Returns {"project": its content}.
    """
    import dataclasses

    from text2cinemagraph.data.project import PICTURES, read_project, unpacked

    try:
        project, _ = read_project(task["source"])
        for key in PICTURES:
            if (value := getattr(project, key)) and not value.startswith("data:"):
                raise Refused(
                    f"{key}={value}: the file is not in this project.json; export the project, or drop both", 400
                )
        files = unpacked(dataclasses.replace(project, motion=None), task["folder"], task["folder"], task["megapixels"])
    except ValueError as error:
        raise Refused(str(error).replace(f"{task['source']}: ", ""), getattr(error, "status", 400)) from error
    if files.picture:
        thumbnail(str(files.picture), str(Path(task["folder"], "thumb.png")))
    held = {key: getattr(files, key).name for key in PICTURES if getattr(files, key)}
    return {"project": dataclasses.replace(project, **held).content()}


def complete(task: dict, shelf: Networks) -> dict:
    """The mask that scribbles stand for.  picture, strokes, target: paths."""
    from text2cinemagraph.data.media import read_image, write_mask
    from text2cinemagraph.data.strokes import read_strokes
    from text2cinemagraph.img2img.edges import from_strokes

    image = read_image(task["picture"])
    try:
        moves, still = read_strokes(task["strokes"], tuple(image.shape[-2:]))
    except ValueError as error:
        raise ValueError(str(error).replace(str(task["strokes"]), "the scribble")) from error
    write_mask(task["target"], from_strokes(image, moves, still))
    return {}


_masks: dict[tuple, Any] = {}  # the last small mask: a hand drags an arrow many times over the same one


def flow(task: dict, shelf: Networks) -> dict:
    """The flow that s5 would give, at a small size: of arrows without a network, or the one that lies there.

    motion: content of a motion.json, or null.   mask: path.   flow: path of a flow.npz in place of the arrows, or null.
    short_side: px.   Returns {"flow": float32 [2,H,W] little-endian in base64, "width", "height", "scale"}.
    """
    import numpy as np
    import torch
    from PIL import Image
    from text2cinemagraph.data.arrows import sample_arrows
    from text2cinemagraph.data.flow import read_flow, resize_flow
    from text2cinemagraph.data.harmonic import harmonic_flow
    from text2cinemagraph.data.motion_file import motion_of
    from text2cinemagraph.data.pictures import open_picture

    with torch.inference_mode():
        if task.get("flow"):
            full = read_flow(task["flow"])
            size, scale = _small(full.shape[-2:], task["short_side"])
            found = resize_flow(full, size)
        else:
            state = os.stat(task["mask"])
            key = task["mask"], state.st_mtime_ns, state.st_size, task["short_side"]
            if key not in _masks:
                _masks.clear()
                full = open_picture(task["mask"], "mask", OWN_MEGAPIXELS).convert("L")  # ours: black and white
                size, scale = _small(full.size[::-1], task["short_side"])
                share = torch.from_numpy(np.array(full.resize(size[::-1], Image.Resampling.BOX)))[None]
                _masks[key] = share > 127 if (share > 127).any() else share > 0, scale
            mask, scale = _masks[key]
            motion = motion_of(task["motion"], Path()).at_size(mask.shape[-2:])
            found = harmonic_flow(mask, sample_arrows(motion, mask), FLOW_CELLS)
    values = found.contiguous().numpy().astype("<f4")
    height, width = values.shape[1:]
    return {"flow": base64.b64encode(values.tobytes()).decode(), "width": width, "height": height, "scale": scale}


FLOW_CELLS = 80 * 80  # of harmonic_flow's grid: a quarter of s5's, so that the answer follows the hand


def _small(size, short_side):
    """(size with that short side, never larger than it is; the factor)."""
    scale = min(1.0, short_side / min(size))
    return tuple(max(1, round(side * scale)) for side in size), scale


def suggested(task: dict, shelf: Networks) -> dict:
    """A motion.json that s5 left, for a picture of another size.  path.   size: [H, W].   Returns {"motion"}."""
    from text2cinemagraph.data.motion_file import content_of, read_motion_file

    return {"motion": content_of(read_motion_file(task["path"]).at_size(tuple(task["size"])))}


TASKS: dict[str, Callable[[dict, Networks], dict]] = {
    function.__name__: function for function in (render, warm_up, looks, store, unpack, complete, flow, suggested)
}


# ---------------------------------------------------------------- the process
class Desk:
    """Takes tasks from stdin and answers on what was stdout."""

    def __init__(self, shelf: Networks) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # whatever a library in C prints is no answer
        self._tasks: queue.Queue = queue.Queue()
        self._shelf, self._id = shelf, None
        sys.stdout = Lines(self._line)
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: self._line(str(message))
        desk = self

        def display(bar, msg=None, pos=None):
            desk.say(done=bar.n, total=bar.total, what=bar.desc.removesuffix(": ") if bar.desc else "")

        tqdm.tqdm.display = display
        # The bar itself goes nowhere.
        tqdm.tqdm.__init__ = functools.partialmethod(tqdm.tqdm.__init__, file=io.StringIO())

    def say(self, **answer: Any) -> None:
        self._out.write(json.dumps({"id": self._id, **answer}) + "\n")

    def _line(self, line):
        stage = STAGE.match(line)
        if stage:
            self.say(stage=stage[1])
        self.say(line=line)

    def _read(self):
        for line in sys.stdin:
            self._tasks.put(json.loads(line))
        os._exit(0)  # the server is gone

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            task = self._tasks.get()
            self._id = task["id"]
            forget_told()
            try:
                answer = {"result": TASKS[task["do"]](task, self._shelf)}
            except Exception as error:
                if told(error) is None:
                    traceback.print_exc()
                line = (
                    told(error) or f"{type(error).__name__}: {error} (a mistake of the program; the terminal has more)"
                )
                answer = {"error": one_line(line), "status": getattr(error, "status", 400)}
            self.say(**answer, memory=memory())


def memory() -> int:
    """Bytes that this process holds for itself alone; 0 where the system does not say."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    Desk(Networks(keep_all="lean" not in sys.argv[1:])).run()
