"""Several directions in one prompt: which clause moves what, and how fast.

"a river flowing in left to right direction under clouds drifting slowly in right to left direction": each clause
belongs to the nearest noun before it (and after the clause before it) that the vocabulary knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from text2cinemagraph.data.hint import direction_hint, find_directions, sample_angle

# What a word directly before a clause, or before the verb that leads to it, does to the clause's speed.
SPEED_WORDS = {"slowly": 0.5, "gently": 0.5, "fast": 2.0, "rapidly": 2.0}
_SPEED = re.compile(
    rf"\b({'|'.join(SPEED_WORDS)})[ \t]+(?:(?:[a-z]+ing|flows?|moves?|drifts?|runs?)[ \t]+)?$", re.IGNORECASE
)
_PLURAL = "(?:s|es)?"


@dataclass(frozen=True)
class Clause:
    """phrase: one of hint.DIRECTIONS.  speed: factor on the hint's speed.  subject: name of the class of the vocabulary
    that it moves (its first word), or None = the whole mask.
    """

    phrase: str
    speed: float = 1.0
    subject: str | None = None


def read_clauses(prompt: str, classes: list[list[str]]) -> list[Clause]:
    """The direction clauses of a prompt, each with what it moves.

    classes: the vocabulary, a list of synonyms per class (img2img.segment.parse_vocabulary).  One clause alone moves
    the whole mask, whatever its noun.  Raises ValueError that names the nouns found, where one of several clauses has
    no noun that the vocabulary knows, or two clauses move one class.
    """
    found = find_directions(prompt)
    if len(found) < 2:
        return [Clause(each.phrase, speed_before(prompt, each.start)) for each in found]
    clauses: list[Clause] = []
    begin = 0
    for each in found:
        subject = _nearest(prompt[begin : each.start], classes)
        if subject is None:
            raise ValueError(
                f'"{_shown(prompt[each.start : each.end])}" follows no noun of its own that odise.vocab knows (nouns '
                f"found: {_nouns_found(prompt, classes) or 'none'}); name it there, ';' between classes: water; clouds"
            )
        if subject in [clause.subject for clause in clauses]:
            raise ValueError(
                f'two directions for "{subject}" (nouns found: {_nouns_found(prompt, classes)}); give each its own '
                "class in odise.vocab, ';' between classes: river; waterfall"
            )
        clauses.append(Clause(each.phrase, speed_before(prompt, each.start), subject))
        begin = each.end
    return clauses


def speed_before(prompt: str, start: int) -> float:
    """The factor of the speed word before the clause that starts at `start`; 1 where there is none."""
    match = _SPEED.search(prompt[:start])
    return SPEED_WORDS[match.group(1).lower()] if match else 1.0


def clauses_hint(mask: torch.Tensor, clauses: list[Clause], regions: dict, *, speed: float, seed: int) -> torch.Tensor:
    """The hint [2,H,W] in px/frame that clauses say: one velocity in each of their regions, 0 in the others.

    mask: bool [1,H,W].  regions: {class: bool [1,H,W]}, not read where one clause moves the whole mask.  speed:
    px/frame of a clause without a speed word.  seed: draws each phrase's angle.
    """
    hint = torch.zeros(2, *mask.shape[-2:], device=mask.device)
    for clause in clauses:
        where = mask if clause.subject is None else mask & regions[clause.subject]
        hint = hint + direction_hint(where, sample_angle(clause.phrase, seed), speed * clause.speed)
    return hint


def share_out(mask: torch.Tensor, regions: dict) -> dict:
    """Give every pixel of a mask to one class: its own, else that of the nearest pixel that has one.

    mask: bool [1,H,W].  regions: {class: bool [1,H,W]}; where two overlap, the first counts.  Returns {class: bool
    [1,H,W]}, together the mask; all empty where no class has a pixel.
    """
    from scipy import ndimage

    numbers = torch.zeros(mask.shape[-2:], dtype=torch.int64)
    for number, region in reversed(list(enumerate(regions.values(), 1))):
        numbers[region[0].cpu()] = number
    if numbers.any():
        y, x = ndimage.distance_transform_edt(numbers.numpy() == 0, return_distances=False, return_indices=True)
        numbers = numbers[torch.from_numpy(y), torch.from_numpy(x)]
    return {name: mask & (numbers == number)[None].to(mask.device) for number, name in enumerate(regions, 1)}


def _nearest(text, classes):
    """The class (its first word) whose word comes last in a text; None where no word of the vocabulary is in it."""
    best, place = None, -1
    for words in classes:
        for word in words:
            for match in _spelled(word).finditer(text):
                if match.end() > place:
                    best, place = words[0], match.end()
    return best


def _spelled(word):
    """A word of the vocabulary as prompts have it: as a whole word, one or many."""
    stem = word[:-1] if word.endswith("s") and not word.endswith("ss") else word
    stem = re.escape(stem[:-1]) + "(?:y|ies)" if stem.endswith("y") else re.escape(stem) + _PLURAL
    return re.compile(rf"\b{stem}\b", re.IGNORECASE)


def _nouns_found(prompt, classes):
    matches = [match for words in classes for word in words for match in _spelled(word).finditer(prompt)]
    found = [match.group(0).lower() for match in sorted(matches, key=lambda match: match.start())]
    return ", ".join(dict.fromkeys(found))


def _shown(text):
    return text if len(text) <= 40 else text[:37] + "..."
