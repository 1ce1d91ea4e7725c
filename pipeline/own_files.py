"""The user's own files: checked together, then laid in the place of what a stage would make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.data.arrows import sample_arrows
from text2cinemagraph.data.flow import read_own_flow
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.motion_file import DrawnMotion, read_motion_file
from text2cinemagraph.data.strokes import read_strokes

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.options.inference import InferenceOptions, TwinExtraction


def place_inputs(options: InferenceOptions, chosen: tuple[str, ...], experiment: Experiment) -> frozenset[str]:
    """Check the user's own files, all of them before the first is copied, and lay them into the experiment folder.

    A picture of your own is its own twin, unless you give one or s2 draws one.  Returns the names of
    the artifacts given.
    """
    o, painting = options.inputs, bool(options.painting.style) and "s1" in chosen
    inverting = options.inverts and not painting
    if (o.invert_mask or o.mask_labels) and not o.mask:
        flag = "--invert_mask" if o.invert_mask else "--mask_labels"
        raise ValueError(f"{flag} says how to read --mask, but no mask is given")
    if o.flow and (o.arrows or options.optical_flow.suggest):
        flag = "--arrows" if o.arrows else "--suggest_arrows"
        raise ValueError(f"--flow is the motion itself, so s5 and {flag} have nothing to do; leave one of them out")
    if o.mask and o.mask_strokes:
        raise ValueError("--mask and --mask_strokes both say what may move; give one of them")
    limit = {"max_megapixels": o.max_megapixels}
    if "s1" in chosen and not painting:
        experiment.forget("photograph")
        if not o.image:
            experiment.forget("image", "twin")  # an earlier run's own picture: this one is drawn
    image = read_image(o.image, **limit, animated=True) if o.image else None
    if image is not None and options.painting.style and not painting:
        if not experiment.holds(image, "photograph"):
            raise ValueError("--style paints in s1, which is not among the stages; run s1 too, or leave --style out")
        image = None  # it lies there, painted
    if image is not None and not any(experiment.holds(image, name) for name in ("image", "photograph")):
        experiment.forget("mask", "flow")  # those of another picture
    if image is None and painting:
        image = experiment.read("photograph")  # the one that lies there in another look
    drawn = inverting and ({"s1", "s2"} & set(chosen) or (experiment.given("image") and experiment.has("attention")))
    drawn = drawn or not painting and _edited(options, chosen, experiment, image)
    twin_image = read_image(o.twin, **limit) if o.twin else None if drawn else image
    size = picture_size(image, options.twin_extraction, chosen, experiment)
    flow = read_own_flow(o.flow, size, **limit) if o.flow else None
    motion = read_own_motion(o.arrows, size) if o.arrows else None
    if motion is None and (o.image or ("s1" in chosen and not painting)):
        experiment.forget("motion")  # arrows of an earlier run, on another picture
    if options.optical_flow.suggest and "s5" in chosen and (motion or experiment.given("motion")):
        raise ValueError("--suggest_arrows would write over the motion.json that was given; leave one of them out")
    labels = tuple(label.strip() for label in o.mask_labels.split(",") if label.strip())
    mask = read_mask(o.mask, size, o.invert_mask, labels=labels, **limit) if o.mask else None
    if o.mask_strokes:
        mask = _mask_of_marks("--mask_strokes", image, experiment, lambda: read_strokes(o.mask_strokes, size, **limit))
    elif mask is None and motion is not None and motion.may_move:
        mask = _mask_of_marks(f"may_move in {o.arrows}", image, experiment, lambda: motion.marks_at(size))
    mask = motion.mask_at(size) if mask is None and motion is not None else mask
    if mask is None and flow is not None and ("s1" in chosen or not experiment.has("mask")):
        mask = (flow != 0).any(0, keepdim=True)  # s6 needs to know what may move: whatever your flow moves
    if mask is not None and not mask.any():
        raise ValueError(
            f"{o.mask or o.mask_strokes or o.flow or o.arrows} marks nothing to move (one value everywhere); "
            "paint white what may move, on black"
        )
    if o.mask and mask.all():
        print(f"note: {o.mask} marks the whole picture; if black was meant to move, add --invert_mask")
    if size and twin_image is not None and tuple(twin_image.shape[-2:]) != size:
        raise ValueError(
            f"the twin {o.twin} is {size_text(twin_image)}, the picture {size[1]}x{size[0]}; they must match"
        )
    given = {
        name: value
        for name, value in (
            ("photograph" if painting else "image", image),
            ("twin", twin_image),
            ("mask", mask),
            ("flow", flow),
        )
        if value is not None
    }
    if motion is not None and mask is not None:
        sample_arrows(motion, mask)  # tells which arrow lies outside
    if motion is not None and (motion.arrows or motion.anchors):
        # the mask is an artifact of its own
        given["motion"] = replace(motion, mask=None, may_move=(), must_not_move=())
    elif motion is not None:
        experiment.forget("motion")  # arrows of an earlier run
    if image is not None or mask is not None:
        for name in ("classes_odise", "classes"):  # those of another picture
            experiment.path(name).unlink(missing_ok=True)
    experiment.give(**given)
    return frozenset(given)


def _edited(options, chosen, experiment, image):
    """Whether the twin of the user's own picture comes, or came, from an image-editing model."""
    if options.twin_generation.method != "edit" or options.painting.style:
        return False
    there = image is None or experiment.holds(image)
    return "s2" in chosen or (there and experiment.has("twin") and not experiment.given("twin"))


def _mask_of_marks(name, image, experiment, read):
    """The mask [1,H,W] that strokes or points stand for, on the picture given now or in the folder.

    read(): (moves, still), bool [1,H,W].   name: of what was given, for the mistake.
    """
    from text2cinemagraph.img2img.edges import from_strokes

    if image is None:
        own = next((name for name in ("photograph", "image") if experiment.given(name)), None)
        if own is None:
            raise ValueError(f"{name} belongs to a picture of yours; give --image too")
        image = experiment.read(own)
    return from_strokes(image, *read())


def read_own_motion(source: str, size: tuple[int, int] | None) -> DrawnMotion:
    """A motion file, or arrows as a text, for a picture of `size` (H, W); told where it was drawn on another size."""
    motion = read_motion_file(source)
    for line in motion.notes:
        print(f"note: {source}: {line}")
    if size is None:
        raise ValueError("--arrows needs a picture: give --image, or run s1 first")
    if motion.size not in (None, size):
        print(
            f"note: {source} was drawn on {motion.size[1]}x{motion.size[0]}; scaled to the picture, {size[1]}x{size[0]}"
        )
    return motion.at_size(size)


def picture_size(
    image: torch.Tensor | None, o: TwinExtraction, chosen: tuple[str, ...], experiment: Experiment
) -> tuple[int, int] | None:
    """(H, W) of the picture that the user's files must match: given, about to be made by s1, or already there."""
    if image is None and "s1" in chosen:
        return o.H, o.W
    if image is None and experiment.has("image"):
        image = experiment.read("image")
    return None if image is None else tuple(image.shape[-2:])


def check_mask(mask: torch.Tensor, image: torch.Tensor, path: str | Path) -> None:
    """A mask must have the picture's size and mark something."""
    if mask.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"{path} is {size_text(mask)}, the picture {size_text(image)}; they must match")
    if not mask.any():
        raise ValueError(f"{path} is black everywhere: nothing may move; run s3 and s4 again or give --mask")


def size_text(tensor: torch.Tensor) -> str:
    """Width x height, as people say it."""
    return f"{tensor.shape[-1]}x{tensor.shape[-2]}"
