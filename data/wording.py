"""Natural wordings of the twelve published directions: "flowing from left to right", "drifting to the left".

Only what can mean one thing is understood; downstream, for example, depends on the picture. A published clause ("in
left to right direction", data/hint.py) always comes first. Imports nothing heavy, so that --help can show the phrases.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import Any

from text2cinemagraph.data.notes import tell

_ACROSS, _ALONG = ("left to right", "right to left"), ("upwards", "downwards")
PHRASES = (  # data.hint.DIRECTIONS has their angles
    *_ACROSS,
    *_ALONG,
    *(f"{one}, {other}" for one in _ACROSS for other in _ALONG),
    *(f"{one}, {other}" for one in _ALONG for other in _ACROSS),
)
_WORDINGS = {
    "left to right": r"(?:from +)?(?:the +)?left[ -]+to[ -]+(?:the +)?right"
    r"|to(?:wards?)? +the +right(?: +side)?|rightwards?",
    "right to left": r"(?:from +)?(?:the +)?right[ -]+to[ -]+(?:the +)?left"
    r"|to(?:wards?)? +the +left(?: +side)?|leftwards?",
    "upwards": r"upwards?|(?:from +)?(?:the +)?bottom +to +(?:the +)?top"
    r"|away +from +the +(?:viewer|camera)|into +the +distance",
    "downwards": r"downwards?|(?:from +)?(?:the +)?top +to +(?:the +)?bottom|towards? +the +(?:viewer|camera)",
}
_MOVES = (
    r"(?:flow|mov|drift|runn?|stream|cascad|fall|ris|float|roll|travel|head|glid|sweep|pour|com|go|blow|rush)"
    r"(?:ing|es|s|e)?"
)
_ANY = "|".join(f"(?:{words})" for words in _WORDINGS.values())
_JOINT = r"(?: *, *(?:and +)?| +and +)"
# After a word of motion (and perhaps "slowly"), or where "from ... to ..." says by itself that something moves.
_CLAUSE = re.compile(
    rf"\b(?P<verb>{_MOVES}(?: +\w+ly| +fast)? +)?(?P<one>{_ANY})(?:{_JOINT}(?P<other>{_ANY}))?"
    r"(?!\w| +(?:of|direction)\b)",
    re.IGNORECASE,
)
_KINDS = {phrase: re.compile(words, re.IGNORECASE) for phrase, words in _WORDINGS.items()}
_NEAR = 0.6  # likeness from which a wording is called near, as difflib counts


def natural_clauses(prompt: str) -> list[tuple[str, int, int]]:
    """(phrase of PHRASES, start, end) of the clauses that say a direction in other words than the published ones.

    start, end: of the words of direction alone; the verb before them stays in the prompt.  Found are words after a
    verb of motion ("drifting slowly to the left, upwards") and "from ... to ..." anywhere.
    """
    found = []
    for match in _CLAUSE.finditer(prompt):
        if not (match["verb"] or match["one"].lower().startswith("from ")):
            continue
        phrase, end = _kind(match["one"]), match.end("one")
        other = _kind(match["other"]) if match["other"] else None
        if other and (phrase in _ACROSS) != (other in _ACROSS):
            phrase, end = f"{phrase}, {other}", match.end("other")
        found.append((phrase, match.start("one"), end))
    return found


def _kind(words):
    return next(phrase for phrase, kind in _KINDS.items() if kind.fullmatch(words))


def nearest_phrase(prompt: str) -> str:
    """The published phrase that some words of a prompt come nearest to; "left to right" where none comes near."""
    words = re.findall(r"[\w,]+", prompt.lower())
    best, phrase = _NEAR, PHRASES[0]
    for candidate in PHRASES:
        count = len(candidate.split())
        for start in range(max(1, len(words) - count + 1)):
            likeness = difflib.SequenceMatcher(None, candidate, " ".join(words[start : start + count])).ratio()
            if likeness > best:
                best, phrase = likeness, candidate
    return phrase


# ---------------------------------------------------------------- what the text encoder can read
# Two of these words in a prompt are enough to say so, unless English ones stand beside them.
_FOREIGN = set(
    "ein eine der die das und mit im unter une des avec dans sous le les un el los las con una bajo il lo gli della "
    "nel uma dos nas com rio fluss fleuve rivière wasserfall cascada cascata eau wasser agua acqua mer meer mar".split()
)
_ENGLISH = set("a an the of in on at with and under over from to by near through is are water river".split())


def foreign(prompt: str) -> str:
    """Why a prompt does not look English, in a few words; "" where it does. The text encoders know English only."""
    letters = [letter for letter in prompt if letter.isalpha()]
    others = [letter for letter in letters if letter > "\u024f"]  # beyond Latin
    if len(others) > 0.3 * len(letters):
        return f"it is written in {unicodedata.name(others[0]).split()[0].title()} letters"
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    if sum(word in _FOREIGN for word in words) >= 2 and not any(word in _ENGLISH for word in words):
        return f'of words such as "{next(word for word in words if word in _FOREIGN)}"'
    return ""


def tell_cut_words(prompts: list[str], tokenizer: Any) -> None:
    """Tell which words of prompts their encoder does not see, because it reads so many tokens only (77 for CLIP).

    tokenizer: of transformers, with model_max_length.
    """
    most = tokenizer.model_max_length
    for prompt in prompts:
        if len(prompt) < most - 1:  # no more tokens than letters
            continue
        tokens = tokenizer(prompt, verbose=False).input_ids
        if len(tokens) > most:
            cut = tokenizer.decode(tokens[most - 1 : -1]).strip()
            shown = cut if len(cut) <= 60 else f"{cut[:40]} ... {cut[-15:]}"
            line = f'a prompt has {len(tokens)} tokens, {most} are read; cut off, {len(cut.split())} words: "{shown}"'
            tell("long prompt", line)
