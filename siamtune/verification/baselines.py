"""What needs no network: features of pictures that any learning has to beat."""

# N pictures · C channels · R resolution · F numbers of a feature

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

PIXELS_PX = 32  # side for raw pixels: finer ones only add noise
SIDE_PX = 64  # side for HOG and LBP
CELLS = 8  # a row of cells of LBP
# Logistic regression weighs each number: of thousands, few pairs would decide each weight.
MOST_COMPONENTS = 128
CHANCE = "chance"
BASELINE_SCORERS = ("cosine", "logistic", "lda")
# Fisher's discriminants do not depend on the scale of a component: those of pixels are those of
# "pca", Fisherfaces (Belhumeur et al. 1997).
EQUAL_TO_ANOTHER = "pixels/lda"


def baseline_features(
    name: str, images: NDArray[np.uint8], train: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Features (N, F) of `images` (N, C, R, R) by a name of `BASELINES`, F at most 128.

    They are the first principal components of pixels, gradients or patterns, with the mean and the
    axes of the pictures `train` alone.
    """
    from sklearn.decomposition import PCA

    features = BASELINES[name](images).reshape(len(images), -1).astype(np.float32)
    components = min(MOST_COMPONENTS, features.shape[1], len(train) - 1)
    pca = PCA(components, whiten=name == "pca", svd_solver="randomized", random_state=0)
    return np.asarray(pca.fit(features[train]).transform(features), np.float64)


def _gray(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """(N, side, side) luminance."""
    size = (side_px, side_px)
    resized = np.empty((len(images), *size), np.uint8)
    for out, image in zip(resized, images, strict=True):
        plane = (
            image[0]
            if len(image) == 1
            else cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        )
        out[:] = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return resized


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _gray(images, PIXELS_PX).astype(np.float32)


def _hog(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of oriented gradients (Dalal and Triggs 2005), 8 px cells in 16 px blocks."""
    side = (SIDE_PX, SIDE_PX)
    descriptor = cv2.HOGDescriptor(side, (16, 16), (8, 8), (8, 8), 9)
    return np.stack([np.ravel(descriptor.compute(image)) for image in _gray(images, SIDE_PX)])


def _lbp(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Uniform local binary patterns of eight neighbours, 8 x 8 histograms (Ahonen et al. 2006).

    Roots of the shares, so that the angle between two pictures is that of Bhattacharyya.
    """
    gray = _gray(images, SIDE_PX)
    padded = np.pad(gray, [(0, 0), (1, 1), (1, 1)], mode="edge")
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    pattern = np.zeros(gray.shape, np.uint8)
    for bit, (row, column) in enumerate(around):
        neighbour = padded[:, row : row + SIDE_PX, column : column + SIDE_PX]
        pattern |= (neighbour >= gray).astype(np.uint8) << bit
    bins = _uniform_bins()
    side_px = SIDE_PX // CELLS
    cells = bins[pattern].reshape(len(gray), CELLS, side_px, CELLS, side_px)
    cells = cells.transpose(0, 1, 3, 2, 4).reshape(-1, side_px**2)
    number = int(bins.max()) + 1
    places = cells + number * np.arange(len(cells))[:, None]
    counts = np.bincount(places.ravel(), minlength=number * len(cells))
    return np.sqrt(counts.reshape(len(gray), -1) / side_px**2).astype(np.float32)


def _uniform_bins() -> NDArray[np.int64]:
    """A bin (256,) for each pattern: its own if it changes at most twice around the circle."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(1) <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, uniform.sum())


BASELINES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
    "pixels": _pixels,
    "pca": _pixels,
    "hog": _hog,
    "lbp": _lbp,
}
