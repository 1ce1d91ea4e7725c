"""Sharp frames of a loop: every pixel is read where its path comes from, never spread; for big pictures in tiles.

Two copies of the picture are read per frame, one moved forward and one moved back, as in symmetric splatting (Holynski
et al., CVPR 2021), and the network decodes their blend; what it loses of the picture is read the same way and added.
"""

import torch
import torch.nn.functional as F
from text2cinemagraph.models.blend import CELL, bands, cells, contrasts, with_contrasts
from text2cinemagraph.models.continuation import continue_under
from text2cinemagraph.models.engines import make_decoder
from text2cinemagraph.models.trace import grid_step, traced, traced_reversed
from text2cinemagraph.models.winograd import Scratch
from text2cinemagraph.softmax_splatting.backward_warp import warp_blend

TILE = 512  # px, of what is decoded at once
REACHED = 0.75  # of the loop: until then a copy counts for something, and what it brings from beyond the edge is seen
LEAST_REACH = 16  # px


class TracedClip:
    """One clip: the picture's features and detail, kept once, and the tiles of the frame in which something may move."""

    @torch.inference_mode()
    def __init__(self, net, image, flow, mask, n_frames, keep_detail=True, engine="torch", multiple=1):
        """net: of a VideoModel.   image: [3,H,W] in [0,1].   flow: [2,H,W] in px/frame, 0 outside the mask.   mask: bool
        [1,H,W].   keep_detail, engine: as in VideoModel.frames.   multiple: of both sides, inside the network.
        """
        self.net, self.engine, self.multiple = net, engine, multiple
        self.size = tuple(image.shape[-2:])
        margin = (0, -self.size[1] % multiple, 0, -self.size[0] % multiple)
        self.image = F.pad(image[None], margin, mode="replicate")[0]
        flow, mask = F.pad(flow, margin), F.pad(mask, margin)
        speed = float(flow.norm(dim=0).max())
        reach = min(max(speed * n_frames * REACHED, LEAST_REACH), min(self.size) // 3)
        self.picture, self.flow, fluid = continue_under(self.image, flow, mask, reach)
        self.mask, self.step, self.n_frames = mask, grid_step(*mask.shape[-2:]), n_frames
        self.encoder_halo, self.decoder_halo = receptive_radius(net) if net is not None else (0, 0)
        self.decoders, self.scratch = {}, Scratch()
        self.tiles = list(self._tiles(mask))
        self.depth, self.source = 0, self.picture.contiguous(memory_format=torch.channels_last) if False else self.picture
        if net is not None:
            self.source = self._source(list(self._tiles(mask | fluid)), keep_detail)
        self.light = None
        self.contrasts = contrasts(bands(self.picture)[0], cells(mask.shape[-2:]))

    def _tiles(self, where):
        """Windows (y0, y1, x0, x1) of at most TILE px that hold all of `where`, bool [1,H,W], each no larger than it must."""
        height, width = where.shape[-2:]
        tile = TILE if self.engine == "torch" else max(height, width)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                part = where[0, top : top + tile, left : left + tile]
                if part.any():
                    rows, columns = (part.any(dim).nonzero()[:, 0] for dim in (1, 0))
                    yield (
                        top + int(rows[0]),
                        top + int(rows[-1]) + 1,
                        left + int(columns[0]),
                        left + int(columns[-1]) + 1,
                    )

    def _grown(self, window, by):
        """A window larger by so many px on every side, inside the picture, its sides multiples of the network's."""
        m, (height, width) = self.multiple, self.image.shape[-2:]
        y0, y1, x0, x1 = window
        y0, x0 = (max(0, (side - by) // m * m) for side in (y0, x0))
        y1, x1 = (min(size, -(-(side + by) // m) * m) for side, size in ((y1, height), (x1, width)))
        return y0, y1, x0, x1

    def _source(self, tiles, keep_detail):
        """[C,H,W], channels-last: what is read for every frame: features and, if it is kept, the detail beside them."""
        dtype = next(self.net.parameters()).dtype
        depth, made = None, None
        for window in tiles:
            near = self._grown(window, self.decoder_halo)
            far = self._grown(near, self.encoder_halo)
            picture = cut(self.picture, far)[None] * 2 - 1
            features, _ = self.net.encode(picture.to(dtype, memory_format=torch.channels_last))
            features = cut(features[0].float(), inside(near, far))
            if made is None:
                depth = features.shape[0]
                rows = torch.zeros(*self.image.shape[1:], depth + 3 * keep_detail, device=picture.device)
                made = rows.permute(2, 0, 1)
            cut(made[:depth], window)[:] = cut(features, inside(window, near))
            if keep_detail:
                rest = cut(picture[0], inside(window, far)) - cut(self._decode(features), inside(window, near))
                cut(made[depth:], window)[:] = rest
        self.depth = depth
        return made

    def _decode(self, features):
        """[C,h,w] -> [3,h,w] in [-1,1]."""
        shape = tuple(features.shape)
        if shape not in self.decoders:
            self.decoders[shape] = make_decoder(self.net.projector, features, None, self.engine, self.scratch)
        return self.decoders[shape](features, torch.ones_like(features[:1]))

    @torch.inference_mode()
    def frames(self, share_of_back, keep_variance=True, numbers=None):
        """The frames [3,H,W] in [0,1]; outside the mask they show the continued fluid: lay them over the picture."""
        height, width = self.size
        ahead = traced(self.flow, self.n_frames - 1, True, self.step)
        back = traced_reversed(self.flow, self.n_frames, False, self.step)
        for n, fields in enumerate(zip(ahead, back)):
            if numbers is not None and n not in numbers:
                continue
            share = share_of_back(n / self.n_frames)
            if n == 0:  # the picture itself
                yield self.image[:, :height, :width].clone()
                continue
            yield self._frame(fields, (1 - share, share), keep_variance)[:, :height, :width]

    def _frame(self, fields, shares, keep_variance):
        frame = self.picture.clone()
        for window in self.tiles:
            around = self._grown(window, self.decoder_halo)
            read = self._read(self.source, fields, shares, around, self.step)
            if self.depth:
                made = self._decode(read[: self.depth])
                if len(read) > self.depth:
                    made = made + read[self.depth :]
                made = (made + 1) / 2
            else:
                made = read
            cut(frame, window)[:] = cut(made, inside(window, around))
        if keep_variance or self.light is not None:
            wanted = self._read_contrasts(fields, shares)
            frame = with_contrasts(frame, wanted, self.light, keep_variance)
        return frame.clamp(0, 1)

    def _read(self, source, fields, shares, window, step):
        whole = [torch.full((1, 1), float(share), device=source.device) for share in shares]
        return warp_blend(source, list(fields), whole, window, step)

    def _read_contrasts(self, fields, shares):
        """The contrast that the two copies have, each with its share: [LEVELS,h,w]."""
        size = self.contrasts.shape[1:]
        coarse = [F.interpolate(field[None] / CELL, size, mode="area")[0] for field in fields]
        return self._read(self.contrasts, coarse, shares, (0, size[0], 0, size[1]), 1)


def receptive_radius(net):
    """px: how far the encoder and the decoder look, so that a tile with so wide a rim has the whole picture's numbers."""
    encoder = 2 * len(net.encoder.gblocks)
    decoder, pixel = 0, 1
    for block in net.projector.eblocks:
        decoder += 2 * pixel
        if block.resample == "Down":
            decoder, pixel = decoder + pixel, pixel * 2
        elif block.resample == "Up":
            pixel //= 2
            decoder += pixel
    return encoder, decoder


def cut(tensor, window):
    """The window (y0, y1, x0, x1) of [...,H,W], a view."""
    y0, y1, x0, x1 = window
    return tensor[..., y0:y1, x0:x1]


def inside(window, outer):
    """The window in the coordinates of a larger one."""
    y0, y1, x0, x1 = window
    return y0 - outer[0], y1 - outer[0], x0 - outer[2], x1 - outer[2]
