"""The fluid continued under what stands still, so that water enters from behind a rock and not out of the rock."""

import numpy as np
import torch

# Of the short side: the fluid's outermost pixels are mixed with the shore's colour and are not mirrored, 2 px at 512.
# Small pictures keep them: one pixel of 256 costs 0.6 dB against the true clips of the procedural landscapes.
SHORE, SMALL = 1 / 256, 256


def continue_under(image, flow, mask, reach):
    """The picture and the flow of what moves, continued under what stands still: mirrored at the mask's edge.

    image: [3,H,W].   flow: [2,H,W] in px/frame, 0 outside the mask.   mask: bool [1,H,W].   reach: px, how far.
    Returns the picture [3,H,W], the flow [2,H,W] and where the fluid now is, bool [1,H,W]. The flow is that of the
    nearest pixel of the fluid. Outside the reach, picture and flow stay as they are.
    """
    import cv2
    from scipy.ndimage import distance_transform_edt

    fluid = mask[0].cpu().numpy().astype(np.uint8)
    height, width = fluid.shape
    shore = round(SHORE * min(height, width)) if min(height, width) > SMALL else 0
    core = cv2.erode(fluid, np.ones((2 * shore + 1,) * 2), borderValue=1) > 0 if shore else fluid > 0
    if not core.any():  # nowhere wide enough
        core = fluid > 0
    distance, (near_y, near_x) = distance_transform_edt(~core, return_indices=True)
    y, x = np.nonzero((distance > 0) & (distance <= reach))
    near_y, near_x = near_y[y, x], near_x[y, x]
    mirror_y, mirror_x = _mirrored(2 * near_y - y, height), _mirrored(2 * near_x - x, width)
    inside = core[mirror_y, mirror_x]  # else the fluid is too narrow there for its whole mirror image
    from_y, from_x = np.where(inside, mirror_y, near_y), np.where(inside, mirror_x, near_x)
    image, flow, where = image.clone(), flow.clone(), torch.from_numpy(core.copy())[None]
    y, x, from_y, from_x, near_y, near_x = map(torch.from_numpy, (y, x, from_y, from_x, near_y, near_x))
    image[:, y, x] = image[:, from_y, from_x]
    flow[:, y, x] = flow[:, near_y, near_x]
    where[:, y, x] = True
    return image, flow, where.to(mask.device)


def _mirrored(index, size):
    """Indices beyond 0..size-1 mirrored at its ends."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.where(index < size, index, period - index)
