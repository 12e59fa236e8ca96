"""Folds together: means, standard errors, and pooled curves, against plain arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from siamtune.errors import InvalidInput
from siamtune.verification.answers import Answers, ensemble, fold_metrics, summarize
from siamtune.verification.thresholds import fit_threshold


def fold(seed: int, pairs: int = 400, shift: float = 0.0) -> Answers:
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) < pairs // 2
    left = rng.integers(40, size=pairs) + 100 * seed
    right = np.where(same, left, left + 1)
    return Answers(rng.normal(same.astype(float)) + shift, same, left, right, 0.5 + shift)


def test_means_and_standard_errors_are_over_folds() -> None:
    folds = [fold(seed) for seed in range(5)]
    summary = summarize(folds)
    aucs = [roc_auc_score(answers.same, answers.scores) for answers in folds]
    assert summary.mean["auc"] == pytest.approx(sum(aucs) / 5)
    deviation = sum((auc - sum(aucs) / 5) ** 2 for auc in aucs) / 4
    assert summary.standard_error["auc"] == pytest.approx((deviation / 5) ** 0.5)
    assert (summary.folds, summary.pairs) == (5, 2000)


def test_pooled_is_one_curve_of_all_scores() -> None:
    folds = [fold(0), fold(1, shift=3.0)]
    together = (np.concatenate([getattr(a, part) for a in folds]) for part in ("same", "scores"))
    summary = summarize(folds)
    assert summary.pooled["auc"] == pytest.approx(roc_auc_score(*together))
    assert summary.pooled["auc"] < summary.mean["auc"] - 0.05  # their scores do not compare


def test_each_fold_keeps_its_own_threshold() -> None:
    folds = [fold(0), fold(0, shift=3.0)]
    summary = summarize(folds)
    expected = accuracy_score(folds[0].same, folds[0].scores >= 0.5)
    assert summary.mean["accuracy"] == pytest.approx(expected)
    interval = summary.intervals["accuracy"]
    assert interval.low < expected < interval.high


def test_one_fold_has_no_standard_error() -> None:
    summary = summarize([fold(0)])
    assert summary.standard_error == {}
    assert summary.mean["auc"] == summary.pooled["auc"]
    assert summary.intervals["auc"].low < summary.mean["auc"] < summary.intervals["auc"].high


def test_a_rate_that_the_pairs_cannot_show_is_left_out() -> None:
    known = "tar@far=0.01"
    assert summarize([fold(0, pairs=200)]).pooled.keys() == {"auc", "eer", known}
    assert known in fold_metrics(fold(0, pairs=200))
    assert known not in fold_metrics(fold(0, pairs=198))
    assert summarize([fold(0, pairs=198)]).pooled.keys() == {"auc", "eer"}


def test_one_person_alone_gives_no_interval() -> None:
    same = np.array([True, False, False])
    answers = Answers(np.array([0.9, 0.2, 0.4]), same, np.zeros(3), np.array([0, 1, 1]), 0.5)
    assert summarize([answers]).intervals == {}


def member(seed: int, factor: float, shift: float) -> Answers:
    """A model's answers to the pairs of `fold(0)`, in scores of its own scale."""
    rng = np.random.default_rng(seed)
    told, same = fold(0), np.arange(60) < 30
    scores = factor * (told.same + rng.normal(size=len(told.same))) + shift
    others = factor * (same + rng.normal(size=60)) + shift
    threshold = fit_threshold(others, same)
    return Answers(scores, told.same, told.left, told.right, threshold, others, same)


def test_an_ensemble_is_the_mean_of_scores_in_units_of_other_peoples_pairs() -> None:
    members = [member(1, 1.0, 0.0), member(2, 1000.0, -50.0), member(3, 0.01, 7.0)]
    together = ensemble(members)
    for pair in (0, 17, 399):
        expected = 0.0
        for each in members:
            others = each.threshold_scores.tolist()
            mean = sum(others) / 60
            spread = (sum((score - mean) ** 2 for score in others) / 60) ** 0.5
            expected += (each.scores[pair] - mean) / spread / 3
        assert together.scores[pair] == pytest.approx(expected)
    assert together.threshold == fit_threshold(together.threshold_scores, together.threshold_same)
    # Independent mistakes cancel out, whatever the scale of each.
    alone = [fold_metrics(each)["auc"] for each in members]
    assert fold_metrics(together)["auc"] > max(alone) + 0.03
    # What is asked about decides nothing: other scores of the last pair leave the first as it is.
    scores = members[0].scores.copy()
    scores[-1] += 1000
    changed = ensemble([replace(members[0], scores=scores), *members[1:]])
    assert np.array_equal(changed.scores[:-1], together.scores[:-1])


def test_an_ensemble_needs_the_same_pairs_and_what_gave_their_thresholds() -> None:
    one, other = member(1, 1.0, 0.0), member(2, 1.0, 0.0)
    with pytest.raises(InvalidInput, match="must answer the same pairs"):
        ensemble([one, replace(other, left=other.left + 1)])
    with pytest.raises(InvalidInput, match="an older version kept none"):
        ensemble([fold(0), fold(0)])
