"""The bytes of flow files, format by format: parsed as data, never run, and measured before they are unpacked.

Every reader takes (path, most numbers that the flow may hold) and gives an array or tensor in the file's own layout;
data.flow.read_flow checks what it holds. A file of a few kilobytes can claim terabytes:
what it claims is looked at first.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import torch
from text2cinemagraph.data.notes import tell

LZ4_MAGIC = b"\x04\x22\x4d\x18"
FLO_MAGIC = b"PIEH"  # Middlebury .flo: the float 202021.25 in little endian
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
KITTI_ZERO, KITTI_UNIT = 32768, 64.0  # KITTI 2015: 16 bit RGB, (R, G) = 64 * flow + 2^15, B = 1 where the flow is known
SPARE = 1 << 20  # bytes of a file beside its numbers
HEAD, STEP = 1 << 16, 1 << 24  # bytes unpacked for a first look, and at a time
MOST_WORDS = 200  # of a pickle; each of them can ask for memory


def check_extent(shape: tuple, most: int) -> None:
    """ValueError for an array of more than `most` numbers, before anything of it is unpacked."""
    if math.prod(shape) > most:
        raise ValueError(f"claims an array of shape {shape}; a flow of at most {most / 2e6:g} megapixels is read")


def read_npz(path: Path, most: int) -> np.ndarray:
    """The array flow, motion or arr_0 of an archive of numpy's, or the only one it holds."""
    if path.read_bytes()[:6] == np.lib.format.MAGIC_PREFIX:
        raise ValueError("is a bare .npy array named .npz; rename it")
    with zipfile.ZipFile(path) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        names = [name for name in ("flow", "motion", "arr_0") if name in found]
        if not names and len(found) != 1:
            shown = ", ".join(found[:4]) or "nothing"
            raise ValueError(f"expected one array, or the key flow, motion or arr_0; found {shown}")
        with archive.open(archive.namelist()[found.index(names[0] if names else found[0])]) as file:
            _check_header(file, most)
    with np.load(path, allow_pickle=False) as archive:
        return _torch_ready(archive[names[0] if names else found[0]])


def read_npy(path: Path, most: int) -> np.ndarray:
    """One array as numpy.save writes it."""
    with open(path, "rb") as file:
        _check_header(file, most)
    return _torch_ready(np.load(path, allow_pickle=False))


def _check_header(file, most):
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    check_extent((*shape, dtype.itemsize) if dtype.itemsize > 8 else shape, most)


def _torch_ready(array):
    """Native byte order and a float type torch has; other kinds are refused by name."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError(f"expected a flow of floating point px/frame, found {getattr(array, 'dtype', 'no array')}")
    return array.astype(np.float64)


def read_flo(path: Path, most: int) -> np.ndarray:
    """Middlebury's format, (2,H,W); it is as long as what it claims, so `most` needs no look."""
    data = path.read_bytes()
    width, height = np.frombuffer(data[4:12], "<i4") if len(data) >= 12 else (0, 0)
    if data[:4] != FLO_MAGIC or min(width, height) < 1 or len(data) != 12 + 8 * int(width) * int(height):
        raise ValueError("is not a whole Middlebury .flo file; copy or make it again")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1).copy()


def flo_bytes(array: np.ndarray) -> bytes:
    """A flow (2,H,W) float32 as the bytes of a .flo file."""
    size = np.array([array.shape[2], array.shape[1]], "<i4")
    return FLO_MAGIC + size.tobytes() + np.ascontiguousarray(array.transpose(1, 2, 0)).astype("<f4").tobytes()


def read_torch(path: Path, most: int) -> torch.Tensor | np.ndarray:
    """One tensor as torch.save writes it, or the data set's lz4 + pickle under the same suffix."""
    with open(path, "rb") as file:
        if file.read(4) == LZ4_MAGIC:
            return read_lz4_pickle(path, most)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > 8 * most + SPARE:
            raise ValueError(f"unpacks to {unpacked / 1e9:.1f} GB; a flow of at most {most / 2e6:g} megapixels is read")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to switch the protection off
        raise ValueError("is damaged, or holds more than one tensor and was not opened; make the flow again") from error
    if not isinstance(content, torch.Tensor):
        raise ValueError(f"expected one flow tensor, found a {type(content).__name__}")
    check_extent(tuple(content.shape), most)  # one number repeated by a stride of 0 takes no room in the file
    return content


# ---------------------------------------------------------------- flow in picture files
def read_kitti(path: Path, most: int) -> np.ndarray:
    """KITTI's flow PNG, [2,H,W] float32; pixels without a measurement rest, and that is told."""
    import cv2

    data = path.read_bytes()
    depth = tuple(data[24:26]) if len(data) > 26 and data.startswith(PNG_MAGIC) else None
    if depth != (16, 2):
        raise ValueError(
            "is no flow of KITTI, which is a PNG of 16 bit RGB; a picture of flow colours holds no px/frame"
        )
    check_extent((2, int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")), most)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("is a damaged PNG; copy it again")
    known = pixels[..., 0] > 0  # OpenCV gives BGR
    flow = (pixels[..., 2:0:-1].astype(np.float32) - KITTI_ZERO) / KITTI_UNIT * known[..., None]
    if not known.all():
        tell(
            "kitti",
            f"{path}: {1 - known.mean():.0%} of the pixels have no flow (KITTI's B = 0); they are taken as resting",
        )
    return flow.transpose(2, 0, 1)


def read_exr(path: Path, most: int) -> np.ndarray:
    """The R and G of an OpenEXR picture as dx, dy; needs an OpenCV that was built with it."""
    os.environ.setdefault(
        "OPENCV_IO_ENABLE_OPENEXR", "1"
    )  # off by default; must stand before OpenCV looks for decoders
    import cv2

    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        built = "OpenEXR:                     NO" not in cv2.getBuildInformation()
        raise ValueError(
            "is no readable OpenEXR picture" if built else "this OpenCV reads no .exr; save the flow as .npy (2,H,W)"
        )
    if pixels.ndim != 3 or pixels.dtype.kind != "f":
        raise ValueError(f"expected float channels R = dx and G = dy, found an array {pixels.shape} of {pixels.dtype}")
    check_extent(pixels.shape[:2], most // 2)
    return pixels[..., 2:0:-1].transpose(2, 0, 1).astype(np.float32)


# ---------------------------------------------------------------- the dataset's lz4 + pickle, without running it
class _Dtype:
    """Stands in for numpy.dtype: only remembers the type code and the byte order."""

    def __init__(self, code: str, *flags: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = state[1]


class _Array:
    """Stands in for numpy.ndarray and its `_reconstruct`: only remembers what the pickle says about the array."""

    def __init__(self, *ignored: Any) -> None:
        self.data: bytes = b""  # until the state comes

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.column_major, self.data = state

    def numpy(self) -> np.ndarray:
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

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, and only a plain numpy array is allowed")
        return self.KNOWN[module, name]


def read_lz4_pickle(path: Path, most: int) -> np.ndarray:
    """The Eulerian data set's `<id>_motion.pth`: an lz4 frame around the pickle of one array; none of it is run."""
    data = Path(path).read_bytes()
    _check_words(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=HEAD), whole=False)
    content = _unpacked(data, 4 * most + SPARE)
    _check_words(content)
    array = _ArrayUnpickler(io.BytesIO(content)).load()
    if not isinstance(array, _Array) or array.data is None:
        raise ValueError(f"expected lz4 + pickle of one float array (1,2,H,W), found a {type(array).__name__}")
    return array.numpy()


def _unpacked(data, most):
    """The content of an lz4 frame of at most `most` bytes; RuntimeError if it is no whole frame."""
    frame, content = lz4.frame.LZ4FrameDecompressor(), bytearray()
    while not frame.eof:
        piece = frame.decompress(data, max_length=STEP)
        content += piece
        data = b""
        if len(content) > most:
            raise ValueError(f"unpacks to more than {most / 1e9:.1f} GB; that is no flow of a picture")
        if not piece and not frame.eof:
            raise RuntimeError("the lz4 frame ends too early")
    return bytes(content)


def _check_words(content, whole=True):
    """The pickle of one array has some forty words and remembers a dozen things; a longer or stranger one is not run.

    whole: False for the beginning of a pickle, which may end within a word.
    """
    try:
        for count, (word, argument, _) in enumerate(pickletools.genops(content)):
            if count > MOST_WORDS or "PUT" in word.name and argument > MOST_WORDS:
                raise RuntimeError("its pickle describes more than one array")
    except ValueError as error:
        if whole or "opcode" in str(error) and "unknown" in str(error):
            raise RuntimeError("it holds no pickle") from error


READERS = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".flo": read_flo,
    ".pt": read_torch,
    ".pth": read_torch,
    ".png": read_kitti,
    ".exr": read_exr,
}
