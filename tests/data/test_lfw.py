"""LFW's lists: small ones read by hand, the real ones counted, broken ones told with their line."""

from pathlib import Path

import pytest

from siamtune.data.lfw import NamedPair, find_lists, read_pairs, read_people
from siamtune.errors import DataError


def written(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text)
    return path


def test_a_list_of_one_fold_begins_with_its_length(tmp_path: Path) -> None:
    assert read_people(written(tmp_path, "2\nAnn\t3\nBob\t1\n")) == (("Ann", "Bob"),)


def test_a_list_of_several_folds_begins_with_their_number(tmp_path: Path) -> None:
    path = written(tmp_path, "2\n1\nAnn\t3\n2\nBob\t1\nEve\t2\n")
    assert read_people(path) == (("Ann",), ("Bob", "Eve"))


def test_pairs_name_their_pictures(tmp_path: Path) -> None:
    path = written(tmp_path, "1\nAnn\t1\t12\nAnn\t2\tBob\t1\n")
    assert read_pairs(path) == (
        (
            NamedPair("Ann/Ann_0001.jpg", "Ann/Ann_0012.jpg", True),
            NamedPair("Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg", False),
        ),
    )


def test_pairs_of_several_folds_stay_apart(tmp_path: Path) -> None:
    rows = "Ann\t1\t2\nAnn\t2\tBob\t1\n"
    first, second = read_pairs(written(tmp_path, f"2\t1\n{rows}{rows}"))
    assert first == second
    assert len(first) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1\nAnn\t1\t2\n", "list.txt:3: must go on"),
        ("1\nAnn\t1\t2\nAnn\tBob\n", r"list.txt:3: must be `name 1 4` or"),
        ("1\nAnn\t1\tx\nAnn\t2\tBob\t1\n", "list.txt:2: must be a number, but got 'x'"),
        ("1\nAnn\t1\t2\nAnn\t2\tBob\t1\nAnn 1 3\n", "list.txt:4: must be the end"),
    ],
)
def test_a_broken_list_of_pairs_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ann\t3\n", "list.txt:1: must be a number of folds or of people"),
        ("2\nAnn\t3\n", "list.txt:3: must go on"),
        ("1\nAnn 3 4\n", "list.txt:2: must be a name and a number"),
    ],
)
def test_a_broken_list_of_people_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_people(written(tmp_path, text))


def test_a_missing_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_pairs(tmp_path / "pairs.txt")


def test_a_data_home_without_lists_is_told(tmp_path: Path) -> None:
    (tmp_path / "lfw_home" / "lfw" / "Ann").mkdir(parents=True)
    (tmp_path / "lfw_home" / "lfw" / "Ann" / "Ann_0001.jpg").touch()
    with pytest.raises(DataError, match=r"holds pairs\.txt"):
        find_lists(tmp_path)


def test_the_real_lists_have_the_published_sizes(data_home: Path) -> None:
    lists = find_lists(data_home)
    (train,), (test,) = (read_people(lists / f"peopleDev{part}.txt") for part in ("Train", "Test"))
    assert (len(train), len(test)) == (4038, 1711)
    assert not set(train) & set(test)
    folds = read_people(lists / "people.txt")
    assert [len(fold) for fold in folds] == [601, 555, 552, 560, 567, 527, 597, 601, 580, 609]
    ((development,), view2) = (
        read_pairs(lists / name) for name in ("pairsDevTest.txt", "pairs.txt")
    )
    assert (len(development), sum(pair.same for pair in development)) == (1000, 500)
    assert [(len(fold), sum(pair.same for pair in fold)) for fold in view2] == [(600, 300)] * 10
