"""The splat as a sparse matrix in plain torch operations: for a GPU without cupy. Inference only.

Row d of the matrix lists what lands on pixel d, in the order of the sources, as kernels.py does; the product with the
pictures' rows is the vendor library's.
"""

from collections.abc import Sequence

import torch


def splat_blend(
    features: torch.Tensor, displacements: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float = 1e-8
) -> tuple[torch.Tensor, torch.Tensor]:
    """As softmax_splatting.splat_blend, on any device that multiplies sparse matrices."""
    channels, height, width = features.shape
    flow = torch.stack(list(displacements)).float()
    matrix = landing_matrix(flow, torch.stack(list(weights)).float())
    ones = torch.ones(height * width, 1, device=features.device)
    total = torch.sparse.mm(matrix, ones)  # [pixels,1]
    rows = features.float().permute(1, 2, 0).reshape(-1, channels)
    mean = torch.sparse.mm(matrix, rows) / total.clamp(min=eps)
    image = mean.to(features.dtype).view(1, height, width, channels).permute(0, 3, 1, 2)[0]
    return image, total.view(1, height, width)


def splat_sum(input: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """As reference.splat_sum, without gradients.  input: [N,C,H,W].   flow: [N,2,H,W], px."""
    _, channels, height, width = input.shape
    made = []
    for picture, move in zip(input, flow.float()):
        matrix = landing_matrix(move[None], torch.ones(1, height, width, device=input.device))
        rows = picture.float().permute(1, 2, 0).reshape(-1, channels)
        made.append(torch.sparse.mm(matrix, rows).to(input.dtype).view(height, width, channels))
    return torch.stack(made).permute(0, 3, 1, 2)


def landing_matrix(flow: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sparse CSR [H*W, H*W]: entry (d, s) is how much of source pixel s lands on d, over all flow fields.

    flow: [M,2,H,W] float32, px.   weight: [M,H,W] float32, of each source pixel.
    """
    fields, _, height, width = flow.shape
    pixels = height * width
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    x, y = x + flow[:, 0], y + flow[:, 1]  # [M,H,W], landing point
    left, top = x.floor(), y.floor()
    targets, values = [], []
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # False for NaN as well
            values.append(torch.where(inside, share_x * share_y * weight, 0).flatten())
            targets.append(torch.where(inside, row * width + column, 0).long().flatten())
    source = torch.arange(pixels, device=flow.device).repeat(fields * 4)
    target, order = torch.cat(targets).sort(stable=True)  # stable: the order of the sums is always the same
    start = torch.searchsorted(target, torch.arange(pixels + 1, device=flow.device))
    return torch.sparse_csr_tensor(
        start.int(), source[order].int(), torch.cat(values)[order], (pixels, pixels), check_invariants=False
    )
