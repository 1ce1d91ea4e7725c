"""The small family's autoencoder: learned from windows of pictures, its decoder sharpened afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import sha256
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.album import Page, page_of, to_range
from text2cinemagraph.mini.scenes import Scenes, to_tensor
from text2cinemagraph.mini.sharpen import sharpen
from text2cinemagraph.mini.training import (
    Learning,
    cosine,
    half_precision,
    learn,
    notes,
    read_json,
    trainer_of,
    write_json,
)
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.trainer import Trainer
from tqdm import tqdm

WEIGHTS = "diffusion_pytorch_model.safetensors"
CROP = 64  # px; textures are learned from small windows: four times the pictures per second of 128
AUTOENCODER = {"pack": 1, "latent_channels": 8}  # 32x32x8 for a picture of 256 px, 24 times fewer numbers
AUTOENCODER_TRAINING = {  # of its TrainingConfig
    "batch_size": 16,
    "lr": 4e-4,
    "betas": (0.9, 0.99),
    "weight_decay": 1e-4,
    "average": 0.998,
    "decay": cosine,
    "warmup": 50,
}
DECODER_TRAINING = {"batch_size": 16, "lr": 1.2e-4}
SILENT = 0.01  # rms of the decoder's learned part below which it has fallen silent


def train_autoencoder(scenes: Scenes, work: Path, config: TrainingConfig, validation: Scenes | None = None) -> None:
    """Learn PatchAutoencoder on Scenes of one size, from a linear start (PCA); writes <work>/vae."""
    torch.manual_seed(config.seed)
    page = page_of(scenes, config.device, lambda items: tqdm(items, "reading pictures"))
    vae = PatchAutoencoder(**AUTOENCODER)
    some = page.windows(min(2560, 40 * page.count), CROP).cpu()
    vae.start_from_pca(_patches(some, vae.factor))
    path = work / "autoencoder.pt"
    going_on = config.resume and path.is_file()
    trainer = autoencoder_trainer(vae, config, path)
    if going_on and config.over(trainer.state) and (work / "vae").is_dir():
        return  # finished; its decoder may have been sharpened since
    learn_autoencoder(trainer, lambda count: page.windows(count, CROP), to_range(page.pictures[:4]), path)
    with trainer.averaged():
        finish_autoencoder(vae, [page])
        vae.save_pretrained(work / "vae")
        scores = autoencoder_scores(vae, validation)
        write_json(work / "autoencoder.json", notes(trainer, scores={"psnr_db": scores}))


def autoencoder_trainer(vae: PatchAutoencoder, config: TrainingConfig, path: Path) -> Trainer:
    """The Trainer of an autoencoder: L1 and gradients on three scales.   path: the file to go on from."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        with half_precision(x.device):
            latents = vae.encode_base(x)
            made = vae.decode_base(latents)
        return reconstruction_loss(made.float(), x) + 1e-4 * latents.float().square().mean()

    vae.to(memory_format=torch.channels_last)
    return trainer_of(Learning({"vae": vae}, loss), config, path)


def learn_autoencoder(
    trainer: Trainer,
    draw: Callable[[int], torch.Tensor],
    probe: torch.Tensor,
    path: Path,
    *,
    save: Callable[[], None] | None = None,
) -> None:
    """Train; a decoder that falls silent is woken.

    draw(count): windows [count,3,h,w] in [-1,1].   probe: pictures [N,3,H,W] to watch the decoder with.
    path, save: see mini.training.learn.
    """
    vae = trainer.model.networks["vae"]
    learn(trainer, draw, path, save=save, watch=lambda trainer, _: keep_awake(trainer, vae, probe))


def keep_awake(trainer: Trainer, vae: PatchAutoencoder, probe: torch.Tensor, every: int = 100) -> None:
    """Watches the learned part of the decoder: at high rates it can fall silent for good and leave the linear part
    alone.

    Every so many steps the weights are kept, or, when the part's rms has fallen below SILENT, the last ones come back
    with half the rate.   probe: pictures [N,3,H,W] to watch with.
    """
    if trainer.state.steps % every:
        return
    with torch.no_grad():
        rms = vae.decoder(vae.encode_base(probe)).square().mean().sqrt()
    if rms >= SILENT:
        trainer.keep()
    else:
        trainer.put_back()


@torch.no_grad()
def finish_autoencoder(vae: PatchAutoencoder, pages: Sequence[Page], count: int = 1000) -> None:
    """Set what makes the latents unit-like, as measured on `count` pictures of the pages."""
    vae.eval()
    sums, squares, n = 0, 0, 0
    for page in pages:
        rows = torch.randperm(page.count)[: count // len(pages)].to(page.device)
        for i in range(0, len(rows), 10):
            latents = vae.encode_base(to_range(page.pictures[rows[i : i + 10]])).double()
            sums, squares = sums + latents.sum((0, 2, 3)), squares + latents.square().sum((0, 2, 3))
            n += latents[:, 0].numel()
    mean = sums / n
    vae.normalise(mean.float(), (squares / n - mean**2).clamp(min=1e-12).sqrt().float())


def _patches(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """[N,3,H,W] -> all its tiles [n,3,size,size]."""
    return pictures.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)


def reconstruction_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1, and 0.3 times L1 of the gradients at three scales and of the two coarser pictures below."""
    loss, gradients = (made - wanted).abs().mean(), made.new_zeros(())
    difference = made - wanted
    for _ in range(3):
        gradients += difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
        gradients += difference.abs().mean()
    return loss + 0.3 * gradients


def train_decoder(scenes: Scenes, work: Path, config: TrainingConfig, validation: Scenes | None = None) -> None:
    """Sharpen the decoder of <work>/vae. The latents stay what they are, and with them a U-Net that is trained already.

    config.resume: a decoder that was sharpened is left as it is; one that was interrupted begins again, from the
    autoencoder as it was.
    """
    if config.resume and read_json(work / "decoder.json").get("vae") == sha256(work / "vae" / WEIGHTS):
        return
    torch.manual_seed(config.seed)
    page = page_of(scenes, config.device, lambda items: tqdm(items, "reading pictures"))
    vae = PatchAutoencoder.from_pretrained(work / "vae").float().to(memory_format=torch.channels_last)
    config = dataclasses.replace(config, resume=False)
    steps = sharpen(vae, lambda count: page.windows(count, CROP), reconstruction_loss, config)
    vae.eval().save_pretrained(work / "vae")
    write_json(
        work / "decoder.json",
        {
            "steps": steps,
            "minutes": config.minutes,
            "scores": {"psnr_db": autoencoder_scores(vae, validation)},
            "vae": sha256(work / "vae" / WEIGHTS),
        },
    )


@torch.no_grad()
def autoencoder_scores(vae: PatchAutoencoder, scenes: Scenes | None) -> dict[str, float]:
    """Mean PSNR in dB of the validation pictures: {"natural": , "painted": }."""
    found: dict[str, list[Any]] = {"natural": [], "painted": []}
    for index, style in scenes.variants() if scenes else ():
        x = to_tensor([scenes.picture(index, style)]).to(vae.device)
        made = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        found["painted" if style else "natural"].append(10 * np.log10(4 / F.mse_loss(made, x).item()))
    return {kind: round(float(np.mean(values)), 2) for kind, values in found.items() if values}
