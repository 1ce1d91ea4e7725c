"""Makes rendered pictures differ as photographs do: colours, contrast, haze, blur, noise, compression.

Pictures are tensors [N,3,H,W] in [-1,1] on any device; every picture is changed in its own way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# Quantisation of a JPEG's brightness at quality 50 (ITU-T T.81, table K.1).
JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def as_photographs(pictures: torch.Tensor) -> torch.Tensor:
    """The pictures as cameras might have taken them; one in four keeps its colours, one in three its sharpness."""
    n, device = len(pictures), pictures.device

    def some(share):
        return (torch.rand(n, 1, 1, 1, device=device) < share).float()

    x = pictures / 2 + 0.5
    x = x + 0.75 * some(0.5) * torch.rand(n, 1, 1, 1, device=device) * (with_colours_of(x, x.roll(1, 0)) - x)
    x = (1 + 0.15 * some(0.75) * torch.randn(n, 3, 1, 1, device=device)) * x
    x = x.clamp(1e-3, 1) ** torch.exp(0.3 * some(0.6) * torch.randn(n, 1, 1, 1, device=device))
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * (1 + 0.5 * some(0.5) * (2 * torch.rand(n, 1, 1, 1, device=device) - 1))
    x = x + 0.4 * some(0.25) * torch.rand(n, 1, 1, 1, device=device) * (0.8 - x)  # haze
    x = blurred(x, 0.3 + 1.7 * torch.rand(n, device=device) * some(0.5).view(n))
    x = x + 0.06 * some(0.6) * torch.rand(n, 1, 1, 1, device=device) * torch.randn_like(x)
    packed = some(0.5)
    x = packed * compressed(x, 0.3 + 2.5 * torch.rand(n, 1, 1, 1, device=device) ** 2) + (1 - packed) * x
    return x.clamp(0, 1) * 2 - 1


def with_colours_of(pictures: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Each colour channel with the mean and the deviation of the other picture's."""
    mean, spread = (f(pictures, (2, 3), keepdim=True) for f in (torch.mean, torch.std))
    target, wide = (f(others, (2, 3), keepdim=True) for f in (torch.mean, torch.std))
    return (pictures - mean) * (wide / (spread + 0.02)).clamp(0.4, 2.5) + target


def blurred(pictures: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, each picture by its own sigma [N] in px (at most 2)."""
    n, c, h, w = pictures.shape
    taps = torch.arange(-5, 6, device=pictures.device).float()
    kernel = torch.exp(-0.5 * (taps / sigma.view(n, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)
    x = F.pad(pictures.reshape(1, n * c, h, w), (5, 5, 5, 5), mode="reflect")
    x = F.conv2d(x, kernel.view(-1, 1, 1, 11), groups=n * c)
    return F.conv2d(x, kernel.view(-1, 1, 11, 1), groups=n * c).view(n, c, h, w)


def compressed(pictures: torch.Tensor, coarseness: torch.Tensor) -> torch.Tensor:
    """Blocks of 8 px with rounded cosine coefficients, as JPEG stores them.

    pictures: in [0,1], both sides multiples of 8.   coarseness [N,1,1,1]: of the rounding; 1 = quality 50, 0.2 = 90.
    """
    n, c, h, w = pictures.shape
    k = torch.arange(8, device=pictures.device).float()
    basis = torch.cos(math.pi / 8 * (k[:, None] * (k[None] + 0.5))) * 0.5
    basis[0] /= math.sqrt(2)
    table = torch.tensor(JPEG_TABLE, device=pictures.device).float() / 255 * coarseness.view(n, 1, 1, 1, 1, 1)
    blocks = pictures.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    found = basis @ blocks @ basis.T
    stored = (found / table).round() * table
    return (basis.T @ stored @ basis).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)


def enlarged(pictures: torch.Tensor, labels: torch.Tensor, least: float = 0.55) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of each picture and of its labels [N,H,W] at full size.  least: of the window's side, as a share."""
    n, device = len(pictures), pictures.device
    side = least + (1 - least) * torch.rand(n, device=device)
    middle = (1 - side) * (2 * torch.rand(2, n, device=device) - 1)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2] = side, side, *middle
    grid = F.affine_grid(theta, pictures.shape, align_corners=False)
    seen = F.grid_sample(pictures, grid, "bilinear", "reflection", align_corners=False)
    named = F.grid_sample(labels[:, None].float(), grid, "nearest", "reflection", align_corners=False)
    return seen, named[:, 0].round().long()
