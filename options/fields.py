"""One option: a dataclass field with its description and its limits, and the one check that holds values to them.

    speed: float = option(0.5, "factor on the flow", least=-20, most=20)

The command line, `--help`, YAML files, the cards of checkpoints and plain Python all go through the same limits,
because the dataclasses check themselves when they are made.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any

SEEDS = 2**32  # torch's and numpy's generators take seeds below this
SIDE = 8192  # px: a longer side is a slip of the keyboard, not a picture that these networks could take
CHANNELS = 4096  # of one layer, likewise
NAME = r"(?!\.\.?(/|$))[^/\\\0\n]+(/(?!\.\.?(/|$))[^/\\\0\n]+)*"  # a folder below another one, such as rivers/motion
PLAIN_NAME = r"(?!\.\.?$)[^/\\\0\n]+"  # a folder's own name


def option(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple | None = None,
    odd: bool = False,
    filled: bool = False,
    pattern: str = "",
    expected: str = "",
) -> Any:
    """A dataclass field with its description and limits. A list's limits hold for each entry; None is never limited.

    default: the value; a list is copied for each instance.   text: what the option does, for --help.
    least, most: the smallest and the largest value.   above, below: the same, without the bound itself.
    choices: the only values.   odd: no even numbers.   filled: an empty text or list is a mistake.
    pattern: a regular expression that the whole text must match.
    expected: what an error names in place of the choices or the pattern.
    Floats are finite whatever the limits.
    """
    limits: dict[str, Any] = {"least": least, "most": most, "above": above, "below": below, "choices": choices}
    limits |= {"odd": odd, "filled": filled, "pattern": pattern, "expected": expected}
    metadata = {"text": text, **limits}
    if isinstance(default, list):
        return dataclasses.field(default_factory=functools.partial(copy.copy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(kind: Callable[[], Any]) -> Any:
    """A dataclass field that holds the options of one section of the YAML."""
    return dataclasses.field(default_factory=kind)


Settings = typing.TypeVar("Settings", bound="Options")


@dataclasses.dataclass
class Options:
    """Base of every options dataclass: made with a wrong value, it raises ValueError in one line.

    SECTION: the name before the dot, as in video.speed; "" for scripts with flat flags.
    IDLE: names that are accepted and decide nothing, see compat.py.
    """

    SECTION = ""
    IDLE: typing.ClassVar[dict] = {}

    def __post_init__(self) -> None:
        check(self)


def check(options: Options) -> None:
    """Hold every option of a dataclass to its type and limits; ValueError names the first that does not fit."""
    for field in dataclasses.fields(options):
        kind = kind_of(type(options), field.name)
        if not kind.is_section:
            check_value(full_name(type(options), field.name), getattr(options, field.name), kind, field.metadata)


def check_value(name: str, value: Any, kind: Kind, limits: typing.Mapping[str, Any]) -> None:
    """Raise ValueError in one line unless `value` is of this kind and within the limits."""
    if value is None and kind.optional:
        return
    if kind.is_list:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{name}={shown(value)}: expected a list, such as [{kind.example(value)}]")
        if limits.get("filled") and not value:
            raise ValueError(f"{name} is empty: expected one entry or more, such as [{kind.example()}]")
    for entry in value if kind.is_list else [value]:
        problem = _problem(entry, kind.scalar, limits)
        if problem:
            raise ValueError(f"{name}={shown(value)}: expected {problem}")


def _problem(value, scalar, limits) -> str:
    """What was expected in place of the value, or ""."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if scalar is bool and not isinstance(value, bool):
        return "true or false"
    if scalar is int and not (number and isinstance(value, int)):
        return f"a whole number{_among(limits, ', ')}"
    if scalar is float and not number:
        return f"a number{_among(limits, ', ')}"
    if scalar is float and not math.isfinite(value):
        return f"a finite number{_among(limits, ', ')}"
    if scalar is str and not isinstance(value, str):
        return "text"
    if scalar is str and not _is_unicode(value):
        return "text in UTF-8"
    if limits.get("filled") and value == "":
        return f"{limits.get('expected') or 'some text'}, found nothing"
    if limits.get("pattern") and not re.fullmatch(limits["pattern"], value):
        return limits["expected"]
    choices = limits.get("choices")
    if choices and value not in choices:
        reason = f" ({limits['text']})" if len(choices) == 1 and limits.get("text") else ""
        return limits.get("expected") or f"{_alternatives(choices)}{reason}"
    if number and not _within(value, limits):
        return range_of(limits)
    if limits.get("odd") and value % 2 == 0:
        return "an odd number"
    return ""


def _is_unicode(text) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _within(value, limits) -> bool:
    least, most, above, below = (limits.get(name) for name in ("least", "most", "above", "below"))
    return not (
        (least is not None and value < least)
        or (most is not None and value > most)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    )


def range_of(limits: typing.Mapping[str, Any]) -> str:
    """The limits of a number in words, "2 to 60" or "more than 0"; "" without any."""
    least, most = limits.get("least"), limits.get("most")
    if least is not None and most is not None:
        return f"{least} to {most}{', odd' if limits.get('odd') else ''}"
    words = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}
    said = [f"{word} {limits[name]}" for name, word in words.items() if limits.get(name) is not None]
    return ", ".join([*said, "odd"] if limits.get("odd") else said)


def _among(limits, before) -> str:
    text = _alternatives(limits["choices"]) if limits.get("choices") else range_of(limits)
    return f"{before}{text}" if text else ""


def _alternatives(values) -> str:
    names = [str(value) for value in values]
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def shown(value: Any, length: int = 50) -> str:
    """A value inside a one-line message: long ones are cut."""
    text = " ".join(str(value).encode(errors="backslashreplace").decode().split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


# ---------------------------------------------------------------------- what a field holds


@dataclasses.dataclass(frozen=True)
class Kind:
    """The type of a field, taken apart: scalar is bool, int, float or str, or the dataclass of a section.

    choices: the only values, () = any.
    """

    scalar: type
    is_list: bool = False
    optional: bool = False
    choices: tuple = ()

    @property
    def is_section(self) -> bool:
        return dataclasses.is_dataclass(self.scalar)

    @property
    def is_text(self) -> bool:
        return self.scalar is str and not self.is_list

    def example(self, value: Any = None) -> str:
        """Entries of a list, for a message: those that a value which is no list seems to mean, else some that fit."""
        words = re.split(r"[\s,;|+]+", str(value)) if value is not None else []
        if words and all(self._fits(word) for word in words):
            return shown(", ".join(words))
        if self.choices:
            return ", ".join(map(str, self.choices[:2]))
        return {int: "4, 5", float: "0.5, 1", bool: "true, false"}.get(self.scalar, "one, two")

    def _fits(self, word):
        if self.choices:
            return word in map(str, self.choices)
        try:
            return word != "" and self.scalar is not bool and self.scalar(word) is not None
        except ValueError:
            return False


@functools.cache
def kinds(cls: type) -> dict[str, Kind]:
    """{field: Kind} of an options dataclass."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        choices = tuple(field.metadata.get("choices") or ())
        found[field.name] = dataclasses.replace(_kind(hints[field.name]), choices=choices)
    return found


def kind_of(cls: type, name: str) -> Kind:
    """What the field `name` of an options dataclass holds."""
    return kinds(cls)[name]


def _kind(hint) -> Kind:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return dataclasses.replace(_kind(inner), optional=True)
    if origin is list:
        return Kind(arguments[0], is_list=True)
    return Kind(hint)


def part_of(options: Options, cls: type[Settings], without: tuple[str, ...] = ()) -> Settings:
    """What `options` says of the fields of `cls`, one of its bases, as an instance of that.

    without: names of fields that keep their default.
    """
    names = [field.name for field in dataclasses.fields(cls) if field.name not in without]
    return cls(**{name: getattr(options, name) for name in names})


def known_part(cls: type[Settings], values: typing.Mapping[str, Any]) -> Settings:
    """An instance from a mapping that another version may have written: names that are no fields are left out."""
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in values.items() if name in names})


def full_name(cls: type[Options], name: str) -> str:
    """section.key of an option; for a script's flat options the plain name."""
    return f"{cls.SECTION}.{name}" if cls.SECTION else name


# ---------------------------------------------------------------------- what --help says


def metavar(cls: type, field: dataclasses.Field) -> str:
    """What stands for the value in --help: the choices where there are some, else the type."""
    kind, choices = kind_of(cls, field.name), field.metadata.get("choices")
    if choices and len(choices) > 1:
        word = "|".join(str(choice) for choice in choices)
    else:
        word = {bool: "true|false", int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(kind.scalar, "VALUE")
    return f"[{word}, ...]" if kind.is_list else word


def description(field: dataclasses.Field) -> str:
    """What the option does, its limits and its default, in one line."""
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    value = "empty" if default in ("", None, []) else str(default).lower() if isinstance(default, bool) else default
    limits = range_of(field.metadata)
    notes = "; ".join(([limits] if limits else []) + [f"default: {value}"])
    return f"{field.metadata.get('text', '')} ({notes})".strip()
