"""defaults < YAML < flags -> one validated tree of plain dataclasses; nobody but main() comes here."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from text2cinemagraph.options.compat import ALIASES, Idle
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.options.fields import (
    Kind,
    Options,
    check_value,
    description,
    full_name,
    kind_of,
    kinds,
    metavar,
    shown,
)
from text2cinemagraph.options.places import SHIPPED, located_config
from text2cinemagraph.options.text_files import read_text

Settings = TypeVar("Settings", bound=Options)
LONGEST_LINE = 200  # characters of an error line
KEY = re.compile(r"\w+(\.\w+)*")
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def load_options(cls: type[Settings], yaml_path: str | Path | None = None, overrides: Iterable[str] = ()) -> Settings:
    """An instance of the dataclass `cls`: its defaults, then the YAML file, then `section.key=value` strings.

    Raises FileNotFoundError for a missing YAML, ValueError naming an unknown key (and the nearest known one), a wrong
    type or a value beyond its limits.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    options: Any = OmegaConf.structured(cls)
    idle: list[Any] = []
    layers = [(_read_yaml(yaml_path), str(yaml_path))] if yaml_path else []
    layers += [(_override(text, cls), "the command line") for text in overrides]
    for layer, source in layers:
        layer = _known_part(layer, cls, source, idle)
        try:
            options = OmegaConf.merge(options, layer)
        except OmegaConfBaseException as error:
            raise ValueError(_one_line(error, f" in {source}")) from error
    _tell_idle(idle)
    try:
        made: Any = OmegaConf.to_object(options)
        return made
    except OmegaConfBaseException as error:
        advice = ' ("${...}" is YAML\'s way to refer to another option)'
        raise ValueError(_one_line(error) + advice) from error


def _one_line(error, where="") -> str:
    return f"{getattr(error, 'full_key', '') or 'an option'}{where}: {str(error).splitlines()[0]}"


def _read_yaml(path) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = located_config(path)
    if not path.is_file():
        known = ", ".join(sorted(f"configs/{p.name}" for p in (SHIPPED / "configs").glob("inference*.yaml")))
        raise FileNotFoundError(f"no configuration file at {path}; known ones: {known}")
    try:
        layer: Any = OmegaConf.load(io.StringIO(read_text(path)))
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{path} is not readable YAML: {shown(error, 120)}") from error
    if not OmegaConf.is_dict(layer):
        raise ValueError(f"{path} holds no sections; expected a YAML mapping such as configs/inference.yaml")
    return OmegaConf.create({k: v for k, v in layer._content.items() if v._value() is not None})


def _override(text, cls) -> Any:
    """One `section.key=value` as a tree.

    Text stays text: a prompt may hold colons, commas, ${...} and words that YAML would read.
    """
    from omegaconf import OmegaConf

    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not KEY.fullmatch(key):
        raise ValueError(f"cannot read the option '{shown(text)}'; write it as section.key=value")
    kind = _kind_at(key, cls)
    if value == "" and kind is not None and kind.optional:
        parsed = None
    elif kind is None or kind.is_text:
        parsed = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)  # as OmegaConf writes a literal ${
    else:
        parsed = _parsed(key, value, kind)
    layer = OmegaConf.create({})
    OmegaConf.update(layer, key, parsed)
    return layer


def _parsed(key, value, kind: Kind) -> Any:
    """What a word of the command line means for an option that is no text."""
    from yaml import YAMLError, safe_load

    if kind.is_section:
        raise ValueError(f"{key} is a section: expected {key}.<option>=value, found {shown(value)}")
    try:
        parsed = value if re.search(r"[\n\r&*!]", value) else safe_load(value)
    except (YAMLError, ValueError, RecursionError):
        parsed = value
    if kind.scalar is bool:
        return WORDS.get(str(value).strip().lower(), parsed)
    if kind.scalar is float and isinstance(parsed, str):
        try:
            return float(parsed)  # 1e-3, which YAML takes for text
        except ValueError:
            return parsed
    if kind.is_list and isinstance(parsed, (str, int, float)):
        raise ValueError(f"{key}={shown(value)}: expected a list, such as [{kind.example(value)}]")
    return parsed


def _kind_at(key, cls) -> Kind | None:
    """What an option with a dotted key holds; None where there is no such key."""
    kind = None
    for part in key.split("."):
        kind = kinds(cls).get(part) if cls else None
        cls = kind.scalar if kind and kind.is_section else None
    return kind


def _known_part(layer, cls, source, idle: list[str]) -> Any:
    """The layer without the names that compat.py knows to be idle, which go into `idle`; unknown keys raise."""
    from omegaconf import OmegaConf

    kept = {}
    for key, node in layer._content.items():
        name, where = full_name(cls, str(key)), "" if source == "the command line" else f" in {source}"
        if key in cls.IDLE:
            value = node._value() if not OmegaConf.is_config(node) else None
            idle.append(_idle_name(name if cls.SECTION else f"--{name}", value, cls.IDLE[key]))
            continue
        if key not in kinds(cls):
            near = difflib.get_close_matches(str(key), kinds(cls), 1, 0.5)
            hint = f"did you mean {full_name(cls, near[0])}?" if near else "--help lists all"
            raise ValueError(f"unknown option {shown(name)} in {source}; {hint}")
        kind = kind_of(cls, key)
        if kind.is_section:
            if not OmegaConf.is_dict(node):
                raise ValueError(f"{name} in {source} is a section: expected {name}.<option>, found a single value")
            kept[key] = _known_part(node, kind.scalar, source, idle)
            continue
        _check_form(f"{name}{where}", node, kind, OmegaConf)
        kept[key] = node
    return OmegaConf.create(kept)


def _check_form(name, node, kind, OmegaConf) -> None:
    """What OmegaConf would silently turn into another type, or refuse in many lines."""
    if OmegaConf.is_dict(node):
        raise ValueError(f"{name}: expected {'a list' if kind.is_list else 'a single value'}, found a mapping")
    if OmegaConf.is_list(node) and not kind.is_list:
        raise ValueError(f"{name}: expected a single value, found a list")
    if OmegaConf.is_config(node) or node._is_interpolation():
        return
    value = node._value()
    if kind.is_list and value is not None:
        raise ValueError(f"{name}={shown(value)}: expected a list, such as [{kind.example(value)}]")
    if kind.scalar is bool and value is not None and str(value).lower() not in WORDS:
        raise ValueError(f"{name}={shown(value)}: expected true or false")
    if kind.scalar in (int, float) and isinstance(value, (str, bool)) and not _is_number(value, kind.scalar):
        word = "a whole number" if kind.scalar is int else "a number"
        raise ValueError(f"{name}={shown(value)}: expected {word}")


def _is_number(value, scalar) -> bool:
    try:
        return not isinstance(value, bool) and scalar(value) is not None
    except ValueError:
        return False


def _idle_name(name, value, idle: Idle) -> str:
    if idle.only is not None and value not in (None, ""):
        given = WORDS.get(str(value).lower(), value) if isinstance(idle.only, bool) else value
        if str(given) != str(idle.only):
            raise ValueError(f"{name}={shown(value)}: expected {str(idle.only).lower()}, because {idle.reason}")
    return name


def _tell_idle(names) -> None:
    """Say once, from the first process, what was accepted and decides nothing."""
    if names and os.environ.get("RANK", "0") == "0":
        print(f"accepted, but nothing follows from it here: {', '.join(dict.fromkeys(names))}", flush=True)


# ---------------------------------------------------------------------- the command line


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are ValueErrors, which run_main prints in one line; an unknown flag names the nearest."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **settings | {"allow_abbrev": False})

    def error(self, message: str) -> Any:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            word = unknown[1].partition("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, 1, 0.6)
            message = f"unknown argument {shown(word)}; " + (f"did you mean {near[0]}?" if near else "--help lists all")
        raise ValueError(message)


def number(kind: type = int, **limits: float) -> Callable[[str], Any]:
    """The `type` of a flag that holds a number.

    kind: int or float.   limits: least, most, above, below, as for options.fields.option.
    """

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = text
        try:
            check_value("", value, Kind(kind), limits)
        except ValueError as error:
            expected = str(error).rpartition(": expected ")[2]
            raise argparse.ArgumentTypeError(f"expected {expected}, found {shown(text)}") from None
        return value

    return read


def add_flags(parser: argparse.ArgumentParser, cls: type[Options]) -> None:
    """One flag per field of a flat dataclass. Unset flags stay silent, so that the YAML below them shows through.

    What is idle here (compat.py) is taken too, with a value or without.
    """
    for field in fields(cls):
        old = [f"--{name}" for name, new in ALIASES.items() if new == field.name and name not in cls.IDLE]
        settings: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "metavar": metavar(cls, field)}
        if kind_of(cls, field.name).scalar is bool:
            settings |= {"nargs": "?", "const": "true"}
        parser.add_argument(f"--{field.name}", *old, help=description(field).replace("%", "%%"), **settings)
    group = parser.add_argument_group("flags of the original from which nothing follows here")
    for name, idle in sorted(cls.IDLE.items()):
        group.add_argument(
            f"--{name}", nargs="?", const="", default=argparse.SUPPRESS, help=idle.reason, metavar="VALUE"
        )


def all_options(cls: type[Options]) -> str:
    """Every section.key of a tree of options with what it does, for --help."""
    lines = []
    for field in fields(cls):
        kind = kind_of(cls, field.name)
        if kind.is_section:
            lines += ["", f"{field.name}: {(kind.scalar.__doc__ or '').strip()}", all_options(kind.scalar)]
        else:
            lines.append(f"  {full_name(cls, field.name)}={metavar(cls, field)}  {description(field)}")
    return "\n".join(lines)


def read_command(cls: type[Settings], text: str, argv: Sequence[str] | None = None) -> Settings:
    """Options of a script with one flat dataclass: its defaults, then --config, then flags. For main() only.

    text: what --help says first.   argv: None = the process's own.
    """
    parser = Parser(usage="%(prog)s [-h] [--config FILE] [--option VALUE ...]", description=text)
    parser.add_argument("--config", help="YAML file with options; flags win over it")
    add_flags(parser, cls)
    flags = vars(parser.parse_args(argv))
    config = flags.pop("config")
    return load_options(cls, config, [f"{name}={value}" for name, value in flags.items()])


# ---------------------------------------------------------------------- the end of every script


def run_main(main: Callable[[], int | None]) -> None:
    """Run a script's main(); a user's mistake becomes one line and exit code 1, an interruption exit code 130.

    T2C_DEBUG=1 in the environment shows the whole traceback instead. Threads of torch that have nothing to do sleep
    (OMP_WAIT_POLICY=PASSIVE, unless the environment says otherwise): spinning ones take the cores from their own
    work as soon as anything else runs (docs/results/waiting.json). OpenMP reads that when torch is first imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        for word in sys.argv[1:]:
            check_value("an argument", word, Kind(str), {})
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; finished files stay, the rest is made again by the next run", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        text = told(error)
        if os.environ.get("T2C_DEBUG") or text is None:
            raise
        print(f"error: {one_line(text)}", file=sys.stderr)
        sys.exit(1)


def told(error: BaseException) -> str | None:
    """The line for an error that a user can do something about; None for one of the program's own."""
    own = str(error) if isinstance(error, (ValueError, OSError, ImportError)) else None
    return machine_error(error) or own


def one_line(text: str) -> str:
    """A message as one line of less than LONGEST_LINE characters with "error: ".

    A longer one loses the beginnings of long paths, and then its middle.
    """
    words, room = text.split(), LONGEST_LINE - len("error: ") - 1
    if len(" ".join(words)) > room:
        words = [word if len(word) <= 60 else f"...{word[-55:]}" for word in words]
    text = " ".join(words)
    return text if len(text) <= room else f"{text[: room - 85]} ... {text[-80:]}"
