"""Make a looping clip of every picture in a folder from its flow: the output of test_motion.py, or the true one.

    python test_video.py --name mini/video --dataroot dataset/procedural_data/validation \\
        --motion_basepath results/mini/motion/test_latest/images

Writes results/<name>/<phase>_<epoch>/images/<id>_video.mp4.
"""

from pathlib import Path

import torch.nn.functional as F
from tqdm import tqdm

from data.datasets import ids, match_flow, picture_of
from data.flow import clamp_flow, read_flow, read_motion
from data.media import VideoWriter, read_image
from models.video import load_video_model
from options.cli import read_command, run_main
from options.runtime import runtime_of
from options.train import VideoApply


def main():
    options = read_command(VideoApply, __doc__)
    runtime = runtime_of(options.gpu_ids, options.seed, options.threads)
    model = load_video_model(options.folder, options, runtime, options.which_epoch)
    folder = Path(options.images)
    for item in tqdm(ids(options.dataroot)[:options.how_many or None], "clips"):
        image = sized(read_image(picture_of(options.dataroot, item)), options.fineSize)
        flow = match_flow(flow_of(options, item), image)
        flow = clamp_flow(flow, options.clamp, limit=min(image.shape[1:]) / 512) * options.speed
        with VideoWriter(folder / f"{item}_video.mp4", options.fps) as video:
            for frame in model.frames(image, flow, options.n_frames, options.blend):
                video.write(frame)
    print(f"clips of the pictures in {options.dataroot}: {folder}")


def sized(image, side):
    """The picture with its short side `side` px long; 0 = as it is."""
    if not side or min(image.shape[1:]) == side:
        return image
    height, width = (round(length * side / min(image.shape[1:])) for length in image.shape[1:])
    return F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def flow_of(options, item):
    """Flow in px/frame: ours, the authors' file, or the true one if no folder is given."""
    if not options.motion_basepath:
        return read_motion(Path(options.dataroot) / f"{item}_motion.pth")
    ours = Path(options.motion_basepath) / f"{item}_flow.npz"
    return read_flow(ours) if ours.is_file() else read_flow(ours.with_name(f"{item}_Motion.pt")) * options.motion_norm


if __name__ == "__main__":
    run_main(main)
