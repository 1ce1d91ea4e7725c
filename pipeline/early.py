"""What can be told about the words and sizes of a run before any network is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from text2cinemagraph.data.notes import tell
from text2cinemagraph.data.wording import foreign, natural_clauses
from text2cinemagraph.options.places import located

if TYPE_CHECKING:
    from text2cinemagraph.options.inference import InferenceOptions


def check_words_and_sizes(options: InferenceOptions, chosen: tuple[str, ...], phrase: str | None) -> None:
    """Tell a language or wording that is not the expected one; ValueError for a size or vocabulary that cannot work.

    phrase: the direction that s5 will follow, or None.
    """
    o = options.twin_extraction
    drawn = "s1" in chosen and not options.inputs.image
    if drawn and (reason := foreign(o.prompt)):
        tell("language", f"the prompt does not look English ({reason}); the networks know English words only")
    natural = natural_clauses(o.prompt)
    if phrase and natural and natural[0][0] == phrase and options.optical_flow.use_hint:
        words = o.prompt[natural[0][1] : natural[0][2]]
        tell("direction", f'"{words}" is understood as "in {phrase} direction"')
    if "s3" in chosen and not any(word.strip() for word in options.odise.vocab.replace(";", ",").split(",")):
        raise ValueError('odise.vocab names nothing that may move; write e.g. odise.vocab="water, river, sea"')
    multiple = side_multiple(located(o.ckpt)) if drawn else 1
    if o.H % multiple or o.W % multiple:
        raise ValueError(
            f"twin_extraction.W={o.W}, H={o.H}: {o.ckpt} draws pictures whose sides are multiples of {multiple} px; "
            f"the nearest: W={_nearest(o.W, multiple)}, H={_nearest(o.H, multiple)}"
        )


def side_multiple(folder: Path) -> int:
    """Of what both sides of a drawn picture must be multiples, by a diffusers folder's config files; 1 where they say
    nothing, such as for a single file (img2img.diffusion.Diffusion.latent_shape checks again when all is loaded).
    """
    try:
        unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
        halvings = len(unet["block_out_channels"]) - 1
        if "patch" in vae:  # img2img.autoencoder.PatchAutoencoder
            return vae["patch"] * 2 ** (len(vae["encoder_channels"]) - 1) * vae["pack"] * 2**halvings
        return 2 ** (len(vae["block_out_channels"]) - 1 + halvings)
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def _nearest(side, multiple):
    return max(multiple, round(side / multiple) * multiple)
