"""A run folder: everything that a search leaves behind, under short names.

run.json            name, data, protocol, split, objective, command, when it was created, and
                    what was asked of the machines
space.yaml          the resolved space
environment.json    versions and machine
trials.jsonl        what happened to each trial
space-1.yaml        with study-1.log: what they were before `resume --space`
study.log           the Optuna journal
driver.json         which process drives the search, while one does
stop/               what `siamtune stop` asks of that process, until it has heard
tensorboard/        one folder a trial
trials/0007/        checkpoints while it runs, its best while it is among the best; scores.npz with
                    its answers at its best epoch; error.txt with a traceback, hang.txt with the
                    stacks of processes that hung
pairs-5b1e90c3a2f4.npz  the validation pairs that the scores are of, by the split's digest
best.yaml, best/    the winner: configuration, model.safetensors
folds/03/           of an evaluation: the model of a fold, and its answers
replicas/           its best configurations trained again with fresh seeds: trials.jsonl, trials/;
replication.json    what they came to
test.jsonl          when the test people were opened, by what, for which model, and what they said
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamtune.errors import InvalidInput, SiamtuneError, UsageError
from siamtune.search.store import (
    DRIVER,
    copies_of,
    fetch,
    is_url,
    open_store,
    origin,
    read_agreed,
)

if TYPE_CHECKING:
    from filelock import FileLock

FIRST_SEARCH = "siamtune search --space quickstart"
LOCK = ".driver.lock"
FETCH_LOCK = ".fetch.lock"  # held while the copy of a run in an object store is brought up to date
FETCH_WAIT_S = 30.0
MODEL = "model.safetensors"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Run:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def url(self) -> str | None:
        """Where it lies in an object store, if it does; the folder is a copy then."""
        store = origin(self.folder.parent)
        return f"{store}/{self.name}" if store else None

    @property
    def place(self) -> str:
        """Its folder or URL, as a person names it."""
        return self.url or str(self.folder)

    @property
    def facts_path(self) -> Path:
        return self.folder / "run.json"

    @property
    def space_path(self) -> Path:
        return self.folder / "space.yaml"

    @property
    def trials_path(self) -> Path:
        return self.folder / "trials.jsonl"

    @property
    def journal_path(self) -> Path:
        return self.folder / "study.log"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def best_model(self) -> Path:
        return self.folder / "best" / MODEL

    def fold_folder(self, number: int) -> Path:
        """Where an evaluation keeps a fold's model and answers."""
        return self.folder / "folds" / f"{number:02d}"

    def fold_model(self, number: int) -> Path:
        return self.fold_folder(number) / MODEL

    def facts(self) -> dict[str, Any]:
        """What `run.json` holds.

        Raises:
            InvalidInput: it is missing or damaged.
        """
        try:
            facts = json.loads(self.facts_path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{self.folder}: must be the folder of a run, but run.json cannot be read ({error})"
            ) from None
        if not isinstance(facts, dict):
            raise InvalidInput(f"{self.facts_path}: must hold a JSON object")
        return facts

    def objective(self) -> tuple[str, str]:
        """The metric and its mode, as `run.json` names them; raises as `facts`."""
        objective = self.facts().get("objective") or {}
        if not isinstance(objective, dict) or not set(objective) <= {"metric", "mode"}:
            raise InvalidInput(
                f"{self.facts_path}: objective must hold a metric and a mode, but got {objective!r}"
            )
        return objective.get("metric", "val/auc"), objective.get("mode", "max")


def new_run(output: Path, name: str | None, space_name: str) -> Run:
    """Make the folder of a new run; without a name it is called after the space and the time.

    Raises:
        UsageError: the name is unusable or taken.
    """
    if name is None:
        stamp = datetime.now(UTC).astimezone().strftime("%m%d-%H%M%S")
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", space_name).strip("._-")[:40]
        name = f"{plain or 'run'}-{stamp}"
    if not RUN_NAME.fullmatch(name):
        raise UsageError(
            "--name must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or "
            f"digit, but got {name!r}"
        )
    folder = output / name
    store = origin(output)
    if store and "run.json" in open_store(store).child(name).listed():
        raise UsageError(
            f"{store}/{name} exists already; choose another --name, or go on with: siamtune resume "
            f"{name} --output {store}"
        )
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(
            f"{folder} exists already; choose another --name, or go on with: siamtune resume {name}"
        ) from None
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be made: {error.strerror}") from error
    return Run(folder)


def find_run(name_or_path: str, output: Path) -> Run:
    """The run at a path, or of that name under `output`; `latest` is the newest there.

    Raises:
        InvalidInput: there is none.
    """
    if is_url(name_or_path):
        parent, _, name = name_or_path.rstrip("/").rpartition("/")
        return find_run(name, copies_of(parent))
    store = origin(output)
    if name_or_path == "latest":
        runs = list_runs(output)
        if not runs:
            place = store or output
            raise InvalidInput(f"there is no run in {place}; start one with: {FIRST_SEARCH}")
        latest = max(runs, key=lambda run: run.facts_path.stat().st_mtime)
        return find_run(latest.name, output) if store else latest
    if store and RUN_NAME.fullmatch(name_or_path):
        _fetch(store, output / name_or_path)
    # Of an object store only its copy: a folder here of the same name is another run.
    for folder in (
        (output / name_or_path,) if store else (Path(name_or_path), output / name_or_path)
    ):
        if os.path.isfile(folder / "run.json"):  # False, too, for a name that is too long
            return Run(folder)
    known = ", ".join(sorted(run.name for run in list_runs(output))[-10:]) or "none"
    raise InvalidInput(
        f"{name_or_path!r} must be a run folder or the name of a run in {store or output}, but it "
        f"is neither; runs there: {known}"
    )


def list_runs(output: Path) -> list[Run]:
    """Every run under `output`, by name."""
    if not output.is_dir():
        return []
    if store := origin(output):
        for name in open_store(store).folders():
            if RUN_NAME.fullmatch(name):
                _fetch(store, output / name, lambda name: "/" not in name)
    return [
        Run(Path(entry.path))
        for entry in sorted(os.scandir(output), key=lambda entry: entry.name)
        if entry.is_dir() and os.path.exists(os.path.join(entry.path, "run.json"))
    ]


def forget(run: Run) -> None:
    """Remove a run that was refused before its first trial, in its store as well."""
    if run.url is not None:
        with suppress(OSError, SiamtuneError):  # it may be the store that was refused
            store = open_store(run.url)
            there = store.files()
            # Else it was refused for that of another process, which has taken the name first.
            if "run.json" in read_agreed(run.folder) and DRIVER not in there:
                for name in there:
                    store.remove(name)
    shutil.rmtree(run.folder, ignore_errors=True)


def _fetch(store: str, copy: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Bring the copy of a run up to date, unless a search here works on it: then it is ahead."""
    from filelock import FileLock, Timeout

    there = open_store(store).child(copy.name)
    if not copy.is_dir():
        if not there.listed():
            return  # a folder here would take its name
        copy.mkdir(parents=True, exist_ok=True)
    with suppress(Timeout), fetch_lock(copy):  # else another process here brings it up to date
        # Who begins to drive it after this look waits for the end of the fetch.
        FileLock(copy / LOCK, timeout=0).acquire().lock.release()
        fetch(there, copy, wanted)


def fetch_lock(copy: Path) -> "FileLock":
    """Of who brings a copy up to date; its own, for `LOCK` would tell of a driver."""
    from filelock import FileLock

    return FileLock(copy / FETCH_LOCK, timeout=FETCH_WAIT_S)


def write_text(path: Path, text: str) -> None:
    """Replace a file at once: a reader finds the old text or the new, never half of one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
