"""The pictures of docs/tutorial.md: runs the commands that it prints, in their order, and shows what each made.

    python -m demo.tutorial_assets          # or: make readme-assets

Writes docs/assets/tutorial/*.jpg, docs/results/tutorial.json (CPU seconds of each command), and the table between the
two "costs" marks of the tutorial. The runs are kept in outputs/, under the names that the tutorial gives.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.demo.commands import Command, commands_of
from text2cinemagraph.options.cli import Parser, run_main

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "assets" / "tutorial"
PHOTOS, STROKES = ROOT / "docs" / "assets" / "photos", PICTURES / "strokes.png"
TIMES = ROOT / "docs" / "results" / "tutorial.json"
WIDTH, SIDE = 720, 360  # px of a picture, and of each half of a pair
LIMIT, TOGETHER = 60_000, 350_000  # bytes of one picture, and of all
TINT = (255, 64, 51)  # of what may move


def run(command: Command) -> float:
    """Run one command of the tutorial as a user does.  Returns its CPU seconds, of one thread."""
    before = _cpu_seconds()
    words = [sys.executable, *command.words[1:]]
    if subprocess.run(words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
        raise ValueError(f"{command.where}: failed: {command.text}")
    return _cpu_seconds() - before


def _cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def name_of(command: Command) -> str:
    """The experiment that a command of the tutorial works on."""
    return command.words[command.words.index("--name") + 1]


def marked(photo: Image.Image, mask: Image.Image) -> Image.Image:
    """A photograph (PIL) with what may move in red."""
    import numpy as np
    from PIL import Image

    pixels, moves = np.asarray(photo.convert("RGB"), np.float32), np.asarray(mask.convert("L")) > 127
    pixels = np.where(moves[..., None], pixels * 0.55 + 0.45 * np.array(TINT, np.float32), pixels * 0.8)
    return Image.fromarray(np.uint8(pixels))


def beside(*pictures: Image.Image) -> Image.Image:
    """PIL pictures of one shape, side by side in WIDTH px."""
    from PIL import Image

    gap = 6
    width = (WIDTH - gap * (len(pictures) - 1)) // len(pictures)
    small = [p.resize((width, round(p.height * width / p.width)), Image.Resampling.LANCZOS) for p in pictures]
    sheet = Image.new("RGB", (WIDTH, small[0].height), "white")
    for i, picture in enumerate(small):
        sheet.paste(picture, (i * (width + gap), 0))
    return sheet


def show(folder: Path) -> dict:
    """{name: picture} of what an experiment of the tutorial holds by now, for the pages' names that are new."""
    from PIL import Image
    from text2cinemagraph.data.pictures import open_picture
    from text2cinemagraph.data.videos import read_video

    photo = open_picture(PHOTOS / "peaks.jpg")
    if folder.name == "starry":
        return {"starry": beside(open_picture(folder / "image.png").convert("RGB"))}
    if folder.name == "stream":
        return {"drawn": beside(open_picture(folder / "motion.png").convert("RGB"))}
    pictures = {"words": beside(marked(photo, open_picture(folder / "mask_odise.png")))}
    if (folder / "mask_self_attn_erosion.png").is_file():
        strokes = photo.convert("RGBA")
        strokes.alpha_composite(open_picture(STROKES).convert("RGBA"))
        mask = open_picture(folder / "mask_self_attn_erosion.png")
        pictures["strokes"] = beside(strokes.convert("RGB"), marked(photo, mask))
    if (folder / "motion.png").is_file():
        pictures["suggested"] = beside(open_picture(folder / "motion.png").convert("RGB"))
    if (folder / "video.mp4").is_file():
        frames = [Image.fromarray(frame) for frame in read_video(folder / "video.mp4")]
        moments = [frames[i * len(frames) // 3] for i in range(3)]
        pictures["preview"] = beside(
            *(frame.crop((0, 0, frame.width * 5 // 8, frame.height // 2)) for frame in moments)
        )
    return pictures


def save(name: str, picture: Image.Image) -> None:
    """A JPEG of LIMIT bytes at most."""
    from text2cinemagraph.data.files import atomic

    for quality in range(88, 30, -6):
        with atomic(PICTURES / f"{name}.jpg") as path:
            picture.save(path, "JPEG", quality=quality, optimize=True)
        if (PICTURES / f"{name}.jpg").stat().st_size <= LIMIT:
            return
    raise ValueError(f"{name}.jpg does not fit into {LIMIT} bytes; lower WIDTH")


def write_costs(costs: list[tuple[Command, float]]) -> None:
    """The record, and the tutorial's table of it."""
    from text2cinemagraph.data.files import atomic

    rows = [
        {"command": command.text, "cpu_seconds": round(seconds, 1), "makes": _words_for(command)}
        for command, seconds in costs
    ]
    with atomic(TIMES) as path:
        record = {"command": "python -m demo.tutorial_assets", "threads": 1, "commands": rows}
        path.write_text(json.dumps(record, indent=1) + "\n")
    table = ["| step | CPU seconds |", "|---|---|", *(f"| {row['makes']} | {row['cpu_seconds']:.0f} |" for row in rows)]
    text, count = re.subn(
        r"(<!-- costs -->\n).*?(<!-- /costs -->)",
        lambda marks: marks[1] + "\n".join(table) + "\n" + marks[2],
        PAGE.read_text(encoding="utf-8"),
        flags=re.S,
    )
    if count != 1:
        raise ValueError(f"{PAGE} has no pair of marks <!-- costs --> and <!-- /costs -->")
    with atomic(PAGE) as path:
        path.write_text(text, encoding="utf-8")


def _words_for(command):
    """A command of the tutorial in a few words: its folder, its stages, and what is special."""
    words = command.words
    stages = words[words.index("--stage") + 1] if "--stage" in words else "all stages"
    flags = ("--mask_strokes", "--style", "--suggest_arrows", "--arrows")
    special = [word for word in words if word in flags or word.startswith(("video.preview", "video.seconds"))]
    return f"`{name_of(command)}`, {stages}" + (f": `{' '.join(special)}`" if special else "")


def main(argv: list[str] | None = None) -> None:
    """The command line: no options."""
    Parser(prog="python -m demo.tutorial_assets", description=__doc__).parse_args(argv)
    commands = [c for c in commands_of(PAGE, inline=False) if "inference_t2c.py" in c.words]
    for name in {name_of(command) for command in commands}:
        shutil.rmtree(ROOT / "outputs" / name, ignore_errors=True)
    made, costs = set(), []
    for command in commands:
        costs.append((command, run(command)))
        for name, picture in show(ROOT / "outputs" / name_of(command)).items():
            if name not in made:
                save(name, picture)
                made.add(name)
    write_costs(costs)
    size = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{len(made)} pictures, {size} bytes in {PICTURES}")
    if size > TOGETHER:
        raise ValueError(f"{PICTURES} holds {size} bytes, more than {TOGETHER}: lower WIDTH")


if __name__ == "__main__":
    run_main(main)
