"""Masks brought to the edges of a picture: from a rough mask, or from a few strokes of what moves and what does not.

No weights: GrabCut, superpixels with a random walk, and a guided filter. Images [3,H,W] in [0,1], masks bool [1,H,W].
"""

import cv2
import numpy as np
import torch

SMALL = 320  # px, geometric mean of the sides: GrabCut runs on a copy of this size, the guided filter brings it back
SURE = 0.8  # agreement from which a mask is kept: above, GrabCut made five of five masks of photographs worse (by .006
# to .08 IoU), below, it took lakes from .52 to .99 and .47 to .80 and lost .08 in one of five
SUPERPIXELS = 1500  # of the random walk: about 13 px a side at 512 px
ISLAND = 0.01  # of the mask: a segmenter's smaller pieces (a strip of snow that it takes for sky) are left out
BAND = 1 / 64  # of the geometric mean of the sides: how far from its line a rough mask may be wrong


def refined(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, float]:
    """A rough mask moved to the edges of the picture by GrabCut: what looks like the mask's inside joins, what does not
    leaves.

    image: [3,H,W] in [0,1].   mask: bool [1,H,W]; its inner part stays.
    Returns the new mask, bool [1,H,W] (the old one where it is empty or full), and how far the old one agrees with what
    GrabCut found: intersection over union. From SURE on, only the edge is moved, by the guided filter. Pieces of less
    than ISLAND of the mask are left out.
    """
    if not mask.any() or mask.all():
        return mask, 1.0
    small = _small(image)
    rough = _resized(mask[0].numpy(), small.shape[:2]) > 0.5
    reach = 2 * round(BAND * 1.75 * SMALL / 2) + 1
    sure = cv2.erode(np.uint8(rough), np.ones((reach, reach), np.uint8), borderValue=1) > 0
    trimap = np.where(rough, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[sure] = cv2.GC_FGD
    found = _at_full(image, _grabcut(small, trimap))
    agreement = float((found & mask).sum() / (found | mask).sum())
    return without_islands(found if agreement < SURE else _at_full(image, rough)), agreement


def without_islands(mask: torch.Tensor, least: float = ISLAND) -> torch.Tensor:
    """The mask, bool [1,H,W], without its pieces of less than the share `least` of all of it."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(np.uint8(mask[0].numpy()), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(areas >= least * areas[1:].sum())
    return torch.from_numpy(np.isin(pieces, kept[kept > 0]))[None]


def refined_classes(image: torch.Tensor, classes: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], float]:
    """`refined` for the masks of several classes, bool [1,H,W] by name: where two meet, the first one stays.

    Returns the new masks and the least agreement.
    """
    taken, masks, agreements = None, {}, []
    for name, mask in classes.items():
        found, agreement = refined(image, mask)
        masks[name] = found if taken is None else found & ~taken
        taken = found if taken is None else taken | found
        agreements.append(agreement)
    return masks, min(agreements)


def from_strokes(image: torch.Tensor, moves: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
    """The mask of what may move, from strokes inside of it and outside.

    A random walk over superpixels starts in the strokes (Grady, PAMI 2006), drawn to colours like theirs; GrabCut and
    a guided filter find the edge.
    image: [3,H,W] in [0,1].   moves, still: bool [1,H,W], pixels under the strokes.   Returns bool [1,H,W].
    Raises ValueError where one kind of strokes is missing, or lies under the other.
    """
    for marked, what in ((moves, "may move"), (still, "must not move")):
        if not marked.any():
            raise ValueError(f"no stroke says what {what}; mark both: what may move and what must not")
    small = _small(image)
    inside, outside = (_resized(marked[0].numpy(), small.shape[:2]) > 0.25 for marked in (moves, still))
    if not inside.any() or not outside.any():  # strokes thinner than a pixel of the small copy
        inside, outside = (_resized(marked[0].numpy(), small.shape[:2]) > 0 for marked in (moves, still))
    inside, outside = inside & ~outside, outside & ~inside
    if not inside.any() or not outside.any():
        raise ValueError("what may move and what must not are marked at the same places; move the marks apart")
    share = _walk(small, inside, outside)
    trimap = np.where(share > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[share > 0.8], trimap[share < 0.2] = cv2.GC_FGD, cv2.GC_BGD
    trimap[inside], trimap[outside] = cv2.GC_FGD, cv2.GC_BGD
    return _at_full(image, _grabcut(small, trimap))


def guided(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Guided filter: in every window of 2*radius+1 px the values as a linear function of the guide's colour.

    guide: float32 [H,W,3] in [0,1].   values: float32 [H,W].   epsilon: variance of colours that counts as flat.
    Returns float32 [H,W].
    """

    def mean(field):
        return cv2.blur(field, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - middle * level[..., None]
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    products = mean(np.stack([guide[..., a] * guide[..., b] for a, b in pairs[:3]], -1))
    products = np.concatenate([products, mean(np.stack([guide[..., a] * guide[..., b] for a, b in pairs[3:]], -1))], -1)
    matrix = {}
    for k, (a, b) in enumerate(pairs):
        matrix[a, b] = products[..., k] - middle[..., a] * middle[..., b] + (epsilon if a == b else 0)
    slope = _solve(matrix, covariance)
    offset = level - (slope * middle).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)


def _solve(matrix, right):
    """Solve the symmetric 3x3 systems of all pixels.  matrix: {(a, b): [H,W]} for a <= b.   right: [H,W,3]."""
    xx, xy, xz, yy, yz, zz = (matrix[pair] for pair in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    first, second, third = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy  # cofactors of the first row
    scale = 1 / (xx * first + xy * second + xz * third)
    a, b, c = right[..., 0], right[..., 1], right[..., 2]
    return np.stack(
        [
            (first * a + second * b + third * c) * scale,
            (second * a + (xx * zz - xz * xz) * b + (xy * xz - xx * yz) * c) * scale,
            (third * a + (xy * xz - xx * yz) * b + (xx * yy - xy * xy) * c) * scale,
        ],
        -1,
    )


# ---------------------------------------------------------------- inside


def _small(image):
    """uint8 [h,w,3] BGR, about SMALL px a side."""
    rows, columns = image.shape[-2:]
    scale = min(SMALL / np.sqrt(rows * columns), 1)
    pixels = np.uint8(image.permute(1, 2, 0).numpy().clip(0, 1) * 255 + 0.5)[..., ::-1]
    size = max(round(columns * scale), 8), max(round(rows * scale), 8)
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)


def _resized(mask, shape):
    """A bool map as shares [h,w] in another size."""
    return cv2.resize(np.float32(mask), shape[::-1], interpolation=cv2.INTER_AREA)


def _grabcut(small, trimap):
    """Bool [h,w] of a trimap of OpenCV's four marks; the marks alone where a side has no pixel to learn from."""
    if {cv2.GC_FGD, cv2.GC_PR_FGD} & set(np.unique(trimap)) and {cv2.GC_BGD, cv2.GC_PR_BGD} & set(np.unique(trimap)):
        cv2.setRNGSeed(0)  # its k-means starts from OpenCV's own random numbers
        cv2.grabCut(small, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    return (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)


def _at_full(image, found):
    """A mask of the small copy at the picture's size, on the picture's edges: bool [1,H,W]."""
    rows, columns = image.shape[-2:]
    share = cv2.resize(np.float32(found), (columns, rows), interpolation=cv2.INTER_LINEAR)
    step = np.sqrt(rows * columns / found.size)
    guide = np.ascontiguousarray(image.permute(1, 2, 0).numpy(), np.float32)
    alpha = guided(guide, share, max(round(2 * step), 2), 1e-4)
    return torch.from_numpy(alpha > 0.5)[None]


def _walk(small, inside, outside):
    """Chance [h,w] that a random walk from here meets a stroke of `inside` first."""
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve
    from skimage.segmentation import slic

    lab = cv2.cvtColor(np.float32(small) / 255, cv2.COLOR_BGR2LAB) / 100
    cells = slic(lab, SUPERPIXELS, compactness=0.1, start_label=0, convert2lab=False, enforce_connectivity=True)
    count = cells.max() + 1
    texture = np.abs(lab[..., :1] - cv2.GaussianBlur(lab[..., :1], (0, 0), 2)[..., None])
    y, x = np.mgrid[: cells.shape[0], : cells.shape[1]] / max(cells.shape)
    channels = np.dstack([lab, 2 * texture, 0.25 * x, 0.5 * y]).reshape(-1, 6)  # low is likelier water, high sky
    area = np.bincount(cells.ravel(), minlength=count)
    features = np.stack([np.bincount(cells.ravel(), c, count) for c in channels.T], -1) / area[:, None]
    pairs = np.concatenate(
        [
            np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()], -1),
            np.stack([cells[:-1].ravel(), cells[1:].ravel()], -1),
        ]
    )
    pairs, borders = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0, return_counts=True)
    apart = np.square(features[pairs[:, 0], :4] - features[pairs[:, 1], :4]).sum(1)
    weight = np.exp(-apart / (2 * np.median(apart) + 1e-9)) * borders / borders.mean() + 1e-5
    graph = coo_matrix((np.r_[weight, weight], np.r_[pairs, pairs[:, ::-1]].T), (count, count)).tocsr()
    marked = {True: np.unique(cells[inside]), False: np.setdiff1d(np.unique(cells[outside]), np.unique(cells[inside]))}
    # A weak pull to the side whose strokes have the more similar cell.
    near = {}
    for side, seeds in marked.items():
        distance = np.square(features[:, None] - features[None, seeds]).sum(-1)
        near[side] = np.sort(distance, 1)[:, : min(3, len(seeds))].mean(1)
    scale = np.median(np.minimum(near[True], near[False])) + 1e-6
    pull = 1 / (1 + np.exp(np.clip((near[True] - near[False]) / (2 * scale), -30, 30)))
    strength = 0.05
    value = np.where(np.isin(np.arange(count), marked[True]), 1.0, 0.0)
    fixed = np.isin(np.arange(count), np.concatenate(list(marked.values())))
    laplacian = diags(np.asarray(graph.sum(1)).ravel() + strength) - graph
    free = ~fixed
    right = strength * pull[free] - laplacian[free][:, fixed] @ value[fixed]
    value[free] = spsolve(laplacian[free][:, free].tocsc(), right)
    return value[cells]
