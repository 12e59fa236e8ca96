"""Files that are computed once on a machine and then only read.

The name of a file holds a digest of all that its content depends on, so it is either right or not
there. A file appears whole (written under another name, then renamed), one process writes it while
the others wait, and what was not used for longest goes first when the folder grows too large.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from siamtune.errors import DataError

T = TypeVar("T")

DEFAULT_LIMIT_GB = 20.0
ABANDONED_S = 24 * 3600.0  # an unfinished file this old was left by a process that died


def digest(*facts: Any) -> str:
    """Sixteen hexadecimal digits over facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cached_array(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[NDArray[Any]], None]
) -> NDArray[Any]:
    """Map the array in `path` into memory, read only; `fill` writes all of it if it is not there.

    Raises:
        DataError: the folder cannot be written or is full.
    """

    def read(path: Path) -> NDArray[Any]:
        array = np.lib.format.open_memmap(path, mode="r")  # a cut file is a ValueError
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{array.dtype}{array.shape} instead of {np.dtype(dtype)}{shape}")
        return array

    def write(path: Path) -> None:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        _reserve(path)
        fill(array)
        array.flush()

    return cached_file(path, read, write)


def cached_file(path: Path, read: Callable[[Path], T], write: Callable[[Path], None]) -> T:
    """Read `path`; if it is not there or `read` refuses it with a ValueError, write it first.

    Raises:
        DataError: the folder cannot be written or is full.
    """
    with suppress(OSError, ValueError):
        return _read(path, read)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            # Another process may have written it while this one waited.
            with suppress(OSError, ValueError):
                return _read(path, read)
            try:
                write(unfinished)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
            return _read(path, read)
    except OSError as error:
        raise DataError(
            f"the cache folder must be writable and have room, but {path} could not be written "
            f"({error}); set SIAMTUNE_CACHE to another folder"
        ) from error


def _read(path: Path, read: Callable[[Path], T]) -> T:
    content = read(path)
    with suppress(OSError):  # a cache that others filled may be read only
        os.utime(path)
    return content


def _reserve(path: Path) -> None:
    """Claim the disk space now: a write to a mapped page without room kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def cache_limit_bytes() -> float:
    """`$SIAMTUNE_CACHE_LIMIT_GB`, 20 by default.

    Raises:
        DataError: it is not a positive number.
    """
    given = os.environ.get("SIAMTUNE_CACHE_LIMIT_GB", "")
    try:
        limit_gb = float(given) if given else DEFAULT_LIMIT_GB
    except ValueError:
        limit_gb = 0.0
    if not limit_gb > 0:
        raise DataError(f"SIAMTUNE_CACHE_LIMIT_GB must be a number above 0, but got {given!r}")
    return limit_gb * 1e9


def prune(folders: Sequence[Path], limit_bytes: float, *, in_use: Collection[Path]) -> None:
    """Remove what was not used for longest until the entries of `folders` take `limit_bytes`.

    An entry is a file or a folder. Those of the first folder go before those of the next. What
    another process has mapped stays readable for it.
    """
    entries = []
    for rank, folder in enumerate(folders):
        for path in folder.glob("*"):
            with suppress(FileNotFoundError):  # another process prunes as well
                last_used = path.stat().st_mtime
                unfinished = path.name.startswith(".") and time.time() - last_used < ABANDONED_S
                if path.suffix != ".lock" and not unfinished:
                    entries.append((rank, last_used, path, _size_bytes(path)))
    excess = sum(size for *_, size in entries) - limit_bytes
    for _, _, path, size in sorted(entries):
        if excess <= 0:
            return
        if path not in in_use:
            with suppress(OSError):
                _remove(path)
                excess -= size


def _size_bytes(path: Path) -> int:
    inside = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    # Out of sight at once: nobody may find half of a folder.
    path = path.rename(path.with_name(f".{path.name}.removed"))
    shutil.rmtree(path)
