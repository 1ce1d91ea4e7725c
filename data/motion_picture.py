"""Pictures of a motion: arrows with their speeds over the darkened picture, and the colour wheel that explains a flow's
colours.
"""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.data.media import to_uint8
from text2cinemagraph.data.motion_file import DrawnMotion

DARK, DARKER = 0.55, 0.3  # how bright the picture stays inside the mask and outside it
FLOW, DRAWN, ANCHOR, RIM = (150, 200, 255), (255, 214, 64), (255, 96, 80), (16, 16, 18)
SPACING = 1 / 14  # of the short side: the distance of the flow's own small arrows
TWICE = 2  # drawn so much larger and then reduced, which makes smooth lines
WHEEL = 0.11  # of the short side: the colour wheel's radius


def motion_picture(
    image: torch.Tensor, mask: torch.Tensor, flow: torch.Tensor, motion: DrawnMotion | None = None
) -> np.ndarray:
    """The darkened picture with the flow as small arrows, and over them the drawn arrows with their speeds in px/frame
    and the anchors as rings: uint8 [H,W,3].

    image: [3,H,W] in [0,1].  mask: bool [1,H,W].  flow: [2,H,W] px/frame.  motion: DrawnMotion of the picture's size.
    """
    height, width = image.shape[-2:]
    bright = torch.where(mask.cpu(), DARK, DARKER)
    canvas = Image.fromarray(to_uint8(image.cpu() * bright)).resize(
        (width * TWICE, height * TWICE), Image.Resampling.BILINEAR
    )
    draw, unit = ImageDraw.Draw(canvas), TWICE * min(height, width) / 512  # px of the canvas per px at 512
    for tail, head, _ in flow_arrows(flow, mask):
        _line(draw, [tail, head], FLOW, 1.6 * unit, 5 * unit)
    if motion is not None:
        for arrow in motion.arrows:
            _line(draw, arrow.path, RIM, 6.5 * unit, 15 * unit)
            _line(draw, arrow.path, DRAWN, 3.5 * unit, 13 * unit)
        font = ImageFont.load_default(max(round(14 * unit), 9))
        for arrow in motion.arrows:
            _text(draw, arrow.path[-1], f"{arrow.speed_at((height, width)):.2f}", font, unit)
        for x, y in motion.anchors:
            for radius, colour in ((8 * unit, RIM), (6.5 * unit, ANCHOR), (3 * unit, RIM)):
                draw.ellipse(
                    [x * TWICE - radius, y * TWICE - radius, x * TWICE + radius, y * TWICE + radius], fill=colour
                )
    return np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS))


def flow_arrows(flow: torch.Tensor, mask: torch.Tensor) -> list:
    """A flow [2,H,W] as small arrows on a grid inside the mask: list of (tail (x, y), head (x, y), px/frame); the
    fastest fills the grid's spacing.
    """
    height, width = flow.shape[-2:]
    step = max(min(height, width) * SPACING, 4)
    fastest = float(flow.norm(dim=0).max())
    if fastest == 0:
        return []
    arrows = []
    for row in range(int(height / step)):
        for column in range(int(width / step)):
            x, y = (column + 0.5) * step, (row + 0.5) * step
            dx, dy = flow[:, int(y), int(x)].tolist()
            speed = math.hypot(dx, dy)
            if mask[0, int(y), int(x)] and speed > 0.05 * fastest:
                scale = 0.9 * step * (speed / fastest) ** 0.5 / speed / 2  # root: slow parts stay visible
                arrows.append(((x - dx * scale, y - dy * scale), (x + dx * scale, y + dy * scale), speed))
    return arrows


def with_wheel(pixels: np.ndarray) -> np.ndarray:
    """A flow's picture (uint8 [H,W,3], data.flow.flow_to_color) with the colour wheel in its lower right corner: the
    colour of each direction, and its reach = the fastest of this flow.
    """
    height, width = pixels.shape[:2]
    radius = max(int(WHEEL * min(height, width)), 6)
    reach = round(1.15 * radius)  # with the ring around it
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    away = np.hypot(x, y) / radius
    wheel = flow_to_color(torch.from_numpy(np.stack([x, y]) * (away <= 1)).float() / radius)
    box = (slice(height - 2 * reach - 2, height - 1), slice(width - 2 * reach - 2, width - 1))
    ring = np.clip((1.12 - away) / 0.06, 0, 1)[..., None]  # dark, with a soft edge
    disc = np.clip((0.98 - away) / 0.04, 0, 1)[..., None]
    result = pixels.copy()
    around = pixels[box] * (1 - 0.75 * ring) + 0.75 * ring * np.array(RIM)
    result[box] = np.round(around * (1 - disc) + wheel * disc).astype(np.uint8)
    return result


def _line(draw, path, colour, width, head):
    """A line through points (x, y) of the picture with a head at its end; width and head in px of the canvas."""
    points = [(x * TWICE, y * TWICE) for x, y in path]
    length = sum(math.dist(a, b) for a, b in zip(points, points[1:]))
    head = min(head, 0.7 * length + width)
    (x1, y1), (x0, y0) = points[-1], _before(points, head)
    turn = math.atan2(y1 - y0, x1 - x0)
    draw.line(
        [*_until(points, head * 0.8), (x1 - 0.7 * head * math.cos(turn), y1 - 0.7 * head * math.sin(turn))],
        fill=colour,
        width=max(round(width), 1),
        joint="curve",
    )
    wings = [(x1 - head * math.cos(turn + side), y1 - head * math.sin(turn + side)) for side in (-0.45, 0.45)]
    draw.polygon([(x1, y1), *wings], fill=colour)


def _before(points, way):
    """The point `way` px before the end of a polyline."""
    for a, b in zip(points[-2::-1], points[:0:-1]):
        length = math.dist(a, b)
        if length >= way:
            return (b[0] + (a[0] - b[0]) * way / length, b[1] + (a[1] - b[1]) * way / length)
        way -= length
    return points[0]


def _until(points, way):
    """The points of a polyline that lie more than `way` px before its end; the first in any case."""
    ends = np.cumsum([math.dist(a, b) for a, b in zip(points, points[1:])])
    return [points[0], *(point for point, end in zip(points[1:], ends) if ends[-1] - end > way)]


def _text(draw, place, text, font, unit):
    """A number beside an arrow's head, moved into the picture where it would leave it."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x, y = place[0] * TWICE + 8 * unit, place[1] * TWICE - (bottom - top) - 8 * unit
    x, y = min(x, draw.im.size[0] - right - 4 * unit), max(y, 2 * unit)
    draw.text((x, y), text, DRAWN, font, stroke_width=max(round(2 * unit), 1), stroke_fill=RIM)
