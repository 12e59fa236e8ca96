"""The check: planted duplicates are found, and told as leaks exactly when a split parts them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtune.data.check import check, duplicates_of, near_duplicates, perceptual_hashes
from siamtune.data.decode import decode
from siamtune.data.sources import open_source
from siamtune.data.split import Split, split_identities
from siamtune.errors import DataError

PEOPLE = 8


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (60, 60), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight people with two pictures each; one of `p0` lies with `p7` as well, smaller, brighter,
    and compressed anew."""
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    for person in range(PEOPLE):
        folder = tmp_path / "album" / f"p{person}"
        folder.mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / f"{number}.png"), picture(10 * person + number))
    copy = cv2.convertScaleAbs(cv2.resize(picture(1), (45, 45)), alpha=0.8, beta=30)
    cv2.imwrite(str(tmp_path / "album" / "p7" / "copy.jpg"), copy, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return tmp_path / "album"


def split_of(train: list[int], validation: list[int], test: list[int]) -> Split:
    names = tuple(f"p{i}" for i in range(PEOPLE))
    return Split(np.array(train), np.array(validation), np.array(test), names, 0)


TOGETHER = split_of([0, 1, 2, 7], [3, 4], [5, 6])
APART = split_of([0, 1, 2, 3], [4, 5], [6, 7])


@pytest.mark.parametrize(
    ("splits", "leaks"), [([TOGETHER], False), ([APART], True), ([TOGETHER, APART], True)]
)
def test_a_picture_under_two_names_leaks_where_a_split_parts_them(
    album: Path, tmp_path: Path, splits: list[Split], leaks: bool
) -> None:
    source = open_source(str(album))
    findings = check(source, decode(source, tmp_path / "cache"), splits)
    (pair,) = findings.duplicates
    assert (pair.first, pair.second) == ("p0/1.png", "p7/copy.jpg")
    assert pair.likeness > 0.97
    assert not pair.one_person
    assert pair.leak == leaks
    assert bool(findings.leaks) == leaks


def test_one_picture_twice_of_one_person_is_no_leak(album: Path, tmp_path: Path) -> None:
    (album / "p7" / "copy.jpg").rename(album / "p0" / "copy.jpg")
    source = open_source(str(album))
    (pair,) = check(source, decode(source, tmp_path / "cache"), [APART]).duplicates
    assert pair.one_person
    assert not pair.leak


def test_damaged_files_and_people_with_one_picture_are_told(album: Path, tmp_path: Path) -> None:
    (album / "p7" / "copy.jpg").write_bytes(b"")
    (album / "p3" / "1.png").write_bytes(b"no picture")
    (album / "notes.txt").touch()
    source = open_source(str(album))
    findings = check(source, decode(source, tmp_path / "cache"), [TOGETHER])
    assert findings.unreadable == ("p3/1.png", "p7/copy.jpg")
    assert (findings.people, findings.pictures) == (PEOPLE, 2 * PEOPLE + 1)
    assert (findings.single, findings.ignored) == (1, 1)
    assert findings.duplicates == ()


def test_duplicates_are_looked_for_once_a_data_set(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(album))
    pictures = decode(source, tmp_path / "cache")
    before = duplicates_of(source, pictures, [APART])
    monkeypatch.setattr("siamtune.data.check.near_duplicates", lambda small: [])
    assert duplicates_of(source, pictures, [APART]) == before
    assert not duplicates_of(source, pictures, [TOGETHER])[0].leak  # the split is another question
    (album / "p7" / "more.png").write_bytes((album / "p1" / "0.png").read_bytes())
    source = open_source(str(album))
    assert duplicates_of(source, decode(source, tmp_path / "cache"), [APART]) == ()


def test_somebody_in_two_parts_is_refused_by_name(album: Path, tmp_path: Path) -> None:
    source = open_source(str(album))
    both = split_of([0, 1, 2], [2, 3], [3, 4, 5])
    with pytest.raises(DataError, match=r"in two of train, validation, test, but p2, p3 are"):
        check(source, decode(source, tmp_path / "cache"), [both])


def test_hashes_leave_out_brightness_and_contrast() -> None:
    small = np.random.default_rng(0).normal(100, 20, (5, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(perceptual_hashes(small), perceptual_hashes(0.5 * small + 40))
    assert len(np.unique(perceptual_hashes(small))) == 5


def test_pictures_of_one_shade_are_no_duplicates() -> None:
    assert near_duplicates(np.full((3, 32, 32), 7, np.float32)) == []


def test_pairs_far_apart_in_a_long_list_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.random.default_rng(0).normal(100, 20, (40, 32, 32)).astype(np.float32)
    small[37] = small[2]
    small[21] = small[20]
    monkeypatch.setattr("siamtune.data.check.TILE", 7)
    found = [(first, second) for first, second, _ in near_duplicates(small)]
    assert found == [(2, 37), (20, 21)]


def test_different_people_of_olivetti_are_no_duplicates(
    data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path))
    source = open_source("olivetti", data_home)
    split = split_identities(source.identities, source.names, seed=0)
    findings = check(source, decode(source, tmp_path), [split])
    assert findings.duplicates
    assert all(pair.one_person for pair in findings.duplicates)
