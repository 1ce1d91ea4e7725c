"""Stable Diffusion 1.x, 2.x and XL in one file, as they are released (.ckpt, .safetensors), taken apart into diffusers'
classes.

The sizes are read off the tensors, so that any model of these shapes loads. The words' list is in no such file: the
tokenizer comes from a folder. Names: those of the LDM code base, converted by diffusers' own tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from text2cinemagraph.data.checkpoint import read_tensors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET, UNET_EMA, VAE, TEXT = (
    "model.diffusion_model.",
    "model_ema.",
    "first_stage_model.",
    "cond_stage_model.transformer.",
)
OPEN = "cond_stage_model.model."  # the text encoder of 2.x, in OpenCLIP's names
XL = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")  # of XL: CLIP's and OpenCLIP's
NEEDED = {
    "U-Net": (UNET + "input_blocks.0.0.weight",),
    "autoencoder": (VAE + "decoder.conv_in.weight",),
    "text encoder": (
        TEXT + "text_model.embeddings.token_embedding.weight",
        OPEN + "token_embedding.weight",
        XL[1] + "token_embedding.weight",
    ),
}
TOKENIZERS = (
    "tokenizer",
    "stable-diffusion-v1-4/tokenizer",
    "../stable-diffusion-v1-4/tokenizer",
)  # looked for beside the file
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}  # v1-inference.yaml of CompVis; 2.x and XL have the same
XL_SCALING = 0.13025  # of the latents, sd_xl_base.yaml
HEAD = 64  # channels of a head in 2.x and XL; 1.x has 8 heads everywhere
EPSILON_NAMES = (
    "base",
    "512",
)  # in the names of the released files of 2.x that predict the noise; the others predict v


@dataclass(frozen=True)
class SingleFile:
    """What one file holds, on the CPU in float32.

    pads_with: the word that fills a prompt up, of each text encoder; None: as the tokenizer has it.
    second: the second text encoder of XL.
    """

    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    pads_with: tuple[str | None, ...] = (None,)
    second: CLIPTextModelWithProjection | None = None


def read_single_file(path: str | Path, ema: bool = False, predicts: str = "auto") -> SingleFile:
    """Take a file apart.

    ema: take the U-Net's averaged weights (model_ema.*) where the file holds both; the authors sample with the others.
    predicts: "epsilon", "v_prediction", or "auto": no file says it; v for 2.x unless its name is that of a file that
    predicts the noise, the noise for the others.
    Raises ValueError for a file of another shape.
    """
    state = read_tensors(path)
    missing = [part for part, names in NEEDED.items() if not any(name in state for name in names)]
    if missing:
        raise ValueError(
            f"{path} holds no {', '.join(missing)} of Stable Diffusion 1.x, 2.x or XL; expected names such as "
            f"{NEEDED['U-Net'][0]}"
        )
    names = [name for name in state if name.startswith(UNET)]
    pooled = state[f"{XL[1]}text_projection"].shape[1] if f"{XL[1]}text_projection" in state else 0
    unet = unet_of({n: _averaged(state, n, path) if ema else state[n] for n in names}, pooled)
    kind = (
        "sd2" if OPEN + "token_embedding.weight" in state else "sdxl" if NEEDED["text encoder"][2] in state else "sd1"
    )
    if predicts == "auto":
        by_name = any(word in Path(path).stem for word in EPSILON_NAMES)
        predicts = "v_prediction" if kind == "sd2" and not by_name else "epsilon"
    scheduler = DDIMScheduler(**SCHEDULER, prediction_type=predicts)
    if kind == "sd1":
        return SingleFile(text_encoder_of(state), vae_of(state), unet, scheduler)
    if kind == "sd2":  # it reads the last layer but one, so that the last is left out
        return SingleFile(open_clip_of(state, OPEN, skip=1), vae_of(state), unet, scheduler, ("!",))
    first, second = text_encoder_of(state, XL[0]), open_clip_of(state, XL[1], CLIPTextModelWithProjection)
    return SingleFile(first, vae_of(state, XL_SCALING), unet, scheduler, (None, "!"), second)


def _averaged(state, name, path):
    """The averaged twin of a U-Net tensor: LDM writes its name without the dots."""
    flat = UNET_EMA + name.removeprefix("model.").replace(".", "")
    if flat not in state:
        raise ValueError(f"{path} holds no averaged weights ({flat} is missing); set twin_extraction.ema=false")
    return state[flat]


def unet_of(state: dict[str, torch.Tensor], pooled: int = 0) -> UNet2DConditionModel:
    """UNet2DConditionModel of tensors named model.diffusion_model.*   pooled: channels of XL's pooled text."""
    widths: list[int] = []
    # Two residual blocks a level, then a downsampler.
    while (name := f"{UNET}input_blocks.{3 * len(widths) + 1}.0.in_layers.2.weight") in state:
        widths.append(state[name].shape[0])
    if not widths:
        raise ValueError("the U-Net has no input_blocks.1.0; expected Stable Diffusion 1.x, 2.x or XL")
    depths = [_depth(state, f"{UNET}input_blocks.{3 * i + 1}.1.") for i in range(len(widths))]
    context = next(t.shape[1] for name, t in state.items() if name.endswith("attn2.to_k.weight"))
    first, last = state[f"{UNET}input_blocks.0.0.weight"], state[f"{UNET}out.2.weight"]
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    linear = any(name.endswith("proj_in.weight") and t.ndim == 2 for name, t in state.items())
    unet = UNet2DConditionModel(
        in_channels=first.shape[1],
        out_channels=last.shape[0],
        block_out_channels=tuple(widths),
        layers_per_block=2,
        cross_attention_dim=context,
        attention_head_dim=tuple(max(1, width // HEAD) for width in widths) if linear else 8,  # diffusers means heads
        use_linear_projection=linear,
        transformer_layers_per_block=tuple(depth or 1 for depth in depths),
        down_block_types=tuple(down),
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(down)),
        **_added(state, pooled),
    )
    _fill(unet, convert_ldm_unet_checkpoint(state, dict(unet.config)), "U-Net")
    return unet


def _depth(state, prefix):
    """How many transformer blocks there are below a name."""
    blocks = {
        name.removeprefix(prefix).split(".")[1] for name in state if name.startswith(f"{prefix}transformer_blocks.")
    }
    return len(blocks)


def _added(state, pooled):
    """What the U-Net of XL is told besides: a pooled text of `pooled` channels, and six numbers of a size."""
    if f"{UNET}label_emb.0.0.weight" not in state:
        return {}
    told = state[f"{UNET}label_emb.0.0.weight"].shape[1]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (told - pooled) // 6,
        "projection_class_embeddings_input_dim": told,
    }


def vae_of(state: dict[str, torch.Tensor], scaling: float = 0.18215) -> AutoencoderKL:
    """AutoencoderKL of tensors named first_stage_model.*   scaling: of its latents."""
    widths: list[int] = []
    while (name := f"{VAE}encoder.down.{len(widths)}.block.0.conv2.weight") in state:
        widths.append(state[name].shape[0])
    blocks = sum(f"{VAE}encoder.down.0.block.{i}.conv1.weight" in state for i in range(8))
    vae = AutoencoderKL(
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        latent_channels=state[f"{VAE}decoder.conv_in.weight"].shape[1],
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        scaling_factor=scaling,
    )
    _fill(vae, convert_ldm_vae_checkpoint(state, dict(vae.config)), "autoencoder")
    return vae


def text_encoder_of(state: dict[str, torch.Tensor], prefix: str = TEXT) -> CLIPTextModel:
    """CLIPTextModel of tensors named <prefix>text_model.*"""
    prefix = f"{prefix}text_model."
    own = {
        name.removeprefix(prefix): t
        for name, t in state.items()
        if name.startswith(prefix) and not name.endswith("position_ids")
    }
    layers = sum(name.endswith("layer_norm1.weight") for name in own)
    model = CLIPTextModel(
        _text_config(
            own["embeddings.token_embedding.weight"],
            len(own["embeddings.position_embedding.weight"]),
            intermediate_size=own["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=layers,
            hidden_act="quick_gelu",
        )
    )
    _fill(model, _named_for(model, {f"text_model.{name}": tensor for name, tensor in own.items()}), "text encoder")
    return model


def open_clip_of(
    state: dict[str, torch.Tensor], prefix: str, kind: Any = CLIPTextModel, skip: int = 0
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A text encoder of OpenCLIP's names.  kind: its class.   skip: how many of its last layers are left out."""
    own = {name: t for name, t in state.items() if name.startswith(prefix)}
    layers = sum(name.endswith("ln_1.weight") for name in own)
    left_out = tuple(f"{prefix}transformer.resblocks.{layers - 1 - i}." for i in range(skip))
    own = {name: t for name, t in own.items() if not name.startswith(left_out)} if skip else own
    projection = own.get(f"{prefix}text_projection")
    config = _text_config(
        own[f"{prefix}token_embedding.weight"],
        len(own[f"{prefix}positional_embedding"]),
        intermediate_size=own[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=layers - skip,
        hidden_act="gelu",
        **({} if projection is None else {"projection_dim": projection.shape[1]}),
    )
    model = kind(config)
    tensors = convert_open_clip_checkpoint(model, own, prefix=prefix)
    if kind is CLIPTextModel:
        tensors.pop("text_projection.weight", None)
    _fill(model, _named_for(model, tensors), "text encoder")
    return model


def _text_config(tokens, positions, **more):
    vocabulary, width = tokens.shape
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=positions,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **more,
    )


def _named_for(model, tensors):
    """Tensors named text_model.* as this transformers names them: without it for a CLIPTextModel from 5.6 on."""
    if any(name.startswith("text_model.") for name in model.state_dict()):
        return tensors
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def _fill(model, tensors, part):
    """Strictly, in the model's own precision."""
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"its {part} is not of Stable Diffusion 1.x, 2.x or XL: {' '.join(str(error).split())[:200]}"
        ) from error


def tokenizer_folder(path: str | Path, wanted: str = "") -> Path:
    """The tokenizer of a single file: the folder asked for, or one of the places beside it; FileNotFoundError naming
    them.
    """
    places = [Path(wanted)] if wanted else [Path(path).parent / place for place in TOKENIZERS]
    for place in places:
        if (place / "vocab.json").is_file() or (place / "tokenizer.json").is_file():
            return place
    raise FileNotFoundError(
        f"{path} needs CLIP's tokenizer, which no such file holds; looked for vocab.json in "
        f"{', '.join(map(str, places))}; fetch it with `hf download openai/clip-vit-large-patch14 vocab.json "
        f"merges.txt --local-dir {places[0]}`"
    )
