"""What s1 and s2 are told to draw, and which features of the drawing are kept."""

from __future__ import annotations

from text2cinemagraph.data.hint import without_directions
from text2cinemagraph.img2img.diffusion import Diffusion, load_diffusion
from text2cinemagraph.img2img.features import ldm_layer
from text2cinemagraph.img2img.twin import FeaturePlan
from text2cinemagraph.options.inference import InferenceOptions, TwinExtraction
from text2cinemagraph.pipeline.stages import RunState


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


def feature_plan(options: InferenceOptions) -> FeaturePlan:
    """Which layers s1 keeps for s2 and s4: by name where the YAML names them, else Stable Diffusion's as published."""
    t, m = options.twin_generation, options.attn_mask
    blocks = [("input", i) for i in m.input_blocks] + [("output", i) for i in m.output_blocks]
    return FeaturePlan(
        twin_attention=tuple(t.attention_layers) or tuple(ldm_layer("output", i, "attentions") for i in range(4, 12)),
        twin_resnets=tuple(t.feature_layers) or (ldm_layer("output", 4, "resnets"),),
        mask_attention=tuple(m.layers) or tuple(ldm_layer(side, i, "attentions") for side, i in blocks),
        resnet_threshold=t.feature_injection_threshold,
        max_timestep=m.max_timestep,
    )
