"""Looks made of facets: lowpoly."""

import cv2
import numpy as np
from scipy.spatial import Delaunay
from text2cinemagraph.painters.easel import Easel, saturate

TRIES = 0.2  # places per square unit that are tried for a corner; crowded ones are left out
SNAP = 3.0  # units: nearer to an edge than this, a corner moves onto it


def lowpoly(easel: Easel) -> np.ndarray:
    """Triangles between corners that lie along the edges, each in the mean colour of what it covers."""
    corners = _corners(easel)
    triangles = corners[Delaunay(corners).simplices]
    scale, shape = easel.scale, easel.picture.shape[:2]
    index = np.zeros(shape, np.float32)
    for k, triangle in enumerate(np.round(triangles * scale * 16).astype(np.int32)):
        cv2.fillConvexPoly(index, triangle, k, cv2.LINE_8, 4)
    index = index.astype(np.int32).ravel()
    count = np.bincount(index, minlength=len(triangles))
    source = saturate(easel.picture, 1.2).reshape(-1, 3)
    color = (
        np.stack([np.bincount(index, source[:, c], len(triangles)) for c in range(3)], -1)
        / np.maximum(count, 1)[:, None]
    )
    middle = np.int64(triangles.mean(1) * 4)
    tilt = np.sin(middle[:, 0] * 12.9898 + middle[:, 1] * 78.233 + easel.rng.uniform(0, 6)) * 1.4  # as the place says
    color = np.clip(color * (1 + 0.045 * tilt)[:, None], 0, 1).astype(np.float32)
    return cv2.GaussianBlur(color[index].reshape(*shape, 3), (0, 0), 0.6)


def _corners(easel):
    """Corners [n,2] in units: on the edges first, then further apart the further from them, and on the border."""
    flat = easel.flattened(1, 3.0)
    ridges = cv2.Canny(np.uint8(flat.clip(0, 1) * 255), 40, 100, L2gradient=True) > 0
    ridges[0, 0] = True  # there is one to be the nearest
    gx, gy = (cv2.Sobel(flat, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength = easel.study_blur(np.sqrt((gx**2 + gy**2).sum(-1)), 0.5)
    strength = np.clip(strength / (np.percentile(strength, 97) + 1e-6), 0, 1)
    away, nearest = cv2.distanceTransformWithLabels(np.uint8(~ridges), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    place = np.zeros((nearest.max() + 1, 2))
    place[nearest[ridges]] = np.argwhere(ridges)[:, ::-1] + 0.5
    size = np.array([easel.width, easel.height])
    tried = easel.rng.random((round(TRIES * size.prod()), 2)) * size
    index = tuple(np.minimum((tried * easel.study_scale).astype(int), np.array(away.shape[::-1]) - 1).T[::-1])
    distance = away[index] / easel.study_scale
    on = distance < SNAP
    tried[on] = place[nearest[index][on]] / easel.study_scale
    index = tuple(np.minimum((tried * easel.study_scale).astype(int), np.array(away.shape[::-1]) - 1).T[::-1])
    strong, busy = strength[index], easel.textured[index]
    apart = np.where(on, 3.2 - 0.9 * strong + 1.3 * busy, np.clip(3.5 + 0.6 * distance, 4.5, 14))
    order = np.argsort(np.where(on, -strong - 0.25 * easel.rng.random(len(on)), 1), kind="stable")
    rim = [
        point
        for i in np.linspace(0, 1, 14)
        for point in (
            (i * easel.width, 0),
            (i * easel.width, easel.height),
            (0, i * easel.height),
            (easel.width, i * easel.height),
        )
    ]
    return np.concatenate([_apart(tried[order], apart[order]), np.unique(np.array(rim), axis=0)])


def _apart(points, apart):
    """The points in order, without those that lie nearer to an earlier one than `apart`."""
    cell = 3.0
    taken, kept = {}, []
    for (x, y), r in zip(points, apart):
        i, j, n = int(x / cell), int(y / cell), int(r / cell) + 1
        if all(
            (x - a) ** 2 + (y - b) ** 2 >= r * r
            for di in range(-n, n + 1)
            for dj in range(-n, n + 1)
            for a, b in taken.get((i + di, j + dj), ())
        ):
            taken.setdefault((i, j), []).append((x, y))
            kept.append((x, y))
    return np.array(kept)
