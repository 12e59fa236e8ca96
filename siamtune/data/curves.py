"""Curves and outlines as arrays of corners: whole stacks of them at once, in any dimension."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@cache
def _spline(corners: int, steps: int, closed: bool) -> Floats:
    """`(points, corners)` weights of the curve through all corners (Catmull and Rom 1974)."""
    segments = corners if closed else corners - 1
    weights = np.zeros((segments * steps + (not closed), corners))
    for point, weight in enumerate(weights):
        segment = min(point // steps, segments - 1)
        f = point / steps - segment
        basis = (
            (-f + 2 * f**2 - f**3) / 2,
            (2 - 5 * f**2 + 3 * f**3) / 2,
            (f + 4 * f**2 - 3 * f**3) / 2,
            (-(f**2) + f**3) / 2,
        )
        for corner, share in enumerate(basis, start=segment - 1):
            # Beyond the ends of an open curve its last corner stands once more.
            weight[corner % corners if closed else min(max(corner, 0), corners - 1)] += share
    return weights


def smooth(corners: Floats, steps: int = 3, *, closed: bool = True) -> Floats:
    """A curve through corners `(..., n, d)` with `steps` points from each to the next."""
    return _spline(corners.shape[-2], steps, closed) @ corners


def ribbon(line: Floats, width: ArrayLike) -> Floats:
    """The outline `(..., 2 n, d)` of a stroke along `(..., n, d)`, its width in x and y."""
    along = np.gradient(line[..., :2], axis=-2)
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    half = np.broadcast_to(np.asarray(width) / 2, line.shape[:-1])
    across = np.zeros_like(line)
    across[..., 0], across[..., 1] = -half * along[..., 1], half * along[..., 0]
    return np.concatenate([line + across, (line - across)[..., ::-1, :]], axis=-2)


def taper(points: int, start: float = 0.2, end: float = 0.2) -> Floats:
    """Widths `(points,)` of a stroke that swells to 1 and thins out towards its ends."""
    return np.sin(np.linspace(start, np.pi - end, points))


def ellipse(
    x: ArrayLike, y: ArrayLike, radius_x: ArrayLike, radius_y: ArrayLike, corners: int = 14
) -> Floats:
    """Outlines `(..., corners, 2)` about centres; all arguments are `(..., 1)` or numbers."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return points(
        np.asarray(x) + np.asarray(radius_x) * np.cos(angle),
        np.asarray(y) + np.asarray(radius_y) * np.sin(angle),
    )


def points(*coordinates: ArrayLike) -> Floats:
    """Coordinates that broadcast to `(..., n)`, as points `(..., n, d)`."""
    return np.stack(np.broadcast_arrays(*coordinates), axis=-1).astype(np.float64)


def signed_power(x: Floats, exponent: ArrayLike) -> Floats:
    """What turns a circle's sine and cosine into those of a superellipse."""
    return np.sign(x) * np.power(np.abs(x), np.asarray(exponent, np.float64))
