"""Which pairs of pictures a model is asked about: the same person, or two?"""

from dataclasses import dataclass

import numpy as np

from siamtune.errors import DataError

# LFW has a man with 530 photographs, 140,185 pairs: uncapped, he alone would decide. With fifty a
# person a tenth of its people gives some three thousand pairs, and the AUC (of HOG features) its
# narrowest interval over people: 0.066, against 0.072 with ten and 0.090 without a cap.
PAIRS_PER_IDENTITY = 50


@dataclass(frozen=True, eq=False)
class VerificationPairs:
    """P questions about two different photographs, positives first; left < right in every pair."""

    left: np.ndarray  # (P,) int64 picture indices
    right: np.ndarray  # (P,) int64
    same: np.ndarray  # (P,) bool

    def __len__(self) -> int:
        return len(self.same)


def verification_pairs(
    indices: np.ndarray,
    identities: np.ndarray,
    *,
    seed: int,
    per_identity: int = PAIRS_PER_IDENTITY,
) -> VerificationPairs:
    """Positive pairs of each person among the pictures `indices`, and as many negative ones.

    `identities` (N,) is indexed by picture. A person gives all pairs of two different photographs,
    or `per_identity` of them, chosen at random. The two people of a negative pair are drawn with
    equal chances, those with a single photograph included, and then a photograph of each; no pair
    occurs twice. Equal seeds give equal pairs, whatever the order of `indices`. Where there are
    fewer negative than positive pairs, positives are left out at random: the halves are equal.

    Raises:
        DataError: there is no positive pair, or fewer than two people.
    """
    pictures = np.unique(np.asarray(indices, dtype=np.int64))
    rng = np.random.default_rng(seed)
    albums = _albums(pictures, identities)
    positives = np.concatenate([_positives(album, per_identity, rng) for album in albums])
    negatives = _negatives(albums, len(positives), rng)
    if len(negatives) < len(positives):
        kept = rng.choice(len(positives), len(negatives), replace=False)
        positives = positives[np.sort(kept)]
    left, right = np.concatenate([positives, negatives]).T
    return VerificationPairs(left, right, np.arange(len(left)) < len(positives))


def all_pairs(indices: np.ndarray, identities: np.ndarray) -> VerificationPairs:
    """Every pair among the pictures `indices`: P = N(N - 1) / 2, for small collections.

    Raises:
        DataError: there is no positive pair, or fewer than two people.
    """
    pictures = np.unique(np.asarray(indices, dtype=np.int64))
    _albums(pictures, identities)
    first, second = np.triu_indices(len(pictures), k=1)
    left, right = pictures[first], pictures[second]
    same = identities[left] == identities[right]
    order = np.argsort(~same, kind="stable")
    return VerificationPairs(left[order], right[order], same[order])


def _albums(pictures: np.ndarray, identities: np.ndarray) -> list[np.ndarray]:
    """The pictures of each person.

    Raises:
        DataError: no two people, or nobody with two pictures.
    """
    owners = identities[pictures]
    order = np.argsort(owners, kind="stable")
    people, starts = np.unique(owners[order], return_index=True)
    albums = np.split(pictures[order], starts[1:])
    if len(people) < 2 or len(people) == len(pictures):
        raise DataError(
            "verification needs two people or more, and one of them with two photographs or more, "
            f"but got {len(people)} people with {len(pictures)} photographs; add photographs"
        )
    return albums


def _positives(album: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) pairs of one person's pictures."""
    # Pairs are numbered row by row, (0 1) (0 2) .. (1 2) .., so that ten thousand photographs of
    # one person need no list of their fifty million pairs.
    row_ends = np.cumsum(np.arange(len(album) - 1, 0, -1))
    count = len(album) * (len(album) - 1) // 2
    numbers = np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)
    first = np.searchsorted(row_ends, numbers, side="right")
    second = len(album) - (row_ends[first] - numbers)
    return np.stack([album[first], album[second]], axis=1)


def _negatives(albums: list[np.ndarray], wanted: int, rng: np.random.Generator) -> np.ndarray:
    """(wanted, 2) distinct pairs of two people's pictures, or all there are."""
    pictures = np.concatenate(albums)
    sizes = np.array([len(album) for album in albums])
    possible = (len(pictures) ** 2 - int((sizes**2).sum())) // 2
    if possible <= 4 * wanted:
        return _negatives_of_all(sizes, pictures, wanted, rng)
    starts = np.cumsum(sizes) - sizes
    chosen = np.empty((0, 2), dtype=np.int64)
    while len(chosen) < wanted:
        people = rng.integers(len(albums), size=(2 * (wanted - len(chosen)) + 16, 2))
        people = people[people[:, 0] != people[:, 1]]
        drawn = pictures[starts[people] + rng.integers(sizes[people])]
        drawn.sort(axis=1)
        together = np.concatenate([chosen, drawn])
        _, first = np.unique(together, axis=0, return_index=True)
        chosen = together[np.sort(first)]  # in the order in which they were drawn
    return chosen[:wanted]


def _negatives_of_all(
    sizes: np.ndarray, pictures: np.ndarray, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """The same draw where rejecting repeated pairs could take for ever: list all, then draw.

    Drawing without replacement by exponential keys gives each sequence of pairs the chance that
    drawing and rejecting repeats gives it (Efraimidis and Spirakis 2006).
    """
    owners = np.repeat(np.arange(len(sizes)), sizes)
    first, second = np.triu_indices(len(pictures), k=1)
    differ = owners[first] != owners[second]
    first, second = first[differ], second[differ]
    keys = rng.exponential(size=len(first)) * sizes[owners[first]] * sizes[owners[second]]
    chosen = np.argsort(keys, kind="stable")[:wanted]
    pairs = np.stack([pictures[first[chosen]], pictures[second[chosen]]], axis=1)
    pairs.sort(axis=1)
    return pairs
