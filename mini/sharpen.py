"""Sharpens an autoencoder's decoder against a small discriminator; encoder and latents stay as they are.

Absolute errors alone leave grass, water and brush strokes blurred. A U-Net trained on the latents remains valid
afterwards.
"""

import math
import time

import torch
import torch.nn.functional as F
from text2cinemagraph.mini.album import power_above
from text2cinemagraph.mini.training import half_precision
from torch import nn

LATENT_NOISE = 0.3  # at most, in normalised latents (unit variance): generated latents are never clean
ADVERSARIAL_WEIGHT, FEATURE_WEIGHT, ENERGY_WEIGHT = 0.4, 1.0, 0.5
ADVERSARIAL_RANGE = 0.2, 1.5


class PatchDiscriminator(nn.Module):
    """[N,3,H,W] in [-1,1] -> (logits per patch, features of the inner layers); sees the picture and its fine detail."""

    def __init__(self, channels=32):
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

    def forward(self, pictures):
        detail = pictures - F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
        x, features = torch.cat([pictures, 4 * detail], 1).contiguous(memory_format=torch.channels_last), []
        for layer in self.inner:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def _gradients(pictures):
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def energy_loss(made, true, levels=2):
    """How far the local strength of gradients (in windows of 8) is off: texture of the right amount, wherever its
    strokes lie.
    """
    loss = 0
    for _ in range(levels):
        for a, b in zip(_gradients(made), _gradients(true)):
            loss = loss + (_strength(a) - _strength(b)).abs().mean()
        made, true = F.avg_pool2d(made, 2), F.avg_pool2d(true, 2)
    return loss


def _strength(gradient):
    return (F.avg_pool2d(gradient.square(), 8, 4) + 1e-4).sqrt()


def sharpen(vae, draw, reconstruction_loss, seconds, *, rate=1.2e-4, start=0.06, channels=32, detail=0.0, report=print):
    """Train vae's decoder in place for `seconds`; its exponential average (0.995) is what remains.

    draw(): [N,3,H,W] in [-1,1], a batch of crops, on the vae's device.   reconstruction_loss(made, true): a number to
    lower.   start: share of the time before the discriminator's word counts.   channels: of its first layer.
    The adversarial gradient at the picture is scaled to ADVERSARIAL_WEIGHT of the reconstruction's; with detail > 0,
    this weight is steered (within ADVERSARIAL_RANGE) so that the crops keep that share of their power above a quarter
    cycle per px. Returns the steps made.
    """
    parameters = [*vae.decoder.parameters(), *vae.linear_out.parameters()]
    device, cuda = parameters[0].device, parameters[0].device.type == "cuda"
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0, fused=cuda)
    critic = PatchDiscriminator(channels).to(device, memory_format=torch.channels_last)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), 4e-4, betas=(0.5, 0.95), weight_decay=0, fused=cuda)
    began, step, told, adversarial, kept = time.monotonic(), 0, 0.0, ADVERSARIAL_WEIGHT, float("nan")
    while seconds > 0 and (share := (time.monotonic() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 30) * (1 if share < 0.5 else max(0.05, 2 * (1 - share)))
        true = draw()
        with half_precision(device):
            with torch.no_grad():
                latents = vae.encode_base(true)
                amount = LATENT_NOISE * torch.rand(len(true), 1, 1, 1, device=device)
                latents = latents + amount * torch.randn_like(latents) / vae.gain
            made = vae.decode_base(latents).float()
        warm = max(0.0, min(1, (share - start) / 0.1))
        gradient, error = _picture_gradient(made, true, reconstruction_loss, critic, adversarial * warm)
        critic_loss = _train_critic(critic, critic_optimizer, made.detach(), true)
        optimizer.zero_grad()
        made.backward(gradient)
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(0.995, step / (9 + step)))
            if step % 20 == 0:
                kept = (power_above(made, 1 / 4).sum() / power_above(true, 1 / 4).sum()).item()
                if detail and warm == 1:
                    low, high = ADVERSARIAL_RANGE
                    adversarial = min(high, max(low, adversarial * math.exp(0.1 * (detail - kept) / detail)))
        if share - told > 0.1:
            told = share
            report(
                f"step {step}, {share:.0%}: reconstruction {error.item():.4f}, critic {critic_loss.item():.3f}, "
                f"detail kept {kept:.2f}, adversarial weight {adversarial:.2f}"
            )
    with torch.no_grad():
        for mean, parameter in zip(average, parameters):
            parameter.copy_(mean)
    return step


def _picture_gradient(made, true, reconstruction_loss, critic, weight):
    """d loss / d picture, and the reconstruction loss.  weight: of the critic's gradient, as a share of the other's."""
    leaf = made.detach().requires_grad_(True)
    error = reconstruction_loss(leaf, true) + ENERGY_WEIGHT * energy_loss(leaf, true)
    (gradient,) = torch.autograd.grad(error, leaf)
    if weight > 0:
        critic.requires_grad_(False)
        leaf = made.detach().requires_grad_(True)
        with half_precision(true.device):
            logits, features = critic(leaf)
            with torch.no_grad():
                _, wanted = critic(true)
        matching = sum((a.float() - b.float()).abs().mean() for a, b in zip(features, wanted))
        (adversarial,) = torch.autograd.grad(FEATURE_WEIGHT * matching - logits.float().mean(), leaf)
        critic.requires_grad_(True)
        gradient = gradient + weight * gradient.norm() / (adversarial.norm() + 1e-8) * adversarial
    return gradient, error.detach()


def _train_critic(critic, optimizer, made, true):
    with half_precision(true.device):
        real, fake = critic(torch.cat([true, made]))[0].float().chunk(2)
    loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()  # hinge
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
