"""What s1 and s2 are told to draw, and which features of the drawing are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.data.hint import without_directions
from text2cinemagraph.data.media import resize_image
from text2cinemagraph.img2img.diffusion import Diffusion, load_diffusion
from text2cinemagraph.img2img.families import mask_layers, twin_layers
from text2cinemagraph.img2img.features import Features, ldm_layer
from text2cinemagraph.img2img.twin import FeaturePlan, invert_picture, twin
from text2cinemagraph.options.inference import INPUT_BLOCKS, OUTPUT_BLOCKS, InferenceOptions, TwinExtraction
from text2cinemagraph.pipeline.stages import RunState

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def load_drawing_model(options: InferenceOptions, state: RunState) -> Diffusion:
    """The diffusion model that s1 and s2 share."""
    o = options.twin_extraction
    how = o.ckpt, state.runtime, o.ema, o.tokenizer
    return state.networks.get("diffusion", load_diffusion, *how, predicts=o.predicts)


def source_of(o: TwinExtraction, own: bool) -> tuple[str, float]:
    """(prompt, guidance_scale) with which s1 draws the source.

    own: the source is the user's picture: what was inverted without words comes back without words.
    Direction clauses are for s5; Stable Diffusion would paint them.
    """
    return ("", 1.0) if own else (without_directions(o.prompt), o.scale)


def noise_generator(options: InferenceOptions, state: RunState) -> torch.Generator:
    """What s1's noise is drawn by."""
    place = state.runtime.device if options.runtime.noise == "device" else "cpu"
    return torch.Generator(place).manual_seed(state.runtime.seed)


def noise_behind(
    picture: torch.Tensor, options: InferenceOptions, experiment: Experiment, state: RunState
) -> torch.Tensor:
    """The noise [1,c,h,w] from which the model draws a picture of the user's own, [3,H,W], without words.

    It is found at a size that the model takes. What an earlier run, perhaps interrupted, has found is used.
    """
    o, diffusion = options.twin_extraction, load_drawing_model(options, state)
    small = resize_image(picture, diffusion.drawing_size(*picture.shape[-2:], min(o.H, o.W)))
    return invert_picture(
        diffusion,
        small,
        o.inversion_steps,
        noise_generator(options, state),
        kept=experiment.read("inversion") if experiment.has("inversion") else None,
        keep=lambda found: experiment.write(inversion=found),
    )


def drawn_over(
    options: InferenceOptions,
    diffusion: Diffusion,
    noise: torch.Tensor,
    *,
    source: tuple[str, float],
    prompt: str,
    features: list[Features] | None,
    title: str,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The picture [3,H,W] in [0,1] that a prompt gives, with the layout of the source drawn from the same noise.

    source: its (prompt, guidance_scale).   features: of its drawing; None: computed beside it.   title: of the
    progress bar.   size: (H, W) to bring the picture to.
    """
    o, t = options.twin_extraction, options.twin_generation
    drawn, _ = twin(
        diffusion,
        noise,
        source[0],
        prompt,
        negative_prompt=t.negative_prompt or source[0],
        source_scale=source[1],
        guidance_scale=t.scale,
        steps=o.ddim_steps,
        negative_alpha=t.negative_prompt_alpha,
        negative_schedule=t.negative_prompt_schedule,
        plan=feature_plan(options, diffusion.unet, diffusion.spatial_factor),
        features=features,
        title=title,
    )
    return drawn[0] if size is None else resize_image(drawn[0], size, mode="bicubic").clamp(0, 1)


def feature_plan(options: InferenceOptions, unet: UNet2DConditionModel, spatial_factor: int = 8) -> FeaturePlan:
    """Which layers s1 keeps for s2 and s4: by name where the YAML names them, else those of the model's family.

    spatial_factor: px per latent cell, along each side.
    """
    t, m = options.twin_generation, options.attn_mask
    blocks = [("input", i) for i in m.input_blocks] + [("output", i) for i in m.output_blocks]
    numbered = [m.input_blocks, m.output_blocks] != [INPUT_BLOCKS, OUTPUT_BLOCKS]
    own = ((), ()) if t.attention_layers and t.feature_layers else twin_layers(unet)
    mask = tuple(ldm_layer(side, i, "attentions") for side, i in blocks) if numbered else ()
    return FeaturePlan(
        twin_attention=tuple(t.attention_layers) or own[0],
        twin_resnets=tuple(t.feature_layers) or own[1],
        mask_attention=tuple(m.layers) or mask or mask_layers(unet, spatial_factor),
        resnet_threshold=t.feature_injection_threshold,
        max_timestep=m.max_timestep,
    )
