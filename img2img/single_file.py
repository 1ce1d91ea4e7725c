"""Stable Diffusion 1.x in one file, as CompVis and others release it (.ckpt, .safetensors), taken apart into diffusers' classes.

The sizes are read off the tensors, so that any model of the 1.x shape loads. The words' list is in no such file: the tokenizer comes
from a folder. Names: SPEC of the LDM code base, converted by diffusers' own tables.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from text2cinemagraph.data.checkpoint import read_tensors
from transformers import CLIPTextConfig, CLIPTextModel

UNET, UNET_EMA, VAE, TEXT = (
    "model.diffusion_model.",
    "model_ema.",
    "first_stage_model.",
    "cond_stage_model.transformer.",
)
NEEDED = {
    "U-Net": UNET + "input_blocks.0.0.weight",
    "autoencoder": VAE + "decoder.conv_in.weight",
    "text encoder": TEXT + "text_model.embeddings.token_embedding.weight",
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
}  # v1-inference.yaml of CompVis


def read_single_file(
    path: str | Path, ema: bool = False
) -> tuple[CLIPTextModel, AutoencoderKL, UNet2DConditionModel, DDIMScheduler]:
    """-> (text_encoder, vae, unet, DDIMScheduler), on the CPU in float32.

    ema: take the U-Net's averaged weights (model_ema.*) where the file holds both; the authors sample with the others.
    Raises ValueError for a file of another shape.
    """
    state = read_tensors(path)
    missing = [part for part, name in NEEDED.items() if name not in state]
    if missing:
        raise ValueError(
            f"{path} holds no {', '.join(missing)} of Stable Diffusion 1.x; expected names such as {next(iter(NEEDED.values()))}"
        )
    names = [name for name in state if name.startswith(UNET)]
    return (
        text_encoder_of(state),
        vae_of(state),
        unet_of({n: _averaged(state, n, path) if ema else state[n] for n in names}),
        DDIMScheduler(**SCHEDULER),
    )


def _averaged(state, name, path):
    """The averaged twin of a U-Net tensor: LDM writes its name without the dots."""
    flat = UNET_EMA + name.removeprefix("model.").replace(".", "")
    if flat not in state:
        raise ValueError(f"{path} holds no averaged weights ({flat} is missing); set twin_extraction.ema=false")
    return state[flat]


def unet_of(state: dict[str, torch.Tensor]) -> UNet2DConditionModel:
    """UNet2DConditionModel of tensors named model.diffusion_model.*"""
    widths, level = [], 0
    while (
        f"{UNET}input_blocks.{3 * level + 1}.0.in_layers.2.weight" in state
    ):  # two residual blocks, then a downsampler
        widths.append(state[f"{UNET}input_blocks.{3 * level + 1}.0.in_layers.2.weight"].shape[0])
        level += 1
    if not widths:
        raise ValueError("the U-Net has no input_blocks.1.0; expected Stable Diffusion 1.x")
    attends = [f"{UNET}input_blocks.{3 * i + 1}.1.norm.weight" in state for i in range(level)]
    context = next(t.shape[1] for name, t in state.items() if name.endswith("attn2.to_k.weight"))
    first, last = state[f"{UNET}input_blocks.0.0.weight"], state[f"{UNET}out.2.weight"]
    down = ["CrossAttnDownBlock2D" if attends[i] else "DownBlock2D" for i in range(level)]
    unet = UNet2DConditionModel(
        in_channels=first.shape[1],
        out_channels=last.shape[0],
        block_out_channels=tuple(widths),
        layers_per_block=2,
        cross_attention_dim=context,
        attention_head_dim=8,
        down_block_types=tuple(down),  # diffusers calls 8 heads so
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(down)),
    )
    _fill(unet, convert_ldm_unet_checkpoint(state, dict(unet.config)), "U-Net")
    return unet


def vae_of(state: dict[str, torch.Tensor]) -> AutoencoderKL:
    """AutoencoderKL of tensors named first_stage_model.*"""
    widths, level = [], 0
    while f"{VAE}encoder.down.{level}.block.0.conv2.weight" in state:
        widths.append(state[f"{VAE}encoder.down.{level}.block.0.conv2.weight"].shape[0])
        level += 1
    blocks = sum(f"{VAE}encoder.down.0.block.{i}.conv1.weight" in state for i in range(8))
    vae = AutoencoderKL(
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        latent_channels=state[f"{VAE}decoder.conv_in.weight"].shape[1],
        down_block_types=("DownEncoderBlock2D",) * level,
        up_block_types=("UpDecoderBlock2D",) * level,
    )
    _fill(vae, convert_ldm_vae_checkpoint(state, dict(vae.config)), "autoencoder")
    return vae


def text_encoder_of(state: dict[str, torch.Tensor]) -> CLIPTextModel:
    """CLIPTextModel of tensors named cond_stage_model.transformer.text_model.*"""
    prefix = TEXT + "text_model."
    own = {
        name.removeprefix(prefix): t
        for name, t in state.items()
        if name.startswith(prefix) and not name.endswith("position_ids")
    }
    vocabulary, width = own["embeddings.token_embedding.weight"].shape
    layers = sum(name.endswith("layer_norm1.weight") for name in own)
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=own["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            hidden_act="quick_gelu",
            max_position_embeddings=len(own["embeddings.position_embedding.weight"]),
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
    if any(name.startswith("text_model.") for name in model.state_dict()):  # transformers before 5
        own = {f"text_model.{name}": tensor for name, tensor in own.items()}
    _fill(model, own, "text encoder")
    return model


def _fill(model, tensors, part):
    """Strictly, in the model's own precision."""
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"its {part} is not of Stable Diffusion 1.x: {' '.join(str(error).split())[:200]}") from error


def tokenizer_folder(path: str | Path, wanted: str = "") -> Path:
    """The tokenizer of a single file: the folder asked for, or one of the places beside it; FileNotFoundError naming them."""
    places = [Path(wanted)] if wanted else [Path(path).parent / place for place in TOKENIZERS]
    for place in places:
        if (place / "vocab.json").is_file() or (place / "tokenizer.json").is_file():
            return place
    raise FileNotFoundError(
        f"{path} needs CLIP's tokenizer, which no such file holds; looked for vocab.json in "
        f"{', '.join(map(str, places))}; fetch it with `hf download openai/clip-vit-large-patch14 vocab.json "
        f"merges.txt --local-dir {places[0]}`"
    )
