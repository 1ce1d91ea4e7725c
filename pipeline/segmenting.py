"""The segmenter that a run's stages share: chosen by the options, owned by the shelf of networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from text2cinemagraph.img2img.segment import Segmenter, choose_backend, load_segmenter
from text2cinemagraph.options.devices import check_dtype, full_if_it_fits
from text2cinemagraph.options.runtime import dtype_of

if TYPE_CHECKING:
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.options.runtime import Runtime
    from text2cinemagraph.pipeline.networks import Networks

ODISE_IN_FULL = 12e9  # bytes that a GPU must have for fp32: 10 GB counted (docs/results/odise_memory.json), and room


def segmenter_of(
    options: InferenceOptions, networks: Networks, runtime: Runtime, chosen: tuple[str, str] | None = None
) -> Segmenter:
    """What s3 looks with, under the name "segmenter".

    chosen: what choose_backend gave, where somebody has asked it already.   Raises FileNotFoundError that says what to
    fetch.
    """
    o = options.odise
    dtype = full_if_it_fits(runtime.device, ODISE_IN_FULL) if o.dtype == "auto" else o.dtype
    check_dtype(runtime.device, dtype, "odise.dtype")
    chosen = chosen or choose_backend(o.backend, o.checkpoint)
    return networks.get("segmenter", load_segmenter, *chosen, replace(runtime, dtype=dtype_of(dtype)))
