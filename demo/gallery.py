"""Many cinemagraphs and one page that shows them with all six stages of each.

    python -m demo.gallery                                # the prompts of dataset/prompts.txt, mini weights, seed 1
    python -m demo.gallery --seeds 1 2 3 --config configs/inference.yaml --prompts mine.txt --twin_prompts mine_twin.txt
    python -m demo.gallery --images my_pictures --prompts "" odise.vocab="water, river"

A picture's motion may lie beside it: <name>.motion.json, or <name>.json of labelme (docs/motion.md).

One folder per prompt and seed (or picture), and index.html. What is finished is passed over, so an interrupted run goes
on; what was made with other options is made again. A prompt that fails is told on the page, the others go on; the exit
code is then 1. For more than a page holds, or several processes: demo/batch.py, which makes these too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from text2cinemagraph import inference_t2c
from text2cinemagraph.demo.joblist import Job, jobs_of, lines_of_pictures, lines_of_prompts, pictures_of, prompts_of
from text2cinemagraph.demo.making import Plan, Task, forget_failures, record_of, work
from text2cinemagraph.inference_t2c import FILES
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.pages.page import address, write_page
from tqdm import tqdm

__all__ = ["inference_t2c"]  # what the jobs run

RECORD = "{}/gallery.json"  # in each folder: how it was made, so that an equal run need not be repeated
STAGES = (
    ("image", "s1 image"),
    ("twin", "s2 twin"),
    ("mask_odise", "s3 mask"),
    ("mask", "s4 sharpened"),
    ("flow_color", "s5 flow"),
)


def works_of_prompts(prompts: Sequence[str], twin_prompts: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every prompt with every seed; prompts with a direction follow it.  twin_prompts: as many as prompts, or none."""
    return jobs_of(enumerate(lines_of_prompts(prompts, twin_prompts, seeds), 1), "")


def works_of_pictures(folder: str | Path, seeds: Sequence[int]) -> list[Job]:
    """Every picture of a folder, with the first seed."""
    return jobs_of(enumerate(lines_of_pictures(pictures_of([folder]), seeds[:1]), 1), "")


def write_gallery(output: Path, works: Sequence[Job], records: Sequence[dict], note: str) -> Path:
    """index.html beside the folders.  records: one for each work, {} = not made yet.  Returns its path."""
    made = [_shown(Path(output), work, record) for work, record in zip(works, records) if record]
    return write_page(Path(output) / "index.html", "gallery.html", title="Cinemagraphs", note=note, cinemagraphs=made)


def _shown(output, work, record) -> dict:
    """What the page shows of a work that was made, or failed."""
    if "error" in record:
        return {"title": work.title, "error": record["error"]}
    there = [(FILES[artifact], label) for artifact, label in STAGES if (output / work.name / FILES[artifact]).is_file()]
    return {
        "title": work.title,
        "error": "",
        "video": address(f"{work.name}/{FILES['video']}"),
        "seconds": f"{record['seconds']['total']:.0f}",
        "pictures": [{"address": address(f"{work.name}/{file}"), "label": label} for file, label in there],
    }


def main() -> None:
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
    parser.add_argument("--seeds", type=number(least=0, most=SEEDS - 1), nargs="+", default=[1])
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
    works = [dataclasses.replace(work, config=flags.config, words=(*work.words, *flags.overrides)) for work in works]
    records = make(works, Path(flags.output), f"{len(works)} cinemagraphs, made with {flags.config}")
    failed = [work.title for work, record in zip(works, records) if "error" in record]
    print(f"page: {Path(flags.output) / 'index.html'}")
    if failed:
        names = f"{'; '.join(failed[:5])}{' ...' if len(failed) > 5 else ''}"
        raise ValueError(f"{len(failed)} of {len(works)} failed: {names}; why: see the page")


def make(works: Sequence[Job], output: Path, note: str) -> list[dict]:
    """Make what is not made yet, in this process; the page grows with it.  Returns the record of each work."""
    plan, tasks = Plan(output, record=RECORD, logged=False), [Task(work, work.key()) for work in works]
    forget_failures(tasks, plan)
    records = {task.job.name: record_of(plan, task) for task in tasks}

    def show():
        write_gallery(output, works, [records[work.name] for work in works], note)

    with tqdm(total=len(tasks), desc="cinemagraphs", initial=sum(map(bool, records.values()))) as bar:

        def after(task, record):
            records[task.job.name] = record
            bar.update()
            show()

        work(tasks, plan, "", after)
    show()
    return [records[work.name] for work in works]


if __name__ == "__main__":
    run_main(main)
