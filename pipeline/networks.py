"""Who owns the networks of a run: loaded when a stage first asks, freed when no later stage needs them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any


class Networks:
    """A shelf with one network per name. Several runs may share one shelf: what is still right stays loaded."""

    def __init__(self, keep_all: bool = False) -> None:
        """keep_all: free nothing between stages; for many runs in one process with memory enough."""
        self.keep_all = keep_all
        self._shelf: dict[str, tuple[Any, Any]] = {}

    def get(self, name: str, load: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What load(*arguments, **named) gives; the one on the shelf if it was loaded by the same function and
        arguments.
        """
        origin, network = self._shelf.get(name, (None, None))
        if origin != (load, arguments, named):
            self._shelf.pop(name, None)  # the old one goes before the new one comes: never both in memory
            del network
            network = load(*arguments, **named)
            self._shelf[name] = ((load, arguments, named), network)
        return network

    def keep(self, names: set[str]) -> None:
        """Free every network but these."""
        if self.keep_all or not set(self._shelf) - names:
            return
        self._shelf = {name: entry for name, entry in self._shelf.items() if name in names}
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
