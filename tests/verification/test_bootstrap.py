import time
from itertools import combinations

import numpy as np
import pytest

from siamtune.errors import InvalidInput
from siamtune.verification.bootstrap import Interval, difference_interval, identity_intervals
from siamtune.verification.metrics import accuracy, f1, roc_auc


def collection(rng: np.random.Generator, people: int, pictures: int) -> dict[str, np.ndarray]:
    """All pairs of a collection in which some people are easier to recognise than others."""
    owner = np.repeat(np.arange(people), pictures)
    pairs = np.array(list(combinations(range(len(owner)), 2)))
    left, right = owner[pairs].T
    same = left == right
    easy, ordinary = rng.normal(0, 0.7, people), rng.normal(0, 0.3, people)
    scores = np.where(same, 1.5 + easy[left], ordinary[left] + ordinary[right])
    return {
        "scores": scores + rng.normal(0, 0.7, len(pairs)),
        "same": same,
        "left": left,
        "right": right,
    }


def test_intervals_are_those_of_pairs_repeated_as_often_as_their_people() -> None:
    """Against a loop that repeats each pair, over the same draws of people."""
    rng = np.random.default_rng(0)
    pairs = collection(rng, people=6, pictures=3)
    pairs["scores"] = np.round(pairs["scores"], 1)  # with ties
    threshold = 0.7
    fast = identity_intervals(**pairs, threshold=threshold, seed=4, replicates=200)

    drawn = np.random.default_rng(4).integers(6, size=(200, 6))
    slow: dict[str, list[float]] = {"auc": [], "accuracy": [], "f1": [], "tar": [], "far": []}
    for people in drawn:
        times = [
            np.sum(people == a) * (1 if a == b else np.sum(people == b))
            for a, b in zip(pairs["left"], pairs["right"], strict=True)
        ]
        scores, same = np.repeat(pairs["scores"], times), np.repeat(pairs["same"], times)
        if same.all() or not same.any():
            continue
        slow["auc"].append(roc_auc(scores, same))
        tar, far = (scores[same] >= threshold).mean(), (scores[~same] >= threshold).mean()
        slow["tar"].append(tar)
        slow["far"].append(far)
        # 18 pairs of one person and 135 of two, as in the collection.
        slow["accuracy"].append((tar * 18 + (1 - far) * 135) / 153)
        slow["f1"].append(2 * tar * 18 / (tar * 18 + far * 135 + 18))
    for name, values in slow.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert fast[name].low == pytest.approx(low), name
        assert fast[name].high == pytest.approx(high), name


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    truth = np.mean(
        [
            roc_auc(pairs["scores"], pairs["same"])
            for pairs in (collection(rng, people=25, pictures=4) for _ in range(120))
        ]
    )
    covered, widths, too_narrow = [], [], []
    for run in range(80):
        pairs = collection(rng, people=25, pictures=4)
        interval = identity_intervals(**pairs, threshold=0.7, seed=run, replicates=150)["auc"]
        covered.append(interval.low <= truth <= interval.high)
        widths.append(interval.high - interval.low)
        # What an interval that takes all pairs for independent would be (Hanley and McNeil 1982).
        auc, positives = roc_auc(pairs["scores"], pairs["same"]), int(pairs["same"].sum())
        error = np.sqrt(auc * (1 - auc) / positives)
        too_narrow.append(2 * 1.96 * error)
    assert 0.88 <= np.mean(covered) <= 1.0
    assert np.mean(widths) > np.mean(too_narrow)


def test_perfect_scores_leave_nothing_to_doubt() -> None:
    pairs = collection(np.random.default_rng(0), people=8, pictures=3)
    pairs["scores"] = pairs["same"] * 1.0
    intervals = identity_intervals(**pairs, threshold=0.5)
    perfect = dict.fromkeys(("auc", "accuracy", "f1", "tar"), Interval(1.0, 1.0))
    assert intervals == perfect | {"far": Interval(0.0, 0.0)}


@pytest.mark.parametrize("threshold", [-100.0, 100.0])
def test_a_threshold_beyond_all_scores_judges_all_people_alike(threshold) -> None:
    pairs = collection(np.random.default_rng(0), people=8, pictures=3)
    intervals = identity_intervals(**pairs, threshold=threshold, replicates=100)
    for name, metric in {"accuracy": accuracy, "f1": f1}.items():
        expected = pytest.approx(metric(pairs["scores"], pairs["same"], threshold))
        assert intervals[name].low == expected
        assert intervals[name].high == expected


def test_equal_seeds_give_equal_intervals() -> None:
    pairs = collection(np.random.default_rng(0), people=8, pictures=3)
    one, two, other = (
        identity_intervals(**pairs, threshold=0.7, seed=seed, replicates=50) for seed in (1, 1, 2)
    )
    assert one == two != other


@pytest.mark.parametrize("people", [1, 2, 3])
def test_of_few_people_there_is_no_interval(people: int) -> None:
    """Of two people every draw with a pair of strangers is the sample: an interval of no width."""
    pairs = collection(np.random.default_rng(0), people=people + 1, pictures=3)
    own = pairs["same"] & (pairs["left"] == people)  # of the last there is one picture
    few = {name: values[~own] for name, values in pairs.items()}
    with pytest.raises(InvalidInput, match="4 or more with positive pairs"):
        identity_intervals(**few, threshold=0.7)
    four = collection(np.random.default_rng(0), people=4, pictures=3)
    assert identity_intervals(**four, threshold=0.7)["auc"].low < 1


def test_a_thousand_replicates_of_ten_thousand_pairs_take_seconds() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(500, size=(2, 10_000))
    right = np.where(np.arange(10_000) < 5_000, left, right)
    started = time.process_time()
    identity_intervals(rng.normal(left == right), left == right, left, right, 0.5)
    assert time.process_time() - started < 6


def test_a_difference_is_measured_on_the_same_people() -> None:
    pairs = collection(np.random.default_rng(0), people=20, pictures=3)
    scores, who = pairs["scores"], {name: pairs[name] for name in ("same", "left", "right")}
    worse = scores + np.random.default_rng(1).normal(0, 0.3, len(scores))
    gain = difference_interval("auc", worse, scores, **who)
    difference = roc_auc(scores, who["same"]) - roc_auc(worse, who["same"])
    assert gain.low < difference < gain.high
    # Hard people are hard for both: together they move far less than each alone.
    alone = identity_intervals(scores, **who, threshold=0.0)["auc"]
    assert gain.high - gain.low < 0.6 * (alone.high - alone.low)
    assert difference_interval("auc", scores, scores, **who) == Interval(0.0, 0.0)
    there, back = gain, difference_interval("auc", scores, worse, **who)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
