"""Procedural landscapes with moving water and clouds, written in the layout of the Eulerian dataset.

    python -m mini.procedural --output dataset/procedural_data/train --count 3000 --workers 2
    python -m mini.procedural --output dataset/procedural_data/validation --count 100 --split validation --video

    DIR/<id>_input.jpg              the natural picture
    DIR/<id>_motion.pth             its flow: lz4 frame, pickle, float32 (1,2,H,W) px/frame
    DIR/<id>_gt.mp4                 with --video: 60 frames, a seamless loop ...
    DIR/<id>_gt/images/N.png        ... and the frames without loss
    DIR_styled/<id>_<style>.jpg     the same layout, painted
    DIR_labels/<id>_label.png       uint8 index into LABELS
    DIR_masks/<id>_mask.png         255 = moves, 0 = stands still
    DIR_captions.txt                <id>:<caption of the natural picture>
    DIR_metadata.jsonl              one scene per line: seed, kind, light, styles, all captions, direction, mean flow
Scenes that are complete are kept, so an interrupted run goes on where it stopped. Several machines may fill one folder
(torchrun, srun, sbatch --array): each keeps what it has drawn beside the lists, and who ends merges.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.flow import write_motion
from text2cinemagraph.data.media import VideoWriter
from text2cinemagraph.jobs.lists import SharedList
from text2cinemagraph.jobs.share import Share, add_share, share_of
from text2cinemagraph.jobs.turns import shared_leases, turns
from text2cinemagraph.mini.scene import KINDS, LABELS, LIGHTS, Scene
from text2cinemagraph.mini.styles import EDITIONS, STYLE_NAMES, STYLES, stylize
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.jobs.leases import Leases

__all__ = ["KINDS", "LABELS", "LIGHTS", "SPLITS", "STYLES", "Scene", "caption", "render"]

SPLITS = ("train", "validation")
JPEG_QUALITY = 95

# ---------------------------------------------------------------- captions
NOUNS = {
    "river": ("river", "river", "stream"),
    "waterfall": ("waterfall",),
    "lake": ("lake",),
    "sea": ("sea", "ocean"),
    "clouds": ("clouds",),
}
ADJECTIVES = {
    "river": ("winding", "large", "small"),
    "waterfall": ("large", "small", "tall"),
    "lake": ("calm", "large", "quiet"),
    "sea": ("wide", "large", "calm"),
    "clouds": ("white", "large", "soft"),
}
VERBS = {
    "river": ("flowing",),
    "waterfall": ("falling", "flowing"),
    "lake": ("flowing", "moving"),
    "sea": ("flowing", "moving"),
    "clouds": ("moving", "drifting", "flowing"),
}
# Where the fluid is, by what stands behind it. A verb is dropped where a direction clause brings its own.
PLACES = {
    "river": {
        "mountain": ("in front of a mountain", "in front of mountains", "below mountains"),
        "hill": ("through hills", "through a meadow", "between green hills"),
        "forest": ("between trees", "in front of a forest", "through a meadow"),
    },
    "lake": {
        "mountain": ("in front of mountains", "below mountains", "in a valley"),
        "hill": ("in front of hills", "between hills", "with trees on its shore"),
        "forest": ("in front of a forest", "surrounded by trees", "with trees on its shore"),
    },
    "clouds": {
        "mountain": ("over a mountain", "above mountains", "in the sky over mountains"),
        "hill": ("over hills", "in the sky over hills", "over a meadow"),
        "forest": ("over a forest", "over trees", "in the sky over a field"),
    },
    "waterfall": {
        None: ("from hills", "from a cliff", "from a cliff into a pool", "between dark rocks", "between cliffs")
    },
    "sea": {None: ("with waves", "under a wide sky", "at a beach", "at a sandy beach")},
}
TIMES = {
    "day": ("", "", "by day", "in daylight"),
    "sunset": ("at sunset", "during sunset"),
    "night": ("at night",),
    "winter": ("in winter", "in winter with snow"),
    "autumn": ("in autumn",),
}
TAGS = {
    "day": ("", "", "sunny"),
    "sunset": ("sunset",),
    "night": ("night",),
    "winter": ("winter", "snow"),
    "autumn": ("autumn",),
}
PHOTO = "nature, bright, realistic, photography, 4k, 8k"  # the original's words for every natural twin


def caption(scene: Scene, style: str | None = None) -> str:
    """What a person would ask for to get this picture: natural (style None) or in one of STYLES. Holds no ':'.

    A scene that is `directed` names its direction in all its captions: "... flowing in left to right direction ...".
    """
    rng = np.random.default_rng([scene.seed, 100 if style is None else 101 + STYLES.index(style)])

    def pick(words):
        return words[rng.integers(len(words))]

    noun = pick(NOUNS[scene.kind])
    clause = f"{pick(VERBS[scene.kind])} in {scene.direction} direction" if scene.directed else ""
    above = f"under clouds drifting in {scene.sky_direction} direction" if clause and scene.sky_direction else ""
    if style is None and rng.random() < 0.6:
        tag = pick(TAGS[scene.light]) if rng.random() < 0.7 else ""
        return ", ".join(part for part in (f"{noun} {clause} {above}".strip(), tag, PHOTO) if part)
    article = "" if noun == "clouds" else "the" if scene.kind == "sea" and rng.random() < 0.5 else "a"
    adjective = "" if article == "the" or rng.random() < 0.2 else pick(ADJECTIVES[scene.kind])
    if article == "a" and f"{adjective} {noun}".strip()[0] in "aeiou":
        article = "an"
    place = pick(_places(scene))
    verb = clause
    if not clause and scene.kind not in ("lake", "sea") and rng.random() < 0.7:
        verb = pick(VERBS[scene.kind])
    if place.startswith("from") and not verb:
        verb = "falling"
    end = f"in the style of {_style_name(rng, style)}" if style else ""
    words = " ".join(
        part for part in (article, adjective, noun, verb, place, pick(TIMES[scene.light]), above, end) if part
    )
    return words if style else words + pick((", photograph", ", realistic photograph", ", photography, 4k"))


def _places(scene):
    """Phrases for the surroundings that are true of this scene."""
    places = PLACES[scene.kind].get(scene.backdrop) or PLACES[scene.kind][None]
    if scene.kind == "sea" and not (scene.beach and not scene.snow):
        return places[:2]
    if scene.kind == "river" and scene.snow:
        return (*places[:1], "between snowy banks")
    if scene.kind == "waterfall" and scene.light == "autumn":
        return (*places, "among red trees")
    return places


def _style_name(rng, style):
    """The first name of a style half of the time."""
    first, *others = STYLE_NAMES[style]
    return first if rng.random() < 0.5 else others[rng.integers(len(others))]


# ---------------------------------------------------------------- writing
@dataclass(frozen=True)
class Job:
    """What to render for scene number `index`."""

    index: int
    output: Path
    size: int = 256
    seed: int = 0
    split: str = "train"
    n_styles: int = 2
    video: bool = False
    edition: int = 1  # of the styles, see mini/styles.py

    @property
    def name(self) -> str:
        return f"{self.index:05d}"

    @property
    def scene_seed(self) -> int:
        """32 bits, different for every (seed, split, index)."""
        return int(np.random.SeedSequence([self.seed, SPLITS.index(self.split), self.index]).generate_state(1)[0])

    @property
    def styles(self) -> list[str]:
        rng = np.random.default_rng([self.scene_seed, 99])
        return [STYLES[i] for i in sorted(rng.permutation(len(STYLES))[: self.n_styles])]

    def files(self) -> dict[str, Path]:
        """Everything this scene writes: {what: path}."""
        beside = {what: self.output.with_name(f"{self.output.name}_{what}") for what in ("styled", "labels", "masks")}
        files = {
            "image": self.output / f"{self.name}_input.jpg",
            "motion": self.output / f"{self.name}_motion.pth",
            "label": beside["labels"] / f"{self.name}_label.png",
            "mask": beside["masks"] / f"{self.name}_mask.png",
        }
        files |= {style: beside["styled"] / f"{self.name}_{style}.jpg" for style in self.styles}
        if self.video:
            files["video"] = self.output / f"{self.name}_gt.mp4"  # written after its frames
        return files


def render(job: Job) -> dict[str, Any]:
    """Draw one scene and write its files (see the head of this module). Returns its line of the metadata, a dict."""
    cv2.setNumThreads(1)  # one process per core already
    scene, files = Scene(job.scene_seed, size=job.size, edition=job.edition), job.files()
    _write_picture(files["image"], scene.image)
    for style in job.styles:
        _write_picture(files[style], stylize(scene, style, job.edition))
    _write_picture(files["label"], scene.labels)
    _write_picture(files["mask"], np.uint8(scene.mask) * 255)
    write_motion(files["motion"], torch.from_numpy(scene.flow))
    if job.video:
        with VideoWriter(files["video"]) as video:
            for n, frame in enumerate(scene.video()):
                video.write(frame)
                _write_picture(job.output / f"{job.name}_gt" / "images" / f"{n}.png", frame)
    captions = {"natural": caption(scene)} | {style: caption(scene, style) for style in job.styles}
    return {
        "id": job.name,
        "seed": job.scene_seed,
        "kind": scene.kind,
        "light": scene.light,
        "size": job.size,
        "styles": job.styles,
        "captions": captions,
        "directed": scene.directed,
        "direction": scene.direction,
        "mean_flow": [round(float(v), 4) for v in scene.mean_flow],
    } | (
        {} if job.edition == 1 else {"edition": job.edition, "things": scene.things}
    )  # lists of the first edition stay as they were


def _write_picture(path, picture):
    """[H,W,3] RGB in [0,1], or uint8 [H,W] or [H,W,3]; .jpg at the quality of photographs, .png without loss."""
    pixels = picture if picture.dtype == np.uint8 else np.uint8(np.round(picture * 255))
    pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    with atomic(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels, settings):
            raise OSError(f"cannot write {path}; is the disk full?")


def _complete(line, sample):
    """The metadata of a line if all its files exist, else None.  sample: any job of the set that is asked for now."""
    try:
        item = json.loads(line)
        job = replace(sample, index=int(item["id"]))
        same = (item["seed"], item["size"], item["styles"]) == (job.scene_seed, job.size, job.styles)
        same &= item.get("edition", 1) == job.edition
    except (ValueError, KeyError, TypeError):  # half a line of an interrupted run
        return None
    if not same:
        raise ValueError(
            f"{job.output} holds scenes of another --seed, --split, --size, --styles or --edition; choose another "
            "--output, or delete it"
        )
    return item if all(path.exists() for path in job.files().values()) else None


def _caption_line(item):
    return f"{item['id']}:{item['captions']['natural']}\n"


def generate(jobs: Sequence[Job], workers: int = 1, share: Share | None = None, leases: Leases | None = None) -> int:
    """Render the jobs (of one output) that are not complete; metadata and captions are merged when the run ends.

    workers: processes.   share, leases: which of the jobs are this process's (jobs.turns); None = all.
    Scenes of the same set that are there beyond the jobs stay. Returns the number of scenes drawn. Raises ValueError
    where the folder holds scenes of another seed, split, size or number of styles: a list must not mix two sets.
    """
    output, drawn, share = jobs[0].output, 0, share or Share()
    metadata, captions = (output.with_name(f"{output.name}_{rest}") for rest in ("metadata.jsonl", "captions.txt"))

    def read(path):
        return {item["id"]: item for line in path.read_text().splitlines() if (item := _complete(line, jobs[0]))}

    scenes = SharedList(metadata, read, lambda items: _write_lists(metadata, captions, items))
    own = len(share.of(jobs) if leases is None else jobs)
    batch = max(own, 1) if leases is None else 4 * workers  # of claims no more than these processes draw soon
    try:
        with ProcessPoolExecutor(workers) as pool, tqdm(total=own, desc=share.title(output.name), unit="scene") as bar:
            how = {"share": share, "leases": leases, "batch": batch, "name": lambda job: job.name}
            for todo in turns(jobs, lambda job: job.name in scenes, **how):
                for item in map(render, todo) if workers == 1 else pool.map(render, todo, chunksize=4):
                    scenes.add(item["id"], item)
                    drawn += 1
                    bar.update()
            bar.update(own - bar.n)
    finally:
        scenes.merge()
    return drawn


def _write_lists(metadata, captions, items):
    """Both lists from scratch, ordered by id."""
    ordered = [items[name] for name in sorted(items)]
    with atomic(metadata) as temporary:
        temporary.write_text("".join(json.dumps(item) + "\n" for item in ordered))
    with atomic(captions) as temporary:
        temporary.write_text("".join(map(_caption_line, ordered)))


def main() -> None:
    """The command line."""
    parser = Parser(prog="mini/procedural.py", description=__doc__)
    parser.add_argument("--output", required=True, type=Path, help="folder for pictures and motions; made if missing")
    parser.add_argument(
        "--count", type=number(least=1, most=1_000_000), default=100, help="scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=number(least=32, most=8192),
        default=256,
        help="side of the pictures in px (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=number(least=0, most=SEEDS - 1),
        default=0,
        help="another seed gives another dataset (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=number(least=1, most=512),
        default=os.cpu_count() or 1,
        help="processes (default: %(default)s)",
    )
    parser.add_argument(
        "--styles",
        type=number(least=0, most=len(STYLES)),
        default=2,
        help="styled versions of each scene (default: %(default)s)",
    )
    parser.add_argument(
        "--edition",
        type=number(least=1, most=2),
        choices=EDITIONS,
        default=1,
        help="of the painters: 1 as the shipped family saw them, 2 as photographs get (default: %(default)s)",
    )
    parser.add_argument("--split", choices=SPLITS, default="train", help="splits share no scene (default: %(default)s)")
    parser.add_argument("--video", action="store_true", help="also 60 frames and an mp4 of each scene")
    add_share(parser)
    args = parser.parse_args()
    set_of = (args.output, args.size, args.seed, args.split, args.styles, args.video, args.edition)
    jobs = [Job(i, *set_of) for i in range(args.count)]
    with shared_leases(args.share, args.output.with_name(f".{args.output.name}.leases")) as leases:
        drawn = generate(jobs, args.workers, share_of("-1"), leases)
    print(f"{drawn} scenes drawn, {args.count - drawn} kept in {args.output}")


if __name__ == "__main__":
    run_main(main)
