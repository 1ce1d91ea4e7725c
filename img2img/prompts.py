"""The twin's prompt from the artistic one."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from text2cinemagraph.options.places import located

SUFFIX = "nature, bright, realistic, photography, 4k, 8k"


def load_nouns(path: str | Path) -> list[str]:
    """The list under "nouns" of a JSON file."""
    file = located(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"no list of nouns at {file}; restore it from the repository or give twin_generation.prompt"
        )
    return json.loads(file.read_text())["nouns"]


def twin_prompt(prompt: str, nouns: Iterable[str]) -> str:
    """The nouns of the prompt that name natural things, in order and once each, then what makes a picture look like a
    photograph.

    A word counts if it is in `nouns`, or its singular is. Where nltk and its tagger's data are installed, it must also
    be tagged as a noun, as published ("waves" in "she waves" is none). "a large waterfall in the style of ..." ->
    "waterfall, nature, bright, ...".
    """
    known = {noun.lower() for noun in nouns}
    content = re.split(r"\bin the style of\b", prompt.lower())[0]
    words = tagged_nouns(content)
    words = re.findall(r"[a-z]+", content) if words is None else words
    found = [word for word in words if _singulars(word) & known]
    return ", ".join([*dict.fromkeys(found), SUFFIX])


def _singulars(word):
    """The word and what it may be the plural of: rivers, beaches, skies."""
    return {
        word,
        word.removesuffix("s"),
        word.removesuffix("es"),
        word.removesuffix("ies") + "y" if word.endswith("ies") else word,
    }


def tagged_nouns(text: str) -> list[str] | None:
    """The words that nltk tags NN or NNS; None without nltk or its data (which are never fetched here)."""
    try:
        import nltk  # optional: the original's tagger

        return [word for word, tag in nltk.pos_tag(nltk.word_tokenize(text)) if tag in ("NN", "NNS")]
    except (ImportError, LookupError):
        return None
