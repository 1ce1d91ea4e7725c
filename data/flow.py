"""Flow fields: on and off disk, resized, flipped, masked and drawn in colours.

A flow is float32 [2,H,W] in px/frame at that HxW: channel 0 = dx (right +), channel 1 = dy (down +).
"""

import io
import pickle
from pathlib import Path

import lz4.frame
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import atomic

LZ4_MAGIC = b"\x04\x22\x4d\x18"
FLO_MAGIC = b"PIEH"  # Middlebury .flo: the float 202021.25 in little endian
UNKNOWN = 1e9  # Middlebury marks pixels without flow by values above this
WHEEL = (("RY", 15), ("YG", 6), ("GC", 4), ("CB", 11), ("BM", 13), ("MR", 6))  # Baker et al., IJCV 2011: 55 hues


# ---------------------------------------------------------------- reading and writing
def read_flow(path):
    """Read a flow from .npz (key flow, motion or arr_0, or a single array), .npy, .flo, or .pt/.pth.

    A .pt/.pth may be a torch tensor or the dataset's lz4 + pickle. Layouts (2,H,W), (1,2,H,W) and (H,W,2) are
    understood (a first axis of 2 is taken as channels). Returns [2,H,W] float32, values as stored: the original's
    `_Motion.pt` stays /64.
    Raises FileNotFoundError, or ValueError for anything that is not one finite flow field; no code in a file is ever
    run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no flow at {path}; check the path, or make it first (test_motion.py or stage s5)")
    readers = {".npz": _read_npz, ".npy": _read_npy, ".flo": _read_flo, ".pt": _read_torch, ".pth": _read_torch}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no flow file: expected one of {', '.join(readers)}")
    return _checked(readers[path.suffix.lower()], path)


def write_flow(path, flow):
    """Write a flow [2,H,W] as float32 to .npz (key "flow"), .npy, .flo or .pt, by the suffix; atomically."""
    array = _as_flow(flow).numpy()
    writers = {
        ".npz": lambda file: np.savez_compressed(file, flow=array),
        ".npy": lambda file: np.save(file, array),
        ".flo": lambda file: Path(file).write_bytes(_flo_bytes(array)),
        ".pt": lambda file: torch.save(torch.from_numpy(array.copy()), file),
    }
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"cannot write a flow as {path}: expected one of {', '.join(writers)}")
    with atomic(path) as temporary:
        writers[suffix](temporary)


def read_motion(path):
    """Read `<id>_motion.pth` of the Eulerian dataset (an lz4 frame around a pickled numpy array) as a flow [2,H,W].

    The pickle may only describe one numpy array; anything else in it is refused before it can run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no motion at {path}; --dataroot must hold <id>_input.jpg and <id>_motion.pth")
    return _checked(_read_lz4_pickle, path)


def write_motion(path, flow):
    """Write a flow [2,H,W] in the dataset's own format: lz4 frame, pickle, float32 numpy (1,2,H,W); atomically."""
    array = _as_flow(flow).numpy()[None]
    with atomic(path) as temporary:
        Path(temporary).write_bytes(lz4.frame.compress(pickle.dumps(np.ascontiguousarray(array), protocol=4)))


def _checked(reader, path):
    """One flow from one reader; whatever is wrong with the file becomes one line that names it."""
    try:
        return _as_flow(reader(path))
    except ValueError as error:
        raise ValueError(f"{path}: {_first_line(error)}") from error
    except Exception as error:  # a damaged pickle, zip or header makes these parsers raise nearly anything
        raise ValueError(f"{path} is damaged or holds no flow ({_first_line(error)}); copy or make it again") from error


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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


def _read_npz(path):
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("is a bare .npy array named .npz; rename it")
    with archive:
        names = [name for name in ("flow", "motion", "arr_0") if name in archive.files]
        if not names and len(archive.files) != 1:
            found = ", ".join(archive.files[:4]) or "nothing"
            raise ValueError(f"expected one array, or the key flow, motion or arr_0; found {found}")
        return _torch_ready(archive[names[0] if names else archive.files[0]])


def _read_npy(path):
    return _torch_ready(np.load(path, allow_pickle=False))


def _torch_ready(array):
    """Native byte order and a float type torch has; other kinds are refused by name."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError(f"expected a flow of floating point px/frame, found {getattr(array, 'dtype', 'no array')}")
    return array.astype(np.float64)


def _read_flo(path):
    data = path.read_bytes()
    width, height = np.frombuffer(data[4:12], "<i4") if len(data) >= 12 else (0, 0)
    if data[:4] != FLO_MAGIC or min(width, height) < 1 or len(data) != 12 + 8 * int(width) * int(height):
        raise ValueError("is not a whole Middlebury .flo file; copy or make it again")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1).copy()


def _flo_bytes(array):
    size = np.array([array.shape[2], array.shape[1]], "<i4")
    return FLO_MAGIC + size.tobytes() + np.ascontiguousarray(array.transpose(1, 2, 0)).astype("<f4").tobytes()


def _read_torch(path):
    with open(path, "rb") as file:
        if file.read(4) == LZ4_MAGIC:
            return _read_lz4_pickle(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to switch the protection off
        raise ValueError("is damaged, or holds more than one tensor and was not opened; make the flow again") from error
    if not isinstance(content, torch.Tensor):
        raise ValueError(f"expected one flow tensor, found a {type(content).__name__}")
    return content


# ---------------------------------------------------------------- the dataset's lz4 + pickle, without running it
class _Dtype:
    """Stands in for numpy.dtype: only remembers the type code and the byte order."""

    def __init__(self, code, *flags):
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = state[1]


class _Array:
    """Stands in for numpy.ndarray and its `_reconstruct`: only remembers what the pickle says about the array."""

    def __init__(self, *ignored):
        self.data = None

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.column_major, self.data = state

    def numpy(self):
        code = self.dtype.code
        if code not in ("f2", "f4", "f8"):
            raise ValueError(f"expected a float array, found dtype {code!r}")
        order = ">" if self.dtype.order == ">" else "<"
        flat = np.frombuffer(self.data, order + code).astype(np.float64)
        return flat.reshape(self.shape, order="F" if self.column_major else "C")


def _from_buffer(buffer, dtype, shape, order):
    """The form of a pickle of protocol 5."""
    array = _Array()
    array.data, array.dtype, array.shape, array.column_major = bytes(buffer), dtype, shape, order == "F"
    return array


def _encode(text, encoding):
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the words for one numpy array and nothing else; even these are played by our own inert classes."""

    KNOWN = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _encode}
    for _package in ("numpy.core", "numpy._core"):  # the name before and since numpy 2
        KNOWN[_package + ".multiarray", "_reconstruct"] = _Array
        KNOWN[_package + ".numeric", "_frombuffer"] = _from_buffer

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, and only a plain numpy array is allowed")
        return self.KNOWN[module, name]


def _read_lz4_pickle(path):
    content = _ArrayUnpickler(io.BytesIO(lz4.frame.decompress(Path(path).read_bytes()))).load()
    if not isinstance(content, _Array) or content.data is None:
        raise ValueError(f"expected lz4 + pickle of one float array (1,2,H,W), found a {type(content).__name__}")
    return content.numpy()


# ---------------------------------------------------------------- geometry
def resize_flow(flow, size, mode="bilinear"):
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


def flip_flow(flow):
    """Mirror a flow [...,2,H,W] left to right: pixels change places and dx changes its sign."""
    sign = torch.tensor([-1.0, 1.0], dtype=flow.dtype, device=flow.device)
    return flow.flip(-1) * sign[:, None, None]


def motion_mask(flow, kind="average"):
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
def color_wheel():
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


def flow_to_color(flow):
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


def clamp_flow(flow, kind, limit=1.0):
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
