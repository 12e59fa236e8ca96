"""How a trial or a baseline does on the validation pairs of a run: numbers, intervals, curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siamtune.verification.answers import Answers, summarize
from siamtune.verification.bootstrap import Interval
from siamtune.verification.roc import cuts, thinned

Curve = Sequence[tuple[float, float]]  # false and true accept rates, rising


@dataclass(frozen=True)
class Standing:
    """What answers come to; an interval is of "auc", "accuracy" or "f1", 95 % over people."""

    pairs: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    curve: Curve


def standing(answers: Answers) -> Standing:
    """Measure one set of answers; the intervals take a fifth of a second."""
    summary = summarize([answers])
    return Standing(
        summary.pairs,
        summary.mean,
        summary.intervals,
        thinned(cuts(answers.scores, answers.same)),
    )


def to_plain(standing: Standing) -> dict[str, Any]:
    """As JSON holds it."""
    return {
        "pairs": standing.pairs,
        "metrics": dict(standing.metrics),
        "intervals": {name: [i.low, i.high] for name, i in standing.intervals.items()},
        "curve": [[round(far, 6), round(tar, 6)] for far, tar in standing.curve],
    }


def from_plain(plain: Mapping[str, Any]) -> Standing:
    """What `to_plain` gave; a damaged one raises KeyError, TypeError or ValueError."""
    return Standing(
        int(plain["pairs"]),
        {name: float(value) for name, value in plain["metrics"].items()},
        {name: Interval(*map(float, ends)) for name, ends in plain["intervals"].items()},
        [(float(far), float(tar)) for far, tar in plain["curve"]],
    )
