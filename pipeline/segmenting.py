"""The segmenter that a run's stages share: chosen by the options, owned by the shelf of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from text2cinemagraph.img2img.segment import Segmenter, choose_backend, load_segmenter

if TYPE_CHECKING:
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.options.runtime import Runtime
    from text2cinemagraph.pipeline.networks import Networks


def segmenter_of(options: InferenceOptions, networks: Networks, runtime: Runtime) -> Segmenter:
    """What s3 looks with, under the name "segmenter". Raises FileNotFoundError that says what to fetch."""
    chosen = choose_backend(options.odise.backend, options.odise.checkpoint)
    return networks.get("segmenter", load_segmenter, *chosen, runtime)
