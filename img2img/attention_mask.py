"""s4: from the artistic image's self-attention to the mask of what may move.

Average the self-attention maps, cluster the image's cells by them, keep the clusters that lie inside the s3 mask,
erode.
"""

from __future__ import annotations

import colorsys

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.clauses import share_out


class AttentionMean:
    """The running mean of self-attention maps, so that none of them has to be kept.

    grid: (h, w) of the latent; a layer of h*w, (h/2)*(w/2), ... tokens is accepted, all layers of one mean alike.
    maps: float32 [tokens, heads, tokens] where `heads` are all heads of all batch rows; each row of tokens sums to 1.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self.latent_grid, self.count = grid, 0
        self.maps: torch.Tensor | None = None

    def add(self, queries: torch.Tensor, keys: torch.Tensor, heads: int) -> None:
        """Take in one layer's queries and keys [N,tokens,channels] of one U-Net call."""
        q, k = (
            x.float().unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1) for x in (queries, keys)
        )  # [N*heads,tokens,d]
        maps = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1).transpose(
            0, 1
        )  # [tokens,N*heads,tokens]
        if self.maps is None:
            self.maps = torch.zeros_like(maps)
        elif self.maps.shape != maps.shape:
            raise ValueError(
                f"attn_mask layers differ in resolution ({self.maps.shape[0]} and {maps.shape[0]} tokens); choose equal"
                " ones"
            )
        self.maps += maps
        self.count += 1

    def mean(self) -> torch.Tensor:
        """[tokens, heads, tokens]; ValueError if nothing was added."""
        if self.maps is None:
            raise ValueError(
                "no self-attention was kept: no timestep is <= attn_mask.max_timestep; raise it, or ddim_steps"
            )
        return self.maps / self.count

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is stored for s4: the mean in half precision (33 MB at 1024 tokens) and its grid."""
        maps, (h, w) = self.mean(), self.latent_grid
        shrink = round((h * w / len(maps)) ** 0.5)
        return {"maps": maps.half(), "grid": torch.tensor([h // shrink, w // shrink])}


def attention_maps(tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, tuple[int, int]]:
    """The stored tensors -> (maps float32 [tokens,heads,tokens], grid (h, w)); ValueError for tensors of another
    shape.
    """
    maps, grid = (tensors.get(name) if isinstance(tensors, dict) else None for name in ("maps", "grid"))
    if maps is None or grid is None or maps.ndim != 3 or grid.numel() != 2 or int(grid.prod()) != len(maps):
        raise ValueError("attention.safetensors holds no self-attention as s1 writes it; run --stage s1 again")
    if maps.shape[0] != maps.shape[2] or not maps.isfinite().all():
        raise ValueError("attention.safetensors holds damaged self-attention; run --stage s1 again")
    return tensors["maps"].float(), tuple(tensors["grid"].tolist())


def cluster(
    maps: torch.Tensor, grid: tuple[int, int], n_clusters: int = 5, kind: str = "spectral", *, seed: int = 0
) -> np.ndarray:
    """Group the cells whose self-attention is alike.  maps: [tokens,heads,tokens].  Returns int labels [h,w].

    kmeans: on the rows of all heads (n_init 5).  spectral: on the mean over heads as an affinity, made symmetric
    (n_init 100).
    """
    if n_clusters >= len(maps):
        raise ValueError(
            f"attn_mask.n_clusters={n_clusters}: there are only {len(maps)} cells; expected fewer clusters"
        )
    from sklearn.cluster import KMeans, SpectralClustering

    if kind == "kmeans":
        labels = KMeans(n_clusters, n_init=5, random_state=seed).fit_predict(maps.flatten(1).numpy())
    elif kind == "spectral":
        affinity = maps.mean(1).double().numpy()
        labels = SpectralClustering(
            n_clusters, affinity="precomputed", n_init=100, assign_labels="kmeans", random_state=seed
        ).fit_predict((affinity + affinity.T) / 2)
    else:
        raise ValueError(f"attn_mask.cluster_type={kind!r} is unknown; choose spectral or kmeans")
    return labels.reshape(grid)


def components(labels: np.ndarray, background: int | None = None) -> np.ndarray:
    """Split every cluster into its 8-connected components.  int [h,w] -> int [h,w] numbered from 0.

    background: a cluster id that stays one segment although it is in pieces. The original does that to id 0, which is
    an arbitrary cluster; we do it to none.
    """
    from skimage.measure import label

    shifted = np.asarray(labels) + 1
    if background is None:
        return label(shifted, background=0) - 1
    shifted[shifted == background + 1] = 0
    return label(shifted, background=0)


def resize_labels(labels: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Nearest to (H, W); integers, so that more than 255 segments stay apart."""
    return F.interpolate(torch.as_tensor(np.asarray(labels)).double()[None, None], size, mode="nearest")[0, 0].long()


def vote(segments: np.ndarray, mask: torch.Tensor, threshold: float = 0.7, combine: str = "segments") -> torch.Tensor:
    """Keep the segments whose share inside the mask is at least `threshold`.

    segments: int [h,w], any resolution.   mask: bool [1,H,W].   combine: "segments" keeps them whole, as published;
    "intersection" cuts them by the mask, for grids too coarse to draw an edge.   Returns bool [1,H,W], possibly empty.
    """
    at_full = resize_labels(segments, tuple(mask.shape[-2:]))
    inside = torch.bincount(at_full[mask[0]], minlength=int(at_full.max()) + 1)
    share = inside / torch.bincount(at_full.flatten()).clamp(min=1)
    kept = (share >= threshold)[at_full][None]
    return kept & mask if combine == "intersection" else kept


def vote_classes(
    segments: np.ndarray | None, classes: dict[str, torch.Tensor], mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Which class each pixel of the voted mask belongs to: the one that s3 saw there, else the one with the largest
    share of the pixel's segment, else the nearest.

    segments: int [h,w], any resolution, or None.   classes: {name: bool [1,H,W]} of s3.   mask: bool [1,H,W].
    Returns {name: bool [1,H,W]}, together the mask.
    """
    seen = {name: region & mask for name, region in classes.items()}
    if segments is not None:
        at_full = resize_labels(segments, tuple(mask.shape[-2:]))
        most = int(at_full.max()) + 1
        shares = torch.stack([torch.bincount(at_full[region[0]], minlength=most) for region in classes.values()])
        winner = torch.where(shares.max(0).values > 0, shares.argmax(0), -1)[at_full]
        free = mask & ~torch.stack(list(classes.values())).any(0)
        seen = {name: region | (free & (winner == i)) for i, (name, region) in enumerate(seen.items())}
    return share_out(mask, seen)


def erode(mask: torch.Tensor, ksize: int = 5, iterations: int = 0) -> torch.Tensor:
    """Retract a bool mask [1,H,W] with a square of ksize px, `iterations` times; the picture's border does not eat into
    it.
    """
    import cv2

    if iterations == 0:
        return mask
    kernel = np.ones((ksize, ksize), np.uint8)
    return torch.from_numpy(cv2.erode(mask[0].numpy().astype(np.uint8), kernel, iterations=iterations) > 0)[None]


def clusters_picture(segments: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The segments in colours, [3,H,W] in [0,1], neighbours in number far apart in hue."""
    numbers = resize_labels(segments, size)
    golden = 0.61803398875  # multiples of the golden ratio spread hues evenly
    palette = torch.tensor(
        [
            colorsys.hsv_to_rgb(n * golden % 1, 0.55 + 0.4 * (n % 2), 0.95 - 0.25 * (n % 3) / 2)
            for n in range(int(numbers.max()) + 1)
        ]
    )
    return palette[numbers].permute(2, 0, 1)
