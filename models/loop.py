"""The door of s6: a picture is set once, and loops of it are rendered as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import torch
from text2cinemagraph.data.flow import clamp_flow
from text2cinemagraph.models.traced import traced_frames
from text2cinemagraph.models.video import fade_in, lay_over

if TYPE_CHECKING:
    from text2cinemagraph.models.video import EncodedPicture, VideoModel

MOTIONS = ("splat", "features", "pixels")
LEAST_FEATHER = 2  # px: a harder edge is seen as a line
CLAMPED_AT = 512  # px of the short side at which the authors' clamp of 1 px/frame holds


class LoopRenderer:
    """Renders loops of one picture.

        loop = LoopRenderer().set_image(image, mask)
        frames = loop.render(flow, n_frames=60, speed=0.5)

    load: gives the VideoModel; called once, and only where the motion is "splat" or "features".
    """

    def __init__(self, load: Callable[[], VideoModel] | None = None) -> None:
        self._load = load
        self._model: VideoModel | None = None
        self.image: torch.Tensor | None = None
        self.mask: torch.Tensor | None = None
        self._encoded: EncodedPicture | None = (
            None  # the picture's features for "splat", which do not depend on the motion
        )

    def set_image(self, image: torch.Tensor, mask: torch.Tensor) -> LoopRenderer:
        """The picture [3,H,W] in [0,1] and what of it may move, bool [1,H,W].  Returns this renderer."""
        if image.shape[0] != 3 or tuple(mask.shape) != (1, *image.shape[-2:]):
            raise ValueError(
                f"a picture of {tuple(image.shape)} with a mask of {tuple(mask.shape)}; expected [3,H,W] and [1,H,W]"
            )
        self.image, self.mask, self._encoded = image, mask, None
        return self

    def render(
        self,
        flow: torch.Tensor,
        n_frames: int = 60,
        *,
        speed: float = 1.0,
        clamp: str = "component",
        motion: str = "pixels",
        blend: str | None = None,
        light: str | torch.Tensor = "travels",
        shore: bool = True,
        feather: float = 0.0,
        composite: bool = True,
        alpha: bool = False,
        keep_detail: bool = True,
        holes: str = "still",
        lookup: str = "nearest",
        engine: str = "torch",
        static_reuse: bool = True,
        numbers: Collection[int] | None = None,
    ) -> Iterator[torch.Tensor]:
        """The frames [3,H,W] in [0,1] of a clip that loops: frame n_frames would be frame 0 again.

        flow: [2,H,W] in px/frame.   speed: factor on it, after the clamp.   clamp: see data.flow.clamp_flow; the limit
        is 1 px/frame for a short side of 512 px, and grows with the picture.
        motion: "splat", features thrown forward, as published; "features" or "pixels", each pixel read where its path
        comes from, with and without the network.   blend: see models.blend.BLENDS; None = "linear" for splat, else
        "variance".   light, shore: see traced_frames; not for splat.   feather: width of the fade at the mask's edge,
        as a share of the short side; at least 2 px.   composite: False = what lies outside the mask is the renderer's
        too (splat alone).   alpha: frames are [4,H,W]: what moves alone, and how much of it is shown; laid over the
        picture they are the frames that come without.
        keep_detail, holes, lookup, engine, static_reuse: see VideoModel.frames.
        numbers: which frames to make, in rising order; None = all (not for splat).
        Raises ValueError for what does not fit.
        """
        if self.image is None or self.mask is None:
            raise ValueError("no picture yet; call set_image(image, mask) first")
        if motion not in MOTIONS:
            raise ValueError(f"video.motion={motion!r} is unknown; choose one of {', '.join(MOTIONS)}")
        if motion != "splat" and not composite:
            raise ValueError(
                f"video.composite=false needs video.motion=splat, found {motion}: beyond the mask it continues the "
                "fluid"
            )
        if alpha and not composite:
            raise ValueError("video.alpha=true needs video.composite=true, found false: the mask is what alpha shows")
        if motion == "splat" and numbers is not None:
            raise ValueError("video.motion=splat makes all frames in their order; leave numbers out")
        image, mask, side = self.image, self.mask, min(self.image.shape[-2:])
        flow = clamp_flow(flow, clamp, limit=side / CLAMPED_AT) * speed * mask
        blend = blend or ("linear" if motion == "splat" else "variance")
        if motion == "splat":
            if self._encoded is None:
                self._encoded = self.model.encoded(image)
            frames = self.model.frames(
                self._encoded,
                flow,
                n_frames,
                blend=blend,
                keep_detail=keep_detail,
                engine=engine,
                static_reuse=static_reuse,
                holes=holes,
                lookup=lookup,
            )
        else:
            network = self.model.reading(keep_detail, engine) if motion == "features" else {}
            frames = traced_frames(
                image, flow, mask, n_frames, blend=blend, light=light, shore=shore, numbers=numbers, **network
            )
        if not composite:
            return frames
        share = fade_in(mask, max(LEAST_FEATHER, round(feather * side)))
        if alpha:  # players without alpha show the picture where it is 0
            return (torch.cat([torch.where(share > 0, frame, image), share]) for frame in frames)
        return (lay_over(frame, image, share) for frame in frames)

    @property
    def model(self) -> VideoModel:
        """The network, loaded when it is first asked for."""
        if self._model is None:
            if self._load is None:
                raise ValueError("this motion needs the video network; give LoopRenderer a load, or use motion=pixels")
            self._model = self._load()
        return self._model
