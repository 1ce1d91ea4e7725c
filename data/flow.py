"""Flow fields: on and off disk, resized, flipped, masked and drawn in colours.

A flow is float32 [2,H,W] in px/frame at that HxW: channel 0 = dx (right +), channel 1 = dy (down +).
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import lz4.frame
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow_files import READERS, flo_bytes, read_lz4_pickle
from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.pictures import MAX_MEGAPIXELS

UNKNOWN = 1e9  # Middlebury marks pixels without flow by values above this
FASTEST = 10  # a flow of more than ten times the picture's longer side per frame is in no px/frame
AUTHORS_UNIT = 64.0  # px/frame: what the original's files <id>_Motion.pt call 1
AUTHORS_MOST = 2.0  # no larger number stands in them: 128 px/frame
WHEEL = (("RY", 15), ("YG", 6), ("GC", 4), ("CB", 11), ("BM", 13), ("MR", 6))  # Baker et al., IJCV 2011: 55 hues


# ---------------------------------------------------------------- reading and writing
def read_flow(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> torch.Tensor:
    """Read a flow from .npz (key flow, motion or arr_0, or a single array), .npy, .flo, .pt/.pth, KITTI's .png or .exr.

    A .pt/.pth may be a torch tensor or the dataset's lz4 + pickle. Layouts (2,H,W), (1,2,H,W) and (H,W,2) are
    understood (a first axis of 2 is taken as channels). Returns [2,H,W] float32, values as stored: the original's
    `_Motion.pt` stays /64 (read_own_flow scales it).   max_megapixels: what claims to be larger is refused unread.
    Raises FileNotFoundError, or ValueError for anything that is not one finite flow field; no code in a file is ever
    run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no flow at {path}; check the path, or make it first (test_motion.py or stage s5)")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} is no flow file: expected one of {', '.join(READERS)}")
    return _checked(READERS[path.suffix.lower()], path, max_megapixels)


def read_own_flow(
    path: str | Path, size: tuple[int, int] | None = None, *, max_megapixels: float = MAX_MEGAPIXELS
) -> torch.Tensor:
    """A user's own flow file as px/frame [2,H,W] at the size (H, W) of the picture it belongs to (None = its own).

    `<id>_Motion.pt`, as test_motion.py and the original write it, is scaled from 1/64 to px/frame; a flow of another
    size is resized with its values. Both are told.  Raises ValueError as read_flow, and for a flow of another shape.
    """
    flow = read_flow(path, max_megapixels=max_megapixels)
    largest = float(flow.abs().max())
    if Path(path).name.lower().endswith("_motion.pt") and 0 < largest <= AUTHORS_MOST:
        flow = flow * AUTHORS_UNIT
        tell(
            "flow unit",
            f"{path} is in 1/{AUTHORS_UNIT:g} px/frame, by its name: scaled to at most {largest * AUTHORS_UNIT:.3g}",
        )
    height, width = flow.shape[1:]
    if size is None or (height, width) == tuple(size):
        return flow
    if abs(height * size[1] / (width * size[0]) - 1) > 0.01:
        raise ValueError(
            f"the flow {path} is {width}x{height}, the picture {size[1]}x{size[0]}; they must have one shape"
        )
    tell("flow size", f"{path} is {width}x{height} px, the picture {size[1]}x{size[0]}: resized, its values too")
    return resize_flow(flow, size)


def write_flow(path: str | Path, flow: torch.Tensor) -> None:
    """Write a flow [2,H,W] as float32 to .npz (key "flow"), .npy, .flo or .pt, by the suffix; atomically."""
    array = _as_flow(flow).numpy()
    writers = {
        ".npz": lambda file: np.savez_compressed(file, flow=array),
        ".npy": lambda file: np.save(file, array),
        ".flo": lambda file: Path(file).write_bytes(flo_bytes(array)),
        ".pt": lambda file: torch.save(torch.from_numpy(array.copy()), file),
    }
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"cannot write a flow as {path}: expected one of {', '.join(writers)}")
    with atomic(path) as temporary:
        writers[suffix](temporary)


def read_motion(path: str | Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> torch.Tensor:
    """Read `<id>_motion.pth` of the Eulerian dataset (an lz4 frame around a pickled numpy array) as a flow [2,H,W].

    The pickle may only describe one numpy array; anything else in it is refused before it can run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no motion at {path}; --dataroot must hold <id>_input.jpg and <id>_motion.pth")
    return _checked(read_lz4_pickle, path, max_megapixels)


def write_motion(path: str | Path, flow: torch.Tensor) -> None:
    """Write a flow [2,H,W] in the dataset's own format: lz4 frame, pickle, float32 numpy (1,2,H,W); atomically."""
    array = _as_flow(flow).numpy()[None]
    with atomic(path) as temporary:
        Path(temporary).write_bytes(lz4.frame.compress(pickle.dumps(np.ascontiguousarray(array), protocol=4)))


def _checked(reader, path, max_megapixels):
    """One flow from one reader; whatever is wrong with the file becomes one line that names it."""
    try:
        flow = _as_flow(reader(path, 2 * int(max_megapixels * 1e6)))
        fastest = float(flow.abs().max())
        if fastest > FASTEST * max(flow.shape[1:]):
            raise ValueError(
                f"expected a flow in px/frame, found values up to {fastest:.3g} on {flow.shape[2]}x{flow.shape[1]} px"
            )
        return flow
    except ValueError as error:
        raise ValueError(f"{path}: {_first_line(error)}") from error
    except Exception as error:  # a damaged pickle, zip or header makes these parsers raise nearly anything
        raise ValueError(f"{path} is damaged or holds no flow ({_first_line(error)}); copy or make it again") from error


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _as_flow(values):
    """Check one array or tensor and bring it to [2,H,W] float32 on the CPU."""
    tensor = torch.as_tensor(values).detach().cpu()
    if not tensor.dtype.is_floating_point:
        raise ValueError(
            f"expected a flow of floating point px/frame, found {str(tensor.dtype).removeprefix('torch.')}"
        )
    shape = tuple(tensor.shape)
    if len(shape) == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.dim() == 3 and tensor.shape[0] != 2 and tensor.shape[2] == 2:
        tensor = tensor.permute(2, 0, 1)
    if tensor.dim() != 3 or tensor.shape[0] != 2 or 0 in tensor.shape:
        raise ValueError(f"expected a flow of shape (2,H,W), (1,2,H,W) or (H,W,2), found {shape}")
    tensor = tensor.to(torch.float32).contiguous()
    if not (tensor.abs() < UNKNOWN).all():  # also catches NaN
        raise ValueError(
            "expected a flow of finite px/frame, found NaN, infinite or unknown values; make the flow again"
        )
    return tensor


# ---------------------------------------------------------------- geometry
def resize_flow(flow: torch.Tensor, size: Sequence[int], mode: str = "bilinear") -> torch.Tensor:
    """Resize a flow [...,2,H,W] to size (H', W'); the values are scaled by (W'/W, H'/H), so they stay px/frame.

    mode: "bilinear" (align_corners False, no antialias: as the original trains) or "nearest" (as its s6 does).
    """
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"resize_flow: expected mode bilinear or nearest, found {mode!r}")
    height, width = flow.shape[-2:]
    batch = flow.reshape(-1, 2, height, width)
    corners = {"align_corners": False} if mode == "bilinear" else {}
    resized = F.interpolate(batch, size=tuple(size), mode=mode, **corners)
    scale = torch.tensor([size[1] / width, size[0] / height], dtype=flow.dtype, device=flow.device)
    return (resized * scale[:, None, None]).reshape(*flow.shape[:-2], *size)


def flip_flow(flow: torch.Tensor) -> torch.Tensor:
    """Mirror a flow [...,2,H,W] left to right: pixels change places and dx changes its sign."""
    sign = torch.tensor([-1.0, 1.0], dtype=flow.dtype, device=flow.device)
    return flow.flip(-1) * sign[:, None, None]


def motion_mask(flow: torch.Tensor, kind: str = "average") -> torch.Tensor:
    """Where a flow [...,2,H,W] moves: bool [...,1,H,W].

    kind "average": |flow|^2 above a tenth of its mean (text2cinemagraph's training mask); "zeros": any component not 0.
    """
    if kind == "zeros":
        return (flow != 0).any(-3, keepdim=True)
    if kind != "average":
        raise ValueError(f"motion_mask: expected kind average or zeros, found {kind!r}")
    power = flow.square().sum(-3, keepdim=True)
    return power > power.mean((-2, -1), keepdim=True) / 10


# ---------------------------------------------------------------- colours
def color_wheel() -> np.ndarray:
    """The Middlebury colour wheel: float64 [55,3] RGB in 0..255, from red over yellow, green, cyan, blue, magenta."""
    rows = []
    for index, (_, count) in enumerate(WHEEL):
        ramp = np.floor(255 * np.arange(count) / count)
        segment = np.zeros((count, 3))
        rising = index % 2 == 0  # RY, GC, BM: the next primary comes; YG, CB, MR: the last one goes
        full, moving = ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2))[index]
        segment[:, full] = 255
        segment[:, moving] = ramp if rising else 255 - ramp
        rows.append(segment)
    return np.concatenate(rows)


def flow_to_color(flow: torch.Tensor) -> np.ndarray:
    """Draw a flow [2,H,W] with the Middlebury wheel: uint8 numpy [H,W,3]; direction = hue, speed = saturation.

    Scaled by the largest speed of this field, so the picture does not show absolute speed; no motion is white.
    """
    u, v = flow.detach().cpu().double().numpy()
    largest = np.sqrt(u**2 + v**2).max() + 1e-5
    u, v = u / largest, v / largest
    radius = np.sqrt(u**2 + v**2)[..., None]
    wheel = color_wheel() / 255
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(position).astype(int)
    part = (position - low)[..., None]
    color = (1 - part) * wheel[low] + part * wheel[(low + 1) % len(wheel)]
    return np.floor(255 * (1 - radius * (1 - color))).astype(np.uint8)


def clamp_flow(flow: torch.Tensor, kind: str, limit: float = 1.0) -> torch.Tensor:
    """Bound a flow field before it is animated.

    flow: [2,H,W] px/frame.  kind: "component" (dx and dy each to +-limit, as text2cinemagraph does at 512 px with limit
    1; it bends fast directions towards the diagonals), "magnitude" (the length to limit, direction kept) or "none".
    """
    if kind == "component":
        return flow.clamp(-limit, limit)
    if kind == "magnitude":
        length = flow.norm(dim=-3, keepdim=True)
        return flow * (limit / length.clamp(min=limit))
    if kind == "none":
        return flow
    raise ValueError(f"unknown clamp {kind!r}; expected component, magnitude or none")
