"""What the studio asks of the pipeline: for each kind of job the command line, and for each stage how it stands."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from text2cinemagraph import inference_t2c
from text2cinemagraph.data.artifacts import Clip
from text2cinemagraph.data.motion_file import content_of, motion_of, read_motion_file
from text2cinemagraph.data.project import PICTURES as KEYS
from text2cinemagraph.data.project import Files, Project, argv, unpacked
from text2cinemagraph.demo.gallery import STAGES as CARDS
from text2cinemagraph.demo.studio.store import Folder, Watched, digest_of, png_size
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.pipeline.command_line import chosen_stages, follow_motion_file, read_command_line

STAGES = inference_t2c.STAGES
NAMES = tuple(stage.name for stage in STAGES)
# {stage: the artifact that shows it}
PICTURES = {label.split()[0]: artifact for artifact, label in CARDS} | {
    stage.name: stage.made[0] for stage in STAGES if isinstance(stage.makes[0], Clip)
}
PREVIEW = ("video.preview=true", "video.formats=[mp4]")
PLACES = ("experiment_name", "exp_path_root")  # options that say where, not what


def options_of(words: list[str]) -> InferenceOptions:
    """The options that a command line stands for.  Raises ValueError for ones that do not go together."""
    return _options_of(tuple(words))[0]


@lru_cache(maxsize=64)
def _options_of(words):
    options, _, said = read_command_line(list(words), "", STAGES)
    return options, said


# ---------------------------------------------------------------- the command lines of jobs
def files_of(folder: Folder, project: Project) -> Files:
    """Where the files of a project lie, its motion written out, as --project does it."""
    return unpacked(project, folder.path, folder.experiment().folder / "project")


def places_of(folder: Folder, project: Project) -> Files:
    """The same places, with nothing written."""
    found = {key: folder.path / getattr(project, key) for key in KEYS if getattr(project, key)}
    return Files(**found, motion=folder.experiment().folder / "project" / "motion.json" if project.motion else None)


def words_of(folder: Folder, project: Project) -> list[str]:
    """The command line of a project's own render, spelled out."""
    return argv(project, places_of(folder, project), root=folder.path, name="experiment")


def final(folder: Folder, stages: str) -> dict:
    """The task of a render: the chosen stages, and those before them without which they could not run.

    Raises ValueError for stages that are none.
    """
    project, experiment = folder.project(), folder.experiment()
    chosen = chosen_stages(stages, STAGES)
    files = files_of(folder, project)
    settle(experiment, files)
    first = min(chosen[0], _first_needed(folder, project, files, experiment, chosen))
    return {"words": argv(project, files, root=folder.path, name="experiment", stages=f"{first}-{chosen[-1]}")}


def settle(experiment: Watched, files: Files) -> None:
    """What the project no longer has is no longer the user's in the experiment either."""
    for name, has in (("mask", files.mask or files.strokes), ("motion", files.motion)):
        if not has and experiment.given(name):
            experiment.forget(name)
            experiment.path(name).unlink(missing_ok=True)


def _first_needed(folder, project, files, experiment, chosen):
    """The first stage that must run, for what the chosen ones read to be there."""
    if project.style and not _is_painted(project, files, experiment):
        return "s1"
    if not files.picture and not experiment.has("image"):
        return "s1"
    first = chosen[0]
    needed = {artifact for stage in STAGES if stage.name in chosen for artifact in stage.needs}
    if "flow" in needed and "s5" not in chosen and not experiment.has("flow"):
        first, needed = "s5", needed | {"mask"}
    if "mask" in needed and "s4" not in chosen and not (files.mask or files.strokes or experiment.has("mask")):
        first = min(first, "s3")
    if first <= "s3" and not files.picture and not experiment.has("twin"):
        first = "s2" if experiment.has("noise") else "s1"
    return min(first, chosen[0])


def _is_painted(project, files, experiment):
    """Whether the experiment's picture is the project's, in the project's look."""
    if not (files.picture and experiment.given("photograph") and experiment.has("image")):
        return False
    options = (experiment.options_of("s1") or {}).get("painting", {})
    return options.get("style") == project.style and digest_of(files.picture) == experiment.digest("photograph")


def words_mask(folder: Folder) -> dict:
    """The task of a mask by words: s3 and s4, whatever mask was painted before."""
    project = folder.project()
    files = files_of(folder, project)
    first = _first_needed(folder, project, replace(files, mask=None, strokes=None), folder.experiment(), ("s3", "s4"))
    files = replace(files, mask=None, strokes=None, motion=None)
    return {"words": argv(project, files, root=folder.path, name="experiment", stages=f"{first}-s4")}


def paint(folder: Folder) -> dict:
    """The task of a look: s1 alone.  Raises ValueError where nothing is to be painted."""
    project = folder.project()
    if not project.style or not project.picture:
        raise ValueError("a look needs a picture of yours and the name of a look; choose both")
    files = replace(files_of(folder, project), motion=None)
    return {"words": argv(project, files, root=folder.path, name="experiment", stages="s1")}


def preview(folder: Folder) -> dict:
    """The task of a true preview: the last stages on a small copy of the picture, in a folder of their own."""
    return _small(folder, "preview", "s6", PREVIEW)


def suggest(folder: Folder, count: int) -> dict:
    """The task of suggested arrows: s5 without the drawn ones, on a small copy of the picture."""
    return _small(
        folder, "suggested", "s5", ("optical_flow.method=auto", f"optical_flow.suggest={count}"), motion=False
    )


def _small(folder, kind, last, extra, motion=True):
    project, experiment = folder.project(), folder.experiment()
    files, place = files_of(folder, project), folder.path / kind / "project"
    settle(experiment, files)
    first, small, extra = "s5", [], list(extra)
    image, twin = files.picture, None
    if project.style and _is_painted(project, files, experiment):
        image, project = experiment.path("image"), replace(project, style="")
    elif project.style:
        first = "s1"
    elif image is None:
        if not experiment.has("image"):
            raise ValueError("there is no picture yet; drop one, or write a prompt and run s1")
        image = experiment.path("image")
        twin = experiment.path("twin") if experiment.has("twin") else None
        drawn = options_of(argv(project, Files(), root=folder.path, name=kind)).video.motion_of(own_picture=False)
        extra.append(f"video.motion={drawn}")  # s6 takes the picture for one of the user's own
    mask = files.mask
    if mask is None and files.strokes is None:
        mask = experiment.path("mask") if experiment.has("mask") else None
        first = min(first, "s5" if mask else "s3")
    copies = {"image": image, "twin": twin}
    for name, path in copies.items():
        if path is not None:
            copies[name] = place / f"{name}-{path.name}"
            small.append([str(path), str(copies[name])])
    extra += [f"inputs.twin={copies['twin']}"] if twin else []
    files = Files(copies["image"], mask, files.strokes if mask is None else None, files.motion if motion else None)
    words = argv(project, files, root=folder.path, name=kind, stages=f"{first}-{last}", extra=extra)
    return {"words": words, "small": small}


# ---------------------------------------------------------------- how the stages stand
def cards(folder: Folder, running: str | None) -> tuple[list[dict], str | None]:
    """([{name, state, picture}] of the six stages, what is wrong with the options or None).

    state: missing | fresh | stale | yours | running.   picture: the name of an artifact that is there, or None.
    running: the stage that a job of this project is at.
    """
    project, experiment = folder.project(), folder.experiment()
    files, problem, options = places_of(folder, project), None, None
    try:
        options = _current(folder, project, files)
    except (ValueError, OSError) as error:
        problem = str(error)
    dirty, stale = _changed(files, project, experiment), set(experiment.stale())
    found = []
    for stage in STAGES:
        made, recorded = stage.made[0], experiment.options_of(stage.name)
        reads = {*stage.needs, *stage.reads} - ({"motion"} if not files.motion else set())
        old = stage.name in stale or bool(reads & dirty) or not _same(stage, options, recorded, files)
        old = old or stage.name == "s1" and bool(project.style) and not _is_painted(project, files, experiment)
        if _is_yours(stage.name, project, files, experiment):
            state = "yours"
        elif not experiment.has(made):
            state = "missing"
        else:
            state = "stale" if old else "fresh"
        if state == "stale":
            dirty |= set(stage.made)
        picture = PICTURES[stage.name]
        shown = picture if experiment.has(picture) else None
        if state == "yours":
            shown = {"s1": "picture", "s2": "picture", "s4": "own_mask" if files.mask else shown}.get(stage.name, shown)
        found.append({"name": stage.name, "state": "running" if stage.name == running else state, "picture": shown})
    return found, problem


def _is_yours(stage, project, files, experiment):
    if stage == "s1":
        return files.picture is not None and not project.style
    if stage == "s2":
        return (
            files.picture is not None and not project.style and (experiment.given("twin") or not experiment.has("twin"))
        )
    if stage == "s4":
        return files.mask is not None or files.strokes is not None
    return False


def _changed(files, project, experiment):
    """Artifacts that the project has by now in another state than the experiment."""
    changed = set()
    picture = "photograph" if project.style else "image"
    if files.picture and experiment.has(picture) and digest_of(files.picture) != experiment.digest(picture):
        changed |= {"image", "twin"}
    if files.mask and experiment.has("mask") and digest_of(files.mask) != experiment.digest("mask"):
        changed.add("mask")
    if not files.mask and not files.strokes and experiment.given("mask"):
        changed.add("mask")
    had = experiment.given("motion") and experiment.has("motion")
    if bool(files.motion) != bool(had):
        changed.add("motion")
        changed |= {"mask"} if had else set()  # s5 must run again without the arrows
    elif had and _drawn(project.motion, experiment) != _drawn(experiment.path("motion"), experiment):
        changed.add("motion")
    return changed


def _drawn(motion, experiment):
    """Arrows and anchors at the experiment's size, as comparable text."""
    motion = read_motion_file(motion) if isinstance(motion, Path) else motion_of(motion, Path())
    if experiment.has("image"):
        try:
            motion = motion.at_size(png_size(experiment.path("image"))[::-1])
        except ValueError as error:
            return str(error)
    content = content_of(motion)
    return json.dumps([content["arrows"], content["anchors"]])


def _current(folder, project, files):
    """The options that a render would have now."""
    words = argv(project, files, root=folder.path, name="experiment")
    options, said = _options_of(tuple(words))
    if project.motion:
        options = dataclasses.replace(options, video=dataclasses.replace(options.video, seconds=0.0))
        follow_motion_file(options, motion_of(project.motion, Path()), said)
    return options


def _same(stage, options, recorded, files):
    """Whether a stage ran with the options of now."""
    if options is None or recorded is None:
        return True
    now, then = dataclasses.asdict(options), recorded
    section = "painting" if stage.name == "s1" and options.painting.style else stage.section
    ignored = {*PLACES, "seconds", *(("seed",) if options.twin_extraction.seed < 0 else ())}
    if any(then.get(section, {}).get(key) != value for key, value in now[section].items() if key not in ignored):
        return False
    told_by_words = stage.name == "s5" and not files.motion
    return not told_by_words or then.get("twin_extraction", {}).get("prompt") == now["twin_extraction"]["prompt"]
