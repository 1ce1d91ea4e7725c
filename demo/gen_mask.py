"""Masks for a folder of pictures, by the segmenter of stage s3: `<id>_input.jpg` (or any picture) -> `<id>_mask.png`.

    python demo/gen_mask.py --input dataset/eulerian_data/validation \
        --output dataset/eulerian_data/validation_masks_odise --vocab "water, waterfall, river, ocean, lake, sea"

Masks that exist already are kept, so an interrupted run goes on where it stopped. Broken pictures, and pictures
in which nothing was found, get no mask and are named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.jobs.share import add_share
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.inference import Odise
from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.jobs.leases import Leases
    from text2cinemagraph.jobs.share import Share

SUFFIXES = (".png", ".jpg", ".jpeg")
TINT = [0.1, 0.5, 1.0]  # the overlay's blue


def pictures(folder: str | Path) -> dict[str, Path]:
    """The pictures of a folder, sorted, as {id: path}: `<id>_input.jpg` names its id, any other picture is its own."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --input must hold pictures, such as <id>_input.jpg")
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")):
        name = path.stem.removesuffix("_input")
        if name in found:
            raise ValueError(
                f"{found[name].name} and {path.name} in {folder} would both give {name}_mask.png; rename one of them"
            )
        found[name] = path
    if not found:
        raise FileNotFoundError(
            f"no pictures in {folder}; expected {', '.join(SUFFIXES)} files, such as <id>_input.jpg"
        )
    return found


def overlay(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Tint the masked part of an image [3,H,W] in [0,1] blue, for looking at."""
    import torch

    return torch.where(mask, 0.5 * image + 0.5 * torch.tensor(TINT)[:, None, None], image)


@dataclass
class Outcome:
    """Of a folder: how many masks were written and kept, and per picture why there is none."""

    written: int = 0
    kept: int = 0
    broken: list = field(default_factory=list)
    empty: list = field(default_factory=list)


def gen_mask(
    source: str | Path,
    target: str | Path,
    find_mask: Callable[[torch.Tensor], torch.Tensor],
    *,
    with_overlay: bool = False,
    share: Share | None = None,
    leases: Leases | None = None,
    settings: dict[str, Any] | str = "",
) -> Outcome:
    """Write `<id>_mask.png` into `target` for every picture of `source`, by find_mask(image [3,H,W]) -> bool [1,H,W].

    A picture in which nothing is found (EmptyMask) gets no file.
    share: which of the pictures are this process's (jobs.share.Share); None = all.
    leases: take whatever is free instead (jobs.leases.Leases); who shares so is told, too, in which pictures the others
    found nothing, by what `settings` of the segmenter.
    """
    from text2cinemagraph.data.files import remove_leftovers
    from text2cinemagraph.data.media import read_image, read_mask, write_image
    from text2cinemagraph.jobs.records import Records, content_key
    from text2cinemagraph.jobs.share import Share
    from text2cinemagraph.jobs.turns import turns

    share, target, outcome = share or Share(), Path(target), Outcome()
    found, tried, there = list(pictures(source).items()), Records(target / ".tried"), {}
    remove_leftovers(target)

    def done(item: tuple[str, Path]) -> bool:
        name, path = item
        if (target / f"{name}_mask.png").exists():  # perhaps painted by hand: never made again
            there[name] = path
        elif leases is not None and name not in there:
            without = tried.known(name, content_key(settings, path))
            if without:
                there[name] = None
                _note(outcome, path, without["problem"])
        return name in there

    with tqdm(
        total=len(share.of(found) if leases is None else found), desc=share.title("masks"), unit="picture"
    ) as bar:
        for ((name, path),) in turns(
            found, done, share=share, leases=leases, name=lambda item: item[0], seen=bar.update
        ):
            problem = _make_mask(path, target, name, find_mask, with_overlay)
            if problem is None:
                outcome.written += 1
                continue
            _note(outcome, path, problem)
            if leases is not None:
                tried.end(name, content_key(settings, path), problem=problem)
    kept = {name: path for name, path in there.items() if path is not None}
    outcome.kept = len(kept)
    for name, path in kept.items() if with_overlay else ():
        mask_path, overlay_path = target / f"{name}_mask.png", target / f"{name}_overlay.jpg"
        if not overlay_path.exists():
            write_image(overlay_path, overlay(read_image(path), read_mask(mask_path)))
    return outcome


def _note(outcome, path, problem):
    """problem: what is wrong with the picture; "" = nothing was found in it."""
    if problem:
        outcome.broken.append(problem)
    else:
        outcome.empty.append(path.name)


def _make_mask(path, target, name, find_mask, with_overlay):
    """Write the mask of one picture.  Returns None, or why there is none ("" = nothing was found)."""
    from text2cinemagraph.data.media import read_image, write_image, write_mask
    from text2cinemagraph.img2img.segment import EmptyMask

    try:
        image = read_image(path, animated=True)
    except (ValueError, OSError) as error:
        return str(error)
    try:
        mask = find_mask(image)
    except EmptyMask:
        return ""
    if with_overlay:
        write_image(target / f"{name}_overlay.jpg", overlay(image, mask))
    write_mask(target / f"{name}_mask.png", mask)  # last: its presence means that this picture is done
    return None


def report(outcome: Outcome, target: str | Path, vocabulary: str) -> None:
    """What a person wants to know at the end; pictures without a mask by name."""
    print(
        f"{outcome.written} masks written to {target}, {outcome.kept} were there already, {len(outcome.broken)} "
        f"pictures broken, {len(outcome.empty)} without anything of the vocabulary"
    )
    for message in outcome.broken:
        print(f"skipped: {message}", file=sys.stderr)
    if outcome.empty:
        print(
            f"no mask: nothing of {vocabulary!r} found in {', '.join(outcome.empty)}; widen --vocab, try another "
            "--backend, or paint these masks by hand",
            file=sys.stderr,
        )


def main() -> int | None:
    """The command line."""
    from text2cinemagraph.img2img.segment import BACKENDS

    parser = Parser(prog="demo/gen_mask.py", description=__doc__)
    parser.add_argument("--input", required=True, help="folder of pictures")
    parser.add_argument("--output", required=True, help="folder for <id>_mask.png; made if missing")
    parser.add_argument(
        "--vocab",
        default=Odise.vocab,
        help="what may move; ';' separates classes, ',' their synonyms (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        default=Odise.backend,
        choices=["auto", *BACKENDS],
        help="which segmenter; auto: by --checkpoint, else the best whose weights are here (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint",
        default="",
        help="its weights: a folder, or a hub id in the local cache (default: the backend's "
        f"own place, such as {BACKENDS['odise'].checkpoint}; else the one checkpoints/*/segmenter)",
    )
    parser.add_argument(
        "--overlay", action="store_true", help="also write <id>_overlay.jpg, the picture with the mask in blue"
    )
    parser.add_argument(
        "--gpu_ids",
        default="0",
        help="GPUs, one process each, such as 0,1; -1: the CPU (default: %(default)s; without a GPU the CPU)",
    )
    add_share(parser)
    arguments = parser.parse_args()

    from text2cinemagraph.img2img.segment import load_segmenter, segment
    from text2cinemagraph.jobs.share import run_on_all, share_of
    from text2cinemagraph.jobs.turns import shared_leases
    from text2cinemagraph.options.runtime import runtime_of
    from text2cinemagraph.pipeline.networks import Networks

    code = run_on_all(arguments.gpu_ids, sys.argv)
    if code is not None:
        return code
    share = share_of(arguments.gpu_ids)
    runtime = runtime_of(share.gpu_ids)
    name, checkpoint = segmenter(arguments.backend, arguments.checkpoint)
    print(f"segmenter: {name}, {checkpoint or 'its own weights'} (licence: {BACKENDS[name].licence})", file=sys.stderr)

    shelf = Networks()

    def find_mask(image: torch.Tensor) -> torch.Tensor:
        return segment(image, arguments.vocab, shelf.get("segmenter", load_segmenter, name, checkpoint, runtime)).mask

    settings = {"vocab": arguments.vocab, "backend": name, "checkpoint": str(checkpoint)}
    with shared_leases(arguments.share, Path(arguments.output) / ".leases") as leases:
        outcome = gen_mask(
            arguments.input,
            arguments.output,
            find_mask,
            with_overlay=arguments.overlay,
            share=share,
            leases=leases,
            settings=settings,
        )
    report(outcome, arguments.output, arguments.vocab)
    return 1 if outcome.broken and not outcome.written + outcome.kept else 0


def segmenter(backend: str, checkpoint: str) -> tuple[str, str]:
    """(backend, checkpoint) as asked, or what is here: s3's places first, then the only segmenter one folder deeper."""
    from text2cinemagraph.img2img.segment import choose_backend

    try:
        return choose_backend(backend, checkpoint)
    except FileNotFoundError:
        nearby = sorted(Path("checkpoints").glob("*/segmenter/card.json"))  # shipped ones have a card
        if len(nearby) != 1:
            raise
        return choose_backend("auto", nearby[0].parent)


def t2c_mask() -> None:
    """The console script `t2c-mask`."""
    run_main(main)


if __name__ == "__main__":
    run_main(main)
