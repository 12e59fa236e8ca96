import numpy as np
import pytest

from siamtune.errors import InvalidInput
from siamtune.verification.metrics import accuracy, best_accuracy, tar_at_far
from siamtune.verification.thresholds import fit_threshold, threshold_at_far


def draw(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(80) % 3 == 0
    return np.round(rng.normal(same), decimals), same


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_more_accurate(seed, decimals) -> None:
    scores, same = draw(seed, decimals)
    fitted = accuracy(scores, same, fit_threshold(scores, same))
    assert fitted == best_accuracy(scores, same)
    for threshold in np.linspace(scores.min() - 1, scores.max() + 1, 500):
        assert accuracy(scores, same, threshold) <= fitted


def test_the_threshold_lies_midway_between_neighbouring_scores() -> None:
    scores = np.array([0.9, 0.7, 0.3, 0.1])
    assert fit_threshold(scores, np.array([True, True, False, False])) == pytest.approx(0.5)


def test_among_equals_the_highest_threshold_is_taken() -> None:
    # Cutting below 0.9 and below 0.5 are each right three times of four.
    scores = np.array([0.9, 0.7, 0.5, 0.3])
    assert fit_threshold(scores, np.array([True, False, True, False])) == pytest.approx(0.8)


def test_the_order_of_the_pairs_does_not_matter() -> None:
    scores, same = draw(0, 1)
    order = np.random.default_rng(0).permutation(80)
    assert fit_threshold(scores, same) == fit_threshold(scores[order], same[order])


def test_where_accepting_nothing_or_everything_is_best_it_is_done() -> None:
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    rare = np.array([False, False, False, True])
    assert not (scores >= fit_threshold(scores, rare)).any()
    assert (scores >= fit_threshold(scores, ~rare[::-1])).all()


def test_neighbours_in_floating_point_are_told_apart() -> None:
    for low in (1.0, 1.0 + 2**-52):  # rounding to even goes down in one, up in the other
        scores = np.array([low, np.nextafter(low, 2.0)])
        threshold = fit_threshold(scores, np.array([False, True]))
        assert (scores >= threshold).tolist() == [False, True]


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("far", [0.02, 0.1, 0.5, 1.0])
def test_the_threshold_at_a_far_reaches_its_tar(far, decimals) -> None:
    scores, same = draw(3, decimals)
    threshold = threshold_at_far(scores, same, far)
    assert (scores[~same] >= threshold).mean() <= far
    assert (scores[same] >= threshold).mean() == tar_at_far(scores, same, far)


def test_a_far_below_one_pair_is_refused() -> None:
    scores, same = draw(0, 9)
    with pytest.raises(InvalidInput, match=r"with 53 negative pairs .* between 0.0189 and 1"):
        threshold_at_far(scores, same, 0.01)
