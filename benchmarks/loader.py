"""How many training items one CPU core reads per second, against what a step needs.

    python -m benchmarks.loader                          # 512 px, as the published networks train; a minute
    python -m benchmarks.loader --size 256 --items 24

Timed apart: decoding the picture, reading the motion, zoom, crop and flip of both, the whole item of flow and of frames
(three PNGs), in one process. Then the loader with two processes. The files are in the system's cache, as they are from
the second epoch on where memory holds the set; there is no other cache. The need: at a batch of 16 and one second a
step, 16 items a second, per GPU.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.datasets import FrameDataset, MotionDataset, Window, picture_of
from text2cinemagraph.data.flow import read_motion
from text2cinemagraph.data.media import read_image
from text2cinemagraph.mini.procedural import Job, generate
from text2cinemagraph.options.cli import Parser, number, run_main


def rate(call: Callable[[Any], Any], items: Sequence[Any], least: float = 3.0) -> float:
    """Calls per second, over all items again and again for `least` seconds, after one warm-up."""
    call(items[0])
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < least:
        call(items[done % len(items)])
        done += 1
    return round(done / (time.perf_counter() - started), 1)


def loader_rate(dataset: torch.utils.data.Dataset, workers: int, least: float = 6.0) -> float:
    """Items per second of a DataLoader with several processes, in which an epoch is long enough for its start not to
    count.
    """
    dataset.items = dataset.items * 40
    loader = torch.utils.data.DataLoader(
        dataset, 4, shuffle=True, num_workers=workers, collate_fn=list, persistent_workers=True
    )
    batches = iter(loader)
    next(batches)
    done, started = 0, time.perf_counter()
    for batch in batches:
        done += len(batch)
        if time.perf_counter() - started > least:
            break
    return round(done / (time.perf_counter() - started), 1)


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.loader", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=number(least=32, most=8192), default=512, help="px: of the pictures and of the crops"
    )
    parser.add_argument("--items", type=number(least=1, most=100_000), default=8)
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/loader.json")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "train"
        generate([Job(i, root, size=flags.size, n_styles=0, video=True) for i in range(flags.items)])
        motion, frames = (kind(root, flags.size) for kind in (MotionDataset, FrameDataset))
        masked = MotionDataset(root, flags.size, mask_path=f"{root}_masks", use_hint=True)
        names, draw = list(motion.items), random.Random(0)
        picture, flow = read_image(picture_of(root, names[0])), read_motion(root / f"{names[0]}_motion.pth")

        def crop(_):
            window = Window(picture.shape[1:], flags.size, draw)
            return window.image(picture), window.flow(flow)

        result = {
            "size": flags.size,
            "items": flags.items,
            "per_second_and_core": {
                "decode_picture": rate(lambda item: read_image(picture_of(root, item)), names),
                "read_motion": rate(lambda item: read_motion(root / f"{item}_motion.pth"), names),
                "zoom_crop_flip": rate(crop, names),
                "flow_item": rate(lambda item: motion.read(item, draw), names),
                "flow_item_with_mask_and_hint": rate(lambda item: masked.read(item, draw), names),
                "frame_item": rate(lambda item: frames.read(item, draw), names),
            },
        }
        result["two_processes"] = {"flow_item": loader_rate(motion, 2), "frame_item": loader_rate(frames, 2)}
    need = 16 / 1.0  # items per second, were a step of 16 done in a second
    result["cores_for_a_step_of_16_in_a_second"] = {
        name: round(need / result["per_second_and_core"][name], 2)
        for name in ("flow_item", "flow_item_with_mask_and_hint", "frame_item")
    }
    keep("loader", result, None if flags.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
