"""The cache: right or not there, written by one, and kept small."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siamtune.data import cache
from siamtune.data.cache import cache_limit_bytes, cached_array, prune
from siamtune.errors import DataError

SHAPE = (3, 4)


def count_up(out: NDArray[np.int32]) -> None:
    out[:] = np.arange(12).reshape(SHAPE)


def refuse(out: NDArray[np.int32]) -> None:
    raise AssertionError("must be read, not written")


def test_an_array_is_written_once_and_mapped_read_only(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "a.npy"
    first = cached_array(path, SHAPE, np.int32, count_up)
    again = cached_array(path, SHAPE, np.int32, refuse)
    for array in (first, again):
        assert isinstance(array, np.memmap)
        assert array.tolist() == np.arange(12).reshape(SHAPE).tolist()
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def spoil_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def spoil_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def spoil_by_text(path: Path) -> None:
    path.write_text("PK this is not an array")


def spoil_by_another_shape(path: Path) -> None:
    np.save(path, np.zeros((4, 3), np.int32))


def spoil_by_another_type(path: Path) -> None:
    np.save(path, np.zeros(SHAPE, np.float32))


def spoil_by_objects(path: Path) -> None:
    np.save(path, np.array([{}] * 12).reshape(SHAPE), allow_pickle=True)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_by_cutting,
        spoil_by_emptying,
        spoil_by_text,
        spoil_by_another_shape,
        spoil_by_another_type,
        spoil_by_objects,
    ],
)
def test_a_spoilt_file_is_written_anew(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "a.npy"
    cached_array(path, SHAPE, np.int32, count_up)
    spoil(path)
    assert cached_array(path, SHAPE, np.int32, count_up)[2, 3] == 11


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    def fail(out: NDArray[np.int32]) -> None:
        out[0] = 1
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        cached_array(tmp_path / "a.npy", SHAPE, np.int32, fail)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["a.lock"])
    assert cached_array(tmp_path / "a.npy", SHAPE, np.int32, count_up)[2, 3] == 11


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from siamtune.data.cache import cached_array

folder = Path(sys.argv[1])

def fill(out):
    with (folder / "writers").open("a") as file:
        file.write("x")
    out[:50] = 7
    time.sleep(0.5)
    out[50:] = 7

array = cached_array(folder / "a.npy", (100, 100), np.uint8, fill)
assert (array == 7).all()
"""


def test_of_two_processes_one_writes_and_both_read_the_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "writers").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="set SIAMTUNE_CACHE to another folder"):
        cached_array(tmp_path / "file" / "a.npy", SHAPE, np.int32, count_up)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DataError, match="No space left on device"):
        cached_array(tmp_path / "a.npy", SHAPE, np.int32, refuse)
    assert not list(tmp_path.glob("*a.npy*"))


def files(folder: Path, **last_used_s: float) -> None:
    """Write files of 100 bytes, used so many seconds ago."""
    folder.mkdir(parents=True)
    for name, seconds in last_used_s.items():
        path = folder / f"{name}.npy"
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - seconds,) * 2)


def test_the_least_recently_used_go_first_and_the_used_ones_never(tmp_path: Path) -> None:
    files(tmp_path / "one", old=50, older=90, oldest=100, new=1)
    files(tmp_path / "two", ancient=1000)
    prune([tmp_path / "one", tmp_path / "two"], 300, in_use={tmp_path / "one" / "oldest.npy"})
    left = {path.stem for path in tmp_path.glob("*/*")}
    assert left == {"oldest", "new", "ancient"}


def test_the_second_folder_follows_when_the_first_is_empty(tmp_path: Path) -> None:
    files(tmp_path / "one", a=1)
    for name, seconds in (("x", 20.0), ("y", 10.0)):
        folder = tmp_path / "two" / name
        files(folder, pixels=0)
        os.utime(folder, (time.time() - seconds,) * 2)
    prune([tmp_path / "one", tmp_path / "two"], 100, in_use=set())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")] == ["two/y"]


def test_using_a_file_keeps_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cached_array(tmp_path / f"{name}.npy", SHAPE, np.int32, count_up)
        os.utime(tmp_path / f"{name}.npy", (1, 1))
    cached_array(tmp_path / "a.npy", SHAPE, np.int32, refuse)
    prune([tmp_path], 200, in_use=set())
    assert {path.name for path in tmp_path.glob("*.npy")} == {"a.npy"}


def test_a_file_being_written_is_not_removed_but_an_abandoned_one_is(tmp_path: Path) -> None:
    for name, age_s in ((".fresh.npy.1", 10), (".dead.npy.1", 2 * cache.ABANDONED_S)):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    prune([tmp_path], 10, in_use=set())
    assert [path.name for path in tmp_path.iterdir()] == [".fresh.npy.1"]


def test_an_array_survives_its_removal_while_it_is_mapped(tmp_path: Path) -> None:
    array = cached_array(tmp_path / "a.npy", SHAPE, np.int32, count_up)
    prune([tmp_path], 0, in_use=set())
    assert not (tmp_path / "a.npy").exists()
    assert array[2, 3] == 11


def test_the_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIAMTUNE_CACHE_LIMIT_GB", raising=False)
    assert cache_limit_bytes() == 20e9
    monkeypatch.setenv("SIAMTUNE_CACHE_LIMIT_GB", "0.5")
    assert cache_limit_bytes() == 5e8
    for wrong in ("-1", "0", "much", "nan"):
        monkeypatch.setenv("SIAMTUNE_CACHE_LIMIT_GB", wrong)
        with pytest.raises(DataError, match=f"above 0, but got '{wrong}'"):
            cache_limit_bytes()
