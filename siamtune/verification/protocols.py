"""Named protocols: who trains, who is asked about. No number is worth much without its protocol.

identity-holdout   a share of the people is kept for the end; capped pairs, one half positive
all-pairs          the same people, and every pair of their pictures
lfw-view1          LFW's development view: peopleDevTrain.txt trains, pairsDevTest.txt is asked
lfw-view2          LFW's ten folds: the people of nine train, the 600 pairs of the tenth are asked
olivetti-8fold     35 people train, 5 are asked about, all their pairs (the sizes of Chopra 2005)

Where a protocol names only those who train, some of them validate instead: they decide which epoch
is kept, and never meet the people who are asked about.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtune.data.decode import Pictures, listing
from siamtune.data.lfw import NamedPair, find_lists, read_pairs, read_people
from siamtune.data.sources import Source
from siamtune.data.split import Split, hold_out, split_identities
from siamtune.errors import DataError
from siamtune.verification.pairs import VerificationPairs, all_pairs, verification_pairs

# They only choose an epoch: a few serve, and the others are better used in training.
VALIDATION_SHARE = 0.05
OLIVETTI_FOLDS = 8
# Of 35 people a twentieth is two, whose pairs of strangers are all of one pair of people: the epoch
# that they chose had an equal error rate of 0.139 where that of five people has 0.106.
OWN_SHARES = {"olivetti-8fold": 1 / 7}
MOST_PAIRS = 20_000_000  # all pairs of 6,300 pictures; scores alone would take 160 MB
NAMES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Collection:
    """Readable pictures of people, by their names.

    Attributes:
        source: "demo", "lfw", "olivetti" or a folder's name.
        identities: (N,) index into `names`.
        files: (N,) `person/file` of each picture.
        listing: digest of which pictures these are.
    """

    source: str
    identities: np.ndarray
    names: tuple[str, ...]
    files: tuple[str, ...]
    listing: str = ""


@dataclass(frozen=True, eq=False)
class Fold:
    """One training and the questions that follow it."""

    number: int  # from 1
    split: Split
    pairs: VerificationPairs  # indices of pictures of test people


def collection(source: Source, pictures: Pictures) -> Collection:
    """The pictures of a source that could be decoded."""
    return Collection(
        source.name,
        source.identities[pictures.positions],
        source.names,
        tuple(source.picture_name(int(position)) for position in pictures.positions),
        listing(source, pictures),
    )


def protocol_folds(
    protocol: str,
    people: Collection,
    *,
    seed: int,
    data_home: Path | None = None,
    validation_share: float | None = None,
) -> tuple[Fold, ...]:
    """The folds of a protocol of `PROTOCOLS`; `seed` decides what the protocol leaves open.

    Args:
        data_home: where LFW lies with its lists; default scikit-learn's data home.
        validation_share: of those whom the protocol only names for training, who validate; default
            `VALIDATION_SHARE` or the protocol's own.

    Raises:
        DataError: no such protocol, other people than it is made for, a missing picture or list.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol must be one of {', '.join(PROTOCOLS)}, but got {protocol!r}")
    share = validation_share
    if share is None:
        share = OWN_SHARES.get(protocol, VALIDATION_SHARE)
    folds = PROTOCOLS[protocol](people, seed, data_home, share)
    for fold in folds:
        taught = np.concatenate([fold.split.train, fold.split.validation])
        asked = np.unique(people.identities[np.concatenate([fold.pairs.left, fold.pairs.right])])
        refuse_seen_people(
            (people.names[identity] for identity in taught),
            (people.names[identity] for identity in asked),
        )
    return folds


def refuse_seen_people(training_names: Iterable[str], test_names: Iterable[str]) -> None:
    """Refuse to ask a model about people it was trained on.

    Raises:
        DataError: there are such people; the message names some.
    """
    seen = sorted(set(training_names) & set(test_names))
    if seen:
        more = f" and {len(seen) - NAMES_SHOWN} more" if len(seen) > NAMES_SHOWN else ""
        raise DataError(
            "a model must not be tested on people that it was trained on, but it has seen "
            f"{len(seen)} of the test people: {', '.join(seen[:NAMES_SHOWN])}{more}; train it "
            "anew without them"
        )


def _identity_holdout(
    people: Collection, seed: int, data_home: Path | None, share: float
) -> tuple[Fold, ...]:
    split = split_identities(people.identities, people.names, seed=seed, pictures=people.listing)
    pairs = verification_pairs(_pictures(people, split.test), people.identities, seed=seed)
    return (Fold(1, split, pairs),)


def _all_pairs(
    people: Collection, seed: int, data_home: Path | None, share: float
) -> tuple[Fold, ...]:
    split = split_identities(people.identities, people.names, seed=seed)
    pictures = _pictures(people, split.test)
    number = len(pictures) * (len(pictures) - 1) // 2
    if number > MOST_PAIRS:
        raise DataError(
            f"all-pairs asks at most {MOST_PAIRS:,} pairs, but {len(pictures):,} pictures of test "
            f"people have {number:,}; choose identity-holdout"
        )
    # The pairs are others than those of identity-holdout: so is the protocol in the digest.
    split = _split("all-pairs", people, seed, split.train, split.validation, split.test)
    return (Fold(1, split, all_pairs(pictures, people.identities)),)


def _lfw_view1(
    people: Collection, seed: int, data_home: Path | None, share: float
) -> tuple[Fold, ...]:
    _require(people, "lfw", "lfw-view1")
    lists = find_lists(data_home)
    (training,) = read_people(lists / "peopleDevTrain.txt")
    (tested,) = read_people(lists / "peopleDevTest.txt")
    (pairs,) = read_pairs(lists / "pairsDevTest.txt")
    return (_lfw_fold("lfw-view1", 1, people, seed, share, training, tested, pairs),)


def _lfw_view2(
    people: Collection, seed: int, data_home: Path | None, share: float
) -> tuple[Fold, ...]:
    _require(people, "lfw", "lfw-view2")
    lists = find_lists(data_home)
    groups = read_people(lists / "people.txt")
    pairs = read_pairs(lists / "pairs.txt")
    if len(groups) != len(pairs):
        raise DataError(
            f"people.txt and pairs.txt in {lists} must have equally many folds, but have "
            f"{len(groups)} and {len(pairs)}"
        )
    folds = []
    for number, (tested, asked) in enumerate(zip(groups, pairs, strict=True), start=1):
        training = [name for group in groups if group is not tested for name in group]
        folds.append(_lfw_fold("lfw-view2", number, people, seed, share, training, tested, asked))
    return tuple(folds)


def _olivetti(
    people: Collection, seed: int, data_home: Path | None, share: float
) -> tuple[Fold, ...]:
    _require(people, "olivetti", "olivetti-8fold")
    groups = np.array_split(np.arange(len(people.names)), OLIVETTI_FOLDS)
    folds = []
    for number, tested in enumerate(groups, start=1):
        others = np.setdiff1d(np.arange(len(people.names)), tested)
        # With one seed the same few people would choose the epoch in nearly every fold.
        train, validation = hold_out(
            others, people.identities, people.names, seed=seed + number, share=share
        )
        split = _split("olivetti-8fold", people, seed, train, validation, tested)
        folds.append(Fold(number, split, all_pairs(_pictures(people, tested), people.identities)))
    return tuple(folds)


def _lfw_fold(
    protocol: str,
    number: int,
    people: Collection,
    seed: int,
    share: float,
    training: Sequence[str],
    tested: Sequence[str],
    pairs: Sequence[NamedPair],
) -> Fold:
    """One fold of LFW's lists; `training` people are shared out to training and validation."""
    numbers = {name: identity for identity, name in enumerate(people.names)}
    places = {file: picture for picture, file in enumerate(people.files)}
    _refuse_missing("people", [name for name in [*training, *tested] if name not in numbers])
    files = [file for pair in pairs for file in (pair.left, pair.right)]
    _refuse_missing("pictures", [file for file in files if file not in places])
    train, validation = hold_out(
        np.array([numbers[name] for name in training], np.int64),
        people.identities,
        people.names,
        seed=seed,
        share=share,
    )
    test = np.array([numbers[name] for name in tested], np.int64)
    asked = np.array([places[file] for file in files], np.int64).reshape(-1, 2)
    asked.sort(axis=1)
    return Fold(
        number,
        _split(protocol, people, seed, train, validation, test),
        VerificationPairs(asked[:, 0], asked[:, 1], np.array([pair.same for pair in pairs])),
    )


def _refuse_missing(what: str, missing: list[str]) -> None:
    if missing:
        shown = ", ".join(dict.fromkeys(missing[:NAMES_SHOWN]))
        raise DataError(
            f"lfw's lists name {what} that are not there or cannot be read: {shown}"
            + (f" and {len(missing) - NAMES_SHOWN} more" if len(missing) > NAMES_SHOWN else "")
            + "; complete it with `siamtune data fetch lfw`"
        )


def _require(people: Collection, source: str, protocol: str) -> None:
    if people.source != source:
        raise DataError(
            f"{protocol} is a protocol of {source}, but the data are {people.source}; give "
            f"--data {source} or another --protocol"
        )


def _pictures(people: Collection, identities: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(people.identities, identities))


def _split(
    protocol: str,
    people: Collection,
    seed: int,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
) -> Split:
    return Split(
        train, validation, np.sort(test), people.names, seed, protocol, pictures=people.listing
    )


PROTOCOLS: dict[str, Callable[[Collection, int, Path | None, float], tuple[Fold, ...]]] = {
    "identity-holdout": _identity_holdout,
    "all-pairs": _all_pairs,
    "lfw-view1": _lfw_view1,
    "lfw-view2": _lfw_view2,
    "olivetti-8fold": _olivetti,
}
