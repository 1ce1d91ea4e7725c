"""s6: from one picture and its flow to a looping clip, by symmetric splatting."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.data.checkpoint import load_weights, read_checkpoint
from text2cinemagraph.models.blend import BLENDS, blend_filled
from text2cinemagraph.models.engines import ENGINES, Decoders
from text2cinemagraph.models.euler import LOOKUPS, displacements, displacements_reversed
from text2cinemagraph.models.motion import options_of, plain
from text2cinemagraph.models.networks import SymmetricSplattingNet, build_video
from text2cinemagraph.options.runtime import Runtime
from text2cinemagraph.options.train import VideoOptions
from text2cinemagraph.softmax_splatting import splat_blend

HOLES = ("network", "still")


@dataclass(frozen=True)
class EncodedPicture:
    """A picture [3,H,W] in [0,1] with what the encoder makes of it, at sides that the network takes.

    padded: [1,3,h,w] in [-1,1].   features: [1,C,h,w].   metric: [1,1,h,w], the metric Z before its normalisation.
    """

    image: torch.Tensor
    padded: torch.Tensor
    features: torch.Tensor
    metric: torch.Tensor
    dtype: torch.dtype


class VideoModel:
    """Makes frames. The picture is encoded once per clip; each frame then costs two Euler steps, a splat and a decoder
    pass.
    """

    def __init__(self, net: SymmetricSplattingNet, options: VideoOptions) -> None:
        """net: build_video(options) in eval mode, folded (net.fold()) if it only makes clips.   options:
        VideoOptions.
        """
        self.net, self.options = net, options
        self.decoders = Decoders(net)

    def frames(
        self,
        image: torch.Tensor | EncodedPicture,
        flow: torch.Tensor,
        n_frames: int,
        *,
        blend: str = "linear",
        keep_detail: bool = False,
        engine: str = "torch",
        static_reuse: bool = True,
        holes: str = "network",
        lookup: str = "nearest",
    ) -> Iterator[torch.Tensor]:
        """The frames [3,H,W] in [0,1] of a clip that loops: frame n_frames would be frame 0 again.

        image: [3,H,W] in [0,1], or what encoded() made of it, for many clips of one picture.
        flow: [2,H,W] in px/frame at that size.
        Frame n blends the picture moved forward by n frames with the picture moved back by n_frames - n; the first
        one's share
        falls from 1 to 0: evenly ("linear", as published) or slowly at both ends ("smooth"), which keeps most frames
        crisp and has no kink where the loop closes.
        keep_detail: what the network loses of the picture at rest (the picture minus its decoded features) is splatted
        with the features and added to every frame, so that frame 0 is the picture itself; holes are then "still". Not
        published.
        holes: where neither direction brings anything (fast or diverging flow): "network", it sees nothing there, as
        published (often grey); "still", it sees the features of the picture at rest, and gaps of either way are closed
        (blend_filled).
        lookup: how the flow is read where a path runs between pixels, see models.euler.Particles.
        engine: see models/engines.py.   static_reuse: decode once what no frame can change (exact up to rounding;
        engine torch on a CPU). Memory grows only with the square root of n_frames. Any size.
        """
        picture = image.image if isinstance(image, EncodedPicture) else image
        if picture.shape[0] != 3 or flow.shape != (2, *picture.shape[-2:]):
            raise ValueError(
                f"a picture of {tuple(picture.shape)} with flow of {tuple(flow.shape)}; expected [3,H,W] and [2,H,W]"
            )
        if n_frames < 1:
            raise ValueError(f"n_frames={n_frames}; expected 1 or more")
        if blend not in ("linear", "smooth"):
            raise ValueError(f"blend={blend!r} is unknown; choose linear or smooth")
        if engine not in ENGINES:
            raise ValueError(f"video.engine={engine!r} is unknown; choose one of {', '.join(ENGINES)}")
        if holes not in HOLES:
            raise ValueError(f"video.holes={holes!r} is unknown; choose one of {', '.join(HOLES)}")
        if lookup not in LOOKUPS:
            raise ValueError(f"video.lookup={lookup!r} is unknown; choose one of {', '.join(LOOKUPS)}")
        fill = holes == "still" or keep_detail
        return self._finite(
            lambda: self._frames(
                image,
                flow,
                n_frames,
                share_of_back=BLENDS[blend],
                keep_detail=keep_detail,
                engine=engine,
                static_reuse=static_reuse,
                fill=fill,
                lookup=lookup,
            )
        )

    def _finite(self, start: Callable[[], Iterator[torch.Tensor]]) -> Iterator[torch.Tensor]:
        """The frames of start(); where half precision overflows, float32 computes that frame and all after it.

        Raises ValueError where float32 gives NaN or infinite values too.
        """
        frames, done = start(), 0
        while (frame := next(frames, None)) is not None:
            if not frame.isfinite().all():
                dtype = next(self.net.parameters()).dtype
                if dtype == torch.float32:
                    raise ValueError(
                        f"frame {done} holds NaN or infinite values even in float32: the video network, the picture "
                        "or the flow is damaged; run s5 again, or fetch the network again"
                    )
                print(f"note: frame {done} holds NaN or infinite values in {dtype}; computed in float32 from here on")
                self.net.float()
                frames = itertools.islice(start(), done, None)
                continue
            yield frame
            done += 1

    def reading(self, keep_detail: bool, engine: str = "torch") -> dict[str, Any]:
        """What traced_frames has to know to move this network's features in place of the picture's colours."""
        return {
            "network": self.net,
            "decoders": self.decoders,
            "multiple": self.options.multiple,
            "keep_detail": keep_detail,
            "engine": engine,
        }

    @torch.inference_mode()
    def encoded(self, image: torch.Tensor) -> EncodedPicture:
        """What the encoder makes of a picture [3,H,W] in [0,1]; frames() takes it in place of the picture."""
        device, dtype = next(self.net.parameters()).device, next(self.net.parameters()).dtype
        picture = F.pad(image.to(device)[None] * 2 - 1, self._margin(image), mode="replicate")
        features, metric = (
            code.float() for code in self.net.encode(picture.to(dtype, memory_format=torch.channels_last))
        )
        return EncodedPicture(image, picture, features, metric, dtype)

    def _margin(self, image: torch.Tensor) -> tuple[int, int, int, int]:
        """What is added to the right and below, so that the network takes the sides."""
        height, width = image.shape[-2:]
        return 0, -width % self.options.multiple, 0, -height % self.options.multiple

    @torch.inference_mode()
    def _frames(
        self,
        image: torch.Tensor | EncodedPicture,
        flow: torch.Tensor,
        n_frames: int,
        *,
        share_of_back: Callable[[float], float],
        keep_detail: bool,
        engine: str,
        static_reuse: bool,
        fill: bool,
        lookup: str,
    ) -> Iterator[torch.Tensor]:
        given = image if isinstance(image, EncodedPicture) else None
        image = image.image if isinstance(image, EncodedPicture) else image
        asked, (height, width), margin = image.device, image.shape[-2:], self._margin(image)
        device, dtype = next(self.net.parameters()).device, next(self.net.parameters()).dtype
        flow = flow.to(device)
        if given is None or given.dtype != dtype:  # in float32 since half precision overflowed
            given = self.encoded(image)
        picture, features, metric = given.padded, given.features, given.metric
        depth = features.shape[1]
        decode = self.decoders.of_clip(features[0], F.pad(flow, margin) if static_reuse else None, engine=engine)
        if keep_detail:
            features = torch.cat([features, picture - decode(features[0], torch.ones_like(picture[0, :1]))], 1)
        features = features.contiguous(memory_format=torch.channels_last)  # as the splat reads it
        importance = self.net.importance(metric)[0, 0]
        # Index (0, n, n_frames - 1) of the original: back by end + 1 - n.
        pairs = zip(displacements(flow, n_frames - 1, lookup), displacements_reversed(-flow, n_frames, lookup))
        for n, pair in enumerate(pairs):
            back = share_of_back(n / n_frames)
            shares = (1 - back, back)
            moves = [(F.pad(displacement, margin), share) for displacement, share in zip(pair, shares) if share]
            if fill:
                blended = blend_filled(features[0], moves, importance)
                total = torch.ones_like(importance)[None]
            else:
                fields, parts = zip(*moves)
                blended, total = splat_blend(features[0], fields, [importance * share for share in parts])
            frame = decode(blended[:depth], total)
            frame = (frame + blended[depth:]).clamp(-1, 1) if keep_detail else frame
            yield ((frame + 1) / 2)[:, :height, :width].to(asked)


def fade_in(mask: torch.Tensor, feather: int = 2) -> torch.Tensor:
    """The share of the frame in the composite, [1,H,W] in [0,1], 0 outside the mask; the same for a whole clip.

    mask: [1,H,W] bool.   feather: px inside the mask over which the picture fades into the frame, so that no seam
    shows; 0 = a hard edge.
    """
    share = mask.float()
    if feather:  # of a window centred on a straight edge, half is mask: 0.5..1 becomes 0..1
        border = F.pad(share[None], (feather,) * 4, mode="replicate")
        share = share * (2 * F.avg_pool2d(border, 2 * feather + 1, 1)[0] - 1).clamp(0, 1)
        near = F.max_pool2d((share >= 1).float(), 2 * feather + 3, 1, feather + 1) > 0
        share = torch.where(near, share, mask.float())  # what is too thin for a fade moves with a hard edge
    return share


def lay_over(frame: torch.Tensor, image: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The frame over the picture, each with its share; the picture itself, exactly, where the frame has none."""
    return torch.where(share > 0, torch.lerp(image, frame, share), image)


def load_video_model(
    folder: str | Path,
    options: VideoOptions | Mapping[str, Any] | None,
    runtime: Runtime,
    which: str = "latest",
    *,
    dtype: torch.dtype = torch.float32,
) -> VideoModel:
    """The VideoModel kept in a checkpoint folder, folded for inference.

    folder, options, runtime, which: as for load_motion_model, with VideoOptions.   dtype: of the network alone;
    splatting is float32.
    """
    state_dict, card = read_checkpoint(folder, which)
    architecture = options_of(VideoOptions, card, plain(options))
    net = build_video(architecture)
    load_weights(net, state_dict, folder)
    net.fold().to(runtime.device, dtype).to(memory_format=torch.channels_last)
    return VideoModel(net, architecture)
