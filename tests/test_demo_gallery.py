"""The gallery: names, resuming, a failing prompt, a page that shows what it is given as text."""

import json
import sys
from pathlib import Path

import pytest
from text2cinemagraph.demo import gallery

QUICK = [
    "twin_extraction.ddim_steps=3",
    "twin_generation.feature_injection_threshold=2",
    "video.n_frames=4",
    "attn_mask.fallback=true",
]


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["gallery", *map(str, words)])
    gallery.main()


def test_works_have_different_names_and_follow_directions():
    long = "a river " * 20
    works = gallery.works_of_prompts([long + "one", long + "two", "a sea in left to right direction"], [], [1, 2])
    assert len({work.name for work in works}) == 6
    assert [("--use_hint" in work.words) for work in works] == [False] * 4 + [True] * 2
    clouds, both = gallery.works_of_prompts(["Clouds over hills", "clouds over the sea"], [], [1])
    assert "odise.vocab=sky, clouds" in clouds.words and not any("vocab" in word for word in both.words)
    with pytest.raises(ValueError, match="3 prompts, but 1 twin"):
        gallery.works_of_prompts(["a", "b", "c"], ["d"], [1])


def test_a_picture_brings_its_own_motion(tmp_path):
    for name in ("a.png", "b.jpg", "c.png", "d.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.motion.json").write_text("{}")
    (tmp_path / "b.json").write_text('{"shapes": []}')
    (tmp_path / "c.json").write_text('{"camera": "none of ours"}')
    words = [work.words[3:] for work in gallery.works_of_pictures(tmp_path, [1])]
    assert words == [("--arrows", str(tmp_path / "a.motion.json")), ("--arrows", str(tmp_path / "b.json")), (), ()]


def test_a_gallery_is_made_and_goes_on(monkeypatch, tmp_path):
    runs = []
    original = gallery.inference_t2c.main
    monkeypatch.setattr(
        gallery.inference_t2c, "main", lambda words, *shared: runs.append(words) or original(words, *shared)
    )
    (tmp_path / "p.txt").write_text("a large waterfall <b>falling</b> from hills\n\na sea of nothing at all\n")
    words = ["--prompts", tmp_path / "p.txt", "--output", tmp_path / "out", *QUICK]
    (tmp_path / "t.txt").write_text("waterfall, nature\nsea, nature\n")
    call(monkeypatch, *words, "--twin_prompts", tmp_path / "t.txt", "odise.vocab=water, sky, sea, waterfall")
    page = (tmp_path / "out" / "index.html").read_text()
    assert len(runs) == 2 and page.count("<video") == 2 and "&lt;b&gt;falling" in page and "<b>" not in page
    for name in page.split('src="')[1:]:
        assert (tmp_path / "out" / name.split('"')[0]).is_file()
    call(monkeypatch, *words, "--twin_prompts", tmp_path / "t.txt", "odise.vocab=water, sky, sea, waterfall")
    assert len(runs) == 2  # nothing to do
    record = next((tmp_path / "out").glob("a-sea*/gallery.json"))
    record.write_text(record.read_text()[:20])  # torn
    call(monkeypatch, *words, "--twin_prompts", tmp_path / "t.txt", "odise.vocab=water, sky, sea, waterfall")
    assert len(runs) == 3


def test_a_failing_prompt_is_told_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    made = []

    def run(words, *shared):
        if "bad" in words[words.index("--prompt") + 1]:
            raise ValueError("the mask is empty")
        folder = Path(words[-1].split("=")[1]) / words[words.index("--name") + 1]
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_bytes(b"")
        made.append(folder)

    monkeypatch.setattr(gallery.inference_t2c, "main", run)
    (tmp_path / "p.txt").write_text("a bad one\na good one\n")
    with pytest.raises(ValueError, match="1 of 2 failed: a bad one"):
        call(monkeypatch, "--prompts", tmp_path / "p.txt", "--output", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert len(made) == 1 and "the mask is empty" in page and page.count("<video") == 1
    assert json.loads((tmp_path / "out" / "a-bad-one-1" / "gallery.json").read_text())["error"] == "the mask is empty"


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--prompts", "none.txt"], "none.txt"),
        (["--prompts", "", "--images", "none"], "none"),
        (["--prompts", ""], "nothing to make"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, tmp_path, words, expected):
    with pytest.raises((ValueError, OSError), match=expected):
        call(monkeypatch, "--output", tmp_path, *words)
