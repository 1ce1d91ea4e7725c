"""What s6 needs of its options: which motion, which network, and the frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.models.video import VideoModel
    from text2cinemagraph.options.inference import Video


PREVIEW = 384  # px of the short side
SKIPPED = 2  # of so many frames a preview shows one


def preview_of(o: Video, image: torch.Tensor, flow: torch.Tensor, mask: torch.Tensor):
    """Options, picture, flow and mask of a quick look: small, and every second frame at half the rate."""
    from text2cinemagraph.data.flow import resize_flow
    from text2cinemagraph.data.media import resize_image

    scale = min(1, PREVIEW / min(image.shape[-2:]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
    o = dataclasses.replace(
        o, seconds=0.0, n_frames=max(2, round(o.n_frames / SKIPPED)), fps=max(1, round(o.fps / SKIPPED))
    )
    mask = resize_image(mask.float(), size) > 0.5
    return o, resize_image(image, size).clamp(0, 1), SKIPPED * resize_flow(flow, size) * mask, mask


def frames_of(
    o: Video,
    image: torch.Tensor,
    flow: torch.Tensor,
    mask: torch.Tensor,
    *,
    own_picture: bool,
    load: Callable[[], VideoModel],
) -> Iterator[torch.Tensor]:
    """The frames [3,H,W] in [0,1] of the clip that the options ask for, before they are laid over the picture.

    image: [3,H,W] in [0,1].   flow: [2,H,W] in px/frame, with the speed factor, 0 outside the mask.   mask: bool
    [1,H,W].   own_picture: the user's, not s1's.   load: gives the network; called only where the motion needs one.
    """
    from text2cinemagraph.models.traced import traced_frames

    motion = o.motion_of(own_picture)
    blend = o.blend_of(motion)
    if motion != "splat" and not o.composite:
        raise ValueError(
            f"video.composite=false needs video.motion=splat, found {motion}: beyond the mask it continues the fluid"
        )
    if motion == "splat":
        return load().frames(image, flow, o.n_frames, blend, o.keep_detail, o.engine, o.static_reuse, o.holes)
    network = load().reading(o.keep_detail, o.engine) if motion == "features" else {}
    return traced_frames(image, flow, mask, o.n_frames, blend=blend, light=o.light, shore=o.shore, **network)
