from itertools import combinations

import numpy as np
import pytest

from siamtune.errors import DataError
from siamtune.verification.pairs import VerificationPairs, all_pairs, verification_pairs


def as_set(pairs: VerificationPairs) -> set[tuple[int, int, bool]]:
    rows = zip(pairs.left.tolist(), pairs.right.tolist(), pairs.same.tolist(), strict=True)
    listed = list(rows)
    assert len(set(listed)) == len(listed), "a pair occurs twice"
    return set(listed)


def photographs(*counts: int) -> np.ndarray:
    """Identities of pictures: person 0 has counts[0] of them, and so on."""
    return np.repeat(np.arange(len(counts)), counts)


# About the shape of LFW's validation people: seven in ten have one photograph, one has 300.
MANY = photographs(*[1] * 400, *[2] * 80, *[3] * 40, *[8] * 30, 60, 300)


def test_positives_are_all_pairs_of_two_photographs_of_one_person() -> None:
    identities = photographs(3, 1, 2, 4)
    pairs = verification_pairs(np.arange(10), identities, seed=0)
    expected = {(i, j) for i, j in combinations(range(10), 2) if identities[i] == identities[j]}
    assert {(i, j) for i, j, same in as_set(pairs) if same} == expected


def test_negatives_are_as_many_distinct_pairs_of_two_people() -> None:
    pairs = verification_pairs(np.arange(len(MANY)), MANY, seed=3)
    as_set(pairs)
    assert (pairs.left < pairs.right).all()
    assert ((MANY[pairs.left] == MANY[pairs.right]) == pairs.same).all()
    assert pairs.same.sum() == (~pairs.same).sum() > 1000


def test_nobody_gives_more_positives_than_the_cap() -> None:
    pairs = verification_pairs(np.arange(len(MANY)), MANY, seed=0, per_identity=20)
    people, counts = np.unique(MANY[pairs.left[pairs.same]], return_counts=True)
    by_person = dict(zip(people.tolist(), counts.tolist(), strict=True))
    assert by_person[551] == by_person[550] == by_person[549] == 20
    assert by_person[400] == 1
    assert by_person[500] == 3


def test_a_capped_person_is_seen_on_any_of_their_photographs() -> None:
    identities = photographs(40, 1)
    seen: set[tuple[int, int]] = set()
    for seed in range(200):
        pairs = verification_pairs(np.arange(41), identities, seed=seed, per_identity=30)
        seen |= {(i, j) for i, j, same in as_set(pairs) if same}
    assert seen == set(combinations(range(40), 2))


def test_people_of_negative_pairs_are_drawn_with_equal_chances() -> None:
    identities = photographs(*[1] * 150, *[2] * 50, *[40] * 50)
    drawn = np.zeros(250)
    for seed in range(20):
        pairs = verification_pairs(np.arange(len(identities)), identities, seed=seed)
        people = identities[np.stack([pairs.left, pairs.right])[:, ~pairs.same]]
        drawn += np.bincount(people.ravel(), minlength=250)
    # 20 draws of 2,550 pairs: people with one photograph occur about as often as those with forty
    # (a little less: two singletons make only one pair, and no pair occurs twice).
    assert drawn[:150].mean() == pytest.approx(drawn[200:].mean(), rel=0.1)


@pytest.mark.parametrize("identities", [MANY, photographs(4, 3, 2, 1)], ids=["drawn", "listed"])
def test_equal_seeds_give_equal_pairs_in_whatever_order_the_pictures_come(
    identities: np.ndarray,
) -> None:
    indices = np.arange(len(identities))
    one = verification_pairs(indices, identities, seed=5)
    two = verification_pairs(indices[::-1], identities, seed=5)
    other = verification_pairs(indices, identities, seed=6)
    np.testing.assert_array_equal(one.left, two.left)
    np.testing.assert_array_equal(one.right, two.right)
    assert as_set(one) != as_set(other)


def test_only_the_given_pictures_occur() -> None:
    identities = photographs(5, 5, 5)
    chosen = np.array([0, 3, 4, 6, 7, 12])
    for pairs in (
        verification_pairs(chosen, identities, seed=0),
        all_pairs(chosen, identities),
    ):
        assert {i for i, _, _ in as_set(pairs)} | {j for _, j, _ in as_set(pairs)} <= set(chosen)


def test_the_halves_stay_equal_where_negatives_are_scarce() -> None:
    pairs = verification_pairs(np.arange(11), photographs(10, 1), seed=0)
    assert as_set(pairs) >= {(i, 10, False) for i in range(10)}
    assert pairs.same.sum() == 10


def test_all_pairs_are_all_pairs() -> None:
    identities = photographs(3, 1, 2)
    expected = {(i, j, bool(identities[i] == identities[j])) for i, j in combinations(range(6), 2)}
    assert as_set(all_pairs(np.arange(6), identities)) == expected


@pytest.mark.parametrize("choose", [all_pairs, lambda i, p: verification_pairs(i, p, seed=0)])
@pytest.mark.parametrize("identities", [photographs(4), photographs(1, 1, 1), photographs(0)])
def test_two_people_and_two_photographs_of_one_are_needed(choose, identities) -> None:
    with pytest.raises(DataError, match="two people or more"):
        choose(np.arange(len(identities)), identities)
