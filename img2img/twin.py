"""s1 and s2: an artistic image from words, and its natural-looking twin that holds its layout.

s1 walks DDIM from noise; s2 walks the same steps from the same noise towards other words while the U-Net computes, in
chosen layers, what it computed for s1 (Tumanyan et al., "Plug-and-Play Diffusion Features", CVPR 2023, with
text2cinemagraph's negative-prompt schedule). What s1 computed is either still in memory or computed again beside the
twin, step by step; it never goes to disk.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from text2cinemagraph.img2img.attention_mask import AttentionMean
from text2cinemagraph.img2img.ddim import alpha_pairs, invert, step
from text2cinemagraph.img2img.diffusion import Diffusion
from text2cinemagraph.img2img.features import Features, inject, record, self_attention
from tqdm import tqdm

KEPT_EVERY = 50  # steps of an inversion: about a minute on a CPU, a few seconds on a GPU


@dataclass(frozen=True)
class FeaturePlan:
    """Which layers are kept, and for how long. Steps count from 0 and limits are inclusive.

    twin_attention: layers whose queries and keys s2 takes over, while step <= n_steps // 2.
    twin_resnets: layers whose convolution output s2 takes over, while step <= resnet_threshold.
    mask_attention: layers whose self-attention s4 averages, at timesteps <= max_timestep.
    """

    twin_attention: tuple
    twin_resnets: tuple
    mask_attention: tuple
    resnet_threshold: int = 40
    max_timestep: int = 541

    def for_twin(self, i: int, n_steps: int) -> tuple[tuple, tuple]:
        """(attention layers, ResNet layers) that s2 needs at step i."""
        return self.twin_attention if i <= n_steps // 2 else (), self.twin_resnets if i <= self.resnet_threshold else ()


@dataclass
class Artistic:
    """What s1 makes.  image: [1,3,H,W] in [0,1].  attention: AttentionMean.  features: one Features per step, or None:
    not kept.
    """

    image: torch.Tensor
    latent: torch.Tensor
    attention: AttentionMean
    features: list | None


def artistic(
    diffusion: Diffusion,
    noise: torch.Tensor,
    prompt: str,
    guidance_scale: float,
    *,
    steps: int,
    plan: FeaturePlan,
    feature_memory: float = 4e9,
    callback: Callable[[int, torch.Tensor], None] | None = None,
    title: str = "s1 artistic image",
) -> Artistic:
    """Draw a picture from noise [1,c,h,w].  callback(i, latent) is called after every step; title: of the progress bar.

    feature_memory: bytes of main memory that the features for s2 may take; where they would take more, none are kept
    and s2 computes them again (Stable Diffusion at 512 px, 50 steps: 1.4 GB in half precision, 2.8 GB in single).
    """
    context = diffusion.encode_text(["", prompt])
    x = noise.to(diffusion.device)
    features: list[Features] | None = []
    attention = AttentionMean((noise.shape[-2], noise.shape[-1]))
    for i, (t, a, a_prev) in enumerate(tqdm(alpha_pairs(diffusion.alphas_cumprod, steps), title)):
        watched = plan.mask_attention if t <= plan.max_timestep else ()
        epsilon, seen = _source_call(diffusion, x, t, context, guidance_scale, plan.for_twin(i, steps), watched)
        for layer in watched:
            attention.add(seen.queries[layer], seen.keys[layer], self_attention(diffusion.unet, layer).heads)
        if features is not None:
            features.append(seen.only(*plan.for_twin(i, steps), device="cpu"))
            features = features if sum(step_features.bytes() for step_features in features) <= feature_memory else None
        x = step(x, epsilon, a, a_prev)
        if callback:
            callback(i, x)
    return Artistic(diffusion.decode(x), x, attention, features)


def invert_picture(
    diffusion: Diffusion,
    image: torch.Tensor,
    steps: int,
    generator: torch.Generator | None,
    *,
    kept: dict[str, torch.Tensor] | None = None,
    keep: Callable[[dict[str, torch.Tensor]], None] | None = None,
) -> torch.Tensor:
    """The noise [1,c,h,w] from which the empty prompt draws a picture again.

    image: [3,H,W] in [0,1], of a size that the model takes.   steps: see img2img.ddim.invert.   generator: for the
    autoencoder's draw.
    keep: called now and then, and at the end, with a dict of tensors.   kept: such a dict of an earlier, perhaps
    interrupted, inversion: its steps are not taken again where the first one gives the same numbers.
    """
    context = diffusion.encode_text([""])
    latent, done = diffusion.encode(image[None], generator).float(), 0
    marks = {"first": diffusion.predict_noise(latent, 0, context), "steps": torch.tensor(steps)}
    if kept and all(torch.equal(kept[name], value.cpu()) for name, value in marks.items()):
        latent, done = kept["latent"].to(latent.device), int(kept["done"])

    def after(done, x):
        if keep and (done % KEPT_EVERY == 0 or done == steps):
            keep({**marks, "latent": x, "done": torch.tensor(done)})

    return invert(
        lambda x, t: diffusion.predict_noise(x, t, context),
        latent,
        diffusion.alphas_cumprod,
        steps,
        progress=lambda times: tqdm(times, "s1 inverting the picture"),
        done=done,
        after=after,
    )


def _source_call(diffusion, x, t, context, guidance_scale, kept, watched=()):
    """One guided step's noise of the source, and the Features of that call (rows: uncond, cond)."""
    attention_layers = tuple(dict.fromkeys((*kept[0], *watched)))
    with record(diffusion.unet, attention_layers, kept[1]) as seen:
        uncond, cond = diffusion.predict_noise(x, t, context).chunk(2)
    return uncond + guidance_scale * (cond - uncond), seen


def twin(
    diffusion: Diffusion,
    noise: torch.Tensor,
    source_prompt: str,
    prompt: str,
    *,
    negative_prompt: str,
    source_scale: float,
    guidance_scale: float,
    steps: int,
    plan: FeaturePlan,
    features: list[Features] | None = None,
    negative_alpha: float = 0.75,
    negative_schedule: str = "linear",
    callback: Callable[[int, torch.Tensor], None] | None = None,
    title: str = "s2 twin",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the twin from the source's noise [1,c,h,w].  Returns (image [1,3,H,W] in [0,1], latent).

    features: s1's list of Features; None computes them again in lock-step, from source_prompt and source_scale, with
    equal results.   title: of the progress bar.
    One U-Net call per step has three rows: negative prompt, no prompt, prompt; they get the source's features of rows
    (0, 0, 1).
    """
    context = diffusion.encode_text([negative_prompt, "", prompt])
    source_context = diffusion.encode_text(["", source_prompt])
    if features is not None and not _suffice(features, plan, steps):
        features = None  # s1 kept something else; the lock-step makes what is needed
    x = source = noise.to(diffusion.device)
    weights = negative_weights(negative_alpha, negative_schedule, steps)
    for i, (t, a, a_prev) in enumerate(tqdm(alpha_pairs(diffusion.alphas_cumprod, steps), title)):
        kept = plan.for_twin(i, steps)
        if features is not None:
            seen = features[i].only(*kept)
        elif kept[0] or kept[1]:
            epsilon, seen = _source_call(diffusion, source, t, source_context, source_scale, kept)
            source = step(source, epsilon, a, a_prev)
        else:
            seen = Features()
        with inject(diffusion.unet, seen, rows=(0, 0, 1)):
            negative, uncond, cond = diffusion.predict_noise(x, t, context).chunk(3)
        base = weights[i] * uncond + (1 - weights[i]) * negative
        x = step(x, base + guidance_scale * (cond - base), a, a_prev)
        if callback:
            callback(i, x)
    return diffusion.decode(x), x


def _suffice(features, plan, steps):
    """Whether s1's features hold what the plan asks for at every step."""
    if len(features) != steps:
        return False
    needs = [plan.for_twin(i, steps) for i in range(steps)]
    return all(set(n[0]) <= f.queries.keys() and set(n[1]) <= f.resnets.keys() for f, n in zip(features, needs))


def negative_weights(alpha: float, schedule: str, n_steps: int) -> list[float]:
    """The unconditional prediction's share in each step; the rest is the negative prompt's.

    alpha times 1 falling to 0 (linear), 1 (constant) or exp(-6 i / (n_steps - 1)) (exp): the negative prompt grows
    stronger.
    """
    ramps = {"linear": lambda u: 1 - u, "constant": lambda u: 1.0, "exp": lambda u: math.exp(-6 * u)}
    if schedule not in ramps:
        raise ValueError(f"negative_prompt_schedule={schedule!r} is unknown; choose one of {', '.join(ramps)}")
    return [alpha * ramps[schedule](i / max(n_steps - 1, 1)) for i in range(n_steps)]
