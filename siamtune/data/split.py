"""Who is trained on, who decides, who is kept for the end: parts that share no person."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from siamtune.errors import DataError

PARTS = ("train", "validation", "test")
# One person alone gives no negative pair.
MINIMUM_PEOPLE = 2


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted identity indices of each part; `digest` stands beside every number they lead to.

    `pictures` tells which there are (`data.decode.listing`): one more makes other pairs.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    names: tuple[str, ...]
    seed: int
    protocol: str = "identity-holdout"
    pictures: str = ""

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over the protocol, the seed, the pictures and who is where."""
        content = hashlib.sha256(f"{self.protocol}\0{self.seed}\0{self.pictures}".encode())
        for part in PARTS:
            content.update(f"\0\0{part}".encode())
            for name in sorted(self.names[identity] for identity in getattr(self, part)):
                content.update(b"\0" + name.encode())
        return content.hexdigest()[:12]


def split_identities(
    identities: NDArray[np.int64],
    names: Sequence[str],
    *,
    seed: int,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    pictures: str = "",
) -> Split:
    """Share people out to training, validation and test so that nobody is in two parts.

    People stand in a queue by the hash of seed and name: the front is tested, then come those who
    validate, the rest trains. So neither the order of the names nor a new person moves the others
    by more than the place at which the queue is cut. People with one photograph and with several
    queue apart, because only the latter make positive pairs.

    Args:
        identities: `(N,)`, index into `names` of each picture.
        names: one name a person, all different.
        shares: of the people, for training, validation and test; they add up to 1.
        pictures: what the split's digest says of them.

    Raises:
        DataError: fewer than two people with several photographs would be in a part.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares must be positive and add up to 1, but got {shares}")
    owned = np.bincount(identities, minlength=len(names))
    several = int((owned > 1).sum())
    if several < MINIMUM_PEOPLE * len(PARTS):
        raise DataError(
            f"a split needs {MINIMUM_PEOPLE * len(PARTS)} people or more with two or more "
            f"photographs, {MINIMUM_PEOPLE} for each of {', '.join(PARTS)}, but got {several} "
            f"among {len(names)} people; add people or photographs"
        )

    queue = np.array(sorted(range(len(names)), key=lambda i: _place(seed, names[i])), np.int64)
    parts: dict[str, list[NDArray[np.int64]]] = {part: [] for part in PARTS}
    for group, minimum in (
        (queue[owned[queue] > 1], MINIMUM_PEOPLE),
        (queue[owned[queue] == 1], 0),
    ):
        validating = max(minimum, round(shares[1] * len(group)))
        tested = max(minimum, round(shares[2] * len(group)))
        # Large shares of few people: training keeps its minimum.
        excess = max(0, validating + tested + minimum - len(group))
        tested -= min(excess, tested - minimum)
        validating = min(validating, len(group) - tested - minimum)
        parts["test"].append(group[:tested])
        parts["validation"].append(group[tested : tested + validating])
        parts["train"].append(group[tested + validating :])
    train, validation, test = (np.sort(np.concatenate(parts[part])) for part in PARTS)
    return Split(train, validation, test, tuple(names), seed, pictures=pictures)


def hold_out(
    people: NDArray[np.int64],
    identities: NDArray[np.int64],
    names: Sequence[str],
    *,
    seed: int,
    share: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of `people` who train and those who validate, for splits whose test people are given.

    The same queues as in `split_identities`: `share` of the people with one photograph and of
    those with several validate, two of the latter at least.

    Raises:
        DataError: not four people with several photographs.
    """
    pictures = np.bincount(identities, minlength=len(names))
    queue = np.array(sorted(people, key=lambda person: _place(seed, names[person])), np.int64)
    several, single = queue[pictures[queue] > 1], queue[pictures[queue] <= 1]
    if len(several) < 2 * MINIMUM_PEOPLE:
        raise DataError(
            f"training and validation need {2 * MINIMUM_PEOPLE} people or more with two or more "
            f"photographs, but got {len(several)}; add people or photographs"
        )
    validating = min(
        max(MINIMUM_PEOPLE, round(share * len(several))), len(several) - MINIMUM_PEOPLE
    )
    others = round(share * len(single))
    train = np.concatenate([several[validating:], single[others:]])
    validation = np.concatenate([several[:validating], single[:others]])
    return np.sort(train), np.sort(validation)


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
