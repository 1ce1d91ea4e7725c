"""docs/options.md, written from the options' own declarations (options/*.py).

python -m demo.options_page             # writes it
python -m demo.options_page --check     # exit code 1 where it is not what the declarations say
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.compat import ALIASES, Idle
from text2cinemagraph.options.fields import Options, full_name, kind_of, range_of
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.train import (
    ApplyOptions,
    MotionApply,
    MotionOptions,
    MotionTrain,
    TrainOptions,
    VideoApply,
    VideoOptions,
    VideoTrain,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
# (heading, dataclass, those whose fields are told elsewhere)
SCRIPTS = (
    ("Both trainings", TrainOptions, ()),
    ("train_motion.py", MotionTrain, (TrainOptions,)),
    ("train_video.py", VideoTrain, (TrainOptions,)),
    ("test_motion.py and test_video.py", ApplyOptions, ()),
    ("test_motion.py", MotionApply, (ApplyOptions, MotionOptions)),
    ("test_video.py", VideoApply, (ApplyOptions, VideoOptions)),
)
ARCHITECTURE = "for a checkpoint without a card, also what the training script says of the network"
START = """# Options

Written by `python -m demo.options_page` from `options/*.py`; do not edit it here. A test compares both.

How options are set: the defaults below, then the YAML of `--config`, then the command line. Values beyond the
limits are refused in one line. An empty value (`section.key=`) is written "empty".

## inference_t2c.py

In the YAML as `section:` and `key: value`; on the command line as `section.key=value`, in quotes where it has
spaces. Some have a flag of their own: `--prompt`, `--name`, `--image`, `--style`, `--twin`, `--mask`,
`--invert_mask`, `--mask_strokes`, `--mask_labels`, `--flow`, `--arrows`, `--suggest_arrows`, `--use_hint` (`python
inference_t2c.py --help`). The defaults are the published ones; what the small family sets instead stands in
`configs/inference_mini.yaml`.
"""
FLAT = """
## Training and evaluation

Flags of the scripts, `--flag value`; in a YAML (`--config`) as `flag: value`. A flag that is true or false may
stand alone: `--compile`. A checkpoint's card says what its network looks like, so that `test_*.py` need no flags of
the architecture.
"""
IDLE = """
## Accepted, and nothing follows from it

Names of the original's configurations and commands that decide nothing here. They are taken, and the run says so,
so that the published commands run as they are. Where a value is named, any other one is refused.
"""


def table(cls: type[Options], told_elsewhere: tuple[type, ...] = ()) -> str:
    """One row for every option of a dataclass, as a Markdown table; fields that `told_elsewhere` says alike are left
    out.
    """
    known = [field for other in told_elsewhere for field in dataclasses.fields(other)]
    same = {(field.name, _default(field), field.metadata["text"]) for field in known}
    rows = ["| option | default | what it does | limits |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        if (field.name, _default(field), field.metadata["text"]) in same:
            continue
        name = full_name(cls, field.name) if cls.SECTION else f"--{field.name}"
        cells = (f"`{name}`", _default(field), _escaped(field.metadata["text"]), _limits(cls, field))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _default(field) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    if value in ("", None, []):
        return "empty"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else _escaped(str(value))}`"


def _limits(cls, field) -> str:
    """Its choices, its range, or its type, in words."""
    kind, limits = kind_of(cls, field.name), field.metadata
    if limits["choices"]:
        text = ", ".join(f"`{choice}`" for choice in limits["choices"]).replace("|", "\\|")
    elif kind.scalar in (int, float) and range_of(limits):
        text = f"{TYPES[kind.scalar]}, {range_of(limits)}"
    else:
        text = limits["expected"] or TYPES[kind.scalar]
    return f"list of: {text}" if kind.is_list else text + (", or empty" if kind.optional else "")


def _escaped(text) -> str:
    """Text inside a cell."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


def _besides(told) -> str:
    """Where the options are that a table leaves out."""
    if TrainOptions in told:
        return 'all of "Both trainings"'
    return f'all of "test_motion.py and test_video.py"; {ARCHITECTURE}'


def idle_table(names: dict[str, Idle]) -> str:
    """Idle names by their reason, as a Markdown table."""
    reasons: dict[str, list[str]] = {}
    for name, idle in names.items():
        value = "" if idle.only is None else f" (only `{str(idle.only).lower()}`)"
        reasons.setdefault(idle.reason, []).append(f"`{name}`{value}")
    rows = [f"| {', '.join(sorted(names))} | {_escaped(reason)} |" for reason, names in sorted(reasons.items())]
    return "\n".join(["| name | why |", "|---|---|", *rows])


def page() -> str:
    """All of docs/options.md."""
    parts = [START]
    sections = [field.default_factory for field in dataclasses.fields(InferenceOptions)]
    for section in sections:
        parts.append(f"\n### {section.SECTION}\n\n{' '.join((section.__doc__ or '').split())}\n\n{table(section)}\n")
    parts.append(FLAT)
    for heading, cls, told in SCRIPTS:
        rest = f" Besides: {_besides(told)}." if told else ""
        words = " ".join((cls.__doc__ or "").split()).removeprefix("python ").strip()
        words = "" if words == heading else words
        parts.append(f"\n### {heading}\n\n{(words + rest).strip()}\n\n{table(cls, told)}\n")
    parts.append(IDLE)
    for section in sections:
        if section.IDLE:
            parts.append(f"\n### Idle in {section.SECTION}\n\n{idle_table(section.IDLE)}\n")
    for heading, cls, _ in SCRIPTS:
        if cls.IDLE:
            parts.append(f"\n### Idle in {heading}\n\n{idle_table(cls.IDLE)}\n")
    same = ", ".join(f"`--{old}` is `--{new}`" for old, new in ALIASES.items())
    parts.append(f"\nUnder another name: {same}.\n")
    return "".join(parts)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m demo.options_page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is stale")
    flags = parser.parse_args(argv)
    text = page()
    if flags.check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            raise ValueError(f"{PAGE} is not what options/*.py says; write it anew: python -m demo.options_page")
        return
    from text2cinemagraph.data.files import atomic

    with atomic(PAGE) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
