"""A run that lies in an object store: what changes on this machine goes there, soon after.

The driver's files (study, record, space, winner) are sent by a thread of its own, at most every two
seconds, the study never behind the record. A trial's files are sent by its worker after every
epoch, before the driver hears of it. So if the driver's host is lost, its last seconds of events
are, but no epoch: the checkpoints tell those again. Another thread gives signs of life, by which
other hosts know that the run is driven.
"""

import json
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from siamtune.config import DEFAULTS, flatten, trial_config
from siamtune.errors import InvalidInput, SiamtuneError, Unwritable
from siamtune.launch.job import BEST, LAST, TrialJob
from siamtune.search import stops
from siamtune.search.runs import Run, write_text
from siamtune.search.store import (
    DRIVER,
    Signature,
    Store,
    local_files,
    local_signature,
    open_store,
    read_agreed,
    write_agreed,
    write_bytes,
)
from siamtune.training.checkpoint import read_facts
from siamtune.training.distributed import first_told, rank

EVERY_S, MOST_S = 2.0, 20.0  # how often changes are sent; a large study, less often
# How often the store is told that the driver lives, and after what silence it is taken for dead.
HEARTBEAT_S, DEAD_AFTER_S = 30.0, 120.0
LISTEN_EVERY_S = 5.0  # for requests of `siamtune stop` on other hosts
RETRIES_S = (0.5, 2.0, 5.0, 15.0, 30.0)  # a store may be out of reach for a minute
# A store has no locks: who wants to drive a run first leaves a file of such a name, then looks
# whether another has. Of two that do so at one time at least one sees the other.
CLAIM = ".claim-"
COPY = ".copy"  # holds a random name of a copy of a run
# Lines are only added to them, so that what ends in a line break is whole.
JOURNALS = ("trials.jsonl", "study.log", "test.jsonl")
# What those who drive a run change, and its workers never do.
DRIVEN = ("run.json", *JOURNALS)

logger = logging.getLogger(__name__)


class Mirror:
    """The driver's end: sends what changes in the copy of a run until it is closed."""

    def __init__(self, run: Run, store: Store, log: Callable[[str], None]) -> None:
        self._run, self._store, self._log = run, store, log
        self._sent = read_agreed(run.folder)
        self._to_remove: list[str] = []
        self._listened = 0.0
        self._silent_since: float | None = None  # when the store ceased to answer
        self._me: dict[str, Any] | None = None  # what tells the store of this driver
        self._beat_at = -math.inf
        self._beating = threading.Lock()
        self._taken: str | None = None  # who else drives the run by now, for a person
        self._closing, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run_thread, daemon=True)
        self._heart = threading.Thread(target=self._run_heart, daemon=True)

    def start(self) -> None:
        """Send all that is there, then what changes.

        Raises:
            InvalidInput: the store cannot be written, or another host drives the run or has.
        """
        copy, claim = _copy_name(self._run.folder), f"{CLAIM}{secrets.token_hex(8)}"
        try:
            now = self._store.write(claim, b"")[1]  # by the store's own clock
            self._refuse_others(copy, claim, now)
            if (driver := _driver_here(self._run)) is not None:
                self._me = {**driver, "copy": copy}
            self._beat()
            self._heart.start()  # to send all may take longer than a silent driver is waited for
            self._send()
        except OSError as error:
            raise InvalidInput(
                f"{self._store.url} must be writable, but {error}; check its name, the region and "
                "the credentials"
            ) from error
        else:
            self._thread.start()
        finally:
            if not self._thread.is_alive():  # it was refused
                self._done.set()
            with suppress(OSError):  # by now what was sent tells the others
                self._store.remove(claim)

    def remove(self, name: str) -> None:
        """Remove a file from the store once all that has happened before was sent."""
        self._to_remove.append(name)

    def fetch(self, name: str, *, patient: bool = True) -> Path | None:
        """A file that a worker has sent, as a copy here; None if there is none.

        Raises:
            SiamtuneError: the store does not answer, `patient`: for a minute.
        """
        path = self._run.folder / name
        try:
            read = partial(self._store.read, name)
            content = _patiently(read) if patient else read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SiamtuneError(_silent(self._store, error)) from error
        write_bytes(path, content)
        # It is the store's own and need not be sent back.
        self._sent[name] = (self._sent.get(name, ((0, 0), (0, 0)))[0], local_signature(path))
        return path

    def sizes(self) -> dict[str, int]:
        """Bytes of each file of the run in the store, without those that are about to go.

        Raises:
            SiamtuneError: the store does not answer.
        """
        going = set(self._to_remove)
        try:
            there = self._store.files()
        except OSError as error:
            raise SiamtuneError(_silent(self._store, error)) from error
        return {name: size for name, (size, _) in there.items() if name not in going}

    def close(self) -> None:
        """Send the rest.

        Raises:
            SiamtuneError: the store does not answer, or another host drives the run by now; the
                message says where all of it lies.
        """
        self._closing.set()
        self._thread.join()
        try:
            try:
                _patiently(self._send)
            finally:
                self._done.set()
                self._heart.join()
            if self._me is not None and self._taken is None:
                self._store.remove(DRIVER)
        except OSError as error:
            raise SiamtuneError(
                f"{self._store.url} must hold the whole run, but it could not be sent ({error}); "
                f"it lies in {self._run.folder}, and `siamtune resume {self._run.url}` on this "
                "machine sends it"
            ) from error
        if self._taken is not None:
            raise SiamtuneError(self._taken)

    def _run_thread(self) -> None:
        wait_s = EVERY_S
        while not self._closing.wait(wait_s):
            began = time.monotonic()
            try:
                self._send()
                if self._silent_since is not None:
                    self._log(f"{self._store.url} answers again")
                self._silent_since = None
            except Exception as error:  # whatever a store's library raises, the search goes on
                if self._silent_since is None:
                    self._silent_since = began
                    self._log(
                        f"{self._store.url} does not take what is sent ({error}); the search goes "
                        f"on and its files lie in {self._run.folder} until it does"
                    )
            # A large study takes its time to send: leave the network to the workers for longer.
            wait_s = min(MOST_S, max(EVERY_S, 10 * (time.monotonic() - began)))

    def _run_heart(self) -> None:
        """Give signs of life, however long it takes to send a file."""
        while not self._done.wait(HEARTBEAT_S / 4):
            with suppress(Exception):  # the other thread tells that the store is silent
                self._beat()

    def _beat(self) -> None:
        """Give a sign of life if it is time to; if another has taken its place, end in order."""
        with self._beating:
            if self._taken is not None:
                self._end_in_order()
                return
            if self._me is None or time.monotonic() < self._beat_at + HEARTBEAT_S:
                return
            there = self._driver_there()
            if there is None and self._beat_at > -math.inf:
                self._taken = self._told("another process has gone on with it and ended")
            elif there is not None and there["copy"] != self._me["copy"]:
                self._taken = self._told(
                    f"process {there['pid']} on {there['host']} has gone on with it (since "
                    f"{there['since']})"
                )
            if self._taken is not None:
                self._log(f"{self._taken}: a search ends here")
                self._end_in_order()
                return
            self._store.write(DRIVER, json.dumps(self._me).encode() + b"\n")
            self._beat_at = time.monotonic()

    def _told(self, what: str) -> str:
        return (
            f"{self._run.url} must be driven by one process at a time, but {what}, as nothing was "
            f"heard of this one for {DEAD_AFTER_S:.0f} s; what was recorded here since lies in "
            f"{self._run.folder} and is not sent"
        )

    def _end_in_order(self) -> None:
        with suppress(InvalidInput):  # the disk is full: that ends it as well
            stops.ask_to_stop(self._run, None)

    def _send(self) -> None:
        removals, folder = len(self._to_remove), self._run.folder
        self._beat()
        if self._taken is not None:
            return
        if time.monotonic() > self._listened + LISTEN_EVERY_S:
            requests = self._store.child(stops.FOLDER)
            for name in requests.files():
                write_bytes(folder / stops.FOLDER / Path(name).name, b"")
                requests.remove(name)
            self._listened = time.monotonic()
        changed = [
            name
            for name, path in local_files(folder)
            if self._sent.get(name, (None, None))[1] != _signature_or_none(path)
        ]
        # What the record tells must be known to the study: so it is read first and sent last.
        contents = {}
        for name in sorted(changed, key=lambda name: name == "study.log"):
            with suppress(FileNotFoundError):  # removed since it was listed
                contents[name] = _whole_lines(folder / name)
        for name in sorted(contents, key=lambda name: name == "trials.jsonl"):
            here, content = contents[name]
            if self._taken is not None:
                return
            self._sent[name] = (self._store.write(name, content), here)
            # After each: cut off in the midst, what was sent is not taken for another host's. Of a
            # copy, since another thread may add to it.
            write_agreed(folder, dict(self._sent))
        for name in self._to_remove[:removals]:
            self._store.remove(name)
            self._sent.pop(name, None)
        del self._to_remove[:removals]

    def _refuse_others(self, copy: str, claim: str, now: int) -> None:
        """Refuse a run that another host drives, as far as its last sign of life can tell, or that
        is not any more what is known of it here."""
        there = self._store.files()
        driver = self._driver_there()
        fresh = {name for name, (_, at) in there.items() if now - at < DEAD_AFTER_S * 1e9}
        if any(name.startswith(CLAIM) for name in fresh - {claim}):
            raise InvalidInput(
                f"{self._run.url} must be driven by one process at a time, but another one begins "
                "to at this moment; try again in a while"
            )
        if driver is not None and driver["copy"] == copy:
            return  # whoever has driven this copy before has freed its lock
        if driver is not None:
            silent_s = (now - there.get(DRIVER, (0, now))[1]) / 1e9
            if silent_s < DEAD_AFTER_S:
                raise InvalidInput(
                    f"{self._run.url} must be driven by one process at a time, but process "
                    f"{driver['pid']} on {driver['host']} drives it (since {driver['since']}, last "
                    f"heard of {silent_s:.0f} s ago); wait for its end, or {DEAD_AFTER_S:.0f} s if "
                    "it is dead"
                )
            self._store.remove(DRIVER)
        # By size alone: some stores tell the time of a change in two ways.
        known = {name: both[0][0] for name, both in self._sent.items()}
        if changed := [n for n in DRIVEN if n in there and there[n][0] != known.get(n)]:
            raise InvalidInput(
                f"{self._run.url} must hold what this machine has fetched or sent, but another "
                f"process has written {' and '.join(changed)} since; give the command again, to go "
                "on from there, or choose another --name"
            )

    def _driver_there(self) -> dict[str, Any] | None:
        """What the store tells of who drives the run; None if nobody does, or it is damaged."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            driver = json.loads(self._store.read(DRIVER))
            told = {name: driver[name] for name in ("host", "pid", "since")}
            return {**told, "copy": driver.get("copy")}
        return None


@contextmanager
def mirrored(run: Run, log: Callable[[str], None]) -> Iterator[Mirror | None]:
    """Keep the store of a run up to date for as long as the context lasts; None where it has none.

    Raises:
        InvalidInput, SiamtuneError: see `Mirror`.
    """
    if run.url is None:
        yield None
        return
    mirror = Mirror(run, open_store(run.url), log)
    mirror.start()
    try:
        yield mirror
    finally:
        mirror.close()


Results = Generator[dict[str, Any], None, None]


def run_stored_trial(job: TrialJob, run: Callable[[TrialJob], Results]) -> Results:
    """Run a trial on this host's own disk; its files are in the store before a result is told."""
    assert job.store is not None
    store = open_store(job.store)
    with tempfile.TemporaryDirectory(prefix=f"siamtune-trial-{job.number}-") as scratch:
        local = replace(job, run_folder=scratch, store=None)
        files = _TrialFiles(store, local)
        try:
            if silent := first_told(files.try_to_fetch()):
                raise Unwritable(silent)
            with closing(run(local)) as results:
                for result in results:
                    files.send()
                    yield result
        except Unwritable as error:  # no fault of the trial's: it goes on when the store answers
            yield {"state": "interrupted", "reason": str(error)}
        finally:
            with suppress(Unwritable):  # all but the last words of its TensorBoard log is there
                files.send()


class _TrialFiles:
    """What a worker writes for a trial, on its way to the store."""

    def __init__(self, store: Store, job: TrialJob) -> None:
        self._store, self._job = store, job
        self._root = Path(job.run_folder)
        self._sent: dict[str, Signature] = {}
        self._silent = False

    def try_to_fetch(self) -> str | None:
        """Bring the checkpoints of an earlier life of the trial, on this host or another; else
        tell why the store does not give them."""
        folder = self._job.folder
        for name in (LAST, BEST):
            path = folder / name
            place = path.relative_to(self._root).as_posix()
            try:
                content = _patiently(partial(self._store.read, place))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._silent = True
                return _silent(self._store, error)
            write_bytes(path, content)
            self._sent[place] = local_signature(path)
        if not _is_of(folder / LAST, self._job):
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def send(self) -> None:
        """Send what has changed; a store that was waited for once is not waited for again.

        Raises:
            Unwritable: the store does not answer.
        """
        if rank() != 0:
            return
        for name, path in local_files(self._root):
            here = local_signature(path)
            if self._sent.get(name) == here:
                continue
            write = partial(self._store.write, name, path.read_bytes())
            try:
                write() if self._silent else _patiently(write)
            except OSError as error:
                self._silent = True
                raise Unwritable(_silent(self._store, error)) from error
            self._sent[name] = here


def _is_of(checkpoint: Path, job: TrialJob) -> bool:
    """Whether a checkpoint is of this trial, and not of one whose start was never sent.

    Such a trial was lost with its driver's host, and its number was given again.
    """
    with suppress(InvalidInput):
        theirs = {**DEFAULTS, **read_facts(checkpoint).get("config", {})}
        return theirs == flatten(trial_config(dict(job.config)))
    return False


def _copy_name(folder: Path) -> str:
    """The name of a copy of a run: by host names containers could not be told apart."""
    path = folder / COPY
    if not path.exists():
        write_text(path, secrets.token_hex(8))
    return path.read_text()


def _driver_here(run: Run) -> dict[str, Any] | None:
    """What tells of this process as a run's driver; None if it does not drive it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        driver: dict[str, Any] = json.loads((run.folder / DRIVER).read_text())
        if (driver["pid"], driver["host"]) == (os.getpid(), socket.gethostname()):
            return driver
    return None


def _whole_lines(path: Path) -> tuple[Signature, bytes]:
    """The signature and content of a file; of one that grows, up to its last line break."""
    here = local_signature(path)
    content = path.read_bytes()
    if path.name in JOURNALS:
        content = content[: content.rfind(b"\n") + 1]
    return here, content


def _signature_or_none(path: Path) -> Signature | None:
    try:
        return local_signature(path)
    except FileNotFoundError:
        return None


def _silent(store: Store, error: OSError) -> str:
    return (
        f"{store.url} must be reachable, readable and writable, but {error}; check the network, "
        "the region and the credentials"
    )


def _patiently(action: Callable[[], Any]) -> Any:
    """Do something with the store; if it does not answer, again, for a minute in all."""
    for wait_s in RETRIES_S:
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            logger.warning("the object store did not answer: %s", error)
            time.sleep(wait_s)
    return action()
