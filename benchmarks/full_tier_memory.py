"""All six stages of the full tier at its real shapes, with random weights: the peak memory of each stage.

    python -m benchmarks.full_tier_memory                        # 256 px, 2 steps; 6 GB on disk while it runs
    python -m benchmarks.full_tier_memory --size 512 --steps 50 runtime.dtype=fp16

The networks have the published shapes (Stable Diffusion 1.4, the authors' flow and video networks) in the published
forms; s3 is the small tier's segmenter, which no promise is made for. Writes docs/results/full_tier_memory.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.files import atomic
from text2cinemagraph.models.networks import build_motion, build_video
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.places import located
from text2cinemagraph.options.train import MotionOptions, VideoOptions

RESULT = Path("docs/results/full_tier_memory.json")
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def _save(network, folder: Path, name: str) -> None:
    """Random weights of a network made on the meta device, with its config, as its library saves them."""
    folder.mkdir(parents=True)
    config = network.config
    config.to_json_file(folder / "config.json") if hasattr(config, "to_json_file") else network.save_config(folder)
    torch.manual_seed(0)
    state = {key: (torch.rand(value.shape) - 0.5) * 0.05 for key, value in network.state_dict().items()}
    save_file(state, folder / name, metadata={"format": "pt"})


def stable_diffusion_networks() -> tuple[Any, Any, Any]:
    """(U-Net, autoencoder, text encoder) of Stable Diffusion 1.x's released shapes, on the meta device."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
    return unet, vae, text


def save_stable_diffusion(folder: Path) -> None:
    """A folder of Stable Diffusion 1.4's shapes."""
    unet, vae, text = stable_diffusion_networks()
    _save(unet, folder / "unet", "diffusion_pytorch_model.safetensors")
    _save(vae, folder / "vae", "diffusion_pytorch_model.safetensors")
    _save(text, folder / "text_encoder", "model.safetensors")
    shutil.copytree(located("checkpoints/mini/diffusion/tokenizer"), folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))


def save_tier(root: Path) -> None:
    """checkpoints/ as configs/inference.yaml wants it."""
    segmenter = located("checkpoints/mini/segmenter").resolve()
    save_stable_diffusion(root / "stable-diffusion-v1-4")
    for name, network in (("motion", build_motion(MotionOptions())), ("video", build_video(VideoOptions()))):
        (root / f"{name}-pretrained").mkdir()
        torch.save(network.state_dict(), root / f"{name}-pretrained" / "latest_net_G.pth")
    (root / "segmenter").symlink_to(segmenter)


def main(arguments: list[str] | None = None) -> None:
    """Make the tier in a temporary folder, run the pipeline there, keep its closing lines' numbers."""
    parser = Parser(prog="python -m benchmarks.full_tier_memory", description=__doc__)
    parser.add_argument("--size", type=number(least=32, most=8192), default=256, help="px (default: %(default)s)")
    parser.add_argument(
        "--steps", type=number(least=1, most=1_000_000), default=2, help="DDIM steps (default: %(default)s)"
    )
    parser.add_argument("--out", default=str(RESULT), help="where the numbers go (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    flags = parser.parse_args(arguments)
    out, config, work = Path(flags.out).resolve(), located("configs/inference.yaml").resolve(), tempfile.mkdtemp()
    labels = json.loads((located("checkpoints/mini/segmenter") / "config.json").read_text())["id2label"].values()
    said, here = io.StringIO(), os.getcwd()
    try:
        save_tier(Path(work) / "checkpoints")
        os.chdir(work)
        with contextlib.redirect_stdout(said):
            inference_t2c.main(
                [
                    f"--config={config}",
                    f"twin_extraction.H={flags.size}",
                    f"twin_extraction.W={flags.size}",
                    f"twin_extraction.ddim_steps={flags.steps}",
                    f"odise.vocab={', '.join(labels)}",
                    "attn_mask.fallback=true",
                    *flags.overrides,
                ]
            )
    finally:
        os.chdir(here)
        shutil.rmtree(work)
        print(said.getvalue())
    lines = said.getvalue()
    peaks = {name: float(size) for name, size in re.findall(r"(s\d) ([\d.]+) GB", lines.partition("peak memory:")[2])}
    device = re.search(r"device: (.*)", lines)[1]
    found = {"device": device, "px": flags.size, "steps": flags.steps, "options": flags.overrides, "peak_GB": peaks}
    with atomic(out) as path:
        Path(path).write_text(json.dumps(found, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    run_main(main)
