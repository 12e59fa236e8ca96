"""Platt's sigmoid against a plain search for its likelihood's maximum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from siamtune.errors import InvalidInput
from siamtune.verification.calibration import Calibration, fit_calibration


def scored(pairs: int, shift: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    same = np.arange(pairs) < pairs // 3
    return scale * (rng.normal(size=pairs) + shift * same - 4), same


def negative_log_likelihood(
    scores: np.ndarray, same: np.ndarray, slope: float, intercept: float
) -> float:
    positives, negatives = same.sum(), (~same).sum()
    total = 0.0
    for score, is_same in zip(scores, same, strict=True):
        target = (positives + 1) / (positives + 2) if is_same else 1 / (negatives + 2)
        probability = 1 / (1 + np.exp(-(slope * score + intercept)))
        total -= target * np.log(probability) + (1 - target) * np.log(1 - probability)
    return total


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_the_fit_is_the_most_likely_sigmoid(scale: float) -> None:
    scores, same = scored(150, shift=1.5, scale=scale)
    found = fit_calibration(scores, same)

    def cost(values: np.ndarray) -> float:
        return negative_log_likelihood(scores, same, values[0] / scale, values[1])

    best = minimize(cost, [1.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    assert found.slope * scale == pytest.approx(best.x[0], rel=1e-3)
    assert found.intercept == pytest.approx(best.x[1], rel=1e-3)


def test_probabilities_are_the_shares_that_come_true() -> None:
    # Normal scores of equal spread have logistic odds: slope = shift, here exactly.
    scores, same = scored(60_000, shift=1.5)
    probability = fit_calibration(scores, same).probability(scores)
    for low in np.arange(0.1, 0.9, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        assert same[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.025)


@pytest.mark.parametrize("shift", [0.3, 1.5, 20.0, -2.0, 0.0])
def test_a_higher_score_never_has_a_lower_probability(shift: float) -> None:
    calibration = fit_calibration(*scored(300, shift))
    probability = calibration.probability(np.linspace(-2000, 2000, 1001))
    assert np.isfinite(probability).all()
    assert (np.diff(probability) >= 0).all()
    assert 0 <= probability.min() <= probability.max() <= 1


def test_scores_that_tell_the_opposite_give_the_share_of_positives() -> None:
    scores, same = scored(3000, shift=-2.0)
    calibration = fit_calibration(scores, same)
    assert calibration.slope == 0
    assert calibration.probability(np.array([0.0]))[0] == pytest.approx(1 / 3, abs=1e-3)
    flat = fit_calibration(np.zeros(3000), same)
    assert flat == calibration


def test_a_point_on_paper() -> None:
    assert Calibration(2.0, 1.0).probability(np.array([-0.5, 0.0])) == pytest.approx(
        [0.5, 1 / (1 + np.exp(-1))]
    )


def test_pairs_of_one_kind_are_refused() -> None:
    with pytest.raises(InvalidInput, match="positive and negative pairs"):
        fit_calibration(np.arange(3.0), np.ones(3, bool))
