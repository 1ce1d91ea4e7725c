"""s1 for a photograph of the user's own: it is painted (--style), and is its own twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.options.runtime import Runtime

WITH_STARS = ("starry",)  # looks that ask where the sky is
SKY = "sky, clouds"
SURE_OF_SKY = 0.84  # mean probability: skies of ten photographs had .86 to .99, what was none in five others .52 to .81


def check_style(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment) -> None:
    """Mistakes around --style are told before anything is computed."""
    style = options.painting.style
    if not style:
        return
    from text2cinemagraph.painters.looks import check_look

    check_look(style)
    if "s1" in chosen and not options.inputs.image and not experiment.given("photograph"):
        raise ValueError(
            f"--style {style} paints a photograph of yours, but there is none: give --image photo.jpg; for a drawn "
            'picture write the style into the prompt ("... in the style of an oil painting")'
        )


def painted(photograph: torch.Tensor, options: InferenceOptions, experiment: Experiment, runtime: Runtime):
    """The photograph [3,H,W] in the chosen look, in [0,1]; strokes keep to a given mask and follow a given flow."""
    import torch
    from text2cinemagraph.painters.looks import paint

    o = options.painting
    known = {name: experiment.read(name).numpy() for name in ("mask", "flow") if experiment.given(name)}
    if "mask" in known:
        known["mask"] = known["mask"][0]
    sky = find_sky(photograph, options, runtime) if o.style in WITH_STARS else None
    picture = paint(
        photograph.permute(1, 2, 0).numpy(),
        o.style,
        seed=runtime.seed,
        strength=o.strength,
        labels={} if sky is None else {"sky": sky[0].numpy()},
        **known,
    )
    return torch.from_numpy(picture).permute(2, 0, 1)


def find_sky(photograph: torch.Tensor, options: InferenceOptions, runtime: Runtime) -> torch.Tensor | None:
    """Where s3's segmenter sees sky and is sure of it, bool [1,H,W]; None elsewhere, or where there is no segmenter."""
    from text2cinemagraph.img2img.segment import EmptyMask, choose_backend, segment
    from tqdm import tqdm

    try:
        name, checkpoint = choose_backend(options.odise.backend, options.odise.checkpoint)
        found = segment(photograph, SKY, name, checkpoint, runtime)
    except (EmptyMask, FileNotFoundError) as reason:
        tqdm.write(f"s1: no stars, as no sky is known ({reason})")
        return None
    if max(found.scores.values()) < SURE_OF_SKY:
        tqdm.write(f"s1: no stars, as what looks like sky may be none (probability {max(found.scores.values()):.2f})")
        return None
    return found.mask
