"""Which configurations are tied: against textbook tests, and by how often it is right."""

import numpy as np
import pytest
from scipy import stats

from siamtune.verification.replication import compare

RNG = np.random.default_rng(0)


def test_one_configuration_has_the_t_interval_of_its_seeds() -> None:
    values = [0.91, 0.94, 0.92, 0.93]
    found = compare([values], None, mode="max")
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    mean = found.each[0].mean
    assert (mean.value, mean.margin) == (pytest.approx(np.mean(values)), pytest.approx(
        (high - low) / 2))  # fmt: skip
    assert found.each[0].behind is None
    assert found.each[0].spread == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("mode", ["max", "min"])
def test_two_configurations_are_tied_when_students_test_says_so(mode: str) -> None:
    verdicts = set()
    for gap in np.linspace(0, 0.05, 40):
        first, second = RNG.normal(0.9, 0.01, 3), RNG.normal(0.9 - gap, 0.01, 4)
        found = compare([first, second], None, mode=mode)
        p = stats.ttest_ind(first, second).pvalue
        other = found.each[1 - found.best]
        assert other.tied == (p > 0.05)
        assert found.each[found.best].tied
        assert other.behind is not None
        assert other.behind.value >= 0
        assert other.behind.value == pytest.approx(abs(first.mean() - second.mean()))
        verdicts.add(other.tied)
    assert verdicts == {True, False}


def test_where_seeds_do_not_matter_people_decide_pair_by_pair() -> None:
    """Two networks that the same people find hard: each is uncertain, their difference is not."""
    hard = RNG.normal(0, 0.03, 20_000)
    drawn = [0.9 + hard, 0.89 + hard + RNG.normal(0, 0.001, 20_000)]
    found = compare([[0.9, 0.9], [0.89, 0.89]], drawn, mode="max")
    assert found.each[0].mean.margin == pytest.approx(1.96 * 0.03, rel=0.03)
    assert found.each[1].behind is not None
    assert found.each[1].behind.margin == pytest.approx(1.96 * 0.001, rel=0.03)
    assert not found.each[1].tied


def test_one_seed_each_tells_no_spread_and_rules_nobody_out() -> None:
    found = compare([[0.9], [0.5]], None, mode="max")
    assert [each.mean.margin for each in found.each] == [None, None]
    assert found.each[1].tied
    assert found.seed_margin(1) is None


def test_intervals_and_the_tied_set_hold_the_truth_as_often_as_they_say() -> None:
    """Simulated searches: five configurations, three seeds, people whom all share."""
    seeds_sd, people_sd = 0.01, 0.008
    truth = np.array([0.93, 0.93, 0.92, 0.92, 0.90])
    held, kept, tries = 0, 0, 600
    for _ in range(tries):
        people = RNG.normal(0, people_sd, 5)  # of each configuration: what these people do to it
        values = truth[:, None] + people[:, None] + RNG.normal(0, seeds_sd, (5, 3))
        drawn = [mean + RNG.normal(0, people_sd, 200) for mean in values.mean(1)]
        found = compare(list(values), drawn, mode="max")
        for of_one, true in zip(found.each, truth, strict=True):
            assert of_one.mean.margin is not None
            held += abs(of_one.mean.value - true) <= of_one.mean.margin
        kept += found.each[0].tied
    assert 0.93 < held / (5 * tries) < 0.97
    assert kept / tries > 0.95  # all comparisons at once
