"""Every family of diffusion models of s1 and s2 against diffusers' pipeline: the same latents, the same picture.

    python -m benchmarks.families                # tiny models with random weights; writes docs/results/families.json

A family is saved as its published folders are and loaded through s1's door. Besides the picture, the twin's identity:
an image's own features, injected with its own prompt, change nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.data.files import atomic
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.twin import artistic, twin
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.places import located
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.pipeline.drawing import feature_plan

RESULT = Path("docs/results/families.json")
TOKENIZER = "checkpoints/mini/diffusion/tokenizer"
PROMPT, STEPS, SCALE = "a river in the mountains, oil painting", 4, 7.5
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SAMPLING = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings = {
        "sample_size": 16,
        "block_out_channels": (32, 32, 64, 64),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**{**settings, **more})


def _text(tokenizer: Any, projected: bool = False, **more: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, **more},
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _autoencoder(**more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        **more,
    )


def make_pipeline(family: str, **unet_settings: Any) -> Any:
    """diffusers' own pipeline of a family, tiny, with random weights: "sd1", "sd2" (predicts v) or "sdxl".

    unet_settings: in the place of the U-Net's own.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(located(TOKENIZER), local_files_only=True)
    predicts = "v_prediction" if family == "sd2" else "epsilon"
    parts = {"tokenizer": tokenizer, "scheduler": DDIMScheduler(prediction_type=predicts, **BETAS, **SAMPLING)}
    if family == "sdxl":
        settings = {
            "block_out_channels": (32, 32, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "attention_head_dim": (2, 4, 8),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 24,
            "cross_attention_dim": 32 + 48,
        }
        unet = _unet(**{**settings, **unet_settings})
        second = _text(tokenizer, True, hidden_size=48, projection_dim=24, hidden_act="gelu")
        pipeline = StableDiffusionXLPipeline(
            vae=_autoencoder(scaling_factor=0.13025),
            text_encoder=_text(tokenizer),
            text_encoder_2=second,
            tokenizer_2=tokenizer,
            unet=unet,
            add_watermarker=False,
            **parts,
        )
    else:
        heads = {"attention_head_dim": (2, 4, 8, 8), "use_linear_projection": True} if family == "sd2" else {}
        pipeline = StableDiffusionPipeline(
            vae=_autoencoder(),
            text_encoder=_text(tokenizer, hidden_act="gelu" if family == "sd2" else "quick_gelu"),
            unet=_unet(**{**heads, **unet_settings}),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **parts,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def compare(family: str, folder: str | Path) -> dict[str, Any]:
    """What s1 draws against the pipeline, and the twin's identity; `folder` gets the family in its published form."""
    pipeline = make_pipeline(family)
    pipeline.save_pretrained(folder, safe_serialization=True)
    diffusion = load_diffusion(str(folder), make_runtime("cpu"))
    size = 128
    noise = torch.randn(diffusion.latent_shape(size, size), generator=torch.Generator().manual_seed(1))
    plan = feature_plan(InferenceOptions(), diffusion.unet, diffusion.spatial_factor)
    with torch.inference_mode():
        theirs = pipeline(
            PROMPT,
            height=size,
            width=size,
            latents=noise,
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
            output_type="pt",
        ).images.float()
        made = artistic(diffusion, noise, PROMPT, SCALE, steps=STEPS, plan=plan)
        like = {"negative_prompt": "", "source_scale": SCALE, "guidance_scale": SCALE, "steps": STEPS, "plan": plan}
        same, _ = twin(diffusion, noise, PROMPT, PROMPT, features=made.features, **like)
        other, _ = twin(diffusion, noise, PROMPT, "a photograph", features=made.features, **like)
    return {
        "family": diffusion.family.name,
        "pipeline": type(pipeline).__name__,
        "predicts": diffusion.prediction_type,
        "max_difference_to_pipeline": float((made.image - theirs).abs().max()),
        "max_difference_of_own_twin": float((same - made.image).abs().max()),
        "max_difference_of_other_twin": float((other - made.image).abs().max()),
        "picture_deviation": float(made.image.std()),
        "twin_attention": list(plan.twin_attention),
        "twin_resnets": list(plan.twin_resnets),
        "mask_attention": list(plan.mask_attention),
    }


def main(arguments: list[str] | None = None) -> None:
    """Compare all families and write the table."""
    parser = Parser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--out", default=str(RESULT), help="where the table goes (default: %(default)s)")
    flags = parser.parse_args(arguments)
    rows = []
    for family in ("sd1", "sd2", "sdxl"):
        folder = tempfile.mkdtemp()
        try:
            rows.append(compare(family, folder))
        finally:
            shutil.rmtree(folder)
        row = rows[-1]
        print(
            f"{row['family']}: {row['max_difference_to_pipeline']:.1e} to {row['pipeline']}, own twin "
            f"{row['max_difference_of_own_twin']:.1e}, other twin {row['max_difference_of_other_twin']:.2f}"
        )
    note = f"tiny random models, {STEPS} DDIM steps, guidance {SCALE}, 128 px, float32 on a CPU; in [0,1]"
    with atomic(flags.out) as path:
        Path(path).write_text(json.dumps({"what": note, "families": rows}, indent=1) + "\n")
    print(flags.out)


if __name__ == "__main__":
    run_main(main)
