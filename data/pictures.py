"""The one door through which picture files come in: which formats, how large, which way up, in which colours.

Nothing else in this project calls Image.open (tests/test_hand_in.py holds that).
"""

import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from text2cinemagraph.data.notes import tell

# Pillow knows forty more. Some of them start programs: a PostScript file, whatever its name, goes to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
MAX_MEGAPIXELS = 64.0  # a picture of 64 million pixels takes about 1.2 GB while it is read
MIN_SIDE, MAX_RATIO = 32, 16  # what a network can make sense of; a strip of 1 x 128 px took 2 GB
LATTICE = 9  # steps per channel of the colours by which a profile is compared with sRGB
SAME = 2  # of 255: a profile that moves no colour by more is sRGB, and the file's bytes stay as they are


def open_picture(path: str | Path, what: str = "image", max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Decode a picture file, the first picture of it, turned upright by its EXIF note.

    what: "image", "mask" ..., for the messages.   max_megapixels: larger pictures are refused before they are decoded.
    Raises FileNotFoundError, or ValueError in one line for a file that is none of FORMATS, damaged or too large.
    """
    with opened(path, what, max_megapixels) as picture:
        if (
            getattr(picture, "is_animated", False) and picture.format != "MPO"
        ):  # telephones keep a second view in an MPO
            kind = "pages" if picture.format == "TIFF" else "frames"
            tell("first frame", f"{path} holds {getattr(picture, 'n_frames', 'several')} {kind}; the first is used")
        picture.load()
        return ImageOps.exif_transpose(picture)


@contextmanager
def opened(path: str | Path, what: str = "image", max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """A picture file whose header is read and checked, its pixels not yet; see open_picture."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}; check the path")
    try:
        with _pillow_limit(None):  # Pillow's own limit names no size and no way out
            picture = Image.open(path, formats=_formats(path))
    except Exception as error:  # a damaged header makes these parsers raise nearly anything
        raise ValueError(_unreadable(path, what, error)) from error
    with picture:
        megapixels = picture.width * picture.height / 1e6
        if megapixels > max_megapixels:
            raise ValueError(
                f"{path} is {picture.width}x{picture.height} px ({megapixels:.0f} megapixels), more than "
                f"max_megapixels={max_megapixels:g}; make it smaller, or raise that"
            )
        try:
            with _pillow_limit(int(max_megapixels * 1e6)):  # a later frame may claim another size
                yield picture
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(_unreadable(path, what, error)) from error


@contextmanager
def _pillow_limit(pixels):
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata and of sizes, which are checked here
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _formats(path):
    """Those of FORMATS that this Pillow reads; a HEIC file brings in its plugin, if that is installed."""
    Image.init()
    if "HEIF" not in Image.OPEN and _is_heif(path) and importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _is_heif(path):
    with open(path, "rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _unreadable(path, what, error):
    """One line for a file that did not open."""
    if isinstance(error, UnidentifiedImageError):
        if _is_heif(path):
            return f"{path} is a HEIC picture, which needs a plugin: pip install pillow-heif; or save it as JPEG"
        reason = "unknown to Pillow, or damaged"
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
    known = ", ".join(name for name in FORMATS if name in Image.OPEN)
    return f"{path} is not a readable {what} ({reason}); expected one of {known}"


def check_sides(size: tuple[int, int], path: str | Path) -> None:
    """ValueError for a picture of size (H, W) that is too small or too narrow to be animated."""
    height, width = size
    if min(size) < MIN_SIDE or max(size) > MAX_RATIO * min(size):
        raise ValueError(
            f"{path} is {width}x{height} px; expected at least {MIN_SIDE}x{MIN_SIDE} px, at most {MAX_RATIO}:1"
        )


# ---------------------------------------------------------------- colours
def to_rgb(picture: Image.Image, path: str | Path) -> Image.Image:
    """A decoded picture of any mode as RGB in sRGB: deep gray scaled, profile applied, transparency laid over white.

    path: for the messages.  Raises ValueError for values that are no brightness (NaN, infinite, negative).
    """
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(np.uint8(_levels(picture, path) * 255))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        colours = to_srgb(picture.convert("RGB"), profile, path).convert("RGBA")
        colours.putalpha(picture.getchannel("A"))
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), colours).convert("RGB")
    return to_srgb(picture, profile, path)


def _levels(picture, path):
    """Gray of 16 or 32 bits, or of floats, as float32 in [0,1]: scaled by its depth, else by its range."""
    values = np.asarray(picture, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds NaN or infinite values; expected brightness from 0 to 1, 255 or 65535")
    if low < -0.01 * abs(high):  # less is what a resampling filter overshoots
        raise ValueError(f"{path} holds values from {low:g} to {high:g}; expected brightness from 0 to 1, 255 or 65535")
    if picture.mode == "F":
        depth = next((depth for depth, most in ((1, 2), (255, 255), (65535, 65535)) if high <= most), high)
        if high > 255 or 1 < high <= 2:
            tell("float", f"{path} holds floats up to {high:g}; {depth:g} is taken as white")
    else:
        depth = 65535 if high > 255 or "16" in picture.mode else 255
        if high > 65535:
            depth = high
            tell("float", f"{path} holds whole numbers up to {high:g}; that is taken as white")
    if high == 0:
        tell("black", f"{path} is black everywhere")
    return (values / depth).clip(0, 1)


def to_srgb(picture: Image.Image, profile: bytes | None, path: str | Path) -> Image.Image:
    """A picture of 8 bits as RGB, through its ICC profile where that differs from sRGB.

    profile: the file's ICC profile, or None.  One that is damaged, or made for other channels, is told and ignored.
    """
    if not profile:
        return picture.convert("RGB")
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = embedded.profile.xcolor_space.strip()
        mode = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}.get(space)
        if mode is None or (mode == "CMYK") != (picture.mode == "CMYK") or (mode == "L" and not _is_gray(picture)):
            raise ValueError(f"it is made for {space}, the picture is {picture.mode}")
        # Perceptual intent, as most viewers show a picture.
        transform = ImageCms.buildTransform(embedded, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        if mode != "CMYK" and _is_srgb(transform, mode):
            return picture.convert("RGB")
        name = embedded.profile.profile_description or "its profile"
        converted = ImageCms.applyTransform(picture.convert(mode), transform) or picture.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:60]
        tell("icc damaged", f"the colour profile of {path} is ignored ({reason}); its colours are taken as sRGB")
        return picture.convert("RGB")
    tell("icc", f"{path}: colours brought from {name[:60]} to sRGB")
    return converted


def _is_gray(picture):
    if picture.mode in ("1", "L"):
        return True
    red, green, blue = picture.convert("RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_srgb(transform, mode):
    """Whether a transform into sRGB moves no colour of a lattice by more than SAME of 255."""
    axis = np.linspace(0, 255, LATTICE if mode == "RGB" else 256).round().astype(np.uint8)
    table = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(1, -1, 3) if mode == "RGB" else axis[None]
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(table), transform)).astype(int)
    return np.abs(moved - (table if mode == "RGB" else table[..., None])).max() <= SAME
