"""From arrows to a flow, exactly and without a network: harmonic functions inside the mask.

Two linear problems are solved in every connected part of the mask that an arrow touches. The direction: a vector field
as smooth as can be (least sum of squared differences between neighbours) that has the arrows' directions where they lie
and no part across the shore. The speed: a harmonic function with the arrows' speeds and 0 at the anchors, free at the
shore. Their product follows a river round its bends at full speed, where one smooth velocity field would lose its
speed in every bend. The picture's own border is no shore: a fluid may come in and leave there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.arrows import pixel

if TYPE_CHECKING:
    from text2cinemagraph.data.arrows import ArrowSamples

CELLS = 160 * 160  # of the grid on which a region is solved: 0.1 to 0.4 s
ALONG_THE_SHORE = 100.0  # weight of "nothing across the shore" against the differences between neighbours, each 1
SHORE = 10 / 512  # of the short side: within this distance of a shore, the part across it fades to 0
CROSSING = 0.25  # of the short side: how far an arrow across the shore opens the shore that faces it
CONFLICT = 0.15  # of the short side: how far around the line where arrows contradict each other the speed fades
TURNING = 0.04  # of the short side: how far around a place where a shore stops the flow the speed fades
STILL = 0.012  # of the short side: the radius that stands still around an anchor (6 px at 512 px)
SMOOTH_SHORE = 2.0  # cells: a shore of steps gets the direction of the line that they follow
REST = 1e-12


def harmonic_flow(mask: torch.Tensor, samples: ArrowSamples, cells: int = CELLS) -> torch.Tensor:
    """The flow [2,H,W] in px/frame that arrows and anchors say; 0 outside the mask, and in parts without an arrow.

    mask: bool [1,H,W].  samples: ArrowSamples.  cells: how many cells the grid of a region has at most (never finer
    than a pixel).  Regions that do not touch do not influence each other.
    """
    size, flow = tuple(mask.shape[-2:]), torch.zeros(2, *mask.shape[-2:])
    _, regions = cv2.connectedComponents(mask[0].cpu().numpy().astype(np.uint8), connectivity=4)
    at_samples = regions[pixel(samples.places, size)]
    for number in np.unique(at_samples):
        chosen = at_samples == number
        inside = regions == number
        flow += _region_flow(inside, samples, chosen, cells)
    return flow


def arrowless_share(mask: torch.Tensor, samples: ArrowSamples) -> float:
    """The share of the mask in connected parts that no arrow touches: harmonic_flow leaves them at rest."""
    _, regions = cv2.connectedComponents(mask[0].cpu().numpy().astype(np.uint8), connectivity=4)
    moving = np.isin(regions, regions[pixel(samples.places, regions.shape)])
    return float(1 - moving[mask[0].cpu().numpy()].mean())


def _region_flow(inside, samples, chosen, cells):
    """The flow [2,H,W] of one connected region.  inside: bool [H,W].  chosen: bool [n], the region's samples."""
    short = min(inside.shape)
    rows, columns = (np.nonzero(inside.any(axis))[0] for axis in (1, 0))
    margin = max(short // 32, 4)  # a strip of outside, so that the region's shore is one
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    cut = inside[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin]
    scale = min(1.0, float(np.sqrt(cells / cut.sum())))
    height, width = (max(round(side * scale), 1) for side in cut.shape)
    per_px = np.array([width / cut.shape[1], height / cut.shape[0]])
    cover = F.adaptive_avg_pool2d(torch.from_numpy(cut)[None, None].float(), (height, width))[0, 0].numpy()

    def to_grid(points: np.ndarray) -> np.ndarray:
        return (points - (left, top)) * per_px

    places = to_grid(samples.places[chosen])
    grid = cover >= 0.5
    grid[pixel(places, grid.shape)] = True  # a brook narrower than a cell still holds its arrow
    speeds = np.linalg.norm(samples.velocities[chosen], axis=1)
    values, fixed = _cells_of(places, np.column_stack([samples.velocities[chosen] / speeds[:, None], speeds]), grid)
    grid = _touched(grid, fixed)
    short_cells = short * float(per_px.mean())
    still = _discs(to_grid(samples.anchors), grid.shape, max(STILL * short_cells, 1.5)) & grid
    distance, normal = _shore(grid)
    closed = 1 - _opened(samples.crossings, to_grid, normal, CROSSING * short_cells)
    direction = _directions(grid, fixed, values[:2], distance, normal, closed)
    length = np.sqrt((direction**2).sum(0))
    speed = _harmonic(grid, fixed | still, np.where(still, 0, values[2]))
    speed = speed * np.clip(_agreement(length, grid, TURNING * short_cells) / 0.7, 1 - closed, 1)
    if len(np.unique(samples.owners[chosen])) > 1:
        speed = speed * _agreement(length, grid, CONFLICT * short_cells)
    velocity = direction / np.maximum(length, REST) * speed
    fade = np.clip((distance - 0.5) / max(SHORE * short_cells, 1), 0, 1)
    velocity -= normal * (velocity * normal).sum(0) * (1 - fade) * closed
    velocity[:, fixed & ~still] = (values[:2] * values[2])[:, fixed & ~still]
    small = torch.from_numpy(np.where(grid, velocity, 0)).float()
    flow = torch.zeros(2, *inside.shape)
    flow[:, top : top + cut.shape[0], left : left + cut.shape[1]] = _enlarged(small, torch.from_numpy(grid), cut)
    return flow


def _cells_of(places, rows, grid):
    """Means of `rows` [n,k] over the samples of each cell, spread to the 3x3 cells around: (values [k,h,w], bool
    [h,w]).
    """
    from scipy import ndimage

    y, x = pixel(places, grid.shape)
    total, count = np.zeros((rows.shape[1], *grid.shape)), np.zeros(grid.shape)
    np.add.at(count, (y, x), 1)
    np.add.at(total, (slice(None), y, x), rows.T)
    distance, nearest = ndimage.distance_transform_edt(count == 0, return_indices=True)
    values = (total / np.maximum(count, 1))[:, nearest[0], nearest[1]]
    lengths = np.maximum(np.sqrt((values[:2] ** 2).sum(0)), REST)
    values[:2] /= lengths  # directions of length 1, whatever met in a cell
    return values, (distance < 1.5) & grid


def _touched(grid, fixed):
    """The parts of the grid that hold a fixed cell: a neck finer than a cell may have been lost."""
    from scipy import ndimage

    parts, _ = ndimage.label(grid)
    return np.isin(parts, np.unique(parts[fixed])) & grid


def _discs(points, shape, radius):
    """bool [h,w]: cells within `radius` cells of a point."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.zeros(shape, bool)
    for px, py in points:
        found |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return found


def _shore(grid):
    """(distance to the shore in cells [h,w], normal towards the inside [2,h,w], length 1 or 0); the border of the grid
    is no shore.
    """
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(grid) if not grid.all() else np.full(grid.shape, np.inf)
    slope = _slope(grid.astype(float), SMOOTH_SHORE)
    return distance, slope / np.maximum(np.sqrt((slope**2).sum(0)), REST)


def _slope(values, sigma):
    """The slope [2,h,w] (x, y) of the plane that fits `values` [h,w] best around each cell, Gaussian weights.

    Beyond the border nothing is made up, as padding would: a shore that reaches it keeps its direction.
    """
    from scipy import ndimage

    y, x = np.mgrid[: values.shape[0], : values.shape[1]].astype(float)

    def mean(field: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(field, sigma, mode="constant") / weight

    weight = ndimage.gaussian_filter(np.ones_like(values), sigma, mode="constant")
    mx, my, mv = mean(x), mean(y), mean(values)
    xx, xy, yy = mean(x * x) - mx * mx, mean(x * y) - mx * my, mean(y * y) - my * my
    xv, yv = mean(x * values) - mx * mv, mean(y * values) - my * mv
    return np.stack([xv * yy - yv * xy, yv * xx - xv * xy]) / np.maximum(xx * yy - xy * xy, REST)


def _opened(crossings, to_grid, normal, reach):
    """How far arrows that cross the shore open it, [h,w] in [0,1]: near them, and where it faces them."""
    y, x = np.mgrid[: normal.shape[1], : normal.shape[2]] + 0.5
    opened = np.zeros(normal.shape[1:])
    for crossing in crossings:
        px, py = to_grid(crossing[None, :2])[0]
        facing = (normal[0] * crossing[2] + normal[1] * crossing[3]) ** 2
        opened = np.maximum(opened, np.exp(-((x - px) ** 2 + (y - py) ** 2) / reach**2) * facing)
    return opened


def _directions(grid, fixed, values, distance, normal, closed):
    """The smoothest vector field [2,h,w] that has `values` at the fixed cells and goes along the shore."""
    from scipy import sparse

    laplace, n = _laplace(grid), int(grid.sum())
    weight = np.where(grid & (distance < 1.5), ALONG_THE_SHORE * closed, 0)  # the cells that touch the outside
    xx, xy, yy = (sparse.diags((weight * a * b)[grid]) for a, b in ((normal[0],) * 2, normal, (normal[1],) * 2))
    matrix = sparse.bmat([[laplace + xx, xy], [xy, laplace + yy]], format="csc")
    known = np.tile(fixed[grid], 2)
    solution = _solve(matrix, known, np.concatenate([values[0][grid], values[1][grid]]))
    field = np.zeros((2, *grid.shape))
    field[0][grid], field[1][grid] = solution[:n], solution[n:]
    return field


def _harmonic(grid, fixed, values):
    """The harmonic function [h,w] with `values` at the fixed cells; its slope across the shore is 0."""
    field = np.zeros(grid.shape)
    field[grid] = _solve(_laplace(grid), fixed[grid], values[grid])
    return field


def _laplace(grid):
    """The graph Laplacian of the cells of a bool grid [h,w] (4 neighbours): sparse [n,n]."""
    from scipy import sparse

    number = np.full(grid.shape, -1)
    number[grid] = np.arange(grid.sum())
    right, down = grid[:, :-1] & grid[:, 1:], grid[:-1] & grid[1:]
    a = np.concatenate([number[:, :-1][right], number[:-1][down]])
    b = np.concatenate([number[:, 1:][right], number[1:][down]])
    joined = sparse.coo_matrix((np.ones(len(a)), (a, b)), shape=(grid.sum(),) * 2)
    joined = joined + joined.T
    return (sparse.diags(np.asarray(joined.sum(1)).ravel()) - joined).tocsc()


def _solve(matrix, known, values):
    """Solve matrix @ x = 0 for the unknown entries, the known ones being `values` there."""
    from scipy.sparse.linalg import splu

    x = np.where(known, values, 0.0)
    if not known.all():
        # The matrix is symmetric and positive: SuperLU needs no pivoting, and then takes a third of the time.
        factors = splu(
            matrix[~known][:, ~known].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        x[~known] = factors.solve(-(matrix[~known][:, known] @ x[known]))
    return x


def _agreement(length, grid, reach):
    """How far the directions nearby agree, [h,w] in [0,1]: the direction field's length against its mean within
    `reach` cells; it falls to 0 where the field turns round.
    """
    from scipy import ndimage

    near = ndimage.gaussian_filter(length * grid, reach, mode="nearest")
    share = ndimage.gaussian_filter(grid.astype(float), reach, mode="nearest")
    return np.clip(length * share / np.maximum(near, REST * np.maximum(share, REST)), 0, 1)


def _enlarged(field, grid, inside):
    """A field [2,h,w] known in `grid` (bool [h,w]) -> [2,H,W] inside `inside` (bool [H,W]): linear between the cells of
    the grid, nearest cell beyond them, 0 outside.
    """
    from scipy import ndimage

    weight = grid[None, None].float()
    large, share = (
        F.interpolate(values, inside.shape, mode="bilinear", align_corners=False)[0] for values in (field[None], weight)
    )
    nearest = torch.from_numpy(np.stack(ndimage.distance_transform_edt(~grid.numpy(), return_indices=True)[1]))
    filled = F.interpolate(field[:, nearest[0], nearest[1]][None], inside.shape, mode="nearest")[0]
    return torch.where(share > 0.05, large / share.clamp(min=0.05), filled) * torch.from_numpy(inside)
