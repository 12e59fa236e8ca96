"""Batches: full, half same and half different or P x K, and no person in command of an epoch."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from siamtune.config import BatchConfig
from siamtune.data.batches import Batch, epoch_batches, limit_per_person
from siamtune.errors import DataError

LFW_LIKE = [1] * 4069 + [2] * 779 + [3] * 590 + [8] * 168 + [16] * 102 + [60] * 39 + [200, 530]


def people(pictures: list[int]) -> NDArray[np.int64]:
    """Identities with gaps, not in order."""
    identities = np.repeat(np.arange(len(pictures)) * 3 + 5, pictures)
    return np.random.default_rng(0).permutation(identities)


def draw(
    identities: NDArray[np.int64],
    seed: int = 0,
    *,
    sampling: str,
    images: int = 32,
    k: int = 4,
    share: float = 0.0,
    views: int = 2,
) -> list[Batch]:
    config = BatchConfig(
        sampling=sampling,  # type: ignore[arg-type]
        images=images,
        images_per_identity=k,
        single_share=share,
        single_views=views,
    )
    return epoch_batches(identities, config, np.random.default_rng(seed))


def pairs_of(batches: list[Batch]) -> NDArray[np.int64]:
    return np.concatenate(
        [batch.index[batch.pairs] for batch in batches if batch.pairs is not None], 1
    )


@pytest.mark.parametrize("sampling", ["pairs", "pk"])
@pytest.mark.parametrize("pictures", [LFW_LIKE, [10] * 32, [2, 2], [2] * 5 + [1] * 9, [3, 300, 2]])
@pytest.mark.parametrize("images", [8, 32, 128])
def test_every_batch_is_full(sampling: str, pictures: list[int], images: int) -> None:
    batches = draw(people(pictures), sampling=sampling, images=images)
    assert batches
    assert {batch.index.shape for batch in batches} == {(images,)}
    assert {batch.index.dtype for batch in batches} == {np.dtype(np.int64)}


@pytest.mark.parametrize("sampling", ["pairs", "pk"])
def test_the_generator_decides(sampling: str) -> None:
    identities = people([5] * 12)
    first, same, other = (draw(identities, seed, sampling=sampling) for seed in (0, 0, 1))
    assert all(np.array_equal(a.index, b.index) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a.index, b.index) for a, b in zip(first, other, strict=False))


@pytest.mark.parametrize("images", [6, 10, 32])  # 3, 5 and 16 pairs
def test_each_batch_of_pairs_is_half_same_and_half_different(images: int) -> None:
    identities = people(LFW_LIKE[3000:])
    for batch in draw(identities, sampling="pairs", images=images):
        assert batch.pairs is not None
        assert np.array_equal(batch.pairs, [range(0, images, 2), range(1, images, 2)])
        left, right = identities[batch.index[batch.pairs]]
        assert abs((left == right).sum() - images / 4) <= 0.5


def test_a_positive_pair_is_two_different_photographs() -> None:
    left, right = pairs_of(draw(people(LFW_LIKE), sampling="pairs"))
    assert not (left == right).any()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_each_picture_is_in_one_positive_pair_or_the_odd_one_in_two(count: int) -> None:
    identities = people([count] * 8)
    left, right = pairs_of(draw(identities, sampling="pairs", images=4))
    same = identities[left] == identities[right]
    times = Counter([*left[same].tolist(), *right[same].tolist()])
    assert len(times) == len(identities)
    assert sum(times.values()) == 8 * (count + count % 2)
    assert max(times.values()) == 1 + count % 2


def test_over_the_epochs_all_positive_pairs_of_a_person_come() -> None:
    identities = people([5] * 2)
    found = set()
    for seed in range(30):
        left, right = pairs_of(draw(identities, seed, sampling="pairs", images=4))
        same = identities[left] == identities[right]
        found |= {frozenset(pair) for pair in zip(left[same], right[same], strict=True)}
    assert len(found) == 2 * 10


def test_no_person_makes_many_positive_pairs_and_none_comes_twice() -> None:
    identities = people(LFW_LIKE)
    left, right = pairs_of(draw(identities, sampling="pairs", images=4))
    same = identities[left] == identities[right]
    by_person = Counter(identities[left[same]].tolist())
    # One more at the end, where the last batch is filled up.
    assert sum(max(0, count - 10) for count in by_person.values()) <= 1
    assert len(by_person) == sum(count > 1 for count in LFW_LIKE)
    pairs = Counter(frozenset(pair) for pair in zip(left[same], right[same], strict=True))
    assert sum(count - 1 for count in pairs.values()) <= 1


def test_people_who_all_have_many_pictures_may_give_many() -> None:
    identities = people([100] * 5)
    left, right = pairs_of(draw(identities, sampling="pairs", images=4))
    same = identities[left] == identities[right]
    assert set(Counter(identities[left[same]].tolist()).values()) == {50}
    assert {*left[same].tolist(), *right[same].tolist()} == set(range(500))


def test_a_person_with_one_photograph_is_only_in_negative_pairs() -> None:
    identities = people([1] * 30 + [4] * 10)
    alone = [i for i, count in Counter(identities.tolist()).items() if count == 1]
    left, right = pairs_of(draw(identities, sampling="pairs"))
    positive = identities[left] == identities[right]
    assert not np.isin(identities[left[positive]], alone).any()
    assert np.isin(identities[left[~positive]], alone).any()


def test_negative_pairs_are_alike_likely() -> None:
    identities = np.array([0, 0, 0, 1, 1, 2])
    found: Counter[tuple[int, int]] = Counter()
    for seed in range(500):
        left, right = pairs_of(draw(identities, seed, sampling="pairs", images=16))
        negative = identities[left] != identities[right]
        found.update(zip(left[negative].tolist(), right[negative].tolist(), strict=True))
    # A left picture is drawn first, then one of the others: 1/6 x 1/3, 1/6 x 1/4, 1/6 x 1/5.
    others = {0: 3, 1: 4, 2: 5}
    total = found.total()
    assert len(found) == 6 * 6 - (9 + 4 + 1)
    for (a, _), count in found.items():
        expected = total / 6 / others[int(identities[a])]
        assert abs(count - expected) < 5 * np.sqrt(expected)


def test_negative_pairs_are_drawn_afresh() -> None:
    identities = people([4] * 50)
    epochs = []
    for seed in (0, 1):
        left, right = pairs_of(draw(identities, seed, sampling="pairs"))
        negative = identities[left] != identities[right]
        epochs.append(set(zip(left[negative].tolist(), right[negative].tolist(), strict=True)))
    assert len(epochs[0] & epochs[1]) < 0.1 * len(epochs[0])


@pytest.mark.parametrize(("images", "k"), [(32, 4), (16, 2), (24, 8), (128, 4)])
def test_a_pk_batch_holds_p_different_people_with_k_pictures_each(images: int, k: int) -> None:
    identities = people(LFW_LIKE)
    batches = draw(identities, sampling="pk", images=images, k=k)
    assert all(batch.pairs is None for batch in batches)
    for batch in batches:
        assert set(Counter(identities[batch.index].tolist()).values()) == {k}


@pytest.mark.parametrize("pictures", [[2] * 40, [3, 5] * 20, LFW_LIKE])
def test_a_pk_batch_has_two_different_photographs_of_everybody(pictures: list[int]) -> None:
    identities = people(pictures)
    for batch in draw(identities, sampling="pk"):
        for person in set(identities[batch.index]):
            assert len(set(batch.index[identities[batch.index] == person])) >= 2


def test_a_pk_epoch_visits_each_picture_about_once() -> None:
    identities = people([8] * 40)
    visits = Counter(np.concatenate([b.index for b in draw(identities, sampling="pk")]).tolist())
    assert visits == Counter(range(320))
    identities = people([5, 6, 7] * 20)
    epochs = [draw(identities, seed, sampling="pk") for seed in range(40)]
    mean = np.mean([sum(len(b.index) for b in epoch) for epoch in epochs]) / len(identities)
    assert mean == pytest.approx(1, abs=0.1)  # the last batch is filled up


def test_pk_visits_everybody_with_two_photographs_and_nobody_in_excess() -> None:
    identities = people(LFW_LIKE)
    count = Counter(identities.tolist())
    index = np.concatenate([batch.index for batch in draw(identities, sampling="pk", images=128)])
    visits = Counter(identities[index].tolist())
    assert set(visits) == {person for person, pictures in count.items() if pictures > 1}
    assert max(visits.values()) <= 20 + 4  # one group more where the last batch is filled up


def test_fewer_people_than_p_are_all_in_every_batch() -> None:
    identities = people([10] * 6)
    for batch in draw(identities, sampling="pk", images=128):
        groups = Counter(identities[batch.index].tolist())
        assert len(groups) == 6
        assert max(groups.values()) <= 6 * 4  # 32 groups of 6 people


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize(("share", "singles"), [(0.25, 32), (0.5, 64), (0.9, 116), (0.01, 0)])
def test_people_with_one_picture_get_their_share_of_a_batch(
    share: float, singles: int, views: int
) -> None:
    identities = people(LFW_LIKE)
    count = Counter(identities.tolist())
    batches = draw(identities, sampling="pk", images=128, share=share, views=views)
    seen: Counter[int] = Counter()
    for batch in batches:
        assert len(batch.index) == 128
        times = Counter(identities[batch.index].tolist())
        alone = {person: n for person, n in times.items() if count[person] == 1}
        assert sum(alone.values()) == singles
        assert sum(n < views for n in alone.values()) <= 1  # what is left over
        assert max(alone.values(), default=0) <= views
        assert all(n == 4 for person, n in times.items() if count[person] > 1)
        seen.update(alone.keys())
    if singles:
        assert max(seen.values()) - min(seen.values()) <= 1
    plain = draw(identities, sampling="pk", images=128)
    assert len(batches) / len(plain) == pytest.approx(128 / (128 - singles), rel=0.05)


@pytest.mark.parametrize("views", [1, 2])
def test_few_people_with_one_picture_do_not_come_more_often_than_they_should(views: int) -> None:
    identities = people([5] * 12 + [1] * 5)
    count = Counter(identities.tolist())
    for batch in draw(identities, sampling="pk", images=64, share=0.5, views=views):
        times = Counter(identities[batch.index].tolist())
        alone = [n for person, n in times.items() if count[person] == 1]
        assert max(alone, default=0) <= views
        assert sum(alone) == 4 * (5 * views // 4)  # whole groups of the others fill the rest


def test_without_people_with_one_picture_their_share_goes_to_the_others() -> None:
    identities = people([5] * 12)
    plain, shared = (draw(identities, sampling="pk", share=share) for share in (0.0, 0.5))
    assert all(np.array_equal(a.index, b.index) for a, b in zip(plain, shared, strict=True))


@pytest.mark.parametrize(
    ("sampling", "pictures"),
    [("pairs", [1] * 9), ("pairs", [9]), ("pk", [1] * 9), ("pk", [9]), ("pk", [9, 1, 1])],
)
def test_pictures_without_positive_or_negative_pairs_are_refused(
    sampling: str, pictures: list[int]
) -> None:
    with pytest.raises(DataError, match=f"batches of {sampling} need two people"):
        draw(people(pictures), sampling=sampling)


def test_no_training_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="but got 0 people"):
        draw(np.array([], np.int64), sampling="pk")


def test_limit_per_person_keeps_so_many_of_each() -> None:
    identities = people(LFW_LIKE)
    kept = limit_per_person(identities, 2, seed=0)
    assert Counter(Counter(identities[kept].tolist()).values()) == Counter(
        min(count, 2) for count in LFW_LIKE
    )
    assert np.array_equal(kept, np.unique(kept))
    assert np.array_equal(kept, limit_per_person(identities, 2, seed=0))
    assert not np.array_equal(kept, limit_per_person(identities, 2, seed=1))
