"""summary.png: the stages of a run side by side."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from text2cinemagraph.data.artifacts import Panel
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.data.media import to_uint8
from text2cinemagraph.data.videos import read_video

SIDE, BAND, GAP = 256, 22, 6  # px: height of the pictures, of the words above them, between them
BACK, INK, TINT = (24, 24, 26), (235, 235, 235), (1.0, 0.25, 0.2)


def summary(experiment: Experiment, panels: Sequence[Panel], video_frame: int = 15) -> np.ndarray | None:
    """What an experiment folder holds by now, as one picture, uint8 [H,W,3]; None for an empty folder.

    video_frame: the frame of a clip that is shown; beside it stands how much each pixel changes over the clip.
    """
    tiles = []
    for panel in panels:
        if not all(experiment.has(artifact) for artifact in panel.needs):
            continue
        if panel.show == "clip":
            tiles += _clip_panels(experiment.path(panel.needs[0]), panel.label, video_frame)
        else:
            tiles.append((panel.label, SHOWS[panel.show](experiment, panel.needs)))
    if not tiles:
        return None
    tiles = [_labelled(label, _scaled(picture)) for label, picture in tiles]
    rows = [tiles[i : i + 4] for i in range(0, len(tiles), 4)]
    width = max(sum(tile.shape[1] + GAP for tile in row) - GAP for row in rows)
    return np.concatenate([_padded(_joined(row), width) for row in rows])


def write_summary(experiment: Experiment, panels: Sequence[Panel]) -> None:
    """Write summary(experiment, panels) into its folder."""
    sheet = summary(experiment, panels)
    if sheet is not None:
        with atomic(experiment.path("summary")) as path:
            Image.fromarray(sheet).save(path)


def _marked(image, mask):
    """The image in gray with the mask in red over it."""
    if mask.shape[-2:] != image.shape[-2:]:  # of an earlier picture: shown all the same
        mask = F.interpolate(mask[None].float(), image.shape[-2:], mode="nearest")[0] > 0
    gray = image.mean(0, keepdim=True).expand(3, -1, -1) * 0.7
    return torch.where(mask, gray * 0.45 + 0.55 * torch.tensor(TINT)[:, None, None], gray)


# What a panel shows of its artifacts: (experiment, needs) -> picture, uint8 [H,W,3].
SHOWS = {
    "picture": lambda experiment, needs: to_uint8(experiment.read(*needs)),
    "marked": lambda experiment, needs: to_uint8(_marked(*experiment.read(*needs))),
    "flow": lambda experiment, needs: flow_to_color(experiment.read(*needs)),
}


def _clip_panels(path, label, number):
    frames = [frame.astype(np.int16) for frame in islice(read_video(path, step=3), 40)]
    change = np.max([np.abs(frame - frames[0]).mean(2) for frame in frames], axis=0)
    change = np.uint8(255 * (change / max(change.max(), 1)) ** 0.6)
    return [
        (f"{label}frame {3 * min(number // 3, len(frames) - 1)}", np.uint8(frames[min(number // 3, len(frames) - 1)])),
        (f"{label}change over the clip", np.repeat(change[..., None], 3, 2)),
    ]


def _scaled(pixels):
    """uint8 [H,W,3] at the height of the sheet."""
    pixels = pixels.numpy() if torch.is_tensor(pixels) else pixels
    size = SIDE, max(round(SIDE * pixels.shape[1] / pixels.shape[0]), 1)
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()
    return F.interpolate(picture, size, mode="bilinear", antialias=True)[0].round().byte().permute(1, 2, 0).numpy()


def _labelled(label, pixels):
    band = Image.new("RGB", (pixels.shape[1], BAND), BACK)
    ImageDraw.Draw(band).text((4, 4), label, INK, ImageFont.load_default(13))
    return np.concatenate([np.asarray(band), pixels])


def _joined(tiles):
    gap = np.full((tiles[0].shape[0], GAP, 3), BACK, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def _padded(row, width):
    missing = np.full((row.shape[0], width - row.shape[1], 3), BACK, np.uint8)
    return np.concatenate([row, missing], axis=1)
