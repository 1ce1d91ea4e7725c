"""docs/hand_in.md, row by row: what people hand in as files, made here, and what happens to it."""

import io
import pickle
import re
import struct
import zipfile
import zlib
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import lz4.frame
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from text2cinemagraph.data import notes
from text2cinemagraph.data.animation import write_animation
from text2cinemagraph.data.checkpoint import convert, read_checkpoint, save_checkpoint
from text2cinemagraph.data.class_masks import write_classes
from text2cinemagraph.data.datasets import FrameDataset, MotionDataset, ids, match_flow, picture_of, read_captions
from text2cinemagraph.data.flow import read_flow, read_own_flow, write_flow, write_motion
from text2cinemagraph.data.hint import DIRECTIONS, find_direction
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.pictures import FORMATS
from text2cinemagraph.data.videos import frame_files, read_video
from text2cinemagraph.data.wording import PHRASES, tell_cut_words
from text2cinemagraph.dataset.generate_captions import written_captions
from text2cinemagraph.dataset.videos import find_videos, read_frames
from text2cinemagraph.demo.gallery import prompts_of
from text2cinemagraph.evaluate.clips import pictures_of, read_clip, read_picture, true_clips
from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.pipeline.command_line import check_prompt
from text2cinemagraph.pipeline.early import side_multiple

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "hand_in.md"
ROWS = {}


def row(name):
    """Register the test of a row of the document."""

    def register(check):
        ROWS[name] = check
        return check

    return register


def documented():
    """The first column of every table of the document."""
    cells = re.findall(r"^\| (.+?) \|", DOCS.read_text(encoding="utf-8"), re.M)
    return [cell for cell in cells if cell != "handed in"]


def test_every_row_of_the_document_is_a_test_and_the_reverse():
    assert documented() == list(ROWS)


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch):
    monkeypatch.setattr(notes, "_told", type(notes._told)())
    monkeypatch.setattr(notes, "_lines", set())


class Desk:
    """Where a test lays what it hands in, and hears what is told."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys

    def __truediv__(self, name):
        return self.folder / name

    def told(self):
        """The lines printed since the last call."""
        return [line for line in self.capsys.readouterr().out.splitlines() if line]

    def told_once(self, *words):
        lines = self.told()
        assert len(lines) == 1 and lines[0].startswith("note: ") and all(word in lines[0] for word in words), lines
        assert len(lines[0].replace(str(self.folder), "")) < 200

    def silent(self):
        assert self.told() == []

    def refused(self, call, *words):
        """`call` ends in one short line that names the file."""
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            call()
        text = str(error.value).replace(str(self.folder), "")
        assert "\n" not in text and len(text) < 200 and all(word in text for word in words), text


@pytest.mark.parametrize("name", documented())
def test_hand_in(name, tmp_path, capsys):
    ROWS[name](Desk(tmp_path, capsys))


def photo(height=48, width=64, seed=0):
    """A smooth coloured picture with noise on it: many colours, as a photograph has; uint8 [H,W,3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 230, (4, 5, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    return np.clip(np.asarray(coarse).astype(int) + rng.integers(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)


def truth(height=48, width=64):
    """What may move in these tests: an ellipse of about a fifth of the picture; bool [H,W]."""
    y, x = np.mgrid[:height, :width]
    return ((y - 0.6 * height) / (0.22 * height)) ** 2 + ((x - 0.4 * width) / (0.3 * width)) ** 2 < 1


def is_truth(mask):
    return np.array_equal(mask[0].numpy(), truth())


def png(width, height, rows=b"", depth=8, kind=0):
    """A PNG file of these header values around compressed rows."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ---------------------------------------------------------------- pictures
@row("PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF")
def _(desk):
    picture = Image.fromarray(photo())
    for suffix in ("png", "jpg", "webp", "tif", "bmp", "gif", "avif"):
        if suffix == "avif" and "AVIF" not in Image.SAVE:
            continue
        picture.save(desk / f"a.{suffix}", quality=95)
        image = read_image(desk / f"a.{suffix}")
        assert image.shape == (3, 48, 64) and (image * 255 - torch.tensor(photo()).permute(2, 0, 1)).abs().mean() < 8
    picture.save(desk / "a.ppm")
    desk.refused(lambda: read_image(desk / "a.ppm"), "a.ppm", "expected one of PNG, JPEG")
    assert not {"EPS", "PDF", "WMF", "SPIDER"} & set(FORMATS)
    desk.silent()


@row("a PostScript file named .png")
def _(desk):
    """It would write a file, if a PostScript interpreter got it."""
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n({desk / 'ran'}) (w) file closefile\n"
    (desk / "a.png").write_text(program + "showpage\n%%EOF\n")
    for reader in (read_image, read_mask):
        desk.refused(lambda reader=reader: reader(desk / "a.png"), "a.png", "expected one of PNG")
    assert not (desk / "ran").exists()


def test_no_other_door():
    """Image.open stands in data/pictures.py alone."""
    doors = [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts and "tests" not in p.parts]
    assert [p.name for p in doors if "Image.open(" in p.read_text(encoding="utf-8")] == ["pictures.py"]


@row("HEIC without its plugin")
def _(desk):
    (desk / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    if "HEIF" not in Image.OPEN:
        desk.refused(lambda: read_image(desk / "a.heic"), "a.heic", "pip install pillow-heif")


@row("a picture of more than `inputs.max_megapixels` (64)")
def _(desk):
    (desk / "a.png").write_bytes(png(13000, 13000))
    desk.refused(lambda: read_image(desk / "a.png"), "13000x13000", "169 megapixels", "max_megapixels=64")
    (desk / "b.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    desk.refused(lambda: read_mask(desk / "b.png"), "max_megapixels=64")
    Image.fromarray(photo()).save(desk / "c.png")
    desk.refused(lambda: read_image(desk / "c.png", max_megapixels=0.003), "64x48")
    assert read_image(desk / "c.png", max_megapixels=0.0031).shape == (3, 48, 64)


@row("a picture smaller than 32 px, or narrower than 16:1")
def _(desk):
    for size in ((1, 1), (31, 64), (32, 513)):
        Image.new("RGB", size[::-1]).save(desk / "a.png")
        desk.refused(lambda: read_image(desk / "a.png", animated=True), f"{size[1]}x{size[0]}", "at least 32x32")
        assert read_image(desk / "a.png").shape == (3, *size)
    Image.new("RGB", (512, 32)).save(desk / "a.png")
    assert read_image(desk / "a.png", animated=True).shape == (3, 32, 512)


@row("an animated GIF, WebP or APNG")
def _(desk):
    frames = [Image.fromarray(photo(seed=n)) for n in range(3)]
    for suffix, options in (("gif", {}), ("webp", {"lossless": True}), ("png", {})):
        frames[0].save(desk / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
        image = read_image(desk / f"a.{suffix}")
        assert (image * 255 - torch.tensor(photo()).permute(2, 0, 1)).abs().mean() < 8
        desk.told_once(f"a.{suffix}", "3 frames", "first")


@row("a telephone's JPEG of two views (MPO)")
def _(desk):
    views = [Image.fromarray(photo(seed=n)) for n in range(2)]
    views[0].save(desk / "a.jpg", "MPO", save_all=True, append_images=views[1:], quality=95)
    image = read_image(desk / "a.jpg")
    assert (image * 255 - torch.tensor(photo()).permute(2, 0, 1)).abs().mean() < 8
    desk.silent()


@row("a picture turned by its EXIF note")
def _(desk):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    Image.fromarray(photo()).save(desk / "a.png", exif=exif)
    assert torch.equal(read_image(desk / "a.png"), torch.tensor(np.rot90(photo(), -1).copy()).permute(2, 0, 1) / 255)


def numbers(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def matrix_profile(red, green, blue, gamma=2.2):
    """An ICC profile of display primaries (XYZ columns, adapted to D50) and one gamma, as bytes."""
    tags = {name: b"XYZ \0\0\0\0" + numbers(*v) for name, v in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return profile_of(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def ink_profile():
    """An ICC profile of four inks by a table of its sixteen corners in Lab, as bytes."""
    corners = np.mgrid[:2, :2, :2, :2].reshape(4, -1).T  # the last ink changes fastest
    lightness = 95 * (1 - 0.8 * corners[:, 3]) * (1 - corners[:, :3] @ (0.3, 0.35, 0.1))
    lab = np.stack([lightness * 2.55, 128 + corners @ (-35, 70, -5, 0), 128 + corners @ (-45, -5, 85, 0)], 1)
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + numbers(1, 0, 0, 0, 1, 0, 0, 0, 1) + straight * 4
    table += lab.clip(0, 255).astype(np.uint8).tobytes() + straight * 3
    return profile_of(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def profile_of(kind, space, connection, tags):
    """The bytes of an ICC profile around its tags."""
    white = numbers(0.9642, 1.0, 0.8249)
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 10) + b"Wide test\0" + bytes(78), **tags}
    tags |= {b"wtpt": b"XYZ \0\0\0\0" + white, b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"none", 0x02100000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + white
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


ADOBE = matrix_profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2.2)
PROPHOTO = matrix_profile((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00008, 0.82491), 1.8)
INKS = ink_profile()
P3 = matrix_profile((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 2.2)


@row("Adobe RGB, ProPhoto, Display P3")
def _(desk):
    srgb = ImageCms.createProfile("sRGB")
    picture = Image.fromarray(photo())
    for name, profile in (("adobe", ADOBE), ("prophoto", PROPHOTO), ("p3", P3)):
        wide = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        stored = ImageCms.profileToProfile(picture, srgb, wide)
        assert np.abs(np.asarray(stored).astype(int) - photo()).mean() > 2  # what reading without the profile is off by
        stored.save(desk / f"{name}.png", icc_profile=profile)
        back = read_image(desk / f"{name}.png") * 255
        assert (back - torch.tensor(photo()).permute(2, 0, 1)).abs().mean() < 1.5
        desk.told_once(f"{name}.png", "to sRGB")
        alpha = stored.convert("RGBA")
        alpha.save(desk / "alpha.png", icc_profile=profile)
        assert torch.equal(read_image(desk / "alpha.png") * 255, back)
        desk.told()


@row("CMYK with a profile")
def _(desk):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(INKS))
    stored = Image.fromarray(photo()).convert("CMYK")
    stored.save(desk / "p.tif", icc_profile=INKS)
    shown = ImageCms.profileToProfile(stored, profile, ImageCms.createProfile("sRGB"), 0, "RGB")
    shown = torch.tensor(np.asarray(shown)).permute(2, 0, 1)
    assert torch.equal(read_image(desk / "p.tif"), shown / 255)
    assert (shown - torch.tensor(photo()).permute(2, 0, 1).float()).abs().mean() > 5  # what it costs to ignore it
    desk.told_once("p.tif", "to sRGB")
    Image.fromarray(photo()).convert("CMYK").save(desk / "a.jpg", quality=97)
    assert (read_image(desk / "a.jpg") * 255 - torch.tensor(photo()).permute(2, 0, 1)).abs().mean() < 8
    desk.silent()
    Image.fromarray(photo()).convert("CMYK").save(desk / "b.jpg", quality=97, icc_profile=ADOBE)
    assert torch.equal(read_image(desk / "a.jpg"), read_image(desk / "b.jpg"))
    desk.told_once("b.jpg", "made for RGB, the picture is CMYK")


@row("an sRGB profile")
def _(desk):
    Image.fromarray(photo()).save(
        desk / "a.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    assert torch.equal(read_image(desk / "a.png"), torch.tensor(photo()).permute(2, 0, 1) / 255)
    desk.silent()


@row("a damaged profile, or one for other channels")
def _(desk):
    for number, profile in enumerate((b"no profile", ADOBE[:200], bytes(3000))):
        Image.fromarray(photo()).save(desk / f"{number}.png", icc_profile=profile)
        assert torch.equal(read_image(desk / f"{number}.png"), torch.tensor(photo()).permute(2, 0, 1) / 255)
        desk.told_once(f"{number}.png", "ignored")


def gray():
    return np.asarray(Image.fromarray(photo()).convert("L"))


def shows_gray(image, tolerance=1.01):
    return (image * 255 - torch.tensor(gray())).abs().max() <= tolerance


@row("16 bit gray")
def _(desk):
    Image.fromarray(gray().astype(np.uint16) * 257).save(desk / "a.png")
    assert shows_gray(read_image(desk / "a.png"))
    desk.silent()


@row("a float TIFF of 0…1, 0…255 or 0…65535")
def _(desk):
    for largest, told in ((1, 0), (255, 0), (65535, 1), (1e6, 1)):
        Image.fromarray(gray().astype(np.float32) / gray().max() * largest).save(desk / f"{largest}.tif")
        expected = torch.tensor(gray() / gray().max())
        assert (read_image(desk / f"{largest}.tif") - expected).abs().max() < 0.01
        assert len(desk.told()) == told


@row("a TIFF with NaN, infinite or negative values")
def _(desk):
    values = gray().astype(np.float32) / 255
    for number, wrong in enumerate((np.nan, np.inf, -0.5)):
        values[0, 0] = wrong
        Image.fromarray(values).save(desk / f"{number}.tif")
        desk.refused(lambda n=number: read_image(desk / f"{n}.tif"), f"{number}.tif", "expected brightness from 0")


@row("16 bit gray that is 0 everywhere")
def _(desk):
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(desk / "a.png")
    assert read_image(desk / "a.png").max() == 0
    desk.told_once("black everywhere")


# ---------------------------------------------------------------- masks
@row("black and white of any mode and depth")
def _(desk):
    white = Image.fromarray(truth().astype(np.uint8) * 255)
    kinds = {"1": white.convert("1"), "L": white, "P": white.convert("P"), "RGB": white.convert("RGB")}
    kinds |= {
        "01": Image.fromarray(truth().astype(np.uint8)),
        "RGBA": white.convert("RGBA"),
        "CMYK": white.convert("CMYK"),
    }
    kinds |= {
        "16": Image.fromarray(truth().astype(np.uint16) * 65535),
        "F": Image.fromarray(truth().astype(np.float32)),
    }
    for name, picture in kinds.items():
        picture.save(desk / "m.tif")
        assert is_truth(read_mask(desk / "m.tif")), name
    white.convert("RGB").save(desk / "m.jpg", quality=90)
    assert (read_mask(desk / "m.jpg")[0].numpy() != truth()).mean() < 0.01
    soft = white.resize((32, 24)).resize((64, 48), Image.BICUBIC)
    soft.save(desk / "m.png")
    assert torch.equal(read_mask(desk / "m.png")[0], torch.tensor(np.asarray(soft)) > 127)
    desk.silent()


def layer(colours, alpha):
    """uint8 [H,W,3] and bool [H,W] as an RGBA picture."""
    return Image.fromarray(np.dstack([colours, alpha.astype(np.uint8) * 255]))


@row("a photograph with holes in its alpha")
def _(desk):
    for name, under in (("kept", photo()), ("white", np.full_like(photo(), 255)), ("black", np.zeros_like(photo()))):
        layer(np.where(truth()[..., None], under, photo()), ~truth()).save(desk / f"{name}.png")
        assert is_truth(read_mask(desk / f"{name}.png"))
        desk.told_once(f"{name}.png", "the holes move", "--invert_mask")
        assert is_truth(~read_mask(desk / f"{name}.png", invert=True))


@row("a piece of a photograph on an empty layer")
def _(desk):
    layer(photo() * truth()[..., None], truth()).save(desk / "m.png")
    assert is_truth(read_mask(desk / "m.png"))
    desk.told_once("m.png", "the piece moves", "--invert_mask")


@row("strokes of any colour on an empty layer")
def _(desk):
    for ink in ((0, 0, 0), (255, 0, 0), (255, 255, 255)):
        for under in ((0, 0, 0), (255, 255, 255)):
            colours = np.where(truth()[..., None], np.uint8(ink), np.uint8(under))
            layer(colours, truth()).save(desk / "m.png")
            assert is_truth(read_mask(desk / "m.png"))
            palette = Image.fromarray(truth().astype(np.uint8), "P")
            palette.putpalette([*under, *ink])
            palette.save(desk / "p.png", transparency=0)
            assert is_truth(read_mask(desk / "p.png"))
    assert "the paint moves" in desk.told()[0]
    Image.merge("LA", [Image.new("L", (64, 48)), layer(photo(), truth()).getchannel("A")]).save(desk / "la.png")
    assert is_truth(read_mask(desk / "la.png"))


@row("black and white paint on an empty layer")
def _(desk):
    painted = np.zeros((48, 64), bool)
    painted[4:44] = True
    layer(np.repeat(truth()[..., None], 3, 2).astype(np.uint8) * 255, painted).save(desk / "m.png")
    assert is_truth(read_mask(desk / "m.png"))
    desk.told_once("the white paint moves")


def labels():
    """The ellipse as label 1, a strip above it as label 15."""
    values = truth().astype(np.uint8)
    values[:6] = 15
    return values


def voc(values):
    """A palette picture in PASCAL VOC's colours: black, dark red, dark green ..."""
    palette = np.zeros((256, 3), np.uint8)
    for label in range(256):
        for bit in range(8):
            palette[label] |= np.uint8([(label >> (3 * bit + c)) & 1 for c in range(3)]) << np.uint8(7 - bit)
    picture = Image.fromarray(values, "P")
    picture.putpalette(palette.ravel().tolist())
    return picture


@row("a palette of labels (labelme, VOC)")
def _(desk):
    voc(labels() * (labels() == 1)).save(desk / "one.png")
    assert is_truth(read_mask(desk / "one.png"))
    desk.told_once("one.png", "labels 1;", "all but 0 move")
    voc(labels()).save(desk / "two.png")
    assert np.array_equal(read_mask(desk / "two.png")[0], labels() > 0)
    desk.told_once("labels 1, 15;")


@row("gray labels 0, 1, 2 …")
def _(desk):
    for name, values in (("012", np.minimum(labels(), 2)), ("ade", np.where(labels() == 15, 140, labels() * 21))):
        for depth in (np.uint8, np.uint16):
            Image.fromarray(values.astype(depth)).save(desk / f"{name}.png")
            assert np.array_equal(read_mask(desk / f"{name}.png")[0], labels() > 0)
    assert "labels 1, 2; all but 0 move" in desk.told()[0]


@row("`--mask_labels 15` or a name")
def _(desk):
    voc(labels()).save(desk / "m.png")
    Image.fromarray(labels()).save(desk / "gray.png")
    for name in ("m.png", "gray.png"):
        assert np.array_equal(read_mask(desk / name, labels=("15",))[0], labels() == 15)
        assert np.array_equal(read_mask(desk / name, labels=("person", "1"))[0], labels() > 0)
        desk.refused(
            lambda name=name: read_mask(desk / name, labels=("7",)), "'7'", "0 (background), 1 (aeroplane), 15"
        )
    (desk / "label_names.txt").write_text("_background_\nwater\n")  # labelme's
    assert is_truth(read_mask(desk / "m.png", labels=("Water",)))
    write_classes(desk / "classes.png", {"river": torch.tensor(truth())[None]})  # s3's own
    assert is_truth(read_mask(desk / "classes.png", labels=("river",)))
    Image.fromarray(photo()).save(desk / "photo.png")
    desk.refused(lambda: read_mask(desk / "photo.png", labels=("1",)), "no", "palette or gray")


@row("red or blue on black")
def _(desk):
    for ink in ((255, 0, 0), (128, 0, 0), (0, 0, 200)):
        Image.fromarray(truth()[..., None] * np.uint8(ink)).save(desk / "m.png")
        assert is_truth(read_mask(desk / "m.png"))
        desk.told()
    Image.fromarray(truth()[..., None] * np.uint8((255, 0, 0))).save(desk / "m.jpg", quality=90)
    assert (read_mask(desk / "m.jpg")[0].numpy() != truth()).mean() < 0.06  # its colours are stored at half the size
    desk.told_once("the colours move")


@row("colours on white")
def _(desk):
    Image.fromarray(np.where(truth()[..., None], np.uint8((200, 0, 0)), np.uint8(255))).save(desk / "m.png")
    assert is_truth(read_mask(desk / "m.png"))
    desk.told_once("the colours move")


@row("gray 0 and 100, or 200 and 255")
def _(desk):
    for low, high, middle in ((0, 100, "50"), (0, 127, "63.5"), (200, 255, "227.5"), (30, 90, "60")):
        Image.fromarray(np.where(truth(), high, low).astype(np.uint8)).save(desk / f"{low}.png")
        assert is_truth(read_mask(desk / f"{low}.png"))
        desk.told_once(f"brighter than {middle} moves")


@row("a photograph without transparency")
def _(desk):
    Image.fromarray(photo()).save(desk / "m.png")
    desk.refused(lambda: read_mask(desk / "m.png"), "m.png", "is a photograph", "paint white")


@row("a mask of one value")
def _(desk):
    for value in (0, 100):
        Image.new("L", (64, 48), value).save(desk / "m.png")
        assert not read_mask(desk / "m.png").any()  # pipeline/own_files.py refuses it: tests/test_pipeline.py
    Image.new("RGBA", (64, 48), (9, 9, 9, 0)).save(desk / "m.png")
    assert not read_mask(desk / "m.png").any()
    desk.silent()


@row("a mask with NaN")
def _(desk):
    values = truth().astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(desk / "m.tif")
    desk.refused(lambda: read_mask(desk / "m.tif"), "m.tif", "NaN")


# ---------------------------------------------------------------- flow
def flow():
    return torch.from_numpy(np.random.default_rng(1).normal(0, 2, (2, 48, 64)).astype(np.float32))


@row(".npz, .npy, .flo, .pt, lz4 + pickle")
def _(desk):
    for suffix in (".npz", ".npy", ".flo", ".pt"):
        write_flow(desk / f"a{suffix}", flow())
        assert torch.equal(read_flow(desk / f"a{suffix}"), flow())
    write_motion(desk / "a_motion.pth", flow())
    assert torch.equal(read_flow(desk / "a_motion.pth"), flow())
    desk.silent()


def kitti(flow, known):
    """KITTI's PNG of a flow [2,H,W], written by hand: 16 bit RGB in big endian."""
    pixels = np.dstack([*(np.round(flow.numpy() * 64) + 2**15), known]) * known[..., None]
    rows = b"".join(b"\0" + line.tobytes() for line in pixels.astype(">u2"))
    return png(flow.shape[2], flow.shape[1], rows, depth=16, kind=2)


@row("KITTI's 16 bit PNG")
def _(desk):
    (desk / "a.png").write_bytes(kitti(flow(), np.ones((48, 64), bool)))
    assert (read_flow(desk / "a.png") - flow()).abs().max() <= 1 / 128
    desk.silent()
    (desk / "b.png").write_bytes(kitti(flow(), truth()))
    assert torch.equal(read_flow(desk / "b.png"), read_flow(desk / "a.png") * torch.tensor(truth()))
    desk.told_once("b.png", "no flow", "resting")
    (desk / "c.png").write_bytes(png(60000, 60000, depth=16, kind=2))
    desk.refused(lambda: read_flow(desk / "c.png"), "(2, 60000, 60000)")


@row("an .exr")
def _(desk):
    import cv2

    stored = np.dstack([np.zeros((48, 64), np.float32), *flow().flip(0).numpy()])
    try:
        written = cv2.imwrite(str(desk / "a.exr"), stored)
    except cv2.error:
        written = False
    if written:
        assert (read_flow(desk / "a.exr") - flow()).abs().max() < 1e-2
    else:
        (desk / "a.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(200))
        desk.refused(lambda: read_flow(desk / "a.exr"), "a.exr", ".exr")


@row("a picture of flow colours")
def _(desk):
    Image.fromarray(photo()).save(desk / "a.png")
    desk.refused(lambda: read_flow(desk / "a.png"), "a.png", "no flow of KITTI")


@row("`<id>_Motion.pt` in 1/64 px/frame as `--flow`")
def _(desk):
    torch.save(flow()[None] / 64, desk / "a_Motion.pt")
    assert torch.allclose(read_own_flow(desk / "a_Motion.pt"), flow(), atol=1e-5)
    desk.told_once("a_Motion.pt", "1/64 px/frame")
    torch.save(flow()[None] / 64, desk / "other.pt")
    assert torch.equal(read_own_flow(desk / "other.pt"), flow() / 64)
    torch.save(flow()[None], desk / "b_Motion.pt")  # too fast to be in 1/64
    assert torch.equal(read_own_flow(desk / "b_Motion.pt"), flow())
    desk.silent()


@row("a flow of another size")
def _(desk):
    write_flow(desk / "a.npz", torch.tensor([1.0, 2.0])[:, None, None].expand(2, 48, 64))
    large = read_own_flow(desk / "a.npz", (96, 128))
    assert torch.allclose(large, torch.tensor([2.0, 4.0])[:, None, None].expand(2, 96, 128))
    desk.told_once("a.npz", "64x48", "128x96", "its values too")


@row("a flow of another shape")
def _(desk):
    write_flow(desk / "a.npz", flow())
    desk.refused(lambda: read_own_flow(desk / "a.npz", (64, 48)), "64x48", "48x64")


@row("a flow of 1e6 px/frame")
def _(desk):
    write_flow(desk / "a.npz", flow() * 1e6)
    desk.refused(lambda: read_flow(desk / "a.npz"), "a.npz", "px/frame", "64x48")


def array_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


@row(".npz, .npy, .pt, .pth that unpack to gigabytes")
def _(desk):
    huge = array_header((2, 200_000, 200_000))
    (desk / "a.npy").write_bytes(huge + bytes(100))
    with zipfile.ZipFile(desk / "a.npz", "w") as archive:
        archive.writestr("flow.npy", huge + bytes(100))
    torch.save(torch.zeros(1).expand(2, 300_000, 300_000), desk / "a.pt")
    for name in ("a.npy", "a.npz", "a.pt"):
        desk.refused(lambda name=name: read_flow(desk / name), name, "claims an array of shape")
    torch.save(torch.zeros(2, 1500, 1000), desk / "b.pt")
    with zipfile.ZipFile(desk / "b.pt") as stored, zipfile.ZipFile(desk / "c.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    desk.refused(lambda: read_flow(desk / "c.pt", max_megapixels=0.5), "c.pt", "unpacks to")
    write_motion(desk / "d.pth", torch.zeros(2, 2000, 1000))
    desk.refused(lambda: read_flow(desk / "d.pth", max_megapixels=0.5), "d.pth", "unpacks to more than")
    assert read_flow(desk / "d.pth").shape == (2, 2000, 1000)


@row("a pickle that asks for memory or for programs")
def _(desk):
    words = {
        "memory": b"\x80\x04Nr\xff\xff\xff\x3f.",  # remembers a thing under the number 2^30: 17 GB
        "deep": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "none": bytes(1 << 20),
        "code": b"cposix\nsystem\n(S'false'\ntR.",
        "two": pickle.dumps([np.zeros(3)] * 90, protocol=4),
    }
    for name, content in words.items():
        (desk / f"{name}.pth").write_bytes(lz4.frame.compress(content))
        desk.refused(lambda name=name: read_flow(desk / f"{name}.pth"), f"{name}.pth")


# ---------------------------------------------------------------- clips
SIDES = (48, 64)


def write_clip(path, frames, *, fps=30, turn=0, aspect=None, times=None):
    """Frames (uint8 [H,W,3]) as a video; turn: degrees in its note; times: s of each frame, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"qp": "0", "bf": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv444p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def gray_frames(count):
    """Frames whose brightness counts: 0, 4, 8 ..."""
    return [np.full((*SIDES, 3), 4 * number, np.uint8) for number in range(count)]


def counted(frames):
    return [round(float(frame.mean()) / 4) for frame in frames]


@row("a telephone's video that notes its rotation")
def _(desk):
    frames = [photo(seed=n) for n in range(3)]
    write_clip(desk / "plain.mp4", frames)
    write_clip(desk / "turned.mp4", frames, turn=90)
    for reader in (read_video, lambda path: read_frames(path, 1000)):
        plain, turned = next(iter(reader(desk / "plain.mp4"))), next(iter(reader(desk / "turned.mp4")))
        assert turned.shape == (64, 48, 3) and np.array_equal(turned, np.rot90(plain, 1))
    small = next(read_video(desk / "turned.mp4", (32, 24)))  # as evaluation reads it
    assert small.shape == (32, 24, 3)
    assert np.abs(small.astype(int) - np.rot90(next(read_video(desk / "plain.mp4", (24, 32))), 1)).mean() < 1
    desk.silent()


@row("pixels that are not square")
def _(desk):
    write_clip(desk / "a.mp4", [photo()] * 2, aspect=Fraction(4, 3))
    assert next(read_video(desk / "a.mp4")).shape == (48, 85, 3)
    write_clip(desk / "b.mp4", [photo()] * 2, aspect=Fraction(1, 2))
    assert next(read_video(desk / "b.mp4")).shape == (96, 64, 3)
    assert next(read_video(desk / "b.mp4", (24, 24))).shape == (24, 24, 3)


@row("an animated GIF or WebP as a clip")
def _(desk):
    frames = [Image.fromarray(frame) for frame in gray_frames(6)]
    for suffix, options in (("gif", {}), ("webp", {"lossless": True})):
        times = [40, 40, 120, 40, 40, 40]
        frames[0].save(desk / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=times, **options)
        assert counted(read_video(desk / f"a.{suffix}")) == [0, 1, 2, 3, 4, 5]
        assert counted(read_video(desk / f"a.{suffix}", step=2)) == [0, 2, 4]
        assert counted(read_video(desk / f"a.{suffix}", fps=25)) == [0, 1, 2, 2, 3, 3, 4, 5]  # nearest in time
        assert read_clip(desk / f"a.{suffix}", range(3), "published").shape == (3, 224, 224, 3)
    (desk / "gt").mkdir()
    (desk / "a.gif").rename(desk / "gt" / "7_gt.gif")
    assert list(true_clips(desk / "gt")) == ["7"] and list(find_videos(desk / "gt", desk / "out")) == ["7_gt"]


@row("60, 12 or a variable number of frames/s for a training set")
def _(desk):
    write_clip(desk / "30.mp4", gray_frames(12))
    assert counted(read_video(desk / "30.mp4", fps=30)) == list(range(12))
    write_clip(desk / "ntsc.mp4", gray_frames(12), fps=Fraction(30000, 1001))
    assert counted(read_video(desk / "ntsc.mp4", fps=30)) == list(range(12))
    desk.silent()
    write_clip(desk / "60.mp4", gray_frames(12), fps=60)
    assert counted(read_video(desk / "60.mp4", fps=30)) == [0, 2, 4, 6, 8, 10]
    desk.told_once("60.mp4", "60 frames/s", "brought to 30")
    write_clip(desk / "12.mp4", gray_frames(6), fps=12)
    seen = counted(read_video(desk / "12.mp4", fps=30))
    assert len(seen) == 15 and seen == sorted(seen) and set(seen) == set(range(6))
    desk.told_once("12.mp4", "12 frames/s")
    times = [0, 1 / 30, 2 / 30, 6 / 30, 7 / 30, 8 / 30, 8.2 / 30, 8.4 / 30, 9 / 30, 10 / 30]
    write_clip(desk / "vfr.mkv", gray_frames(10), times=times)
    seen = counted(read_video(desk / "vfr.mkv", fps=30))
    assert seen[:3] == [0, 1, 2] and seen.count(2) + seen.count(3) == 5 and seen[-2:] == [8, 9]
    assert len(desk.told()) == 1
    assert counted(read_video(desk / "60.mp4")) == list(range(12))


@row("a file that is no video among videos")
def _(desk):
    write_clip(desk / "a.MP4", gray_frames(2))
    (desk / "notes.txt").write_text("x")
    assert list(find_videos(desk.folder, desk / "out")) == ["a"]
    desk.told_once("1 files", "notes.txt", "passed over")


@row("frames as `0.png`, `frame_0001.png` or `.jpeg`, from 0 or 1")
def _(desk):
    kinds = ("a", "{}.png", 0), ("b", "frame_{:04}.png", 1), ("c", "f{}.JPEG", 1), ("d", "{:03}.jpg", 7)
    for folder, name, first in kinds:
        (desk / folder / "images").mkdir(parents=True)
        for number, frame in enumerate(gray_frames(12), first):
            Image.fromarray(frame).save(desk / folder / "images" / name.format(number), quality=95)
        assert list(frame_files(desk / folder)) == list(range(12))
        assert counted(read_picture(path) for path in pictures_of(desk / folder)) == list(range(12))
    desk.silent()


@row("a clip's folder with other files only")
def _(desk):
    (desk / "7_gt").mkdir()
    (desk / "7_gt" / "film.txt").write_text("x")
    desk.refused(lambda: pictures_of(desk / "7_gt"), "7_gt", "film.txt", "frame_0001.jpg")
    (desk / "7_gt").rename(desk / "other")
    desk.refused(lambda: true_clips(desk.folder), "found other")


def data_set(folder, items=("1",), frames=(), size=SIDES):
    """The Eulerian layout: pictures, motion and frames, whose brightness counts."""
    folder.mkdir(exist_ok=True)
    for item in items:
        Image.fromarray(photo(*size)).save(folder / f"{item}_input.jpg", quality=95)
        write_motion(folder / f"{item}_motion.pth", torch.ones(2, *size))
        for number in frames:
            (folder / f"{item}_gt" / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(gray_frames(number + 1)[number]).save(folder / f"{item}_gt" / "images" / f"{number}.png")
    return folder


@row("a frame that is missing between others")
def _(desk):
    root = data_set(desk / "set", frames=[n for n in range(60) if n not in (5, 6, 50)])
    data = FrameDataset(root, 32, strict=True)
    for epoch in range(40):
        data.set_epoch(epoch)
        item = data[0]
        assert counted([item.start, item.middle, item.end][i].numpy() * 255 for i in range(3)) == item.index.tolist()
        assert not {5, 6, 50} & set(item.index.tolist())
    assert all("item 1 lacks frame" in line for line in desk.told()) and not data.broken
    desk.refused(lambda: pictures_of(root / "1_gt"), "lacks frame 5 after 4.png", "57 frames")


@row("clips of fewer than 60 frames for training")
def _(desk):
    root = data_set(desk / "set", frames=range(12))
    data = FrameDataset(root, 32, strict=True)
    for epoch in range(20):
        data.set_epoch(epoch)
        start, middle, end = data[0].index.tolist()
        assert 0 <= start < 4 and 8 <= end < 12 and start <= middle < end
    desk.told_once("item 1 has 12 frames")


# ---------------------------------------------------------------- data sets
@row("`IMG_1_input.JPG`, `_MOTION.PTH`, `_gt.MP4`, `_MASK.png`")
def _(desk):
    root = data_set(desk / "set", items=("IMG_1", "b"))
    (root / "IMG_1_input.jpg").rename(root / "IMG_1_input.JPG")
    (root / "IMG_1_motion.pth").rename(root / "IMG_1_MOTION.PTH")
    write_clip(root / "IMG_1_GT.mp4", gray_frames(2))
    (root / "IMG_1_GT.mp4").rename(root / "IMG_1_gt.MP4")
    Image.fromarray(truth().astype(np.uint8) * 255).save(root / "b_mask.png")
    Image.fromarray(truth().astype(np.uint8) * 255).save(root / "IMG_1_MASK.png")
    assert ids(root) == ["IMG_1", "b"] and picture_of(root, "IMG_1").name == "IMG_1_input.JPG"
    data = MotionDataset(root, 32, mask_path=str(root), strict=True)
    assert data[0].mask.any() and (data[0].flow != 0).any()
    assert list(true_clips(root)) == ["IMG_1"]
    desk.silent()


@row("`<id>_input.webp`")
def _(desk):
    root = data_set(desk / "set", items=("a",))
    Image.fromarray(photo()).save(root / "c_input.webp")
    assert ids(root) == ["a"]
    desk.told_once("c_input.webp", "passed over")


@row("a picture whose shape is not its motion's (EXIF, crop)")
def _(desk):
    root = data_set(desk / "set", items=("a", "b"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(root / "a_input.jpg", exif=exif)
    with pytest.warns(UserWarning, match="item a is skipped: the picture is 48x64, its motion 64x48"):
        MotionDataset(root, 32)[0]
    desk.refused(lambda: match_flow(torch.zeros(2, 48, 64), torch.zeros(3, 64, 48)), "EXIF")
    assert match_flow(torch.zeros(2, 12, 16), torch.zeros(3, 48, 64)).shape == (2, 48, 64)


# ---------------------------------------------------------------- texts
CAPTIONS = "lake_1:a lake, été\nriver_2:a river: wide\n"
READ = {"lake_1": ["a lake, été"], "river_2": ["a river: wide"]}


@row("UTF-8 with a mark, UTF-16, CRLF")
def _(desk):
    kinds = ("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\n"), ("utf-8", "\r")
    for number, (encoding, end) in enumerate(kinds):
        (desk / f"{number}.txt").write_bytes(CAPTIONS.replace("\n", end).encode(encoding))
        assert read_captions(desk / f"{number}.txt") == READ
        assert prompts_of(desk / f"{number}.txt") == CAPTIONS.split("\n")[:2]
    (desk / "le.txt").write_bytes("lake:a lake".encode("utf-16-le"))
    assert read_captions(desk / "le.txt") == {"lake": ["a lake"]}
    (desk / "o.yaml").write_bytes("video:\r\n  speed: 0.5\r\n".encode("utf-16"))
    assert load_options(InferenceOptions, desk / "o.yaml").video.speed == 0.5
    (desk / "w.txt").write_bytes(CAPTIONS.replace("\n", "\r\n").encode("utf-16"))
    assert list(written_captions(desk / "w.txt")) == list(READ)  # to which generate_captions.py appends
    assert (desk / "w.txt").read_bytes() == CAPTIONS.encode()
    desk.silent()


@row("Windows' cp1252")
def _(desk):
    (desk / "c.txt").write_bytes(("a:plain\n" + CAPTIONS).encode("cp1252"))
    assert read_captions(desk / "c.txt") == {"a": ["plain"], **READ}
    desk.told_once("c.txt, line 2", "cp1252")


@row("a binary file")
def _(desk):
    (desk / "c.txt").write_bytes(b"a:b\n\x00\x01c:d")
    desk.refused(lambda: read_captions(desk / "c.txt"), "c.txt, line 2", "zero byte")
    (desk / "d.txt").write_bytes(b"a:b\n\x81:d")
    desk.refused(lambda: read_captions(desk / "d.txt"), "d.txt, line 2", "UTF-8")


@row("a captions line without a colon")
def _(desk):
    (desk / "c.txt").write_text("a:b\n\nno colon\n")
    desk.refused(lambda: read_captions(desk / "c.txt"), "c.txt, line 3", "<id>:<caption>")
    (desk / "c.jsonl").write_text('{"id": "a", "captions": {"x": "y"}}\n{"id": "b"}\n')
    desk.refused(lambda: read_captions(desk / "c.jsonl"), "c.jsonl, line 2")


@row("an empty captions file")
def _(desk):
    for name, text in (("c.txt", "\n \n"), ("c.jsonl", ""), ("d.jsonl", '{"id": "a", "captions": {}}')):
        (desk / name).write_text(text)
        desk.refused(lambda name=name: read_captions(desk / name), name)


@row("`C:\\data\\lake_input.jpg:a lake`")
def _(desk):
    lines = "C:\\data\\lake_input.jpg:a lake", "/home/x/pond_input.PNG:a pond: small", "E:/x/y:z", "sea:C:\\x"
    (desk / "c.txt").write_text("\n".join(lines))
    found = {"lake": ["a lake"], "pond": ["a pond: small"], "y": ["z"], "sea": ["C:\\x"]}
    assert read_captions(desk / "c.txt") == found


# ---------------------------------------------------------------- words and sizes
def stages(*words, names=("s1", "s2", "s3", "s5")):
    """What inference_t2c.py checks before it loads anything."""
    options = load_options(InferenceOptions, ROOT / "configs" / "inference_mini_directional.yaml", words)
    check_prompt(options, names, drawn=False)


@row('"flowing from left to right", "to the left", "rising upwards"')
def _(desk):
    for prompt, phrase, rest in (
        ("a river flowing from left to right near a hill", "left to right", "a river flowing near a hill"),
        ("a river flows to the left", "right to left", "a river flows"),
        ("smoke rising slowly upwards, at night", "upwards", "smoke rising slowly, at night"),
        ("water rushing towards the viewer", "downwards", "water rushing"),
        ("clouds drifting to the right and upwards", "left to right, upwards", "clouds drifting"),
        ("a fall pouring downwards, right to left", "downwards, right to left", "a fall pouring"),
        ("a stream from the right to the left", "right to left", "a stream"),
        ("flowing to the left in upwards direction", "upwards", "flowing to the left"),  # published ones come first
    ):
        assert find_direction(prompt) == (phrase, rest)
    for prompt in (
        "a castle to the left of a river",
        "stairs leading upwards",
        "flowing downstream",
        "running water",
    ):
        assert find_direction(prompt) == (None, prompt)
    assert set(PHRASES) == set(DIRECTIONS)
    stages("optical_flow.use_hint=true", "twin_extraction.prompt=a river flowing to the left")
    desk.told_once('"to the left" is understood as "in right to left direction"')


@row('"downstream", or no direction, with `--use_hint`')
def _(desk):
    for prompt, nearest in (("a river flowing downwords", "downwards"), ("a lake", "left to right")):
        call = partial(stages, "optical_flow.use_hint=true", f"twin_extraction.prompt={prompt} {'x' * 300}")
        desk.refused(call, f"{nearest}", "the nearest", "--help")


def clip_tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(ROOT / "checkpoints" / "mini" / "diffusion" / "tokenizer", model_max_length=77)


@row("a prompt of more than 77 tokens")
def _(desk):
    tokenizer = clip_tokenizer()
    tell_cut_words(["a river " * 20, "a river flowing " * 10], tokenizer)
    desk.silent()
    tell_cut_words(["a lake, " * 40 + "at night"], tokenizer)
    desk.told_once("tokens", "77 are read", "cut off", 'at night"')


@row("a prompt in another language or script")
def _(desk):
    for prompt in (
        "川が流れる山の風景",
        "река в горах",
        "ein Fluss mit Bergen und Wolken",
        "une rivière dans les montagnes",
    ):
        stages(f"twin_extraction.prompt={prompt}", names=("s1",))
        desk.told_once("does not look English")
    stages("twin_extraction.prompt=a river in the style of Das Boot and El Greco near Le Mont, café", names=("s1",))
    desk.silent()


@row("sizes that the model cannot draw")
def _(desk):
    desk.refused(lambda: stages("twin_extraction.W=100"), "W=100", "multiples of 64", "W=128")
    stages("twin_extraction.W=100", names=("s5",))
    (desk / "unet").mkdir()
    (desk / "vae").mkdir()
    for part in ("unet", "vae"):  # Stable Diffusion's
        (desk / part / "config.json").write_text('{"block_out_channels": [1, 2, 3, 4]}')
    assert side_multiple(desk.folder) == 64 and side_multiple(desk / "unet") == 1


@row("an empty vocabulary")
def _(desk):
    for text in ("", " ", ",;"):
        desk.refused(lambda text=text: stages(f"odise.vocab={text}"), "odise.vocab", "water")


@row("an empty negative prompt")
def _(desk):
    """s2 takes `negative_prompt or source`: None and "" are one."""
    (desk / "o.yaml").write_text('twin_generation:\n  negative_prompt: ""\n')
    own = load_options(InferenceOptions, desk / "o.yaml").twin_generation.negative_prompt
    word = load_options(InferenceOptions, None, ["twin_generation.negative_prompt="]).twin_generation.negative_prompt
    assert (own or "source") == (word or "source") == "source"
    assert "negative_prompt=t.negative_prompt or source" in (ROOT / "pipeline" / "drawing.py").read_text()


@row("a GIF of more than 50 frames/s")
def _(desk):
    write_animation(desk / "a.gif", gray_frames(4), 60)
    desk.told_once("a.gif", "50 frames/s", "slower")
    write_animation(desk / "b.gif", gray_frames(4), 50)
    desk.silent()


# ---------------------------------------------------------------- weights
@row("names with `module.`, `_orig_mod.`, or both in either order")
def _(desk):
    state = {
        "encoder.gblocks.0.weight": torch.randn(3, 4),
        "encoder.module.bias": torch.randn(3),
    }
    for number, prefix in enumerate(("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.")):
        torch.save({f"{prefix}{name}": tensor for name, tensor in state.items()}, desk / f"{number}.pth")
        found, _ = read_checkpoint(desk / f"{number}.pth")
        assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
        written = convert(desk / f"{number}.pth", desk / f"{number}.safetensors")
        assert read_checkpoint(written)[0].keys() == state.keys()
    torch.save({name.replace("gblocks.", "gblocks._orig_mod."): t for name, t in state.items()}, desk / "part.pth")
    assert read_checkpoint(desk / "part.pth")[0].keys() == state.keys()
    save_checkpoint(desk / "s.safetensors", {f"_orig_mod.{name}": t for name, t in state.items()}, {})
    assert read_checkpoint(desk / "s.safetensors")[0].keys() == state.keys()


@row("a .pth that claims far more than it holds")
def _(desk):
    torch.save({"a": torch.zeros(1).expand(300_000, 300_000)}, desk / "a.pth")
    desk.refused(lambda: read_checkpoint(desk / "a.pth"), "a.pth", "claims 360 GB")
