"""A training set from own videos: cut into clips, the clips of a still camera kept, their mean optical flow estimated.

    python dataset/build_from_videos.py --videos FOLDER --output dataset/my_data

    OUTPUT/train/<id>_input.jpg         the clip's first frame; <id> = <video>_<number of the clip>
    OUTPUT/train/<id>_motion.pth        mean flow between its neighbouring frames: lz4 frame, pickle, float32 (1,2,H,W) px/frame
    OUTPUT/train/<id>_gt.mp4            the clip, 30 fps whatever the video's rate ...
    OUTPUT/train/<id>_gt/images/N.png   ... and its frames without loss
    OUTPUT/validation/                  the same, of other videos: all clips of a video lie on one side
    OUTPUT/report.html                  every clip with its flow and the camera's motion, and what was refused and why
    OUTPUT/build.json, OUTPUT/report/   settings, sides, what is known of each video and clip; small pictures

Clips that are finished are kept, so an interrupted run goes on, and videos can be added later; nobody changes sides then.
"""

import argparse
import html
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from data.files import atomic, make_folder
from data.flow import flow_to_color, motion_mask, write_motion
from data.media import VideoWriter
from options.cli import run_main
from options.runtime import make_runtime

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
SIDES = ("train", "validation")
METHODS = ("farneback", "raft")
FRAMES = 60                 # the loaders draw from frames 0 ... 59 (data/datasets.py)
CHECK_SIDE = 256            # px: the camera is judged at this short side; a motion of 0.5 % of it is 1.3 px, well above the tracker's noise
CHECK_STEP = 10             # frames between two looks at the camera: a shake that comes back is seen, and tracking stays cheap
POINTS = 600                # corners followed per clip
BACKGROUND = 0.15           # the stillest share of all corners is the background: water may fill most of a picture, the shores do not move
FEWEST = 40                 # corners; with fewer nothing can be said about the camera
STILL = 0.05                # px/frame: a clip whose fastest hundredth of the pixels is slower shows only the codec's noise (0.015 measured)
CHUNK = 8                   # clips per job: several processes share a long video, each decodes what lies before its part again
JPEG_QUALITY = 95           # as dataset/procedural.py
RAFT_FILE = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"       # torchvision's Raft_Large_Weights.C_T_SKHT_V2


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


# ---------------------------------------------------------------- reading videos
def find_videos(folder, output):
    """{name: path} of the videos in a folder and its subfolders; the name is the path without its suffix, fit for a file name.

    What lies in `output` is no source: the clips of an earlier run are videos too.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; --videos must be a folder of video files")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
                   and Path(output).resolve() not in p.resolve().parents)
    if not paths:
        raise ValueError(f"no videos in {folder}; expected files ending in {' '.join(SUFFIXES)}")
    named = {}
    for path in paths:
        name = re.sub(r"[^\w-]+", "-", str(path.relative_to(folder).with_suffix(""))).strip("-") or "video"
        if name in named:
            raise ValueError(f"{path} and {named[name]} would both be called {name}; rename one of them")
        named[name] = path
    return named


def read_frames(path, side, first=0):
    """Frames of a video from number `first` on, upright, uint8 [H,W,3] RGB.

    The short side is brought down to `side` px (never up), both sides are even because an mp4 needs it.
    """
    try:
        with av.open(str(path)) as container:
            for frame in islice(container.decode(video=0), first, None):
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4       # telephones film on their side and note it
                pixels = np.rot90(pixels, turns) if turns else pixels
                factor = min(1, side / min(pixels.shape[:2]))
                height, width = (max(2, 2 * round(n * factor / 2)) for n in pixels.shape[:2])
                yield cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"is damaged or no video ({getattr(error, 'strerror', None) or 'it holds no pictures'})") from error


def read_clips(path, side, length, first=0):
    """Whole clips of a video, from clip number `first` on: lists of `length` frames of read_frames; what is left over is dropped."""
    clip = []
    for frame in read_frames(path, side, first * length):
        if clip and frame.shape != clip[0].shape:
            raise ValueError("changes its size on the way; cut it there into two videos")
        clip.append(frame)
        if len(clip) == length:
            yield clip
            clip = []


# ---------------------------------------------------------------- the camera
def camera_motion(frames):
    """How far the background moves in a clip: (% of the short side, whether it was lost on the way), or None without corners.

    frames: list of uint8 gray [H,W]. Corners of the first frame are looked up directly in every CHECK_STEP-th frame. The stillest
    BACKGROUND of them are the background; an affine map (shift, turn, zoom) is fitted to them, and the answer is its mean shift
    over the whole picture, in the frame where that is largest. A cut loses the background, a fast camera sooner or later.
    """
    start = cv2.goodFeaturesToTrack(frames[0], POINTS, 0.01, 5)
    if start is None or len(start) < FEWEST:
        return None
    largest, guess = 0.0, start
    for t in sorted({*range(CHECK_STEP, len(frames), CHECK_STEP), len(frames) - 1}):
        guess, distance = _follow(frames[0], frames[t], start, guess)
        stillest = np.argsort(distance)[:round(BACKGROUND * len(start))]
        if np.isinf(distance[stillest]).any():
            return largest, True
        largest = max(largest, _mean_shift(start[stillest], guess[stillest], frames[0].shape))
    return largest, False


def _follow(first, later, start, guess):
    """Corners `start` (float32 [N,1,2], x, y) of one gray frame in a later one, near `guess`. Returns (places, px moved, inf = lost)."""
    window = {"winSize": (21, 21), "maxLevel": 3, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    found, seen, _ = cv2.calcOpticalFlowPyrLK(first, later, start, guess.copy(), **window)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(later, first, found, start.copy(), **window)
    same = np.linalg.norm(back - start, axis=-1)[:, 0] < 0.5            # px: there and back again, or the corner was lost
    same &= (seen[:, 0] > 0) & (seen_back[:, 0] > 0)
    distance = np.where(same, np.linalg.norm(found - start, axis=-1)[:, 0], np.inf)
    return np.where(same[:, None, None], found, guess), distance


def _mean_shift(start, found, size):
    """Mean shift over a picture of `size` (H, W) by the affine map between two sets of points, % of the short side."""
    cv2.setRNGSeed(0)                   # RANSAC draws; a clip's verdict must not depend on the clips before it
    matrix, _ = cv2.estimateAffinePartial2D(start, found, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if matrix is None:
        return 100.0                    # the points agree on nothing
    x, y = np.meshgrid(np.linspace(0, size[1] - 1, 9), np.linspace(0, size[0] - 1, 9))
    places = np.stack([x.ravel(), y.ravel()])
    shift = np.linalg.norm(matrix[:, :2] @ places + matrix[:, 2:] - places, axis=0)
    return float(shift.mean() / min(size) * 100)


def camera_verdict(motion, limit):
    """Why a clip's camera is refused, or "" if it stands still. motion: see camera_motion; limit: % of the short side."""
    if motion is None:
        return f"fewer than {FEWEST} corners to follow, so the camera cannot be judged"
    percent, lost = motion
    if percent > limit:
        return f"the camera moves by {percent:.2f} % of the short side{' or more' * lost}; at most {limit:g} % is kept"
    return f"the background is lost after {percent:.2f} % of the short side: a cut, or everything moves" if lost else ""


def check_video(item, settings):
    """Look at a whole video at a small size. item: (name, path). Returns what build.json keeps of it.

    {"bytes", "frames", "error": text or "", "clips": [{"id", "start", "camera": % or None, "refused": text or ""}]}
    """
    cv2.setNumThreads(1)                # one process per core already
    name, path = item
    found = {"file": path.name, "bytes": path.stat().st_size, "frames": 0, "error": "", "clips": []}
    try:
        for frames in read_clips(path, CHECK_SIDE, settings.clip_frames):
            motion = camera_motion([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
            number = len(found["clips"])
            found["clips"].append({"id": f"{name}_{number:03d}", "start": number * settings.clip_frames,
                                   "camera": motion and round(motion[0], 3),
                                   "refused": camera_verdict(motion, settings.max_camera_motion)})
    except (ValueError, OSError) as error:
        return name, {**found, "clips": [], "error": str(error)}
    if not found["clips"]:
        found["error"] = f"is too short; a clip needs {settings.clip_frames} frames"
    return name, found


# ---------------------------------------------------------------- flow
def mean_flow(frames, settings):
    """Mean flow between neighbouring frames: [2,H,W] px/frame. frames: list of uint8 [H,W,3] of one size."""
    pairs = _raft_pairs(frames, settings.raft_weights) if settings.flow_method == "raft" else _farneback_pairs(frames)
    total, count = 0, 0
    for flow in pairs:
        total, count = total + flow, count + 1
    return torch.as_tensor(total / count)


def _farneback_pairs(frames):
    """float32 [2,H,W] px/frame per pair; OpenCV's polynomial expansion, with windows wide enough for the weak texture of water."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    for first, second in zip(gray, gray[1:]):
        flow = cv2.calcOpticalFlowFarneback(first, second, None, pyr_scale=0.5, levels=4, winsize=21, iterations=3,
                                            poly_n=7, poly_sigma=1.5, flags=0)
        yield flow.transpose(2, 0, 1)


def _raft_pairs(frames, weights, batch=4):
    """[2,H,W] px/frame per pair from torchvision's RAFT. It wants [-1,1], sides that 8 divides, and 128 px or more."""
    net, device = load_raft(weights)
    height, width = frames[0].shape[:2]
    padding = (0, max(128, -(-width // 8) * 8) - width, 0, max(128, -(-height // 8) * 8) - height)
    for start in range(0, len(frames) - 1, batch):
        window = torch.from_numpy(np.stack(frames[start:start + batch + 1])).to(device).permute(0, 3, 1, 2) / 127.5 - 1
        window = F.pad(window, padding, mode="replicate")
        with torch.inference_mode():
            flow = net(window[:-1], window[1:])[-1]                     # the last of its refinements
        yield from flow[..., :height, :width].float().cpu()


@lru_cache(1)
def load_raft(weights):
    """(net, device) from a file of torchvision's weights, RAFT large or small; kept for the process's next clips."""
    from torchvision.models.optical_flow import raft_large, raft_small
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        small = state["feature_encoder.convnormrelu.0.weight"].shape[0] == 32       # 64 in RAFT large
        net = (raft_small if small else raft_large)(weights=None, progress=False)
        net.load_state_dict(state)
    except Exception as error:          # a damaged zip or pickle raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{weights} holds no weights of torchvision's RAFT large or small ({reason}); fetch them again") from error
    device = make_runtime("auto", "fp32").device
    return net.to(device).eval(), device


def raft_file(asked):
    """Path of the weights: the file asked for, else torchvision's cache. Nothing is fetched here: FileNotFoundError says from where."""
    path = Path(asked or Path(torch.hub.get_dir()) / "checkpoints" / RAFT_FILE)
    if not path.is_file():
        raise FileNotFoundError(f"no RAFT weights at {path}; fetch https://download.pytorch.org/models/{RAFT_FILE} there or give "
                                "--raft_weights FILE; --flow_method farneback needs none")
    return str(path.resolve())


# ---------------------------------------------------------------- writing clips
def build_video(job, settings, output):
    """Write some clips of one video. job: (path, {clip number: (id, side)}). Returns [(id, facts)], see write_clip."""
    cv2.setNumThreads(1)                # one process per core already
    torch.set_num_threads(1)
    path, wanted = job
    done, first = [], min(wanted)
    try:
        for number, frames in enumerate(read_clips(path, settings.size, settings.clip_frames, first), first):
            if number in wanted:
                name, side = wanted[number]
                done.append((name, write_clip(output, side, name, frames, settings)))
            if number == max(wanted):
                break
    except ValueError as error:
        raise ValueError(f"{path} {error}, though it was whole before; run this again") from error
    return done


def write_clip(output, side, name, frames, settings):
    """Write one clip. Returns {"speed": mean px/frame where it moves, "still": text or "", ...}, also kept in report/<id>.json.

    The picture comes last of what the loaders look for, so that half a clip never counts as an item.
    """
    folder, report = output / side, output / "report"
    remove_clip(output, name)
    flow = mean_flow(frames, settings)
    length = flow.norm(dim=0)
    moving = motion_mask(flow)[0]
    fastest = float(np.quantile(length.numpy(), 0.99))
    facts = {"speed": round(float(length[moving].mean()), 3) if moving.any() else 0.0, "fastest": round(fastest, 3),
             "moving": round(float(moving.float().mean()), 3), "size": list(frames[0].shape[:2]),
             "refused": f"nothing moves: 99 % of the pixels are slower than {fastest:.3f} px/frame" if fastest < STILL else ""}
    small = cv2.resize(frames[0], _small(frames[0]), interpolation=cv2.INTER_AREA)
    _write_picture(report / f"{name}.jpg", small)
    _write_picture(report / f"{name}_flow.jpg", cv2.resize(flow_to_color(flow), small.shape[1::-1], interpolation=cv2.INTER_AREA))
    if not facts["refused"]:
        with VideoWriter(folder / f"{name}_gt.mp4") as video:
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
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged; begin anew with --overwrite") from error


def remove_clip(output, name):
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
def open_build(output, settings, overwrite):
    """The content of OUTPUT/build.json: {"settings", "sides": {video: side}, "videos": {video: see check_video}}.

    Another kind of clips in the same folder is refused, and with overwrite everything that was built there is removed first.
    """
    asked = {**asdict(settings), "raft_weights": Path(settings.raft_weights).name}
    if overwrite:
        for name in [path.stem for path in (output / "report").glob("*.json")]:
            remove_clip(output, name)
        (output / "build.json").unlink(missing_ok=True)
    build = _read_json(output / "build.json") or {"settings": asked, "sides": {}, "videos": {}}
    if not build["videos"] and any(next((output / side).glob("*_input.*"), None) for side in SIDES):
        raise ValueError(f"{output} holds items that were not built here; choose another --output")
    differs = [f"--{key} {build['settings'].get(key)}" for key, value in asked.items() if build["settings"].get(key) != value]
    if differs:
        raise ValueError(f"{output} was built with {', '.join(differs)}; give the same, another --output, or --overwrite")
    return build


def choose_sides(sides, names, share, seed):
    """{video: side} for all `names`; who has a side keeps it, of the others the validation side gets what it lacks of its share.

    Two videos or more and a share above 0: at least one video validates, at least one trains.
    """
    names = sorted(names)
    target = round(share * len(names))
    target = min(max(target, 1), len(names) - 1) if share > 0 and len(names) > 1 else 0
    fresh = [name for name in names if name not in sides]
    random.Random(seed).shuffle(fresh)
    lacking = max(0, target - sum(sides.get(name) == "validation" for name in names))
    return {**sides, **{name: SIDES[index < lacking] for index, name in enumerate(fresh)}}


def build_from_videos(videos, output, settings, workers=1, overwrite=False):
    """Build the set of a folder of videos. Returns OUTPUT/build.json's content, each written clip with its facts (see write_clip)."""
    output, named = Path(output), find_videos(videos, output)
    if settings.flow_method == "raft":
        settings = replace(settings, raft_weights=raft_file(settings.raft_weights))
        load_raft(settings.raft_weights)                    # wrong weights are told before hours of work
    make_folder(output)
    build = open_build(output, settings, overwrite)
    for name in [n for n, path in named.items() if build["videos"].get(n, {}).get("bytes") != path.stat().st_size]:
        for clip in build["videos"].pop(name, {"clips": []})["clips"]:         # the file is another one now
            remove_clip(output, clip["id"])
    unseen = [(name, path) for name, path in named.items() if name not in build["videos"]]
    for name, found in _over(unseen, partial(check_video, settings=settings), workers, settings, "camera", "video", len):
        build["videos"][name] = found
        _write_json(output / "build.json", build)
    usable = [name for name, video in build["videos"].items() if any(not clip["refused"] for clip in video["clips"])]
    build["sides"] = choose_sides(build["sides"], usable, settings.validation_share, settings.seed)
    _write_json(output / "build.json", build)
    jobs = _missing(build, named, output)
    job = partial(build_video, settings=settings, output=output)
    for _ in _over(jobs, job, workers, settings, "flow", "clip", lambda todo: sum(len(wanted) for _, wanted in todo)):
        pass
    _write_text(output / "report.html", report_page(build, output))
    return build


def _missing(build, named, output):
    """[(path, {clip number: (id, side)})] of the clips that are not written yet, at most CHUNK each."""
    jobs = []
    for name, path in named.items():
        clips = build["videos"][name]["clips"]
        wanted = [(number, (clip["id"], build["sides"][name])) for number, clip in enumerate(clips)
                  if not clip["refused"] and not (output / "report" / f"{clip['id']}.json").exists()]
        jobs += [(path, dict(wanted[i:i + CHUNK])) for i in range(0, len(wanted), CHUNK)]
    return jobs


def _over(todo, job, workers, settings, title, unit, count):
    """Results of job(...) for everything in todo, with a progress bar; from several processes if there are several workers."""
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
STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222;background:#fff}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1rem}
.clip{border:1px solid #ddd;border-radius:8px;overflow:hidden}.clip div{display:flex}.clip img{width:50%;display:block;object-fit:cover}
.clip p{margin:.5rem .7rem}.side{float:right;font-size:12px;background:#e7f0ea;border-radius:4px;padding:0 .4em}
.validation{background:#e6ecf7}small{color:#666}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #eee;vertical-align:top}"""


def collect(build, output):
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


def report_page(build, output):
    """OUTPUT/report.html as text: a card per kept clip, a table of the refused."""
    kept, refused = collect(build, output)
    settings = build["settings"]
    cards = "".join(_card(*clip) for clip in kept) or "<p>None.</p>"
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(reason)}</td></tr>" for name, reason in refused)
    sides = ", ".join(f"{sum(side == clip[1] for clip in kept)} in {side}" for side in SIDES)
    table = f"<table><tr><th>What</th><th>Why</th></tr>{rows}</table>" if rows else "<p>Nothing.</p>"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Clips from videos</title><style>{STYLE}</style>
<h1>Clips from videos</h1>
<p>{len(build["videos"])} videos, {len(kept)} clips kept ({sides}), {len(refused)} refused.
<small>{settings["clip_frames"]} frames per clip, short side at most {settings["size"]} px, flow by {settings["flow_method"]},
camera motion up to {settings["max_camera_motion"]:g} % of the short side.</small></p>
<p><small>Left the first frame, right the mean flow: the hue is the direction, white stands still, full colour is the clip's
largest speed. Speeds are means over the pixels that move.</small></p>
<h2>Kept</h2><div class="clips">{cards}</div><h2>Refused</h2>{table}</html>
"""


def _card(name, side, clip, facts):
    name = html.escape(name)
    return (f'<div class="clip"><div><img loading="lazy" src="report/{name}.jpg" alt="first frame of {name}">'
            f'<img loading="lazy" src="report/{name}_flow.jpg" alt="mean flow of {name}"></div>'
            f'<p><span class="side {side}">{side}</span><b>{name}</b><br>mean speed {facts["speed"]:.2f} px/frame on '
            f'{facts["moving"]:.0%} of the picture<br>camera stands still: {clip["camera"]:.2f} %'
            f'<br><small>{facts["size"][1]} x {facts["size"][0]} px, from frame {clip["start"]}</small></p></div>')


def _write_text(path, text):
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- the command line
def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="dataset/build_from_videos.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", required=True, help="folder of video files; subfolders count")
    parser.add_argument("--output", required=True, help="folder for train/, validation/ and report.html; made if missing")
    parser.add_argument("--flow_method", default="farneback", help="farneback or raft (default: %(default)s)")
    parser.add_argument("--raft_weights", default="", help="file of torchvision's RAFT weights; empty = torchvision's cache")
    parser.add_argument("--size", type=int, default=512, help="px of the short side; smaller videos stay (default: %(default)s)")
    parser.add_argument("--clip_frames", type=int, default=FRAMES, help="frames per clip (default: %(default)s)")
    parser.add_argument("--validation_share", type=float, default=0.1, help="share of the videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 = one per core with farneback, 1 with raft")
    parser.add_argument("--max_camera_motion", type=float, default=0.5,
                        help="background's motion within a clip, %% of the short side (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="remove what was built in OUTPUT and begin anew")
    args = parser.parse_args()
    _check_flags(args)
    workers = args.workers or (1 if args.flow_method == "raft" else os.cpu_count() or 1)
    settings = Settings(args.flow_method, args.raft_weights, args.size, args.clip_frames, args.validation_share, args.seed,
                        args.max_camera_motion)
    build = build_from_videos(args.videos, args.output, settings, workers, args.overwrite)
    return _say(build, Path(args.output))


def _check_flags(args):
    """ValueError for the first flag out of its range."""
    if args.flow_method not in METHODS:
        raise ValueError(f"--flow_method {args.flow_method}: expected {' or '.join(METHODS)}")
    if args.raft_weights and args.flow_method != "raft":
        raise ValueError("--raft_weights is given, but --flow_method is not raft; add --flow_method raft or leave the weights out")
    for flag, least in (("size", 64), ("clip_frames", FRAMES), ("workers", 0), ("seed", 0), ("max_camera_motion", 0)):
        if not getattr(args, flag) >= least:
            raise ValueError(f"--{flag} {getattr(args, flag)}: expected {least} or more")
    if not 0 <= args.validation_share < 1:
        raise ValueError(f"--validation_share {args.validation_share}: expected 0 or more, below 1")


def _say(build, output):
    """Print what was kept and what was not; the exit code."""
    kept, refused = collect(build, output)
    for name, _, clip, _ in kept:
        print(f"kept: {name}: the camera stands still ({clip['camera']:.2f} % of the short side)")
    for name, reason in refused:
        print(f"refused: {name}: {reason}", file=sys.stderr)
    counts = [sum(side == clip[1] for clip in kept) for side in SIDES]
    print(f"{counts[0]} clips in {output / 'train'}, {counts[1]} in {output / 'validation'}, {len(refused)} refused; see "
          f"{output / 'report.html'}")
    if not kept:
        raise ValueError(f"no clip of {len(build['videos'])} videos could be used; the reasons stand above and in the report")
    if not counts[1] and build["settings"]["validation_share"] > 0:
        print("note: the validation side is empty; it needs a second usable video", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
