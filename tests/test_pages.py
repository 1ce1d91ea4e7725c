"""Pages: what is shown stays text, whatever it says; links lead to files, whatever their names."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jinja2
import pytest
from text2cinemagraph.dataset import build_from_videos
from text2cinemagraph.demo.batch_page import SUMMARY, row_of, write_pages
from text2cinemagraph.demo.gallery import STAGES, write_gallery
from text2cinemagraph.demo.joblist import Job
from text2cinemagraph.evaluate.index_page import write_index
from text2cinemagraph.evaluate.measures import Item
from text2cinemagraph.evaluate.page import write_report
from text2cinemagraph.evaluate.report import ranking, summary
from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.pages.page import TEMPLATES, address, write_page

ROOT = Path(__file__).resolve().parents[1]
NAME = "río <b>&amp; '\"> onerror=x 50%41#x?y 湖 {{ 7 * 7 }}"  # of a file
TEXT = f"</title></script><script>alert(1)</script><img src=x onerror=alert(1)> {NAME} javascript:alert(1)"
NUMBERS = {"psnr": 23.4, "ssim": 0.9}


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def results(folder, name, text):
    images = folder / name / "images"
    put(images / f"{name}_input_mask.jpg", images / f"{name}_video.mp4", folder / name / "report.html")
    return write_index(folder / name)


def gallery(folder, name, text):
    put(*(folder / name / FILES[artifact] for artifact in ("video", *dict(STAGES))))
    works, records = [Job(name, text, ()), Job("bad", text, ())], [{"seconds": {"total": 3.2}}, {"error": text}]
    return write_gallery(folder, works, records, note=text)


def batch(folder, name, text):
    put(*(folder / name / file for file in (FILES["video"], FILES["image"], SUMMARY)))
    put(folder / f"{name}2" / SUMMARY)
    record = {"seconds": {"s6": 3.0, "total": 5.0}, "peak": 10**9, "seam": 1.02, "pulse": 0.1}
    rows = [row_of(Job(one, text, (), line=1), record) for one in (name, f"{name}2")]
    rows += [row_of(Job(text, text, (), line=3), {"error": text}), row_of(Job("b", "b", ()), {"error": text})]
    return write_pages(folder, rows, title=text)


def clips_from_videos(folder, name, text):
    kept = {"id": name, "start": 0, "camera": 0.1, "refused": ""}
    refused = {"id": text, "start": 60, "camera": 3.0, "refused": text}
    video = {"file": "a.mp4", "bytes": 1, "frames": 120, "error": "", "clips": [kept, refused]}
    put(folder / "report" / f"{name}.jpg", folder / "report" / f"{name}_flow.jpg")
    facts = {"speed": 1.2, "fastest": 2.0, "moving": 0.3, "size": [128, 176], "refused": ""}
    (folder / "report" / f"{name}.json").write_text(json.dumps(facts))
    videos = {"a": video, "b": {**video, "file": text, "error": text, "clips": []}}
    settings = {"flow_method": text, "size": 512, "clip_frames": 60, "max_camera_motion": 0.5}
    return build_from_videos.write_report({"videos": videos, "sides": {"a": "train"}, "settings": settings}, folder)


def report(folder, name, text):
    rows = {text: NUMBERS, "b": {**NUMBERS, "psnr": 30.0}}
    measured, order = ranking(rows)
    fvd = dict(type="fvd_16", mode=text, features=text, value=1.0, interval_95=[0, 2], n=2, feature_dim=4, floor=None)
    found = {"folder": text, "gt_path": text, "n": 2, "summary": summary(rows), "items": rows, "notes": [text]}
    found |= {"ordered_by": measured, "worst_to_best": order, "fvd": [{**fvd, "warnings": [text]}]}
    return write_report(folder / "report.html", found, {item: Item(item) for item in rows})


PAGES = (results, gallery, batch, clips_from_videos, report)


class Reader(HTMLParser):
    """A page as a browser takes it: its elements, its text, its links."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text, self.links, self.alts, self.program = [], "", [], "", ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        self.elements.append((tag, *(name for name, _ in attributes)))
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href", "poster") if name in given]
        self.alts += given.get("alt", "")

    def handle_endtag(self, tag):
        self._inside = ""
        self.elements.append(f"/{tag}")

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.program += data
        else:
            self.text += data


@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_hostile_words_stay_words(make, tmp_path):
    """A page of hostile words has the same elements, attributes, style and scripts as one of harmless words."""
    hostile, harmless = Reader(make(tmp_path / "a", NAME, TEXT)), Reader(make(tmp_path / "b", "river", "a river"))
    assert hostile.elements == harmless.elements and hostile.program == harmless.program
    shown = hostile.text + hostile.alts
    assert NAME in shown and (make is results or TEXT in shown)
    assert not re.search(r"https?:|@import|url\(", hostile.program)


@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_links_lead_to_files_beside_the_page(make, tmp_path):
    path = make(tmp_path, NAME, TEXT)
    links = [link for link in Reader(path).links if not link.startswith(("data:image/", "#"))]
    assert len(links) >= {results: 3, gallery: 2, batch: 5, clips_from_videos: 2, report: 0}[make]
    for link in links:
        assert re.fullmatch(r"[\w.~%/-]+", link, re.ASCII) and not link.startswith("/"), link
        assert (path.parent / os.fsdecode(unquote_to_bytes(link))).is_file(), link


def test_file_names_that_are_no_text_are_linked_by_their_bytes(tmp_path):
    """A name of a disk written in Latin-1: é as one byte."""
    name = os.fsdecode(b"caf\xe9")
    page = results(tmp_path, name, "").read_bytes()
    assert b'src="images/caf%E9_video.mp4"' in page and b"<h2>caf?</h2>" in page
    assert address("a b/ü:c.png") == "a%20b/%C3%BC%3Ac.png"


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")
    with pytest.raises(jinja2.UndefinedError, match="note"):
        write_page(path, "gallery.html", title="a", cinemagraphs=[])
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_nobody_else_writes_html():
    rooms = [p for p in ROOT.glob("[a-z]*/**/*.py") if p.relative_to(ROOT).parts[0] not in ("tests", "pages", "build")]
    sources = [*rooms, *ROOT.glob("*.py")]
    assert len(sources) > 100 and len([*TEMPLATES.glob("*.html")]) >= len(PAGES)
    found = [
        str(p.relative_to(ROOT))
        for p in sources
        if re.search(r"</(div|p|td|li|figure|h\d)>|^\s*(import|from) (html|jinja2)\b", p.read_text("utf-8"), re.M)
    ]
    assert found == []


def test_only_the_plots_of_our_own_are_not_escaped():
    text = "".join(path.read_text("utf-8") for path in TEMPLATES.glob("*.html"))
    assert re.findall(r"\{\{\s*(\w+)\s*\|\s*safe", text) == ["plots"] == re.findall(r"(\w+)\s*\|\s*safe", text)
    assert "autoescape" not in text and "http" not in text
