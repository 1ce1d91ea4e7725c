"""index.html of a results folder: every item with its pictures and, where there is one, its clip, playing in a loop."""

import html
from pathlib import Path

from text2cinemagraph.data.files import atomic

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em; color: #222; background: #fafafa } h1 { font-size: 1.4em }
main { display: flex; flex-wrap: wrap; gap: .8em }
section { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .6em 1em } h2 { font-size: 1em; margin: 0 0 .4em }
figure { display: inline-block; margin: 0 .7em .3em 0; vertical-align: top } figcaption { font-size: 12px; color: #666 }
img, video { height: 220px; display: block; border: 1px solid #eee }
"""
# Hundreds of clips at once would stop any browser: only what can be seen plays.
PLAY = """
const seen = new IntersectionObserver(entries => entries.forEach(e => e.isIntersecting ? e.target.play() : e.target.pause()));
document.querySelectorAll('video').forEach(video => seen.observe(video));
"""


def write_index(folder):
    """Write <folder>/index.html about what is in <folder>/images now: <id>_input_<what>.jpg and <id>_video.mp4.  Returns its path."""
    folder = Path(folder)
    items = {}
    for path in sorted((folder / "images").glob("*_input_*.jpg")):
        item, _, what = path.name.removesuffix(".jpg").partition("_input_")
        items.setdefault(item, []).append((what.replace("_", " "), path.name))
    for path in sorted((folder / "images").glob("*_video.mp4")):
        items.setdefault(path.name.removesuffix("_video.mp4").removesuffix("_input"), []).insert(0, ("clip", path.name))
    report = "<p><a href=report.html>Measures of these results</a></p>" if (folder / "report.html").is_file() else ""
    sections = "".join(_section(item, files) for item, files in sorted(items.items()))
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(folder.name)}</title><style>{STYLE}</style><h1>{html.escape(str(folder))}</h1>"
        f"<p>{len(items)} results</p>{report}<main>{sections}</main><script>{PLAY}</script></html>\n"
    )
    with atomic(folder / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / "index.html"


def _section(item, files):
    figures = "".join(
        f"<figure>{_element(name)}<figcaption>{html.escape(what)}</figcaption></figure>" for what, name in files
    )
    return f"<section><h2>{html.escape(item)}</h2>{figures}</section>"


def _element(name):
    address = html.escape(f"images/{name}".replace("%", "%25").replace("#", "%23").replace("?", "%3F"), quote=True)
    if name.endswith(".mp4"):
        return f'<video src="{address}" loop muted playsinline preload="metadata"></video>'
    return f'<img src="{address}" loading="lazy" alt="{html.escape(name, quote=True)}">'
