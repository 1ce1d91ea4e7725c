"""Everything that can be measured in a folder of results, as JSON and as a page to look at.

    python -m evaluate.report results/video-pretrained/test_latest --gt_path dataset/eulerian_data/validation \\
        --mask_path dataset/eulerian_data/validation_masks_odise

The folder holds <id>_video.mp4 (of test_video.py), <id>_flow.npz or <id>_Motion.pt (of test_motion.py), or both, itself
or in images/.
--gt_path holds <id>_gt.mp4 or folders <id>_gt, and <id>_motion.pth; what is not there is not measured. Results of
compute_fvd.py in the folder are shown, too.  Writes report.json and report.html, which needs no other file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from text2cinemagraph.data.files import atomic, in_any_case, make_folder, read_json
from text2cinemagraph.evaluate.clips import predicted_clips, true_clips
from text2cinemagraph.evaluate.measures import MEASURES, Item, measure
from text2cinemagraph.evaluate.page import write_report
from text2cinemagraph.evaluate.video_quality import lpips_missing
from text2cinemagraph.options.cli import Parser, number, run_main
from tqdm import tqdm


def items_of(
    folder: str | Path, gt_path: str | Path, mask_path: str | Path = "", motion_norm: float = 64.0
) -> list[Item]:
    """The Items of a results folder, by id. ValueError if there is neither a clip nor a flow in it."""
    folder, gt_path = Path(folder), Path(gt_path)
    for place, flag in (
        (folder, "RESULTS_FOLDER"),
        (gt_path, "--gt_path"),
        *(((Path(mask_path), "--mask_path"),) if mask_path else ()),
    ):
        if not place.is_dir():
            raise FileNotFoundError(f"no folder at {place}; check {flag}")
    clips, truth = _or_none(predicted_clips, folder), _or_none(true_clips, gt_path)
    flows = _flows(folder)
    names = sorted(clips.keys() | flows)
    if not names:
        raise ValueError(
            f"nothing to measure in {folder}; expected <id>_video.mp4 (test_video.py) or <id>_flow.npz (test_motion.py)"
        )
    return [
        Item(
            name,
            _path(clips.get(name)),
            _path(flows.get(name)),
            _path(truth.get(name)),
            _existing(in_any_case(gt_path / f"{name}_motion.pth")),
            _existing(in_any_case(Path(mask_path) / f"{name}_mask.png")) if mask_path else "",
            motion_norm,
        )
        for name in names
    ]


def _flows(folder):
    """{id: path}; <id>_flow.npz before <id>_Motion.pt, which holds the same in another unit."""
    found = {}
    for ending in ("_Motion.pt", "_flow.npz"):
        for path in list(folder.glob(f"*{ending}")) or list((folder / "images").glob(f"*{ending}")):
            found[path.name.removesuffix(ending)] = path
    return found


def measure_all(
    items: Sequence[Item], workers: int = 1, strict: bool = False
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """{id: row} of the items that can be read and {id: reason} of the others; with `strict` the first of those stops
    the run.
    """
    rows, skipped = {}, {}
    with ProcessPoolExecutor(workers) as pool:
        results = map(_attempt, items) if workers == 1 else pool.map(_attempt, items)
        for item, (row, reason) in tqdm(zip(items, results), "measures", total=len(items)):
            if reason is None:
                rows[item.name] = row
                continue
            if strict:
                raise ValueError(f"{reason}; leave out --strict to go on without it")
            skipped[item.name] = reason
            print(f"skipped {item.name}: {reason}", file=sys.stderr)
    if not rows:
        raise ValueError(f"none of the {len(items)} results can be measured; the first: {next(iter(skipped.values()))}")
    return rows, skipped


def _attempt(item):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # many processes, or one that waits for the video decoder
    try:
        return measure(item), None
    except (ValueError, OSError) as error:
        return None, str(error)


def summary(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{measure: {n, mean, median, low, high (95 % of the mean), worst, worst_id}} over the rows that have it."""
    found = {}
    for name, what in MEASURES.items():
        values = {item: row[name] for item, row in rows.items() if row.get(name) is not None}
        if values:
            numbers = np.array(list(values.values()), dtype=float)
            half = 1.96 * numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
            worst = max(values, key=lambda item: what.badness(values[item]))
            found[name] = {
                "n": len(numbers),
                "mean": float(numbers.mean()),
                "median": float(np.median(numbers)),
                "low": float(numbers.mean() - half),
                "high": float(numbers.mean() + half),
                "worst": values[worst],
                "worst_id": worst,
                "better": what.better,
                "unit": what.unit,
                "label": what.label,
            }
    return found


def ranking(rows: Mapping[str, dict[str, Any]]) -> tuple[str | None, list[str]]:
    """(measure, ids from worst to best) by the first measure in the table that is known of most rows."""
    for name, what in MEASURES.items():
        known = {item: row[name] for item, row in rows.items() if row.get(name) is not None}
        if len(known) * 2 > len(rows):
            return name, sorted(known, key=lambda item: -what.badness(known[item]))
    return None, sorted(rows)


def notes_of(items: Sequence[Item], skipped: Mapping[str, str]) -> list[str]:
    """What a reader must know about the numbers, in words."""
    found = [f"{item}: {reason}" for item, reason in skipped.items()]
    for what, label in (("true_clip", "true clip"), ("true_motion", "true flow"), ("mask", "mask file")):
        without = [item.name for item in items if not getattr(item, what)]
        if without:
            meant = "; where the true flow moves is taken instead" if what == "mask" else ""
            found.append(
                f"no {label} for {len(without)} of {len(items)}"
                f" ({', '.join(without[:3])}{', ...' if len(without) > 3 else ''}){meant}"
            )
    return found + (
        [lpips_missing()] if lpips_missing() and any(item.clip and item.true_clip for item in items) else []
    )


def fvd_results(folder: str | Path) -> list[dict[str, Any]]:
    """What compute_fvd.py left in the folder or in images/: a list of its JSON objects."""
    paths = sorted(Path(folder).glob("fvd_*.json")) + sorted((Path(folder) / "images").glob("fvd_*.json"))
    return [_fvd_result(path) for path in paths]


def _fvd_result(path):
    """One of them; ValueError for what compute_fvd.py did not write."""
    advice = "run compute_fvd.py again, or remove it"
    found = read_json(path, advice)
    interval, floor = found.get("interval_95"), found.get("floor") or {}
    numbers = [*(interval if isinstance(interval, list) else ()), *map(found.get, ("value", "n", "feature_dim"))]
    texts = map(found.get, ("type", "mode", "features"))
    known = len(numbers) == 5 and all(isinstance(n, (int, float)) for n in numbers)
    if not known or not all(isinstance(text, str) for text in texts) or not isinstance(floor, dict):
        raise ValueError(f"{path} is no result of compute_fvd.py; {advice}")
    return found


def _or_none(find, folder):
    try:
        return find(folder)
    except ValueError as error:
        if "two predictions" in str(error):
            raise
        return {}


def _existing(path):
    return str(path) if path.is_file() else ""


def _path(path):
    return "" if path is None else str(path)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m evaluate.report", description=__doc__)
    parser.add_argument("folder", metavar="RESULTS_FOLDER", help="results/<name>/<phase>_<epoch>, or images/ in it")
    parser.add_argument("--gt_path", required=True, help="folder of the true clips and flows")
    parser.add_argument("--mask_path", default="", help="folder of <id>_mask.png (default: where the true flow moves)")
    parser.add_argument("--output", default="", help="folder for report.json and report.html (default: RESULTS_FOLDER)")
    parser.add_argument(
        "--motion_norm",
        type=number(float, above=0, most=10_000),
        default=64.0,
        help="unit of <id>_Motion.pt in px/frame (default: %(default)s)",
    )
    parser.add_argument("--workers", type=number(least=1, most=256), default=1, help="processes (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")
    options = parser.parse_args()
    output = Path(options.output or options.folder)
    items = items_of(options.folder, options.gt_path, options.mask_path, options.motion_norm)
    make_folder(output)
    rows, skipped = measure_all(items, options.workers, options.strict)
    name, order = ranking(rows)
    report = {
        "folder": str(options.folder),
        "gt_path": str(options.gt_path),
        "mask_path": options.mask_path,
        "n": len(rows),
        "summary": summary(rows),
        "ordered_by": name,
        "worst_to_best": order,
        "notes": notes_of(items, skipped),
        "fvd": fvd_results(options.folder),
        "items": rows,
    }
    with atomic(output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    write_report(output / "report.html", report, {item.name: item for item in items})
    for measured, found in report["summary"].items():
        print(
            f"{measured:25} {found['mean']:9.3f}  median {found['median']:9.3f}  worst {found['worst']:9.3f}"
            f" ({found['worst_id']})"
        )
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(f"saved: {output / 'report.html'}, {output / 'report.json'}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
