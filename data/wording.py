"""Natural wordings of the twelve published directions: "flowing from left to right", "drifting to the left".

Only what can mean one thing is understood; downstream, for example, depends on the picture. A published clause ("in
left to right direction", data/hint.py) always comes first. Imports nothing heavy, so that --help can show the phrases.
"""

import difflib
import re

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
