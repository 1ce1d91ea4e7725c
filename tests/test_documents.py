"""The documents: every relative link, picture and anchor exists, and what is written by a program is what it writes."""

import re
import subprocess
from pathlib import Path

import pytest
from text2cinemagraph.demo import options_page, tutorial_assets
from text2cinemagraph.demo.commands import Command, commands_of
from text2cinemagraph.options.fields import Options, option

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "checkpoints" / "README.md"])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.M | re.S)


def anchors_of(page):
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = []
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


def broken_links(page):
    """Links of a page that lead nowhere."""
    lost = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue  # the web is not asked
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            lost.append(link)
        elif anchor and anchor not in anchors_of(target):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "a.md").write_text("# One two, `three`\n[x](#one-two-three) [y](b.md) ![z](c.png) [w](#four)\n")
    (tmp_path / "b.md").write_text("")
    assert broken_links(tmp_path / "a.md") == ["c.png", "#four"]


def test_every_page_is_on_the_map():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert not [name for name in pages if f"({name})" not in index]


def test_named_files_of_the_results_exist():
    """A number comes with the JSON it was taken from."""
    for page in PAGES:
        for name in re.findall(r"docs/results/[\w.]+\.(?:json|png)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_options_page_is_what_the_declarations_say():
    options_page.main(["--check"])


def test_a_changed_option_makes_the_page_stale(monkeypatch):
    from dataclasses import dataclass

    @dataclass
    class Changed(Options):
        """Both."""

        name: str = option("b|c", "another <text>", choices=("b|c",))

    before = options_page.page()
    row = options_page.table(Changed).splitlines()[-1]
    assert row == "| `--name` | `b\\|c` | another \\<text> | `b\\|c` |"
    monkeypatch.setattr(options_page, "SCRIPTS", (("Both trainings", Changed, ()),))
    assert options_page.page() != before
    with pytest.raises(ValueError, match="demo.options_page"):
        options_page.main(["--check"])


def test_commands_are_found_where_they_stand(tmp_path):
    page = tmp_path / "a.md"
    page.write_text(
        "One `make test` and `python x.py <name>`.\n```\n# no\nA=1 python a.py \\\n    --b 'c d' 2> e\n\n"
        "two words  # no\n```\n```text\nno\n```\n```python\nno = 1\n```\n"
    )
    assert commands_of(page) == [
        Command("a.md:4", "A=1 python a.py --b 'c d' 2> e", ("python", "a.py", "--b", "c d")),
        Command("a.md:7", "two words # no", ("two", "words")),
        Command("a.md:1", "make test", ("make", "test")),
    ]
    page.write_text("```\nit's\n```\n")
    with pytest.raises(ValueError, match="a.md:2"):
        commands_of(page)


def test_pictures_of_the_tutorial_are_small_and_its_own():
    shown = set(re.findall(r"assets/tutorial/(\w+\.jpg)", tutorial_assets.PAGE.read_text(encoding="utf-8")))
    there = {path.name for path in tutorial_assets.PICTURES.glob("*.jpg")}
    assert shown == there
    sizes = [path.stat().st_size for path in tutorial_assets.PICTURES.iterdir()]
    assert max(sizes) <= tutorial_assets.LIMIT and sum(sizes) <= tutorial_assets.TOGETHER


def test_the_tutorial_names_its_own_commands():
    """Each picture belongs to a command of the page, whose costs are kept with its words."""
    import json

    printed = {c.text for c in commands_of(tutorial_assets.PAGE, inline=False) if "inference_t2c.py" in c.words}
    kept = {row["command"] for row in json.loads(tutorial_assets.TIMES.read_text())["commands"]}
    assert printed == kept


def test_photographs_come_with_their_authors():
    listed = subprocess.run(["git", "ls-files", "docs/assets/photos"], cwd=ROOT, capture_output=True, text=True).stdout
    credits_ = (ROOT / "docs" / "assets" / "photos" / "CREDITS.md").read_text(encoding="utf-8")
    for name in listed.split():
        if name.endswith(".jpg"):
            assert Path(name).name in credits_
