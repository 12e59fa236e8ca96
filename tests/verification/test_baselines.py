"""Features without learning, against loops over single pixels."""

import cv2
import numpy as np
import pytest

from siamtune.verification import baselines as module
from siamtune.verification.baselines import BASELINES, baseline_features


def pictures(count: int = 30, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, channels, 8, 8)).astype(np.uint8)
    return coarse.repeat(8, axis=2).repeat(8, axis=3) // 2 + rng.integers(
        0, 40, (count, channels, 64, 64), np.uint8
    )


@pytest.mark.parametrize("name", BASELINES)
def test_features_owe_nothing_to_pictures_outside_training(name: str) -> None:
    images = pictures()
    train = np.arange(20)
    before = baseline_features(name, images, train)
    images[25:] = 255 - images[25:]
    after = baseline_features(name, images, train)
    np.testing.assert_allclose(before[:25], after[:25], atol=1e-4 * np.abs(before).max())
    assert before.shape == (30, 19)
    assert before.dtype == np.float64


def test_components_keep_the_angles_between_centred_pictures() -> None:
    images = pictures(count=12)
    kept = baseline_features("pixels", images, np.arange(12))
    small = np.stack([cv2.resize(i[0], (32, 32), interpolation=cv2.INTER_AREA) for i in images])
    plain = small.reshape(12, -1).astype(float)
    plain -= plain.mean(0)
    np.testing.assert_allclose(
        kept @ kept.T, plain @ plain.T, rtol=1e-3, atol=1e-3 * kept.max() ** 2
    )


def test_pca_is_white_on_training_pictures() -> None:
    vectors = baseline_features("pca", pictures(), np.arange(20))[:20]
    np.testing.assert_allclose(np.cov(vectors.T), np.eye(vectors.shape[1]), atol=1e-3)


def test_patterns_are_counted_as_by_hand() -> None:
    image = pictures(count=1)[0]
    gray = image[0].astype(int)
    bins = module._uniform_bins()
    assert len(np.unique(bins)) == 59  # 58 uniform patterns and all the others
    expected = np.zeros((8, 8, 59))
    for row in range(64):
        for column in range(64):
            pattern = 0
            around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
            for bit, (down, right) in enumerate(around):
                y, x = np.clip([row + down, column + right], 0, 63)
                pattern |= int(gray[y, x] >= gray[row, column]) << bit
            expected[row // 8, column // 8, bins[pattern]] += 1
    found = BASELINES["lbp"](image[None])[0] ** 2 * 64
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-4)


def test_colour_counts_by_its_luminance() -> None:
    gray = pictures()
    colour = gray.repeat(3, axis=1)
    for name in BASELINES:
        np.testing.assert_array_equal(BASELINES[name](gray), BASELINES[name](colour))
