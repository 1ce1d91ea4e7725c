"""project.json: one cinemagraph as the studio keeps it: picture, mask, motion, words, options. And its command line.

    {"format": "text2cinemagraph-project", "version": 1, "config": "configs/inference_mini_directional.yaml",
     "prompt": "", "seed": 23, "picture": "picture.png", "style": "", "mask": "mask.png", "strokes": null,
     "motion": {"size": [640, 427], "arrows": [{"path": [[200, 300], [300, 300]], "speed": 1}], "anchors": []},
     "use_hint": false, "options": {"video.speed": 0.5}}

Pictures are names of files beside project.json, or data URLs, which make the file self-contained. The studio's renders
and `python inference_t2c.py --project project.json` both run what argv() gives. docs/studio.md has the keys as a table.

Such a file may come from anybody: it cannot name files elsewhere, and none of the options that hold a path.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.motion_file import SAME_SHAPE, content_of, motion_of
from text2cinemagraph.options.fields import Kind, check_value, full_name, kind_of, shown
from text2cinemagraph.options.inference import InferenceOptions, TwinExtraction

FORMAT, VERSION = "text2cinemagraph-project", 1
FILE = "project.json"
CONFIG = "configs/inference_mini_directional.yaml"
PICTURES = ("picture", "mask", "strokes")  # keys that hold a picture
LARGEST_FILE = 192 * 2**20  # bytes: a picture of 40 megapixels as PNG in base64, and its mask
LONGEST_PROMPT = 2000  # characters; the text encoders read 77 tokens
LONGEST_TEXT = 1000  # characters of an option
MOST_ENTRIES = 64  # of an option that is a list
PLAIN_FILE = r"[\w][\w .+-]{0,99}"  # a file's own name, without a folder
LOOK = r"[\w -]{0,40}"
# Options that are words for a model; every other free text is a path, a device or a network, and not a project's.
TEXTS = ("twin_generation.prompt", "twin_generation.negative_prompt", "odise.vocab")
# Keys of their own in project.json, or of one run and not of the project.
WITHHELD = ("twin_extraction.seed", "optical_flow.use_hint", "optical_flow.suggest", "video.preview")
WITHHELD_SECTIONS = ("inputs",)


@dataclass(frozen=True)
class Project:
    """What project.json says; made by project_of, which checks it.

    config: a YAML.   picture, mask, strokes: a file's name, a data URL, or "" for none.   style: a look of painters/,
    or "".   motion: the content of a motion.json, or None.   options: {"section.key": value}.
    """

    config: str = CONFIG
    prompt: str = ""
    seed: int = 23
    picture: str = ""
    style: str = ""
    mask: str = ""
    strokes: str = ""
    motion: dict | None = None
    use_hint: bool = False
    options: dict = field(default_factory=dict)

    def content(self) -> dict:
        """The dict that project.json holds."""
        content = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(self)
        return {key: None if key in PICTURES and not value else value for key, value in content.items()}


@dataclass(frozen=True)
class Files:
    """Where the files of a project lie; None for what it does not have."""

    picture: Path | None = None
    mask: Path | None = None
    strokes: Path | None = None
    motion: Path | None = None


# ---------------------------------------------------------------- reading
def read_project(path: str | Path) -> tuple[Project, Path]:
    """The project in a file, or in the project.json of a folder, and the file's path.

    Raises FileNotFoundError, or ValueError in one line that names the file and the key which is wrong.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no project at {path}; expected a project.json, as the studio saves and exports it")
    if path.stat().st_size > LARGEST_FILE:
        megabytes, most = path.stat().st_size >> 20, LARGEST_FILE >> 20
        raise ValueError(f"{path} has {megabytes} MB; expected a project of at most {most} MB")
    try:
        return project_of(parsed(path.read_bytes())), path
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parsed(data: bytes) -> Any:
    """Bytes of JSON, with ValueError in one line for what is none."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON ({shown(str(error), 60)}); expected a project.json") from error


def project_of(content: Any) -> Project:
    """Check the content of a project.json.  Raises ValueError that names the key which is wrong."""
    if not isinstance(content, dict):
        raise ValueError(f"expected a project, an object with the key format, found a {type(content).__name__}")
    if content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"format is {shown(content['format'])}; expected {FORMAT}")
    if content.get("version", VERSION) != VERSION:
        raise ValueError(f"version is {shown(content['version'], 20)}; this program reads version {VERSION}")
    known = [f.name for f in dataclasses.fields(Project)]
    unknown = sorted(set(content) - {*known, "format", "version"})
    if unknown:
        raise ValueError(f"the key {shown(unknown[0], 40)!r} is unknown; expected {', '.join(known)}")
    given = {key: content[key] for key in known if content.get(key) is not None}
    for key in given.keys() & CHECKS.keys():
        given[key] = CHECKS[key](key, given[key])
    return Project(**given)


def _text(key, value, longest, pattern="", expected=""):
    check_value(key, value, Kind(str), {"pattern": f"(?s){pattern}" if pattern else "", "expected": expected})
    if len(value) > longest or "\0" in value:
        raise ValueError(f"{key}: expected at most {longest} characters of text, found {len(value)}")
    return value


def _config(key, value):
    if (
        not isinstance(value, str)
        or len(value) > LONGEST_TEXT
        or ".." in Path(value).parts
        or not re.fullmatch(r"[\w+-]+|[\w./\\: +-]*\.ya?ml", value)
    ):
        raise ValueError(f"{key}={shown(value)}: expected a YAML such as {CONFIG}")
    return value


def _seed(key, value):
    limits = next(f.metadata for f in dataclasses.fields(TwinExtraction) if f.name == "seed")
    check_value(key, value, Kind(int), limits)
    return value


def _picture(key, value):
    """A name, or a data URL, whose content is looked at when it is unpacked."""
    if isinstance(value, str) and value.startswith("data:"):
        if not re.match(r"data:image/[\w.+-]{1,30};base64,", value):
            raise ValueError(f"{key}: expected a data URL of a picture (data:image/png;base64,...), found {value[:40]}")
        return value
    if value == "":
        return value
    if not isinstance(value, str) or not re.fullmatch(PLAIN_FILE, value):
        raise ValueError(f"{key}={shown(value)}: expected the name of a picture beside project.json, or a data URL")
    return value


def _motion(key, value):
    if not isinstance(value, dict):
        raise ValueError(f"{key}: expected an object, the content of a motion.json, found a {type(value).__name__}")
    if isinstance(value.get("mask"), str):
        raise ValueError(f"{key}.mask: expected polygons; a picture of what may move goes to the key mask")
    value = {name: part for name, part in value.items() if part is not None}
    if not any(value.get(name) for name in ("arrows", "anchors", "mask", "may_move", "must_not_move")):
        motion_of(value | {"anchors": [[0, 0]]}, Path())  # nothing is drawn yet; the rest is checked all the same
        return None
    try:
        return content_of(motion_of(value, Path()))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _use_hint(key, value):
    check_value(key, value, Kind(bool), {})
    return value


@functools.cache
def settable() -> dict[str, tuple[Any, Kind]]:
    """{"section.key": (dataclass field, Kind)} of the options that a project may set."""
    found = {}
    for section in dataclasses.fields(InferenceOptions):
        cls = kind_of(InferenceOptions, section.name).scalar
        for entry in dataclasses.fields(cls):
            name, kind = full_name(cls, entry.name), kind_of(cls, entry.name)
            free = kind.scalar is str and not entry.metadata.get("choices")
            if section.name not in WITHHELD_SECTIONS and name not in WITHHELD and (not free or name in TEXTS):
                found[name] = entry, kind
    return found


def _options(key, value):
    if not isinstance(value, dict):
        raise ValueError(f"{key}: expected an object such as {{'video.speed': 0.5}}, found a {type(value).__name__}")
    for name, entry in value.items():
        if name not in settable():
            raise ValueError(f"{key}: {shown(name)} is no option that a project may set; docs/studio.md says which are")
        declared, kind = settable()[name]
        if isinstance(entry, str):
            _text(name, entry, LONGEST_TEXT)
        if isinstance(entry, list) and len(entry) > MOST_ENTRIES:
            raise ValueError(f"{name}: expected at most {MOST_ENTRIES} entries, found {len(entry)}")
        check_value(name, entry, kind, declared.metadata)
    return dict(value)


CHECKS = {
    "config": _config,
    "prompt": lambda key, value: _text(key, value, LONGEST_PROMPT),
    "seed": _seed,
    "picture": _picture,
    "style": lambda key, value: _text(key, value, 40, LOOK, "the name of a look, such as oil"),
    "mask": _picture,
    "strokes": _picture,
    "motion": _motion,
    "use_hint": _use_hint,
    "options": _options,
}


# ---------------------------------------------------------------- writing
def write_project(path: str | Path, project: Project) -> None:
    """Write project.json, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(project.content(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def self_contained(project: Project, folder: str | Path) -> Project:
    """The same project with its pictures, which lie in `folder`, as data URLs."""
    held: dict[str, Any] = {}
    for key in PICTURES:
        name = getattr(project, key)
        if name and not name.startswith("data:"):
            data = base64.b64encode((Path(folder) / name).read_bytes()).decode()
            held[key] = f"data:image/png;base64,{data}"
    return dataclasses.replace(project, **held)


def unpacked(project: Project, folder: str | Path, into: str | Path, max_megapixels: float | None = None) -> Files:
    """The files of a project that lies in `folder`; what it holds itself (data URLs, motion) is written to `into`.

    max_megapixels: of a picture in a data URL; None = data.pictures.MAX_MEGAPIXELS.
    Raises FileNotFoundError or ValueError, in one line, for a picture that is not there or none.
    """
    folder, into, found = Path(folder), Path(into), {}
    for key in PICTURES:
        value = getattr(project, key)
        if value.startswith("data:"):
            found[key] = into / f"{key}.png"
            _unpack_url(key, value, found[key], max_megapixels)
        elif value:
            found[key] = folder / value
            if not found[key].is_file():
                raise FileNotFoundError(f"no {key} at {found[key]}; project.json names a file that must lie beside it")
    if project.motion:
        from text2cinemagraph.data.motion_file import write_motion_file

        found["motion"] = into / "motion.json"
        write_motion_file(found["motion"], motion_of(project.motion, into))
    return Files(**found)


def _unpack_url(key, url, target, max_megapixels):
    """A picture out of a data URL, decoded and written anew as PNG."""
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(
            f"{key}: the data URL is damaged ({shown(str(error), 60)}); export the project again"
        ) from error
    with tempfile.TemporaryDirectory() as apart:
        raw = Path(apart, key)
        raw.write_bytes(data)
        try:
            store_picture(key, raw, target, max_megapixels=max_megapixels)
        except ValueError as error:
            raise ValueError(str(error).replace(str(raw), f"the project's {key}")) from error


def store_picture(
    key: str, source: Path, target: Path, *, size: tuple[int, int] | None = None, max_megapixels: float | None = None
) -> tuple[int, int]:
    """Read a picture file that somebody handed in and write its pixels anew as PNG.  Returns its (H, W).

    key: one of PICTURES: a picture becomes RGB in sRGB, of an animation the first frame; a mask black and white;
    strokes keep their transparency.   size: (H, W) of the picture below a mask or strokes: they are brought to it.
    max_megapixels: None = data.pictures.MAX_MEGAPIXELS.   Raises ValueError in one line.
    """
    import numpy as np
    from PIL import Image
    from text2cinemagraph.data.masks import moving_pixels
    from text2cinemagraph.data.pictures import MAX_MEGAPIXELS, check_sides, open_picture, to_rgb

    picture = open_picture(source, "picture" if key == "picture" else key, max_megapixels or MAX_MEGAPIXELS)
    if key == "picture":
        check_sides(picture.size[::-1], source)
        pixels = np.asarray(to_rgb(picture, source))
    elif key == "mask":
        pixels = moving_pixels(picture, source).astype(np.uint8) * 255
    else:
        pixels = np.asarray(picture.convert("RGBA"))
    stored = Image.fromarray(pixels)
    if size is not None and pixels.shape[:2] != tuple(size):
        if abs(pixels.shape[1] * size[0] / (pixels.shape[0] * size[1]) - 1) > SAME_SHAPE:
            found, wanted = (f"{s[1]}x{s[0]}" for s in (pixels.shape, size))
            raise ValueError(f"the {key} is {found} px, the picture {wanted}; draw it on that picture")
        stored = stored.resize(size[::-1], Image.Resampling.NEAREST)
    with atomic(target) as temporary:
        stored.save(temporary)
    return stored.size[::-1]


# ---------------------------------------------------------------- the command line
def argv(
    project: Project,
    files: Files,
    *,
    root: str | Path,
    name: str,
    stages: str = "",
    extra: Iterable[str] = (),
) -> list[str]:
    """The words of inference_t2c.py that render a project.

    files: where its files lie (unpacked).   root, name: the experiment folder is root/name.   stages: for --stage, ""
    for all.   extra: further section.key=value, which win.
    """
    flags: Mapping[str, Any] = {
        "config": project.config,
        "prompt": project.prompt,
        "name": name,
        "stage": stages or None,
        "image": files.picture,
        "style": project.style or None,
        "mask": files.mask,
        # Strokes are what a mask was made from, where there is one.
        "mask_strokes": files.strokes if files.mask is None and files.picture is not None else None,
        "arrows": files.motion,
    }
    words = [word for flag, value in flags.items() if value is not None for word in _flag(flag, str(value))]
    words += [f"twin_extraction.seed={project.seed}", f"optical_flow.use_hint={_word(project.use_hint)}"]
    words += [f"{key}={_word(value)}" for key, value in project.options.items()]
    return [*words, *extra, f"twin_extraction.exp_path_root={root}"]


def _flag(flag, value):
    return [f"--{flag}={value}"] if value.startswith("-") else [f"--{flag}", value]


def _word(value):
    """An option's value as the command line has it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
