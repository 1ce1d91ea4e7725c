"""summary.png: the stages of a run side by side."""

from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.data.media import read_video, to_uint8

SIDE, BAND, GAP = 256, 22, 6  # px: height of the pictures, of the words above them, between them
BACK, INK, TINT = (24, 24, 26), (235, 235, 235), (1.0, 0.25, 0.2)


def summary(experiment, video_frame=15):
    """What an experiment folder holds by now, as one picture, uint8 [H,W,3]; None for an empty folder.

    video_frame: the frame of the clip that is shown; the last panel shows how much each pixel changes over the clip.
    """
    panels = [(label, make(experiment)) for label, needs, make in PANELS if all(experiment.has(a) for a in needs)]
    if experiment.has("video"):
        panels += _clip_panels(experiment, video_frame)
    if not panels:
        return None
    tiles = [_labelled(label, _scaled(picture)) for label, picture in panels]
    rows = [tiles[i : i + 4] for i in range(0, len(tiles), 4)]
    width = max(sum(tile.shape[1] + GAP for tile in row) - GAP for row in rows)
    return np.concatenate([_padded(_joined(row), width) for row in rows])


def write_summary(experiment):
    """Write summary(experiment) into its folder."""
    sheet = summary(experiment)
    if sheet is not None:
        with atomic(experiment.path("summary")) as path:
            Image.fromarray(sheet).save(path)


def _marked(image, mask):
    """The image in gray with the mask in red over it."""
    if mask.shape[-2:] != image.shape[-2:]:  # of an earlier picture: shown all the same
        mask = F.interpolate(mask[None].float(), image.shape[-2:], mode="nearest")[0] > 0
    gray = image.mean(0, keepdim=True).expand(3, -1, -1) * 0.7
    return torch.where(mask, gray * 0.45 + 0.55 * torch.tensor(TINT)[:, None, None], gray)


PANELS = (
    ("s1  image", ("image",), lambda e: to_uint8(e.read("image"))),
    ("s2  twin", ("twin",), lambda e: to_uint8(e.read("twin"))),
    ("s3  what moves", ("twin", "mask_odise"), lambda e: to_uint8(_marked(*e.read("twin", "mask_odise")))),
    ("s4  sharpened", ("image", "mask"), lambda e: to_uint8(_marked(*e.read("image", "mask")))),
    ("s5  flow", ("flow",), lambda e: flow_to_color(e.read("flow"))),
)


def _clip_panels(experiment, number):
    frames = [frame.astype(np.int16) for frame in islice(read_video(experiment.path("video"), step=3), 40)]
    change = np.max([np.abs(frame - frames[0]).mean(2) for frame in frames], axis=0)
    change = np.uint8(255 * (change / max(change.max(), 1)) ** 0.6)
    return [
        (f"s6  frame {3 * min(number // 3, len(frames) - 1)}", np.uint8(frames[min(number // 3, len(frames) - 1)])),
        ("s6  change over the clip", np.repeat(change[..., None], 3, 2)),
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
