"""Deterministic DDIM as Stable Diffusion v1 walks it: from noise to a latent and, inverted, from a latent to noise.

Source: Song et al., "Denoising Diffusion Implicit Models"; the timestep rules are those of text2cinemagraph's LDM fork.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch


def timesteps(n_steps: int, n_train: int = 1000) -> list[int]:
    """The n_steps timesteps of sampling, from noisy to clean: 981, 961, ..., 1 for 50 of 1000."""
    if not 1 <= n_steps < n_train:  # as many as n_train would end one past the schedule
        raise ValueError(f"ddim_steps={n_steps}: expected 1 to {n_train - 1}")
    return [int(t) for t in (np.arange(n_steps) * (n_train // n_steps) + 1)[::-1]]


def alpha_pairs(alphas_cumprod: torch.Tensor, n_steps: int) -> list[tuple[int, float, float]]:
    """Per timestep (t, a_t, a_prev) as floats; the last a_prev is alphas_cumprod[0], not 1."""
    steps = timesteps(n_steps, len(alphas_cumprod))
    previous = [*steps[1:], 0]
    return [(t, float(alphas_cumprod[t]), float(alphas_cumprod[p])) for t, p in zip(steps, previous)]


def step(x: torch.Tensor, epsilon: torch.Tensor, a_from: float, a_to: float) -> torch.Tensor:
    """Move x from noise level a_from to a_to along the predicted noise; no clipping of x0."""
    x0 = (x - (1 - a_from) ** 0.5 * epsilon) / a_from**0.5
    return a_to**0.5 * x0 + (1 - a_to) ** 0.5 * epsilon


def invert(
    predict_noise: Callable[[torch.Tensor, int], torch.Tensor],
    latent: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    n_steps: int = 999,
    *,
    progress: Callable[[range], Iterable[int]] = iter,
    done: int = 0,
    after: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """From a clean latent to the noise it would be drawn from.

    predict_noise(x, t) -> epsilon, evaluated at the CURRENT t (diffusers' DDIMInverseScheduler evaluates at the next
    one). n_steps must divide 999 (1, 3, 9, 27, 37, 111, 333, 999): other numbers would walk past the schedule's end.
    done: how many of the steps were taken already; `latent` is what they left.   after(done, x) is called after each.
    """
    if n_steps < 1 or 999 % n_steps:
        raise ValueError(f"n_steps={n_steps}: inversion needs a divisor of 999 (27, 37, 111, 333 or 999)")
    stride, x = 999 // n_steps, latent
    for t in progress(range(done * stride, 999, stride)):
        x = step(x, predict_noise(x, t), float(alphas_cumprod[t]), float(alphas_cumprod[t + stride]))
        if after:
            after(t // stride + 1, x)
    return x
