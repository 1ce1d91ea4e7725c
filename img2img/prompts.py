"""The twin's prompt from the artistic one."""

import json
import re
from pathlib import Path

SUFFIX = "nature, bright, realistic, photography, 4k, 8k"


def load_nouns(path):
    """The list under "nouns" of a JSON file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no list of nouns at {path}; restore it from the repository or give twin_generation.prompt")
    return json.loads(path.read_text())["nouns"]


def twin_prompt(prompt, nouns):
    """The nouns of the prompt that name natural things, in order and once each, then what makes a picture look like a photograph.

    A word counts if it is in `nouns`, or its singular is. "a large waterfall in the style of ..." -> "waterfall, nature, bright, ...".
    """
    known = {noun.lower() for noun in nouns}
    words = re.findall(r"[a-z]+", re.split(r"\bin the style of\b", prompt.lower())[0])
    found = [word for word in words if {word, word.removesuffix("s"), word.removesuffix("es")} & known]
    return ", ".join([*dict.fromkeys(found), SUFFIX])
