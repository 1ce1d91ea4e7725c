"""The instructed twin: an image-editing model is asked for the picture's scene as a photograph, and held to its layout.

Any pipeline of diffusers that takes a picture and a prompt, by the class that its folder's model_index.json names:
FLUX.2 klein (Flux2KleinPipeline), Qwen-Image-Edit (QwenImageEditPlusPipeline), InstructPix2Pix, ... Such a model may
move things; how far it did is measured, and a twin that drifted is refused.
"""

from __future__ import annotations

import inspect
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from text2cinemagraph.data.checkpoint import is_whole
from text2cinemagraph.options.devices import half_or_full, machine_error
from text2cinemagraph.options.places import located

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.options.runtime import Runtime

SUGGESTED = "black-forest-labs/FLUX.2-klein-4B"  # Apache 2.0, 4 steps
LIBRARIES = ("diffusers", "transformers")  # whose classes a folder may name; no code of a folder's own is run
MULTIPLE = 64  # px: both sides suit the autoencoders, patches and U-Nets of all these models
# How a class is called where its own defaults are not what its model card says: (steps, guidance).
CARDS = {"Flux2KleinPipeline": (4, 1.0), "QwenImageEditPlusPipeline": (40, 4.0)}

SHORT_SIDE = 512  # px at which drift is measured
EDGES = 0.1  # share of the pixels that count as edges
FINE, WIDE = 1.5, 32.0  # px, sigmas: of what an edge is, and of the surroundings that its strength is compared with


@dataclass(frozen=True)
class Drift:
    """How far a twin's things moved.

    px: median way of the edges that both have, at a short side of 512 px.   shared: share of the picture's edges that
    the twin has too, in [0,1].
    """

    px: float
    shared: float


def editor_folder(source: str) -> Path:
    """The folder of an image-editing model: itself, or that of a hub id in the local cache.

    Raises FileNotFoundError that says what to fetch; ValueError for one that was cut off.
    """
    path = located(source)
    if not path.is_dir() and len(path.parts) == 2 and path.parts[0] not in ("checkpoints", "/", "..", "."):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            path = Path(snapshot_download(source, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError, OSError):
            pass  # told below
    if not (path / "model_index.json").is_file():
        raise FileNotFoundError(
            f"no image-editing model at {source}; fetch one: hf download {SUGGESTED} --local-dir {source}, or name "
            "its folder in twin_editing.model"
        )
    broken = next((file for file in sorted(path.rglob("*.safetensors")) if not is_whole(file)), None)
    if broken:
        raise ValueError(f"{broken} is a git-lfs pointer or was cut off; fetch it again")
    return path


def editor_class(folder: Path) -> Any:
    """The pipeline class that a folder names; ValueError unless diffusers has it, for a picture and a prompt."""
    import diffusers

    try:
        index = json.loads((folder / "model_index.json").read_text())
        name, parts = index["_class_name"], {part: value for part, value in index.items() if isinstance(value, list)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'model_index.json'} names no pipeline; fetch the model again") from error
    foreign = [part for part, value in parts.items() if value[0] not in (None, *LIBRARIES)]
    if foreign or not isinstance(name, str):
        raise ValueError(
            f"{folder / 'model_index.json'} asks for code of its own ({', '.join(foreign) or 'its pipeline'}), which "
            f"is not run; take a model of diffusers' own classes, such as {SUGGESTED}"
        )
    found: Any = getattr(diffusers, name, None)
    whole = inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)
    if not whole or not {"image", "prompt"} <= set(inspect.signature(found.__call__).parameters):
        why = "diffusers here has no such class" if found is None else "it takes no picture with a prompt"
        raise ValueError(f"{folder} is a {name}: {why}; expected an image-editing model such as {SUGGESTED}")
    return found


def load_editor(source: str, runtime: Runtime) -> Any:
    """The pipeline of an image-editing model, frozen, on the runtime's device; see editor_folder and editor_class.

    In bf16 where the runtime computes in half precision and the device does bf16, as these models were trained. Under
    runtime.slicing its parts come to the GPU one after the other.
    """
    import torch
    from text2cinemagraph.options.runtime import dtype_of

    folder = editor_folder(source)
    kind, dtype = editor_class(folder), runtime.dtype
    if dtype != torch.float32:
        dtype = dtype_of(half_or_full(runtime.device, "bf16")) if runtime.device.type != "cpu" else dtype
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch_dtype is the name that every diffusers takes
            pipeline = kind.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, ImportError) as error:
        if machine_error(error):
            raise
        raise ValueError(
            f"the image-editing model in {source} cannot be loaded: {str(error).strip().splitlines()[0][:120]}"
        ) from error
    pipeline.set_progress_bar_config(desc="s2 instructed twin")
    if runtime.slicing and runtime.device.type not in ("cpu", "mps"):
        pipeline.enable_model_cpu_offload(device=runtime.device)
        return pipeline
    return pipeline.to(runtime.device)


def instruction_for(words: str) -> str:
    """What an image-editing model is asked for.  words: what the scene holds, such as "waterfall, nature"."""
    return (
        f"Turn this picture into a realistic photograph of the same scene ({words}): real materials, natural light. "
        "Keep everything exactly where it is, with the same outlines, sizes and framing."
    )


def edited(
    pipeline: Any,
    picture: torch.Tensor,
    instruction: str,
    *,
    seed: int,
    steps: int = 0,
    scale: float | None = None,
    megapixels: float = 1.0,
) -> torch.Tensor:
    """What the model makes of a picture [3,H,W] in [0,1], at the picture's size, in [0,1].

    steps, scale: 0 and None are the model card's, else the pipeline's own.   megapixels: at which it works.
    Raises ValueError where it gives NaN or infinite values.
    """
    import torch
    from PIL import Image
    from text2cinemagraph.data.media import resize_image, to_uint8

    takes = inspect.signature(type(pipeline).__call__).parameters
    rows, columns = picture.shape[-2:]
    height, width = working_size(rows, columns, megapixels)
    small = resize_image(picture, (height, width), mode="bicubic").clamp(0, 1)
    own_steps, own_scale = _card(pipeline)
    steps, scale = steps or own_steps, own_scale if scale is None else scale
    guided = "true_cfg_scale" if "true_cfg_scale" in takes else "guidance_scale"
    wanted = {
        "height": height,
        "width": width,
        "num_inference_steps": steps or None,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "output_type": "np",
        "negative_prompt": " " if guided == "true_cfg_scale" else None,  # without one that guidance is off
        guided: scale,
    }
    wanted = {name: value for name, value in wanted.items() if name in takes and value is not None}
    made = pipeline(image=Image.fromarray(to_uint8(small)), prompt=instruction, **wanted).images[0]
    whole = isinstance(made, Image.Image)
    pixels = np.asarray(made.convert("RGB") if whole else made, np.float32) / (255 if whole else 1)
    if not np.isfinite(pixels).all():
        raise ValueError(
            f"the image-editing model gives NaN or infinite values in {pipeline.dtype}; use runtime.dtype=fp32"
        )
    twin = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return resize_image(twin, (rows, columns), mode="bicubic").clamp(0, 1)


def _card(pipeline):
    """(steps, guidance) of a model card, (0, None) where there is nothing to say."""
    if getattr(pipeline.config, "is_distilled", True):
        return CARDS.get(type(pipeline).__name__, (0, None))
    return 0, None


def working_size(height: int, width: int, megapixels: float) -> tuple[int, int]:
    """(H, W) of about so many megapixels in the picture's shape, both multiples of 64."""
    scale = (megapixels * 1e6 / (height * width)) ** 0.5
    return tuple(max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width))


# ---------------------------------------------------------------- drift


def drift(picture: torch.Tensor, twin: torch.Tensor) -> Drift:
    """How far the twin [3,H,W] moved the things of the picture [3,H,W], both in [0,1].

    Optical flow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) between the two maps of
    edges, whose strength is taken relative to the surroundings, so that paint and photograph look alike.
    """
    scale = SHORT_SIDE / min(picture.shape[-2:])
    size = tuple(round(side * scale) for side in (picture.shape[-1], picture.shape[-2]))
    here, there = (_edges(image, size) for image in (picture, twin))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    bytes_of = [(np.clip(edges / 4, 0, 1) * 255).astype(np.uint8) for edges in (here, there)]
    flow = search.calc(bytes_of[0], bytes_of[1], None)
    rows, columns = np.nonzero(_strong(here))
    ways = flow[rows, columns]
    near = cv2.dilate(_strong(there).astype(np.uint8), np.ones((3, 3), np.uint8))
    at = [
        np.clip(np.rint(start + way), 0, end - 1).astype(int)
        for start, way, end in ((rows, ways[:, 1], size[1]), (columns, ways[:, 0], size[0]))
    ]
    both = near[at[0], at[1]] > 0
    if not both.any():
        return Drift(float("inf"), 0.0)
    return Drift(float(np.median(np.hypot(*ways[both].T))), float(both.mean()))


def _edges(image, size):
    """How strong the edges are, relative to their surroundings: float [h,w] >= 0, about 1 on average."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy(), np.float32)
    gray = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    gray = cv2.GaussianBlur(gray, (0, 0), FINE)
    slope = np.hypot(*(cv2.Sobel(gray, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (1, 0)))
    return slope / (cv2.GaussianBlur(slope, (0, 0), WIDE) + 0.3 * slope.mean() + 1e-6)


def _strong(edges):
    """Where the strongest edges are, bool [h,w]."""
    return edges > np.quantile(edges, 1 - EDGES)
