import time

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score, roc_curve

from siamtune.errors import InvalidInput
from siamtune.verification.metrics import (
    accuracy,
    best_accuracy,
    eer,
    f1,
    roc_auc,
    tar_at_far,
    verification_metrics,
)


def draw(seed: int, pairs: int = 200, values: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which positives are higher on average; with `values` few distinct ones."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < rng.uniform(0.2, 0.8)
    same[:2] = True, False
    scores = rng.normal(same * 1.0)
    if values:
        scores = np.round(scores * values / 4) * 4 / values
    return scores, same


CASES = [draw(seed, values=values) for seed in range(5) for values in (None, 20, 4)]
CASES += [(np.zeros(6), np.array([1, 0, 0, 1, 0, 0], bool))]  # all equal
CASES += [(np.array([2.0, 1.0]), np.array([True, False]))]  # perfect
CASES += [(np.array([1.0, 2.0]), np.array([True, False]))]  # perfectly wrong


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_auc_is_the_share_of_positives_above_negatives_with_ties_as_halves(scores, same) -> None:
    difference = scores[same][:, None] - scores[~same]
    slow = ((difference > 0) + 0.5 * (difference == 0)).mean()
    assert roc_auc(scores, same) == pytest.approx(slow, abs=1e-12)
    assert roc_auc(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_eer_lies_where_the_roc_curve_crosses_the_diagonal(scores, same) -> None:
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    slow = None
    for i in range(1, len(far)):
        frr_before, frr_after = 1 - tar[i - 1], 1 - tar[i]
        if far[i] >= frr_after - 1e-15:
            gap_before, gap_after = frr_before - far[i - 1], far[i] - frr_after
            slow = far[i - 1] + (far[i] - far[i - 1]) * gap_before / (gap_before + gap_after)
            break
    assert eer(scores, same) == pytest.approx(slow, abs=1e-12)


def test_eer_of_a_case_on_paper() -> None:
    same = np.array([True, True, False, True, False, False])
    # Accepting the first three: 1 of 3 strangers accepted, 1 of 3 own pairs rejected.
    assert eer(np.array([6.0, 5, 4, 3, 2, 1]), same) == pytest.approx(1 / 3)
    assert eer(np.zeros(6), same) == pytest.approx(0.5)


@pytest.mark.parametrize(("scores", "same"), CASES)
@pytest.mark.parametrize("threshold", [-10.0, 0.0, 0.8, 10.0])
def test_f1_and_accuracy_accept_scores_at_the_threshold_and_above(scores, same, threshold) -> None:
    accepted = [score >= threshold for score in scores]
    assert f1(scores, same, threshold) == pytest.approx(f1_score(same, accepted, zero_division=0))
    assert accuracy(scores, same, threshold) == pytest.approx(accuracy_score(same, accepted))


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_best_accuracy_tries_every_threshold(scores, same) -> None:
    thresholds = [*scores, np.inf]
    slow = max(float(np.mean((scores >= each) == same)) for each in thresholds)
    assert best_accuracy(scores, same) == pytest.approx(slow)


@pytest.mark.parametrize(("scores", "same"), CASES)
@pytest.mark.parametrize("far", [0.05, 0.1, 0.29, 0.5, 1.0])
def test_tar_at_far_tries_every_threshold(scores, same, far) -> None:
    negatives = int((~same).sum())
    if far < 1 / negatives:
        with pytest.raises(InvalidInput, match="false accept rate must be between"):
            tar_at_far(scores, same, far)
        return
    allowed = [t for t in [*scores, np.inf] if (scores[~same] >= t).mean() <= far + 1e-12]
    slow = max(float((scores[same] >= t).mean()) for t in allowed)
    assert tar_at_far(scores, same, far) == pytest.approx(slow)


def test_a_share_of_the_negatives_is_not_lost_to_rounding() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point.
    scores = np.concatenate([np.arange(100.0), [71.0]])
    same = np.arange(101) == 100
    assert tar_at_far(scores, same, 0.29) == 1.0
    assert tar_at_far(scores, same, 0.28) == 0.0


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_none_is_refused(far) -> None:
    with pytest.raises(InvalidInput, match="false accept rate must be between"):
        tar_at_far(*CASES[0], far)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [(198, []), (200, ["tar@far=0.01"]), (2000, ["tar@far=0.01", "tar@far=0.001"])],
)
def test_an_epoch_has_its_numbers_as_far_as_the_pairs_can_tell_them(pairs, told) -> None:
    rng = np.random.default_rng(0)
    same = np.arange(pairs) < pairs // 2
    scores = rng.normal(same * 2.0)
    assert verification_metrics(scores, same, 0.3) == {
        "auc": roc_auc(scores, same),
        "f1": f1(scores, same, 0.3),
        "accuracy": accuracy(scores, same, 0.3),
        "eer": eer(scores, same),
        **{name: tar_at_far(scores, same, float(name.partition("=")[2])) for name in told},
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad) -> None:
    with pytest.raises(InvalidInput, match="finite, but 1 of 3 are not"):
        verification_metrics(np.array([0.1, bad, 0.3]), np.array([True, False, True]), 0.0)


def test_pairs_of_one_kind_are_refused() -> None:
    with pytest.raises(InvalidInput, match="positive and negative pairs, but got 3 and 0"):
        roc_auc(np.arange(3.0), np.ones(3, bool))


def test_scores_and_truths_must_match() -> None:
    with pytest.raises(InvalidInput, match=r"\(3,\) and \(2,\)"):
        roc_auc(np.arange(3.0), np.ones(2, bool))


def test_a_million_pairs_take_about_a_second() -> None:
    rng = np.random.default_rng(0)
    same = rng.random(1_000_000) < 0.5
    scores = rng.normal(same)
    started = time.process_time()
    metrics = verification_metrics(scores, same, 0.5)
    assert time.process_time() - started < 3
    # Two unit normals one apart: AUC is Phi(1 / sqrt 2), EER and 1 - accuracy Phi(-1 / 2).
    assert metrics["auc"] == pytest.approx(0.76025, abs=2e-3)
    assert metrics["eer"] == pytest.approx(0.30854, abs=2e-3)
    assert metrics["accuracy"] == pytest.approx(1 - 0.30854, abs=2e-3)
