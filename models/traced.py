"""Sharp frames of a loop: every pixel is read where its path comes from, never spread; big pictures in tiles.

Two copies of the picture are read per frame, one moved forward and one moved back, as in symmetric splatting (Holynski
et al., CVPR 2021). Without a network the picture's own colours are read; with one its features, which it decodes, and
beside them what it loses of the picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from text2cinemagraph.models.blend import BLENDS, CELL, bands, cells, contrasts, joined, kept
from text2cinemagraph.models.continuation import continue_under
from text2cinemagraph.models.engines import Decoder, Decoders
from text2cinemagraph.models.networks import SymmetricSplattingNet
from text2cinemagraph.models.trace import grid_step, traced, traced_reversed
from text2cinemagraph.models.winograd import Scratch
from text2cinemagraph.softmax_splatting.backward_warp import warp_blend

LIGHTS = ("travels", "rests")
TILE = 512  # px of the frame that are made at once
REACHED = 0.75  # of the loop: until then a copy counts for something, and what it brings from under the edge is seen
LEAST_REACH = 16  # px
RIM = 8  # px around the mask that are made too: its contrast is compared with that of its neighbourhood


def traced_frames(
    image: torch.Tensor,
    flow: torch.Tensor,
    mask: torch.Tensor,
    n_frames: int,
    *,
    blend: str = "variance",
    light: str | torch.Tensor = "travels",
    shore: bool = True,
    network: SymmetricSplattingNet | None = None,
    decoders: Decoders | None = None,
    multiple: int = 1,
    keep_detail: bool = True,
    engine: str = "torch",
    numbers: Collection[int] | None = None,
) -> Iterator[torch.Tensor]:
    """The frames [3,H,W] in [0,1] of a clip that loops: frame 0 is the picture, and frame n_frames would be it again.

    image: [3,H,W] in [0,1].   flow: [2,H,W] in px/frame, 0 outside the mask.   mask: bool [1,H,W], True = may move.
    Outside the mask the frames show the fluid continued under what stands still: models.video.composite hides it.
    blend: one of BLENDS; "variance" keeps the contrast that a mean of two copies loses.   light: "travels", or "rests":
    what is coarser than about 32 px (shadows, reflections) stays where it is while the detail moves; or bool [1,H,W],
    where it rests.
    shore: what near the mask's edge has the colour of the still side stands still; False where the mask is exact.
    network: of a VideoModel, with its decoders and the `multiple` of its sides; None = the picture's colours are moved
    themselves.
    keep_detail: add what the network loses of the picture.   engine: models.engines.ENGINES.
    numbers: which frames to make, in rising order; None = all.   Raises ValueError for what does not fit.
    """
    height, width = image.shape[-2:]
    if image.shape[0] != 3 or flow.shape != (2, height, width) or mask.shape != (1, height, width):
        raise ValueError(
            f"a picture of {tuple(image.shape)}, flow of {tuple(flow.shape)}, mask of {tuple(mask.shape)}; "
            "expected [3,H,W], [2,H,W] and [1,H,W]"
        )
    if n_frames < 1:
        raise ValueError(f"n_frames={n_frames}; expected 1 or more")
    if blend not in BLENDS:
        raise ValueError(f"video.blend={blend!r} is unknown; choose one of {', '.join(BLENDS)}")
    if isinstance(light, torch.Tensor) and light.shape != mask.shape:
        raise ValueError(f"light of {tuple(light.shape)}; expected [1,H,W] like the mask, {tuple(mask.shape)}")
    if isinstance(light, str) and light not in LIGHTS:
        raise ValueError(f"video.light={light!r} is unknown; choose one of {', '.join(LIGHTS)}")
    decoders = decoders or (Decoders(network) if network else None)
    clip = TracedClip(
        image,
        flow,
        mask,
        n_frames,
        shore=shore,
        network=network,
        decoders=decoders,
        multiple=multiple,
        keep_detail=keep_detail,
        engine=engine,
    )
    return clip.frames(blend, light, range(n_frames) if numbers is None else set(numbers))


class TracedClip:
    """One clip: the continued picture or its features, kept once, and the tiles in which something may move."""

    @torch.inference_mode()
    def __init__(
        self,
        image: torch.Tensor,
        flow: torch.Tensor,
        mask: torch.Tensor,
        n_frames: int,
        *,
        shore: bool,
        network: SymmetricSplattingNet | None,
        decoders: Decoders | None,
        multiple: int,
        keep_detail: bool,
        engine: str,
    ) -> None:
        """As for traced_frames, but all of them checked."""
        self.network, self.multiple, self.engine, self.n_frames = network, multiple, engine, n_frames
        self.decoders = decoders
        self.asked = image.device
        if network:  # it says where all of the clip is computed
            device = next(network.parameters()).device
            image, flow, mask = image.to(device), flow.to(device), mask.to(device)
        self.size = tuple(image.shape[-2:])
        margin = (0, -self.size[1] % multiple, 0, -self.size[0] % multiple)
        self.image = F.pad(image[None], margin, mode="replicate")[0]
        flow, mask = F.pad(flow, margin), F.pad(mask, margin)
        reach = float(flow.norm(dim=0).max()) * n_frames * REACHED
        reach = min(max(reach, LEAST_REACH), max(min(self.size) // 3, 1))
        self.picture, self.flow, fluid, own = continue_under(self.image, flow, mask, reach, shore=shore)
        # What has the colour of the shore stands still; beyond the mask the fluid goes on, under the picture.
        self.moving = F.avg_pool2d((own | ~mask)[None].float(), 3, 1, 1, count_include_pad=False)[0]
        self.moving = self.moving * (own | ~mask)
        self.contrasts = contrasts(bands(self.picture)[0], cells(self.picture.shape[-2:]))
        self.light = bands(self.picture)[1]
        self.step = grid_step(*self.size)
        self.wanted = F.max_pool2d(mask[None].float(), 2 * RIM + 1, 1, RIM)[0] > 0
        self.tiles = list(self._tiles(self.wanted))
        self.halos, self.scratch = receptive_radius(network) if network else (0, 0), Scratch()
        self.decode: dict[tuple[int, ...], Decoder] = {}
        self.depth, self.source = 0, self.picture
        if network:
            self._encode(list(self._tiles(self.wanted | fluid)), keep_detail)
        # Pixel after pixel in memory, as they are read.
        self.source = self.source[None].contiguous(memory_format=torch.channels_last)[0]

    @torch.inference_mode()
    def frames(self, blend: str, light: str | torch.Tensor, numbers: Collection[int]) -> Iterator[torch.Tensor]:
        """As traced_frames."""
        height, width = self.size
        resting = self._resting(light)
        ahead = traced(self.flow, self.n_frames - 1, True, self.step)
        back = traced_reversed(self.flow, self.n_frames, False, self.step)
        for n, fields in enumerate(zip(ahead, back)):
            if n not in numbers:
                continue
            if n == 0:
                yield self.image[:, :height, :width].to(self.asked, copy=True)
                continue
            share = BLENDS[blend](n / self.n_frames)
            frame = self._mean(fields, (1 - share, share))
            if blend == "variance" or resting is not None:
                wanted = self._wanted_contrasts(fields, (1 - share, share)) if blend == "variance" else None
                frame = joined(frame, wanted) if resting is None else joined(frame, wanted, self.light, resting)
            frame = torch.lerp(self.image, frame.clamp(0, 1), self.moving)
            yield frame[:, :height, :width].to(self.asked)

    def _resting(self, light):
        """The share of the light that rests, as blend.joined takes it; None = all of it travels."""
        if isinstance(light, str):
            return None if light == "travels" else 1.0
        margin = [wide - side for wide, side in zip(self.image.shape[-2:], self.size)]
        where = F.pad(light[None].to(self.image), (0, margin[1], 0, margin[0]), mode="replicate")
        return F.interpolate(where, tuple(self.light.shape[1:]), mode="area")[0]

    def _mean(self, fields, shares):
        """[3,H,W]: the mean of the two copies, decoded if there is a network, tile by tile."""
        frame = self.picture.clone()
        for window in self.tiles:
            near = self._grown(window, self.halos[1])
            wanted = None if self.network else cut(self.wanted[0], window)
            read = warp_blend(self.source, fields, shares, near, step=self.step, wanted=wanted)
            if self.network:
                made = self._decode(read[: self.depth])
                made = made + read[self.depth :] if len(read) > self.depth else made
                cut(frame, window)[:] = (cut(made, inside(window, near)) + 1) / 2
            else:
                part = cut(frame, window)
                part[:] = torch.where(wanted, read, part)
        return frame

    def _wanted_contrasts(self, fields, shares):
        """The contrast that the two copies have, each with its share: [LEVELS,h,w]."""
        size = self.contrasts.shape[1:]
        coarse = [F.interpolate(field[None] / CELL, size, mode="area")[0] for field in fields]
        return warp_blend(self.contrasts, coarse, shares, (0, size[0], 0, size[1])) * kept(shares[1])

    def _tiles(self, where):
        """Windows (y0, y1, x0, x1) of at most TILE px that hold all of `where`, bool [1,H,W], and little else."""
        height, width = where.shape[-2:]
        # Only ClipDecoder takes tiles of any shape without minutes of compiling.
        tile = TILE if self.engine == "torch" else max(height, width)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                part = where[0, top : top + tile, left : left + tile]
                if part.any():
                    (y0, y1), (x0, x1) = (extent(part.any(dim)) for dim in (1, 0))
                    yield top + y0, top + y1, left + x0, left + x1

    def _grown(self, window, by):
        """A window larger by so many px on every side, inside the picture, on the network's grid."""
        grid, (height, width) = self.multiple, self.image.shape[-2:]
        y0, y1, x0, x1 = window
        y0, x0 = (max(0, (side - by) // grid * grid) for side in (y0, x0))
        y1, x1 = (min(size, -(-(side + by) // grid) * grid) for side, size in ((y1, height), (x1, width)))
        return y0, y1, x0, x1

    def _encode(self, tiles, keep_detail):
        """Fill `source` [C,H,W] with the features and, if it is kept, the detail beside them, in [-1,1]."""
        dtype = next(self.network.parameters()).dtype
        for window in tiles:
            near = self._grown(window, self.halos[1])
            far = self._grown(near, self.halos[0])
            picture = cut(self.picture, far)[None] * 2 - 1
            features, _ = self.network.encode(picture.to(dtype, memory_format=torch.channels_last))
            features = cut(features[0].float(), inside(near, far))
            if not self.depth:
                self.depth = features.shape[0]
                shape = (1, self.depth + 3 * keep_detail, *self.image.shape[1:])
                self.source = torch.zeros(shape, device=picture.device).contiguous(memory_format=torch.channels_last)[0]
            cut(self.source[: self.depth], window)[:] = cut(features, inside(window, near))
            if keep_detail:
                lost = cut(picture[0], inside(near, far)) - self._decode(features)
                cut(self.source[self.depth :], window)[:] = cut(lost, inside(window, near))

    def _decode(self, features):
        """[C,h,w] -> [3,h,w] in [-1,1]."""
        shape = tuple(features.shape)
        if shape not in self.decode:
            self.decode[shape] = self.decoders.of_clip(features, engine=self.engine, scratch=self.scratch)
        return self.decode[shape](features, torch.ones_like(features[:1]))


def receptive_radius(network: SymmetricSplattingNet) -> tuple[int, int]:
    """px: how far the encoder and the decoder look; a tile with so wide a rim has the numbers of the whole picture."""
    decoder, pixel = 0, 1
    for block in network.projector.eblocks:
        decoder += 2 * pixel  # two 3x3 convolutions
        if block.resample == "Down":
            decoder, pixel = decoder + pixel, pixel * 2
        elif block.resample == "Up":
            decoder, pixel = decoder + pixel, pixel // 2
    return 2 * len(network.encoder.gblocks), decoder


def extent(line: torch.Tensor) -> tuple[int, int]:
    """bool [n], not all False -> the first True and one beyond the last."""
    found = line.nonzero()[:, 0]
    return int(found[0]), int(found[-1]) + 1


def cut(tensor: torch.Tensor, window: tuple[int, int, int, int]) -> torch.Tensor:
    """The window (y0, y1, x0, x1) of [...,H,W], a view."""
    y0, y1, x0, x1 = window
    return tensor[..., y0:y1, x0:x1]


def inside(window: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The window in the coordinates of a larger one."""
    y0, y1, x0, x1 = window
    return y0 - outer[0], y1 - outer[0], x0 - outer[2], x1 - outer[2]
