"""What s1 and s2 are told to draw, and which features of the drawing are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from text2cinemagraph.data.hint import without_directions
from text2cinemagraph.img2img.diffusion import Diffusion, load_diffusion
from text2cinemagraph.img2img.families import mask_layers, twin_layers
from text2cinemagraph.img2img.features import ldm_layer
from text2cinemagraph.img2img.twin import FeaturePlan
from text2cinemagraph.options.inference import INPUT_BLOCKS, OUTPUT_BLOCKS, InferenceOptions, TwinExtraction
from text2cinemagraph.pipeline.stages import RunState

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def load_drawing_model(options: InferenceOptions, state: RunState) -> Diffusion:
    """The diffusion model that s1 and s2 share."""
    o = options.twin_extraction
    return state.networks.get("diffusion", load_diffusion, o.ckpt, state.runtime, o.ema, o.tokenizer)


def source_of(o: TwinExtraction, own: bool) -> tuple[str, float]:
    """(prompt, guidance_scale) with which s1 draws the source.

    own: the source is the user's picture: what was inverted without words comes back without words.
    Direction clauses are for s5; Stable Diffusion would paint them.
    """
    return ("", 1.0) if own else (without_directions(o.prompt), o.scale)


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
