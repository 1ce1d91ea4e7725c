"""What a reader says about a file that it had to interpret: one line per kind and file, never a flood."""

from collections import Counter

from tqdm import tqdm

MOST = 5  # lines of one kind in one process; a folder of a thousand palette masks needs no thousand lines

_told: Counter = Counter()
_lines: set = set()


def tell(kind: str, line: str) -> None:
    """Print "note: <line>" (above a progress bar, if one runs), each line once, of one kind the first MOST.

    kind: a word for the rule that was applied, such as "icc".
    """
    if line in _lines or _told[kind] >= MOST:
        return
    _lines.add(line)
    _told[kind] += 1
    tqdm.write(f"note: {line}" + ("; further ones of this kind are not told" if _told[kind] == MOST else ""))


def forget_told() -> None:
    """Begin anew: for a process that makes one clip after the other, each for somebody who saw no earlier lines."""
    _told.clear()
    _lines.clear()
