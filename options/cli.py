"""defaults < YAML < flags -> one validated tree of plain dataclasses; nobody but main() comes here."""

import argparse
import difflib
import os
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

# Published camelCase flags that differ from our field names would be listed here: {"oldName": "field"}.
ALIASES = {}


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
    return OmegaConf.to_object(options)


def _read_yaml(path):
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none here"
        raise FileNotFoundError(f"no configuration file at {path}; known ones: {known}")
    try:
        layer = OmegaConf.load(path)
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
    """One flag per field of a flat dataclass. Unset flags stay silent, so that the YAML below them shows through."""
    for field in fields(cls):
        names = [f"--{field.name}"] + [f"--{old}" for old, new in ALIASES.items() if new == field.name]
        text = field.metadata.get("help", "")
        if field.type in (bool, "bool"):
            parser.add_argument(*names, dest=field.name, nargs="?", const="true", default=argparse.SUPPRESS, help=text, metavar="BOOL")
        else:
            parser.add_argument(*names, dest=field.name, default=argparse.SUPPRESS, help=text, metavar="VALUE")


def read_command(cls, text):
    """Options of a script with one flat dataclass: its defaults, then --config, then flags. For main() only."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file with options; flags win over it")
    add_flags(parser, cls)
    flags = vars(parser.parse_args())
    config = flags.pop("config")
    return load_options(cls, config, [f"{name}={value}" for name, value in flags.items()])


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
