"""Captions of a data folder by an image-to-text model: one line `<id>:<caption>` for every `<id>_input.jpg`.

    python dataset/generate_captions.py --dataroot dataset/my_data/train --output dataset/captions/my.txt \
        --model Salesforce/blip-image-captioning-large

--model is a folder or the hub id of a model in the local cache: BLIP, BLIP-2, GIT, a vision encoder with a text
decoder, or another one that transformers calls image-text-to-text and that needs no question. Nothing is fetched here.
Captions that exist are kept, so an interrupted run goes on. Several processes (torchrun, srun, sbatch --array) may fill
one file: each keeps what it has made beside it, and who ends merges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from text2cinemagraph.data.datasets import caption_of, ids, picture_of
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import read_image, to_uint8
from text2cinemagraph.jobs.lists import SharedList
from text2cinemagraph.jobs.records import write_lines
from text2cinemagraph.jobs.share import Share, add_share, share_of
from text2cinemagraph.jobs.turns import shared_leases, turns
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.devices import best_device, start_line
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.text_files import read_text
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.jobs.leases import Leases
    from text2cinemagraph.options.runtime import Runtime

MAX_TOKENS = 40  # of a caption; the dataset's have about 10 words
WEIGHTS = ("*.safetensors", "*.bin")


class Captioner:
    """A model and what prepares its pictures. __call__(list of uint8 [H,W,3]) -> list of captions, always the same for
    a picture.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model, self.processor, self.runtime = model, processor, runtime

    def __call__(self, pictures):
        inputs = self.processor(images=[Image.fromarray(p) for p in pictures], return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.runtime.device, self.runtime.dtype)
        tokens = self.model.generate(pixel_values=pixels, max_new_tokens=MAX_TOKENS, do_sample=False)
        return [clean(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]


class _TwoParts:
    """A picture processor and a tokenizer as one, for models saved without a common one (ViT + GPT-2)."""

    def __init__(self, pictures: Any, tokenizer: Any) -> None:
        self.pictures, self.batch_decode = pictures, tokenizer.batch_decode

    def __call__(self, images, return_tensors):
        return self.pictures(images, return_tensors=return_tensors)


def clean(caption: str) -> str:
    """One line without colons, which the original's reader of captions does not survive."""
    return " ".join(caption.replace(":", ",").split())


def load_captioner(source: str | Path, runtime: Runtime) -> Captioner:
    """A Captioner from a folder or the hub id of a cached model; FileNotFoundError says what to fetch, never random
    weights.
    """
    from transformers import AutoModelForImageTextToText

    folder = found_folder(source)
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=runtime.dtype
        )
        processor = _processor(folder)
    except Exception as error:  # a foreign folder makes transformers raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"{source} is no captioner that transformers can load ({reason}); expected BLIP, BLIP-2 or the like"
        ) from error
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise ValueError(f"{source} lacks {len(wrong)} of the captioner's weights, such as {wrong[0]}; fetch it again")
    return Captioner(model.to(runtime.device).eval(), processor, runtime)


def found_folder(source: str | Path) -> Path:
    """The folder of a model on this disk: `source` itself, or its copy in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    folder = Path(source)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(source, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
            raise FileNotFoundError(
                f"no captioner at {source}, neither a folder nor in the hub's cache; fetch one: "
                "hf download Salesforce/blip-image-captioning-large"
            ) from error
    if not (folder / "config.json").is_file() or not any(next(folder.glob(kind), None) for kind in WEIGHTS):
        raise FileNotFoundError(
            f"{folder} holds no whole model (config.json and weights); fetch it again: hf download {source}"
        )
    return folder


def _processor(folder):
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    if hasattr(processor, "image_processor") and hasattr(processor, "batch_decode"):
        return processor
    return _TwoParts(
        AutoImageProcessor.from_pretrained(folder, local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


def written_captions(path: str | Path) -> dict[str, str]:
    """{id: caption} of the whole lines of an earlier run.

    The file is rewritten in UTF-8, without a last line that was cut off.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    if whole.encode() != path.read_bytes():
        with atomic(path) as temporary:
            temporary.write_bytes(whole.encode())
    found = (caption_of(line) for line in whole.split("\n") if ":" in line)
    return {item: caption for item, (caption,) in found}


def generate_captions(
    dataroot: str | Path,
    output: str | Path,
    captioner: Callable[[list[Any]], list[str]],
    *,
    batch: int = 4,
    share: Share | None = None,
    leases: Leases | None = None,
) -> tuple[int, list[str]]:
    """Append the missing captions to `output`, in the order of the pictures. Returns (lines written, messages of what
    could not be captioned).

    captioner: a function from a list of uint8 [H,W,3] to a list of captions.
    share, leases: which of the pictures are this process's (jobs.turns); None = all.
    """
    items, output, share = ids(dataroot), Path(output), share or Share()
    captions = SharedList(output, written_captions, lambda found: write_lines(output, map(":".join, found.items())))
    written, broken = 0, []
    own = len(share.of(items) if leases is None else items)
    try:
        with tqdm(total=own, desc=share.title("captions"), unit="picture") as bar:
            how = {"share": share, "leases": leases, "batch": batch, "seen": bar.update}
            for todo in turns(items, captions.__contains__, **how):
                names, pictures = _pictures(dataroot, todo, broken)
                for name, caption in zip(names, captioner(pictures) if pictures else []):
                    if caption:
                        captions.add(name, caption)
                        written += 1
                    else:
                        broken.append(f"{name}: the model says nothing about it")
    finally:
        captions.merge()
    return written, broken


def _pictures(dataroot, items, broken):
    """(ids, uint8 pictures) of those that can be read; messages of the others go to `broken`."""
    names, pictures = [], []
    for item in items:
        try:
            pictures.append(np.ascontiguousarray(to_uint8(read_image(picture_of(dataroot, item)))))
            names.append(item)
        except (ValueError, OSError) as error:
            broken.append(str(error))
    return names, pictures


def main() -> int | None:
    """The command line."""
    parser = Parser(prog="dataset/generate_captions.py", description=__doc__)
    parser.add_argument("--dataroot", required=True, help="folder with <id>_input.jpg")
    parser.add_argument("--output", required=True, help="text file for the captions; made if missing, continued if not")
    parser.add_argument("--model", required=True, help="folder, or hub id of a model in the local cache")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--batch", type=number(least=1, most=4096), default=4, help="pictures at a time (default: %(default)s)"
    )
    add_share(parser)
    args = parser.parse_args()
    ids(args.dataroot)  # a wrong folder is told before a large model is loaded
    share = share_of("0")
    several = args.device == "auto" and share.world > 1 and best_device() == "cuda"
    runtime = make_runtime(f"cuda:{share.gpu_ids}" if several else args.device)
    print(start_line(runtime), flush=True)
    captioner = load_captioner(args.model, runtime)
    output = Path(args.output)
    with shared_leases(args.share, output.with_name(f".{output.name}.leases")) as leases:
        written, broken = generate_captions(
            args.dataroot, output, captioner, batch=args.batch, share=share, leases=leases
        )
    print(f"{written} captions written to {args.output}, {len(broken)} pictures skipped")
    for message in broken:
        print(f"skipped: {message}", file=sys.stderr)
    return 1 if broken and not written else 0


if __name__ == "__main__":
    run_main(main)
