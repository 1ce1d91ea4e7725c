"""s1 for a photograph of the user's own under --style: by which rule or words it is painted; it is its own twin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from text2cinemagraph.data.notes import tell

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.pipeline.stages import RunState

WITH_STARS = ("starry",)  # looks that ask where the sky is
SKY = "sky, clouds"
SURE_OF_SKY = 0.84  # mean probability: skies of ten photographs had .86 to .99, what was none in five others .52 to .81
# What a look of painters/looks.py is called in a prompt; any other style goes into it as it is.
IN_WORDS = {
    "oil": "an oil painting",
    "starry": "The Starry Night by Vincent van Gogh",
    "watercolor": "a watercolor painting",
    "ukiyo": "a Japanese ukiyo-e woodblock print",
    "lowpoly": "low poly art",
    "pastel": "a pastel drawing",
    "ink": "a Chinese ink wash painting",
    "pointillism": "a pointillist painting by Georges Seurat",
    "pencil": "a pencil drawing",
}


def check_style(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment) -> None:
    """Mistakes around --style are told before anything is computed."""
    style, o = options.painting.style, options.painting
    if not style:
        return
    if o.method == "rule":
        from text2cinemagraph.painters.looks import check_look

        try:
            check_look(style)
        except ValueError as error:
            raise ValueError(f"{error}; other words: painting.method=diffusion") from error
    elif "s1" in chosen and not options.inverts:
        raise ValueError(
            "painting.method=diffusion draws from the noise behind the photograph, but twin_extraction.inversion_steps "
            "is 0: set it to 999, or to 111, which is quick"
        )
    elif o.strength != 1:
        raise ValueError(
            f"painting.strength={o.strength} is of method rule; with diffusion, a lower "
            "twin_generation.feature_injection_threshold leads further from the photograph"
        )
    if "s1" in chosen and not options.inputs.image and not experiment.given("photograph"):
        raise ValueError(
            f"--style {style} paints a photograph of yours, but there is none: give --image photo.jpg; for a drawn "
            'picture write the style into the prompt ("... in the style of an oil painting")'
        )


def style_prompt(prompt: str, style: str) -> str:
    """What a photograph is drawn by: the prompt without its directions, and in this style instead of its own.

    ("a river in the style of Monet", "oil") -> "a river in the style of an oil painting"
    """
    from text2cinemagraph.data.hint import without_directions

    subject = re.split(r",?\s*\bin the style of\b", without_directions(prompt), flags=re.IGNORECASE)[0].strip(" ,.")
    return f"{subject or 'a picture'} in the style of {IN_WORDS.get(style, style)}"


def painted(
    photograph: torch.Tensor, options: InferenceOptions, experiment: Experiment, state: RunState
) -> torch.Tensor:
    """The photograph [3,H,W] in the chosen look, in [0,1]; strokes keep to a given mask and follow the known motion."""
    import torch
    from text2cinemagraph.painters.looks import paint

    o = options.painting
    mask = experiment.read("mask") if experiment.given("mask") else None
    flow = known_motion(experiment, mask)
    sky = find_sky(photograph, options, state) if o.style in WITH_STARS else None
    picture = paint(
        photograph.permute(1, 2, 0).numpy(),
        o.style,
        seed=state.runtime.seed,
        strength=o.strength,
        mask=None if mask is None else mask[0].numpy(),
        flow=None if flow is None else flow.numpy(),
        labels={} if sky is None else {"sky": sky[0].numpy()},
    )
    return torch.from_numpy(picture).permute(2, 0, 1)


def known_motion(experiment: Experiment, mask: torch.Tensor | None) -> torch.Tensor | None:
    """The flow [2,H,W] in px/frame that is known before s5: a given one, else what given arrows say; or None.

    mask: bool [1,H,W] if it was given.  Arrows say how the inside of a mask moves: where that comes from s3, which runs
    later, they are not followed, and the user is told.
    """
    if experiment.given("flow"):
        return experiment.read("flow")
    motion = experiment.read("motion") if experiment.given("motion") else None
    if motion is None or not motion.arrows:
        return None
    if mask is None:
        tell("strokes", "the strokes do not follow the arrows, as the mask is not known yet: give --mask, or strokes")
        return None
    from text2cinemagraph.data.arrows import sample_arrows
    from text2cinemagraph.data.harmonic import harmonic_flow

    return harmonic_flow(mask, sample_arrows(motion.at_size(mask.shape[-2:]), mask))


def find_sky(photograph: torch.Tensor, options: InferenceOptions, state: RunState) -> torch.Tensor | None:
    """Where s3's segmenter sees sky and is sure of it, bool [1,H,W]; None elsewhere, or where there is no segmenter."""
    from text2cinemagraph.img2img.segment import EmptyMask, segment
    from text2cinemagraph.pipeline.segmenting import segmenter_of
    from tqdm import tqdm

    try:
        found = segment(photograph, SKY, segmenter_of(options, state.networks, state.runtime))
    except (EmptyMask, FileNotFoundError) as reason:
        tqdm.write(f"s1: no stars, as no sky is known ({reason})")
        return None
    if max(found.scores.values()) < SURE_OF_SKY:
        tqdm.write(f"s1: no stars, as what looks like sky may be none (probability {max(found.scores.values()):.2f})")
        return None
    return found.mask
