"""s5: from one picture, its mask and (by network) a caption or a direction hint to the flow of what may move."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.data.checkpoint import load_weights, read_checkpoint, weights_of
from text2cinemagraph.data.flow import resize_flow
from text2cinemagraph.data.media import resize_image
from text2cinemagraph.data.wording import tell_cut_words
from text2cinemagraph.models.networks import build_motion
from text2cinemagraph.options.fields import Settings, known_part
from text2cinemagraph.options.places import located
from text2cinemagraph.options.runtime import Runtime
from text2cinemagraph.options.train import MotionOptions
from torch import nn

Case = tuple[torch.Tensor, torch.Tensor, "str | None", "torch.Tensor | None"]  # image, mask, text, hint


def motion_input(
    image: torch.Tensor, mask: torch.Tensor, hint: torch.Tensor | None = None, motion_norm: float = 64.0
) -> torch.Tensor:
    """What the network reads: RGB in [-1,1], mask, hint/motion_norm, as [...,4|6,H,W].

    image: [...,3,H,W] in [0,1].   mask: [...,1,H,W] bool.   hint: [...,2,H,W] in px/frame or None.
    """
    parts = [image * 2 - 1, mask.to(image.dtype)]
    if hint is not None:
        parts.append(hint.to(image.dtype) / motion_norm)
    return torch.cat(parts, -3)


def encode_captions(captions: Sequence[str], tokenizer: Any, text_encoder: Any) -> torch.Tensor:
    """Captions as token features [N,S,D]: the text encoder's last hidden state, padded to its full length (77 for
    CLIP).
    """
    tell_cut_words(list(captions), tokenizer)
    with torch.no_grad():
        return text_encoder(tokens_of(captions, tokenizer).to(text_encoder.device))[0]


def tokens_of(captions: Sequence[str], tokenizer: Any) -> torch.Tensor:
    """Captions as token numbers [N,S] int64, cut and padded to the tokenizer's full length."""
    full = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
    return tokenizer(list(captions), **full, return_tensors="pt").input_ids


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Grow x [N,C,H,W] to the right and below until both sides are multiples, by mirroring (or repeating, where too
    short).
    """
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return x
    return F.pad(x, (0, right, 0, down), mode="reflect" if down < height and right < width else "replicate")


class MotionModel:
    """Predicts flow. Units outside: [0,1] and px/frame at the picture's size; inside: [-1,1] and 1/motion_norm at
    fineSize.
    """

    def __init__(self, net: nn.Module, options: MotionOptions, text_encoder: Any = None, tokenizer: Any = None) -> None:
        """net: build_motion(options), in eval mode.   options: MotionOptions.   text_encoder, tokenizer: of
        transformers.
        """
        self.net, self.options = net, options
        self.text_encoder, self.tokenizer = text_encoder, tokenizer

    def predict(
        self, image: torch.Tensor, mask: torch.Tensor, text: str | None = None, hint: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The flow [2,H,W] of a picture in px/frame, 0 outside the mask.

        image: [3,H,W] in [0,1].   mask: [1,H,W] bool, True = may move.   text: caption, for a network that reads one.
        hint: [2,H,W] in px/frame, for a network with input_nc 6 (the authors' inference hints at motion_norm = 64
        px/frame).
        Any size: the network sees the picture with its short side at options.fineSize, padded to the sizes it can take.
        """
        return self.predict_all([(image, mask, text, hint)])[0]

    @torch.no_grad()
    def predict_all(self, cases: Sequence[Case]) -> list[torch.Tensor]:
        """The flows of many pictures, as predict() gives them up to rounding; those of one size in one pass.

        cases: list of (image, mask, text, hint), as predict() takes them.
        """
        labels = [self._label(*case) for case in cases]
        sizes = [tuple(label.shape[-2:]) for label in labels]
        flows: dict[int, torch.Tensor] = {}
        for size in dict.fromkeys(sizes):
            these = [i for i, other in enumerate(sizes) if other == size]
            batch = pad_to_multiple(torch.stack([labels[i] for i in these]), self.options.multiple)
            made = (
                self.net(batch, self._context([cases[i][2] for i in these]))[..., : size[0], : size[1]].float()
                * self.options.motion_norm
            )
            if not made.isfinite().all():
                raise ValueError(
                    "the flow network gives NaN or infinite values: its weights or the picture are damaged; "
                    "fetch the network again"
                )
            for i, flow in zip(these, made):
                image, mask = cases[i][:2]
                flows[i] = resize_flow(flow, image.shape[-2:]).to(image.device) * mask.to(image.device)
        return [flows[i] for i in range(len(cases))]

    def _label(
        self, image: torch.Tensor, mask: torch.Tensor, text: str | None, hint: torch.Tensor | None
    ) -> torch.Tensor:
        """What the network reads of one picture, [4|6,h,w] with the short side at fineSize."""
        self._check(image, mask, text, hint)
        device = next(self.net.parameters(), image).device
        size = self._network_size(*image.shape[-2:])
        small_mask = F.interpolate(mask[None].to(device).float(), size, mode="nearest")[0]
        hint = resize_flow(hint.to(device).float(), size) if hint is not None and self.options.takes_hint else None
        return motion_input(resize_image(image.to(device), size), small_mask, hint, self.options.motion_norm)

    def _network_size(self, height: int, width: int) -> tuple[int, int]:
        scale = self.options.fineSize / min(height, width)
        return round(height * scale), round(width * scale)

    def _context(self, captions: Sequence[Any]) -> torch.Tensor | None:
        return encode_captions(captions, self.tokenizer, self.text_encoder) if self.options.takes_text else None

    def _check(self, image: torch.Tensor, mask: torch.Tensor, text: str | None, hint: torch.Tensor | None) -> None:
        size = tuple(image.shape[-2:])
        for name, tensor, channels in (("image", image, 3), ("mask", mask, 1), ("hint", hint, 2)):
            if tensor is not None and tuple(tensor.shape) != (channels, *size):
                raise ValueError(f"{name} of shape {tuple(tensor.shape)}; expected {(channels, *size)}, as the image")
        if self.options.takes_text and text is None:
            raise ValueError("this motion network reads a caption, but no text was given; pass the prompt")
        if self.options.takes_text and self.text_encoder is None:
            raise ValueError(
                "this motion network reads a caption, but has no text encoder; set text_encoder_path "
                "(a folder with tokenizer/ and text_encoder/)"
            )
        if self.options.takes_hint and hint is None:
            raise ValueError(
                "this motion network reads a direction hint (input_nc=6), but none was given; "
                "put a direction into the prompt (--use_hint) or use a network with input_nc=4"
            )


def load_motion_model(folder: str | Path, options: Any, runtime: Runtime, which: str = "latest") -> MotionModel:
    """The MotionModel kept in a checkpoint folder.

    folder: holds latest_net_G.safetensors and its card, or the authors' latest_net_G.pth.
    options: MotionOptions or any object with some of its fields; counts where the card is silent (the authors' file has
    no card).
    runtime: Runtime; flow is computed in float32 whatever its dtype, one pass being cheap.
    which: "latest", or the epoch in the file name.
    """
    folder = located(folder)
    state_dict, card = read_checkpoint(folder, which)
    wanted = plain(options)
    options = options_of(MotionOptions, card, wanted)
    net = build_motion(options)
    load_weights(net, state_dict, folder)
    text_encoder = tokenizer = None
    if options.takes_text:
        choices = (
            Path(folder) / options.text_encoder_path if options.text_encoder_path else "",
            options.text_encoder_path,
            wanted.get("text_encoder_path"),
            wanted.get("tokenizer_path"),
        )
        tokenizer, text_encoder = load_text_encoder(
            _first_folder(choices, options.text_encoder_path or choices[-1]), runtime
        )
        width = text_encoder.config.hidden_size
        if width != options.context_dim:
            raise ValueError(
                f"the text encoder's tokens have {width} numbers, the motion network of {folder} expects "
                f"{options.context_dim}; set text_encoder_path to the encoder it was trained with"
            )
    return MotionModel(net.to(runtime.device).eval().requires_grad_(False), options, text_encoder, tokenizer)


def plain(options: Any) -> dict[str, Any]:
    """An options object, a dict or None as a dict of plain values."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return dataclasses.asdict(options)
    return dict(options or {})


def options_of(
    kind: type[Settings], card: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None = None
) -> Settings:
    """An instance of the options class `kind`: the card's options, then `wanted` (dict) where the card is silent.

    Entries that are no fields of `kind` (training options, for example) are left out.
    """
    return known_part(kind, {**(wanted or {}), **((card or {}).get("options") or {})})


def _first_folder(choices: Iterable[str | Path | None], shown: object) -> Path:
    for choice in choices:
        place = located(choice) if choice else None
        if place and (place / "tokenizer").is_dir() and (place / "text_encoder").is_dir():
            return place
    raise FileNotFoundError(
        f"no text encoder at '{shown}': expected a folder with tokenizer/ and text_encoder/ "
        "(diffusers layout, such as stable-diffusion-v1-4); set text_encoder_path"
    )


def load_text_encoder(folder: str | Path, runtime: Runtime) -> tuple[Any, Any]:
    """(tokenizer, text encoder) of a diffusers folder, frozen, float32."""
    from transformers import AutoTokenizer, CLIPTextModel  # a heavy import, needed only by networks that read

    _, variant = weights_of(Path(folder) / "text_encoder")
    tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    loaded: Any = CLIPTextModel.from_pretrained(
        Path(folder) / "text_encoder",
        variant=variant or None,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
    )
    text_encoder, report = loaded
    if report["missing_keys"]:  # transformers would fill them at random with a mere warning
        raise ValueError(
            f"the text encoder in {folder} lacks {len(report['missing_keys'])} weights, such as "
            f"{sorted(report['missing_keys'])[0]}; fetch it again"
        )
    return tokenizer, text_encoder.to(runtime.device).eval().requires_grad_(False)
