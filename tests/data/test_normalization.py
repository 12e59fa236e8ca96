"""Normalizations against loops and linear algebra written out, and what 2016 did wrong."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from siamtune.data.normalization import (
    NORMALIZATIONS,
    fit_normalization,
    gaussian_matrix,
    restore_normalization,
)
from siamtune.errors import CheckpointError


def smooth_pictures(count: int, channels: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pictures whose neighbouring pixels are alike, as a face's are."""
    noise = np.random.default_rng(seed).normal(size=(count, channels, side, side))
    smooth = gaussian_filter(noise, (0, 0, 1.5, 1.5))
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def normalized(name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return fit_normalization(name, images)(torch.from_numpy(images).float()).numpy()


def test_minmax_maps_each_picture_to_minus_one_and_one() -> None:
    images = np.array([[[[10, 20], [60, 110]]], [[[0, 255], [51, 51]]]], np.uint8)
    expected = [[[[-1, -0.8], [0, 1]]], [[[-1, 1], [-0.6, -0.6]]]]
    assert normalized("minmax", images) == pytest.approx(np.array(expected), abs=1e-6)


def test_minmax_keeps_grey_levels_apart() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert len(np.unique(normalized("minmax", ramp))) == 256  # three in 2016: 0, 1 and 255


def test_minmax_of_a_flat_picture_is_zero() -> None:
    assert not normalized("minmax", np.full((1, 1, 16, 16), 7, np.uint8)).any()


@pytest.mark.parametrize(("side", "sigma"), [(16, 1.0), (33, 2.06), (64, 4.0), (16, 5.0)])
def test_gaussian_matrix_blurs_as_scipy_does(side: int, sigma: float) -> None:
    image = np.random.default_rng(0).normal(size=(side, side))
    matrix = gaussian_matrix(side, sigma).double().numpy()
    expected = gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    assert matrix @ image @ matrix.T == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["lcn", "lcn-"])
@pytest.mark.parametrize("channels", [1, 3])
def test_local_contrast_equals_its_definition_picture_by_picture(name: str, channels: int) -> None:
    images = smooth_pictures(5, channels, 32)
    expected = []
    for image in (images - images.mean()) / images.std():
        blurred = [gaussian_filter(c, 2.0, mode="nearest", truncate=3.0) for c in image]
        details = image - np.mean(blurred, axis=0)
        if name == "lcn":
            squares = [gaussian_filter(c**2, 2.0, mode="nearest", truncate=3.0) for c in details]
            details = details / (np.sqrt(np.mean(squares, axis=0)) + 0.1)
        expected.append(details)
    assert normalized(name, images) == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("count", "channels", "side"),
    [(300, 1, 16), (2000, 1, 16), (300, 3, 16)],
    ids=["fewer pictures than pixels", "more pictures than pixels", "colour"],
)
def test_zca_is_near_the_whitening_of_the_whole_covariance(
    count: int, channels: int, side: int
) -> None:
    images = smooth_pictures(count, channels, side)
    pixels = images.reshape(count, -1).astype(np.float64)
    pixels = (pixels - pixels.mean(0)) / pixels.std(0)
    covariance = pixels.T @ pixels / count
    variances, vectors = np.linalg.eigh(covariance + 0.1 * np.eye(len(covariance)))
    expected = pixels @ vectors / np.sqrt(variances) @ vectors.T

    found = normalized("zca", images).reshape(count, -1)
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    # Of a direction with variance s, s / (s + 0.1) is left.
    whitened = np.sort(np.linalg.eigvalsh(found.T @ found / count))
    assert whitened == pytest.approx(np.sort(1 - 0.1 / variances), abs=0.01)


def test_zca_is_exact_where_every_direction_counts() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 1, 4, 4), np.uint8)
    pixels = images.reshape(400, -1).astype(np.float64)
    pixels = (pixels - pixels.mean(0)) / pixels.std(0)
    variances, vectors = np.linalg.eigh(pixels.T @ pixels / 400)
    expected = pixels @ vectors / np.sqrt(variances + 0.1) @ vectors.T
    assert normalized("zca", images).reshape(400, -1) == pytest.approx(expected, abs=1e-4)


def test_zca_survives_pixels_that_never_change() -> None:
    images = smooth_pictures(50, 1, 16)
    images[:, :, :4] = 0
    assert np.isfinite(normalized("zca", images)).all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_only_the_given_pictures_are_fitted_on(name: str) -> None:
    images = smooth_pictures(40, 1, 16)
    train = np.arange(0, 30, 2)
    one = fit_normalization(name, images, train).state_dict()
    images[1::2] = 255 - images[1::2]
    other = fit_normalization(name, images, train).state_dict()
    alone = fit_normalization(name, images[train]).state_dict()
    for buffer, value in one.items():
        assert torch.equal(value, other[buffer])
        assert torch.equal(value, alone[buffer])


def test_a_sample_of_many_pictures_is_decided_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamtune.data.normalization.SAMPLE_PICTURES", 20)
    images = smooth_pictures(60, 1, 16)
    first, same, other = (fit_normalization("zca", images, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(first["mean"], same["mean"])
    assert not torch.equal(first["mean"], other["mean"])


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_comes_back_from_its_state(name: str) -> None:
    images = smooth_pictures(20, 3, 16)
    fitted = fit_normalization(name, images)
    restored = restore_normalization(name, (3, 16, 16), fitted.state_dict())
    batch = torch.from_numpy(images).float()
    assert torch.equal(fitted(batch), restored(batch))


@pytest.mark.parametrize(
    ("name", "shape", "state_of"),
    [
        ("zca", (1, 16, 16), "lcn"),
        ("lcn", (1, 16, 16), "minmax"),
        ("minmax", (1, 16, 16), "lcn"),
        ("lcn", (1, 20, 20), "lcn"),
        ("zca", (3, 16, 16), "zca"),
        ("whitening", (1, 16, 16), "zca"),
    ],
)
def test_a_foreign_state_is_refused(name: str, shape: tuple[int, int, int], state_of: str) -> None:
    state = fit_normalization(state_of, smooth_pictures(20, 1, 16)).state_dict()
    with pytest.raises(CheckpointError, match=f"but got '{name}' with"):
        restore_normalization(name, shape, state)
