"""What s5 is told about the motion, by arrows or by words, and what it leaves for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from text2cinemagraph.data.arrow_hint import arrow_hint, fade_at_shores, keep_arrows
from text2cinemagraph.data.arrows import ArrowSamples, sample_arrows
from text2cinemagraph.data.clauses import Clause, clauses_hint, read_clauses, share_out
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.data.harmonic import arrowless_share, harmonic_flow
from text2cinemagraph.data.hint import find_directions
from text2cinemagraph.data.motion_file import DrawnMotion
from text2cinemagraph.data.motion_picture import motion_picture, with_wheel
from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.suggest import suggest_arrows
from text2cinemagraph.models.motion import MotionModel, load_motion_model
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.pipeline.stages import RunState

CONSTANT_SPEED = 0.9 / 256  # of the short side per frame: a flow from words that no network's card gives a speed


@dataclass
class Told:
    """What the user said about the motion.

    method: network | constant | arrows.   motion, samples: the arrows, None without.   clauses: the prompt's
    directions, [] where nobody listens to them.   regions: {class: bool [1,H,W]} for several clauses.
    """

    method: str
    motion: DrawnMotion | None
    samples: ArrowSamples | None
    clauses: list[Clause]
    regions: dict

    @property
    def drawn(self) -> bool:
        """Whether arrows are drawn: anchors alone say no direction."""
        return self.samples is not None and bool(len(self.samples.places))


def what_is_told(options: InferenceOptions, experiment: Experiment, mask: torch.Tensor, state: RunState) -> Told:
    """Arrows and words of a run, and the method that follows them; see told().  mask: bool [1,H,W]."""
    motion = experiment.read("motion") if experiment.given("motion") else None
    return told(options, mask, motion, lambda: regions_of(options, experiment, mask, state))


def told(
    options: InferenceOptions, mask: torch.Tensor, motion: DrawnMotion | None, regions: Callable[[], dict]
) -> Told:
    """What the options' words, or the arrows of `motion`, say of a mask, bool [1,H,W]. Arrows count before words.

    regions: gives {class: bool [1,H,W]}; called where the prompt names several directions.
    Raises ValueError where a method is chosen that has nothing to follow.
    """
    o, prompt = options.optical_flow, options.twin_extraction.prompt
    motion = motion.at_size(mask.shape[-2:]) if motion is not None else None
    samples = sample_arrows(motion, mask) if motion is not None else None
    drawn = samples is not None and bool(len(samples.places))
    method = o.method if o.method != "auto" else "arrows" if drawn else "network"
    if method == "arrows" and not drawn:
        raise ValueError("optical_flow.method=arrows needs at least one arrow; give --arrows, or choose another method")
    listens = (o.use_hint or method == "constant") and not drawn
    clauses = read_clauses(prompt, _vocabulary(options)) if listens else []
    if listens and not clauses:
        raise ValueError(f'no direction in the prompt "{prompt}"; write e.g. "in left to right direction"')
    return Told(method, motion, samples, clauses, regions() if len(clauses) > 1 else {})


def _vocabulary(options):
    """The classes of odise.vocab; [] where the prompt has one clause or none, which needs no class."""
    if len(find_directions(options.twin_extraction.prompt)) < 2:
        return []
    from text2cinemagraph.img2img.segment import parse_vocabulary  # brings transformers along

    return parse_vocabulary(options.odise.vocab)


def regions_of(options: InferenceOptions, experiment: Experiment, mask: torch.Tensor, state: RunState) -> dict:
    """The mask shared out among the classes of the vocabulary, {class: bool [1,H,W]}: s4's, else s3's, else looked for
    now (a mask of the user's own).
    """
    from text2cinemagraph.img2img.segment import segment
    from text2cinemagraph.pipeline.segmenting import segmenter_of

    names = [words[0] for words in _vocabulary(options)]
    for artifact in ("classes", "classes_odise"):
        if experiment.has(artifact):
            classes = experiment.read(artifact)
            if list(classes) == names and classes[names[0]].shape == mask.shape:
                return share_out(mask, classes)
    segmenter = segmenter_of(options, state.networks, state.runtime)
    found = segment(experiment.read("twin"), options.odise.vocab, segmenter)
    experiment.write(classes_odise=found.class_masks)
    return share_out(mask, found.class_masks)


def flow_of(
    options: InferenceOptions, state: RunState, told: Told, *, image: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(flow [2,H,W] in px/frame inside the mask, the hint that led to it or None).

    image: the twin, [3,H,W] in [0,1].   mask: bool [1,H,W].
    """
    if told.method == "arrows":
        still = arrowless_share(mask, told.samples)
        if still > 0.01:
            tell("arrowless", f"{still:.0%} of the mask is not joined to any arrow and stands still; draw one there")
        return harmonic_flow(mask, told.samples), None
    if told.method == "constant":
        hint = _from_words(options, told, mask, options.optical_flow.hint_speed, options.optical_flow.fineSize, state)
        return _held(fade_at_shores(hint, mask), told, None), hint
    return _by_network(options, state, told, image, mask)


def _by_network(options, state, told, image, mask):
    model = motion_model(options, state, told)
    hint = hint_of(options, state, told, mask)
    exact = harmonic_flow(mask, told.samples) if told.drawn else None
    text = options.twin_extraction.prompt
    return _held(model.predict(image, mask, text=text, hint=hint), told, exact), hint


def motion_model(options: InferenceOptions, state: RunState, told: Told) -> MotionModel:
    """The network that s5 takes for what it is told."""
    o = options.optical_flow
    folder = o.folder_for(bool(told.clauses) or told.drawn)
    model = state.networks.get("motion", load_motion_model, folder, o.architecture, state.runtime)
    if told.drawn and not model.options.takes_hint:
        raise ValueError(
            f"the network {folder} takes no hint (input_nc=4); set optical_flow.hint_model_name, or method=arrows"
        )
    return model


def hint_of(options: InferenceOptions, state: RunState, told: Told, mask: torch.Tensor) -> torch.Tensor | None:
    """The hint [2,H,W] in px/frame that the network gets of arrows or words; None where nothing is said."""
    if told.drawn:
        return arrow_hint(mask, told.samples)
    if not told.clauses:
        return None
    of_network = motion_model(options, state, told).options
    speed = options.optical_flow.hint_speed or of_network.hint_speed
    return _from_words(options, told, mask, speed, of_network.fineSize, state)


def _from_words(options, told, mask, speed, fine_size, state):
    """The hint of the clauses.  speed: px/frame at a short side of fine_size px; None = CONSTANT_SPEED."""
    speed = CONSTANT_SPEED * min(mask.shape[-2:]) if speed is None else speed * min(mask.shape[-2:]) / fine_size
    return clauses_hint(mask, told.clauses, told.regions, speed=speed, seed=state.runtime.seed)


def _held(flow, told, exact):
    """A flow held to the arrows and anchors that are drawn."""
    if told.samples is None:
        return flow
    return keep_arrows(flow, told.samples, torch.zeros_like(flow).cpu() if exact is None else exact)


def leave_pictures(
    options: InferenceOptions,
    experiment: Experiment,
    told: Told,
    *,
    flow: torch.Tensor,
    hint: torch.Tensor | None,
    mask: torch.Tensor,
) -> None:
    """Write what people look at: the flow and the hint in colours, and, where the motion was drawn, suggested, or said
    for several things, its arrows over the picture; then the colours get their wheel.
    """
    motion, suggest = told.motion, options.optical_flow.suggest
    if suggest:
        motion, share = suggest_arrows(flow, mask, suggest)
        experiment.write(motion=motion)
        print(f"s5: {len(motion.arrows)} arrows in {experiment.path('motion')} give {share:.0%} of the flow again")
    shown = motion is not None or told.method != "network" or len(told.clauses) > 1
    finish = with_wheel if shown else (lambda pixels: pixels)
    experiment.write(flow_color=finish(flow_to_color(flow)))
    if hint is not None:
        experiment.write(hint=finish(flow_to_color(hint)))
    else:
        experiment.path("hint").unlink(missing_ok=True)  # of an earlier run
    if shown:
        picture = experiment.read("image" if experiment.has("image") else "twin")
        experiment.write(motion_picture=motion_picture(picture, mask, flow, motion))
    else:
        experiment.path("motion_picture").unlink(missing_ok=True)  # of an earlier run
