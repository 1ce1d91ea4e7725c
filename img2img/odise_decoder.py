"""The trained half of ODISE: Mask2Former's pixel and mask decoders, and the embeddings around them, in plain torch.

Parameters carry the names of the released `odise_label_coco_50e` file, so that it loads without a key map.
References: ODISE, arXiv 2303.04803; Mask2Former, arXiv 2112.01527; deformable attention, arXiv 2010.04159.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

GROUPS = 32  # of every GroupNorm
LEVELS, POINTS = 3, 4  # deformable attention: strides 32, 16, 8; samples per head and level


@dataclass(frozen=True)
class OdiseSizes:
    """The widths of an ODISE model; the defaults are those of `odise_label_coco_50e` with Stable Diffusion 1.3 and CLIP
    ViT-L/14@336.

    unet, vae: channels of the first block.   crop: side of the square that Stable Diffusion reads, px.
    """

    queries: int = 100
    hidden: int = 256
    heads: int = 8
    encoder_layers: int = 6
    encoder_ffn: int = 1024
    decoder_layers: int = 9
    decoder_ffn: int = 2048
    projected: int = 512  # channels of the backbone's maps
    unet: int = 320
    vae: int = 128
    context: int = 768  # channels of the U-Net's context
    tokens: int = 77
    clip: int = 768  # CLIP's joint embedding
    crop: int = 512

    @property
    def taps(self) -> tuple[int, ...]:
        """Channels of the eight features, in the order of odise.TAPS."""
        return (
            4 * self.vae,
            4 * self.vae,
            8 * self.unet,
            6 * self.unet,
            3 * self.unet,
            2 * self.unet,
            4 * self.vae,
            4 * self.vae,
        )


class NormedConv(nn.Conv2d):
    """A convolution without bias that keeps the size, then its GroupNorm.  [N,C,h,w] -> [N,C',h,w]."""

    def __init__(self, inputs: int, outputs: int, side: int = 1) -> None:
        super().__init__(inputs, outputs, side, padding=side // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    """A residual block that narrows to a quarter: one tapped feature -> [N,projected,h,w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(inputs, outputs) if inputs != outputs else None
        self.conv1 = NormedConv(inputs, outputs // 4)
        self.conv2 = NormedConv(outputs // 4, outputs // 4, 3)
        self.conv3 = NormedConv(outputs // 4, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(inner + (x if self.shortcut is None else self.shortcut(x)))


class Perceptron(nn.Module):
    """Three linear layers of one width, ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """[h*w,channels]: sines and cosines of y (first half) and x, 1-based and scaled to 2 pi, wavelengths up to 10000
    (DETR).
    """
    half = channels // 2
    wavelengths = 10000 ** (torch.arange(half, device=device) // 2 * 2 / half)

    def along(count):
        angles = torch.arange(1, count + 1, device=device)[:, None] / (count + 1e-6) * 2 * math.pi / wavelengths
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)

    y, x = along(height)[:, None].expand(-1, width, -1), along(width).expand(height, -1, -1)
    return torch.cat([y, x], -1).flatten(0, 1)


def cell_centres(height: int, width: int, device: torch.device) -> torch.Tensor:
    """[h*w,2]: (x,y) of every cell's centre, each in (0,1)."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height,
        (torch.arange(width, device=device) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack([x, y], -1).flatten(0, 1)


class DeformableAttention(nn.Module):
    """Each position reads POINTS bilinear samples per head and level, at offsets that it computes itself."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.sampling_offsets = nn.Linear(hidden, heads * LEVELS * POINTS * 2)
        self.attention_weights = nn.Linear(hidden, heads * LEVELS * POINTS)
        self.value_proj = nn.Linear(hidden, hidden)
        self.output_proj = nn.Linear(hidden, hidden)

    def forward(
        self, query: torch.Tensor, centres: torch.Tensor, source: torch.Tensor, sizes: list[tuple[int, int]]
    ) -> torch.Tensor:
        """query, source: [N,L,C], the levels one after the other.   centres: [L,2].   sizes: (h,w) per level."""
        n, length, channels = query.shape
        offsets = self.sampling_offsets(query).view(n, length, self.heads, LEVELS, POINTS, 2)
        weights = self.attention_weights(query).view(n, length, self.heads, LEVELS * POINTS).softmax(-1)
        weights = weights.transpose(1, 2).reshape(n * self.heads, 1, length, LEVELS, POINTS)
        values = (
            self.value_proj(source).view(n, length, self.heads, -1).permute(0, 2, 3, 1).flatten(0, 1)
        )  # [N*heads,c,L]
        total = values.new_zeros(())
        for level, (values_here, (h, w)) in enumerate(
            zip(values.split([h * w for h, w in sizes], -1), sizes, strict=True)
        ):
            cells = torch.tensor([w, h], device=query.device)
            places = centres[:, None, None] + offsets[..., level, :, :] / cells  # offsets are in cells
            grid = 2 * places.transpose(1, 2).flatten(0, 1) - 1
            samples = F.grid_sample(
                values_here.unflatten(-1, (h, w)), grid, mode="bilinear", padding_mode="zeros", align_corners=False
            )
            total = total + (samples * weights[..., level, :]).sum(-1)
        return self.output_proj(total.view(n, channels, length).transpose(1, 2))


class EncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward; each added, then normed."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(sizes.hidden, sizes.heads)
        self.norm1 = nn.LayerNorm(sizes.hidden)
        self.linear1 = nn.Linear(sizes.hidden, sizes.encoder_ffn)
        self.linear2 = nn.Linear(sizes.encoder_ffn, sizes.hidden)
        self.norm2 = nn.LayerNorm(sizes.hidden)

    def forward(
        self, source: torch.Tensor, positions: torch.Tensor, centres: torch.Tensor, sizes: list[tuple[int, int]]
    ) -> torch.Tensor:
        source = self.norm1(source + self.self_attn(source + positions, centres, source, sizes))
        return self.norm2(source + self.linear2(F.relu(self.linear1(source))))


class DeformableEncoder(nn.Module):
    """The layers of the pixel decoder's transformer over the maps of strides 32, 16 and 8."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.zeros(LEVELS, sizes.hidden))
        layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))
        self.encoder = nn.ModuleDict({"layers": layers})

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Three [N,C,h,w], coarse to fine -> the same, refined."""
        sizes, device = [tuple(m.shape[-2:]) for m in maps], maps[0].device
        source = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        positions = torch.cat(
            [sine_positions(h, w, source.shape[-1], device) + self.level_embed[i] for i, (h, w) in enumerate(sizes)]
        )
        centres = torch.cat([cell_centres(h, w, device) for h, w in sizes])
        for layer in self.encoder["layers"].children():
            source = layer(source, positions, centres, sizes)
        parts = source.transpose(1, 2).split([h * w for h, w in sizes], -1)
        return [part.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]


class PixelDecoder(nn.Module):
    """The backbone's maps -> mask features at stride 4 and the maps that the queries read."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(sizes.projected, sizes.hidden, 1), nn.GroupNorm(GROUPS, sizes.hidden))
            for _ in range(LEVELS)
        )
        self.transformer = DeformableEncoder(sizes)
        self.mask_features = nn.Conv2d(sizes.hidden, sizes.hidden, 1)
        self.adapter_1 = NormedConv(sizes.projected, sizes.hidden)
        self.layer_1 = NormedConv(sizes.hidden, sizes.hidden, 3)

    def forward(self, maps: dict[int, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """{stride: [N,projected,h,w]} for 4, 8, 16, 32 -> ([N,hidden,h/4,w/4], three [N,hidden,h,w] of strides 32, 16,
        8).
        """
        levels = self.transformer(
            [project(maps[stride]) for project, stride in zip(self.input_proj, (32, 16, 8), strict=True)]
        )
        fine = self.adapter_1(maps[4])
        fine = fine + F.interpolate(levels[-1], fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.mask_features(F.relu(self.layer_1(fine))), levels


class AddedAttention(nn.Module):
    """Attention of the queries to themselves or to a map, added and normed.  name: what the file calls the
    attention.
    """

    def __init__(self, name: str, hidden: int, heads: int) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.MultiheadAttention(hidden, heads, batch_first=True))
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self,
        x: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        blocked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.norm(x + getattr(self, self.name)(query, key, value, attn_mask=blocked, need_weights=False)[0])


class AddedFeedForward(nn.Module):
    """Two linear layers, added and normed."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class QueryEmbedding(nn.Module):
    """What a query is compared with words by: its own state and the mean of the mask features under its mask."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's start
        self.pool_proj = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden))
        self.mask_embed = nn.Sequential(nn.LayerNorm(hidden), Perceptron(hidden))

    def forward(self, state: torch.Tensor, mask_features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """state: [N,Q,C].   mask_features: [N,C,h,w].   masks: [N,Q,h,w] logits.   -> [N,Q,C]."""
        inside = (masks.sigmoid() > 0.5).to(mask_features.dtype)
        sums = torch.einsum("nchw,nqhw->nqc", mask_features, inside)
        pooled = sums / (inside.sum((-2, -1))[..., None] + 1e-8)  # an empty mask: 0
        return self.mask_embed(self.pool_proj(pooled) + state)


class MaskDecoder(nn.Module):
    """The queries read the maps in turn, each only where its mask of the moment is."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.heads, layers = sizes.heads, range(sizes.decoder_layers)
        self.transformer_self_attention_layers = nn.ModuleList(
            AddedAttention("self_attn", sizes.hidden, sizes.heads) for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            AddedAttention("multihead_attn", sizes.hidden, sizes.heads) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(AddedFeedForward(sizes.hidden, sizes.decoder_ffn) for _ in layers)
        self.decoder_norm = nn.LayerNorm(sizes.hidden)
        self.query_feat = nn.Embedding(sizes.queries, sizes.hidden)
        self.query_embed = nn.Embedding(sizes.queries, sizes.hidden)
        self.level_embed = nn.Embedding(LEVELS, sizes.hidden)
        self.mask_embed = Perceptron(sizes.hidden)
        self.post_mask_embed = QueryEmbedding(sizes.hidden)

    def predict(self, x: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """Mask logits [N,Q,h,w] of the queries' states x [N,Q,C]."""
        return torch.einsum("nqc,nchw->nqhw", self.mask_embed(self.decoder_norm(x)), mask_features)

    def blocked(self, masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """[N*heads,Q,L], True where a query may not look; a query whose mask is empty looks everywhere."""
        outside = F.interpolate(masks, size, mode="bilinear", align_corners=False).sigmoid().flatten(2) < 0.5
        outside = outside & ~outside.all(-1, keepdim=True)
        return outside.repeat_interleave(self.heads, 0)

    def forward(self, mask_features: torch.Tensor, levels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """-> (mask logits [N,Q,h,w], embeddings to compare with words [N,Q,C])."""
        values = [m.flatten(2).transpose(1, 2) + self.level_embed.weight[i] for i, m in enumerate(levels)]
        shapes = [(m.shape[-2], m.shape[-1]) for m in levels]
        places = [sine_positions(h, w, v.shape[-1], v.device) for (h, w), v in zip(shapes, values, strict=True)]
        keys = [v + place for v, place in zip(values, places, strict=True)]
        position = self.query_embed.weight[None]
        x = self.query_feat.weight.expand(len(mask_features), -1, -1)
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for i, (cross_attention, self_attention, feed_forward) in enumerate(layers):
            level = i % LEVELS
            blocked = self.blocked(self.predict(x, mask_features), levels[level].shape[-2:])
            x = cross_attention(x, x + position, keys[level], values[level], blocked=blocked)
            x = feed_forward(self_attention(x, x + position, x + position, x))
        masks = self.predict(x, mask_features)
        return masks, self.post_mask_embed(self.decoder_norm(x), mask_features, masks)


class Conditioning(nn.Module):
    """A CLIP image embedding [N,clip] -> [N,tokens,width]: one linear layer, then a position per token."""

    def __init__(self, inputs: int, outputs: int, tokens: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.positional_embedding = nn.Parameter(torch.zeros(1, tokens, outputs))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.linear(embedding)[:, None] + self.positional_embedding


class Captioner(nn.Module):
    """The implicit caption: what is added to the empty prompt's context and to the U-Net's time embedding."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.alpha_cond = nn.Parameter(torch.zeros(1, sizes.tokens, sizes.context))
        self.alpha_cond_time_embed = nn.Parameter(torch.zeros(4 * sizes.unet))
        self.clip_project = Conditioning(sizes.clip, sizes.context, sizes.tokens)
        self.time_embed_project = Conditioning(sizes.clip, 4 * sizes.unet, 1)

    def forward(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N,clip] -> ([N,tokens,context], [N,4*unet])."""
        return (
            self.alpha_cond.tanh() * self.clip_project(embedding),
            self.alpha_cond_time_embed.tanh() * self.time_embed_project(embedding)[:, 0],
        )


class CategoryHead(nn.Module):
    """Words and "none of them", in the space of the queries' embeddings."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.null_embed = nn.Parameter(torch.zeros(1, sizes.clip))
        self.text_proj = nn.Linear(sizes.clip, sizes.hidden)


class TrainedParts(nn.Module):
    """Everything that the ODISE file holds, under its names."""

    def __init__(self, sizes: OdiseSizes) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "feature_extractor": Captioner(sizes),
                "feature_projections": nn.ModuleList(
                    nn.Sequential(Bottleneck(channels, sizes.projected)) for channels in sizes.taps
                ),
            }
        )
        self.sem_seg_head = nn.ModuleDict({"pixel_decoder": PixelDecoder(sizes), "predictor": MaskDecoder(sizes)})
        self.category_head = CategoryHead(sizes)

    def masks(self, maps: dict[int, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """{stride: map} -> (mask logits [N,Q,h/4,w/4], queries' embeddings [N,Q,hidden])."""
        return self.sem_seg_head["predictor"](*self.sem_seg_head["pixel_decoder"](maps))
