"""A training set from own videos: cut into clips, the clips of a still camera kept, their mean optical flow estimated.

    python dataset/build_from_videos.py --videos FOLDER --output dataset/my_data

    OUTPUT/train/<id>_input.jpg         the clip's first frame; <id> = <video>_<number of the clip>
    OUTPUT/train/<id>_motion.pth        mean flow between its neighbouring frames: lz4 frame, pickle, float32
                                        (1,2,H,W) px/frame
    OUTPUT/train/<id>_gt.mp4            the clip, at --fps frames/s, to which every video is brought by its time stamps
    OUTPUT/train/<id>_gt/images/N.png   its frames without loss
    OUTPUT/validation/                  the same, of other videos: all clips of a video lie on one side
    OUTPUT/report.html                  every clip with its flow and the camera's motion, and what was refused and why
    OUTPUT/build.json, OUTPUT/report/   settings, sides, what is known of each video and clip; small pictures

Clips that are finished are kept, so an interrupted run goes on, and videos can be added later; nobody changes sides
then.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from text2cinemagraph.data.files import atomic, make_folder, read_json
from text2cinemagraph.data.flow import flow_to_color, motion_mask, write_motion
from text2cinemagraph.data.media import VideoWriter
from text2cinemagraph.dataset.camera import camera_motion, camera_verdict
from text2cinemagraph.dataset.motion import METHODS, load_raft, mean_flow, raft_file
from text2cinemagraph.dataset.videos import find_videos, read_clips
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS, SIDE
from text2cinemagraph.pages.page import address, write_page
from tqdm import tqdm

SIDES = ("train", "validation")
FRAMES = 60  # the loaders draw from frames 0 ... 59 (data/datasets.py)
# px/frame: a clip whose fastest hundredth of the pixels is slower shows only the codec's noise (0.015 measured)
STILL = 0.05
CHUNK = 8  # clips per job: several processes share a long video, each decodes what lies before its part again
# px: the camera is judged at this short side; a motion of 0.5 % of it is 1.3 px, well above the tracker's noise
CHECK_SIDE = 256
JPEG_QUALITY = 95  # as mini/procedural.py


@dataclass(frozen=True)
class Settings:
    """What a clip depends on; one OUTPUT holds clips of one kind. Units as in the command line's help."""

    flow_method: str = "farneback"
    raft_weights: str = ""
    size: int = 512
    clip_frames: int = FRAMES
    validation_share: float = 0.1
    seed: int = 0
    max_camera_motion: float = 0.5
    fps: float = 30.0


# ---------------------------------------------------------------- looking at videos
def check_video(item: tuple[str, str | Path], settings: Settings) -> dict[str, Any]:
    """Look at a whole video at a small size. item: (name, path). Returns what build.json keeps of it.

    {"bytes", "frames", "error": text or "", "clips": [{"id", "start", "camera": % or None, "refused": text or ""}]}
    """
    cv2.setNumThreads(1)  # one process per core already
    name, path = item
    found = {"file": path.name, "bytes": path.stat().st_size, "frames": 0, "error": "", "clips": []}
    try:
        for frames in read_clips(path, CHECK_SIDE, settings.clip_frames, fps=settings.fps):
            motion = camera_motion([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
            number = len(found["clips"])
            found["clips"].append(
                {
                    "id": f"{name}_{number:03d}",
                    "start": number * settings.clip_frames,
                    "camera": motion and round(motion[0], 3),
                    "refused": camera_verdict(motion, settings.max_camera_motion),
                }
            )
    except (ValueError, OSError) as error:
        return name, {**found, "clips": [], "error": str(error)}
    if not found["clips"]:
        found["error"] = f"is too short; a clip needs {settings.clip_frames} frames"
    return name, found


# ---------------------------------------------------------------- writing clips
def build_video(job: Any, settings: Settings, output: Path) -> list[tuple[str, dict[str, Any]]]:
    """Write some clips of one video. job: (path, {clip number: (id, side)}). Returns [(id, facts)], see write_clip."""
    cv2.setNumThreads(1)  # one process per core already
    torch.set_num_threads(1)
    path, wanted = job
    done, first = [], min(wanted)
    try:
        for number, frames in enumerate(
            read_clips(path, settings.size, settings.clip_frames, first, fps=settings.fps), first
        ):
            if number in wanted:
                name, side = wanted[number]
                done.append((name, write_clip(output, side, name, frames, settings=settings)))
            if number == max(wanted):
                break
    except ValueError as error:
        raise ValueError(f"{error}, though it was whole before; run this again") from error
    return done


def write_clip(
    output: Path, side: str, name: str, frames: Sequence[np.ndarray], *, settings: Settings
) -> dict[str, Any]:
    """Write one clip. Returns {"speed": mean px/frame where it moves, "still": text or "", ...}, also kept in
    report/<id>.json.

    The picture comes last of what the loaders look for, so that half a clip never counts as an item.
    """
    folder, report = output / side, output / "report"
    remove_clip(output, name)
    flow = mean_flow(frames, settings.flow_method, settings.raft_weights)
    length = flow.norm(dim=0)
    moving = motion_mask(flow)[0]
    fastest = float(np.quantile(length.numpy(), 0.99))
    facts = {
        "speed": round(float(length[moving].mean()), 3) if moving.any() else 0.0,
        "fastest": round(fastest, 3),
        "moving": round(float(moving.float().mean()), 3),
        "size": list(frames[0].shape[:2]),
        "refused": (
            f"nothing moves: 99 % of the pixels are slower than {fastest:.3f} px/frame" if fastest < STILL else ""
        ),
    }
    small = cv2.resize(frames[0], _small(frames[0]), interpolation=cv2.INTER_AREA)
    _write_picture(report / f"{name}.jpg", small)
    _write_picture(
        report / f"{name}_flow.jpg", cv2.resize(flow_to_color(flow), small.shape[1::-1], interpolation=cv2.INTER_AREA)
    )
    if not facts["refused"]:
        with VideoWriter(folder / f"{name}_gt.mp4", Fraction(settings.fps or 30).limit_denominator(1001)) as video:
            for n, frame in enumerate(frames):
                video.write(frame)
                _write_picture(folder / f"{name}_gt" / "images" / f"{n}.png", frame)
        write_motion(folder / f"{name}_motion.pth", flow)
        _write_picture(folder / f"{name}_input.jpg", frames[0])
    _write_json(report / f"{name}.json", facts)
    return facts


def _small(frame, width=320):
    """(width, height) of a report's picture."""
    return width, max(1, round(width * frame.shape[0] / frame.shape[1]))


def _write_picture(path, pixels):
    """uint8 [H,W,3] RGB; .jpg at the quality of photographs, .png without loss."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    with atomic(path) as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(pixels[..., ::-1]), settings):
            raise OSError(f"cannot write {path}; is the disk full?")


def _write_json(path, content):
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def _read_json(path):
    """The content of one of our own files, None if there is none."""
    return read_json(path, "begin anew with --overwrite") if path.is_file() else None


def remove_clip(output: Path, name: str) -> None:
    """Remove what there is of a clip, on either side, together with what a killed process left half written."""
    for side in SIDES:
        shutil.rmtree(output / side / f"{name}_gt", ignore_errors=True)
        for stem, suffix in (("input", ".jpg"), ("gt", ".mp4"), ("motion", ".pth")):
            for path in (output / side).glob(f".{name}_{stem}.*.part{suffix}"):
                path.unlink(missing_ok=True)
            (output / side / f"{name}_{stem}{suffix}").unlink(missing_ok=True)
    for end in (".json", ".jpg", "_flow.jpg"):
        (output / "report" / f"{name}{end}").unlink(missing_ok=True)


# ---------------------------------------------------------------- the whole set
def open_build(output: Path, settings: Settings, overwrite: bool) -> dict[str, Any]:
    """The content of OUTPUT/build.json: {"settings", "sides": {video: side}, "videos": {video: see check_video}}.

    Another kind of clips in the same folder is refused, and with overwrite everything that was built there is removed
    first.
    """
    asked = {**asdict(settings), "raft_weights": Path(settings.raft_weights).name}
    if overwrite:
        for name in [path.stem for path in (output / "report").glob("*.json")]:
            remove_clip(output, name)
        (output / "build.json").unlink(missing_ok=True)
    build = _read_json(output / "build.json") or {"settings": asked, "sides": {}, "videos": {}}
    if not _is_build(build, output):
        raise ValueError(f"{output / 'build.json'} is damaged; begin anew with --overwrite")
    build["settings"].setdefault("fps", 0)  # sets of before there was a rate hold every stored frame
    if not build["videos"] and any(next((output / side).glob("*_input.*"), None) for side in SIDES):
        raise ValueError(f"{output} holds items that were not built here; choose another --output")
    differs = [
        f"--{key} {build['settings'].get(key)}" for key, value in asked.items() if build["settings"].get(key) != value
    ]
    if differs:
        raise ValueError(
            f"{output} was built with {', '.join(differs)}; give the same, another --output, or --overwrite"
        )
    return build


def _is_build(build, output):
    """Whether a build.json is one: its parts, and names that lead nowhere but into the folder."""
    settings, sides, videos = (build.get(key) for key in ("settings", "sides", "videos"))
    if not all(isinstance(part, dict) for part in (settings, sides, videos)):
        return False
    return set(sides.values()) <= set(SIDES) and all(
        isinstance(video, dict)
        and {"file", "error", "clips"} <= set(video)
        and all(
            isinstance(clip, dict) and "refused" in clip and Path(str(clip.get("id"))).name == clip["id"]
            for clip in video["clips"]
        )
        for video in videos.values()
    )


def choose_sides(sides: Mapping[str, str], names: Iterable[str], share: float, seed: int) -> dict[str, str]:
    """{video: side} for all `names`; who has a side keeps it, of the others the validation side gets what it lacks of
    its share.

    Two videos or more and a share above 0: at least one video validates, at least one trains.
    """
    names = sorted(names)
    target = round(share * len(names))
    target = min(max(target, 1), len(names) - 1) if share > 0 and len(names) > 1 else 0
    fresh = [name for name in names if name not in sides]
    random.Random(seed).shuffle(fresh)
    lacking = max(0, target - sum(sides.get(name) == "validation" for name in names))
    return {**sides, **{name: SIDES[index < lacking] for index, name in enumerate(fresh)}}


def build_from_videos(
    videos: str | Path, output: str | Path, settings: Settings, *, workers: int = 1, overwrite: bool = False
) -> dict[str, Any]:
    """Build the set of a folder of videos. Returns OUTPUT/build.json's content, each written clip with its facts (see
    write_clip).
    """
    output, named = Path(output), find_videos(videos, output)
    if settings.flow_method == "raft":
        settings = replace(settings, raft_weights=raft_file(settings.raft_weights))
        load_raft(settings.raft_weights)  # wrong weights are told before hours of work
    make_folder(output)
    build = open_build(output, settings, overwrite)
    for name in [n for n, path in named.items() if build["videos"].get(n, {}).get("bytes") != path.stat().st_size]:
        for clip in build["videos"].pop(name, {"clips": []})["clips"]:  # the file is another one now
            remove_clip(output, clip["id"])
    unseen = [(name, path) for name, path in named.items() if name not in build["videos"]]
    for name, found in _over(
        unseen, partial(check_video, settings=settings), workers, settings, "camera", "video", len
    ):
        build["videos"][name] = found
        _write_json(output / "build.json", build)
    usable = [name for name, video in build["videos"].items() if any(not clip["refused"] for clip in video["clips"])]
    build["sides"] = choose_sides(build["sides"], usable, settings.validation_share, settings.seed)
    _write_json(output / "build.json", build)
    jobs = _missing(build, named, output)
    job = partial(build_video, settings=settings, output=output)
    for _ in _over(jobs, job, workers, settings, "flow", "clip", lambda todo: sum(len(wanted) for _, wanted in todo)):
        pass
    write_report(build, output)
    return build


def _missing(build, named, output):
    """[(path, {clip number: (id, side)})] of the clips that are not written yet, at most CHUNK each."""
    jobs = []
    for name, path in named.items():
        clips = build["videos"][name]["clips"]
        wanted = [
            (number, (clip["id"], build["sides"][name]))
            for number, clip in enumerate(clips)
            if not clip["refused"] and not (output / "report" / f"{clip['id']}.json").exists()
        ]
        jobs += [(path, dict(wanted[i : i + CHUNK])) for i in range(0, len(wanted), CHUNK)]
    return jobs


def _over(todo, job, workers, settings, title, unit, count):
    """Results of job(...) for everything in todo, with a progress bar; from several processes if there are several
    workers.
    """
    with tqdm(total=count(todo), desc=title, unit=unit, disable=not todo) as bar:
        if workers == 1 or len(todo) < 2:
            for item in todo:
                result = job(item)
                bar.update(len(result) if unit == "clip" else 1)
                yield result
            return
        # a forked process cannot use a GPU that its parent has touched
        context = multiprocessing.get_context("spawn" if settings.flow_method == "raft" else None)
        with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
            for result in pool.map(job, todo):
                bar.update(len(result) if unit == "clip" else 1)
                yield result


# ---------------------------------------------------------------- the report
def collect(build: dict[str, Any], output: Path) -> tuple[list[Any], list[Any]]:
    """What became of everything: (kept clips [(id, side, clip, facts)], refused [(name, reason)])."""
    kept, refused = [], []
    for name, video in sorted(build["videos"].items()):
        if video["error"]:
            refused.append((video["file"], f"the video {video['error']}"))
        for clip in video["clips"]:
            facts = _read_json(output / "report" / f"{clip['id']}.json")
            reason = clip["refused"] or (facts or {}).get("refused")
            if reason:
                refused.append((clip["id"], reason))
            elif facts:
                kept.append((clip["id"], build["sides"][name], clip, facts))
    return kept, refused


def write_report(build: dict[str, Any], output: Path) -> Path:
    """OUTPUT/report.html: a card per kept clip, a table of the refused.  Returns its path."""
    kept, refused = collect(build, output)
    return write_page(
        output / "report.html",
        "clips_from_videos.html",
        title="Clips from videos",
        settings=build["settings"],
        videos=len(build["videos"]),
        sides=[(sum(side == clip[1] for clip in kept), side) for side in SIDES],
        kept=[_shown(*clip) for clip in kept],
        refused=refused,
    )


def _shown(name, side, clip, facts):
    """What the report shows of a kept clip."""
    height, width = facts["size"]
    return {
        "name": name,
        "side": side,
        "frame": address(f"report/{name}.jpg"),
        "flow": address(f"report/{name}_flow.jpg"),
        "speed": f"{facts['speed']:.2f}",
        "moving": f"{facts['moving']:.0%}",
        "camera": f"{clip['camera']:.2f}",
        "size": f"{width} x {height}",
        "start": clip["start"],
    }


# ---------------------------------------------------------------- the command line
def main() -> None:
    """The command line."""
    parser = Parser(prog="dataset/build_from_videos.py", description=__doc__)
    parser.add_argument("--videos", required=True, help="folder of video files; subfolders count")
    parser.add_argument(
        "--output", required=True, help="folder for train/, validation/ and report.html; made if missing"
    )
    parser.add_argument(
        "--flow_method", default="farneback", choices=METHODS, help="how motion is found (default: %(default)s)"
    )
    parser.add_argument(
        "--raft_weights", default="", help="file of torchvision's RAFT weights; empty = torchvision's cache"
    )
    parser.add_argument(
        "--size",
        type=number(least=64, most=SIDE),
        default=512,
        help="px of the short side; smaller videos stay (default: %(default)s)",
    )
    parser.add_argument(
        "--clip_frames",
        type=number(least=FRAMES, most=10_000),
        default=FRAMES,
        help="frames per clip (default: %(default)s)",
    )
    parser.add_argument(
        "--validation_share",
        type=number(float, least=0, below=1),
        default=0.1,
        help="share of the videos (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=number(least=0, most=SEEDS - 1), default=0, help="of the split (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=number(least=0, most=256),
        default=0,
        help="processes; 0 = one per core with farneback, 1 with raft",
    )
    parser.add_argument(
        "--max_camera_motion",
        type=number(float, least=0, most=100),
        default=0.5,
        help="background's motion within a clip, %% of the short side (default: %(default)s)",
    )
    parser.add_argument(
        "--fps",
        type=number(float, least=0, most=240),
        default=30,
        help=(
            "frames/s of every clip; 0 = as the video has them, whose motion per frame then differs (default:"
            " %(default)s)"
        ),
    )
    parser.add_argument("--overwrite", action="store_true", help="remove what was built in OUTPUT and begin anew")
    args = parser.parse_args()
    _check_flags(args)
    workers = args.workers or (1 if args.flow_method == "raft" else os.cpu_count() or 1)
    settings = Settings(
        args.flow_method,
        args.raft_weights,
        args.size,
        args.clip_frames,
        args.validation_share,
        args.seed,
        args.max_camera_motion,
        args.fps,
    )
    build = build_from_videos(args.videos, args.output, settings, workers=workers, overwrite=args.overwrite)
    return _say(build, Path(args.output))


def _check_flags(args):
    """ValueError for flags that do not fit each other."""
    if args.raft_weights and args.flow_method != "raft":
        raise ValueError(
            "--raft_weights is given, but --flow_method is not raft; add --flow_method raft or leave the weights out"
        )
    if 0 < args.fps < 1:
        raise ValueError(f"--fps {args.fps}: expected 1 to 240 frames/s, or 0 for each video's own")


def _say(build, output):
    """Print what was kept and what was not; the exit code."""
    kept, refused = collect(build, output)
    for name, _, clip, _ in kept:
        print(f"kept: {name}: the camera stands still ({clip['camera']:.2f} % of the short side)")
    for name, reason in refused:
        print(f"refused: {name}: {reason}", file=sys.stderr)
    counts = [sum(side == clip[1] for clip in kept) for side in SIDES]
    print(
        f"{counts[0]} clips in {output / 'train'}, {counts[1]} in {output / 'validation'}, {len(refused)} refused; see "
        f"{output / 'report.html'}"
    )
    if not kept:
        raise ValueError(
            f"no clip of {len(build['videos'])} videos could be used; the reasons stand above and in the report"
        )
    if not counts[1] and build["settings"]["validation_share"] > 0:
        print("note: the validation side is empty; it needs a second usable video", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
