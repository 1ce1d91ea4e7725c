"""Everything the README shows, made anew: loops, stages, a photograph, directions, the studio, times and memory.

    python -m demo.readme_assets            # or: make readme-assets

Writes docs/assets/ (under 4 MB in all), docs/results/readme_times.json, and the table between the two "times" marks of
README.md.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.options.cli import Parser, run_main

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ASSETS, RUNS, TIMES = (
    ROOT / "docs" / "assets",
    ROOT / "outputs" / "readme",
    ROOT / "docs" / "results" / "readme_times.json",
)
CONFIG, DIRECTED = "configs/inference_mini.yaml", "configs/inference_mini_directional.yaml"
# (prompt, seed) of the loops at the top; the first one is also the strip of stages and what is timed.
LOOPS = (
    ("a large waterfall falling from hills during sunset in the style of Leonid Afremov", 1),
    ("a large river flowing in front of a mountain in the style of starry nights painting", 42),
    ("sea, sunset, nature, bright, realistic, photography", 42),
)
DIRECTIONS = (("left to right", 23), ("right to left", 23))
DIRECTED_PROMPT = "a large river flowing in {} direction in front of mountains in the style of an oil painting"
PHOTOS = ROOT / "docs" / "assets" / "photos"  # CREDITS.md says whose they are
# The photographs at the top: (file of assets, words of the command, px of height, quality of the WebP).
SKY_MOVES = (
    *("--config", DIRECTED, "--use_hint", "--image", "docs/assets/photos/peaks.jpg"),
    *("--mask_strokes", "docs/assets/tutorial/strokes.png"),
    *("--prompt", "clouds drifting in left to right direction"),
)
PHOTO_LOOPS = (
    ("photo_words", SKY_MOVES, 270, 72),
    ("photo_painted", (*SKY_MOVES, "--style", "oil"), 270, 58),
    (
        "photo_arrows",
        (
            *("--config", CONFIG, "--image", "docs/assets/photos/stream.jpg"),
            *("--arrows", "docs/assets/photos/stream.json"),
        ),
        270,
        66,
    ),
)
QUALITY = 74  # of the WebPs
LOOP_SIDE, EVERY = 240, 2  # px; every second frame: half the size of the file
LIMIT = 4e6  # bytes, all assets together


def run(name: str, *words: str) -> dict[str, float]:
    """The pipeline in a process of its own, as a user calls it.  Returns {stage: seconds}."""
    command = [sys.executable, "inference_t2c.py", "--name", name, *words, f"twin_extraction.exp_path_root={RUNS}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"{name}: {' '.join(command)} failed")
    line = next(line for line in done.stdout.splitlines() if line.startswith("time: "))
    return {stage: float(seconds) for stage, seconds in re.findall(r"(s\d|total) ([\d.]+)", line)}


def frames_of(name: str, side: int) -> Iterator[np.ndarray]:
    """Every second frame of a run, uint8 [side,W,3]."""
    import cv2
    from text2cinemagraph.data.videos import read_video
    from text2cinemagraph.inference_t2c import FILES

    for frame in read_video(RUNS / name / FILES["video"], step=EVERY):
        yield cv2.resize(frame, (round(frame.shape[1] * side / frame.shape[0]), side), interpolation=cv2.INTER_AREA)


def side_by_side(clips: Sequence[Iterable[np.ndarray]], gap: int = 6) -> Iterator[np.ndarray]:
    """Clips of one height -> one clip."""
    import numpy as np

    for frames in zip(*clips):
        white = np.full((frames[0].shape[0], gap, 3), 255, np.uint8)
        yield np.concatenate([part for frame in frames for part in (frame, white)][:-1], 1)


def with_arrow(frames: Iterable[np.ndarray], angle: float) -> Iterator[np.ndarray]:
    """An arrow in the corner; angle in degrees, 0 = to the right."""
    import cv2
    import numpy as np

    for frame in frames:
        marked, center = frame.copy(), np.array([30, 30])
        reach = np.array([np.cos(np.radians(angle)), -np.sin(np.radians(angle))]) * 18
        for colour, width in (((0, 0, 0), 6), ((255, 255, 255), 3)):
            cv2.arrowedLine(
                marked,
                tuple(map(int, center - reach)),
                tuple(map(int, center + reach)),
                colour,
                width,
                cv2.LINE_AA,
                tipLength=0.4,
            )
        yield marked


def loops() -> dict[str, Any]:
    """The clips at the top of the README, and the strip of stages of the first one.  Returns its times."""
    from text2cinemagraph.data.animation import write_animation
    from text2cinemagraph.data.experiment import SUMMARY
    from text2cinemagraph.data.files import atomic
    from text2cinemagraph.data.pictures import open_picture

    seconds = [
        run(f"loop{i}", "--config", CONFIG, "--prompt", prompt, f"twin_extraction.seed={seed}")
        for i, (prompt, seed) in enumerate(LOOPS)
    ]
    write_animation(
        ASSETS / "loops.webp",
        list(side_by_side([frames_of(f"loop{i}", LOOP_SIDE) for i in range(len(LOOPS))])),
        30 / EVERY,
        QUALITY,
    )
    sheet = open_picture(RUNS / "loop0" / SUMMARY.file)
    with atomic(ASSETS / "stages.jpg") as path:
        sheet.save(path, "JPEG", quality=88)
    return seconds[0]


def photographs() -> None:
    """The photographs at the top of the README: as one is, painted, and with arrows, which are shown beside it."""
    from PIL import Image
    from text2cinemagraph.data.animation import write_animation
    from text2cinemagraph.data.files import atomic
    from text2cinemagraph.data.pictures import open_picture

    for name, words, side, quality in PHOTO_LOOPS:
        run(name, *words, "video.formats=[mp4]")
        write_animation(ASSETS / f"{name}.webp", list(frames_of(name, side)), 30 / EVERY, quality)
    drawn = open_picture(RUNS / "photo_arrows" / "motion.png").convert("RGB")
    drawn.thumbnail((2000, 360), Image.Resampling.LANCZOS)
    with atomic(ASSETS / "arrows.jpg") as path:
        drawn.save(path, "JPEG", quality=85)


def directions() -> None:
    """One prompt, two directions."""
    from text2cinemagraph.data.animation import write_animation

    for i, (phrase, seed) in enumerate(DIRECTIONS):
        run(
            f"direction{i}",
            "--config",
            DIRECTED,
            "--use_hint",
            "--prompt",
            DIRECTED_PROMPT.format(phrase),
            f"twin_extraction.seed={seed}",
        )
    clips = [with_arrow(frames_of(f"direction{i}", LOOP_SIDE), angle) for i, angle in enumerate((0, 180))]
    write_animation(ASSETS / "directions.webp", list(side_by_side(clips)), 30 / EVERY, QUALITY)


def gallery() -> dict[str, Any]:
    """All prompts of dataset/prompts.txt by demo.gallery, their summaries on one sheet."""
    import numpy as np
    from PIL import Image
    from text2cinemagraph.data.experiment import SUMMARY
    from text2cinemagraph.data.files import atomic
    from text2cinemagraph.data.pictures import open_picture

    done = subprocess.run([sys.executable, "-m", "demo.gallery", "--output", str(RUNS / "gallery")], cwd=ROOT)
    if done.returncode:
        raise ValueError(f"the gallery is not whole; see {RUNS / 'gallery' / 'index.html'}")
    sheets = [open_picture(path).convert("RGB") for path in sorted((RUNS / "gallery").glob("*/" + SUMMARY.file))]
    small = [
        np.asarray(sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)) for sheet in sheets
    ]
    height, width = (max(picture.shape[i] for picture in small) for i in (0, 1))
    tiles = [
        np.pad(
            picture,
            ((0, height - picture.shape[0] + 8), (0, width - picture.shape[1] + 8), (0, 0)),
            constant_values=255,
        )
        for picture in small
    ]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 3)
    rows = [np.concatenate(tiles[i : i + 3], axis=1) for i in range(0, len(tiles), 3)]
    with atomic(ASSETS / "gallery.jpg") as path:
        Image.fromarray(np.concatenate(rows)).save(path, "JPEG", quality=80)


def studio() -> None:
    """The studio's page and a session on it; where no browser can be driven, the line says so and they stay."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.studio_page"], cwd=ROOT)
    if done.returncode:
        print("studio.webp and studio_session.webp stay as they are")


def write_times(seconds: dict[str, float], peak: float) -> None:
    """The record, and the README's table of it."""
    from text2cinemagraph.data.files import atomic

    record = {
        "command": f"python inference_t2c.py --config {CONFIG}",
        "seconds": seconds,
        "peak_gb": peak,
        "cores": os.cpu_count(),
        "size": "256x256, 60 frames",
    }
    with atomic(TIMES) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")
    names = [name for name in seconds if name != "total"]
    table = [
        f"| {' | '.join(names)} | all | peak memory |",
        "|" + "---|" * (len(names) + 2),
        f"| {' | '.join(f'{seconds[name]:.1f} s' for name in names)} | {seconds['total']:.1f} s | {peak:.2f} GB |",
    ]
    readme = ROOT / "README.md"
    text, count = re.subn(
        r"(<!-- times -->\n).*?(\n<!-- /times -->)",
        lambda m: m[1] + "\n".join(table) + m[2],
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    if count != 1:
        raise ValueError("README.md has no pair of marks <!-- times --> and <!-- /times --> for the table")
    with atomic(readme) as path:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """The command line: no options."""
    Parser(prog="python -m demo.readme_assets", description=__doc__).parse_args()
    ASSETS.mkdir(parents=True, exist_ok=True)
    seconds = loops()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # of the largest run so far; KB on Linux
    photographs()
    directions()
    gallery()
    studio()
    write_times(seconds, round(peak, 2))
    size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {ASSETS}")
    if size > LIMIT:
        raise ValueError(
            f"docs/assets holds {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}: lower LOOP_SIDE or raise EVERY"
        )


if __name__ == "__main__":
    run_main(main)
