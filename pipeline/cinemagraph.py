"""The last stages as a library: what moves, how it moves, and the loop, of any picture, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.options.cli import load_options
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.pipeline.networks import Networks

if TYPE_CHECKING:
    import torch
    from text2cinemagraph.data.motion_file import DrawnMotion
    from text2cinemagraph.img2img.segment import Segmentation
    from text2cinemagraph.models.loop import LoopRenderer
    from text2cinemagraph.options.runtime import Runtime


@dataclass(frozen=True)
class PredictedMotion:
    """flow: [2,H,W] in px/frame, 0 outside the mask.   hint: [2,H,W] in px/frame, what words or arrows said; or None.

    method: network | constant | arrows, which of them gave the flow.
    """

    flow: torch.Tensor
    hint: torch.Tensor | None
    method: str


@dataclass(frozen=True)
class Loop:
    """A loop that is being rendered.  image: [3,H,W] in [0,1].   mask: bool [1,H,W].   flow: [2,H,W] in px/frame.

    frames: each [3,H,W] in [0,1], with alpha [4,H,W], one after the other; they can be read once.
    fps: frames per second.
    """

    image: torch.Tensor
    mask: torch.Tensor
    flow: torch.Tensor
    frames: Iterator[torch.Tensor]
    fps: int


@dataclass
class Cinemagraph:
    """Segments, predicts motion and renders loops, with the networks that a configuration names.

        model = Cinemagraph.load("inference_mini_directional")
        mask = model.segment(photo, "water, river").mask
        motion = model.motion.predict(photo, mask, arrows="100,200>180,210")
        for frame in model.video.set_image(photo, mask).render(motion.flow, speed=0.5): ...

    Pictures are [3,H,W] in [0,1], masks bool [1,H,W], True = may move, of any size. Networks are loaded when they are
    first asked for, and stay.
    """

    options: InferenceOptions
    runtime: Runtime
    networks: Networks = field(default_factory=lambda: Networks(keep_all=True))

    @classmethod
    def load(
        cls, config: str | Path = "inference_mini", *overrides: str, networks: Networks | None = None
    ) -> Cinemagraph:
        """By a configuration's path or plain name, and further "section.key=value".

        networks: a shelf to share with others of this process.  Raises ValueError or FileNotFoundError as the command
        line does.
        """
        from text2cinemagraph.options.places import located_config
        from text2cinemagraph.options.runtime import make_runtime

        options = load_options(InferenceOptions, located_config(config), list(overrides))
        r = options.runtime
        runtime = make_runtime(r.device, r.dtype, max(options.twin_extraction.seed, 0), r.threads, slicing=r.slicing)
        return cls(options, runtime, networks or Networks(keep_all=True))

    @property
    def motion(self) -> MotionDoor:
        """s5: flow from words, arrows, or the picture alone."""
        return MotionDoor(self)

    @property
    def video(self) -> LoopRenderer:
        """s6: set_image(image, mask) once, then render(flow) as often as wished. Each call gives a renderer of its own.

        Its arguments have its own defaults; `rendering` gives the configuration's.
        """
        from text2cinemagraph.pipeline.animating import renderer_of

        return renderer_of(self.options.video, self.networks, self.runtime)

    def rendering(
        self, own_picture: bool = True, resting: torch.Tensor | None = None, **changes: Any
    ) -> dict[str, Any]:
        """The arguments of LoopRenderer.render as the configuration has them.  own_picture: not drawn by s1.

        resting: where light rests under video.light=auto, bool [1,H,W]; None = nowhere.
        changes: options of its section `video`, such as speed=1.0 or seconds=3.
        """
        from text2cinemagraph.pipeline.animating import rendering_of

        return rendering_of(dataclasses.replace(self.options.video, **changes), own_picture, resting)

    def segment(self, image: torch.Tensor, vocabulary: str = "") -> Segmentation:
        """s3: the mask of what the vocabulary names, "water, river; sky"; "" = the configuration's odise.vocab.

        Raises img2img.segment.EmptyMask where nothing of it is there.
        """
        from text2cinemagraph.img2img.segment import segment
        from text2cinemagraph.pipeline.segmenting import segmenter_of

        segmenter = segmenter_of(self.options, self.networks, self.runtime)
        return segment(image, vocabulary or self.options.odise.vocab, segmenter)

    def animate(
        self,
        image: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        prompt: str = "",
        arrows: str | Path | DrawnMotion = "",
        flow: torch.Tensor | None = None,
        **changes: Any,
    ) -> Loop:
        """A picture's loop: segmented, moved and rendered as the configuration says.

        mask: None = what the vocabulary names.   prompt, arrows: see MotionDoor.predict.   flow: [2,H,W] in px/frame
        in their place.   changes: options of the section `video`, such as speed=1.0.
        """
        resting = None
        if mask is None:
            from text2cinemagraph.img2img.segment import parse_vocabulary
            from text2cinemagraph.pipeline.animating import still_waters

            found = self.segment(image)
            mask = found.mask
            resting, _ = still_waters(mask, parse_vocabulary(self.options.odise.vocab), found.class_masks)
        flow = self.motion.predict(image, mask, prompt=prompt, arrows=arrows).flow if flow is None else flow
        frames = self.video.set_image(image, mask).render(flow, **self.rendering(True, resting, **changes))
        return Loop(image, mask, flow, frames, changes.get("fps", self.options.video.fps))


@dataclass(frozen=True)
class MotionDoor:
    """s5 of a Cinemagraph."""

    model: Cinemagraph

    def predict(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        *,
        prompt: str = "",
        arrows: str | Path | DrawnMotion = "",
        method: str = "",
    ) -> PredictedMotion:
        """How the picture moves inside the mask.

        prompt: the caption; a direction in it ("in left to right direction") is followed.   arrows: motion.json, a
        labelme JSON, "x,y>x,y; ..." in px, or a DrawnMotion; they count before the prompt.
        method: one of optical_flow.method; "" = the configuration's.
        """
        from text2cinemagraph.pipeline.moving import flow_of
        from text2cinemagraph.pipeline.own_files import check_mask

        check_mask(mask, image, "the mask")
        options, state, told = self._told(mask, prompt, arrows, method, image)
        flow, hint = flow_of(options, state, told, image=image, mask=mask)
        return PredictedMotion(flow, hint, told.method)

    def hint_from(
        self, mask: torch.Tensor, *, prompt: str = "", arrows: str | Path | DrawnMotion = ""
    ) -> torch.Tensor | None:
        """The hint [2,H,W] in px/frame that the network would get; None where nothing says a direction."""
        from text2cinemagraph.pipeline.moving import hint_of

        options, state, told = self._told(mask, prompt, arrows, "network", None)
        return hint_of(options, state, told, mask)

    def _told(self, mask, prompt, arrows, method, image):
        """(options of this call, run state, what is told) of words or arrows."""
        from text2cinemagraph.data.clauses import share_out
        from text2cinemagraph.data.hint import find_directions
        from text2cinemagraph.data.motion_file import DrawnMotion, read_motion_file
        from text2cinemagraph.pipeline.moving import told
        from text2cinemagraph.pipeline.stages import RunState

        options = dataclasses.replace(
            self.model.options,
            twin_extraction=dataclasses.replace(self.model.options.twin_extraction, prompt=prompt),
            optical_flow=dataclasses.replace(
                self.model.options.optical_flow,
                use_hint=bool(find_directions(prompt)) and not arrows,
                method=method or self.model.options.optical_flow.method,
            ),
        )
        drawn = arrows if isinstance(arrows, DrawnMotion) else read_motion_file(arrows) if arrows else None

        def regions():
            if image is None:
                raise ValueError("several directions need the picture; use predict(), which finds what each is about")
            return share_out(mask, self.model.segment(image).class_masks)

        state = RunState(self.model.runtime, self.model.networks)
        return options, state, told(options, mask, drawn, regions)
