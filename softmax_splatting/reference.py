"""The definition of the splat in plain PyTorch: any device, float32 or float64, autograd."""

import torch


def splat_sum(input: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Summation splat. input: [N,C,H,W]; flow: [N,2,H,W] in px. Returns [N,C,H,W].

    A source pixel goes to the four pixels around position + flow with bilinear weights; corners outside the image are
    skipped. The gradient reaches input and, through the weights (not through floor), flow.
    """
    n, channels, height, width = input.shape
    source = input.permute(0, 2, 3, 1).reshape(-1, channels)  # [N*H*W,C]: one row per pixel
    result = torch.zeros_like(source)
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    x, y = x + flow[:, 0], y + flow[:, 1]  # [N,H,W], landing point
    left, top = x.detach().floor(), y.detach().floor()
    image = torch.arange(n, device=flow.device)[:, None, None] * (height * width)  # row of each image's first pixel
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # False for NaN as well
            weight = torch.where(inside, share_x * share_y, 0)
            target = image + torch.where(inside, row * width + column, 0).long()
            result = result.index_add(0, target.flatten(), source * weight.flatten()[:, None])
    return result.reshape(n, height, width, channels).permute(0, 3, 1, 2)
