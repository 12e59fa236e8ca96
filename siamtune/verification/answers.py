"""What a protocol's folds say together: means and standard errors, pooled curves, intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from siamtune.errors import InvalidInput
from siamtune.verification.bootstrap import Interval, enough_people, identity_intervals
from siamtune.verification.metrics import verification_metrics
from siamtune.verification.thresholds import fit_threshold


@dataclass(frozen=True, eq=False)
class Answers:
    """The scores of one fold's pairs, and the threshold that other people gave.

    Attributes:
        scores, same: (P,).
        left, right: (P,) identities of the two pictures.
        threshold_scores, threshold_same: (T,) of the pairs that the threshold was fitted on.
    """

    scores: np.ndarray
    same: np.ndarray
    left: np.ndarray
    right: np.ndarray
    threshold: float
    threshold_scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    threshold_same: np.ndarray = field(default_factory=lambda: np.empty(0, bool))


@dataclass(frozen=True)
class Summary:
    """One protocol's numbers.

    Attributes:
        mean: over folds, of what `fold_metrics` gives in each.
        standard_error: of these means, sd / sqrt(folds); empty with one fold.
        pooled: of all pairs together, what needs no threshold: "auc", "eer", "tar@far=...".
        intervals: 95 %, over people, of "auc" pooled and of "accuracy" and "f1" at the thresholds.
    """

    folds: int
    pairs: int
    mean: dict[str, float]
    standard_error: dict[str, float]
    pooled: dict[str, float]
    intervals: dict[str, Interval]


def ensemble(members: Sequence[Answers]) -> Answers:
    """The mean of several models' scores of the same pairs, and the threshold that it needs.

    Each model's scores are first measured from their mean, in standard deviations, on the pairs of
    other people that gave its threshold: those who are asked about decide nothing.

    Raises:
        InvalidInput: the models answered other pairs, or their threshold's scores were not kept.
    """
    first = members[0]
    for member in members:
        for part in ("same", "left", "right", "threshold_same"):
            if not np.array_equal(getattr(member, part), getattr(first, part)):
                raise InvalidInput("models of an ensemble must answer the same pairs")
    if not len(first.threshold_scores):
        raise InvalidInput(
            "an ensemble needs the scores that gave the thresholds, but an older version kept "
            "none; evaluate anew under another --name"
        )
    scales = [(m.threshold_scores.mean(), m.threshold_scores.std()) for m in members]

    def mean(name: str) -> np.ndarray:
        standard = [
            (getattr(member, name) - centre) / max(spread, np.finfo(float).tiny)
            for member, (centre, spread) in zip(members, scales, strict=True)
        ]
        return np.mean(standard, axis=0)

    others = mean("threshold_scores")
    threshold = fit_threshold(others, first.threshold_same)
    return Answers(
        mean("scores"), first.same, first.left, first.right, threshold, others, first.threshold_same
    )


def fold_metrics(answers: Answers) -> dict[str, float]:
    """What `verification_metrics` gives, and raises."""
    return verification_metrics(answers.scores, answers.same, answers.threshold)


def summarize(folds: Sequence[Answers]) -> Summary:
    """All folds of a protocol; raises as `fold_metrics`."""
    each = [fold_metrics(answers) for answers in folds]
    names = [name for name in each[0] if all(name in metrics for metrics in each)]
    thresholded = ("f1", "accuracy")
    values = {name: np.array([metrics[name] for metrics in each]) for name in names}
    scores, same, left, right = (
        np.concatenate([getattr(answers, part) for answers in folds])
        for part in ("scores", "same", "left", "right")
    )
    # Every fold has its own threshold: measured from there, zero serves them all.
    above = np.concatenate([answers.scores - answers.threshold for answers in folds])
    return Summary(
        folds=len(folds),
        pairs=len(same),
        mean={name: float(value.mean()) for name, value in values.items()},
        standard_error={
            name: float(value.std(ddof=1) / np.sqrt(len(folds))) for name, value in values.items()
        }
        if len(folds) > 1
        else {},
        pooled={
            name: value
            for name, value in verification_metrics(scores, same, 0.0).items()
            if name not in thresholded
        },
        intervals=_intervals(len(folds), scores, above, same, left, right),
    )


def _intervals(
    folds: int,
    scores: np.ndarray,
    above: np.ndarray,
    same: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> dict[str, Interval]:
    if not enough_people(same, left):
        return {}
    decided = identity_intervals(above, same, left, right, 0.0)
    # One threshold moves all scores alike; several change their order.
    ordered = decided if folds == 1 else identity_intervals(scores, same, left, right, 0.0)
    return {"auc": ordered["auc"], "accuracy": decided["accuracy"], "f1": decided["f1"]}
