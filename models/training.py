"""fit(): the one training loop. Everything it needs to go on after a break is in one file, train_state.pt."""

import dataclasses
import math
import shlex
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.checkpoint import save_checkpoint
from data.files import atomic

STATE = "train_state.pt"


class Plan:
    """How long to train and at which rate: by epochs (constant, then falling in a line) or by minutes (cosine)."""

    def __init__(self, lr=2e-4, niter=100, niter_decay=100, minutes=0):
        self.lr, self.niter, self.niter_decay, self.minutes = lr, niter, niter_decay, minutes

    def rate(self, epoch, elapsed):
        """Learning rate in epoch 1, 2, ... after `elapsed` seconds. As published, the first epoch of decay still runs at lr."""
        if self.minutes:
            return self.lr * (0.5 + 0.5 * math.cos(math.pi * min(1, elapsed / 60 / self.minutes)))
        return self.lr * (1 - max(0, epoch - 1 - self.niter) / max(1, self.niter_decay))

    def over(self, epoch, elapsed):
        """Nothing is left to do in this epoch, at this time."""
        return elapsed >= 60 * self.minutes if self.minutes else epoch > self.niter + self.niter_decay


class Progress:
    """Where a training stands; batch counts within the epoch, images over all."""

    def __init__(self, epoch=1, batch=0, images=0, steps=0, elapsed=0.0):
        self.epoch, self.batch, self.images, self.steps, self.elapsed = epoch, batch, images, steps, elapsed


def fit(model, dataset, plan, folder, card, batch_size=1, beta1=0.5, device="cpu", seed=0, workers=0, resume=False,
        print_freq=100, save_latest_freq=2000, save_epoch_freq=25, half=False, bf16=False):
    """Train a Pix2Pix until the plan is over.

    dataset: items with .collate and .to, and dataset.set_epoch.   folder: receives latest_net_G.safetensors and its card,
    `<epoch>_net_G.safetensors` every save_epoch_freq epochs, loss_log.txt, iter.txt (epoch, batches of it) and train_state.pt.   card: what the card should say;
    images and steps are added.   bf16: compute the networks in bfloat16 (losses and weights stay float32).
    print_freq, save_latest_freq: in images.   resume: go on from train_state.pt.
    Returns the Progress. Raises ValueError as soon as a loss is not finite; the last saved state is then still good.
    """
    folder = Path(folder)
    model.to(device, memory_format=torch.channels_last).train()
    optimizers = [_adam(module, plan.lr, beta1) for module in (model.generator, model.discriminator) if module is not None]
    torch.manual_seed(seed)
    progress = _restore(folder / STATE, model, optimizers, device) if resume else Progress()
    started = time.monotonic() - progress.elapsed
    with tqdm(desc="training", unit="img", initial=progress.images, mininterval=10) as bar:
        while not plan.over(progress.epoch, progress.elapsed):
            for batch in _loader(dataset, batch_size, seed, progress, workers):
                for optimizer in optimizers:
                    optimizer.param_groups[0]["lr"] = plan.rate(progress.epoch, progress.elapsed)
                terms = _step(model, optimizers, batch.to(device), bf16)
                before, progress.images = progress.images, progress.images + batch_size
                progress.batch, progress.steps = progress.batch + 1, progress.steps + 1
                progress.elapsed = time.monotonic() - started
                bar.update(batch_size)
                if _passes(before, progress.images, print_freq):
                    _log(folder, progress, terms, bar)
                if _passes(before, progress.images, save_latest_freq):
                    _save(folder, "latest", model, optimizers, progress, card, half)
                if plan.minutes and plan.over(progress.epoch, progress.elapsed):
                    break
            else:
                progress.epoch, progress.batch = progress.epoch + 1, 0
                if (progress.epoch - 1) % save_epoch_freq == 0:
                    _save(folder, str(progress.epoch - 1), model, optimizers, progress, card, half)
    _save(folder, "latest", model, optimizers, progress, card, half)
    return progress


def _adam(module, lr, beta1):
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr, betas=(beta1, 0.999))


def _loader(dataset, batch_size, seed, progress, workers):
    """The rest of this epoch's batches. The order depends on seed and epoch alone; an incomplete last batch is dropped."""
    dataset.set_epoch(progress.epoch)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed * 100003 + progress.epoch))
    batches = list(order[:len(order) // batch_size * batch_size].view(-1, batch_size))
    if not batches:
        raise ValueError(f"batchSize={batch_size}, but there are only {len(dataset)} items; use a smaller batchSize")
    return DataLoader(dataset, batch_sampler=[b.tolist() for b in batches[progress.batch:]], num_workers=workers,
                      collate_fn=lambda items: items[0].collate(items))


def _step(model, optimizers, batch, bf16=False):
    """One step of the generator, then one of the discriminator, both from one forward pass. Returns the losses as numbers."""
    with torch.autocast(batch.flow.device.type, torch.bfloat16, enabled=bf16):
        terms, critic, _ = model(batch)
    numbers = {name: float(value.detach()) for name, value in {**terms, **critic}.items()}
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        raise ValueError(f"the loss {broken[0]} is {numbers[broken[0]]}; go on from the last save with a lower lr "
                         "(continue_train=true lr=...), and look for odd values in the data")
    losses = [sum(terms.values())] + ([0.5 * sum(critic.values())] if critic else [])
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    # The critic's graph holds weights of before its own step only, so both gradients are taken first; inputs= keeps the
    # generator's loss out of the critic's gradients.
    for optimizer, loss in zip(optimizers, losses):
        loss.backward(inputs=optimizer.param_groups[0]["params"])
    for optimizer in optimizers:
        optimizer.step()
    return numbers


def _passes(before, now, every):
    return before // every != now // every


def _log(folder, progress, terms, bar):
    text = " ".join(f"{name}: {value:.4f}" for name, value in terms.items())
    bar.set_postfix_str(text, refresh=False)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "loss_log.txt", "a") as file:
        file.write(f"(epoch: {progress.epoch}, images: {progress.images}, seconds: {progress.elapsed:.0f}) {text}\n")


def _save(folder, which, model, optimizers, progress, card, half):
    """Export the generator under its name, and everything needed to go on."""
    card = {**card, "trained": {"steps": progress.steps, "images": progress.images, "minutes": round(progress.elapsed / 60, 1)}}
    save_checkpoint(folder / f"{which}_net_G.safetensors", model.generator.state_dict(), card, half)
    discriminator = model.discriminator
    state = {"generator": model.generator.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
             "discriminator": discriminator.state_dict() if discriminator is not None else None,
             "progress": vars(progress), "rng": torch.get_rng_state()}
    with atomic(folder / STATE) as temporary, atomic(folder / "iter.txt") as text:
        torch.save(state, temporary)
        Path(text).write_text(f"{progress.epoch}\n{progress.batch}\n")


def _restore(path, model, optimizers, device):
    """Load what _save wrote; the Progress in it."""
    if not path.is_file():
        raise FileNotFoundError(f"nothing to continue at {path}; leave out --continue_train, or check --name")
    state = torch.load(path, map_location=device, weights_only=True)
    if (state["discriminator"] is None) != (model.discriminator is None):
        raise ValueError(f"{path} was trained {'without' if state['discriminator'] is None else 'with'} a discriminator; "
                         "set gan as it was")
    model.generator.load_state_dict(state["generator"])
    if model.discriminator is not None:
        model.discriminator.load_state_dict(state["discriminator"])
    for optimizer, saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    torch.set_rng_state(state["rng"].cpu())
    return Progress(**state["progress"])


# ------------------------------------------------------------------ what both scripts say to fit()

def folder_of(options):
    """Where a training puts its files."""
    return Path(options.checkpoints_dir) / options.name


def card_of(options, architecture, dataset, command):
    """What a checkpoint says about itself: the options that build it, and how it was trained.

    architecture: the options class whose fields build the network.   command: list of words, the script's and its flags.
    """
    kept = {field.name: getattr(options, field.name) for field in dataclasses.fields(architecture)}
    return {"options": kept, "command": shlex.join(["python", *command]), "dataset": {"root": options.dataroot, "items": len(dataset)},
            "train_options": dataclasses.asdict(options)}


def train(model, dataset, card, options, runtime):
    """fit() with the numbers of TrainOptions, which opt.txt keeps; says where the result lies."""
    if not options.continue_train:
        with atomic(folder_of(options) / "opt.txt") as path:
            Path(path).write_text("".join(f"{name}: {value}\n" for name, value in sorted(dataclasses.asdict(options).items())))
    progress = fit(model, dataset, Plan(options.lr, options.niter, options.niter_decay, options.minutes), folder_of(options), card,
                   options.batchSize, options.beta1, runtime.device, options.seed, options.nThreads, options.continue_train,
                   options.print_freq, options.save_latest_freq, options.save_epoch_freq, options.half, options.bf16)
    print(f"{progress.images} images in {progress.elapsed / 60:.1f} minutes; weights: {folder_of(options)}/latest_net_G.safetensors")
