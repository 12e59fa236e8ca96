"""What happened to each trial of a search, written once, in order, and never rewritten.

`trials.jsonl` holds one event a line. Tables, TensorBoard's summary, the report and resume all fold
the same events, so none of them can disagree about what a trial was.

    {"event": "started", "trial": 7, "time": ..., "config": {...}}
    {"event": "epoch",   "trial": 7, "metrics": {"epoch": 1, "val/auc": 0.81, ...}}
    {"event": "retried", "trial": 7, "time": ..., "reason": "its process vanished: ..."}
    {"event": "ended",   "trial": 7, "time": ..., "state": "complete", "reason": null}
    {"event": "carried", "trial": 7, "config": {...}}

`carried` names a trial's dials anew where the space has changed under it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from time import time
from typing import Any, Literal, get_args

from siamtune.errors import InvalidInput

State = Literal[
    "running",  # started and not ended
    "interrupted",  # the search ended first; `resume` goes on from its last epoch
    "complete",  # trained to its last epoch
    "stopped",  # ended at epoch k by the scheduler, by hand, or by a space that has no place for it
    "collapsed",  # loss not finite or all embeddings equal
    "invalid",  # a combination that cannot be built; never started
    "out_of_memory",
    "failed",  # an exception; the reason is its last line, the traceback lies in the trial's folder
    "lost",  # its process or host vanished and it was not retried to an end
]


@dataclass(frozen=True)
class TrialRecord:
    """One trial as its events tell it; `config` holds the dials that were suggested."""

    number: int
    state: State
    config: Mapping[str, Any]
    epochs: tuple[Mapping[str, float], ...] = ()
    reason: str | None = None
    started: float = 0.0
    ended: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    retries: tuple[str, ...] = ()  # why its process was started anew, each time

    @property
    def ended_for_good(self) -> bool:
        """Whether the trial will never go on."""
        return self.state not in ("running", "interrupted")

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def training_s(self) -> float:
        """Seconds spent in reported epochs."""
        return sum(epoch.get("seconds", 0.0) for epoch in self.epochs)


def best_epoch(record: TrialRecord, metric: str, mode: str) -> Mapping[str, float] | None:
    """The epoch of a trial with its best objective, None before the first report."""
    measured = [epoch for epoch in record.epochs if metric in epoch]
    if not measured:
        return None
    return (max if mode == "max" else min)(measured, key=lambda epoch: epoch[metric])


def ranked(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Complete trials from best to worst, then the stopped ones; others have no place.

    A stopped trial comes after every complete one: its best epoch was measured on less training.
    """

    def key(record: TrialRecord) -> tuple[bool, float, int]:
        best = best_epoch(record, metric, mode)
        assert best is not None  # filtered below
        value = best[metric] if mode == "min" else -best[metric]
        return (record.state != "complete", value, record.number)

    usable = (r for r in records if r.state in ("complete", "stopped") and r.epochs)
    return sorted((r for r in usable if best_epoch(r, metric, mode)), key=key)


def front(
    records: Iterable[TrialRecord], objectives: Sequence[tuple[str, str]]
) -> list[TrialRecord]:
    """Complete trials that no other one equals or beats in every one of `objectives` (metric, mode)
    and beats in one; at the epoch that is best by the first, and in its order.
    """
    (metric, mode), *_ = objectives
    order = [record for record in ranked(records, metric, mode) if record.state == "complete"]
    points = []
    for record in order:
        best = best_epoch(record, metric, mode) or {}
        points.append(
            [best.get(name, nan) * (1 if way == "max" else -1) for name, way in objectives]
        )
    return [
        record
        for record, own in zip(order, points, strict=True)
        if not any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own
            for other in points
        )
    ]


def apply_event(records: dict[int, TrialRecord], event: Mapping[str, Any]) -> TrialRecord:
    """Fold one event into `records` and return the trial that it changed."""
    number = int(event["trial"])
    _check_parts(event)
    match event["event"]:
        case "started":
            # A trial that starts again (after a crash, from its last checkpoint) keeps its epochs.
            before = records.get(number)
            record = TrialRecord(
                number,
                "running",
                event["config"],
                epochs=before.epochs if before else (),
                started=before.started if before else float(event["time"]),
                facts=event.get("facts", {}),
                retries=before.retries if before else (),
            )
        case "epoch":
            metrics = event["metrics"]
            before = records[number]
            kept = tuple(e for e in before.epochs if e["epoch"] < metrics["epoch"])
            record = replace(before, epochs=(*kept, metrics))
        case "retried":
            before = records[number]
            record = replace(before, retries=(*before.retries, str(event["reason"])))
        case "ended":
            record = replace(
                records[number],
                state=event["state"],
                reason=event.get("reason"),
                ended=float(event["time"]),
            )
        case "carried":
            record = replace(records[number], config=event["config"])
        case other:
            raise InvalidInput(
                f"an event is started, epoch, retried, ended or carried, but got {other!r}"
            )
    records[number] = record
    return record


def _check_parts(event: Mapping[str, Any]) -> None:
    """Refuse a state that is none, dials that are no map, and metrics that are no numbers."""
    if event.get("state", "complete") not in get_args(State):
        raise InvalidInput(f"a trial's state is one of {', '.join(get_args(State))}")
    if not isinstance(event.get("config", {}), Mapping):
        raise InvalidInput("config holds dials by name")
    metrics = event.get("metrics", {})
    if not isinstance(metrics, Mapping) or not all(
        isinstance(value, int | float) for value in metrics.values()
    ):
        raise InvalidInput("metrics holds numbers by name")


def read_records(path: Path) -> dict[int, TrialRecord]:
    """Fold `trials.jsonl` into one record a trial, in the order in which they started.

    A last line without its newline was cut short by a crash: it is left out.

    Raises:
        InvalidInput: a line is not an event.
    """
    records: dict[int, TrialRecord] = {}
    if not path.exists():
        return records
    try:
        *lines, _unfinished = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InvalidInput(f"{path}: must be readable, but {error.strerror}") from None
    for at, line in enumerate(lines, start=1):
        try:
            apply_event(records, json.loads(line))
        except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError,
                InvalidInput) as error:  # fmt: skip
            raise InvalidInput(
                f"{path}:{at}: must hold one trial event as JSON, but got {line[:80]!r} "
                f"({error}); move the line out of the file to go on"
            ) from None
    return records


class Recorder:
    """The one writer of a run's `trials.jsonl`; keeps the folded records beside it.

    Raises OSError when the disk refuses: a record that cannot be kept must not be acted upon.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = read_records(path)
        cut_unfinished_line(path)
        self._file = path.open("ab", buffering=0)

    def started(
        self, trial: int, config: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> TrialRecord:
        """`facts` are what the trial is besides its dials: data, protocol, digest of the split."""
        return self._append(
            {"event": "started", "trial": trial, "time": time(), "config": dict(config)}
            | ({"facts": dict(facts)} if facts else {})
        )

    def epoch(self, trial: int, metrics: Mapping[str, float]) -> TrialRecord:
        return self._append({"event": "epoch", "trial": trial, "metrics": dict(metrics)})

    def retried(self, trial: int, reason: str) -> TrialRecord:
        """Its process has vanished; another one goes on from its last checkpoint."""
        return self._append({"event": "retried", "trial": trial, "time": time(), "reason": reason})

    def ended(self, trial: int, state: State, reason: str | None = None) -> TrialRecord:
        return self._append(
            {"event": "ended", "trial": trial, "time": time(), "state": state, "reason": reason}
        )

    def carried(self, trial: int, config: Mapping[str, Any]) -> TrialRecord:
        """Name the dials of a past trial as the new space sees them."""
        return self._append({"event": "carried", "trial": trial, "config": dict(config)})

    def close(self) -> None:
        self._file.close()

    def _append(self, event: dict[str, Any]) -> TrialRecord:
        # One write a line: a crash leaves a whole line or a cut last one, never two mixed.
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        at = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, "No space left on device", str(self.path))
        except OSError:
            os.ftruncate(self._file.fileno(), at)
            raise
        return apply_event(self.records, event)


def cut_unfinished_line(path: Path) -> int:
    """Remove the last line of a file if a crash has cut it short; returns the size that is left."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return 0
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            end = file.truncate(file.read().rfind(b"\n") + 1)
    return end
