"""The fluid continued under what stands still, so that water enters from behind a rock and not out of the rock."""

import numpy as np
import torch

# Of the short side: the fluid's outermost pixels are mixed with the shore's colour, 2 px at 512.
SHORE, SMALL = 1 / 256, 256  # a picture of 256 px has none to spare
LIP = 1 / 50  # of the short side: so deep at most reaches what has the colour of the shore
LIKE = 0.25  # its squared distance to the colour of the shore, as a share of that to the fluid further in
LIKE_CROSSED = 4.0  # where the flow crosses the edge: two thirds of the way to the colour of the fluid


def continue_under(image, flow, mask, reach, shore=True):
    """The picture and the flow of what moves, continued under what stands still: mirrored at the mask's edge.

    image: [3,H,W].   flow: [2,H,W] in px/frame, 0 outside the mask.   mask: bool [1,H,W].   reach: px, how far.
    shore: leave out of the fluid what near its edge has the colour of the still side; False where the mask is exact.
    Returns the picture [3,H,W], the flow [2,H,W], where the fluid now is, bool [1,H,W], and its own part of the mask,
    bool [1,H,W]: without what has the colour of the shore, which stands still. The flow is that of the
    nearest pixel of the fluid. Outside the reach, picture and flow stay as they are.
    """
    from scipy.ndimage import distance_transform_edt

    fluid = mask[0].cpu().numpy().astype(np.uint8)
    height, width = fluid.shape
    core = _core(image.permute(1, 2, 0).cpu().numpy(), fluid, flow.cpu().numpy()) if shore else fluid > 0
    if not core.any():  # nowhere wide enough
        core = fluid > 0
    distance, (near_y, near_x) = distance_transform_edt(~core, return_indices=True)
    y, x = np.nonzero((distance > 0) & (distance <= reach))
    near_y, near_x = near_y[y, x], near_x[y, x]
    mirror_y, mirror_x = _mirrored(2 * near_y - y, height), _mirrored(2 * near_x - x, width)
    inside = core[mirror_y, mirror_x]  # else the fluid is too narrow there for its whole mirror image
    from_y, from_x = np.where(inside, mirror_y, near_y), np.where(inside, mirror_x, near_x)
    image, flow, own = image.clone(), flow.clone(), torch.from_numpy(core)[None]
    where = own.clone()
    y, x, from_y, from_x, near_y, near_x = map(torch.from_numpy, (y, x, from_y, from_x, near_y, near_x))
    image[:, y, x] = image[:, from_y, from_x]
    flow[:, y, x] = flow[:, near_y, near_x]
    where[:, y, x] = True
    return image, flow, where.to(mask.device), own.to(mask.device)


def _core(image, fluid, flow):
    """bool [H,W]: the fluid without its shore, which would travel with it as a dark or bright lip.

    Its outermost pixels in pictures that have pixels to spare, and what near the edge has the colour of the still side
    rather than the fluid's own; where the flow crosses the edge (a source or a sink) every mixed colour counts as that,
    because there the whole lip would leave its place.   image: float32 [H,W,3].   fluid: uint8 [H,W].
    flow: float32 [2,H,W] in px/frame.
    """
    import cv2

    short = min(fluid.shape)
    rim = round(SHORE * short) if short > SMALL else 0
    depth = max(2, round(LIP * short))
    core, inner = (cv2.erode(fluid, np.ones((2 * by + 1,) * 2), borderValue=1) for by in (rim, depth))
    blurs = []
    for part in (1 - fluid, inner):
        share = cv2.GaussianBlur(np.float32(part), (0, 0), depth)
        blurs.append(
            (cv2.GaussianBlur(image * part[..., None], (0, 0), depth) / np.maximum(share, 1e-6)[..., None], share)
        )
    (still, near_still), (own, near_own) = blurs
    crossing = _crossing(fluid, flow, depth)
    like = LIKE + crossing * (LIKE_CROSSED - LIKE)
    lip = np.square(image - still).sum(2) < like * np.square(image - own).sum(2)
    lip &= (near_still > 1e-3) & (near_own > 1e-3) & (inner == 0)
    # Single pixels that stand still beside others that move would be a dotted line; and between the colours of the lip
    # and of the fluid lies another pixel or two.
    lip = cv2.boxFilter(np.float32(lip), -1, (3, 3), borderType=cv2.BORDER_REPLICATE) > 0.5
    wider = cv2.dilate(np.uint8(lip), np.ones((2 * max(1, round(short / 2 / SMALL)) + 1,) * 2)) > 0
    return (core > 0) & ~np.where(crossing > 0.5, wider, lip)


def _crossing(fluid, flow, depth):
    """[H,W] in [0,1]: how squarely the flow crosses the edge of the fluid near here, in either way."""
    import cv2

    soft = cv2.GaussianBlur(np.float32(fluid), (0, 0), depth)
    inward = np.stack([cv2.Sobel(soft, -1, 1, 0), cv2.Sobel(soft, -1, 0, 1)])
    across = np.abs((inward * flow).sum(0))
    lengths = np.sqrt(np.square(inward).sum(0) * np.square(flow).sum(0))
    return across / np.maximum(lengths, 1e-9)


def _mirrored(index, size):
    """Indices beyond 0..size-1 mirrored at its ends."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.where(index < size, index, period - index)
