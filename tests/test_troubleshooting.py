"""docs/troubleshooting.md: every command in it gives the very line that stands below it."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from text2cinemagraph.data.media import write_image, write_mask
from text2cinemagraph.demo.commands import code_blocks
from text2cinemagraph.options.cli import LONGEST_LINE, run_main

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
BLOCKS = [
    tuple(line.removeprefix("$ ") for line in text.strip().splitlines()) for _, text in code_blocks(PAGE, ("text",))
]
FETCHED = ("checkpoints/motion-pretrained", "checkpoints/clipseg")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the commands of the page name, good and bad ones."""
    folder = tmp_path_factory.mktemp("trouble")
    for name in ("configs", "dataset"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "mini").symlink_to(ROOT / "checkpoints" / "mini")
    water = (torch.arange(96)[:, None] > 40).expand(1, 96, 128)
    photo = torch.where(
        water, torch.tensor([0.1, 0.3, 0.5])[:, None, None], torch.tensor([0.9, 0.8, 0.7])[:, None, None]
    )
    write_image(folder / "photo.png", photo)
    Image.open(folder / "photo.png").save(folder / "photo.jpg")
    write_mask(folder / "mask.png", water)
    write_mask(folder / "black.png", water & False)
    write_mask(folder / "square.png", water[:, :, :96])
    Image.new("1", (9000, 8000)).save(folder / "poster.png")
    strokes = Image.new("RGBA", (128, 96))
    strokes.putpixel((60, 60), (0, 255, 0, 255))
    strokes.save(folder / "strokes.png")
    (folder / "notes.jpg").write_text("no picture\n")
    (folder / "motion.json").write_text('{"size": [100, 100], "arrows": [{"path": [[10, 60], [20, 60]]}]}')
    two = '{"arrows": [{"path": [[10, 60], [20, 60]]}, {"path": [[10, 70]]}]}'
    (folder / "broken.json").write_text(two)
    (folder / "clips" / "train").mkdir(parents=True)
    write_image(folder / "clips" / "train" / "00000_input.jpg", photo)
    (folder / "captions.txt").write_text("00000 a lake\n")
    return folder


def test_there_are_twenty_and_more():
    assert len({error for _, error in BLOCKS}) == len(BLOCKS) >= 20


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[0][:70])
def test_the_line_is_what_is_printed(block, place, monkeypatch, capsys):
    command, printed = block
    words = shlex.split(command)
    script, words = (words[2], words[3:]) if words[1] == "-m" else (words[1].removesuffix(".py"), words[2:])
    if any((ROOT / name).exists() and name in printed for name in FETCHED):
        pytest.skip("the weights that the line asks for are here")
    if "runtime.device=cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(place)
    monkeypatch.delenv("T2C_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", [script, *words])
    module = importlib.import_module(f"text2cinemagraph.{script.replace('/', '.')}")
    with pytest.raises(SystemExit) as end:
        run_main(module.main)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert end.value.code == 1 and lines == [printed] and len(printed) < LONGEST_LINE


def test_every_line_has_its_cure():
    """Text follows each block before the next one."""
    parts = re.split(r"^```text\n.*?^```\n", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)[1:]
    assert len(parts) == len(BLOCKS) and all(len(re.sub(r"^#.*", "", part, flags=re.M).split()) > 4 for part in parts)
