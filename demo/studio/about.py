"""What the page is told of the house: its stages, options and looks. Made from their declarations, nothing twice."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import Any

from text2cinemagraph.data.project import settable
from text2cinemagraph.demo.studio.runs import PICTURES, STAGES, options_of
from text2cinemagraph.options.fields import Kind
from text2cinemagraph.options.places import SHIPPED
from text2cinemagraph.options.text_files import read_lines

MEGABYTES, MEGAPIXELS = 50, 40  # of an uploaded picture


def configs(own: str) -> list[dict]:
    """[{path, title}] of the configurations that a project may name.  own: the one of the studio's command line."""
    paths = {f"configs/{path.name}": path for path in sorted((SHIPPED / "configs").glob("inference*.yaml"))}
    found = [{"path": name, "title": _title(path)} for name, path in paths.items()]
    return found if own in paths else [{"path": own, "title": own}, *found]


def _title(path):
    """The first comment of a YAML, else its name."""
    line = next((text for _, text in read_lines(path)), "")
    return line.lstrip("# ").partition(":")[0].rstrip(".") if line.startswith("#") else path.stem


def options_of_projects() -> list[dict]:
    """Every option that a project may set, with its limits."""
    return [
        {
            "key": name,
            "section": name.partition(".")[0],
            "text": entry.metadata.get("text", ""),
            "default": _default(entry),
            "kind": _kind(kind, entry.metadata),
            "choices": list(entry.metadata.get("choices") or ()) or None,
            **{limit: entry.metadata.get(limit) for limit in ("least", "most", "above", "below")},
        }
        for name, (entry, kind) in settable().items()
    ]


def _default(entry):
    return entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()


def _kind(kind: Kind, limits: Any) -> str:
    if kind.is_list:
        return "list"
    if limits.get("choices"):
        return "choice"
    return {bool: "boolean", int: "integer", float: "number"}.get(kind.scalar, "text")


def defaults(config: str) -> dict:
    """{option: its value in a configuration}."""
    options = options_of(["--config", config])
    found = {}
    for name in settable():
        section, _, key = name.partition(".")
        found[name] = getattr(getattr(options, section), key)
    return found


def stages() -> list[dict]:
    """The six stages, as the table has them."""
    return [
        {
            "name": stage.name,
            "title": stage.panels[0].label.removeprefix(stage.name).strip() or stage.made[0],
            "text": stage.run.__doc__.partition("  ")[0].strip(),
            "section": stage.section,
            "makes": list(stage.made),
            "picture": PICTURES[stage.name],
        }
        for stage in STAGES
    ]


def about(config: str, looks: list[str]) -> dict:
    """All of it.  looks: the names that --style takes."""
    options = options_of_projects()
    return {
        "version": metadata.version("text2cinemagraph"),
        "looks": [{"name": name, "title": name.capitalize()} for name in looks],
        "stages": stages(),
        "options": options,
        "configs": configs(config),
        "config": config,
        "formats": next(entry["choices"] for entry in options if entry["key"] == "video.formats"),
        "limits": {"megabytes": MEGABYTES, "megapixels": MEGAPIXELS},
        "defaults": defaults(config),
    }
