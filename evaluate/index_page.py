"""index.html of a results folder: every item with its pictures and, where there is one, its clip, playing in a loop."""

from __future__ import annotations

from pathlib import Path

from text2cinemagraph.pages.page import address, write_page


def write_index(folder: str | Path) -> Path:
    """Write <folder>/index.html about what is in <folder>/images now: <id>_input_<what>.jpg and <id>_video.mp4.

    Returns its path.
    """
    folder = Path(folder)
    results: dict[str, list[dict]] = {}
    for path in sorted((folder / "images").glob("*_input_*.jpg")):
        item, _, what = path.name.removesuffix(".jpg").partition("_input_")
        results.setdefault(item, []).append(_shown(path, what.replace("_", " ")))
    for path in sorted((folder / "images").glob("*_video.mp4")):
        item = path.name.removesuffix("_video.mp4").removesuffix("_input")
        results.setdefault(item, []).insert(0, _shown(path, "clip"))
    return write_page(
        folder / "index.html",
        "results.html",
        title=str(folder),
        name=folder.name,
        report=(folder / "report.html").is_file(),
        results=sorted(results.items()),
    )


def _shown(path, what) -> dict:
    return {"what": what, "address": address(f"images/{path.name}"), "is_clip": path.suffix == ".mp4"}
