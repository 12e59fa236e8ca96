"""Several configurations, each trained with a few seeds: which of them is better, beyond luck?

A network's number depends on chance twice: on the seed of its training and on the people it is
asked about. The analysis is that of several readers and several cases (Dorfman, Berbaum and Metz
1992) with seeds for readers: both variances add. That of people comes from the identity bootstrap
of the mean over seeds, all configurations drawn with the same people, so that in a difference what
is hard for all cancels. That of seeds is the variance within configurations, pooled over them as
in an analysis of variance: three seeds of one configuration say little of it, three of each of five
say something. Student's t carries how little that still is (degrees of freedom by Satterthwaite
1946). What seeds and people do together is counted twice, which makes the intervals a little wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamtune.search.replicas import Estimate

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Compared:
    """One configuration among others.

    Attributes:
        mean: over its seeds; for another seed and other people.
        behind: how much worse than the best mean; None for the best itself. Its margin holds for
            all configurations at once (Bonferroni).
        tied: with the best, which the margin of `behind` does not rule out.
        spread: standard deviation over its seeds; None with one.
    """

    mean: Estimate
    behind: Estimate | None
    tied: bool
    spread: float | None


@dataclass(frozen=True)
class Comparison:
    """All configurations, as they were given; `seed_spread` is their pooled standard deviation."""

    each: tuple[Compared, ...]
    best: int
    seed_spread: float | None
    seed_freedom: int  # degrees of freedom of `seed_spread`

    def seed_margin(self, *trainings: int) -> float | None:
        """Of a difference of means over so many seeds each, measured on the same people."""
        if self.seed_spread is None:
            return None
        variance = self.seed_spread**2 * sum(1 / many for many in trainings)
        return _margin(0.0, variance, self.seed_freedom, 1 - CONFIDENCE)


def compare(
    values: Sequence[Sequence[float]], drawn: Sequence[np.ndarray] | None, *, mode: str
) -> Comparison:
    """Compare configurations by the values of their seeds, one or more each.

    Args:
        drawn: (R,) bootstrap replicates of each configuration's mean, over the same people; None
            where the metric has none: then the margins are of seeds alone.
        mode: "max" or "min", which is better.
    """
    means = [float(np.mean(of_one)) for of_one in values]
    sign = 1 if mode == "max" else -1
    best = max(range(len(means)), key=lambda at: sign * means[at])
    freedom = sum(len(of_one) - 1 for of_one in values)
    within = sum(float(np.var(of_one)) * len(of_one) for of_one in values)
    variance = within / freedom if freedom else None

    def margin(people: np.ndarray | None, seeds: float, error: float) -> float | None:
        if variance is None:
            return None
        of_people = 0.0 if people is None else float(np.nanvar(people, ddof=1))
        return _margin(of_people, variance * seeds, freedom, error)

    error = 1 - CONFIDENCE
    compared = []
    for at, of_one in enumerate(values):
        behind, tied = None, True
        if at != best:
            gap = sign * (means[best] - means[at])
            paired = None if drawn is None else drawn[best] - drawn[at]
            seeds = 1 / len(of_one) + 1 / len(values[best])
            behind = Estimate(value=gap, margin=margin(paired, seeds, error / (len(values) - 1)))
            tied = behind.margin is None or gap <= behind.margin
        people = None if drawn is None else drawn[at]
        compared.append(
            Compared(
                Estimate(value=means[at], margin=margin(people, 1 / len(of_one), error)),
                behind,
                tied,
                float(np.std(of_one, ddof=1)) if len(of_one) > 1 else None,
            )
        )
    spread = None if variance is None else math.sqrt(variance)
    return Comparison(tuple(compared), best, spread, freedom)


def _margin(people: float, seeds: float, freedom: int, error: float) -> float:
    """Half of a two-sided interval, from two variances; only that of seeds is itself a guess."""
    from scipy.stats import t

    total = people + seeds
    if not total:
        return 0.0
    effective = freedom * (total / seeds) ** 2 if seeds else math.inf
    return float(t.ppf(1 - error / 2, effective)) * math.sqrt(total)
