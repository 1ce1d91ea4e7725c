"""Many cinemagraphs and one page that shows them with all six stages of each.

    python -m demo.gallery                                              # the prompts of dataset/prompts.txt, mini weights, seed 1
    python -m demo.gallery --seeds 1 2 3 --config configs/inference.yaml --prompts mine.txt --twin_prompts mine_twin.txt
    python -m demo.gallery --images my_pictures --prompts "" odise.vocab="water, river"

A picture's motion may lie beside it: <name>.motion.json, or <name>.json of labelme (docs/motion.md).

One folder per prompt and seed (or picture), and index.html. What is finished is passed over, so an interrupted run goes on; what was made
with other options is made again. A prompt that fails is told on the page, the others go on; the exit code is then 1.
"""

import json
import re
import time
import traceback
from dataclasses import dataclass
from html import escape
from pathlib import Path

from text2cinemagraph import inference_t2c
from text2cinemagraph.data.files import atomic, sha256
from text2cinemagraph.data.hint import find_direction
from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.text_files import read_lines
from tqdm import tqdm

RECORD = "gallery.json"  # in each folder: how it was made, so that an equal run need not be repeated
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
STAGES = (
    ("image", "s1 image"),
    ("twin", "s2 twin"),
    ("mask_odise", "s3 mask"),
    ("mask", "s4 sharpened"),
    ("flow_color", "s5 flow"),
)


@dataclass(frozen=True)
class Work:
    """One cinemagraph to make.  name: its folder.  title: for the page.  words: the command line of inference_t2c.py after --config and --name."""

    name: str
    title: str
    words: tuple


def works_of_prompts(prompts, twin_prompts, seeds):
    """Every prompt with every seed; prompts with a direction follow it.  twin_prompts: as many as prompts, or none."""
    if twin_prompts and len(twin_prompts) != len(prompts):
        raise ValueError(
            f'{len(prompts)} prompts, but {len(twin_prompts)} twin prompts; expected one line for each, or --twin_prompts ""'
        )
    made = []
    for i, prompt in enumerate(prompts):
        for seed in seeds:
            words = ["--prompt", prompt, f"twin_extraction.seed={seed}"]
            words += [f"twin_generation.prompt={twin_prompts[i]}"] if twin_prompts else []
            words += ["odise.vocab=sky, clouds"] if _only_clouds(prompt) else []
            words += ["--use_hint"] if find_direction(prompt)[0] else []
            made.append(Work(f"{_slug(prompt)}-{seed}", f"{prompt} (seed {seed})", tuple(words)))
    return _with_different_names(made)


def _only_clouds(prompt):
    """Clouds move, and no water is named: the vocabulary of water that configurations have would find nothing."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    return bool(words & {"cloud", "clouds"}) and not words & {
        "river",
        "waterfall",
        "lake",
        "sea",
        "ocean",
        "stream",
        "water",
        "waves",
    }


def works_of_pictures(folder, seeds):
    """Every picture of a folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --images must be a folder of pictures")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no pictures; expected files ending in {', '.join(SUFFIXES)}")
    return _with_different_names(
        [
            Work(_slug(p.stem), p.name, ("--image", str(p), f"twin_extraction.seed={seeds[0]}", *_motion_beside(p)))
            for p in found
        ]
    )


def _motion_beside(picture):
    """The words for a picture's own motion: <name>.motion.json, or labelme's <name>.json."""
    own, labelme = picture.with_name(f"{picture.stem}.motion.json"), picture.with_suffix(".json")
    if own.is_file():
        return ("--arrows", str(own))
    if labelme.is_file() and '"shapes"' in labelme.read_text(encoding="utf-8", errors="ignore"):
        return ("--arrows", str(labelme))
    return ()


def _slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "picture"


def _with_different_names(works):
    """Cut prompts may share their beginnings: the later ones get a number."""
    seen, made = {}, []
    for work in works:
        seen[work.name] = seen.get(work.name, 0) + 1
        made.append(work if seen[work.name] == 1 else Work(f"{work.name}-{seen[work.name]}", work.title, work.words))
    return made


def make(work, output, config, overrides):
    """Run the pipeline unless its result is there already.  Returns the record: {"key", "seconds"} or {"key", "error"}."""
    folder, words = Path(output) / work.name, [*work.words, *overrides]
    key = {
        "words": words,
        "config": sha256(config),
        "files": [sha256(w) for w in words if Path(w).suffix.lower() in (*SUFFIXES, ".json")],
    }
    record = _read(folder / RECORD)
    if record.get("key") == key and "error" not in record and (folder / FILES["video"]).is_file():
        return record
    started = time.perf_counter()
    try:
        inference_t2c.main(
            ["--config", str(config), "--name", work.name, *words, f"twin_extraction.exp_path_root={output}"]
        )
        record = {"key": key, "seconds": round(time.perf_counter() - started, 1)}
    except (ValueError, OSError) as error:  # the user's mistakes, or an empty mask
        record = {"key": key, "error": str(error)}
    except Exception as error:  # one broken run must not cost the night's others
        traceback.print_exc()
        record = {"key": key, "error": f"{type(error).__name__}: {error}"}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / RECORD) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")
    return record


def _read(path):
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Cinemagraphs</title>
<style>
body {{ margin: 2rem auto; padding: 0 1rem; max-width: 78rem; background: #161618; color: #e8e8e8; font: 1rem/1.5 system-ui, sans-serif }}
article {{ display: grid; grid-template-columns: minmax(0, 18rem) minmax(0, 1fr); gap: 1rem; margin: 0 0 2.5rem }}
h2 {{ grid-column: 1 / -1; margin: 0; font-size: 1.05rem; font-weight: 600 }}
video, img {{ width: 100%; height: auto; border-radius: .4rem; display: block; background: #222 }}
.stages {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .6rem; align-content: start }}
figure {{ margin: 0 }} figcaption {{ color: #a5a5a8; font-size: .85rem }} .failed {{ color: #ff9d8a; grid-column: 1 / -1 }} p {{ color: #a5a5a8 }}
@media (max-width: 42rem) {{ article {{ grid-template-columns: 1fr }} }}
</style>
<h1>Cinemagraphs</h1><p>{note}</p>
{articles}
</html>
"""


def write_page(output, works, records, note):
    """index.html beside the folders."""
    with atomic(Path(output) / "index.html") as path:
        articles = "\n".join(_article(Path(output), work, record) for work, record in zip(works, records))
        path.write_text(PAGE.format(note=escape(note), articles=articles), encoding="utf-8")


def _article(output, work, record):
    title = f"<h2>{escape(work.title)}</h2>"
    if "error" in record:
        return f'<article>{title}<p class="failed">{escape(record["error"])}</p></article>'
    there = [(artifact, label) for artifact, label in STAGES if (output / work.name / FILES[artifact]).is_file()]
    figures = "".join(
        f'<figure><a href="{work.name}/{FILES[a]}"><img loading="lazy" src="{work.name}/{FILES[a]}" alt="{label}"></a>'
        f"<figcaption>{label}</figcaption></figure>"
        for a, label in there
    )
    video = f'<video src="{work.name}/{FILES["video"]}" autoplay loop muted playsinline></video>'
    return (
        f"<article>{title}<figure>{video}<figcaption>s6 video, {record['seconds']:.0f} s in all</figcaption></figure>"
        f'<div class="stages">{figures}</div></article>'
    )


def prompts_of(path: str | Path) -> list[str]:
    """The lines of a text file that are not empty; [] for the empty path."""
    if not path:
        return []
    if not Path(path).is_file():
        raise FileNotFoundError(f"no prompts at {path}; expected a text file with one prompt per line")
    return [line for _, line in read_lines(path)]


def main():
    """The command line."""
    parser = Parser(prog="python -m demo.gallery", description=__doc__)
    parser.add_argument("--config", default="configs/inference_mini.yaml", help="(default: %(default)s)")
    parser.add_argument("--prompts", default="dataset/prompts.txt", help="one per line (default: %(default)s)")
    parser.add_argument(
        "--twin_prompts",
        help='one per line, for the twins; "" = made from the prompts\' nouns (default: dataset/prompts_twin.txt '
        'for dataset/prompts.txt, else "")',
    )
    parser.add_argument("--images", default="", help="folder of your own pictures, beside or instead of prompts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--output", default="outputs/gallery")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="as for inference_t2c.py")
    flags = parser.parse_intermixed_args()
    standard = parser.get_default("prompts")
    twins = (
        flags.twin_prompts
        if flags.twin_prompts is not None
        else "dataset/prompts_twin.txt"
        if flags.prompts == standard
        else ""
    )
    works = works_of_prompts(prompts_of(flags.prompts), prompts_of(twins), flags.seeds)
    works += works_of_pictures(flags.images, flags.seeds) if flags.images else []
    if not works:
        raise ValueError("nothing to make: give --prompts FILE or --images FOLDER")
    if not Path(flags.config).is_file():
        raise FileNotFoundError(f"no configuration at {flags.config}")
    records, note = [], f"{len(works)} cinemagraphs, made with {flags.config}"
    for work in tqdm(works, "cinemagraphs"):
        records.append(make(work, flags.output, flags.config, flags.overrides))
        write_page(flags.output, works, records, note)
    failed = [work.title for work, record in zip(works, records) if "error" in record]
    print(f"page: {Path(flags.output) / 'index.html'}")
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(works)} failed: {'; '.join(failed[:5])}{' ...' if len(failed) > 5 else ''}; why: see the page"
        )


if __name__ == "__main__":
    run_main(main)
