"""Renders scenes in other processes while a training goes on here, and hands them over as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cv2
import numpy as np
from text2cinemagraph.mini.captions import wordings
from text2cinemagraph.mini.procedural import STYLES, caption
from text2cinemagraph.mini.scene import Scene
from text2cinemagraph.mini.styles import stylize

if TYPE_CHECKING:
    from text2cinemagraph.mini.procedural import Job

_words = None  # in the processes: captions -> tokens


@dataclass(frozen=True)
class Rendered:
    """One scene in all its looks: the natural picture first.

    pictures uint8 [k,H,W,3]; looks: 0 = natural, 1.. = STYLES; label uint8 [H,W]; tokens int16 [k,wordings,words].
    """

    pictures: np.ndarray
    looks: list
    label: np.ndarray
    tokens: np.ndarray


def render_scene(job: Job, count: int, tokenize: Callable[[list[str]], np.ndarray]) -> Rendered:
    """Rendered of a Job.  count: captions per picture.   tokenize(captions): int [n,words]."""
    scene, looks = Scene(job.scene_seed, size=job.size, edition=job.edition), (None, *job.styles)
    pictures = [scene.image, *(stylize(scene, style, job.edition) for style in job.styles)]
    told = {
        "kind": scene.kind,
        "light": scene.light,
        "things": scene.things,
        "captions": {style or "natural": caption(scene, style) for style in looks},
    }
    rng = np.random.default_rng([job.scene_seed, 98])
    captions = [words for style in looks for words in wordings(told, style, rng, count)]
    tokens = np.asarray(tokenize(captions), np.int16).reshape(len(looks), count, -1)
    return Rendered(
        np.stack([np.uint8(np.round(picture * 255)) for picture in pictures]),
        [0 if style is None else 1 + STYLES.index(style) for style in looks],
        scene.labels,
        tokens,
    )


class SceneStream:
    """Scenes that are rendered in `workers` processes; collect() takes those that are finished.

    Start it before anything touches a GPU: its processes are forked.   jobs: iterator of Jobs.   count, tokenize: as of
    render_scene.   A process that dies ends the stream, not the training.
    """

    def __init__(
        self, jobs: Iterable[Job], workers: int, count: int, tokenize: Callable[[list[str]], np.ndarray]
    ) -> None:
        self._jobs, self._count, self._pending = iter(jobs), count, []
        self.workers, self.failure = workers, ""
        cv2.setNumThreads(
            1
        )  # here too, before forking: OpenCV's threads would be missed, and waited for, by the processes
        self._pool = ProcessPoolExecutor(workers, get_context("fork"), _start_worker, (tokenize,))
        self._fill()

    def _fill(self):
        try:
            while len(self._pending) < 4 * self.workers and (job := next(self._jobs, None)):
                self._pending.append(self._pool.submit(_render, job, self._count))
        except (BrokenProcessPool, RuntimeError) as error:
            self.failure = str(error)

    def collect(self, wait: bool = False) -> list[Rendered]:
        """The finished scenes, oldest first; wait: for one at least, if any is on its way."""
        if wait and self._pending:
            self._pending[0].exception()
        done, self._pending = (
            [f for f in self._pending if f.done()],
            [f for f in self._pending if not f.done()],
        )
        found = []
        for future in done:
            if error := future.exception():
                self.failure = f"{type(error).__name__}: {error}"
            else:
                found.append(future.result())
        if not self.failure:
            self._fill()
        return found

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return not self._pending

    def close(self) -> None:
        """Drop what is unfinished."""
        self._jobs, self._pending = iter(()), []
        self._pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(tokenize):
    global _words
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(10)  # whoever trains comes first: its GPU waits for every launch
    cv2.setNumThreads(1)  # one process per core already
    _words = tokenize


def _render(job, count):
    return render_scene(job, count, _words)
