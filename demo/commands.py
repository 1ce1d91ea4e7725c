"""The commands that the documents print, read from their code blocks: what is shown is what is run and tested."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

SHELL = ("", "bash", "sh")  # a block with another word after its fence (text, json) holds no commands
FENCE = re.compile(r"^ *```(\w*) *\n(.*?)^ *``` *$", re.M | re.S)
INLINE = re.compile(r"(?<!`)`((?:[A-Z_]+=\S+ )*(?:python|make) [^`\n]+)`(?!`)")
CUT_SHORT = ("…", "...", "<")  # an inline command with one of these is a form, no command
SETTING = re.compile(r"[A-Z_0-9]+=\S*")


@dataclass(frozen=True)
class Command:
    """One command of a document.

    where: file and line.   text: as printed, in one line.   words: what a shell would run, without settings and
    redirections; the first is the program.
    """

    where: str
    text: str
    words: tuple[str, ...]


def code_blocks(path: Path, languages: tuple[str, ...] = SHELL) -> list[tuple[int, str]]:
    """(line of its first line, text) of every fenced block of a Markdown file in one of these languages."""
    text = path.read_text(encoding="utf-8")
    found = [block for block in FENCE.finditer(text) if block[1] in languages]
    return [(text.count("\n", 0, block.start(2)) + 1, block[2]) for block in found]


def commands_of(path: Path, inline: bool = True) -> list[Command]:
    """Every command of a Markdown file: the lines of its shell blocks, and `python …`, `make …` inside sentences.

    ValueError for a line that no shell would read.
    """
    made = []
    for first, block in code_blocks(path):
        lines = block.replace("\\\n", "\\\0").split("\n")  # a continued line is one command
        line = first
        for text in lines:
            made += _command(path, line, " ".join(text.replace("\\\0", " ").split()))
            line += 1 + text.count("\0")
    text = path.read_text(encoding="utf-8")
    sentences = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    for found in INLINE.finditer(sentences) if inline else ():
        if not any(mark in found[1] for mark in CUT_SHORT):
            made += _command(path, sentences.count("\n", 0, found.start()) + 1, found[1])
    return made


def _command(path, line, text) -> list[Command]:
    """The command of a line, in a list; an empty one for a comment."""
    where = f"{path.name}:{line}"
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise ValueError(f"{where}: {error}: {text}") from error
    while words and SETTING.fullmatch(words[0]):
        words = words[1:]
    cut = next((i for i, word in enumerate(words) if re.fullmatch(r"\d?>.*|\|", word)), len(words))
    return [Command(where, text, tuple(words[:cut]))] if words else []
