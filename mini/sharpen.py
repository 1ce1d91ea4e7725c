"""Sharpens an autoencoder's decoder against a small discriminator; encoder and latents stay as they are.

Absolute errors alone leave grass, water and brush strokes blurred. A U-Net trained on the latents remains valid
afterwards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.album import power_above
from text2cinemagraph.mini.training import half_precision
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.loop import run
from text2cinemagraph.models.training.memory import frozen
from text2cinemagraph.models.training.state import TrainingState
from text2cinemagraph.models.training.trainer import Losses, ParameterGroup, Trainer
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (made, true) -> a number to lower

LATENT_NOISE = 0.3  # at most, in normalised latents (unit variance): generated latents are never clean
ADVERSARIAL_WEIGHT, FEATURE_WEIGHT, ENERGY_WEIGHT = 0.4, 1.0, 0.5
ADVERSARIAL_RANGE = 0.2, 1.5
LOOK_EVERY = 20  # steps between two looks at the detail that is kept


class PatchDiscriminator(nn.Module):
    """[N,3,H,W] in [-1,1] -> (logits per patch, features of the inner layers); sees the picture and its fine detail."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.inner = nn.ModuleList(
            [
                nn.Conv2d(6, channels, 4, 2, 1),
                nn.Conv2d(channels, 2 * channels, 4, 2, 1),
                nn.Conv2d(2 * channels, 3 * channels, 3, 1, 1),
            ]
        )
        self.head = nn.Conv2d(3 * channels, 1, 3, 1, 1)
        for layer in self.inner:
            nn.init.kaiming_normal_(layer.weight, 0.2)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """As the class says."""
        detail = pictures - F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
        x, features = torch.cat([pictures, 4 * detail], 1).contiguous(memory_format=torch.channels_last), []
        for layer in self.inner:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def _gradients(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def energy_loss(made: torch.Tensor, true: torch.Tensor, levels: int = 2) -> torch.Tensor:
    """How far the local strength of gradients (in windows of 8) is off: texture of the right amount, wherever its
    strokes lie.
    """
    loss = made.new_zeros(())
    for _ in range(levels):
        for a, b in zip(_gradients(made), _gradients(true)):
            loss = loss + (_strength(a) - _strength(b)).abs().mean()
        made, true = F.avg_pool2d(made, 2), F.avg_pool2d(true, 2)
    return loss


def _strength(gradient: torch.Tensor) -> torch.Tensor:
    return (F.avg_pool2d(gradient.square(), 8, 4) + 1e-4).sqrt()


class Sharpening(nn.Module):
    """An autoencoder's decoder against a discriminator: what both learn from a batch (pictures, share of the run).

    weight: of the discriminator's gradient at the picture, as a share of the reconstruction's.
    """

    def __init__(self, vae: PatchAutoencoder, loss: Loss, *, channels: int, start: float) -> None:
        super().__init__()
        self.vae, self.loss, self.start = vae, loss, start
        self.critic = PatchDiscriminator(channels).to(memory_format=torch.channels_last)
        self.weight = ADVERSARIAL_WEIGHT

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Both, by name."""
        return {"vae": self.vae, "critic": self.critic}

    @property
    def decoder(self) -> list[nn.Parameter]:
        """What is sharpened."""
        return [*self.vae.decoder.parameters(), *self.vae.linear_out.parameters()]

    def heard(self, share: float) -> float:
        """How much the discriminator's word counts, 0..1.   share: of the run that is done."""
        return max(0.0, min(1.0, (share - self.start) / 0.1))

    def forward(self, batch: tuple[torch.Tensor, float]) -> Losses:
        """The total's gradient is the one that was made at the picture, and the discriminator's own (hinge)."""
        true, share = batch
        with half_precision(true.device):
            with torch.no_grad():
                latents = self.vae.encode_base(true)
                amount = LATENT_NOISE * torch.rand(len(true), 1, 1, 1, device=true.device)
                latents = latents + amount * torch.randn_like(latents) / self.vae.gain
            made = self.vae.decode_base(latents).float()
        gradient, error = self._picture_gradient(made, true, self.weight * self.heard(share))
        with half_precision(true.device):
            real, fake = self.critic(torch.cat([true, made.detach()]))[0].float().chunk(2)
        critic = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return Losses((made * gradient).sum() + critic, {"reconstruction": error, "critic": critic}, made)

    def _picture_gradient(
        self, made: torch.Tensor, true: torch.Tensor, weight: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """d loss / d picture, and the reconstruction loss."""
        leaf = made.detach().requires_grad_(True)
        error = self.loss(leaf, true) + ENERGY_WEIGHT * energy_loss(leaf, true)
        (gradient,) = torch.autograd.grad(error, leaf)
        if weight > 0:
            leaf = made.detach().requires_grad_(True)
            with frozen(self.critic), half_precision(true.device):
                logits, features = self.critic(leaf)
                with torch.no_grad():
                    _, wanted = self.critic(true)
            differences = [(a.float() - b.float()).abs().mean() for a, b in zip(features, wanted)]
            matching = torch.stack(differences).sum()
            (adversarial,) = torch.autograd.grad(FEATURE_WEIGHT * matching - logits.float().mean(), leaf)
            gradient = gradient + weight * gradient.norm() / (adversarial.norm() + 1e-8) * adversarial
        return gradient, error.detach()


class Steering:
    """Sets the discriminator's weight so that the crops keep a share of their fine detail; reports each tenth."""

    def __init__(self, sharpening: Sharpening, detail: float, report: Callable[[str], Any]) -> None:
        """detail: share of the power above a quarter cycle per px; 0 leaves the weight as it is."""
        self.sharpening, self.detail, self.report = sharpening, detail, report
        self.kept, self.told = math.nan, 0.0

    def __call__(self, trainer: Trainer, pieces: list[Any]) -> None:
        """After a step."""
        (true, share), steps = pieces[-1], trainer.state.steps
        if steps % LOOK_EVERY == 0 and trainer.made is not None:
            self.kept = (power_above(trainer.made, 1 / 4).sum() / power_above(true, 1 / 4).sum()).item()
            if self.detail and self.sharpening.heard(share) == 1:
                low, high = ADVERSARIAL_RANGE
                factor = math.exp(0.1 * (self.detail - self.kept) / self.detail)
                self.sharpening.weight = min(high, max(low, self.sharpening.weight * factor))

    def step(self, trainer: Trainer, numbers: dict[str, float], pieces: list[Any]) -> None:
        """The Log of the run: a line for each tenth of it."""
        share = pieces[-1][1]
        if share - self.told > 0.1 and numbers:
            self.told = share
            losses = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            self.report(
                f"step {trainer.state.steps}, {share:.0%}: {losses}, detail kept {self.kept:.2f}, "
                f"adversarial weight {self.sharpening.weight:.2f}"
            )

    def close(self) -> None:
        """No more will come."""


def sharpen(
    vae: PatchAutoencoder,
    draw: Callable[[int], torch.Tensor],
    loss: Loss,
    config: TrainingConfig,
    *,
    start: float = 0.06,
    channels: int = 32,
    detail: float = 0.0,
    report: Callable[[str], Any] = print,
) -> int:
    """Train vae's decoder in place; its exponential average (0.995) is what remains. Returns the steps made.

    draw(count): [N,3,H,W] in [-1,1], a batch of crops, on the config's device.   loss: of the reconstruction.
    config: batch_size, minutes, lr.   start: share of the time before the discriminator's word counts.
    channels: of its first layer.
    The adversarial gradient at the picture is scaled to ADVERSARIAL_WEIGHT of the reconstruction's; with detail > 0,
    this weight is steered (within ADVERSARIAL_RANGE) so that the crops keep that share of their power above a quarter
    cycle per px.
    """
    config = dataclasses.replace(
        config, betas=(0.9, 0.99), weight_decay=0.0, average=0.995, decay=late_half, warmup=30, save_seconds=0.0
    )
    sharpening = Sharpening(vae, loss, channels=channels, start=start)
    groups = [
        ParameterGroup(sharpening.decoder, max_norm=0.5),
        ParameterGroup(
            list(sharpening.critic.parameters()), lr=4e-4, betas=(0.5, 0.95), max_norm=0.0, steady=True, averaged=False
        ),
    ]
    trainer = Trainer(sharpening, config, groups=groups)

    def batches(state: TrainingState) -> Iterator[list[Any]]:
        while True:
            yield [(draw(config.batch_size), config.share_done(state))]

    steering = Steering(sharpening, detail, report)
    run(trainer, batches, log=steering, save=lambda *_: None, watch=steering)
    trainer.take_average()
    return trainer.state.steps


def late_half(share: float) -> float:
    """1, falling linearly to 0.05 over the second half."""
    return 1.0 if share < 0.5 else max(0.05, 2 * (1 - share))
