"""Masks for a folder of pictures, by the segmenter of stage s3: `<id>_input.jpg` (or any picture) -> `<id>_mask.png`.

    python demo/gen_mask.py --input dataset/eulerian_data/validation \
        --output dataset/eulerian_data/validation_masks_odise --vocab "water, waterfall, river, ocean, lake, sea"

Masks that exist already are kept, so an interrupted run goes on where it stopped. Broken pictures are skipped and named.
"""

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from data.media import read_image, write_image, write_mask
from img2img.segment import segment
from options.cli import run_main
from options.inference import Odise
from options.runtime import DTYPES, make_runtime

SUFFIXES = (".png", ".jpg", ".jpeg")
TINT = torch.tensor([0.1, 0.5, 1.0])[:, None, None]          # the overlay's blue


def pictures(folder):
    """The pictures of a folder, sorted, as {id: path}: `<id>_input.jpg` names its id, any other picture is its own."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --input must hold pictures, such as <id>_input.jpg")
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")):
        name = path.stem.removesuffix("_input")
        if name in found:
            raise ValueError(f"{found[name].name} and {path.name} in {folder} would both give {name}_mask.png; rename one of them")
        found[name] = path
    if not found:
        raise FileNotFoundError(f"no pictures in {folder}; expected {', '.join(SUFFIXES)} files, such as <id>_input.jpg")
    return found


def overlay(image, mask):
    """Tint the masked part of an image [3,H,W] in [0,1] blue, for looking at."""
    return torch.where(mask, 0.5 * image + 0.5 * TINT, image)


def gen_mask(source, target, find_mask, with_overlay=False):
    """Write `<id>_mask.png` into `target` for every picture of `source`, by find_mask(image [3,H,W]) -> mask bool [1,H,W].

    Returns (written, kept, broken): two counts, and the messages of the pictures that could not be read.
    """
    target, written, kept, broken = Path(target), 0, 0, []
    for name, path in tqdm(pictures(source).items(), desc="masks", unit="picture"):
        mask_path, overlay_path = target / f"{name}_mask.png", target / f"{name}_overlay.jpg"
        if mask_path.exists() and (overlay_path.exists() or not with_overlay):
            kept += 1
            continue
        try:
            image = read_image(path)
        except (ValueError, OSError) as error:
            broken.append(str(error))
            continue
        mask = find_mask(image)
        if with_overlay:
            write_image(overlay_path, overlay(image, mask))
        write_mask(mask_path, mask)                 # last: its presence means that this picture is done
        written += 1
    return written, kept, broken


def default_checkpoint():
    """The segmenter of stage s3's default options, or else the only one found one folder deeper."""
    nearby = sorted(Path(Odise.checkpoint).parent.glob("*/segmenter"))
    return Odise.checkpoint if Path(Odise.checkpoint).exists() or len(nearby) != 1 else str(nearby[0])


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo/gen_mask.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="folder of pictures")
    parser.add_argument("--output", required=True, help="folder for <id>_mask.png; made if missing")
    parser.add_argument("--vocab", default=Odise.vocab,
                        help="what may move; ';' separates classes, ',' their synonyms (default: %(default)s)")
    parser.add_argument("--backend", default=Odise.backend, help="which segmenter (default: %(default)s)")
    parser.add_argument("--checkpoint", help=f"its weights (default: {Odise.checkpoint}, else the one checkpoints/*/segmenter)")
    parser.add_argument("--overlay", action="store_true", help="also write <id>_overlay.jpg, the picture with the mask in blue")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument("--dtype", default="fp32", choices=["auto", *DTYPES], help="(default: %(default)s)")
    arguments = parser.parse_args()
    runtime = make_runtime(arguments.device, arguments.dtype)
    checkpoint = arguments.checkpoint or default_checkpoint()
    print(f"segmenter: {checkpoint}", file=sys.stderr)

    def find_mask(image):
        return segment(image, arguments.vocab, arguments.backend, checkpoint, runtime).mask

    written, kept, broken = gen_mask(arguments.input, arguments.output, find_mask, arguments.overlay)
    print(f"{written} masks written to {arguments.output}, {kept} were there already, {len(broken)} pictures skipped")
    for message in broken:
        print(f"skipped: {message}", file=sys.stderr)
    return 1 if broken and not written + kept else 0


if __name__ == "__main__":
    run_main(main)
