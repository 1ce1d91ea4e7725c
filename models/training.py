"""fit(): the one training loop, for one process or many (crew.py). What it needs to go on after a break is in one file (store.py).

Started by torchrun or accelerate launch, the processes share every batch: the order of the data, the losses and the weights are those of
one process with the whole batch.
"""

import dataclasses
import math
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from text2cinemagraph.data.checkpoint import dataset_note
from text2cinemagraph.data.files import atomic
from text2cinemagraph.models.board import Board, Silence
from text2cinemagraph.models.crew import Crew
from text2cinemagraph.models.pix2pix import checkpoint_layers, widen_norms
from text2cinemagraph.models.store import Progress, Store, load_networks
from text2cinemagraph.options.runtime import dtype_of, hardware
from torch.utils.data import DataLoader

READERS_PER_CORE = 4  # more only wait for each other, and each takes memory
BROKEN = "broken_items.txt"  # items that could not be read, and why


class Plan:
    """How long to train and at which rate: by epochs (constant, then falling in a line) or by minutes (cosine)."""

    def __init__(self, lr=2e-4, niter=100, niter_decay=100, minutes=0, since=1):
        """since: the epoch from which on the rate is lowered, if that is after niter (as_published: where stage 2 begins)."""
        self.lr, self.niter, self.niter_decay, self.minutes, self.since = lr, niter, niter_decay, minutes, since

    def rate(self, epoch, elapsed):
        """Learning rate in epoch 1, 2, ... after `elapsed` seconds. As published, the first epoch of decay still runs at lr."""
        if self.minutes:
            return self.lr * (0.5 + 0.5 * math.cos(math.pi * min(1, elapsed / 60 / self.minutes)))
        return self.lr * (1 - max(0, epoch - 1 - max(self.niter, self.since - 1)) / max(1, self.niter_decay))

    def over(self, epoch, elapsed):
        """Nothing is left to do in this epoch, at this time."""
        return elapsed >= 60 * self.minutes if self.minutes else epoch > self.niter + self.niter_decay


@dataclass
class Manner:
    """How the networks are computed, shown and continued. Names as in TrainOptions where it has them."""

    dtype: str = "fp32"
    pieces: int = 1  # gradient_accumulation
    checkpointing: bool = False  # gradient_checkpointing
    compile: bool = False
    synchronised: bool = True  # batch statistics over all processes
    in_order: bool = False  # serial_batches
    display_freq: int = 100
    tensorboard: bool = False
    wandb: bool = False
    page: bool = False
    width: int = 512
    stage: str = ""
    restart: bool = False  # a new stage begins with new optimisers and the full rate, as published
    which: str = "latest"


def fit(
    model,
    dataset,
    plan,
    folder,
    card,
    batch_size=1,
    beta1=0.5,
    device="cpu",
    seed=0,
    workers=0,
    resume=False,
    print_freq=100,
    save_latest_freq=2000,
    save_epoch_freq=25,
    half=False,
    manner=None,
):
    """Train a Pix2Pix until the plan is over.

    dataset: items with .collate and .to, and dataset.set_epoch.   folder: receives latest_net_G.safetensors and its card (and net_D),
    `<epoch>_net_G.safetensors` every save_epoch_freq epochs, loss_log.txt, iter.txt (epoch, images of it) and train_state.pt.
    card: what the card should say; images and steps are added.   batch_size: of all processes together.
    device: of a single process; many have the accelerator's.   print_freq, save_latest_freq: in images.
    resume: go on from train_state.pt.   manner: Manner.
    Returns the Progress. Raises ValueError as soon as a loss is not finite, OSError when a save fails; the last save is then still good.
    """
    crew, manner, folder = Crew(device), manner or Manner(), Path(folder)
    per_process = crew.share_of(batch_size, manner.pieces)
    if manner.dtype != "fp32" or crew.world > 1:
        widen_norms(model, manner.synchronised and crew.world > 1)
    if manner.checkpointing:
        checkpoint_layers(model)
    model.to(crew.device, memory_format=torch.channels_last).train()
    torch.manual_seed(seed)
    store = Store(folder, model, card, half, plan, beta1, Engine(crew, manner.dtype), manner)
    progress = store.restore(manner.which, batch_size) if resume else Progress()
    crew.same_weights(model)
    if manner.compile:
        for network in (model.generator, model.discriminator):
            network and network.compile()
    dataset.report = folder / BROKEN
    data = Data(dataset, batch_size, per_process, manner, seed, crew, workers)
    board = make_board(folder, crew, plan, progress, manner, data.steps * batch_size)
    try:
        _run(store, data, board, progress, (print_freq, save_latest_freq, save_epoch_freq))
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"not enough GPU memory for batchSize={batch_size}; try --dtype bf16, --gradient_accumulation {2 * manner.pieces}, "
            "--gradient_checkpointing"
        ) from error
    finally:
        board.close()
    return progress


def _run(store, data, board, progress, every):
    """The loop itself. every: (print_freq, save_latest_freq in images, save_epoch_freq in epochs)."""
    plan, engine, manner = store.plan, store.engine, store.manner
    started, said = time.monotonic() - progress.elapsed, (time.monotonic(), progress.images)
    look = True
    while not plan.over(progress.epoch, progress.elapsed):
        for pieces in data.rest_of(progress):
            rate = plan.rate(progress.epoch, progress.elapsed)
            for optimizer in store.optimizers:
                optimizer.param_groups[0]["lr"] = rate
            terms = engine.step(store.model, store.optimizers, pieces, time.monotonic() - started)
            before, progress.elapsed = progress.images, terms.pop("seconds")
            progress.images, progress.inside = progress.images + data.batch_size, progress.inside + data.batch_size
            progress.batch, progress.steps = progress.batch + 1, progress.steps + 1
            board.advance(data.batch_size, plan, progress)
            if _passes(before, progress.images, every[0]):
                now = time.monotonic(), progress.images
                board.losses(progress, terms, rate, (now[0] - said[0]) / (now[1] - said[1]))
                said = now
            if board.shows_pictures and (look or _passes(before, progress.images, manner.display_freq)):
                board.pictures(progress, store.model.task.pictures(pieces[-1], engine.made))
                look = False
            if _passes(before, progress.images, every[1]):
                store.save(progress)
            if plan.minutes and plan.over(progress.epoch, progress.elapsed):
                break
        else:
            progress.epoch, progress.batch, progress.inside = progress.epoch + 1, 0, 0
            if (progress.epoch - 1) % every[2] == 0:
                store.save(progress, str(progress.epoch - 1))
    store.save(progress)


def make_board(folder, crew, plan, progress, manner, images):
    """The Board of the first process. images: per epoch."""
    if not crew.first:
        return Silence()
    total = None if plan.minutes else images * (plan.niter + plan.niter_decay)
    return Board(
        folder, total, progress.images, manner.tensorboard, manner.wandb, manner.page, manner.width, progress.images
    )


# ------------------------------------------------------------------ data and steps


class Data:
    """Which items a process sees when. The order depends on seed and epoch alone, not on the number of processes or workers."""

    def __init__(self, dataset, batch_size, per_piece, manner, seed, crew, workers):
        """batch_size: of all processes.   per_piece: items of one process and piece.   workers: processes that read; 0 = this one."""
        self.dataset, self.batch_size, self.per_piece, self.seed = dataset, batch_size, per_piece, seed
        self.pieces, self.in_order, self.crew, self.workers = manner.pieces, manner.in_order, crew, workers
        self.steps = len(dataset) // batch_size  # an incomplete last batch is dropped
        if not self.steps:
            raise ValueError(
                f"batchSize={batch_size}, but there are only {len(dataset)} items; use a smaller batchSize"
            )

    def rest_of(self, progress):
        """What is left of an epoch: lists of pieces (batches on the device), one list per step."""
        self.dataset.set_epoch(progress.epoch)
        pieces = []
        for piece in self._loader(progress):
            pieces.append(piece.to(self.crew.device))
            if len(pieces) == self.pieces:
                yield pieces
                pieces = []

    def _loader(self, progress):
        on_gpu = self.crew.device.type != "cpu"
        return DataLoader(
            self.dataset,
            batch_sampler=self._batches(progress),
            num_workers=self.workers,
            pin_memory=on_gpu,
            collate_fn=_collate,
            prefetch_factor=4 if self.workers else None,
        )

    def _batches(self, progress):
        """Lists of items: this process's part of every batch, piece by piece."""
        order = torch.randperm(
            len(self.dataset), generator=torch.Generator().manual_seed(self.seed * 100003 + progress.epoch)
        )
        order = torch.arange(len(self.dataset)) if self.in_order else order
        shares = order[: self.steps * self.batch_size].view(self.steps, self.crew.world, self.pieces, self.per_piece)
        return shares[progress.batch :, self.crew.rank].flatten(0, 1).tolist()


def _collate(items):
    return items[0].collate(items)


class Engine:
    """Steps of both networks: in half precision if asked, piece by piece, together with the other processes."""

    def __init__(self, crew=None, dtype="fp32"):
        self.crew, self.dtype, self.made = crew or Crew(), dtype_of(dtype), None
        self.scaler = torch.amp.GradScaler(self.crew.device.type, enabled=dtype == "fp16")

    def step(self, model, optimizers, pieces, seconds=0.0):
        """One step of the generator, then one of the discriminator, both from one forward pass.

        pieces: batches that together are this process's part.   seconds: passed to the average, so that all processes have one clock.
        Returns the losses (and "seconds") as numbers, means over pieces and processes; `made` keeps the last output.
        """
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        sums = {}
        for piece in pieces:
            with torch.autocast(self.crew.device.type, self.dtype, enabled=self.dtype != torch.float32):
                terms, critic, made = model(piece)
            self.made = made.detach()
            self._backward(optimizers, terms, critic, len(pieces))
            for name, value in {**terms, **critic}.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(pieces)
        means = self.crew.average([*torch.stack(list(sums.values())).double().tolist(), seconds])
        numbers = dict(zip([*sums, "seconds"], means))
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(
                f"the loss {broken[0]} is {numbers[broken[0]]}; nothing was saved since: go on from the last save with a lower "
                "lr (--continue_train --lr ...), and look for odd values in the data"
            )
        for optimizer in optimizers:
            self.crew.average_gradients(optimizer.param_groups[0]["params"])
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        return numbers

    def _backward(self, optimizers, terms, critic, pieces):
        # The critic's graph holds weights of before its own step only, so both gradients are taken first; inputs= keeps the
        # generator's loss out of the critic's gradients.
        losses = [sum(terms.values())] + ([0.5 * sum(critic.values())] if critic else [])
        for optimizer, loss in zip(optimizers, losses):
            self.scaler.scale(loss / pieces).backward(inputs=optimizer.param_groups[0]["params"])


def _passes(before, now, every):
    return before // every != now // every


# ------------------------------------------------------------------ what both scripts say to fit()


def folder_of(options):
    """Where a training puts its files."""
    return Path(options.checkpoints_dir) / options.name


def card_of(options, architecture, dataset, command):
    """What a checkpoint says about itself: the options that build it, and how it was trained.

    architecture: the options class whose fields build the network.   command: list of words, the script's and its flags.
    """
    kept = {field.name: getattr(options, field.name) for field in dataclasses.fields(architecture)}
    return {
        "options": kept,
        "command": shlex.join(["python", *command]),
        "dataset": {**dataset_note(options.dataroot), "items": len(dataset)},
        "train_options": dataclasses.asdict(options),
    }


def train(model, dataset, card, options, runtime):
    """fit() with the numbers of TrainOptions, which opt.txt keeps; says where the result lies."""
    folder, rank = folder_of(options), int(os.environ.get("RANK", 0))
    if options.load_pretrain and not options.continue_train:
        load_networks(model, options.load_pretrain)
    if not options.continue_train and rank == 0:
        values = "".join(f"{name}: {value}\n" for name, value in sorted(dataclasses.asdict(options).items()))
        with atomic(folder / "opt.txt") as path:
            Path(path).write_text(f"------------ Options -------------\n{values}-------------- End ----------------\n")
    if rank == 0:
        (folder / BROKEN).unlink(missing_ok=True)
    card["hardware"] = hardware(runtime.device)
    plan = Plan(options.lr, options.niter, options.niter_decay, options.minutes)
    progress = fit(
        model,
        dataset,
        plan,
        folder,
        card,
        options.batchSize,
        options.beta1,
        runtime.device,
        options.seed,
        reading_processes(options.nThreads, runtime.device),
        options.continue_train,
        options.print_freq,
        options.save_latest_freq,
        options.save_epoch_freq,
        options.half,
        manner_of(options),
    )
    if rank == 0:
        print(
            f"{progress.images} images in {progress.elapsed / 60:.1f} minutes; weights: {folder}/latest_net_G.safetensors"
        )
        lost = (folder / BROKEN).read_text().splitlines() if (folder / BROKEN).is_file() else []
        if lost:
            print(
                f"{len(lost)} items could not be read: {', '.join(line.split(':')[0] for line in lost[:10])}"
                f"{', ...' if len(lost) > 10 else ''}; why: {folder / BROKEN}"
            )


def manner_of(options):
    """TrainOptions -> Manner."""
    return Manner(
        options.dtype,
        options.gradient_accumulation,
        options.gradient_checkpointing,
        options.compile,
        not options.as_published,
        options.serial_batches,
        options.display_freq,
        options.tensorboard,
        options.wandb,
        not options.no_html,
        options.display_winsize,
        getattr(options, "tr_stage", ""),
        options.as_published,
        options.which_epoch,
    )


def reading_processes(asked, device):
    """How many processes read data: as asked, at most READERS_PER_CORE for each core.

    -1 = none beside a CPU that is busy training, 4 (as published) per GPU if there are cores.
    """
    if asked >= 0:
        most = READERS_PER_CORE * (os.cpu_count() or 1)
        if asked > most:
            print(f"nThreads={asked}: {most} processes read, {READERS_PER_CORE} for each core", flush=True)
        return min(asked, most)
    share = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return 0 if torch.device(device).type == "cpu" else max(1, min(4, share))
