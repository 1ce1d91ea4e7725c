"""Motion drawn by hand: arrows with speeds, anchors that stand still, and the file that keeps them (motion.json).

Read are motion.json, the JSON of labelme (as users of 3D-Cinemagraphy have it), and the short text form
"100,200>180,210; 300,50>300,120". Points are (x, y) in px of the picture, x to the right, y down, (0, 0) its upper left
corner. docs/motion.md has the schema as a table.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.files import atomic

if TYPE_CHECKING:
    import torch

VERSION = 1
FRAMES_OF_AN_ARROW = 60  # an arrow without a speed shows the way of 60 frames: two seconds at 30 frames/s
FASTEST_DEFAULT = (
    256  # ... but never more than a 256th of the short side per frame (2 px at 512 px): a long arrow is a path
)
LARGEST_FILE = 256 * 2**20  # bytes; labelme keeps the whole picture in its file
MOST_POINTS = 100_000
SAME_SHAPE = 0.01  # a file made for another size counts if its shape differs by less than this share
POINT = 1 / 100  # of the geometric mean of the sides: the radius around a point of may_move or must_not_move
POINTS = ("anchors", "may_move", "must_not_move")  # keys whose values are lists of points
KEYS = ("version", "size", "arrows", "anchors", "mask", "may_move", "must_not_move", "speed", "seconds")
_TEXT = re.compile(r"[\d\s.,;>@+-]*>[\d\s.,;>@+-]*")


@dataclass(frozen=True)
class Arrow:
    """path: tuple of (x, y) in px, at least two, from tail to head.  speed: px/frame, or None = from the length."""

    path: tuple
    speed: float | None = None

    def length(self) -> float:
        """px along the path."""
        return sum(math.dist(a, b) for a, b in zip(self.path, self.path[1:]))

    def speed_at(self, size: Sequence[int]) -> float:
        """px/frame in a picture of size (H, W): the given speed, else the length / 60, at most a 256th of the short
        side.
        """
        return self.speed or min(self.length() / FRAMES_OF_AN_ARROW, min(size) / FASTEST_DEFAULT)


@dataclass(frozen=True)
class DrawnMotion:
    """What a hand drew over a picture.

    size: (H, W) of the picture it was drawn on, None = whatever the picture is.  arrows: tuple of Arrow.
    anchors: tuple of (x, y): these points stand still.  mask: Path of a picture (white may move), or a tuple of
    polygons (tuples of (x, y)), or None.  speed: factor on every speed (video.speed), seconds: length of the clip;
    None = not said.  notes: what was left out on reading, in words.
    may_move, must_not_move: tuples of (x, y) in the place of a mask, which follows from them: both or neither.
    """

    arrows: tuple = ()
    anchors: tuple = ()
    size: tuple | None = None
    mask: Path | tuple | None = None
    speed: float | None = None
    seconds: float | None = None
    notes: tuple = field(default=(), compare=False)
    may_move: tuple = ()
    must_not_move: tuple = ()

    def at_size(self, size: Sequence[int]) -> DrawnMotion:
        """The same motion for a picture of `size` (H, W): places and speeds are scaled with it.

        Raises ValueError where the file was drawn on a picture of another shape, or a point lies beyond the picture.
        """
        sx, sy = 1.0, 1.0
        if self.size is not None and tuple(self.size) != tuple(size):
            sy, sx = size[0] / self.size[0], size[1] / self.size[1]
            if abs(sy / sx - 1) > SAME_SHAPE:
                raise ValueError(
                    f"the motion was drawn on a picture of {self.size[1]}x{self.size[0]}, this one is "
                    f"{size[1]}x{size[0]}; draw it again, or crop the picture to that shape"
                )

        def moved(points: Any) -> Any:
            return tuple((x * sx, y * sy) for x, y in points)

        arrows = tuple(Arrow(moved(a.path), None if a.speed is None else a.speed * (sx + sy) / 2) for a in self.arrows)
        mask = tuple(moved(p) for p in self.mask) if isinstance(self.mask, tuple) else self.mask
        points = {name: moved(getattr(self, name)) for name in POINTS}
        scaled = replace(self, arrows=arrows, size=tuple(size), mask=mask, **points)
        for name, points in scaled.named_points():
            for x, y in points:
                if not (0 <= x <= size[1] and 0 <= y <= size[0]):
                    raise ValueError(
                        f"{name}: the point ({x:g}, {y:g}) lies beyond the picture of {size[1]}x{size[0]}; "
                        "move it inside, or give the file's size"
                    )
        return scaled

    def named_points(self) -> Any:
        """(name, points) of every arrow and of all single points, as errors call them."""
        yield from ((f"arrows[{i}]", arrow.path) for i, arrow in enumerate(self.arrows))
        for name in POINTS:
            yield from ((f"{name}[{i}]", (point,)) for i, point in enumerate(getattr(self, name)))

    def mask_at(self, size: Sequence[int]) -> torch.Tensor | None:
        """The mask for a picture of `size` (H, W): bool [1,H,W], True = may move; None where the file has none."""
        if self.mask is None:
            return None
        if isinstance(self.mask, Path):
            from text2cinemagraph.data.media import read_mask

            return read_mask(self.mask, size)
        import cv2
        import numpy as np
        import torch

        height, width = self.size or size
        filled = np.zeros(tuple(size), np.uint8)
        for polygon in self.mask:  # one at a time: together, cv2 would take a doubly covered place for a hole
            corners = np.array(polygon) * (size[1] / width, size[0] / height)
            cv2.fillPoly(filled, [np.round(corners - 0.5).astype(np.int32)], 1)
        return torch.from_numpy(filled > 0)[None]

    def marks_at(self, size: Sequence[int]) -> tuple[torch.Tensor, ...] | None:
        """(moves, still) for a picture of `size` (H, W), as strokes give them: two bool [1,H,W], a disc around every
        point of may_move and of must_not_move; None where the file has none.
        """
        if not self.may_move:
            return None
        import cv2
        import numpy as np
        import torch

        scaled, marks = self.at_size(size), []
        radius = max(round(POINT * math.sqrt(size[0] * size[1])), 1)
        for points in (scaled.may_move, scaled.must_not_move):
            drawn = np.zeros(tuple(size), np.uint8)
            for x, y in points:
                cv2.circle(drawn, (min(int(x), size[1] - 1), min(int(y), size[0] - 1)), radius, 1, -1)
            marks.append(torch.from_numpy(drawn > 0)[None])
        return tuple(marks)


# ---------------------------------------------------------------- reading
def read_motion_file(source: str | Path) -> DrawnMotion:
    """Read motion.json, a labelme JSON, or the text "x,y>x,y; x,y>x,y>x,y@speed" as a DrawnMotion.

    source: path, or the text itself (recognised by its '>').  Raises FileNotFoundError, or ValueError that names the
    entry which is wrong.
    """
    if _TEXT.fullmatch(str(source)):
        return parse_arrows(str(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f'no motion file at {path}; expected motion.json, a labelme JSON, or arrows such as "100,200>180,210"'
        )
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size >> 20} MB; expected a motion file of at most 256 MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({str(error).splitlines()[0][:80]}); write it again") from error
    try:
        if not isinstance(content, dict):
            raise ValueError(f"expected an object with the key arrows, found a {type(content).__name__}")
        return _of_labelme(content) if "shapes" in content else motion_of(content, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_arrows(text: str) -> DrawnMotion:
    """ "100,200>180,210; 300,50>300,120>320,140@1.5" -> DrawnMotion: arrows between ';', '@' a speed in px/frame."""
    arrows: list[Arrow] = []
    for part in (part.strip() for part in text.split(";")):
        if part:
            points, _, given = part.partition("@")
            try:
                path = [[float(number) for number in point.split(",")] for point in points.split(">")]
                speed = float(given) if given.strip() else None
            except ValueError as error:
                raise ValueError(f'--arrows: cannot read "{part}"; write x,y>x,y such as 100,200>180,210') from error
            arrows.append(_arrow({"path": path, "speed": speed}, f"arrows[{len(arrows)}]"))
    if not arrows:
        raise ValueError(f'--arrows: "{text}" holds no arrow; write x,y>x,y such as 100,200>180,210')
    return DrawnMotion(tuple(arrows))


def motion_of(content: dict[str, Any], folder: str | Path) -> DrawnMotion:
    """The content of a motion.json (a dict) as a DrawnMotion.

    folder: where a mask's picture would lie.  Raises ValueError that names the entry which is wrong.
    """
    unknown = sorted(set(content) - set(KEYS))
    if unknown:
        raise ValueError(f"the key {unknown[0][:40]!r} is unknown; expected {', '.join(KEYS)}")
    if content.get("version", VERSION) != VERSION:
        raise ValueError(f"version is {str(content['version'])[:20]}; this program reads version {VERSION}")
    arrows = tuple(_arrow(entry, f"arrows[{i}]") for i, entry in enumerate(_list(content, "arrows")))
    points = {name: tuple(_point(p, f"{name}[{i}]") for i, p in enumerate(_list(content, name))) for name in POINTS}
    mask, speed, seconds = (
        _mask(content.get("mask"), folder),
        _number(content, "speed", -20, 20),
        _number(content, "seconds", 0, 600),
    )
    if 0 in (speed, seconds):
        raise ValueError("speed and seconds: expected a number that is not 0; leave them out for the options' own")
    size = _size(content.get("size"))
    return _checked(DrawnMotion(arrows, size=size, mask=mask, speed=speed, seconds=seconds, **points))


def _of_labelme(content):
    """Polygons, rectangles and circles are the mask, lines the arrows, points the anchors; the picture inside is not
    read.
    """
    arrows, anchors, polygons, ignored = [], [], [], []
    for i, shape in enumerate(_list(content, "shapes")):
        name = f"shapes[{i}]"
        if not isinstance(shape, dict):
            raise ValueError(f"{name}: expected an object with shape_type and points")
        kind, points = shape.get("shape_type", "polygon"), _points(shape.get("points"), name)
        if kind in ("line", "linestrip"):
            arrows.append(_arrow({"path": points}, name))
        elif kind in ("point", "points"):
            anchors += points
        elif kind == "polygon" and len(points) > 2:
            polygons.append(points)
        elif kind == "rectangle" and len(points) == 2:
            (x0, y0), (x1, y1) = points
            polygons.append(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        elif kind == "circle" and len(points) == 2:
            (x, y), radius = points[0], math.dist(*points)
            turns = [math.tau * k / 64 for k in range(64)]
            polygons.append(tuple((x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns))
        else:
            ignored.append(f"{name} ({str(kind)[:20]} of {len(points)} points) is left out")
    sides = content.get("imageWidth"), content.get("imageHeight")
    return _checked(
        DrawnMotion(
            tuple(arrows),
            tuple(anchors),
            None if None in sides else _size(list(sides)),
            tuple(polygons) or None,
            notes=tuple(ignored),
        )
    )


def _checked(motion):
    if bool(motion.may_move) != bool(motion.must_not_move):
        there, missing = POINTS[1:] if motion.may_move else POINTS[:0:-1]
        raise ValueError(f"it has points of {there} but none of {missing}; mark at least one of each, or give a mask")
    if motion.may_move and motion.mask is not None:
        raise ValueError("mask and may_move both say what may move; keep one of them")
    if not (motion.arrows or motion.anchors or motion.mask or motion.may_move):
        raise ValueError("it holds no arrows, no anchors and no mask; draw at least one arrow")
    if sum(len(points) for _, points in motion.named_points()) > MOST_POINTS:
        raise ValueError(f"it holds more than {MOST_POINTS} points; draw fewer or coarser arrows")
    return motion


def _list(content, key):
    value = content.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key}: expected a list, found {type(value).__name__}")
    return value


def _arrow(entry, name):
    if not isinstance(entry, dict) or "path" not in entry:
        raise ValueError(f'{name}: expected {{"path": [[x, y], ...], "speed": px/frame}}')
    path = _points(entry["path"], name)
    path = path[:1] + tuple(b for a, b in zip(path, path[1:]) if a != b)  # a hand that rests repeats its point
    if len(entry["path"]) < 2:
        raise ValueError(f"{name}: an arrow needs at least 2 points, found {len(path)}; a point that stands: anchors")
    if len(path) < 2:
        raise ValueError(f"{name}: the arrow has no length; draw it longer, or make it an anchor")
    unknown = sorted(set(entry) - {"path", "speed"})
    if unknown:
        raise ValueError(f"{name}: the key {str(unknown[0])[:40]!r} is unknown; expected path and speed")
    speed = _number(entry, "speed", 0, 1000, f"{name}: ")
    if speed == 0:
        raise ValueError(f"{name}: speed is 0; give px/frame above 0, or make it an anchor")
    return Arrow(path, speed)


def _points(value, name):
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name}: expected a list of points [x, y], found {type(value).__name__}")
    return tuple(_point(point, name) for point in value)


def _point(value, name):
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))):
        raise ValueError(f"{name}: expected points [x, y] of finite px, found {str(value)[:40]}")
    return float(value[0]), float(value[1])


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9  # also refuses NaN


def _number(entry, key, least, most, where=""):
    value = entry.get(key)
    if value is None:
        return None
    if not (_is_number(value) and least <= value <= most):
        raise ValueError(f"{where}{key}: expected a number from {least:g} to {most:g}, found {str(value)[:40]}")
    return float(value)


def _size(value):
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(v) and v >= 1 for v in value)):
        raise ValueError(f"size: expected [width, height] in px, found {str(value)[:40]}")
    return round(value[1]), round(value[0])


def _mask(value, folder):
    """A name beside the motion file, or polygons."""
    if value is None:
        return None
    if isinstance(value, str):
        if (
            Path(value).is_absolute() or ".." in Path(value).parts
        ):  # a file from elsewhere opens nothing but its own folder
            raise ValueError(f"mask: expected a picture beside the motion file, found {value[:60]!r}; move it there")
        return folder / value
    if not isinstance(value, list):
        raise ValueError(f"mask: expected the name of a picture or a list of polygons, found {str(value)[:40]}")
    polygons = tuple(_points(polygon, f"mask[{i}]") for i, polygon in enumerate(value))
    for i, polygon in enumerate(polygons):
        if len(polygon) < 3:
            raise ValueError(f"mask[{i}]: a polygon needs at least 3 points, found {len(polygon)}")
    return polygons


# ---------------------------------------------------------------- writing
def content_of(motion: DrawnMotion) -> dict[str, Any]:
    """A DrawnMotion as the content of a motion.json: a dict for JSON, rounded as it is written."""
    content: dict[str, Any] = {"version": VERSION}
    if motion.size is not None:
        content["size"] = [motion.size[1], motion.size[0]]
    content["arrows"] = [
        {"path": _rounded(arrow.path)} | ({} if arrow.speed is None else {"speed": round(arrow.speed, 4)})
        for arrow in motion.arrows
    ]
    content["anchors"] = _rounded(motion.anchors)
    if motion.mask is not None:
        content["mask"] = (
            motion.mask.name if isinstance(motion.mask, Path) else [_rounded(polygon) for polygon in motion.mask]
        )
    content |= {name: _rounded(getattr(motion, name)) for name in POINTS[1:] if getattr(motion, name)}
    content |= {key: getattr(motion, key) for key in ("speed", "seconds") if getattr(motion, key) is not None}
    return content


def write_motion_file(path: str | Path, motion: DrawnMotion) -> None:
    """Write a DrawnMotion as motion.json, atomically; read_motion_file gives it back (a mask's picture by its name)."""
    with atomic(path) as temporary:
        lines = (f" {json.dumps(key)}: {_one_entry_a_line(value)}" for key, value in content_of(motion).items())
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _one_entry_a_line(value):
    """JSON that a hand can edit: every arrow has its own line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n ]"
    return json.dumps(value)


def _rounded(points):
    return [[round(x, 2), round(y, 2)] for x, y in points]
