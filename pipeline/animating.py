"""What the options of s6 mean as arguments of its renderer, models.loop.LoopRenderer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.models.loop import LoopRenderer
    from text2cinemagraph.options.inference import Video
    from text2cinemagraph.options.runtime import Runtime
    from text2cinemagraph.pipeline.networks import Networks


PREVIEW = 384  # px of the short side
SKIPPED = 2  # of so many frames a preview shows one
# Their ripples run over what they mirror. Rivers, falls and clouds carry their light along.
STILL_WATERS = frozenset(
    """bay canal fjord harbor harbour lagoon lake loch marsh mere moat ocean pond pool puddle reservoir sea swamp
    tarn""".split()
)


def renderer_of(o: Video, networks: Networks, runtime: Runtime) -> LoopRenderer:
    """A renderer with the network of the options, which the shelf loads if the motion asks for one.

    Raises ValueError where the device does not compute in video.dtype.
    """
    from text2cinemagraph.models.loop import LoopRenderer
    from text2cinemagraph.models.video import load_video_model
    from text2cinemagraph.options.devices import check_dtype, half_or_full
    from text2cinemagraph.options.runtime import dtype_of

    kind = half_or_full(runtime.device, "bf16") if o.dtype == "auto" else o.dtype
    check_dtype(runtime.device, kind, "video.dtype")
    network = "video", load_video_model, o.folder, o.architecture, runtime
    return LoopRenderer(lambda: networks.get(*network, dtype=dtype_of(kind)))


def is_still_water(words: list[str]) -> bool:
    """Whether every word of a class of the vocabulary means water that stands: ["lake", "mountain pools"]."""
    nouns = [word.lower().split()[-1] for word in words if word.strip()]
    return bool(nouns) and all({noun, noun.removesuffix("s")} & STILL_WATERS for noun in nouns)


def still_waters(
    mask: torch.Tensor, vocabulary: list[list[str]], classes: dict[str, torch.Tensor]
) -> tuple[torch.Tensor | None, list[str]]:
    """(where light rests, bool [1,H,W]; the names of these classes); (None, []) where it travels everywhere.

    mask: bool [1,H,W].   vocabulary: a list of synonyms per class.   classes: {name, the first of them: bool [1,H,W]}
    as s3 or s4 found them; {} = the vocabulary has one class, and it is the mask. Every pixel of the picture counts for
    the class nearest to it, so that no light travels at a shore.
    """
    import torch
    from text2cinemagraph.data.clauses import share_out

    synonyms = {words[0]: words for words in vocabulary}
    if not classes and len(vocabulary) == 1:
        classes = {vocabulary[0][0]: mask}
    names = [name for name, where in classes.items() if is_still_water(synonyms.get(name, [name])) and where.any()]
    if not names:
        return None, []
    nearest = share_out(torch.ones_like(mask), {name: where & mask for name, where in classes.items()})
    return torch.stack([nearest[name] for name in names]).any(0), names


def resting_light(experiment: Experiment, mask: torch.Tensor) -> tuple[torch.Tensor | None, list[str]]:
    """What `still_waters` finds in what s3 and s4 left in the folder.

    A mask of the user's own has no classes, unless s5 looked for them (several directions in one prompt).
    """
    from text2cinemagraph.img2img.segment import parse_vocabulary

    artifact = next((name for name in ("classes", "classes_odise") if experiment.has(name)), None)
    classes = experiment.read(artifact) if artifact else {}
    ran = next((found for stage in ("s3", "s5") if (found := experiment.options_of(stage))), {})
    text = ran.get("odise", {}).get("vocab", "")
    if any(where.shape != mask.shape for where in classes.values()):
        return None, []
    if not text or (not classes and (experiment.given("mask") or not experiment.options_of("s3"))):
        return None, []
    return still_waters(mask, parse_vocabulary(text), classes)


def rendering_in(experiment: Experiment, o: Video, mask: torch.Tensor) -> dict[str, Any]:
    """`rendering_of` for the picture of a folder; what light rests on is told.  mask: bool [1,H,W]."""
    own, resting = experiment.given("image") or experiment.given("photograph"), None
    if o.light == "auto" and o.motion_of(own) != "splat":
        resting, names = resting_light(experiment, mask)
        if names:
            tqdm.write(f"s6: light rests on: {', '.join(names)} (video.light=travels: it moves with the ripples)")
    return rendering_of(o, own, resting)


def rendering_of(o: Video, own_picture: bool, resting: torch.Tensor | None = None) -> dict[str, Any]:
    """The keyword arguments of LoopRenderer.render.  own_picture: the user's, not s1's.

    resting: of video.light=auto, where light rests, bool [1,H,W]; None = nowhere.
    """
    motion = o.motion_of(own_picture)
    light: Any = o.light
    if light == "auto":
        light = "travels" if resting is None or motion == "splat" else resting
    return {
        "n_frames": o.n_frames,
        "speed": o.speed,
        "clamp": o.clamp,
        "motion": motion,
        "blend": o.blend_of(motion),
        "light": light,
        "shore": o.shore,
        "feather": o.feather,
        "composite": o.composite,
        "alpha": o.alpha,
        "keep_detail": o.keep_detail,
        "holes": o.holes,
        "lookup": o.lookup,
        "engine": o.engine,
        "static_reuse": o.static_reuse,
    }


def preview_of(
    image: torch.Tensor, flow: torch.Tensor, mask: torch.Tensor, rendering: dict[str, Any], *, fps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any], int]:
    """Picture, flow, mask, arguments and frames/s of a quick look: small, and every second frame at half the rate."""
    from text2cinemagraph.data.flow import resize_flow
    from text2cinemagraph.data.media import resize_image

    scale = min(1, PREVIEW / min(image.shape[-2:]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
    rendering = {
        **rendering,
        "n_frames": max(2, round(rendering["n_frames"] / SKIPPED)),
        "speed": SKIPPED * rendering["speed"],
    }
    mask = resize_image(mask.float(), size) > 0.5
    if not isinstance(rendering["light"], str):
        rendering["light"] = resize_image(rendering["light"].float(), size) > 0.5
    return resize_image(image, size).clamp(0, 1), resize_flow(flow, size), mask, rendering, max(1, round(fps / SKIPPED))
