import numpy as np
import pytest
from sklearn.metrics import roc_curve

from siamtune.verification.roc import cuts, thinned


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


@pytest.mark.parametrize("pairs", [4, 40, 20_000])
def test_a_thinned_curve_is_the_curve_where_it_is_kept(pairs) -> None:
    rng = np.random.default_rng(0)
    same = np.arange(pairs) % 2 == 0
    roc = cuts(rng.normal(same * 1.5), same)
    rates = thinned(roc)
    assert rates == sorted(rates)
    assert rates[-1] == (1.0, 1.0)
    assert len(rates) <= 121
    far, tar = roc.false_accepts / roc.negatives, roc.true_accepts / roc.positives
    for false, true in rates[1:]:
        assert true == tar[far <= false + 1e-12].max()
    thin_far, thin_tar = zip(*rates, strict=True)
    if pairs > 1000:
        assert np.trapezoid(thin_tar, thin_far) == pytest.approx(np.trapezoid(tar, far), abs=2e-3)
