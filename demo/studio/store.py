"""The studio's projects on disk: one folder each, whose name the server draws; no path of a client comes here."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import string
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from text2cinemagraph.data import files
from text2cinemagraph.data.artifacts import Clip, Flow, Tensors
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.files import atomic, make_folder, read_json, remove_leftovers
from text2cinemagraph.data.project import FILE, PICTURES, Project, read_project, write_project
from text2cinemagraph.inference_t2c import ARTIFACTS

LETTERS, ID = string.ascii_lowercase + string.digits, re.compile(r"[a-z0-9]{8}")
STATE = "studio.json"  # beside project.json: what only the server needs
# What a project's own files are called outside, and on disk; "mask" is the stages', "own_mask" the painted one.
OWN = {"picture": "picture.png", "own_mask": "mask.png", "strokes": "strokes.png"}
OWN |= {"thumb": "thumb.png", "completed": "completed.png"}
EXPERIMENTS = ("experiment", "preview", "suggested")  # the final render; a small one; s5's suggestions
VIDEOS = ("mp4", "webm", "gif", "webp", "apng")


class Watched(Experiment):
    """An experiment folder whose files' digests are remembered as long as the files stay as they are."""

    def digest(self, artifact: str) -> str:
        state = self.path(artifact).stat()
        return _digest(self.path(artifact), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _digest(path, modified, size):
    return files.sha256(path)


def digest_of(path: Path) -> str:
    """sha256 of a file, remembered as long as it stays as it is."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


class Folder:
    """One project's folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.id = path, path.name

    def project(self) -> Project:
        return read_project(self.path / FILE)[0]

    @property
    def revision(self) -> int:
        """Counts the saves, so that two tabs do not write over each other."""
        state = self.path / STATE
        return read_json(state, "delete it").get("revision", 0) if state.is_file() else 0

    def save(self, project: Project) -> int:
        """Write project.json.  Returns the new revision."""
        write_project(self.path / FILE, project)
        return self.touch()

    def touch(self) -> int:
        """Count a change, of project.json or of a file beside it.  Returns the new revision."""
        revision = self.revision + 1
        with atomic(self.path / STATE) as temporary:
            temporary.write_text(json.dumps({"revision": revision}) + "\n")
        return revision

    def experiment(self, kind: str = EXPERIMENTS[0]) -> Watched:
        return Watched(self.path, kind, ARTIFACTS)

    def own(self, name: str) -> Path:
        """Where a file of OWN lies."""
        return self.path / OWN[name]

    def file_of(self, name: str) -> Path | None:
        """The file behind the name of an artifact; None for a name that is none. It need not be there.

        Names: those of OWN, of the stages' artifacts, "video.webm" and its like, "preview", "summary", "motion".
        """
        if name in OWN:
            return self.own(name)
        if name == "preview":
            return self.experiment("preview").path("video")
        experiment = self.experiment()
        stem, _, suffix = name.partition(".")
        if stem == "video" and suffix in ("", *VIDEOS):
            return experiment.path("video").with_suffix(f".{suffix or VIDEOS[0]}")
        artifact = experiment.artifacts.get(name)
        return None if artifact is None or isinstance(artifact, Tensors) else experiment.path(name)

    def there(self) -> dict[str, Path]:
        """{name: file} of all that there is to be fetched."""
        names = [*OWN, "preview", *(f"video.{kind}" for kind in VIDEOS)]
        names += [a.name for a in self.experiment().artifacts.values() if not isinstance(a, (Tensors, Clip, Flow))]
        found = {name: self.file_of(name) for name in names}
        return {name: path for name, path in found.items() if path is not None and path.is_file()}

    def size(self) -> tuple[int, int] | None:
        """(width, height) of the picture: the project's own, else the one that s1 made; None without any."""
        project = self.project()
        path = self.path / project.picture if project.picture else self.experiment().path("image")
        return png_size(path) if path.is_file() else None

    def drop_renders(self) -> None:
        """Remove what was made of an earlier picture."""
        for kind in EXPERIMENTS:
            shutil.rmtree(self.path / kind, ignore_errors=True)
        self.own("completed").unlink(missing_ok=True)

    def incoming(self) -> Path:
        """A name for a file that is being received."""
        folder = self.path / "incoming"
        make_folder(folder)
        return folder / secrets.token_hex(8)


def png_size(path: Path) -> tuple[int, int]:
    """(width, height) in the header of a PNG that we wrote."""
    with open(path, "rb") as file:
        head = file.read(24)
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


class Store:
    """All projects below one folder."""

    def __init__(self, root: str | Path) -> None:
        """Create the folder; remove what a server that was killed left half written."""
        self.root = Path(root)
        make_folder(self.root)
        for folder in self.folders():
            shutil.rmtree(folder.path / "incoming", ignore_errors=True)
            for place in (folder.path, *(folder.path / kind for kind in EXPERIMENTS)):
                remove_leftovers(place)

    def folders(self) -> list[Folder]:
        """The newest first."""
        found = [path for path in self.root.iterdir() if ID.fullmatch(path.name) and (path / FILE).is_file()]
        return [Folder(p) for p in sorted(found, key=lambda p: (p / FILE).stat().st_mtime_ns, reverse=True)]

    def folder(self, name: str) -> Folder | None:
        """The project of that id, or None."""
        known = ID.fullmatch(name) and (self.root / name / FILE).is_file()
        return Folder(self.root / name) if known else None

    def create(self, project: Project) -> Folder:
        """A new project."""
        name = "".join(secrets.choice(LETTERS) for _ in range(8))
        folder = Folder(self.root / name)
        make_folder(folder.path)
        folder.save(replace(project, **{key: "" for key in PICTURES}))
        return folder

    def remove(self, folder: Folder) -> None:
        shutil.rmtree(folder.path)
