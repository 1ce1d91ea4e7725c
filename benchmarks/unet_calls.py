"""What s1 and s2 cost: U-Net rows per step, bytes on disk, bytes of features in memory. The original: 6 rows a step and
6.96 GB on disk.

    python -m benchmarks.unet_calls  # the weights of --config, and a random U-Net of Stable Diffusion's shape
    python -m benchmarks.unet_calls --skip_published     # the first alone, a minute

Rows are counted, not timed: a call on a batch of three contexts counts three (SPEC: the original evaluates 2 in s1 and
4 in s2).
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from text2cinemagraph import inference_t2c
from text2cinemagraph.benchmarks.record import FOLDER, keep
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.img2img.diffusion import Diffusion
from text2cinemagraph.img2img.twin import artistic, twin
from text2cinemagraph.options.cli import Parser, load_options, number, run_main
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.pipeline.drawing import feature_plan, load_drawing_model
from text2cinemagraph.pipeline.networks import Networks
from text2cinemagraph.pipeline.stages import RunState


@contextmanager
def counted(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Rows that the U-Net computes within the block, as [rows]."""
    rows = [0]
    handle = unet.register_forward_pre_hook(lambda module, inputs: rows.__setitem__(0, rows[0] + inputs[0].shape[0]))
    try:
        yield rows
    finally:
        handle.remove()


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def of_config(config: str) -> dict[str, Any]:
    """The whole of s1 and s2 as inference_t2c.py runs them, in a temporary folder."""
    options = load_options(InferenceOptions, config, ["runtime.device=cpu"])
    steps = options.twin_extraction.ddim_steps
    networks = Networks()
    diffusion = load_drawing_model(options, RunState(make_runtime("cpu"), networks))
    with tempfile.TemporaryDirectory() as root, counted(diffusion.unet) as rows:
        inference_t2c.main(
            [
                "--config",
                config,
                "--stage",
                "s1-s2",
                f"twin_extraction.exp_path_root={root}",
                "--name",
                "e",
                "runtime.device=cpu",
            ],
            networks,
        )
        disk = folder_bytes(Path(root) / "e")
    return {"config": config, "steps": steps, "rows": rows[0], "rows_per_step": rows[0] / steps, "disk_bytes": disk}


class Untrained(Diffusion):
    """A U-Net of Stable Diffusion 1.4's shape with random weights, random words and no autoencoder: for counting
    alone.
    """

    spatial_factor = 8

    def encode_text(self, prompts: Sequence[str]) -> torch.Tensor:
        words = torch.randn(len(prompts), 77, 768, generator=torch.Generator().manual_seed(0))
        return words.to(self.device, self.unet.dtype)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return F.interpolate(latent[:, :3], scale_factor=8).clamp(0, 1)


def untrained_diffusion() -> Untrained:
    """The model with random weights, on torch's default device."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return Untrained(
        None, None, None, unet.eval().requires_grad_(False), alphas_cumprod=scheduler.alphas_cumprod.double().cpu()
    )


def of_published_shape(steps: int, size: int) -> dict[str, Any]:
    """s1 and s2 with the published plan on 859.5 million random weights; few steps, since every step costs the same."""
    diffusion = untrained_diffusion()
    unet = diffusion.unet
    plan, noise = feature_plan(InferenceOptions(), unet), torch.randn(1, 4, size // 8, size // 8)
    with tempfile.TemporaryDirectory() as root, torch.inference_mode(), counted(unet) as rows:
        made = artistic(diffusion, noise, "source", 5.0, steps=steps, plan=plan, feature_memory=64e9)
        first = rows[0]
        drawn, _ = twin(
            diffusion,
            noise,
            "source",
            "target",
            negative_prompt="source",
            source_scale=5.0,
            guidance_scale=7.5,
            steps=steps,
            plan=plan,
            features=made.features,
        )
        experiment = Experiment(root, "e", inference_t2c.ARTIFACTS)
        experiment.write(image=made.image[0], noise=noise, attention=made.attention.tensors(), twin=drawn[0])
        disk = folder_bytes(experiment.folder)
    attention, resnets = (
        sum(map(_size, maps))
        for maps in (
            (*made.features[0].queries.values(), *made.features[0].keys.values()),
            made.features[0].resnets.values(),
        )
    )
    return {
        "parameters": sum(p.numel() for p in unet.parameters()),
        "size": size,
        "steps": steps,
        "rows": rows[0],
        "rows_per_step": {"s1": first / steps, "s2": (rows[0] - first) / steps},
        "disk_bytes": disk,
        "feature_bytes_of_50_steps_fp32": 26 * attention + 41 * resnets,  # steps 0..25 and 0..40
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _size(tensor):
    return tensor.numel() * tensor.element_size()


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.unet_calls", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/inference_mini.yaml")
    parser.add_argument(
        "--size", type=number(least=32, most=8192), default=512, help="px of the published shape's picture"
    )
    parser.add_argument("--steps", type=number(least=1, most=1_000_000), default=2, help="steps of the published shape")
    parser.add_argument("--skip_published", action="store_true")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/unet_calls.json")
    options = parser.parse_args()
    result = {"original": {"rows_per_step": 6, "disk_bytes": 6.96e9}, "ours": of_config(options.config)}
    if not options.skip_published:
        result["published_shape"] = of_published_shape(options.steps, options.size)
    keep("unet_calls", result, None if options.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
