"""What s6 needs of its options: which motion, which network, and the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.models.video import VideoModel
    from text2cinemagraph.options.inference import Video


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
    if motion == "splat":
        return load().frames(image, flow, o.n_frames, blend, o.keep_detail, o.engine, o.static_reuse, o.holes)
    network = load().reading(o.keep_detail, o.engine) if motion == "features" else {}
    return traced_frames(image, flow, mask, o.n_frames, blend=blend, light=o.light, **network)
