"""Make a looping clip of every picture in a folder from its flow: the output of test_motion.py, or the true one.

    python test_video.py --name mini/video --dataroot dataset/procedural_data/validation \\
        --motion_basepath results/mini/motion/test_latest/images

Writes results/<name>/<phase>_<epoch>/images/<id>_video.mp4 and, beside images/, index.html to look at and
finished/<id>.json (what the clip was made from; how still it is and how well it loops before encoding). Clips that are
done already, by the same weights, from the same inputs, are kept. Several GPUs share the pictures: --gpu_ids 0,1,2,
torchrun, or SLURM; with --share lease, uneven machines finish together.
Next: python evaluate/compute_fvd.py, python -m evaluate.report.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.options.cli import read_command, run_main
from text2cinemagraph.options.train import VideoApply
from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.models.video import VideoModel


def main() -> int | None:
    options = read_command(VideoApply, __doc__)

    from text2cinemagraph.data.datasets import ids, picture_of
    from text2cinemagraph.data.files import remove_leftovers
    from text2cinemagraph.evaluate.index_page import write_index
    from text2cinemagraph.jobs.finished import Finished
    from text2cinemagraph.jobs.share import run_on_all, share_of
    from text2cinemagraph.jobs.turns import shared_leases, turns
    from text2cinemagraph.models.video import load_video_model
    from text2cinemagraph.options.runtime import runtime_of

    code = run_on_all(options.gpu_ids, sys.argv)
    if code is not None:
        return code
    share = share_of(options.gpu_ids)
    runtime = runtime_of(share.gpu_ids, options.seed, options.threads)
    model = load_video_model(options.folder, options.architecture, runtime, options.which_epoch)
    images, items = Path(options.images), ids(options.dataroot)[: options.how_many or None]
    finished = Finished(images.parent, options)
    remove_leftovers(images)

    def key_of(item: str) -> str:
        return finished.key(picture_of(options.dataroot, item), flow_path(options, item))

    def done(item: str) -> bool:
        return finished.record(item, key_of(item), [images / f"{item}_video.mp4"]) is not None

    with shared_leases(options.share, images.parent / ".leases") as leases:
        total = len(share.of(items) if leases is None else items)
        with tqdm(total=total, desc=share.title("clips")) as bar:
            for (item,) in turns(items, done, share=share, leases=leases, seen=bar.update):
                key = key_of(item)  # of what the clip is made from, whatever lies there when it is done
                finished.begin(item)
                finished.end(item, key, **make_clip(options, model, item, images / f"{item}_video.mp4"))
    print(f"clips of the pictures in {options.dataroot}: {images}; look at {write_index(images.parent)}")


def make_clip(options: VideoApply, model: VideoModel, item: str, path: str | Path) -> dict[str, Any]:
    """Write the clip.  Returns what can only be measured before it is encoded (see LoopMeter; the mask is where the
    flow is not 0).
    """
    from text2cinemagraph.data.datasets import match_flow, picture_of
    from text2cinemagraph.data.media import VideoWriter, read_image, to_uint8
    from text2cinemagraph.evaluate.loop_error import LoopMeter
    from text2cinemagraph.models.loop import LoopRenderer

    image = sized(read_image(picture_of(options.dataroot, item), animated=True), options.fineSize)
    flow = match_flow(flow_of(options, item), image)
    mask = (flow != 0).any(0, keepdim=True)
    frames = (
        LoopRenderer(lambda: model)
        .set_image(image, mask)
        .render(
            flow,
            options.n_frames,
            speed=options.speed,
            clamp=options.clamp,
            motion="splat",
            blend=options.blend,
            keep_detail=options.keep_detail,
            holes="network",
            lookup=options.lookup,
            composite=options.composite,
        )
    )
    meter = LoopMeter(mask, flow_every=0)
    with VideoWriter(path, options.fps) as video:
        for frame in frames:
            pixels = to_uint8(frame)
            meter.add(pixels)
            video.write(pixels)
    return meter.result() if options.n_frames > 2 else {}


def sized(image: torch.Tensor, side: int) -> torch.Tensor:
    """The picture with its short side `side` px long; 0 = as it is."""
    import torch.nn.functional as F

    if not side or min(image.shape[1:]) == side:
        return image
    height, width = (round(length * side / min(image.shape[1:])) for length in image.shape[1:])
    return F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0].clamp(
        0, 1
    )


def flow_path(options: VideoApply, item: str) -> Path:
    """Where an item's flow is: ours, the authors' file, or the true one if no folder is given."""
    from text2cinemagraph.data.datasets import motion_of

    if not options.motion_basepath:
        return motion_of(options.dataroot, item)
    ours = Path(options.motion_basepath) / f"{item}_flow.npz"
    return ours if ours.is_file() else ours.with_name(f"{item}_Motion.pt")


def flow_of(options: VideoApply, item: str) -> torch.Tensor:
    """That flow in px/frame at its own size."""
    from text2cinemagraph.data.flow import read_flow, read_motion

    path = flow_path(options, item)
    if not options.motion_basepath:
        return read_motion(path)
    return read_flow(path) * (options.motion_norm if path.name.endswith("_Motion.pt") else 1)


if __name__ == "__main__":
    run_main(main)
