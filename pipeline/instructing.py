"""What s2 asks of an image-editing model (twin_generation.method=edit), and when it refuses the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from text2cinemagraph.data.hint import without_directions
from text2cinemagraph.img2img.instructed import Drift, instruction_for
from text2cinemagraph.img2img.prompts import load_nouns, twin_prompt
from tqdm import tqdm

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.experiment import Experiment
    from text2cinemagraph.options.inference import InferenceOptions, TwinEditing


def instruction_of(options: InferenceOptions, nouns: str) -> str:
    """The user's own instruction, else one with the twin's words.  nouns: file of twin_prompt's list."""
    words = options.twin_generation.prompt or twin_prompt(
        without_directions(options.twin_extraction.prompt), load_nouns(nouns)
    )
    return options.twin_editing.instruction or instruction_for(words)


def check_drift(found: Drift, o: TwinEditing, experiment: Experiment, twin: torch.Tensor) -> None:
    """Tell how far a twin drifted. Raises ValueError, and leaves the picture to look at, where it is too far."""
    refused = experiment.path("twin_refused")
    refused.unlink(missing_ok=True)
    tqdm.write(f"s2: the twin drifted by {found.px:.1f} px of 512, {found.shared:.0%} of the edges are shared")
    if found.px <= o.drift and found.shared >= o.shared:
        return
    experiment.write(twin_refused=twin)
    what = f"drifted by {found.px:.1f} px (twin_editing.drift={o.drift:g})"
    if found.shared < o.shared:
        what = f"has {found.shared:.0%} of the picture's edges (twin_editing.shared={o.shared:g})"
    raise ValueError(f"the twin {what}: see {refused}; another twin_extraction.seed, instruction or model, or inject")
