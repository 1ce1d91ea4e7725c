"""From one sentence to a seamlessly looping cinemagraph: six stages, in paper order.

    python inference_t2c.py --config configs/inference_mini.yaml
    python inference_t2c.py --config configs/inference_mini.yaml --stage s4 attn_mask.threshold=0.5
    python inference_t2c.py --config configs/inference_mini_directional.yaml --use_hint --image photo.jpg --mask
    mask.png \\
        --prompt "a river flowing in left to right direction"

A stage reads artifacts of the experiment folder and writes others; `state` holds the networks and what passes in
memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.artifacts import Classes, Clip, Flow, Mask, Motion, Panel, Picture, Tensors
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.options.cli import run_main
from text2cinemagraph.pipeline.command_line import (
    check_networks,
    check_prompt,
    drawn_motion,
    follow_motion_file,
    read_command_line,
    settle_seed,
)
from text2cinemagraph.pipeline.networks import Networks
from text2cinemagraph.pipeline.painting import check_style
from text2cinemagraph.pipeline.stages import RunState, Stage, artifacts_of, closing_lines, run_stages
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.options.inference import InferenceOptions

NOUNS = "dataset/nouns.json"
UNSURE = (
    "s3: so the mask is a guess; look at mask_odise.png. Better: a few strokes (--mask_strokes, docs/painting.md), a "
    "mask of your own (--mask), or a segmenter that knows photographs (python -m data.fetch segmenter)"
)


def s1_artistic_image(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Draw the artistic image and remember what s2 and s4 need of its making.  -> image, noise, attention"""
    import torch
    from text2cinemagraph.img2img.twin import artistic
    from text2cinemagraph.pipeline.drawing import (
        feature_plan,
        load_drawing_model,
        noise_behind,
        noise_generator,
        source_of,
    )

    o, own = options.twin_extraction, experiment.given("image")
    diffusion = load_drawing_model(options, state)
    if own:  # your picture: find the noise that leads to it
        noise = noise_behind(experiment.read("image"), options, experiment, state)
    else:
        generator = noise_generator(options, state)
        shape = diffusion.latent_shape(o.H, o.W)
        noise = torch.randn(shape, generator=generator, device=generator.device).cpu()
    prompt, scale = source_of(o, own)
    made = artistic(
        diffusion,
        noise,
        prompt,
        guidance_scale=scale,
        steps=o.ddim_steps,
        plan=feature_plan(options, diffusion.unet, diffusion.spatial_factor),
        feature_memory=options.twin_generation.feature_memory_gb * 1e9 if state.keep_features else 0,
    )
    experiment.write(noise=noise, attention=made.attention.tensors(), **({} if own else {"image": made.image[0]}))
    state.features = made.features


def s1_painted_image(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Paint your photograph, which is its own twin (--style).  photograph -> image"""
    from text2cinemagraph.pipeline.painting import painted

    experiment.write(image=painted(experiment.read("photograph"), options, experiment, state))


def s1_picture_in_other_words(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Draw your photograph, its own twin, in other words (--style), holding its layout.  photograph -> image"""
    from text2cinemagraph.img2img.twin import artistic
    from text2cinemagraph.pipeline.drawing import drawn_over, feature_plan, load_drawing_model, noise_behind, source_of
    from text2cinemagraph.pipeline.painting import style_prompt

    o = options.twin_extraction
    prompt, source = style_prompt(o.prompt, options.painting.style), source_of(o, own=True)
    tqdm.write(f"s1: the photograph is drawn as: {prompt}")
    diffusion, photograph = load_drawing_model(options, state), experiment.read("photograph")
    noise = noise_behind(photograph, options, experiment, state)
    made = artistic(
        diffusion,
        noise,
        source[0],
        guidance_scale=source[1],
        steps=o.ddim_steps,
        plan=feature_plan(options, diffusion.unet, diffusion.spatial_factor),
        feature_memory=options.twin_generation.feature_memory_gb * 1e9,
        title="s1 the photograph's features",
    )
    image = drawn_over(
        options,
        diffusion,
        noise,
        source=source,
        prompt=prompt,
        features=made.features,
        title="s1 the photograph in other words",
        size=photograph.shape[-2:],
    )
    experiment.write(attention=made.attention.tensors(), image=image)


def s2_twin(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Draw the picture again as a photograph would show it, holding its layout.  noise -> twin"""
    from dataclasses import asdict

    from text2cinemagraph.data.hint import without_directions
    from text2cinemagraph.img2img.prompts import load_nouns, twin_prompt
    from text2cinemagraph.options.fields import known_part
    from text2cinemagraph.options.inference import TwinExtraction
    from text2cinemagraph.pipeline.drawing import drawn_over, load_drawing_model, source_of

    o, t, own = options.twin_extraction, options.twin_generation, experiment.given("image")
    recorded = (experiment.options_of("s1") or {}).get("twin_extraction") or asdict(o)
    drawn_with = known_part(TwinExtraction, recorded)  # what s1 saw counts, whatever the options say by now
    if drawn_with.ddim_steps != o.ddim_steps:
        raise ValueError(
            f"s1 took {drawn_with.ddim_steps} steps, twin_extraction.ddim_steps={o.ddim_steps}: "
            "source and twin walk the same steps; run s1 again, or set it back"
        )
    prompt = t.prompt or twin_prompt(without_directions(o.prompt), load_nouns(NOUNS))
    tqdm.write(f"s2: twin prompt: {prompt}")
    features, state.features = state.features, None
    drawn = drawn_over(
        options,
        load_drawing_model(options, state),
        experiment.read("noise"),
        source=source_of(drawn_with, own),
        prompt=prompt,
        features=features,
        title="s2 twin",
        size=experiment.read("image").shape[-2:] if own else None,  # drawn at a size that the model takes
    )
    experiment.write(twin=drawn)


def s2_instructed_twin(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Ask an image-editing model for the picture's scene as a photograph; refuse one that drifted.  image -> twin"""
    from text2cinemagraph.img2img.instructed import drift, edited, load_editor
    from text2cinemagraph.pipeline.instructing import check_drift, instruction_of

    o, picture = options.twin_editing, experiment.read("image")
    instruction = instruction_of(options, NOUNS)
    tqdm.write(f"s2: {instruction}")
    twin = edited(
        state.networks.get("editor", load_editor, o.model, state.runtime),
        picture,
        instruction,
        seed=state.runtime.seed,
        steps=o.steps,
        scale=o.scale,
        megapixels=o.megapixels,
    )
    check_drift(drift(picture, twin), o, experiment, twin)
    experiment.write(twin=twin)


def s3_mask(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Find in the twin what the vocabulary names.  twin -> mask_odise"""
    import torch
    from text2cinemagraph.img2img.edges import SURE, refined_classes
    from text2cinemagraph.img2img.segment import BACKENDS, choose_backend, segment
    from text2cinemagraph.pipeline.segmenting import segmenter_of

    o = options.odise
    name, checkpoint = choose_backend(o.backend, o.checkpoint)
    tqdm.write(f"s3: {name} with {checkpoint or 'its own weights'} (licence: {BACKENDS[name].licence})")
    twin = experiment.read("twin")
    found = segment(twin, o.vocab, segmenter_of(options, state.networks, state.runtime, (name, checkpoint)))
    mask, classes = found.mask, found.class_masks
    if o.to_edges and (experiment.given("image") or experiment.given("photograph")):
        classes, agreement = refined_classes(twin, classes)
        mask = torch.stack(list(classes.values())).any(0)
        tqdm.write(f"s3: the picture's own edges agree with {agreement:.0%} of the mask")
        if agreement < SURE:
            tqdm.write(UNSURE)
    experiment.write(mask_odise=mask)
    for earlier in ("classes_odise", "classes"):
        experiment.path(earlier).unlink(missing_ok=True)
    if len(classes) > 1:  # each class may move its own way
        experiment.write(classes_odise=classes)


def s4_attention_mask(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Sharpen the mask by what the artistic image's self-attention holds together.  mask_odise, attention -> mask"""
    from text2cinemagraph.img2img.attention_mask import (
        attention_maps,
        cluster,
        clusters_picture,
        components,
        erode,
        vote,
        vote_classes,
    )

    o = options.attn_mask
    mask, segments = experiment.read("mask_odise"), None
    if not experiment.has("attention"):  # a picture of yours that was not inverted: nothing to cluster
        tqdm.write("s4: your own picture has no self-attention; the mask of s3 is only eroded")
        voted = mask
    else:
        maps, grid = attention_maps(experiment.read("attention"))
        segments = components(cluster(maps, grid, o.n_clusters, o.cluster_type, seed=state.runtime.seed))
        voted = vote(segments, mask, o.threshold, o.combine)
        experiment.write(clusters=clusters_picture(segments, tuple(mask.shape[-2:])))
        if not voted.any() and o.fallback:
            tqdm.write(f"s4: no segment lies inside the s3 mask by {o.threshold}; going on with the s3 mask")
            voted = mask
    eroded = erode(voted, o.erosion_ksize, o.erosion_iter)
    if not eroded.any():
        raise ValueError(
            f"s4: the mask is empty: no segment has a share of {o.threshold} in the s3 mask, or erosion ate it; "
            "lower attn_mask.threshold or erosion_iter, widen odise.vocab, or set attn_mask.fallback=true"
        )
    experiment.write(mask_self_attn=voted, mask=eroded)
    if experiment.has("classes_odise"):
        experiment.write(classes=vote_classes(segments, experiment.read("classes_odise"), eroded))


def s5_flow(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Find how the twin moves inside the mask: by the network, by words, by arrows.  twin, mask -> flow"""
    from text2cinemagraph.pipeline.moving import flow_of, leave_pictures, what_is_told
    from text2cinemagraph.pipeline.own_files import check_mask

    twin_image, mask = experiment.read("twin", "mask")  # [3,H,W] in [0,1]; [1,H,W] bool
    check_mask(mask, twin_image, experiment.path("mask"))
    told = what_is_told(options, experiment, mask, state)
    flow, hint = flow_of(options, state, told, image=twin_image, mask=mask)  # [2,H,W], px/frame
    leave_pictures(options, experiment, told, flow=flow, hint=hint, mask=mask)
    experiment.write(flow=flow)


def s6_video(options: InferenceOptions, experiment: Experiment, state: RunState) -> None:
    """Let the image flow, and close the loop.  image, flow, mask -> video"""
    from text2cinemagraph.data.animation import ClipWriter
    from text2cinemagraph.data.media import to_uint8
    from text2cinemagraph.evaluate.steadiness import LoopLine
    from text2cinemagraph.models.video import lay_over
    from text2cinemagraph.pipeline.animating import preview_of, renderer_of, rendering_in
    from text2cinemagraph.pipeline.own_files import check_mask, size_text
    from text2cinemagraph.softmax_splatting.compiled import COMPILE_TIMES

    o = options.video
    image, flow, mask = experiment.read("image", "flow", "mask")
    check_mask(mask, image, experiment.path("mask"))
    if flow.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"{experiment.path('flow')} is for {size_text(flow)}, the picture is {size_text(image)}; run s5 again"
        )
    if not (flow * mask).any():
        raise ValueError(
            f"{experiment.path('flow')} is zero inside the mask: nothing would move; run s5 again or give --flow"
        )
    renderer = renderer_of(o, state.networks, state.runtime)
    rendering, fps = rendering_in(experiment, o, mask), o.fps
    if o.preview:
        image, flow, mask, rendering, fps = preview_of(image, flow, mask, rendering, fps=fps)
    frames = renderer.set_image(image, mask).render(flow, **rendering)
    line = LoopLine(mask)
    with ClipWriter(experiment.path("video"), o.formats, fps, o.quality) as video:
        for frame in tqdm(frames, "s6 frames", total=rendering["n_frames"]):
            moving = (to_uint8(frame),) if o.alpha else ()
            pixels = to_uint8(lay_over(frame[:3], image, frame[3:]) if o.alpha else frame)
            line.add(pixels)
            video.write(pixels, *moving)
    state.loop = line.numbers()
    if line.text():
        tqdm.write(line.text())
    if compiled := COMPILE_TIMES.told():
        tqdm.write(f"s6: {compiled}, which the next run finds on disk")


# One row a stage: all that the rest of the house knows of it (pipeline/stages.py says what each column means).
STAGES = (
    Stage(
        "s1",
        s1_artistic_image,
        section="twin_extraction",
        needs=(),
        makes=(
            Picture("image", "image.png"),
            Tensors("noise", "noise.safetensors"),
            Tensors("attention", "attention.safetensors"),
        ),
        also=(Picture("photograph", "photograph.png"), Tensors("inversion", "inversion.safetensors")),
        inverts=True,
        networks=("diffusion",),
        panels=(Panel("s1  image", ("image",), "picture"),),
    ),
    Stage(
        "s2",
        s2_twin,
        section="twin_generation",
        needs=("noise",),
        makes=(Picture("twin", "twin.png"),),
        also=(Picture("twin_refused", "twin_refused.png"),),
        networks=("diffusion",),
        panels=(Panel("s2  twin", ("twin",), "picture"),),
    ),
    Stage(
        "s3",
        s3_mask,
        section="odise",
        needs=("twin",),
        makes=(Mask("mask_odise", "mask_odise.png"),),
        also=(Classes("classes_odise", "mask_classes.png"),),
        networks=("segmenter",),
        panels=(Panel("s3  what moves", ("twin", "mask_odise"), "marked"),),
    ),
    Stage(
        "s4",
        s4_attention_mask,
        section="attn_mask",
        needs=("mask_odise", "attention"),
        optional=("attention",),
        makes=(Mask("mask", "mask_self_attn_erosion.png"), Mask("mask_self_attn", "mask_self_attn.png")),
        also=(Picture("clusters", "clusters.png"), Classes("classes", "mask_classes_voted.png")),
        panels=(Panel("s4  sharpened", ("image", "mask"), "marked"),),
    ),
    Stage(
        "s5",
        s5_flow,
        section="optical_flow",
        needs=("twin", "mask"),
        reads=("motion",),
        makes=(Flow("flow", "flow.npz"),),
        also=(
            Picture("hint", "hint.png"),
            Picture("flow_color", "synthesized_flow.png"),
            Motion("motion", "motion.json"),
            Picture("motion_picture", "motion.png"),
        ),
        networks=("motion",),
        panels=(Panel("s5  flow", ("flow",), "flow"), Panel("s5  motion", ("motion_picture",), "picture")),
    ),
    Stage(
        "s6",
        s6_video,
        section="video",
        needs=("image", "flow", "mask"),
        makes=(Clip("video", "video.mp4"),),
        networks=("video",),
        panels=(Panel("s6  ", ("video",), "clip"),),
    ),
)
# s1 under --style, by painting.method
PAINTED = {
    "rule": Stage(
        "s1",
        s1_painted_image,
        section="painting",
        needs=("photograph",),
        always=True,
        makes=(Picture("image", "image.png"),),
        networks=("segmenter",),
        panels=STAGES[0].panels,
    ),
    "diffusion": Stage(
        "s1",
        s1_picture_in_other_words,
        section="painting",
        needs=("photograph",),
        always=True,
        makes=(Picture("image", "image.png"), Tensors("attention", "attention.safetensors")),
        networks=("diffusion",),
        panels=STAGES[0].panels,
    ),
}
# s2, by twin_generation.method
TWINS = {
    "inject": STAGES[1],
    "edit": replace(STAGES[1], run=s2_instructed_twin, needs=("image",), networks=("editor",)),
}
ARTIFACTS = artifacts_of(STAGES)
FILES = {artifact.name: artifact.file for artifact in ARTIFACTS}


def rows_of(options: InferenceOptions) -> tuple[Stage, ...]:
    """The rows of the table in the forms that the options ask for."""
    first = PAINTED[options.painting.method] if options.painting.style else STAGES[0]
    return first, TWINS[options.twin_generation.method], *STAGES[2:]


def main(
    argv: list[str] | None = None, networks: Networks | None = None, numbers: dict[str, Any] | None = None
) -> None:
    """Read the command line, lay your own files in place, run the chosen stages of the table.

    networks: a shelf (pipeline.networks.Networks) to share with other runs of this process; None = one of its own.
    numbers: a dict that gets what the run took and made: seconds and peak (bytes) of each stage, and the clip's loop.
    """
    options, chosen, said = read_command_line(argv, __doc__, STAGES)
    experiment = Experiment(options.twin_extraction.exp_path_root, options.twin_extraction.experiment_name, ARTIFACTS)
    settle_seed(options, chosen, experiment)
    motion = drawn_motion(options, chosen, experiment)
    follow_motion_file(options, motion, said)
    drawn = motion is not None and bool(motion.arrows)
    check_prompt(options, chosen, drawn)
    check_style(options, chosen, experiment)
    check_networks(options, chosen, experiment, drawn)

    from text2cinemagraph.data.files import make_folder
    from text2cinemagraph.data.summary import write_summary
    from text2cinemagraph.options.devices import start_line
    from text2cinemagraph.options.runtime import make_runtime
    from text2cinemagraph.pipeline.estimates import check_clip
    from text2cinemagraph.pipeline.own_files import place_inputs

    o, r = options.twin_extraction, options.runtime
    runtime = make_runtime(r.device, r.dtype, o.seed, r.threads, slicing=r.slicing)
    print(start_line(runtime), flush=True)
    if STAGES[0].name in chosen:
        make_folder(experiment.folder)  # told now, not after minutes of drawing
    given = place_inputs(options, chosen, experiment)
    if STAGES[-1].name in chosen:
        check_clip(options, experiment, runtime, drawn=STAGES[0].name in chosen and not experiment.given("image"))
    injecting = "s2" in chosen and options.twin_generation.method == "inject"
    state = RunState(runtime, networks or Networks(), keep_features=injecting)
    inverting = options.inverts and bool(options.painting.style or options.inputs.image)
    costs = run_stages(rows_of(options), chosen, options, experiment, state=state, given=given, inverting=inverting)
    if numbers is not None:
        numbers["seconds"] = {name: cost.seconds for name, cost in costs.items()}
        numbers["peak"] = {name: cost.peak for name, cost in costs.items()}
        numbers["loop"] = state.loop
    if not options.video.preview:
        write_summary(experiment, [panel for stage in STAGES for panel in stage.panels])
    print(closing_lines(costs, chosen, STAGES, experiment))
    for name in experiment.stale():
        print(f"note: {name} was made from files that have changed since; run --stage {name} to bring it up to date")
    print(f"video: {experiment.path('video')}" if experiment.has("video") else f"folder: {experiment.folder}")


def t2c() -> None:
    """The console script `t2c`."""
    run_main(main)


if __name__ == "__main__":
    run_main(main)
