"""The pictures that the trainers draw from: kept as bytes on one device, growing while training goes on.

A page holds the pictures of one size. On a GPU everything a training step needs is there already: no step waits for a
disk or a bus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.mini.training import half_precision

if TYPE_CHECKING:
    from text2cinemagraph.mini.scenes import Scenes


class Page:
    """Pictures of one size, with what is known of them; the first `count` rows are filled.

    pictures uint8 [n,H,W,3]; looks int64 [n], 0 = natural; labels uint8 [scenes,H,W] and scene int64 [n], its row
    there; tokens int16 [n,wordings,words] and latents float16 [n,views,C,h,w], or None.
    """

    def __init__(
        self,
        size: int,
        scenes: int,
        variants: int,
        device: torch.device | str,
        *,
        wordings: tuple[int, int] | None = None,
        mirrored: bool = True,
    ) -> None:
        """scenes: how many there will be at most, of `variants` pictures each.   wordings: (captions per picture,
        tokens per caption), or None.   mirrored: latents of the mirrored pictures are kept beside the others.
        """
        n = scenes * variants
        self.size, self.device, self.views = size, torch.device(device), 1 + mirrored
        self.pictures = torch.empty(n, size, size, 3, dtype=torch.uint8, device=device)
        self.labels = torch.empty(scenes, size, size, dtype=torch.uint8, device=device)
        self.looks, self.scene = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
        self.tokens = wordings and torch.zeros(n, *wordings, dtype=torch.int16, device=device)
        self.latents, self.encoded = None, 0
        self.count = self.scenes = 0

    def full(self, variants: int = 1) -> bool:
        """Whether another scene of so many pictures has no room."""
        return self.scenes >= len(self.labels) or self.count + variants > len(self.pictures)

    def add(
        self, pictures: np.ndarray, looks: Sequence[int], label: np.ndarray, tokens: np.ndarray | None = None
    ) -> None:
        """One scene: pictures uint8 [k,H,W,3], looks [k], label uint8 [H,W], tokens int [k,wordings,words]."""
        if self.full(len(pictures)):
            raise ValueError(f"the page of {self.size} px is full: {self.scenes} scenes, {self.count} pictures")
        rows = slice(self.count, self.count + len(pictures))
        self.pictures[rows] = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        self.labels[self.scenes] = torch.from_numpy(np.ascontiguousarray(label)).to(self.device)
        self.looks[rows] = torch.as_tensor(looks, device=self.device)
        self.scene[rows] = self.scenes
        if self.tokens is not None:
            self.tokens[rows] = torch.as_tensor(tokens).to(self.device, torch.int16)
        self.count, self.scenes = rows.stop, self.scenes + 1

    def choose(self, count: int) -> torch.Tensor:
        """int64 [count]: rows drawn so that every look comes equally often, however many pictures it has."""
        return torch.multinomial(shares_of_looks(self.looks[: self.count]), count, replacement=True)

    def windows(self, count: int, side: int) -> torch.Tensor:
        """[count,3,side,side] in [-1,1], channels last: a quarter of them of twice the size and shrunk where there is
        room, half of them mirrored.
        """
        large = round(count / 4) if 2 * side <= self.size else 0
        made = [self._cut(count - large, side)]
        if large:
            made.append(F.avg_pool2d(self._cut(large, 2 * side), 2))
        return torch.cat(made).contiguous(memory_format=torch.channels_last)

    def _cut(self, count: int, side: int) -> torch.Tensor:
        rows, device = self.choose(count), self.device
        y, x = (torch.randint((self.size - side) // 2 + 1, (count,), device=device) * 2 for _ in range(2))
        # even corners keep the pixel pairs of JPEG's colour together
        span = torch.arange(side, device=device)
        across = torch.where(torch.rand(count, 1, device=device) < 0.5, span.flip(0), span)  # mirrored or not
        cut = self.pictures[rows[:, None, None], (y[:, None] + span)[:, :, None], (x[:, None] + across)[:, None, :]]
        return to_range(cut)

    def labelled(self, count: int, painted: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(pictures [count,3,H,W] in [-1,1], labels int64 [count,H,W]), half of them mirrored.

        painted: share of the pictures that are paintings.
        """
        natural = self.looks[: self.count] == 0
        shares = torch.where(natural, (1 - painted) / natural.sum(), painted / (~natural).sum().clamp(min=1))
        rows = torch.multinomial(shares, count, replacement=True)
        pictures, labels = to_range(self.pictures[rows]), self.labels[self.scene[rows]].long()
        flip = torch.rand(count, device=self.device) < 0.5
        return (
            torch.where(flip.view(-1, 1, 1, 1), pictures.flip(-1), pictures),
            torch.where(flip.view(-1, 1, 1), labels.flip(-1), labels),
        )

    @torch.no_grad()
    def encode(self, vae: Any, batch: int = 64, everything: bool = False) -> None:
        """Latents of the pictures that have none yet, in full batches; a smaller rest waits for the next call (a new
        shape costs a GPU a search for its quickest kernels), except the first pictures, or if everything is asked for.
        """
        while self.encoded + batch <= self.count or self.encoded < self.count and (everything or not self.encoded):
            rows = slice(self.encoded, min(self.encoded + batch, self.count))
            x = to_range(self.pictures[rows])
            with half_precision(self.device):
                views = [vae.encode(v).latent_dist.mode() for v in (x, x.flip(-1))[: self.views]]
            made = torch.stack(views, 1).half()
            if self.latents is None:
                self.latents = torch.empty(len(self.pictures), *made.shape[1:], dtype=torch.float16, device=self.device)
            self.latents[rows] = made
            self.encoded = rows.stop


class Deck:
    """What the U-Net learns from: latents with captions, drawn so that every look comes equally often.

    latents float16 [n,views,C,h,w]; tokens int [n,wordings,words]; looks int64 [n]; empty int64 [1,words]: of "".
    """

    def __init__(self, latents: torch.Tensor, tokens: torch.Tensor, looks: torch.Tensor, empty: torch.Tensor) -> None:
        self.latents, self.tokens, self.empty = latents, tokens, empty.to(latents.device)
        self.shares = shares_of_looks(looks)

    def draw(self, count: int, silent: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
        """(latents float32 [count,C,h,w], tokens int64 [count,words]); silent: share of empty captions."""
        device = self.latents.device
        rows = torch.multinomial(self.shares, count, replacement=True)
        view = torch.randint(self.latents.shape[1], (count,), device=device)
        wording = torch.randint(self.tokens.shape[1], (count,), device=device)
        dropped = torch.rand(count, 1, device=device) < silent
        return self.latents[rows, view].float(), torch.where(dropped, self.empty, self.tokens[rows, wording].long())


def deck_of(page: Page, empty: torch.Tensor) -> Deck:
    """The Deck of what is encoded of a page; it shares the page's memory."""
    n = page.encoded
    return Deck(page.latents[:n], page.tokens[:n], page.looks[:n], empty)


def page_of(scenes: Scenes, device: torch.device | str, progress: Callable[[range], Iterable[int]] = iter) -> Page:
    """The Page of Scenes on disk, all of one size."""
    variants = 1 + max((len(scene["styles"]) for scene in scenes.scenes), default=0)
    size = scenes.label(0).shape[0]
    page = Page(size, len(scenes), variants, device)
    styles = sorted({style for scene in scenes.scenes for style in scene["styles"]})
    for index in progress(range(len(scenes))):
        looks = (None, *scenes.scenes[index]["styles"])
        pictures = np.stack([scenes.picture(index, style) for style in looks])
        page.add(pictures, [0 if style is None else 1 + styles.index(style) for style in looks], scenes.label(index))
    return page


def to_range(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 [N,H,W,3] on any device -> float [N,3,H,W] in [-1,1], channels last."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def shares_of_looks(looks: torch.Tensor) -> torch.Tensor:
    """float [n]: how often to take each picture, so that every look comes equally often.  looks: int64 [n]."""
    counts = torch.bincount(looks)
    return 1 / ((counts > 0).sum() * counts[looks])


def power_above(pictures: torch.Tensor, cycles: float) -> torch.Tensor:
    """[N]: power of pictures [N,3,H,W] above a spatial frequency, in cycles per px."""
    power = torch.fft.fft2(pictures.float() - pictures.float().mean((2, 3), keepdim=True)).abs().square().sum(1)
    fy, fx = (torch.fft.fftfreq(n, device=pictures.device).abs() for n in pictures.shape[-2:])
    return (power * ((fy[:, None] ** 2 + fx[None] ** 2).sqrt() > cycles)).sum((1, 2))
