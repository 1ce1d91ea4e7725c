"""From one sentence to a seamlessly looping cinemagraph: six stages, in paper order.

    python inference_t2c.py --config configs/inference_mini.yaml
    python inference_t2c.py --config configs/inference_mini.yaml --stage s4 attn_mask.threshold=0.5
    python inference_t2c.py --config configs/inference_mini_directional.yaml --use_hint --image photo.jpg --mask mask.png \\
        --prompt "a river flowing in left to right direction"
"""

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Callable

import torch
import torch.nn.functional as F
from text2cinemagraph.data.animation import ClipWriter
from text2cinemagraph.data.checkpoint import find_checkpoint
from text2cinemagraph.data.experiment import FILES, Experiment
from text2cinemagraph.data.files import make_folder
from text2cinemagraph.data.flow import clamp_flow, flow_to_color, read_flow
from text2cinemagraph.data.hint import DIRECTIONS, direction_hint, find_direction, sample_angle
from text2cinemagraph.data.media import read_image, read_mask
from text2cinemagraph.data.summary import write_summary
from text2cinemagraph.img2img.attention_mask import attention_maps, cluster, clusters_picture, components, erode, vote
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.features import ldm_layer
from text2cinemagraph.img2img.prompts import load_nouns, twin_prompt
from text2cinemagraph.img2img.segment import BACKENDS, choose_backend, segment
from text2cinemagraph.img2img.twin import FeaturePlan, artistic, invert_picture, twin
from text2cinemagraph.models.motion import load_motion_model
from text2cinemagraph.models.video import composite, load_video_model
from text2cinemagraph.options.cli import load_options, run_main
from text2cinemagraph.options.inference import InferenceOptions, TwinExtraction
from text2cinemagraph.options.runtime import DTYPES, make_runtime
from text2cinemagraph.options.train import MotionOptions, VideoOptions
from tqdm import tqdm
from transformers.utils import logging as transformers_log

NOUNS = "dataset/nouns.json"


def s1_artistic_image(options, experiment, runtime):
    """Draw the artistic image and remember what s2 and s4 need of its making.  -> image, noise, attention"""
    o, own, generator = options.twin_extraction, experiment.given("image"), torch.Generator().manual_seed(runtime.seed)
    diffusion = load_diffusion(o.ckpt, runtime, o.ema, o.tokenizer)
    if own:  # your picture: find the noise that leads to it
        image = experiment.read("image")
        size = diffusion.drawing_size(*image.shape[-2:], min(o.H, o.W))
        noise = invert_picture(
            diffusion,
            F.interpolate(image[None], size, mode="bilinear", antialias=True)[0],
            o.inversion_steps,
            generator,
        )
    else:
        noise = torch.randn(diffusion.latent_shape(o.H, o.W), generator=generator)
    prompt, scale = source_of(o, own)
    made = artistic(
        diffusion,
        noise,
        prompt,
        guidance_scale=scale,
        steps=o.ddim_steps,
        plan=feature_plan(options),
        feature_memory=options.twin_generation.feature_memory_gb * 1e9 if experiment.kept.pop("wanted", False) else 0,
    )
    experiment.write(noise=noise, attention=made.attention.tensors(), **({} if own else {"image": made.image[0]}))
    experiment.kept["features"] = made.features


def s2_twin(options, experiment, runtime):
    """Draw the picture again as a photograph would show it, holding its layout.  noise -> twin"""
    o, t = options.twin_extraction, options.twin_generation
    diffusion = load_diffusion(o.ckpt, runtime, o.ema, o.tokenizer)
    drawn_with = experiment.options_of("s1") or asdict(options)  # what s1 saw counts, whatever the options say by now
    source, source_scale = source_of(TwinExtraction(**drawn_with["twin_extraction"]), experiment.given("image"))
    if drawn_with["twin_extraction"]["ddim_steps"] != o.ddim_steps:
        raise ValueError(
            f"s1 took {drawn_with['twin_extraction']['ddim_steps']} steps, twin_extraction.ddim_steps={o.ddim_steps}: source and "
            "twin walk the same steps; run s1 again, or set it back"
        )
    prompt = t.prompt or twin_prompt(find_direction(o.prompt)[1], load_nouns(NOUNS))
    tqdm.write(f"s2: twin prompt: {prompt}")
    drawn, _ = twin(
        diffusion,
        experiment.read("noise"),
        source,
        prompt,
        negative_prompt=source if t.negative_prompt is None else t.negative_prompt,
        source_scale=source_scale,
        guidance_scale=t.scale,
        steps=o.ddim_steps,
        negative_alpha=t.negative_prompt_alpha,
        negative_schedule=t.negative_prompt_schedule,
        plan=feature_plan(options),
        features=experiment.kept.pop("features", None),
    )
    if experiment.given("image"):  # drawn at a size that the model takes: back to your picture's
        drawn = F.interpolate(drawn, experiment.read("image").shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    experiment.write(twin=drawn[0])


def s3_mask(options, experiment, runtime):
    """Find in the twin what the vocabulary names.  twin -> mask_odise"""
    o = options.odise
    name, checkpoint = choose_backend(o.backend, o.checkpoint)
    tqdm.write(f"s3: {name} with {checkpoint or 'its own weights'} (licence: {BACKENDS[name].licence})")
    found = segment(experiment.read("twin"), o.vocab, name, checkpoint, runtime)
    experiment.write(mask_odise=found.mask)


def s4_attention_mask(options, experiment, runtime):
    """Sharpen the mask by what the artistic image's self-attention holds together.  mask_odise, attention -> mask"""
    o = options.attn_mask
    mask = experiment.read("mask_odise")
    if not experiment.has("attention"):  # a picture of yours that was not inverted: nothing to cluster
        tqdm.write("s4: your own picture has no self-attention; the mask of s3 is only eroded")
        voted = mask
    else:
        maps, grid = attention_maps(experiment.read("attention"))
        segments = components(cluster(maps, grid, o.n_clusters, o.cluster_type, runtime.seed))
        voted = vote(segments, mask, o.threshold, o.combine)
        experiment.write(clusters=clusters_picture(segments, tuple(mask.shape[-2:])))
        if not voted.any() and o.fallback:
            tqdm.write(
                f"s4: no segment lies inside the s3 mask by attn_mask.threshold={o.threshold}; going on with the s3 mask"
            )
            voted = mask
    eroded = erode(voted, o.erosion_ksize, o.erosion_iter)
    if not eroded.any():
        raise ValueError(
            f"s4: nothing is left of the mask: no segment has a share of {o.threshold} inside the s3 mask, or erosion ate it; lower "
            f"attn_mask.threshold or erosion_iter, raise n_clusters, widen odise.vocab ({o.vocab}), or set attn_mask.fallback=true"
        )
    experiment.write(mask_self_attn=voted, mask=eroded)


def s5_flow(options, experiment, runtime):
    """Predict how the twin moves inside the mask.  twin, mask -> flow"""
    o, prompt = options.optical_flow, options.twin_extraction.prompt
    twin_image, mask = experiment.read("twin", "mask")  # [3,H,W] in [0,1]; [1,H,W] bool
    check_mask(mask, twin_image, experiment.path("mask"))
    name = o.hint_model_name if o.use_hint and o.hint_model_name else o.model_name
    model = load_motion_model(f"{o.checkpoints_dir}/{name}", motion_options(o), runtime)
    hint = (
        direction(prompt, mask, o.hint_speed or model.options.hint_speed, model.options.fineSize, runtime.seed)
        if o.use_hint
        else None
    )
    flow = model.predict(twin_image, mask, text=prompt, hint=hint)  # [2,H,W], px/frame
    if hint is not None:
        experiment.write(hint=flow_to_color(hint))
    experiment.write(flow=flow, flow_color=flow_to_color(flow))


def s6_video(options, experiment, runtime):
    """Let the image flow, and close the loop.  image, flow, mask -> video"""
    o = options.video
    image, flow, mask = experiment.read("image", "flow", "mask")
    check_mask(mask, image, experiment.path("mask"))
    if flow.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"{experiment.path('flow')} is for {size_text(flow)}, the picture is {size_text(image)}; run s5 again"
        )
    flow = (
        clamp_flow(flow, o.clamp, limit=min(image.shape[-2:]) / 512) * o.speed * mask
    )  # the authors clamp at +-1 px/frame at 512 px
    if not flow.any():
        raise ValueError(
            f"{experiment.path('flow')} is zero inside the mask: nothing would move; run s5 again or give --flow"
        )
    kind = ("fp32" if runtime.device.type == "cpu" else "bf16") if o.dtype == "auto" else o.dtype
    model = load_video_model(f"{o.checkpoints_dir}/{o.model_name}", video_options(o), runtime, dtype=DTYPES[kind])
    frames = model.frames(image, flow, o.n_frames, o.blend, o.keep_detail, o.engine, o.static_reuse, o.holes)
    with ClipWriter(experiment.path("video"), o.formats, o.fps) as video:
        for frame in tqdm(frames, "s6 frames", total=o.n_frames):
            video.write(composite(frame, image, mask) if o.composite else frame)


def source_of(o, own):
    """(prompt, guidance_scale) with which s1 draws the source: an inverted picture comes back from no words at all."""
    return (
        ("", 1.0) if own else (find_direction(o.prompt)[1], o.scale)
    )  # the direction is for s5; Stable Diffusion would paint it


def feature_plan(options):
    """Which layers s1 keeps for s2 and s4: by name where the YAML names them, else Stable Diffusion's as published."""
    t, m = options.twin_generation, options.attn_mask
    return FeaturePlan(
        twin_attention=tuple(t.attention_layers) or tuple(ldm_layer("output", i, "attentions") for i in range(4, 12)),
        twin_resnets=tuple(t.feature_layers) or (ldm_layer("output", 4, "resnets"),),
        mask_attention=tuple(m.layers)
        or tuple(
            ldm_layer(side, i, "attentions")
            for side, blocks in (("input", m.input_blocks), ("output", m.output_blocks))
            for i in blocks
        ),
        resnet_threshold=t.feature_injection_threshold,
        max_timestep=m.max_timestep,
    )


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Stage:
    """needs: artifacts that must be there.  makes: artifacts that must be there afterwards."""

    name: str
    run: Callable
    needs: tuple
    makes: tuple


STAGES = (
    Stage("s1", s1_artistic_image, needs=(), makes=("image", "noise", "attention")),
    Stage("s2", s2_twin, needs=("noise",), makes=("twin",)),
    Stage("s3", s3_mask, needs=("twin",), makes=("mask_odise",)),
    Stage("s4", s4_attention_mask, needs=("mask_odise", "attention"), makes=("mask_self_attn", "mask")),
    Stage("s5", s5_flow, needs=("twin", "mask"), makes=("flow",)),
    Stage("s6", s6_video, needs=("image", "flow", "mask"), makes=("video",)),
)


def main(argv=None):
    """Read the command line, lay your own files in place, run the chosen stages of the table."""
    transformers_log.disable_progress_bar()  # ours are enough
    options, chosen = read_command_line(argv)
    experiment = Experiment(options.twin_extraction.exp_path_root, options.twin_extraction.experiment_name)
    if options.twin_extraction.seed < 0:  # drawn once per picture, and written down
        before = None if "s1" in chosen else experiment.options_of("s1")
        options.twin_extraction.seed = before["twin_extraction"]["seed"] if before else random_seed()
    r = options.runtime
    runtime = make_runtime(r.device, r.dtype, options.twin_extraction.seed, r.threads, r.slicing)
    check_prompt(options, chosen)
    check_networks(options, chosen)
    if "s1" in chosen:
        make_folder(experiment.folder)  # told now, not after minutes of drawing
    given = place_inputs(options, chosen, experiment)
    seconds, inverting = {}, bool(options.inputs.image and options.twin_extraction.inversion_steps)
    experiment.kept["wanted"] = "s2" in chosen  # s1 alone keeps no features: nobody would read them
    for stage in STAGES:
        if stage.name in chosen:
            reason = not_needed(stage, chosen, given, experiment, inverting)
            if reason:
                print(f"{stage.name} skipped: {reason}")
                continue
            seconds[stage.name] = run_stage(stage, options, experiment, runtime)
    write_summary(experiment)
    print(
        "time: "
        + ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items())
        + f", total {sum(seconds.values()):.1f} s"
    )
    for name in experiment.stale():
        print(f"note: {name} was made from files that have changed since; run --stage {name} to bring it up to date")
    print(f"video: {experiment.path('video')}" if experiment.has("video") else f"folder: {experiment.folder}")


def run_stage(stage, options, experiment, runtime):
    """Check what it needs, run it, check what it makes, write it down.  Returns seconds."""
    for artifact in needs_of(stage, experiment):
        if not experiment.has(artifact):
            maker = next(s.name for s in STAGES if artifact in s.makes)
            raise FileNotFoundError(f"{stage.name} needs {experiment.path(artifact)}; run --stage {maker} first")
    print(f"{stage.name}: {stage.run.__doc__.strip()}", flush=True)
    start = time.perf_counter()
    with torch.inference_mode():
        stage.run(options, experiment, runtime)
    missing = [artifact for artifact in stage.makes if not experiment.has(artifact)]
    assert not missing, f"{stage.name} did not make {missing}"
    own = {"image"} if stage.name == "s1" and experiment.given("image") else set()  # read, not made
    experiment.note(
        stage.name,
        (*needs_of(stage, experiment), *own),
        tuple(a for a in stage.makes if a not in own),
        recorded(options),
    )
    return time.perf_counter() - start


def recorded(options):
    """The options as a dict, without the folder's own place: equal runs leave equal files, wherever they run."""
    sections = asdict(options)
    sections["twin_extraction"] = {
        k: v for k, v in sections["twin_extraction"].items() if k not in ("exp_path_root", "experiment_name")
    }
    return sections


def needs_of(stage, experiment, inverting=False):
    """A stage's needs; a picture of the user's own that was not inverted has no attention, and s4 then does without."""
    without = experiment.given("image") and not experiment.has("attention") and not inverting
    return tuple(a for a in stage.needs if not (a == "attention" and without))


def not_needed(stage, chosen, given, experiment, inverting):
    """Why a chosen stage need not run (what it makes was given, or nobody after it reads it), or ""."""
    result = {"s1": "image", "s2": "twin", "s3": "mask_odise", "s4": "mask", "s5": "flow", "s6": "video"}[stage.name]
    if result in given and not (stage.name == "s1" and inverting):
        return f"{FILES[result]} is yours"
    later = [
        s
        for s in STAGES
        if s.name in chosen and s.name > stage.name and not not_needed(s, chosen, given, experiment, inverting)
    ]
    makes = set(stage.makes) - given
    if stage.name != "s6" and later and not any(a in needs_of(s, experiment, inverting) for s in later for a in makes):
        return f"nothing that runs after it reads {FILES[result]}"
    return ""


# ---------------------------------------------------------------------- the door: command line and the user's own files


def read_command_line(argv):
    """-> (InferenceOptions, names of the chosen stages)."""
    parser = argparse.ArgumentParser(
        usage="python inference_t2c.py [--config YAML] [--stage s1-s6] [section.key=value ...]; --help shows all flags",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/inference.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--stage", default="all", help="all, s1 ... s6, or a span such as s3-s6 (default: all)")
    parser.add_argument("--use_hint", action="store_true", help='follow "in left to right direction" in the prompt')
    parser.add_argument("--prompt", help="what to draw and how it moves (twin_extraction.prompt)")
    parser.add_argument("--name", help="experiment folder under outputs/ (twin_extraction.experiment_name)")
    parser.add_argument("--image", help="your picture, in place of s1's")
    parser.add_argument("--twin", help="your twin, in place of s2's")
    parser.add_argument("--mask", help="your mask of what may move (white), in place of s4's")
    parser.add_argument("--invert_mask", action="store_true", help="in --mask, black is what may move")
    parser.add_argument("--flow", help="your flow in px/frame (npz, npy, pt, flo), in place of s5's")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any option of options/inference.py")
    flags = parser.parse_intermixed_args(argv)
    overrides = list(flags.overrides)
    named = {
        "twin_extraction.prompt": flags.prompt,
        "twin_extraction.experiment_name": flags.name,
        "inputs.image": flags.image,
        "inputs.twin": flags.twin,
        "inputs.mask": flags.mask,
        "inputs.flow": flags.flow,
        "optical_flow.use_hint": "true" if flags.use_hint else None,
        "inputs.invert_mask": "true" if flags.invert_mask else None,
    }
    overrides += [f"{key}={value}" for key, value in named.items() if value is not None]
    if flags.prompt is not None and not any(text.startswith("twin_generation.prompt=") for text in overrides):
        overrides.append(
            "twin_generation.prompt="
        )  # the YAML's belongs to the YAML's prompt: take the nouns of this one
    options = load_options(InferenceOptions, flags.config, overrides)
    options.inputs.image = options.inputs.image or options.twin_extraction.init_img
    return options, chosen_stages(flags.stage)


def chosen_stages(text):
    """ "all", "s3" or "s3-s6" -> the names, in order."""
    names = [stage.name for stage in STAGES]
    first, _, last = ("s1-s6" if text == "all" else text).partition("-")
    if first not in names or (last or first) not in names or (last or first) < first:
        raise ValueError(f"--stage {text} is unknown; use all, one of {', '.join(names)}, or a span such as s3-s6")
    return names[names.index(first) : names.index(last or first) + 1]


def check_prompt(options, chosen):
    """Mistakes in the prompt are told before anything is computed."""
    prompt, (phrase, _) = options.twin_extraction.prompt, find_direction(options.twin_extraction.prompt)
    if "s1" in chosen and not options.inputs.image and not prompt.strip():
        raise ValueError('the prompt is empty; give --prompt "a river …" or twin_extraction.prompt in the YAML')
    if "s5" in chosen and not options.inputs.flow and options.optical_flow.use_hint and phrase is None:
        raise ValueError(
            f'--use_hint needs a direction in the prompt, found none in "{prompt}"; write e.g. "flowing in left to right '
            f'direction"; known directions: {"; ".join(DIRECTIONS)}'
        )
    t = options.twin_generation
    if "s2" in chosen and t.num_ddim_sampling_steps not in (None, options.twin_extraction.ddim_steps):
        raise ValueError(
            f"twin_generation.num_ddim_sampling_steps={t.num_ddim_sampling_steps}, twin_extraction.ddim_steps="
            f"{options.twin_extraction.ddim_steps}: source and twin walk the same steps; leave the former empty"
        )
    if "s5" in chosen and phrase and not options.optical_flow.use_hint:
        print(f'note: the prompt names a direction ("{phrase}"); it is followed only with --use_hint')


def check_networks(options, chosen):
    """The networks of the last stages are looked for before the first one has drawn for minutes."""
    o, v = options.optical_flow, options.video
    if "s5" in chosen and not options.inputs.flow:
        find_checkpoint(
            f"{o.checkpoints_dir}/{o.hint_model_name if o.use_hint and o.hint_model_name else o.model_name}"
        )
    if "s6" in chosen:
        find_checkpoint(f"{v.checkpoints_dir}/{v.model_name}")


def place_inputs(options, chosen, experiment):
    """Check the user's own files, all of them before the first is copied, and lay them into the experiment folder.

    A picture of your own is its own twin, unless you give one or s2 draws one.  Returns the names of the artifacts given.
    """
    o, inverting = options.inputs, options.twin_extraction.inversion_steps > 0
    if o.invert_mask and not o.mask:
        raise ValueError("--invert_mask says how to read --mask, but no mask is given")
    if "s1" in chosen and not o.image:
        experiment.forget("image", "twin")  # an earlier run's own picture: this one is drawn
    image = read_image(o.image) if o.image else None
    drawn = inverting and ({"s1", "s2"} & set(chosen) or (experiment.given("image") and experiment.has("attention")))
    twin_image = read_image(o.twin) if o.twin else None if drawn else image
    size = picture_size(image, options.twin_extraction, chosen, experiment)
    flow = read_flow(o.flow) if o.flow else None
    mask = read_mask(o.mask, size, o.invert_mask) if o.mask else None
    if mask is None and flow is not None and ("s1" in chosen or not experiment.has("mask")):
        mask = (flow != 0).any(0, keepdim=True)  # s6 needs to know what may move: whatever your flow moves
    if mask is not None and not mask.any():
        raise ValueError(
            f"{o.mask or o.flow} marks nothing to move: it is black (or zero) everywhere; paint white what may move"
        )
    if o.mask and mask.all():
        print(f"note: {o.mask} marks the whole picture; if black was meant to move, add --invert_mask")
    for name, value in (("twin", twin_image), ("flow", flow)):
        if size and value is not None and tuple(value.shape[-2:]) != size:
            raise ValueError(
                f"the {name} {getattr(o, name)} is {size_text(value)}, the picture {size[1]}x{size[0]}; they must match"
            )
    given = {
        name: value
        for name, value in (("image", image), ("twin", twin_image), ("mask", mask), ("flow", flow))
        if value is not None
    }
    experiment.give(**given)
    return set(given)


def picture_size(image, o, chosen, experiment):
    """(H, W) of the picture that the user's files must match: the given one, the one s1 will make, or the one already there."""
    if image is None and "s1" in chosen:
        return o.H, o.W
    if image is None and experiment.has("image"):
        image = experiment.read("image")
    return None if image is None else tuple(image.shape[-2:])


def direction(prompt, mask, speed, fine_size, seed):
    """The direction clause of the prompt as a hint of [2,H,W] px/frame, equally long inside the whole mask.

    speed: px/frame at fine_size, the short side in px at which the network works.
    """
    phrase, _ = find_direction(prompt)
    if phrase is None:
        raise ValueError(f'no direction in the prompt "{prompt}"; write e.g. "in left to right direction"')
    return direction_hint(mask, sample_angle(phrase, seed), speed * min(mask.shape[-2:]) / fine_size)


def check_mask(mask, image, path):
    """A mask must have the picture's size and mark something."""
    if mask.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"{path} is {size_text(mask)}, the picture {size_text(image)}; they must match")
    if not mask.any():
        raise ValueError(f"{path} is black everywhere: nothing may move; run s3 and s4 again or give --mask")


def size_text(tensor):
    """Width x height, as people say it."""
    return f"{tensor.shape[-1]}x{tensor.shape[-2]}"


def random_seed():
    """A seed for seed=-1, told so that the picture can be made again."""
    seed = int(torch.randint(2**31, (1,)).item()) ^ (time.time_ns() & 0x7FFFFFFF)
    print(f"seed: {seed} (drawn, because twin_extraction.seed is -1)")
    return seed


def motion_options(o):
    """The architecture as the YAML says it, for a checkpoint without a card."""
    return MotionOptions(
        netG=o.netG,
        input_nc=o.input_nc,
        output_nc=o.output_nc,
        norm=o.norm,
        fineSize=o.fineSize,
        use_prompts=o.use_prompts,
        motion_norm=o.motion_norm,
        text_encoder_path=o.tokenizer_path,
    )


def video_options(o):
    """The architecture as the YAML says it, for a checkpoint without a card."""
    return VideoOptions(netG=o.netG)


if __name__ == "__main__":
    run_main(main)
