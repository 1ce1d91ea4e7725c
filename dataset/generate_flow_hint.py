"""Training hints from true flow: `<id>_motion.pth` -> `<id>/<k>_blend.pth`, blended from k = 1..n points of it.

    python dataset/generate_flow_hint.py --dataroot dataset/eulerian_data/train \
        --save_path dataset/eulerian_data/train_motion_hints --n_clusters 5

Files: torch float64 (2,H,W), px/frame, as the original's. Hints that exist are kept, so an interrupted run goes on.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import read_motion
from text2cinemagraph.data.hint import blended_hint
from text2cinemagraph.jobs.share import Share, add_share, share_of
from text2cinemagraph.jobs.turns import shared_leases, turns
from text2cinemagraph.options.cli import Parser, number, run_main
from threadpoolctl import threadpool_limits
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.jobs.leases import Leases

SEED = 5  # the original's


def write_hints(
    motion_path: str | Path, save_path: str | Path, n_clusters: int, seed: int = SEED
) -> tuple[int, str | None]:
    """Write the missing hints of one motion file. Returns (files written, message or None if the motion could not be
    read).
    """
    missing = missing_hints(motion_path, save_path, n_clusters)
    if not missing:
        return 0, None
    try:
        flow = read_motion(motion_path)
    except (ValueError, OSError) as error:
        return 0, str(error)
    with threadpool_limits(1):  # one thread per process: there is a process per core already
        for k, path in missing.items():
            with atomic(path) as temporary:
                torch.save(blended_hint(flow, k, seed).double(), temporary)
    return len(missing), None


def missing_hints(motion_path: str | Path, save_path: str | Path, n_clusters: int) -> dict[int, Path]:
    """{k: path} of the hint files of one motion that are not there yet."""
    folder = Path(save_path) / Path(motion_path).name.removesuffix("_motion.pth")
    paths = {k: folder / f"{k}_blend.pth" for k in range(1, n_clusters + 1)}
    return {k: path for k, path in paths.items() if not path.exists()}


def generate_flow_hint(
    dataroot: str | Path,
    save_path: str | Path,
    n_clusters: int = 5,
    *,
    workers: int = 1,
    share: Share | None = None,
    leases: Leases | None = None,
) -> tuple[int, list[str]]:
    """Write all missing hints of a dataset. Returns (files written, messages of the motions that could not be read).

    workers: processes.   share, leases: which of the motions are this process's (jobs.turns); None = all.
    """
    dataroot = Path(dataroot)
    motions = sorted(str(path) for path in dataroot.glob("*_motion.pth"))
    if not motions:
        raise FileNotFoundError(
            f"no <id>_motion.pth in {dataroot}; --dataroot must be the dataset's train or validation folder"
        )
    if n_clusters < 1:
        raise ValueError(f"--n_clusters {n_clusters}: expected 1 or more")
    job, results, share = partial(write_hints, save_path=str(save_path), n_clusters=n_clusters), [], share or Share()

    def done(path: str | Path) -> bool:
        return not missing_hints(path, save_path, n_clusters)

    own = len(share.of(motions) if leases is None else motions)
    batch = max(own, 1) if leases is None else 4 * workers  # of claims no more than these processes make soon
    with ProcessPoolExecutor(workers) as pool, tqdm(total=own, desc=share.title("hints"), unit="motion") as bar:
        how = {"share": share, "leases": leases, "batch": batch, "name": lambda path: Path(path).stem}
        for paths in turns(motions, done, **how):
            for result in map(job, paths) if workers == 1 else pool.map(job, paths):
                results.append(result)
                bar.update()
        bar.update(own - bar.n)
    return sum(count for count, _ in results), [message for _, message in results if message]


def main() -> int | None:
    """The command line."""
    parser = Parser(prog="dataset/generate_flow_hint.py", description=__doc__)
    parser.add_argument("--dataroot", required=True, help="folder with <id>_motion.pth")
    parser.add_argument("--save_path", required=True, help="folder for <id>/<k>_blend.pth; made if missing")
    parser.add_argument(
        "--n_clusters", type=number(least=1, most=1000), default=5, help="hints with 1..n points (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=number(least=1, most=256),
        default=os.cpu_count() or 1,
        help="processes (default: %(default)s)",
    )
    add_share(parser)
    arguments = parser.parse_args()
    with shared_leases(arguments.share, Path(arguments.save_path) / ".leases") as leases:
        written, broken = generate_flow_hint(
            arguments.dataroot,
            arguments.save_path,
            arguments.n_clusters,
            workers=arguments.workers,
            share=share_of("-1"),
            leases=leases,
        )
    print(f"{written} hints written to {arguments.save_path}, {len(broken)} motions skipped")
    for message in broken:
        print(f"skipped: {message}", file=sys.stderr)
    return 1 if broken and not written else 0


if __name__ == "__main__":
    run_main(main)
