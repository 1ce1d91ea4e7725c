"""What the options of s6 mean as arguments of its renderer, models.loop.LoopRenderer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.models.loop import LoopRenderer
    from text2cinemagraph.options.inference import Video
    from text2cinemagraph.options.runtime import Runtime
    from text2cinemagraph.pipeline.networks import Networks


PREVIEW = 384  # px of the short side
SKIPPED = 2  # of so many frames a preview shows one


def renderer_of(o: Video, networks: Networks, runtime: Runtime) -> LoopRenderer:
    """A renderer with the network of the options, which the shelf loads if the motion asks for one.

    Raises ValueError where the device does not compute in video.dtype.
    """
    from text2cinemagraph.models.loop import LoopRenderer
    from text2cinemagraph.models.video import load_video_model
    from text2cinemagraph.options.devices import check_dtype, half_or_full
    from text2cinemagraph.options.runtime import dtype_of

    kind = half_or_full(runtime.device, "bf16") if o.dtype == "auto" else o.dtype
    check_dtype(runtime.device, kind, "video.dtype")
    network = "video", load_video_model, o.folder, o.architecture, runtime
    return LoopRenderer(lambda: networks.get(*network, dtype=dtype_of(kind)))


def rendering_of(o: Video, own_picture: bool) -> dict[str, Any]:
    """The keyword arguments of LoopRenderer.render.  own_picture: the user's, not s1's."""
    motion = o.motion_of(own_picture)
    return {
        "n_frames": o.n_frames,
        "speed": o.speed,
        "clamp": o.clamp,
        "motion": motion,
        "blend": o.blend_of(motion),
        "light": o.light,
        "shore": o.shore,
        "feather": o.feather,
        "composite": o.composite,
        "alpha": o.alpha,
        "keep_detail": o.keep_detail,
        "holes": o.holes,
        "lookup": o.lookup,
        "engine": o.engine,
        "static_reuse": o.static_reuse,
    }


def preview_of(
    image: torch.Tensor, flow: torch.Tensor, mask: torch.Tensor, rendering: dict[str, Any], *, fps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any], int]:
    """Picture, flow, mask, arguments and frames/s of a quick look: small, and every second frame at half the rate."""
    from text2cinemagraph.data.flow import resize_flow
    from text2cinemagraph.data.media import resize_image

    scale = min(1, PREVIEW / min(image.shape[-2:]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
    rendering = {
        **rendering,
        "n_frames": max(2, round(rendering["n_frames"] / SKIPPED)),
        "speed": SKIPPED * rendering["speed"],
    }
    mask = resize_image(mask.float(), size) > 0.5
    return resize_image(image, size).clamp(0, 1), resize_flow(flow, size), mask, rendering, max(1, round(fps / SKIPPED))
