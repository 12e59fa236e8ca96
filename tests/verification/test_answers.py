"""Folds together: means, standard errors, and pooled curves, against plain arithmetic."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from siamtune.verification.answers import TAR, Answers, fold_metrics, summarize


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
    assert TAR in fold_metrics(fold(0, pairs=200))
    assert TAR not in fold_metrics(fold(0, pairs=198))


def test_one_person_alone_gives_no_interval() -> None:
    same = np.array([True, False, False])
    answers = Answers(np.array([0.9, 0.2, 0.4]), same, np.zeros(3), np.array([0, 1, 1]), 0.5)
    assert summarize([answers]).intervals == {}
