import numpy as np
import pytest
from sklearn.metrics import roc_curve

from siamtune.verification.roc import cuts


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_cuts_are_the_points_of_the_roc_curve(decimals) -> None:
    rng = np.random.default_rng(1)
    same = rng.random(300) < 0.4
    scores = np.round(rng.normal(same), decimals)
    roc = cuts(scores, same)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_array_equal(roc.lowest, thresholds)
    np.testing.assert_allclose(roc.false_accepts / roc.negatives, far, rtol=1e-12)
    np.testing.assert_allclose(roc.true_accepts / roc.positives, tar, rtol=1e-12)
