"""Text files that people hand in (captions, prompts, YAML), in whatever encoding their editor wrote them."""

import codecs
from pathlib import Path

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(path: str | Path) -> str:
    """The text of a file, with \\n between its lines: UTF-8 or -16 by its mark, else UTF-8, else Windows' cp1252, told.

    Raises OSError for a file that is not there, and ValueError that names file and line for one that is no text.
    """
    data = Path(path).read_bytes()
    mark, encoding = next(((mark, name) for mark, name in BOMS if data.startswith(mark)), (b"", "utf-8"))
    if not mark and data[1:2] == b"\0" and data[3:4] in (b"\0", b""):
        encoding = "utf-16-le"  # Latin letters without a mark: every second byte is 0
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or mark:
            raise ValueError(f"{path} is damaged: no {encoding.upper()} after its mark; save it as UTF-8") from error
        text = _windows_text(path, data, error)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}: a zero byte; this is no text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _windows_text(path, data, error):
    line = data[: error.start].count(b"\n") + 1
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        raise ValueError(f"{path}, line {line}: neither UTF-8 nor Windows' cp1252; save the file as UTF-8") from error
    print(f"note: {path}, line {line} is no UTF-8; the file is read as Windows' cp1252 (save it as UTF-8 to be sure)")
    return text


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """(number, line) of the lines of read_text that hold more than blanks, without those at their ends."""
    numbered = enumerate(read_text(path).split("\n"), 1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]
