"""What differs between the families of diffusion models that s1 and s2 draw with: Stable Diffusion 1.x, 2.x and XL.

A family is read off the folder's own config, never chosen by name. The stages' rules are one for all: the twin takes
the queries and keys of the decoder's self-attention but the first layer, and the ResNet beside the second; the mask
averages the layers of one grid. For Stable Diffusion 1.x these are the published ones (output blocks 4 to 11 and 4;
input 4, 5 and output 6, 7, 8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Family:
    """One family.

    parts: folders that must be there.   side: px of the square that it was trained on.
    grid: px per cell of the self-attention that s4 averages: about 32x32 cells at `side`, as published.
    """

    name: str
    parts: tuple[str, ...]
    side: int
    grid: int


BASE = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
FAMILIES = {
    "sd1": Family("Stable Diffusion 1.x", BASE, 512, 16),
    "sd2": Family("Stable Diffusion 2.x", BASE, 768, 16),
    "sdxl": Family("Stable Diffusion XL", (*BASE, "tokenizer_2", "text_encoder_2"), 1024, 32),
}


def family_of(config: dict[str, Any]) -> Family:
    """The family of a U-Net's config, a dict as unet/config.json holds it.  ValueError for one that none of them is."""
    added = config.get("addition_embed_type")
    if added == "text_time":
        return FAMILIES["sdxl"]
    if added or config.get("class_embed_type") or config.get("encoder_hid_dim_type"):
        kind = added or config.get("class_embed_type") or config.get("encoder_hid_dim_type")
        known = ", ".join(family.name for family in FAMILIES.values())
        raise ValueError(f"its U-Net wants a further input ({kind}); known are {known}")
    return FAMILIES["sd2" if config.get("use_linear_projection") else "sd1"]


def read_family(folder: str | Path) -> Family:
    """The family of a diffusers folder, by its unet/config.json."""
    return family_of(json.loads((Path(folder) / "unet" / "config.json").read_text()))


# ---------------------------------------------------------------- words


@dataclass(frozen=True)
class Words:
    """Prompts as a U-Net reads them.  states: [N,tokens,channels].   pooled: [N,channels]."""

    states: torch.Tensor
    pooled: torch.Tensor

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class SecondEncoder:
    """The second tokenizer and text encoder (with a projection) of Stable Diffusion XL.

    zeros_for_empty: the folder's model_index.json wants zeros in the place of an empty prompt.
    """

    tokenizer: Any
    text_encoder: Any
    zeros_for_empty: bool = True


def encode_two(
    first: Callable[[Sequence[str]], torch.Tensor],
    second: SecondEncoder,
    tokenize: Callable[..., torch.Tensor],
    prompts: Sequence[str],
) -> Words:
    """Both encoders' last states but one side by side, and the second one's projected end of text.

    first: prompts -> the first encoder's states [N,tokens,channels].   tokenize: (tokenizer, prompts) -> their numbers.
    """
    found = second.text_encoder(tokenize(second.tokenizer, prompts), output_hidden_states=True)
    states, pooled = torch.cat([first(prompts), found.hidden_states[-2]], -1), found.text_embeds
    if second.zeros_for_empty:
        said = torch.tensor([bool(prompt) for prompt in prompts], device=states.device)
        states, pooled = states * said[:, None, None], pooled * said[:, None]
    return Words(states, pooled)


def added_conditions(words: Words, height: int, width: int) -> dict[str, torch.Tensor]:
    """What the U-Net of Stable Diffusion XL is told besides: the pooled text, and a size in px, uncropped."""
    sizes = torch.tensor([height, width, 0, 0, height, width], dtype=words.pooled.dtype, device=words.pooled.device)
    return {"text_embeds": words.pooled, "time_ids": sizes.expand(len(words), -1)}


# ---------------------------------------------------------------- layers


def attention_blocks(unet: Any, layer: str) -> list[str]:
    """The names of a layer's transformer blocks; its own where it has one, as in Stable Diffusion 1.x and 2.x."""
    count = len(unet.get_submodule(layer).transformer_blocks)
    return [layer] if count == 1 else [f"{layer}.transformer_blocks.{i}" for i in range(count)]


def _layers(unet, side):
    """The attention layers of `side`, "down_blocks" or "up_blocks", in the order in which they run."""
    return [
        f"{side}.{i}.attentions.{j}"
        for i, block in enumerate(getattr(unet, side))
        for j in range(len(getattr(block, "attentions", None) or ()))
    ]


def twin_layers(unet: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(self-attention layers, ResNets) whose features s2 takes over."""
    decoder = _layers(unet, "up_blocks")
    if len(decoder) < 2:
        raise ValueError(
            "this U-Net has fewer than two attention layers in its decoder; name twin_generation.attention_layers"
        )
    attention = tuple(name for layer in decoder[1:] for name in attention_blocks(unet, layer))
    return attention, (decoder[1].replace("attentions", "resnets"),)


def mask_layers(unet: Any, spatial_factor: int = 8) -> tuple[str, ...]:
    """The self-attention layers on the grid of the U-Net's family, all of one resolution.

    spatial_factor: px per latent cell, along each side.
    """
    levels, grid = len(unet.config.block_out_channels), family_of(dict(unet.config)).grid
    down = (grid // spatial_factor).bit_length() - 1  # halvings of the latent
    wanted = (f"down_blocks.{down}.", f"up_blocks.{levels - 1 - down}.")
    found = [
        layer for side in ("down_blocks", "up_blocks") for layer in _layers(unet, side) if layer.startswith(wanted)
    ]
    if not found:
        raise ValueError(f"this U-Net has no self-attention on cells of {grid} px; name attn_mask.layers")
    return tuple(name for layer in found for name in attention_blocks(unet, layer))
