"""The split: nobody in two parts, everybody in one, and the same parts from the same seed."""

import numpy as np
import pytest

from siamtune.data.split import PARTS, Split, hold_out, split_identities
from siamtune.errors import DataError


def people(pictures: list[int]) -> tuple[np.ndarray, list[str]]:
    identities = np.repeat(np.arange(len(pictures)), pictures)
    return identities, [f"person {i}" for i in range(len(pictures))]


def names_in(split: Split, part: str) -> set[str]:
    return {split.names[i] for i in getattr(split, part)}


# As many people, with as many pictures, as make LFW what it is.
LFW_LIKE = [1] * 4069 + [2] * 779 + [3] * 590 + [8] * 168 + [16] * 102 + [60] * 41


@pytest.mark.parametrize("pictures", [LFW_LIKE, [10] * 40, [2] * 8, [3] * 6 + [1]])
def test_every_person_is_in_exactly_one_part(pictures: list[int]) -> None:
    split = split_identities(*people(pictures), seed=0)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together) == list(range(len(pictures)))  # the 2016 test set held 75 % of training


@pytest.mark.parametrize("pictures", [LFW_LIKE, [10] * 40])
def test_people_with_one_and_with_several_photographs_keep_the_shares(pictures: list[int]) -> None:
    split = split_identities(*people(pictures), seed=3)
    count = np.array(pictures)
    for group in (count == 1, count > 1):
        for part, share in zip(PARTS, (0.8, 0.1, 0.1), strict=True):
            found = group[getattr(split, part)].sum()
            assert found == pytest.approx(share * group.sum(), abs=1)


@pytest.mark.parametrize("pictures", [[2] * 6, [2] * 8, [5] * 7 + [1] * 3])
def test_each_part_of_few_people_has_two_with_positive_pairs(pictures: list[int]) -> None:
    split = split_identities(*people(pictures), seed=1)
    for part in PARTS:
        assert sum(pictures[i] > 1 for i in getattr(split, part)) >= 2


def test_large_shares_of_few_people_leave_two_to_each_part() -> None:
    split = split_identities(*people([2] * 7), seed=1, shares=(0.0, 0.5, 0.5))
    assert min(len(split.train), len(split.validation), len(split.test)) >= 2
    assert len(split.train) + len(split.validation) + len(split.test) == 7


def test_too_few_people_with_several_photographs_are_refused() -> None:
    with pytest.raises(DataError, match=r"6 people or more .* but got 5 among 105 people"):
        split_identities(*people([2] * 5 + [1] * 100), seed=0)


def test_order_of_names_does_not_decide() -> None:
    identities, names = people([1, 2, 3, 4] * 20)
    order = np.random.default_rng(0).permutation(len(names))
    place = np.argsort(order)
    split = split_identities(identities, names, seed=5)
    shuffled = split_identities(place[identities], [names[i] for i in order], seed=5)
    for part in PARTS:
        assert names_in(split, part) == names_in(shuffled, part)
    assert split.digest == shuffled.digest


def test_seed_decides() -> None:
    identities, names = people([3] * 50)
    first, same, other = (split_identities(identities, names, seed=s) for s in (0, 0, 1))
    assert first.digest == same.digest
    assert np.array_equal(first.train, same.train)
    assert first.digest != other.digest
    assert names_in(first, "test") != names_in(other, "test")


def test_one_more_person_moves_at_most_one_from_each_part() -> None:
    identities, names = people([3] * 100)
    before = split_identities(identities, names, seed=0)
    after = split_identities(np.append(identities, [100] * 3), [*names, "somebody"], seed=0)
    for part in PARTS:
        assert len(names_in(before, part) - names_in(after, part)) <= 1


def test_digest_names_the_protocol_and_the_parts() -> None:
    one, two = np.array([0]), np.array([1])

    def digest(**changes: object) -> str:
        plain = {"train": one, "validation": two, "test": two, "names": ("a", "b"), "seed": 0}
        return Split(**(plain | changes)).digest  # type: ignore[arg-type]

    digests = {
        digest(),
        digest(protocol="lfw-view-1"),
        digest(seed=1),
        digest(train=two, validation=one, test=one),
        digest(validation=np.array([0, 1])),
        digest(pictures="5b1e"),
    }
    assert len(digests) == 6
    assert all(len(d) == 12 for d in digests)


def test_holding_out_shares_the_given_people_and_nobody_else() -> None:
    identities, names = people(LFW_LIKE)
    given = np.arange(0, len(names), 2)
    train, validation = hold_out(given, identities, names, seed=0, share=0.1)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), given)
    several = np.array(LFW_LIKE) > 1
    assert several[validation].sum() == round(0.1 * several[given].sum())
    assert (~several)[validation].sum() == round(0.1 * (~several)[given].sum())
    other, _ = hold_out(given, identities, names, seed=1, share=0.1)
    assert not np.array_equal(train, other)


def test_holding_out_leaves_two_people_with_positive_pairs_on_both_sides() -> None:
    identities, names = people([2] * 4 + [1] * 9)
    for share in (0.0, 0.9):
        for side in hold_out(np.arange(13), identities, names, seed=0, share=share):
            assert (side < 4).sum() == 2
    with pytest.raises(DataError, match=r"4 people or more .* but got 3"):
        hold_out(np.arange(1, 13), identities, names, seed=0, share=0.1)
