"""Which items a process sees when: the order depends on seed and epoch alone, not on processes or workers."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.processes import share_of
from text2cinemagraph.models.training.state import TrainingState
from torch.utils.data import DataLoader

Batches = Callable[[TrainingState], Iterator[list[Any]]]  # what is left of an epoch: the pieces of one step at a time


class EpochBatches:
    """Every item once in an epoch, shuffled.

    accelerate's own loaders are not used: they cannot begin an epoch in the middle without moving the random state on.
    """

    def __init__(
        self, dataset: Any, config: TrainingConfig, device: torch.device, *, process: int = 0, processes: int = 1
    ) -> None:
        """dataset: items with .collate and .to, and dataset.set_epoch.   process: which of `processes` this is."""
        self.dataset, self.config, self.device, self.process, self.processes = (
            dataset,
            config,
            device,
            process,
            processes,
        )
        self.per_piece = share_of(config.batch_size, processes, config.gradient_accumulation)
        self.steps = len(dataset) // config.batch_size  # an incomplete last batch is dropped
        if not self.steps:
            raise ValueError(
                f"batchSize={config.batch_size}, but there are only {len(dataset)} items; use a smaller batchSize"
            )

    def __call__(self, state: TrainingState) -> Iterator[list[Any]]:
        """What is left of an epoch: this process's pieces of each batch, on the device."""
        self.dataset.set_epoch(state.epoch)
        pieces = []
        for piece in self._loader(state):
            pieces.append(piece.to(self.device))
            if len(pieces) == self.config.gradient_accumulation:
                yield pieces
                pieces = []

    def _loader(self, state: TrainingState) -> DataLoader:
        workers = self.config.workers
        return DataLoader(
            self.dataset,
            batch_sampler=self._numbers(state),
            num_workers=workers,
            pin_memory=self.device.type != "cpu",
            collate_fn=_collate,
            prefetch_factor=4 if workers else None,
            generator=self._generator(state),  # else it draws from torch's own, once more where an epoch is resumed
        )

    def _generator(self, state: TrainingState) -> torch.Generator:
        return torch.Generator().manual_seed(self.config.seed * 100003 + state.epoch)

    def _numbers(self, state: TrainingState) -> list[list[int]]:
        """Lists of items: this process's part of every batch, piece by piece."""
        count, pieces = len(self.dataset), self.config.gradient_accumulation
        order = torch.randperm(count, generator=self._generator(state))
        order = torch.arange(count) if self.config.serial_batches else order
        shares = order[: self.steps * self.config.batch_size].view(self.steps, self.processes, pieces, self.per_piece)
        return shares[state.batch :, self.process].flatten(0, 1).tolist()


def _collate(items: list[Any]) -> Any:
    return items[0].collate(items)


def endless(draw: Callable[[], Any]) -> Batches:
    """One epoch that never ends, of batches that draw() gives, already on the device."""

    def batches(_: TrainingState) -> Iterator[list[Any]]:
        while True:
            yield [draw()]

    return batches
