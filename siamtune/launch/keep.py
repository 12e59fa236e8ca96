"""Which checkpoints of a search stay on disk: those of running trials and of the few best.

The winner so far is shipped at once, so even a search that is killed leaves one behind.
Under a disk limit the checkpoints of the other best trials go too, from the worst on; what a search
needs to go on or has measured never does.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from siamtune.errors import SiamtuneError
from siamtune.launch.job import BEST, LAST, trial_folder
from siamtune.launch.mirror import Mirror
from siamtune.search.config_file import config_yaml
from siamtune.search.records import TrialRecord, best_epoch, ranked
from siamtune.search.runs import Run, write_text
from siamtune.search.space import Space
from siamtune.training.checkpoint import ship_model

# Trials whose best checkpoint stays, for replication, ensembles and export.
KEEP_BEST = 5
# Looking through a run folder may take so much of the driver's time.
LOOKING_SHARE = 0.05


class CheckpointKeeper:
    """Told of every trial's end, keeps the files of the best; at a cost that stays the same."""

    def __init__(
        self,
        run: Run,
        space: Space,
        records: Mapping[int, TrialRecord],
        limit: int | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self._run = run
        self._mirror = mirror
        self._space = space
        self._limit = limit
        self._next_look = 0.0
        self._overdue = False  # whether the winner is yet to be shipped: its store was silent
        self._records = records
        self._kept = self._best(list(records.values()))

    def catch_up(self) -> None:
        """Do what an earlier driver was killed before: tidy up after a trial, ship the winner."""
        for folder in sorted((self._run.folder / "trials").glob("[0-9]*")):
            if not folder.name.isdecimal():
                continue  # a person's copy
            record = self._records.get(int(folder.name))
            if record is None or not record.ended_for_good:
                continue
            forget_workers(folder)
            for name in (LAST, BEST):
                if (folder / name).exists() and (name == LAST or record not in self._kept):
                    self._remove(record.number, name)
        if not self._kept:
            return
        configuration = self._run.folder / "best.yaml"
        shipped = configuration.read_text() if configuration.exists() else ""
        # Any other text is the choice of replicas, or of a person.
        earlier = {winner_yaml(self._run, self._space, record) for record in self._kept[1:]}
        if shipped in earlier or not self._run.best_model.exists():
            self._ship(self._kept[0])

    def ended(self, record: TrialRecord) -> None:
        """Keep or remove the checkpoints of a trial that has ended, and what it displaces."""
        winner_before = self._kept[:1]
        best = self._best([*self._kept, record])
        for dropped in (*self._kept, record):
            if dropped not in best:
                self._remove(dropped.number, BEST)
        self._kept = best
        forget_workers(trial_folder(self._run.folder, record.number))
        self._remove(record.number, LAST)
        if best[:1] != winner_before or self._overdue:
            self._ship(best[0])

    def ship_overdue(self) -> bool:
        """Ship the winner if the store did not give it when it should have; whether all is done."""
        if self._overdue:
            self._ship(self._kept[0], patient=True)
        return not self._overdue

    def hold(self, running: int) -> str | None:
        """Keep the run folder under its limit; the reason why the search must end if that fails.

        Of a run in an object store what lies there counts, not the driver's copy of a part of it.
        Room is left for another checkpoint of each of the `running` trials. The best checkpoints of
        ended trials are removed, from the worst to the second best. Those of running and
        interrupted trials, the winner, the study, the records and TensorBoard's curves never are.
        """
        began = time.monotonic()
        if self._limit is None or began < self._next_look:
            return None
        stored: dict[str, int] = {}
        held = largest = 0
        if self._mirror is None:
            held, largest = folder_size(self._run.folder)
        else:
            with suppress(SiamtuneError):  # a silent store is looked through another time
                stored = self._mirror.sizes()
                held, largest = _stored_size(stored)
        most = self._limit - running * largest
        for record in reversed(self._kept[1:]):
            if held <= most:
                break
            path = trial_folder(self._run.folder, record.number) / BEST
            if self._mirror is not None:
                held -= stored.get(path.relative_to(self._run.folder).as_posix(), 0)
            elif path.exists():
                held -= path.stat().st_size
            self._remove(record.number, BEST)
        ended = time.monotonic()
        self._next_look = ended + (ended - began) / LOOKING_SHARE
        if held <= most:
            return None
        return (
            f"the disk limit of {shown_size(self._limit)}: the run folder holds "
            f"{shown_size(held)} that must stay, and {running} running trials need room for one "
            f"more checkpoint of {shown_size(largest)} each"
        )

    def _best(self, records: list[TrialRecord]) -> list[TrialRecord]:
        objective = self._space.objective
        return ranked(records, objective.metric, objective.mode)[:KEEP_BEST]

    def _remove(self, number: int, name: str) -> None:
        folder = self._run.folder
        remove_file(folder, trial_folder(folder, number) / name, self._mirror)

    def _ship(self, winner: TrialRecord, patient: bool = False) -> None:
        checkpoint = trial_folder(self._run.folder, winner.number) / BEST
        self._overdue = False
        if self._mirror is not None:
            name = checkpoint.relative_to(self._run.folder).as_posix()
            try:
                self._mirror.fetch(name, patient=patient)
            except SiamtuneError:  # the search does not wait for its store, nor end with it
                self._overdue = True
                return
        if checkpoint.exists():
            ship_model(checkpoint, self._run.best_model)
        # Last, so that it tells whether all was done.
        text = winner_yaml(self._run, self._space, winner)
        write_text(self._run.folder / "best.yaml", text)


def forget_workers(folder: Path) -> None:
    """Remove what tells which processes ran a trial that has ended."""
    for log in folder.glob("worker-*.log"):
        log.unlink(missing_ok=True)


def remove_file(run_folder: Path, path: Path, mirror: Mirror | None) -> None:
    """Remove a file of a trial, in the store of its run as well, and its folder if it is empty."""
    path.unlink(missing_ok=True)
    if mirror is not None:
        mirror.remove(path.relative_to(run_folder).as_posix())
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def folder_size(folder: Path) -> tuple[int, int]:
    """Bytes of all files below a folder, each file once, and of the largest checkpoint."""
    sizes: dict[tuple[int, int], int] = {}
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(parent, name))
            except FileNotFoundError:
                continue  # replaced by its worker just now
            sizes[stat.st_dev, stat.st_ino] = stat.st_size
            if name in (LAST, BEST):
                largest = max(largest, stat.st_size)
    return sum(sizes.values()), largest


def _stored_size(sizes: Mapping[str, int]) -> tuple[int, int]:
    """As `folder_size`, of the files in a store by their names: there each has its own bytes."""
    checkpoints = (size for name, size in sizes.items() if Path(name).name in (LAST, BEST))
    return sum(sizes.values()), max(checkpoints, default=0)


def shown_size(size: float) -> str:
    """`5.2G`, in powers of 1024."""
    for unit in ("", "K", "M", "G"):
        if size < 1024:
            return f"{size:.3g}{unit}" if unit else f"{size:.0f}"
        size /= 1024
    return f"{size:.3g}T"


def winner_yaml(run: Run, space: Space, winner: TrialRecord) -> str:
    """The whole configuration of a trial, as `siamtune train --config` reads it."""
    measured = best_epoch(winner, space.objective.metric, space.objective.mode) or {}
    numbers = ", ".join(
        f"{name} {measured[name]:.4f}" for name in ("val/auc", "val/f1") if name in measured
    )
    facts = winner.facts
    return config_yaml(
        {**space.fixed, **winner.config},
        f"trial {winner.number} of {run.name}: {winner.state} at epoch {winner.epoch}\n"
        f"{numbers} on {facts.get('data')}, {facts.get('protocol')}, split {facts.get('split')}",
    )
