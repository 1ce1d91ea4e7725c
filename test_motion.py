"""Predict how the masked part of every picture in a folder moves, and compare with the true flow where there is one.

    python test_motion.py --name mini/motion --dataroot dataset/procedural_data/validation --use_seg_mask \\
        --mask_path dataset/procedural_data/validation_masks \\
        --captions_file dataset/procedural_data/validation_metadata.jsonl

Writes per picture, into results/<name>/<phase>_<epoch>/images: <id>_flow.npz (px/frame), <id>_Motion.pt ([1,2,H,W] in
1/motion_norm, the authors' format) and previews <id>_input_*.jpg; index.html beside images/ shows them. What is done
already, by the same weights, from the same inputs, is kept. Several GPUs share the pictures: --gpu_ids 0,1,2, torchrun,
or SLURM; with --share lease, uneven machines finish together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.options.cli import read_command, run_main
from text2cinemagraph.options.train import MotionApply
from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.jobs.finished import Finished
    from text2cinemagraph.models.motion import MotionModel


def main() -> int | None:
    options = read_command(MotionApply, __doc__)

    from text2cinemagraph.data.datasets import ids, read_captions
    from text2cinemagraph.data.files import remove_leftovers
    from text2cinemagraph.evaluate.index_page import write_index
    from text2cinemagraph.jobs.finished import Finished
    from text2cinemagraph.jobs.share import run_on_all, share_of
    from text2cinemagraph.jobs.turns import shared_leases, turns
    from text2cinemagraph.models.motion import load_motion_model
    from text2cinemagraph.options.runtime import runtime_of

    code = run_on_all(options.gpu_ids, sys.argv)
    if code is not None:
        return code
    share = share_of(options.gpu_ids)
    runtime = runtime_of(share.gpu_ids, options.seed, options.threads)
    model = load_motion_model(options.folder, options.architecture, runtime, options.which_epoch)
    beside = Path(
        f"{options.dataroot.rstrip('/')}_captions.txt"
    )  # where mini/procedural.py and build_from_videos.py leave them
    captions_file = options.captions_file or (beside if beside.is_file() and not options.prompt else "")
    captions = read_captions(captions_file) if captions_file else {}
    images, items = Path(options.images), ids(options.dataroot)[: options.how_many or None]
    finished = Finished(images.parent, options)
    remove_leftovers(images)

    def caption_of(item: str) -> str:
        return options.prompt or (captions.get(item) or [""])[0]

    def key_of(item: str) -> str:
        return finished.key(*inputs_of(options, item), caption_of(item))

    def done(item: str) -> bool:
        made = images / f"{item}_flow.npz", images / f"{item}_Motion.pt"
        return finished.record(item, key_of(item), made) is not None

    with shared_leases(options.share, images.parent / ".leases") as leases:
        total = len(share.of(items) if leases is None else items)
        with tqdm(total=total, desc=share.title("flow")) as bar:
            how = {"share": share, "leases": leases, "batch": options.batchSize, "seen": bar.update}
            for waiting in turns(items, done, **how):
                batch = [(item, key_of(item), caption_of(item)) for item in waiting]
                predict(options, model, batch, images, finished=finished)
    print(f"flow of the pictures in {options.dataroot}: {images}; look at {write_index(images.parent)}")
    errors = [numbers for numbers in finished.numbers(items) if "epe" in numbers]
    if errors:
        mean, still = (sum(numbers[name] for numbers in errors) / len(errors) for name in ("epe", "epe_at_rest"))
        print(
            f"endpoint error inside the masks: {mean:.3f} px/frame; {still:.3f} if nothing moved "
            f"({len(errors)} pictures)"
        )


def inputs_of(options: MotionApply, item: str) -> tuple[Path, ...]:
    """The files that decide about an item's flow, there or not."""
    from text2cinemagraph.data.datasets import motion_of, picture_of
    from text2cinemagraph.data.files import in_any_case

    return (
        picture_of(options.dataroot, item),
        motion_of(options.dataroot, item),
        in_any_case(Path(options.mask_path or ".") / f"{item}_mask.png"),
        Path(options.hints_path or ".") / item / "5_blend.pth",
    )


@dataclass
class Item:
    """A picture [3,H,W] in [0,1] and what is known of it.

    truth: the true flow [2,H,W] in px/frame, or None.   mask: [1,H,W].   caption.   hint: [2,H,W] in px/frame, or None.
    """

    image: torch.Tensor
    truth: torch.Tensor | None
    mask: torch.Tensor
    caption: str
    hint: torch.Tensor | None


def predict(
    options: MotionApply,
    model: MotionModel,
    waiting: Sequence[tuple[str, str, str]],
    folder: Path,
    *,
    finished: Finished,
) -> None:
    """Make and save the flows of some items, together.   waiting: list of (id, key, caption)."""
    read = [read_item(options, model, item, caption) for item, _, caption in waiting]
    flows = model.predict_all([(each.image, each.mask, each.caption, each.hint) for each in read])
    for (item, key, _), each, flow in zip(waiting, read, flows):
        finished.begin(item)
        save(folder, item, flow, each, motion_norm=options.motion_norm)
        finished.end(item, key, **errors_of(flow, each))


def read_item(options: MotionApply, model: MotionModel, item: str, caption: str) -> Item:
    """All that the network needs of one picture; what is missing is named."""
    from text2cinemagraph.data.datasets import picture_of
    from text2cinemagraph.data.media import read_image

    image = read_image(picture_of(options.dataroot, item), animated=True)
    truth = true_flow(options.dataroot, item, image)
    mask = mask_of(options, item, image, truth)
    hint = hint_of(options, model, item, mask, caption=caption) if model.options.takes_hint else None
    if model.options.takes_text and not caption:
        raise ValueError(f"no caption for {item}; set --captions_file to a file that has {item}:<caption>, or --prompt")
    return Item(image, truth, mask, caption, hint)


def errors_of(flow: torch.Tensor, item: Item) -> dict[str, float | None]:
    """Endpoint error inside the mask, and that of rest, in px/frame; {} where the truth is unknown."""
    import torch
    from text2cinemagraph.evaluate.flow_error import endpoint_error

    if item.truth is None or not item.mask.any():
        return {}
    return {
        "epe": endpoint_error(flow, item.truth, item.mask),
        "epe_at_rest": endpoint_error(torch.zeros_like(flow), item.truth, item.mask),
    }


def true_flow(root: str | Path, item: str, image: torch.Tensor) -> torch.Tensor | None:
    """The true flow [2,H,W] in px/frame at the picture's size, or None where the folder has none."""
    from text2cinemagraph.data.datasets import match_flow, motion_of
    from text2cinemagraph.data.flow import read_motion

    path = motion_of(root, item)
    return match_flow(read_motion(path), image) if path.is_file() else None


def mask_of(options: MotionApply, item: str, image: torch.Tensor, truth: torch.Tensor | None) -> torch.Tensor:
    """Where the picture may move, [1,H,W] bool: mask_path's file with use_seg_mask, else where the true flow is."""
    from text2cinemagraph.data.files import in_any_case
    from text2cinemagraph.data.flow import motion_mask
    from text2cinemagraph.data.media import read_mask

    if options.use_seg_mask:
        return read_mask(in_any_case(Path(options.mask_path) / f"{item}_mask.png"), image.shape[1:])
    if truth is None:
        raise ValueError(f"no true flow for {item} to make a mask from; give masks: --use_seg_mask --mask_path ...")
    return motion_mask(truth)


def hint_of(
    options: MotionApply, model: MotionModel, item: str, mask: torch.Tensor, *, caption: str
) -> torch.Tensor | None:
    """The hint [2,H,W] in px/frame: stored arrows of hints_path, else the direction that the caption names."""
    from text2cinemagraph.data.datasets import match_flow
    from text2cinemagraph.data.flow import read_flow
    from text2cinemagraph.data.hint import direction_hint, find_direction, sample_angle

    if options.hints_path:
        return match_flow(read_flow(Path(options.hints_path) / item / "5_blend.pth"), mask)
    phrase, _ = find_direction(caption)
    if phrase is None:
        raise ValueError(
            f'no direction for {item} in "{caption}"; write "... in left to right direction" into its caption or '
            "--prompt, or set --hints_path"
        )
    speed = (options.hint_speed or model.options.hint_speed) * min(mask.shape[1:]) / model.options.fineSize
    return direction_hint(mask, sample_angle(phrase, options.seed), speed)


def save(folder: Path, name: str, flow: torch.Tensor, item: Item, *, motion_norm: float) -> None:
    """Write the flow in both formats, and pictures of everything."""
    import torch
    from text2cinemagraph.data.files import atomic
    from text2cinemagraph.data.flow import flow_to_color, write_flow
    from text2cinemagraph.data.media import write_image

    write_flow(folder / f"{name}_flow.npz", flow)
    with atomic(folder / f"{name}_Motion.pt") as path:
        torch.save(flow[None] / motion_norm, path)
    pictures = {
        "input_image": item.image,
        "mask": item.mask.float().expand(3, -1, -1),
        "synthesized_flow_masked": flow,
        "real_flow": item.truth,
        "hint": item.hint,
    }
    for kind, picture in pictures.items():
        if picture is not None:
            write_image(folder / f"{name}_input_{kind}.jpg", picture if len(picture) == 3 else flow_to_color(picture))


if __name__ == "__main__":
    run_main(main)
