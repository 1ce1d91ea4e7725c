"""Jobs of a batch: each is a command line of inference_t2c.py with a name; from a list in JSON lines, or from prompts
and pictures times seeds.
"""

from __future__ import annotations

import difflib
import functools
import glob
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from text2cinemagraph.data.files import sha256
from text2cinemagraph.data.hint import find_direction
from text2cinemagraph.jobs.records import content_key
from text2cinemagraph.options.fields import shown
from text2cinemagraph.options.places import located_config
from text2cinemagraph.options.text_files import read_lines

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NAME = re.compile(r"(?![. ])[\w .+-]{1,120}")
# What a line may say, and the flag of inference_t2c.py that it becomes.
FILES = {
    "image": "--image",
    "mask": "--mask",
    "mask_strokes": "--mask_strokes",
    "arrows": "--arrows",
    "flow": "--flow",
    "project": "--project",
}
TEXTS = {"prompt": "--prompt", "style": "--style", "stage": "--stage"}
OTHERS = ("id", "title", "seed", "use_hint", "config", "options")
# Options that decide which networks are loaded: jobs that agree in them come one after the other.
LOADING = re.compile(r"(runtime|odise|painting)\.|twin_extraction\.(ckpt|ema|tokenizer)|\w+\.(hint_)?model_name")
WATER = {"river", "waterfall", "lake", "sea", "ocean", "stream", "water", "waves"}


@dataclass(frozen=True)
class Job:
    """One cinemagraph to make.

    name: its folder.   title: for pages.   words: the command line of inference_t2c.py without --config and --name.
    line: where in the list it stands, from 1; 0 = in none.   said: what the line says.   broken: why there is no job.
    """

    name: str
    title: str
    words: tuple[str, ...]
    config: str = "configs/inference_mini.yaml"
    line: int = 0
    said: Any = field(default=None, compare=False)
    broken: str = ""

    def argv(self, root: str | Path) -> list[str]:
        """The whole command line; the job's folder is made in `root`."""
        place = f"twin_extraction.exp_path_root={root}"
        return ["--config", str(self.config), "--name", self.name, *self.words, place]

    def key(self) -> str:
        """What the result depends on: the words, the bytes of the files they name, the configuration, this version."""
        words = [_with_digest(word) for word in (*self.words, f"config={located_config(self.config)}")]
        return content_key({"words": words, "version": our_version()})

    def networks(self) -> tuple:
        """Jobs that agree in this use the same networks, as far as the words tell."""
        options = sorted(word for word in self.words if LOADING.match(word))
        return str(self.config), "--use_hint" in self.words, "--image" in self.words, options

    def goes_on(self) -> bool:
        """Whether it begins after s1, from what is in its folder already."""
        stage = self.words[self.words.index("--stage") + 1] if "--stage" in self.words else "all"
        return stage != "all" and not stage.startswith("s1")


@functools.cache
def our_version() -> str:
    """The version of this package."""
    try:
        return version("text2cinemagraph")
    except PackageNotFoundError:
        return "not installed"


def _with_digest(word) -> str:
    """The word; where it, or what it sets an option to, is a file: that file's digest."""
    head, equals, tail = word.partition("=")
    for before, text in (("", word), (f"{head}=", tail)):
        path = Path(text)
        if 0 < len(text) < 1000 and path.suffix and "\n" not in text and "\0" not in text and path.is_file():
            stat = path.stat()
            return before + _digest(str(path), stat.st_mtime_ns, stat.st_size)
    return word


@functools.lru_cache(maxsize=65536)
def _digest(path, changed, size) -> str:
    """Of one state of a file: many jobs name the same one."""
    return sha256(path)


# ---------------------------------------------------------------------- a list in JSON lines


def read_jobs(path: str | Path, config: str, overrides: Sequence[str] = ()) -> list[Job]:
    """The jobs of a file with one JSON object a line.

    config: for lines that name none.   overrides: section.key=value for all; a line's own options win.
    A line that is no job becomes a Job that says why (broken); equal lines are one job.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no list of jobs at {path}; expected one JSON object a line, or give --prompts/--images"
        )
    return jobs_of(((number, text) for number, text in read_lines(path)), config, overrides, path.parent)


def jobs_of(
    lines: Iterable[tuple[int, Any]], config: str, overrides: Sequence[str] = (), beside: str | Path = "."
) -> list[Job]:
    """The jobs of numbered lines, each a JSON text or what it says.

    beside: where relative paths are looked for first.
    """
    made: dict[str, Job] = {}
    for number, line in lines:
        try:
            said = json.loads(line) if isinstance(line, str) else line
        except (ValueError, RecursionError) as error:
            said, job = line, _broken(number, line, f"no JSON ({str(error)[:60]})")
        else:
            job = _job(number, said, config, overrides, Path(beside))
        twin = made.get(job.name.casefold())
        if twin is not None and (twin.name, twin.words, twin.config) == (job.name, job.words, job.config):
            continue
        if twin is not None:
            job = _broken(number, said, f"id {job.name} is line {twin.line}'s already; expected another one")
        made[job.name.casefold()] = job
    return list(made.values())


def _broken(number, said, why) -> Job:
    return Job(f"line-{number}", f"line {number}", (), line=number, said=said, broken=why)


def _job(number, said, config, overrides, beside) -> Job:
    try:
        words = (*overrides, *words_of(said, beside))
    except ValueError as error:
        return _broken(number, said, str(error))
    name, own = said.get("id"), str(said.get("config") or config)
    own = str(beside / own) if not Path(own).is_absolute() and (beside / own).is_file() else own
    if name is None:
        name = _name_of(said)
    if not NAME.fullmatch(str(name)):
        return _broken(number, said, f"id {shown(name)}: expected a plain folder name of at most 120 characters")
    return Job(str(name), str(said.get("title") or _title_of(said)), words, own, number, said)


def words_of(said: Any, beside: Path = Path(".")) -> list[str]:
    """The words of inference_t2c.py that a line stands for.  Raises ValueError in words."""
    if not isinstance(said, dict):
        raise ValueError(f'a {type(said).__name__}, expected an object such as {{"prompt": "a river", "seed": 1}}')
    known = (*FILES, *TEXTS, *OTHERS)
    for name, value in said.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}"
            raise ValueError(f"unknown field {shown(name)}; {hint}")
        if name in (*FILES, *TEXTS, "config", "title") and not isinstance(value, str):
            raise ValueError(f"{name}={shown(value)}: expected text")
    words, files = _flag("--prompt", said.get("prompt")), {name: said[name] for name in FILES if said.get(name)}
    if "image" in files:
        words += _flag("--image", _found(files.pop("image"), beside))
    if said.get("seed") is not None:
        words.append(f"twin_extraction.seed={_whole(said['seed'])}")
    for name, path in files.items():
        words += _flag(FILES[name], _found(path, beside))
    words += [word for name in ("style", "stage") if said.get(name) for word in _flag(TEXTS[name], said[name])]
    if not isinstance(said.get("use_hint", False), bool):
        raise ValueError(f"use_hint={shown(said['use_hint'])}: expected true or false")
    options = said.get("options", {})
    if not isinstance(options, dict):
        raise ValueError(f'options={shown(options)}: expected an object such as {{"video.speed": 1}}')
    words += [f"{name}={_option(name, value, beside)}" for name, value in options.items()]
    return words + (["--use_hint"] if said.get("use_hint") else [])


def _flag(flag, value) -> list[str]:
    """A flag with its value; one word where the value looks like a flag."""
    if value is None:
        return []
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def _whole(seed) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed={shown(seed)}: expected a whole number")
    return seed


def _option(name, value, beside) -> str:
    if isinstance(value, str):
        return _found(value, beside) if name.startswith("inputs.") else value
    if isinstance(value, dict):
        raise ValueError(f"options: {shown(name)}={shown(value)}: expected a value or a list")
    return "" if value is None else json.dumps(value)


def _found(value, beside) -> str:
    """A path: beside the list, where it lies there; else as it is written (from the working folder)."""
    try:
        there = not Path(value).is_absolute() and (beside / value).is_file()
    except (OSError, ValueError):  # arrows may be a long text
        there = False
    return str(beside / value) if there else value


def slug(text: str) -> str:
    """A plain name for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "picture"


def _subject(said) -> str:
    return said.get("prompt") or Path(said.get("image") or said.get("project") or "job").stem


def _name_of(said) -> str:
    """A name that a line keeps wherever it stands in the list."""
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:6]
    return "-".join([slug(_subject(said))[:40].strip("-"), *([str(said["seed"])] if "seed" in said else []), digest])


def _title_of(said) -> str:
    return _subject(said) + (f" (seed {said['seed']})" if "seed" in said else "")


# ---------------------------------------------------------------------- prompts and pictures, times seeds


def lines_of_prompts(prompts: Sequence[str], twin_prompts: Sequence[str], seeds: Sequence[int]) -> list[dict]:
    """Every prompt with every seed; prompts with a direction follow it.  twin_prompts: as many as prompts, or none."""
    if twin_prompts and len(twin_prompts) != len(prompts):
        raise ValueError(
            f"{len(prompts)} prompts, but {len(twin_prompts)} twin prompts; expected one line for each, "
            'or --twin_prompts ""'
        )
    lines = []
    for number, prompt in enumerate(prompts):
        for seed in seeds:
            options = {"twin_generation.prompt": twin_prompts[number]} if twin_prompts else {}
            options |= {"odise.vocab": "sky, clouds"} if _only_clouds(prompt) else {}
            line = {"id": f"{slug(prompt)}-{seed}", "prompt": prompt, "seed": seed}
            line |= {"options": options} if options else {}
            lines.append(line | ({"use_hint": True} if find_direction(prompt)[0] else {}))
    return with_different_names(lines)


def _only_clouds(prompt):
    """Clouds move, and no water is named: the vocabulary of water that configurations have would find nothing."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    return bool(words & {"cloud", "clouds"}) and not words & WATER


def lines_of_pictures(pictures: Sequence[Path], seeds: Sequence[int]) -> list[dict]:
    """Every picture with every seed, and the motion that lies beside it."""
    lines = []
    for path in pictures:
        for seed in seeds:
            several = len(seeds) > 1
            name, title = slug(path.stem), path.name
            line = {
                "id": f"{name}-{seed}" if several else name,
                "title": f"{title} (seed {seed})" if several else title,
            }
            lines.append(line | {"image": str(path), "seed": seed} | _motion_beside(path))
    return with_different_names(lines)


def pictures_of(places: Sequence[str | Path]) -> list[Path]:
    """The pictures of folders, of patterns such as "photos/*.jpg", and those named themselves."""
    found: dict[Path, None] = {}
    for place in map(str, places):
        paths = [Path(place)] if Path(place).exists() else [Path(p) for p in sorted(glob.glob(place, recursive=True))]
        if not paths:
            raise FileNotFoundError(f"no folder at {place}; --images must be a folder of pictures, or name some")
        for path in paths:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
            found |= dict.fromkeys(p for p in inside if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(
            f"{', '.join(map(str, places))} holds no pictures; expected files ending in {', '.join(SUFFIXES)}"
        )
    return list(found)


def _motion_beside(picture) -> dict:
    """A picture's own motion: <name>.motion.json, or labelme's <name>.json."""
    own, labelme = picture.with_name(f"{picture.stem}.motion.json"), picture.with_suffix(".json")
    if own.is_file():
        return {"arrows": str(own)}
    if labelme.is_file() and '"shapes"' in labelme.read_text(encoding="utf-8", errors="ignore"):
        return {"arrows": str(labelme)}
    return {}


def with_different_names(lines: list[dict]) -> list[dict]:
    """Cut prompts may share their beginnings: the later ones get a number."""
    seen: dict[str, int] = {}
    for line in lines:
        name = line["id"]
        seen[name] = seen.get(name, 0) + 1
        line["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return lines


def prompts_of(path: str | Path) -> list[str]:
    """The lines of a text file that are not empty; [] for the empty path."""
    if not path:
        return []
    if not Path(path).is_file():
        raise FileNotFoundError(f"no prompts at {path}; expected a text file with one prompt per line")
    return [line for _, line in read_lines(path)]
