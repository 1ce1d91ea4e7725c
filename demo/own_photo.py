"""Your photograph as a loop, with this project as a library (docs/library.md).

    python demo/own_photo.py photo.jpg loop.mp4 "100,200>180,210"

The arrows say where the water goes, in px of the photograph; what moves is found by its name, or given by --mask.
"""

from text2cinemagraph import Cinemagraph, read_image, read_mask, write_clip
from text2cinemagraph.options.cli import Parser, number, run_main
from tqdm import tqdm


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python demo/own_photo.py", description=__doc__)
    parser.add_argument("photo", help="the picture")
    parser.add_argument("output", help="the loop: .mp4, .webm, .gif, .webp or .apng")
    parser.add_argument("arrows", help='where it goes: "x,y>x,y; x,y>x,y" in px, or motion.json')
    parser.add_argument("--mask", help="a picture, white may move; default: what --words name, found by s3")
    parser.add_argument("--words", default="water, river, sea, lake, waterfall", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=number(float, above=0, most=600), default=2.0, help="length of the loop")
    parser.add_argument("--speed", type=number(float, above=0, most=100), default=1.0, help="factor on the arrows'")
    o = parser.parse_args(argv)

    photo = read_image(o.photo)  # [3,H,W] in [0,1]
    model = Cinemagraph.load("inference_mini_directional")
    mask = read_mask(o.mask, photo.shape[-2:]) if o.mask else model.segment(photo, o.words).mask  # bool [1,H,W]
    flow = model.motion.predict(photo, mask, arrows=o.arrows).flow  # [2,H,W] in px/frame
    loop = model.video.set_image(photo, mask)
    frames = loop.render(flow, round(o.seconds * 30), speed=o.speed)
    print(f"video: {write_clip(o.output, tqdm(frames, 'frames', total=round(o.seconds * 30)), fps=30)}")


if __name__ == "__main__":
    run_main(main)
