"""The door of inference_t2c.py: its command line, and the mistakes that can be told before anything is loaded."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.data.wording import PHRASES, nearest_phrase
from text2cinemagraph.options.cli import Parser, all_options, load_options
from text2cinemagraph.options.fields import check
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.pipeline.early import check_words_and_sizes

if TYPE_CHECKING:
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.data.motion_file import DrawnMotion
    from text2cinemagraph.pipeline.stages import Stage

CONFIG = "configs/inference.yaml"  # of a run that names none
DIRECTED = f'"in X direction", X one of {"; ".join(PHRASES)}; or other clear words, such as "flowing to the left"'


def read_command_line(
    argv: list[str] | None, description: str, stages: tuple[Stage, ...]
) -> tuple[InferenceOptions, tuple[str, ...], frozenset[str]]:
    """The options, the names of the chosen stages, and the keys that the command line sets.

    argv: None = the process's own.
    """
    parser = _parser(description)
    flags = parser.parse_intermixed_args(argv)
    overrides, config = _overrides_of(flags), flags.config
    if flags.project:
        told = parser.parse_intermixed_args(_words_of_project(flags.project, overrides))
        overrides, config = [*_overrides_of(told), *overrides], config or told.config
    options = load_options(InferenceOptions, config or CONFIG, overrides)
    options.inputs.image = options.inputs.image or options.twin_extraction.init_img
    said = frozenset(text.partition("=")[0].strip() for text in overrides)
    return options, chosen_stages(flags.stage, stages), said


def _parser(description) -> Parser:
    parser = Parser(
        usage="python inference_t2c.py [--config YAML] [--stage s1-s6] [section.key=value ...]; --help shows all flags",
        description=description,
        epilog=f"section.key=value, also the keys of the YAML:\n{all_options(InferenceOptions)}",
    )
    parser.add_argument("--config", help=f"YAML file (default: the project's, else {CONFIG})")
    parser.add_argument("--project", help="project.json of the studio, or its folder; what else is said here wins")
    parser.add_argument("--stage", default="all", help="all, s1 ... s6, or a span such as s3-s6 (default: all)")
    parser.add_argument("--use_hint", action="store_true", help=f"follow the direction in the prompt: {DIRECTED}")
    parser.add_argument("--prompt", help="what to draw and how it moves (twin_extraction.prompt)")
    parser.add_argument("--name", help="experiment folder under outputs/ (twin_extraction.experiment_name)")
    parser.add_argument("--image", help="your picture, in place of s1's")
    parser.add_argument(
        "--style", help="with --image: paint it (oil, starry, ukiyo, ...; full tier: any words); it is the twin"
    )
    parser.add_argument("--twin", help="your twin, in place of s2's")
    parser.add_argument("--mask", help="your mask of what may move (white), in place of s4's")
    parser.add_argument("--invert_mask", action="store_true", help="in --mask, black is what may move")
    parser.add_argument("--mask_strokes", help="strokes over your picture: green or blue may move, red must not")
    parser.add_argument("--mask_labels", help='in --mask, a file of labels: which may move, such as "1, 15"')
    parser.add_argument("--flow", help="your flow in px/frame (npz, npy, pt, flo, KITTI png), in place of s5's")
    parser.add_argument("--arrows", help='how it moves: motion.json, a labelme JSON, or "100,200>180,210" in px')
    parser.add_argument("--suggest_arrows", metavar="N", help="write the flow as N arrows into motion.json")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any option of options/inference.py")
    return parser


def _overrides_of(flags) -> list[str]:
    """All that a command line says, as section.key=value."""
    overrides = list(flags.overrides)
    named = {
        "twin_extraction.prompt": flags.prompt,
        "twin_extraction.experiment_name": flags.name,
        "inputs.image": flags.image,
        "inputs.twin": flags.twin,
        "inputs.mask": flags.mask,
        "inputs.mask_strokes": flags.mask_strokes,
        "inputs.flow": flags.flow,
        "painting.style": flags.style,
        "optical_flow.use_hint": "true" if flags.use_hint else None,
        "inputs.invert_mask": "true" if flags.invert_mask else None,
        "inputs.mask_labels": flags.mask_labels,
        "inputs.arrows": flags.arrows,
        "optical_flow.suggest": flags.suggest_arrows,
    }
    overrides += [f"{key}={value}" for key, value in named.items() if value is not None]
    if flags.prompt is not None and not any(text.startswith("twin_generation.prompt=") for text in overrides):
        overrides.append(
            "twin_generation.prompt="
        )  # the YAML's belongs to the YAML's prompt: take the nouns of this one
    return overrides


def _words_of_project(path, overrides) -> list[str]:
    """The command line that a project.json stands for, its files laid beside what the run will make."""
    from text2cinemagraph.data.project import FILE, argv, read_project, unpacked

    project, file = read_project(path)
    own = file.resolve().parent.name if file.name == FILE else file.stem.removesuffix(".project")
    place = {"twin_extraction.exp_path_root": "outputs", "twin_extraction.experiment_name": _plain(own)}
    place |= {key: value for key, _, value in (text.partition("=") for text in overrides) if key in place}
    root, name = place.values()
    return argv(project, unpacked(project, file.parent, Path(root) / _plain(name) / "project"), root=root, name=name)


def _plain(name) -> str:
    """A name that an experiment folder can have."""
    return re.sub(r"[^\w .+-]+", "-", name).strip(". -") or "project"


def drawn_motion(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment) -> DrawnMotion | None:
    """The arrows that will count: those of --arrows, else those of an earlier run on the same picture; or None."""
    if options.inputs.arrows:
        from text2cinemagraph.data.motion_file import read_motion_file

        return read_motion_file(options.inputs.arrows)
    same = "s1" not in chosen or bool(options.painting.style)  # the photograph that lies there, in another look
    kept = same and not options.inputs.image and experiment.given("motion")
    return experiment.read("motion") if kept and experiment.has("motion") else None


def follow_motion_file(options: InferenceOptions, motion: DrawnMotion | None, said: frozenset[str]) -> None:
    """The speed and the seconds that a motion file names count, unless the command line says otherwise (`said`)."""
    if motion is not None and motion.speed and "video.speed" not in said:
        options.video.speed = motion.speed
    if motion is not None and motion.seconds and not said & {"video.n_frames", "video.seconds"}:
        options.video.n_frames = max(round(motion.seconds * options.video.fps), 2)
    check(options.video)


def chosen_stages(text: str, stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """ "all", "s3" or "s3-s6" -> the names, in the order of the table."""
    names = tuple(stage.name for stage in stages)
    first, dash, last = (f"{names[0]}-{names[-1]}" if text == "all" else text).partition("-")
    last = last if dash else first
    if first not in names or last not in names or names.index(last) < names.index(first):
        raise ValueError(f"--stage {text} is unknown; use all, one of {', '.join(names)}, or a span such as s3-s6")
    return names[names.index(first) : names.index(last) + 1]


def check_prompt(options: InferenceOptions, chosen: tuple[str, ...], drawn: bool) -> None:
    """Mistakes in the prompt are told before anything is computed.  drawn: arrows say how it moves."""
    from text2cinemagraph.data.hint import find_directions

    prompt, o = options.twin_extraction.prompt, options.optical_flow
    clauses = find_directions(prompt)
    if "s1" in chosen and not options.inputs.image and not prompt.strip():
        raise ValueError('the prompt is empty; give --prompt "a river …" or twin_extraction.prompt in the YAML')
    listens = "s5" in chosen and not options.inputs.flow and not drawn
    if listens and (o.use_hint or o.method == "constant") and not clauses:
        flag = "--use_hint" if o.use_hint else "optical_flow.method=constant"
        raise ValueError(
            f"{flag} needs a direction in the prompt, and none is understood; the nearest: "
            f'"in {nearest_phrase(prompt)} direction" (all: --help)'
        )
    if listens and len(clauses) > 1 and (o.use_hint or o.method == "constant"):
        from text2cinemagraph.data.clauses import read_clauses
        from text2cinemagraph.img2img.segment import parse_vocabulary

        read_clauses(prompt, parse_vocabulary(options.odise.vocab))  # tells what cannot be bound
    t = options.twin_generation
    if "s2" in chosen and t.num_ddim_sampling_steps not in (None, options.twin_extraction.ddim_steps):
        raise ValueError(
            f"twin_generation.num_ddim_sampling_steps={t.num_ddim_sampling_steps}, twin_extraction.ddim_steps="
            f"{options.twin_extraction.ddim_steps}: source and twin walk the same steps; leave the former empty"
        )
    if listens and clauses and not o.use_hint and o.method != "constant":
        print(f'note: the prompt names a direction ("{clauses[0].phrase}"); it is followed only with --use_hint')
    check_words_and_sizes(options, chosen, clauses[0].phrase if listens and clauses else None)


def check_networks(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment, drawn: bool) -> None:
    """The networks of the last stages are looked for before the first one has drawn for minutes.

    drawn: arrows say how it moves.
    """
    from text2cinemagraph.data.checkpoint import find_checkpoint

    o = options.optical_flow
    if (
        "s2" in chosen
        and options.twin_generation.method == "edit"
        and not (options.inputs.twin or options.painting.style)
    ):
        from text2cinemagraph.img2img.instructed import editor_folder

        editor_folder(options.twin_editing.model)
    kept = "s1" not in chosen and (experiment.given("image") or experiment.given("photograph"))
    own = bool(options.inputs.image) or kept or bool(options.painting.style)
    without_network = o.method in ("constant", "arrows") or (o.method == "auto" and drawn)
    if "s5" in chosen and not options.inputs.flow and not without_network:
        find_checkpoint(o.folder_for(o.use_hint or drawn))
    if "s6" in chosen and options.video.motion_of(own) != "pixels":
        find_checkpoint(options.video.folder)


def settle_seed(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment) -> None:
    """seed=-1: drawn once per picture, told and written down, so that the picture can be made again."""
    o = options.twin_extraction
    if o.seed < 0:
        before = None if "s1" in chosen else experiment.options_of("s1")
        seed = ((before or {}).get("twin_extraction") or {}).get("seed")
        o.seed = seed if isinstance(seed, int) and seed >= 0 else random.SystemRandom().randrange(2**31)
        if o.seed != seed:
            print(f"seed: {o.seed} (drawn, because twin_extraction.seed is -1)")
