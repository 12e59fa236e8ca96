"""Protocols: nobody on both sides, the questions that the lists ask, and clear refusals."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from siamtune.data.lfw import find_lists, read_pairs
from siamtune.data.sources import open_source
from siamtune.errors import DataError
from siamtune.verification import protocols as module
from siamtune.verification.pairs import verification_pairs
from siamtune.verification.protocols import (
    Collection,
    Fold,
    protocol_folds,
    refuse_seen_people,
)


def of(source: str, people: list[str], pictures: int) -> Collection:
    return Collection(
        source,
        np.repeat(np.arange(len(people)), pictures),
        tuple(people),
        tuple(f"{name}/{name}_{i:04d}.jpg" for name in people for i in range(1, pictures + 1)),
    )


def everything(source: str, data_home: Path) -> Collection:
    """A real source without the work of decoding it."""
    opened = open_source(source, data_home)
    files = tuple(opened.picture_name(i) for i in range(len(opened.pictures)))
    return Collection(source, opened.identities, opened.names, files)


def people_in(fold: Fold, part: str) -> set[str]:
    return {fold.split.names[i] for i in getattr(fold.split, part)}


def asked(fold: Fold, people: Collection) -> list[tuple[str, str, bool]]:
    pairs = fold.pairs
    return [
        (people.files[left], people.files[right], bool(same))
        for left, right, same in zip(pairs.left, pairs.right, pairs.same, strict=True)
    ]


NAMES = [f"P{i}" for i in range(12)]


@pytest.fixture
def lfw_like(tmp_path: Path) -> Path:
    """Lists of two folds (P0 to P5, P6 to P11), in a data home without a picture."""
    home = tmp_path / "lfw_home"
    (home / "lfw" / "P0").mkdir(parents=True)
    (home / "lfw" / "P0" / "P0_0001.jpg").touch()
    folds = NAMES[:6], NAMES[6:]
    rows = ["\n".join(f"{name}\t3" for name in fold) for fold in folds]
    (home / "people.txt").write_text(f"2\n6\n{rows[0]}\n6\n{rows[1]}\n")
    (home / "peopleDevTrain.txt").write_text(f"6\n{rows[0]}\n")
    (home / "peopleDevTest.txt").write_text(f"6\n{rows[1]}\n")
    pairs = "P0\t1\t3\nP4\t2\tP5\t1\n", "P6\t1\t2\nP7\t2\tP6\t1\n"
    (home / "pairs.txt").write_text("2\t1\n" + "".join(pairs))
    (home / "pairsDevTest.txt").write_text("1\n" + pairs[1])
    return tmp_path


def test_view_1_asks_the_pairs_of_its_list(lfw_like: Path) -> None:
    people = of("lfw", NAMES, 3)
    (fold,) = protocol_folds("lfw-view1", people, seed=0, data_home=lfw_like)
    assert people_in(fold, "train") | people_in(fold, "validation") == set(NAMES[:6])
    assert people_in(fold, "test") == set(NAMES[6:])
    assert asked(fold, people) == [
        ("P6/P6_0001.jpg", "P6/P6_0002.jpg", True),
        ("P6/P6_0001.jpg", "P7/P7_0002.jpg", False),
    ]


def test_each_fold_of_view_2_trains_on_the_people_of_the_others(lfw_like: Path) -> None:
    people = of("lfw", NAMES, 3)
    first, second = protocol_folds("lfw-view2", people, seed=0, data_home=lfw_like)
    assert people_in(first, "test") == set(NAMES[:6])
    assert people_in(first, "train") | people_in(first, "validation") == set(NAMES[6:])
    assert people_in(second, "test") == set(NAMES[6:])
    assert first.split.digest != second.split.digest
    assert first.split.protocol == "lfw-view2"


def test_a_picture_that_cannot_be_read_is_named(lfw_like: Path) -> None:
    people = of("lfw", NAMES, 3)
    kept = [i for i, file in enumerate(people.files) if file != "P6/P6_0002.jpg"]
    fewer = Collection(
        "lfw", people.identities[kept], people.names, tuple(people.files[i] for i in kept)
    )
    with pytest.raises(DataError, match=r"pictures .*: P6/P6_0002\.jpg;"):
        protocol_folds("lfw-view1", fewer, seed=0, data_home=lfw_like)


def test_a_person_that_is_not_there_is_named(lfw_like: Path) -> None:
    with pytest.raises(DataError, match="people that are not there or cannot be read: P11"):
        protocol_folds("lfw-view1", of("lfw", NAMES[:-1], 3), seed=0, data_home=lfw_like)


def test_lists_that_ask_about_people_who_train_are_refused(lfw_like: Path) -> None:
    (lfw_like / "lfw_home" / "pairsDevTest.txt").write_text("1\nP6\t1\t2\nP7\t2\tP1\t1\n")
    with pytest.raises(DataError, match="it has seen 1 of the test people: P1;"):
        protocol_folds("lfw-view1", of("lfw", NAMES, 3), seed=0, data_home=lfw_like)


def test_a_model_of_view_1_is_refused_in_view_2_by_name(data_home: Path) -> None:
    people = everything("lfw", data_home)
    (development,) = protocol_folds("lfw-view1", people, seed=0, data_home=data_home)
    first = protocol_folds("lfw-view2", people, seed=0, data_home=data_home)[0]
    with pytest.raises(DataError, match=r"seen \d+ of the test people: [A-Z]"):
        refuse_seen_people(people_in(development, "train"), people_in(first, "test"))


def test_nobody_seen_is_no_fault() -> None:
    refuse_seen_people(["Ann", "Bob"], ["Eve"])


@pytest.mark.parametrize(
    ("protocol", "source", "folds"),
    [("lfw-view1", "lfw", 1), ("lfw-view2", "lfw", 10), ("olivetti-8fold", "olivetti", 8)],
)
def test_on_real_faces_parts_share_nobody_and_leave_nobody_out(
    data_home: Path, protocol: str, source: str, folds: int
) -> None:
    people = everything(source, data_home)
    made = protocol_folds(protocol, people, seed=0, data_home=data_home)
    assert [fold.number for fold in made] == list(range(1, folds + 1))
    for fold in made:
        parts = [people_in(fold, part) for part in ("train", "validation", "test")]
        assert all(not a & b for a, b in combinations(parts, 2))
        assert set().union(*parts) == set(people.names)
        pictures = np.concatenate([fold.pairs.left, fold.pairs.right])
        assert set(people.identities[pictures]) <= set(fold.split.test)
        same = people.identities[fold.pairs.left] == people.identities[fold.pairs.right]
        assert np.array_equal(same, fold.pairs.same)
    # A seed moves those who validate, never those who are asked.
    again = protocol_folds(protocol, people, seed=1, data_home=data_home)[0]
    assert people_in(again, "test") == people_in(made[0], "test")
    assert people_in(again, "validation") != people_in(made[0], "validation")


def test_view_2_asks_the_published_pairs(data_home: Path) -> None:
    people = everything("lfw", data_home)
    third = protocol_folds("lfw-view2", people, seed=0, data_home=data_home)[2]
    listed = read_pairs(find_lists(data_home) / "pairs.txt")[2]
    expected = [(*sorted([pair.left, pair.right]), pair.same) for pair in listed]
    assert asked(third, people) == expected


def test_olivetti_asks_all_pairs_of_five_people(data_home: Path) -> None:
    people = everything("olivetti", data_home)
    folds = protocol_folds("olivetti-8fold", people, seed=0)
    for fold in folds:
        assert len(fold.split.test) == 5
        assert (int(fold.pairs.same.sum()), len(fold.pairs)) == (225, 1225)
    tested = [name for fold in folds for name in people_in(fold, "test")]
    assert sorted(tested) == sorted(people.names)
    # Two people would have one pair of strangers, and with one seed the same in nearly all folds.
    chosen = [frozenset(people_in(fold, "validation")) for fold in folds]
    assert {len(each) for each in chosen} == {5}
    assert len(set(chosen)) == 8
    assert len(frozenset.union(*chosen)) > 15


def test_identity_holdout_is_the_split_of_a_search() -> None:
    from siamtune.data.split import split_identities

    people = of("folder", NAMES, 3)
    (fold,) = protocol_folds("identity-holdout", people, seed=4)
    split = split_identities(people.identities, people.names, seed=4)
    assert fold.split.digest == split.digest
    pictures = np.flatnonzero(np.isin(people.identities, split.test))
    expected = verification_pairs(pictures, people.identities, seed=4)
    assert np.array_equal(fold.pairs.left, expected.left)


def test_all_pairs_asks_every_pair_of_the_test_people(monkeypatch: pytest.MonkeyPatch) -> None:
    people = of("folder", NAMES, 3)
    (fold,) = protocol_folds("all-pairs", people, seed=0)
    pictures = np.flatnonzero(np.isin(people.identities, fold.split.test))
    found = set(zip(fold.pairs.left.tolist(), fold.pairs.right.tolist(), strict=True))
    assert found == set(combinations(pictures.tolist(), 2))
    monkeypatch.setattr(module, "MOST_PAIRS", 10)
    with pytest.raises(DataError, match="at most 10 pairs"):
        protocol_folds("all-pairs", people, seed=0)


@pytest.mark.parametrize("protocol", ["lfw-view1", "lfw-view2", "olivetti-8fold"])
def test_a_protocol_is_refused_for_other_data(protocol: str) -> None:
    with pytest.raises(DataError, match="but the data are demo"):
        protocol_folds(protocol, of("demo", NAMES, 3), seed=0)


def test_an_unknown_protocol_is_refused_with_those_that_are() -> None:
    with pytest.raises(DataError, match="lfw-view1, lfw-view2"):
        protocol_folds("lfw", of("lfw", NAMES, 3), seed=0)


def test_more_people_validate_where_they_choose_more_than_an_epoch(lfw_like: Path) -> None:
    people = of("lfw", NAMES, 3)
    few, many = (
        protocol_folds("lfw-view1", people, seed=0, data_home=lfw_like, validation_share=share)[0]
        for share in (None, 0.5)
    )
    assert (len(few.split.validation), len(many.split.validation)) == (2, 3)
    assert people_in(few, "test") == people_in(many, "test")
    assert few.split.digest != many.split.digest
