"""One process at a time drives a run: it holds the run's lock for as long as it lives.

The operating system frees the lock with its process, `kill -9` included. On a shared folder the
lock reaches other hosts as far as the file system carries `flock` (NFS and Lustre do).
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from siamtune.errors import InvalidInput
from siamtune.search.runs import FETCH_WAIT_S, LOCK, Run, fetch_lock, write_text
from siamtune.search.store import DRIVER

MOMENT_S = 0.5  # who only looks whether somebody drives holds the lock no longer


@contextmanager
def driving(run: Run) -> Iterator[None]:
    """Be the one process that writes to a run's study and record.

    Raises:
        InvalidInput: another process is; the message says which, where and since when.
    """
    lock = FileLock(run.folder / LOCK, timeout=MOMENT_S)
    try:
        lock.acquire()
    except Timeout:
        raise InvalidInput(
            f"{run.folder} must be driven by one process at a time, but {_driver(run)} drives it; "
            "wait for its end, or end it in good order with Ctrl-C or: kill -INT"
        ) from None
    try:
        _wait_for_fetch(run)
        me = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Beside the lock, not in it: who asks for a lock may empty its file.
        write_text(run.folder / DRIVER, json.dumps(me) + "\n")
        yield
    finally:
        (run.folder / DRIVER).unlink(missing_ok=True)
        lock.release()


def _wait_for_fetch(run: Run) -> None:
    """Let whoever brings the copy of a run in an object store up to date end; nobody begins now."""
    if run.url is None:
        return
    try:
        fetch_lock(run.folder).acquire().lock.release()
    except Timeout:
        raise InvalidInput(
            f"{run.folder} must be at rest to be driven, but another process here has fetched it "
            f"from {run.url} for more than {FETCH_WAIT_S:.0f} s; wait for its end and try again"
        ) from None


def driver_of(run: Run) -> str | None:
    """Which process drives a run now; None if none does."""
    if not (run.folder / LOCK).exists():
        return None
    lock = FileLock(run.folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return _driver(run)
    lock.release()
    return None


def driver_elsewhere(run: Run) -> str | None:
    """Which process on another host drives a run in an object store, as the store tells it."""
    if run.url is None or driver_of(run) is not None or not (run.folder / DRIVER).exists():
        return None
    return _driver(run)


def _driver(run: Run) -> str:
    try:
        driver: dict[str, Any] = json.loads((run.folder / DRIVER).read_text())
        return f"process {driver['pid']} on {driver['host']} (since {driver['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has only just begun
