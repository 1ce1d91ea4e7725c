"""Reading and replacing what a U-Net computes inside, by forward hooks that undo themselves.

Layers are names: an attention layer such as "up_blocks.1.attentions.1" stands for the queries and keys of its
(first) self-attention, one of its blocks such as "up_blocks.0.attentions.1.transformer_blocks.3" for that block's; a
ResNet such as "up_blocks.1.resnets.1" for the output of its second convolution, before the shortcut
is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


def ldm_layer(side: str, index: int, kind: str) -> str:
    """The name of a block of Stable Diffusion 1.x by its LDM number.

    side: "input" or "output".   index: 1 to 11 (input), 0 to 11 (output).   kind: "attentions" or "resnets".
    """
    if side == "output":
        return f"up_blocks.{index // 3}.{kind}.{index % 3}"
    return f"down_blocks.{(index - 1) // 3}.{kind}.{(index - 1) % 3}"


@dataclass
class Features:
    """What one U-Net call computed.  queries, keys: {layer: [N,tokens,channels]}.  resnets: {layer: [N,C,h,w]}."""

    queries: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    resnets: dict = field(default_factory=dict)

    def only(self, attention_layers: Iterable[str], resnet_layers: Iterable[str], device: Any = None) -> Features:
        """The same with these layers alone (on another device)."""
        return Features(
            {n: self.queries[n].to(device or self.queries[n].device) for n in attention_layers},
            {n: self.keys[n].to(device or self.keys[n].device) for n in attention_layers},
            {n: self.resnets[n].to(device or self.resnets[n].device) for n in resnet_layers},
        )

    def bytes(self) -> int:
        """Their size in memory."""
        return sum(
            t.numel() * t.element_size() for part in (self.queries, self.keys, self.resnets) for t in part.values()
        )


def self_attention(unet: Any, layer: str) -> Any:
    """The self-attention module of an attention layer; ValueError naming the layer if there is none."""
    try:
        found = unet.get_submodule(layer)
        return found.attn1 if hasattr(found, "attn1") else found.transformer_blocks[0].attn1
    except AttributeError as error:
        raise ValueError(
            f"this U-Net has no attention layer {layer!r}; empty lists of layers take those of its family"
        ) from error


def _places(unet, attention_layers, resnet_layers):
    """(module, slot of Features, layer) for every hook."""
    for layer in attention_layers:
        attention = self_attention(unet, layer)
        yield attention.to_q, "queries", layer
        yield attention.to_k, "keys", layer
    for layer in resnet_layers:
        try:
            yield unet.get_submodule(layer).conv2, "resnets", layer
        except AttributeError as error:
            raise ValueError(f"this U-Net has no ResNet {layer!r}; name one such as up_blocks.1.resnets.1") from error


@contextmanager
def _hooked(places, make_hook):
    handles = []
    try:
        for module, slot, layer in places:
            handles.append(module.register_forward_hook(make_hook(slot, layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record(unet: Any, attention_layers: Iterable[str] = (), resnet_layers: Iterable[str] = ()) -> Iterator[Features]:
    """Within the block, every U-Net call leaves what the layers computed in the Features given."""
    seen = Features()

    def make_hook(slot, layer):
        return lambda module, inputs, output: getattr(seen, slot).__setitem__(layer, output)

    with _hooked(_places(unet, attention_layers, resnet_layers), make_hook):
        yield seen


@contextmanager
def inject(unet: Any, features: Features, rows: Sequence[int]) -> Iterator[None]:
    """Within the block, the layers of `features` compute what `features` holds instead.

    rows: for each row of the U-Net's batch, the row of the features that it gets: (0, 0, 1) gives a batch of
    [negative, uncond, cond] the features of [source uncond, source uncond, source cond].
    """
    chosen = torch.as_tensor(rows)

    def make_hook(slot, layer):
        return lambda module, inputs, output: getattr(features, slot)[layer][chosen].to(output.device, output.dtype)

    with _hooked(_places(unet, features.queries, features.resnets), make_hook):
        yield
