"""A sheet of all looks, every row a picture, every column a look; and what each look costs.

python -m benchmarks.looks                                   # docs/assets/looks.jpg, from pictures that may be shown
python -m benchmarks.looks my_folder --output looks.jpg --cell 512 --side 1536
python -m benchmarks.looks --costs                           # docs/results/looks.json: CPU seconds of every look
"""

import io
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import read_image
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.painters.looks import LOOKS, paint
from tqdm import tqdm

SHEET = "docs/assets/looks.jpg"
LARGEST = 500_000  # bytes of a sheet
LABEL = 22  # px
MEGAPIXELS = (1, 4)  # sizes at which the looks are timed


def shown_pictures() -> list[tuple[np.ndarray, dict]]:
    """Pictures that ship with scikit-learn and scikit-image under free licences, and a procedural landscape.

    Each with the parts of it that are known by name (paint's labels).
    """
    from skimage import data
    from sklearn.datasets import load_sample_image
    from text2cinemagraph.mini.scene import LABELS, Scene

    photographs = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), data.chelsea()]
    scene = Scene(11, "river", "day", size=512)
    sky = {"sky": scene.labels == LABELS.index("sky")}
    return [*((np.float32(p) / 255, {}) for p in photographs), (scene.image, sky)]


def at_side(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture [H,W,3] in [0,1], or a map [H,W] of bools, with a longer side of `side` px; 0: as it is."""
    scale = side / max(picture.shape[:2]) if side else 1
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    if scale == 1 or picture.dtype == bool:
        return picture if scale == 1 else cv2.resize(np.uint8(picture), size, interpolation=cv2.INTER_NEAREST) > 0
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC).clip(0, 1)


def costs(picture: np.ndarray) -> dict[str, dict[str, float]]:
    """{look: {"1 MP": CPU seconds, ...}} of one picture [H,W,3] at the sizes of MEGAPIXELS."""
    paint(picture[:64, :64], "oil")  # compiles
    seconds = {look: {} for look in LOOKS}
    for size in MEGAPIXELS:
        scaled = at_side(picture, round(np.sqrt(size * 1e6 * max(picture.shape[:2]) / min(picture.shape[:2]))))
        for look in tqdm(LOOKS, f"{size} MP"):
            started = time.process_time()
            paint(scaled, look)
            seconds[look][f"{size} MP"] = round(time.process_time() - started, 2)
    return seconds


def cut(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a picture [H,W,3], side px."""
    rows, columns = picture.shape[:2]
    short = min(rows, columns)
    top, left = (rows - short) // 2, (columns - short) // 2
    square = Image.fromarray(np.uint8(picture[top : top + short, left : left + short] * 255 + 0.5))
    return np.asarray(square.resize((side, side), Image.LANCZOS))


def sheet(pictures: list[tuple[np.ndarray, dict]], cell: int) -> Image.Image:
    """All looks of all pictures; each is painted at its own size and shown `cell` px large."""
    names = ["picture", *LOOKS]
    made = Image.new("RGB", (len(names) * cell, len(pictures) * cell + LABEL), "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(LABEL - 8)
    for column, name in enumerate(names):
        pen.text((column * cell + cell / 2, LABEL / 2), name, "black", font, anchor="mm")
        started = time.process_time()
        for row, (picture, labels) in enumerate(tqdm(pictures, name)):
            painted = picture if column == 0 else paint(picture, name, labels=labels)
            made.paste(Image.fromarray(cut(painted, cell)), (column * cell, LABEL + row * cell))
        if column:
            print(f"{name}: {(time.process_time() - started) / len(pictures):.2f} CPU seconds a picture")
    return made


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.looks", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="your pictures; left out: those of installed packages")
    parser.add_argument("--output", type=Path, default=Path(SHEET), help="JPEG file (default: %(default)s)")
    parser.add_argument(
        "--side",
        type=number(least=0, most=16_384),
        default=0,
        help="px of the longer side when painted (default: the picture's)",
    )
    parser.add_argument("--costs", action="store_true", help="no sheet: time every look, into docs/results/looks.json")
    parser.add_argument(
        "--cell",
        type=number(least=16, most=4096),
        default=216,
        help="px of one picture on the sheet (default: %(default)s)",
    )
    flags = parser.parse_args()
    if flags.costs:
        from text2cinemagraph.benchmarks.record import keep

        cv2.setNumThreads(1)
        keep("looks", {"picture": "scikit-learn's china.jpg", "cpu_seconds": costs(shown_pictures()[0][0])})
        return
    files = sorted(flags.folder.iterdir()) if flags.folder and flags.folder.is_dir() else []
    files = [f for f in files if f.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    if flags.folder and not files:
        raise FileNotFoundError(f"no pictures (jpg, png, webp) in {flags.folder}")
    pictures = [(read_image(f).permute(1, 2, 0).numpy(), {}) for f in files] or shown_pictures()
    pictures = [(at_side(p, flags.side), {k: at_side(v, flags.side) for k, v in maps.items()}) for p, maps in pictures]
    made, quality = sheet(pictures, flags.cell), 88
    while True:
        packed = io.BytesIO()
        made.save(packed, "JPEG", quality=quality, optimize=True)
        if packed.tell() <= LARGEST or quality <= 40:
            break
        quality -= 6
    with atomic(flags.output) as temporary:
        temporary.write_bytes(packed.getvalue())
    print(f"{flags.output}: {len(pictures)} pictures in {len(LOOKS)} looks, {packed.tell() // 1000} kB")


if __name__ == "__main__":
    run_main(main)
