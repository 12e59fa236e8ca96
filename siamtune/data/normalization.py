"""How pixels become numbers a network can learn from; fitted once, on training people only.

Each normalization is a module whose constructor takes exactly its buffers, so that its state
dictionary alone, as a checkpoint holds it, brings it back.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siamtune.errors import CheckpointError

LOCAL_SIGMA = 0.0625  # of the side: 4 pixels at 64, as in 2016
LOCAL_STD_FLOOR = 0.1
ZCA_EPSILON = 0.1
# Variances below this share of ZCA_EPSILON differ by at most 5 % in gain and get their common one.
ZCA_LARGE = 0.1
# So many pictures tell the variances that count; more would only take time and memory.
SAMPLE_PICTURES = 4096
SAMPLE_VALUES = 2**26


class Normalization(nn.Module):
    """Maps pictures `(B, C, R, R)` of floats in [0, 255] to floats of the same shape."""

    @classmethod
    @abstractmethod
    def fit(cls, images: NDArray[np.uint8]) -> Self:
        """Measure what is needed on pictures `(N, C, R, R)`."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor: ...


class MinMax(Normalization):
    """Each picture's darkest value becomes -1 and its brightest 1; a flat picture becomes 0.

    In 2016 this was written into an array of bytes, which left 0, 1 and 255.
    """

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> Self:
        return cls()

    def forward(self, images: Tensor) -> Tensor:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        # A range below one grey level is rounding, not a picture.
        return (images - (low + high) / 2) * (2 / (high - low).clamp_min(1.0))


class LocalMean(Normalization):
    """`lcn-`: subtract the Gaussian-weighted mean of each pixel's surroundings, over all channels.

    Args:
        mean, std: scalars over all pixels of the training pictures.
        blur: `(R, R)`, see `gaussian_matrix`.
    """

    mean: Tensor
    std: Tensor
    blur: Tensor

    def __init__(self, mean: Tensor, std: Tensor, blur: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("blur", blur)

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> Self:
        side = images.shape[-1]
        # Picture by picture: bincount makes eight bytes of each.
        counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)
        levels = np.arange(256)
        mean = np.average(levels, weights=counts)
        std = np.sqrt(np.average((levels - mean) ** 2, weights=counts))
        return cls(
            torch.tensor(mean, dtype=torch.float32),
            torch.tensor(max(std, 1.0), dtype=torch.float32),
            gaussian_matrix(side, LOCAL_SIGMA * side),
        )

    def forward(self, images: Tensor) -> Tensor:
        images = (images - self.mean) / self.std
        return images - self._surroundings(images)

    def _surroundings(self, images: Tensor) -> Tensor:
        # Blur and channel mean commute: one plane to blur instead of three.
        return self.blur @ images.mean(1, keepdim=True) @ self.blur.T


class LocalContrast(LocalMean):
    """`lcn`: divide what `lcn-` leaves by its local standard deviation plus 0.1.

    Jarrett et al. 2009, "What is the best multi-stage architecture for object recognition?", with
    the addition in the denominator of 2016 instead of their maximum.
    """

    def forward(self, images: Tensor) -> Tensor:
        details = super().forward(images)
        return details / (self._surroundings(details.square()).sqrt() + LOCAL_STD_FLOOR)


class ZCA(Normalization):
    """Whiten: what stays nearest to the picture of all that is uncorrelated with equal variance.

    With `x` the standardised pixels and `V diag(s) V'` their covariance, the result is
    `V diag(1 / sqrt(s + 0.1)) V' x`. The many directions of small variance have nearly one gain
    and need not be told apart: two thin products replace the D x D matrix.

    Args:
        mean, std: `(D,)`, D = C R R, of each pixel.
        directions: `(D, K)`, orthonormal columns, those of large variance.
        gains: `(K,)`, by how much their gain differs from `rest_gain`.
        rest_gain: scalar, of all other directions.
    """

    mean: Tensor
    std: Tensor
    directions: Tensor
    gains: Tensor
    rest_gain: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, directions: Tensor, gains: Tensor, rest_gain: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("directions", directions)
        self.register_buffer("gains", gains)
        self.register_buffer("rest_gain", rest_gain)

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> Self:
        pixels = torch.from_numpy(images.reshape(len(images), -1)).float()
        count, size = pixels.shape
        std, mean = torch.std_mean(pixels, 0, correction=0)
        std.clamp_min_(1.0)  # what never changes by a grey level tells nothing
        pixels.sub_(mean).div_(std)
        total = float(pixels.square().sum() / count)
        # Of fewer pictures than pixels, the covariance has the spectrum of the small Gram matrix.
        few = count < size
        variances, vectors = torch.linalg.eigh(
            (pixels @ pixels.T if few else pixels.T @ pixels) / count
        )
        large = variances > ZCA_LARGE * ZCA_EPSILON
        variances, vectors = variances[large], vectors[:, large]
        directions = pixels.T @ (vectors / (variances * count).sqrt()) if few else vectors
        rest = max(0.0, total - float(variances.sum())) / max(1, size - len(variances))
        rest_gain = torch.tensor((rest + ZCA_EPSILON) ** -0.5)
        gains = (variances + ZCA_EPSILON).rsqrt() - rest_gain
        return cls(mean, std, directions.contiguous(), gains, rest_gain)

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.flatten(1) - self.mean) / self.std
        large = (pixels @ self.directions * self.gains) @ self.directions.T
        return (self.rest_gain * pixels + large).view_as(images)


NORMALIZATIONS: dict[str, type[Normalization]] = {
    "minmax": MinMax,
    "lcn": LocalContrast,
    "lcn-": LocalMean,
    "zca": ZCA,
}


def fit_normalization(
    name: str,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> Normalization:
    """Fit a normalization on the pictures `indices` of `(N, C, R, R)`, or on all.

    Of more than some thousand pictures a sample is taken, which the seed decides.
    """
    if indices is None:
        indices = np.arange(len(images))
    most = sampled_pictures(images[0].size)
    if len(indices) > most:
        indices = np.random.default_rng(seed).choice(indices, most, replace=False)
    # Sorted, because the pictures may lie in a file.
    return NORMALIZATIONS[name].fit(images[np.sort(indices)])


def sampled_pictures(values: int) -> int:
    """To how many pictures of so many values each a normalization is fitted, at most."""
    return min(SAMPLE_PICTURES, max(2, SAMPLE_VALUES // values))


def restore_normalization(
    name: str, shape: tuple[int, int, int], state: Mapping[str, Tensor]
) -> Normalization:
    """Bring back a normalization for pictures of shape `(C, R, R)` from its state dictionary.

    Raises:
        CheckpointError: the state is not that of this normalization, or of another shape.
    """
    try:
        normalization = NORMALIZATIONS[name](**state)
        normalization(torch.zeros(1, *shape))
    except (KeyError, TypeError, RuntimeError):
        sizes = {buffer: tuple(value.shape) for buffer, value in state.items()}
        raise CheckpointError(
            f"the normalization must be one of {', '.join(NORMALIZATIONS)} with its fitted values "
            f"for pictures of {shape}, but got {name!r} with {sizes}"
        ) from None
    return normalization


def gaussian_matrix(side: int, sigma: float) -> Tensor:
    """`(side, side)` weights G such that `G @ image @ G.T` is the image blurred.

    The kernel ends at three `sigma` (in pixels); beyond the border stands its nearest pixel. For
    the few dozen pixels of a face the product is faster than a separable convolution.
    """
    radius = int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    columns = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    matrix = torch.zeros(side, side)
    return matrix.scatter_add_(1, columns, (weights / weights.sum()).expand(side, -1))
