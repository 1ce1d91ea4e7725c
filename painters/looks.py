"""The door of the room: a picture and the name of a look -> the picture painted."""

import difflib
from collections.abc import Mapping

import cv2
import numpy as np
from text2cinemagraph.painters.brushwork import oil, starry
from text2cinemagraph.painters.dots import pointillism
from text2cinemagraph.painters.drawing import pastel, pencil
from text2cinemagraph.painters.easel import Easel
from text2cinemagraph.painters.facets import lowpoly
from text2cinemagraph.painters.prints import ukiyo
from text2cinemagraph.painters.washes import ink, watercolor

LOOKS = {
    "oil": oil,
    "starry": starry,
    "watercolor": watercolor,
    "ukiyo": ukiyo,
    "lowpoly": lowpoly,
    "pastel": pastel,
    "ink": ink,
    "pointillism": pointillism,
    "pencil": pencil,
}
# What people also call them.
ALSO = {
    "vangogh": "starry",
    "impressionism": "oil",
    "aquarelle": "watercolor",
    "watercolour": "watercolor",
    "woodblock": "ukiyo",
    "polygon": "lowpoly",
    "chalk": "pastel",
    "sumi-e": "ink",
    "dots": "pointillism",
    "sketch": "pencil",
}
SMALLEST = 32  # px a side
WORK = 1024  # px, geometric mean of the sides: smaller pictures are painted up to twice as large, so that thin strokes
LEAST = 512  # stay smooth, and never below LEAST


def paint(
    picture: np.ndarray,
    look: str,
    *,
    seed: int = 0,
    strength: float = 1.0,
    mask: np.ndarray | None = None,
    flow: np.ndarray | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Paint a picture of any size and aspect; what is drawn where follows from its content, lengths from its size.

    picture: float [H,W,3] RGB in [0,1], both sides 32 px or more.   look: a name of LOOKS.
    seed: int >= 0; the same arguments give the same bytes.   strength: 0 is the picture itself; from 0.5 on
    all of it is paint, and the brushes grow until 1.
    mask: bool [H,W], True = may move; no stroke crosses its border, and so no paint of the shore moves.
    flow: float [2,H,W], px/frame at H x W; where it is not zero, strokes run along it.
    labels: bool [H,W] by name; "sky" gets stars in the starry look.
    Returns float32 [H,W,3] in [0,1]. Raises ValueError for an unknown look (naming the nearest) or a wrong shape.
    """
    painter = LOOKS[check_look(look)]
    picture, maps = _checked(picture, mask, flow, labels or {})
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength}: expected a number from 0 (the picture itself) to 1")
    if strength == 0:
        return picture.copy()
    rows, columns = picture.shape[:2]
    side = np.sqrt(rows * columns)
    grow = max(side, min(WORK, max(2 * side, LEAST))) / side
    size = (round(columns * grow), round(rows * grow))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) if grow > 1 else picture
    if grow > 1:
        maps = {name: cv2.resize(values, size, interpolation=cv2.INTER_NEAREST) for name, values in maps.items()}
    moves, motion = maps.pop("mask", None), maps.pop("flow", None)
    motion = None if motion is None else motion.transpose(2, 0, 1) * np.float32(grow)
    easel = Easel(large, seed, moves, motion, labels=maps, brush=0.4 + 0.6 * strength)
    painted = np.clip(painter(easel), 0, 1)
    if grow > 1:
        painted = cv2.resize(painted, (columns, rows), interpolation=cv2.INTER_AREA).clip(0, 1)
    share = min(2 * strength, 1)
    return np.float32(painted if share == 1 else picture + share * (painted - picture))


def check_look(name: str) -> str:
    """The name if it is one of LOOKS. Raises ValueError that names the nearest look."""
    if name in LOOKS:
        return name
    plain = str(name).lower().replace(" ", "").replace("_", "")
    close = difflib.get_close_matches(plain, [*LOOKS, *ALSO], 1, 0.5)
    hint = f"; did you mean {ALSO.get(close[0], close[0])}?" if close else ""
    raise ValueError(f"unknown style {name!r}; expected one of {', '.join(LOOKS)}{hint}")


def _checked(picture, mask, flow, labels):
    """The picture as float32, and the maps in OpenCV's layout, by name."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < SMALLEST:
        raise ValueError(f"picture of shape {picture.shape}: expected [H,W,3] with both sides {SMALLEST} px or more")
    maps = {name: np.uint8(np.asarray(values) > 0.5) for name, values in labels.items()}
    maps |= {} if mask is None else {"mask": np.uint8(np.asarray(mask) > 0.5)}
    maps |= {} if flow is None else {"flow": np.ascontiguousarray(np.float32(flow).transpose(1, 2, 0))}
    for name, values in maps.items():
        if values.shape[:2] != picture.shape[:2]:
            found, wanted = ("x".join(map(str, v.shape[1::-1])) for v in (values, picture))
            raise ValueError(f"the {name} is {found} px, the picture {wanted}; bring it to the picture's size")
    return np.ascontiguousarray(picture, np.float32), maps
