"""defaults < YAML < flags -> one validated tree of plain dataclasses; nobody but main() comes here."""

import argparse
import difflib
import inspect
import io
import os
import re
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from text2cinemagraph.options.text_files import read_text
from yaml import YAMLError

# Published flags that say what a field of another name says.
ALIASES = {"tokenizer_path": "text_encoder_path"}


def load_options(cls, yaml_path=None, overrides=()):
    """An instance of the dataclass `cls`: its defaults, then the YAML file, then `section.key=value` strings.

    Raises FileNotFoundError for a missing YAML, ValueError naming an unknown key (and the nearest known one) or a wrong type.
    """
    options = OmegaConf.structured(cls)
    layers = [(_read_yaml(yaml_path), str(yaml_path))] if yaml_path else []
    for text in overrides:
        if "=" not in text:
            raise ValueError(f"cannot read the option '{text}'; write it as section.key=value")
        key, value = text.split("=", 1)
        layers.append((_override(key.strip(), value, cls), "the command line"))
    for layer, source in layers:
        _check_keys(layer, cls, source)
        try:
            options = OmegaConf.merge(options, layer)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", "") or "an option"
            raise ValueError(f"{key} in {source}: {str(error).splitlines()[0]}") from error
    try:
        return OmegaConf.to_object(options)
    except OmegaConfBaseException as error:
        raise ValueError(f"{getattr(error, 'full_key', '') or 'an option'}: {str(error).splitlines()[0]} "
                         "(\"${...}\" is YAML's way to refer to another option)") from error


def _read_yaml(path):
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none here"
        raise FileNotFoundError(f"no configuration file at {path}; known ones: {known}")
    try:
        layer = OmegaConf.load(io.StringIO(read_text(path)))
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(layer):
        raise ValueError(f"{path} holds no sections; expected a YAML mapping such as configs/inference.yaml")
    return OmegaConf.create({k: v for k, v in layer.items() if v is not None})


def _override(key, value, cls):
    """One `section.key=value` as a tree. Text stays text: a prompt may hold colons, commas and words that YAML would read."""
    layer = OmegaConf.create({})
    if value == "" and "Optional" in _type_of(key, cls):
        parsed = None
    elif _type_of(key, cls) in ("str", "Optional[str]"):
        parsed = value
    else:
        try:
            parsed = OmegaConf.create(f"x: {value}").x
        except (YAMLError, OmegaConfBaseException):
            parsed = value
    OmegaConf.update(layer, key, parsed)
    return layer


def _type_of(key, cls):
    """The annotation of a dotted key as text, such as "str" or "Optional[str]"; "" where there is no such key."""
    for part in key.split("."):
        field = {f.name: f for f in fields(cls)}.get(part) if cls else None
        if field is None:
            return ""
        cls = _dataclass_of(field)
    return field.type.__name__ if isinstance(field.type, type) else str(field.type).replace("typing.", "")


def _check_keys(layer, cls, source, prefix=""):
    """Unknown keys by name, with the nearest known one."""
    known = {f.name: f for f in fields(cls)}
    for key in layer:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown option {prefix}{key} in {source}; {hint}")
        kind = _dataclass_of(known[key])
        if kind is not None:
            if not OmegaConf.is_dict(layer[key]):
                raise ValueError(f"{prefix}{key} in {source} is a section: expected {prefix}{key}.<option>, found a single value")
            _check_keys(layer[key], kind, source, f"{prefix}{key}.")


def _dataclass_of(field):
    """The dataclass behind a nested field, or None for a plain value."""
    if field.default_factory is not MISSING and is_dataclass(field.default_factory):
        return field.default_factory
    return field.type if is_dataclass(field.type) else None


def add_flags(parser, cls):
    """One flag per field of a flat dataclass. Unset flags stay silent, so that the YAML below them shows through.

    Flags in cls.FORMER, a dict {name: why it says nothing}, are taken too, with a value or without.
    """
    comments, former = _comments(cls), getattr(cls, "FORMER", {})
    for field in fields(cls):
        names = [f"--{field.name}"] + [f"--{old}" for old, new in ALIASES.items() if new == field.name and old not in former]
        text = f"{comments.get(field.name, '')} ({_default(field)})".strip().replace("%", "%%")
        if field.type in (bool, "bool"):
            parser.add_argument(*names, dest=field.name, nargs="?", const="true", default=argparse.SUPPRESS, help=text, metavar="BOOL")
        else:
            parser.add_argument(*names, dest=field.name, default=argparse.SUPPRESS, help=text, metavar="VALUE")
    group = parser.add_argument_group("flags of the original that say nothing here")
    known = {field.name for field in fields(cls)}
    for name in sorted(former.keys() - known):
        group.add_argument(f"--{name}", nargs="?", const="", default=argparse.SUPPRESS, help=former[name], metavar="VALUE")


def _comments(cls):
    """{field: the comment beside it in the source}: options are described in one place."""
    found = {}
    for kind in reversed(cls.__mro__):
        try:
            lines = inspect.getsource(kind).splitlines() if is_dataclass(kind) else []
        except (OSError, TypeError):                               # no source at hand: flags without a description
            continue
        name = ""
        for line in lines:
            start, more = re.match(r"    (\w+): .*?  # (.*)", line), re.match(r"\s{30,}# (.*)", line)
            if start:
                name = start[1]
                found[name] = start[2]
            elif more and name:
                found[name] += " " + more[1]
    return found


def _default(field):
    value = field.default if field.default is not MISSING else field.default_factory()
    return f"default: {value if value != '' else 'empty'}"


def read_command(cls, text):
    """Options of a script with one flat dataclass: its defaults, then --config, then flags. For main() only."""
    parser = argparse.ArgumentParser(usage="%(prog)s [-h] [--config FILE] [--option VALUE ...]", description=text, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file with options; flags win over it")
    add_flags(parser, cls)
    flags = vars(parser.parse_args())
    config = flags.pop("config")
    known, comments = {field.name for field in fields(cls)}, _comments(cls)
    idle = [f"--{name}" for name in flags if name not in known or comments.get(name, "").startswith("accepted for old commands")]
    if idle and os.environ.get("RANK", "0") == "0":
        print(f"accepted, but nothing follows from it here: {', '.join(idle)} (--help says why)", flush=True)
    return load_options(cls, config, [f"{name}={value}" for name, value in flags.items() if name in known])


def run_main(main):
    """Run a script's main(); a user's mistake becomes one line and exit code 1, an interruption exit code 130.

    T2C_DEBUG=1 in the environment shows the whole traceback instead.
    """
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; finished files stay, the rest is made again by the next run", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("T2C_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
