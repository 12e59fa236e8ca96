"""Which pictures meet in a training batch; a whole epoch is drawn at once."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtune.config import BatchConfig
from siamtune.errors import DataError

Indices = NDArray[np.int64]

# What one person may give to an epoch. Without a limit one person of LFW's 5,749 would make 58 %
# of the positive pairs; where all have many pictures, all may give many.
PICTURES_PER_PERSON = 20
TIMES_THE_MEDIAN_PERSON = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """`index (B,)`: positions of the pictures. `pairs (2, P)`: positions within the batch of the
    pairs that count; None stands for every pair of the batch."""

    index: Indices
    pairs: Indices | None


def epoch_batches(
    identities: NDArray[np.int64], config: BatchConfig, rng: np.random.Generator
) -> list[Batch]:
    """Draw the batches of one epoch, each of exactly `config.images` pictures.

    `pairs`: pairs of two photographs of one person take turns with pairs of two people, both drawn
    afresh; the left picture of a pair stands before the right one. Each picture is in about one
    pair of either kind, so an epoch costs about twice one of `pk`. `pk`: groups of K pictures of a
    person who has two or more, P different people in a batch; where there are fewer than P, all
    are in every batch, several times. With `single_share` people with one picture take the place
    of some groups, `single_views` times each, and batches are more in number. The last batch is
    filled up, never dropped.

    Args:
        identities: `(N,)` of the training pictures, any integers.

    Raises:
        DataError: the pictures make no positive or no negative pair.
    """
    shelf = _shelve(identities, rng)
    several = int((shelf.counts > 1).sum())
    needed = 1 if config.sampling == "pairs" else 2  # in a group nobody has one picture
    if several < needed or len(shelf.counts) < 2:
        raise DataError(
            f"batches of {config.sampling} need two people or more, {needed} of them with two or "
            f"more training pictures, but got {len(shelf.counts)} people, {several} with two or "
            "more; add photographs or raise data.images_per_person"
        )
    draw = _draw_pairs if config.sampling == "pairs" else _draw_groups
    return draw(shelf, config, rng)


def limit_per_person(identities: NDArray[np.int64], limit: int, seed: int) -> Indices:
    """Sorted positions of at most `limit` pictures of each person; the seed decides which."""
    shelf = _shelve(identities, np.random.default_rng(seed))
    return np.sort(shelf.pictures[_count_up(shelf.counts) < limit])


class _Shelf(NamedTuple):
    """Positions of all pictures, person by person, each person's in random order."""

    pictures: Indices  # (N,)
    first: Indices  # (people,) place on the shelf of each person's first picture
    counts: Indices  # (people,)


def _shelve(identities: NDArray[np.int64], rng: np.random.Generator) -> _Shelf:
    _, counts = np.unique(identities, return_counts=True)
    pictures = np.lexsort((rng.random(len(identities)), identities))
    return _Shelf(pictures, _starts(counts), counts)


def _draw_pairs(shelf: _Shelf, config: BatchConfig, rng: np.random.Generator) -> list[Batch]:
    used = _limited(shelf.counts)
    # Each picture is in one positive pair; of an odd number the first is in two.
    wanted = np.where(used > 1, (used + 1) // 2, 0)
    person = np.repeat(np.arange(len(wanted)), wanted)
    at = 2 * _count_up(wanted)
    places = shelf.first[person] + np.stack([at, (at + 1) % used[person]])
    positives = shelf.pictures[places][:, rng.permutation(len(person))]

    batch_pairs = config.images // 2
    steps = -(-2 * len(person) // batch_pairs)
    is_positive = np.arange(steps * batch_pairs) % 2 == 0
    pairs = np.empty((2, len(is_positive)), np.int64)
    pairs[:, is_positive] = positives.take(np.arange(is_positive.sum()), axis=1, mode="wrap")
    pairs[:, ~is_positive] = _draw_negatives(shelf, used, int((~is_positive).sum()), rng)
    within = np.arange(config.images).reshape(-1, 2).T
    return [Batch(index, within) for index in pairs.T.reshape(steps, config.images)]


def _draw_negatives(shelf: _Shelf, used: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`(2, count)` pictures of different people, all such pairs of `used` pictures alike likely."""
    person = np.repeat(np.arange(len(used)), used)
    pool = shelf.pictures[shelf.first[person] + _count_up(used)]
    left = rng.integers(len(pool), size=count)
    # Draw among the others and step over the left one's own pictures.
    right = rng.integers(len(pool) - used[person[left]])
    right += np.where(right >= _starts(used)[person[left]], used[person[left]], 0)
    return pool[np.stack([left, right])]


def _draw_groups(shelf: _Shelf, config: BatchConfig, rng: np.random.Generator) -> list[Batch]:
    size = config.images_per_identity
    alone = shelf.pictures[shelf.first[shelf.counts == 1]]
    batch_groups = config.images // size
    if len(alone):
        # No more places than single pictures can fill without coming more often than they should.
        least = -(-(config.images - len(alone) * config.single_views) // size)
        batch_groups = max(2, round((1 - config.single_share) * batch_groups), least)
    first, counts = (values[shelf.counts > 1] for values in (shelf.first, shelf.counts))
    people = len(counts)
    # Rounded at random, so that on average every picture is visited once; of people with fewer
    # than K pictures some come twice.
    groups = np.maximum(1, (_limited(counts) / size + rng.random(people)).astype(np.int64))
    steps = -(-int(groups.sum()) // batch_groups)
    most = steps * -(-batch_groups // people)
    groups = np.minimum(groups, most)
    missing = steps * batch_groups - int(groups.sum())
    spare = np.minimum(most - groups, missing)
    groups += rng.multivariate_hypergeometric(spare, missing, method="marginals")

    # Dealt out like cards, a person's groups one after the other, nobody gets into a batch twice.
    order = rng.permutation(people)
    person = np.repeat(order, groups[order])
    turn = _count_up(groups[order])
    ring = (turn[:, None] * size + np.arange(size)) % counts[person, None]
    pictures = shelf.pictures[first[person, None] + ring]
    dealt = pictures.reshape(batch_groups, steps, size).swapaxes(0, 1).reshape(steps, -1)
    if dealt.shape[1] < config.images:
        dealt = np.hstack([dealt, _draw_singles(alone, steps, config, dealt.shape[1], rng)])
    return [Batch(index, None) for index in rng.permutation(dealt)]


def _draw_singles(
    alone: Indices, steps: int, config: BatchConfig, taken: int, rng: np.random.Generator
) -> Indices:
    """`(steps, images - taken)` of the pictures `alone`, each as often as the others, or one less;
    in a batch each is there `single_views` times, the last one less often where that is odd."""
    places = config.images - taken
    count = -(-places // config.single_views)
    drawn = rng.permutation(alone).take(np.arange(steps * count), mode="wrap")
    return np.repeat(drawn.reshape(steps, count), config.single_views, axis=1)[:, :places]


def _limited(counts: Indices) -> Indices:
    """How many pictures of each person an epoch may use."""
    typical = int(np.median(counts[counts > 1]))
    return np.minimum(counts, max(PICTURES_PER_PERSON, TIMES_THE_MEDIAN_PERSON * typical))


def _starts(counts: Indices) -> Indices:
    return np.cumsum(counts) - counts


def _count_up(counts: Indices) -> Indices:
    """0, 1, ..., c - 1 for each c of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(_starts(counts), counts)
