"""Sources: who is in which picture, found by layouts that people really have."""

import os
import sys
import time
from pathlib import Path
from urllib.error import URLError

import joblib
import numpy as np
import pytest
import sklearn.datasets

from siamtune.data.sources import LFW_FOLDERS, SOURCES, fetch, find_lfw, open_source
from siamtune.errors import DataError


def write(root: Path, *pictures: str) -> Path:
    """Listing reads no pixel: any bytes will do."""
    for picture in pictures:
        path = root / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return root


def write_lfw(root: Path) -> Path:
    people = ("Ann_Lee", "Bo_Diaz")
    return write(root, *(f"{who}/{who}_{i:04d}.jpg" for who in people for i in (1, 2)))


def test_a_folder_is_listed_by_person_and_by_picture(tmp_path: Path) -> None:
    write(tmp_path, "Zoë/1.PNG", "Bo/b.jpeg", "Bo/a.JPG", "Bo/notes.txt", "Ана/x.webp")
    source = open_source(str(tmp_path))
    assert source.name == tmp_path.name
    assert source.names == ("Bo", "Zoë", "Ана")
    assert [path.name for path in source.pictures] == ["a.JPG", "b.jpeg", "1.PNG", "x.webp"]
    assert source.identities.tolist() == [0, 0, 1, 2]
    assert source.identities.dtype == np.int64
    assert source.picture_name(1) == "Bo/b.jpeg"
    assert source.face_box == 1.0


def test_what_is_no_picture_of_a_person_is_ignored_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "a/._1.jpg", "a/deeper/3.jpg")
    write(tmp_path, "stray.jpg", "README", ".hidden/1.jpg", "empty/notes.txt")
    source = open_source(str(tmp_path))
    assert source.names == ("a", "b")
    assert len(source.pictures) == 3
    # Two files, a hidden folder, a folder without pictures, a folder beside pictures.
    assert source.ignored == 5


def test_links_neither_hang_nor_show_one_picture_as_two_people(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "people", tmp_path / "elsewhere"
    write(root, "a/1.jpg", "a/2.jpg", "b/1.jpg", "stray.jpg")
    write(elsewhere, "1.jpg")
    (root / "alias of a").symlink_to(root / "a", target_is_directory=True)
    (root / "self").symlink_to(root, target_is_directory=True)
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / "loop").symlink_to(root / "loop")
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    (root / "c").symlink_to(elsewhere, target_is_directory=True)
    source = open_source(str(root))
    assert source.names == ("a", "b", "c")
    assert len(source.pictures) == 4


def test_a_dangling_link_is_left_for_decoding_to_tell(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    (tmp_path / "b" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert len(open_source(str(tmp_path)).pictures) == 4


@pytest.mark.parametrize(
    ("pictures", "fault"),
    [
        ((), "no pictures"),
        (("1.jpg", "2.jpg"), "no pictures"),
        (("a/1.txt", "b/1.gif"), "no pictures"),
        (("a/1.jpg", "a/2.jpg"), "one person only \\(a\\)"),
        (("a/1.jpg", "b/1.jpg", "c/1.jpg"), "nobody with two pictures"),
    ],
)
def test_a_folder_that_can_hold_no_pairs_is_refused(
    tmp_path: Path, pictures: tuple[str, ...], fault: str
) -> None:
    write(tmp_path, *pictures)
    with pytest.raises(DataError, match=f"{fault}; it must hold one folder a person"):
        open_source(str(tmp_path))


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").touch()
    with pytest.raises(DataError, match="is a file"):
        open_source(str(tmp_path / "faces.zip"))
    with pytest.raises(DataError, match=r"demo, lfw, olivetti or a folder.*does not exist"):
        open_source(str(tmp_path / "gone"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg")
    write(tmp_path, os.fsdecode(b"J\xf6rg") + "/1.jpg")
    with pytest.raises(DataError, match=r"names of people must be UTF-8.*J.rg"):
        open_source(str(tmp_path))


def test_the_fingerprint_follows_names_sizes_times_and_permissions(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    seen = [open_source(str(tmp_path)).fingerprint]
    assert open_source(str(tmp_path)).fingerprint == seen[0]
    (tmp_path / "unrelated.txt").touch()
    assert open_source(str(tmp_path)).fingerprint == seen[0]

    (tmp_path / "a" / "1.jpg").write_bytes(b"another picture")
    seen.append(open_source(str(tmp_path)).fingerprint)
    os.utime(tmp_path / "a" / "1.jpg", (time.time() - 60, time.time() - 60))
    seen.append(open_source(str(tmp_path)).fingerprint)
    (tmp_path / "a" / "2.jpg").chmod(0o400)
    seen.append(open_source(str(tmp_path)).fingerprint)
    (tmp_path / "a" / "2.jpg").rename(tmp_path / "a" / "3.jpg")
    seen.append(open_source(str(tmp_path)).fingerprint)
    (tmp_path / "b").rename(tmp_path / "c")
    seen.append(open_source(str(tmp_path)).fingerprint)
    assert len(set(seen)) == 6


def test_the_listing_follows_names_alone(tmp_path: Path) -> None:
    write(tmp_path / "here", "a/1.jpg", "a/2.jpg", "b/1.jpg")
    write(tmp_path / "there", "a/1.jpg", "a/2.jpg", "b/1.jpg")
    os.utime(tmp_path / "there" / "a" / "1.jpg", (0, 0))
    here, there = (open_source(str(tmp_path / copy)) for copy in ("here", "there"))
    assert here.listing == there.listing
    assert here.fingerprint != there.fingerprint
    write(tmp_path / "there", "b/2.jpg")
    assert open_source(str(tmp_path / "there")).listing != here.listing


@pytest.mark.parametrize(
    "place",
    [*(f"lfw_home/{folder}" for folder in LFW_FOLDERS), *LFW_FOLDERS, "."],
)
def test_lfw_is_found_in_every_layout(tmp_path: Path, place: str) -> None:
    write_lfw(tmp_path / place)
    source = open_source("lfw", tmp_path)
    assert source.name == "lfw"
    assert source.folder == tmp_path / place
    assert source.names == ("Ann_Lee", "Bo_Diaz")
    assert source.face_box == pytest.approx(1 / 2.2)


def test_the_funneled_lfw_goes_before_the_original(tmp_path: Path) -> None:
    write_lfw(tmp_path / "lfw_home" / "lfw")
    assert find_lfw(tmp_path).name == "lfw"
    (tmp_path / "lfw_home" / "lfw_funneled").mkdir()  # empty: a download that was cut short
    assert find_lfw(tmp_path).name == "lfw"
    write_lfw(tmp_path / "lfw_home" / "lfw_funneled")
    assert find_lfw(tmp_path).name == "lfw_funneled"


def test_other_folders_are_not_taken_for_lfw(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    with pytest.raises(DataError, match=r"lfw_funneled, lfw-deep.*siamtune data fetch lfw"):
        open_source("lfw", tmp_path)


def write_olivetti(home: Path) -> np.ndarray:
    """The file as scikit-learn's fetcher leaves it: pixels column by column."""
    levels = np.random.default_rng(0).integers(0, 256, (400, 64, 64))
    levels[0, 0, :2] = 0, 255
    joblib.dump(levels.transpose(0, 2, 1).reshape(400, 4096) / 255.0, home / "olivetti_py3.pkz")
    return levels


def test_olivetti_is_read_from_the_data_home_without_loss(tmp_path: Path) -> None:
    levels = write_olivetti(tmp_path)
    source = open_source("olivetti", tmp_path)
    np.testing.assert_array_equal(np.stack(list(source.pictures)), levels)
    assert len(source.names) == 40
    assert source.names[:2] == ("person 01", "person 02")
    assert np.bincount(source.identities).tolist() == [10] * 40
    assert source.picture_name(11) == "person 02/#11"


def test_a_missing_or_damaged_olivetti_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="siamtune data fetch olivetti"):
        open_source("olivetti", tmp_path)
    (tmp_path / "olivetti_py3.pkz").write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="cannot be read"):
        open_source("olivetti", tmp_path)


def test_the_demo_needs_nothing(tmp_path: Path) -> None:
    source = open_source("demo", tmp_path)
    assert len(source.names) == len(set(source.names)) == source.identities[-1] + 1 == 160
    assert source.names == tuple(sorted(source.names))
    assert (np.diff(source.identities) >= 0).all()
    assert not list(tmp_path.iterdir())


def test_fetch_downloads_nothing_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise AssertionError("downloads")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", refuse)
    write_lfw(tmp_path / "lfw_home" / "lfw")
    assert fetch("lfw", tmp_path) == tmp_path / "lfw_home" / "lfw"


def test_fetch_says_where_scikit_learn_has_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(*, data_home: Path, **options: object) -> None:
        print("downloading")
        write_lfw(data_home / "lfw_home" / "lfw_funneled")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", download)
    assert fetch("lfw", tmp_path) == tmp_path / "lfw_home" / "lfw_funneled"
    assert capsys.readouterr() == ("", "downloading\n")


@pytest.mark.parametrize(
    ("name", "fetcher"), [("lfw", "fetch_lfw_people"), ("olivetti", "fetch_olivetti_faces")]
)
def test_without_network_fetch_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fetcher: str
) -> None:
    def fail(**options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(sklearn.datasets, fetcher, fail)
    with pytest.raises(DataError, match=r"could not be downloaded.*no network.*--data-home"):
        fetch(name, tmp_path)
    with pytest.raises(DataError, match="knows lfw and olivetti, but got 'demo'"):
        fetch("demo", tmp_path)


def test_a_cache_that_the_fetcher_would_unpickle_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", None)
    (tmp_path / "lfw_home" / "joblib").mkdir(parents=True)
    with pytest.raises(DataError, match="could run code; remove"):
        fetch("lfw", tmp_path)


def test_the_real_data_home_holds_all_of_lfw_and_olivetti(data_home: Path) -> None:
    lfw = open_source("lfw", data_home)
    assert (len(lfw.pictures), len(lfw.names)) == (13_233, 5_749)
    photographs = np.bincount(lfw.identities)
    assert (photographs > 1).sum() == 1_680  # as published
    assert lfw.names[photographs.argmax()] == "George_W_Bush"
    assert photographs.max() == 530
    olivetti = open_source("olivetti", data_home)
    assert (len(olivetti.pictures), len(olivetti.names)) == (400, 40)


def test_every_named_source_is_known() -> None:
    assert SOURCES == ("demo", "lfw", "olivetti")
