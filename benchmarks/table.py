"""A table of real trials: what each of many configurations measured after each epoch, and how long
that took. Whoever compares searchers can play whole searches on it in a second.

    siamtune search --space benchmarks/table_space.yaml --data lfw --data-home DIR --name table
    siamtune resume table                                  # after any interruption
    python benchmarks/table.py runs/table --to benchmarks/lfw_table.json

Only trials that were trained to their last epoch are taken. The file is JSON, and this reads it:

    import json, numpy as np
    table = json.load(open("lfw_table.json"))
    auc, f1, seconds = (np.array(table[name]) for name in ("auc", "f1", "seconds"))  # (N, epochs)
    dials = table["configurations"]         # N dictionaries; a dial that is not there was inactive
    print(table["provenance"], "best:", dials[auc.max(1).argmax()], auc.max())
"""

import argparse
import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from siamtune.search.dimensions import ChoiceDimension, Dimension
from siamtune.search.history import read_history
from siamtune.search.space import Space
from siamtune.search.study import open_study, propose, report_epoch, should_stop, tell

SCHEMA = "siamtune.table/1"
COLUMNS = {"auc": "val/auc", "f1": "val/f1", "seconds": "seconds"}


@dataclass(frozen=True)
class Table:
    """`auc`, `f1` and `seconds` are (N, epochs): after and of each epoch of N configurations."""

    configurations: Sequence[Mapping[str, Any]]
    auc: np.ndarray
    f1: np.ndarray
    seconds: np.ndarray
    provenance: Mapping[str, Any]


def load(path: Path) -> Table:
    table = json.loads(path.read_text())
    if table.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: must be a table of trials ({SCHEMA})")
    measured = {name: np.array(table[name]) for name in COLUMNS}
    return Table(table["configurations"], **measured, provenance=table["provenance"])


def record(run: str, to: Path) -> int:
    """Write the table of a finished run; returns how many configurations it holds."""
    history = read_history(run, Path("runs"))
    epochs = int(history.space.fixed["epochs"])
    whole = [
        record
        for record in history.records.values()
        if record.state == "complete" and len(record.epochs) == epochs
    ]
    if not whole:
        raise SystemExit(f"{run}: no trial was trained to its last epoch ({epochs})")
    environment = json.loads((history.run.folder / "environment.json").read_text())
    kept = ("siamtune", "python", "platform", "packages")
    document = {
        "schema": SCHEMA,
        "provenance": {
            **{key: history.run.facts().get(key) for key in ("data", "protocol", "split")},
            **{key: environment.get(key) for key in kept},
            "space": history.run.space_path.read_text(),
        },
        "configurations": [dict(record.config) for record in whole],
    }
    for name, metric in COLUMNS.items():
        document[name] = [[round(e[metric], 5) for e in record.epochs] for record in whole]
    to.write_text(json.dumps(document) + "\n")
    return len(whole)


@dataclass(frozen=True)
class Played:
    """A search on a table: after each epoch, simulated seconds and the best AUC so far."""

    seconds: np.ndarray
    best: np.ndarray
    epochs: tuple[int, ...]  # of each trial, in the order of their numbers

    def seconds_until(self, auc: float) -> float:
        """When an AUC was first reached; infinity if never."""
        reached = np.flatnonzero(self.best >= auc)
        return float(self.seconds[reached[0]]) if len(reached) else math.inf


class Searcher(Protocol):
    """Whoever proposes what is trained next, and may end it early."""

    def start(self) -> tuple[Any, Mapping[str, Any]]:
        """A handle of the next trial, and its active dials."""

    def report(self, trial: Any, epoch: int, value: float) -> bool:
        """An epoch's AUC; whether the trial is to end."""

    def end(self, trial: Any, complete: bool) -> None:
        """A trial has ended: after its last epoch, or before."""


class Siamtune:
    """The sampler and the scheduler that a space names, as `siamtune search` asks them."""

    def __init__(self, space: Space) -> None:
        self.space, self.study = space, open_study(None, space)

    def start(self) -> tuple[int, Mapping[str, Any]]:
        proposal = propose(self.study, self.space, lambda rejected: None)
        return proposal.number, proposal.suggested

    def report(self, trial: int, epoch: int, value: float) -> bool:
        report_epoch(self.study, trial, epoch, value)
        return should_stop(self.study, trial)

    def end(self, trial: int, complete: bool) -> None:
        tell(self.study, trial, "complete" if complete else "stopped")


def play(
    table: Table, space: Space, searcher: Searcher, *, trials: int, slots: int,
    until: float = math.inf,
) -> Played:  # fmt: skip
    """A whole search of a space on the table, or until an AUC is reached.

    What is trained is the nearest configuration of the table that has not been trained yet: alike
    in choices and in what is active, then near in numbers. (Were it trained again, a searcher that
    has found a good one would be told the same for ever, and a real one is told of what lies about
    it.) As many trials as there are slots run at once; each epoch takes the seconds that it took.
    """
    places = np.array([_place(space, configuration) for configuration in table.configurations])
    epochs = table.auc.shape[1]
    # When, the number of a trial, its row, the epoch that ends then, the searcher's handle.
    queue: list[tuple[float, int, int, int, Any]] = []
    lengths: list[int] = []
    trained = np.zeros(len(places), bool)

    def start(now: float) -> None:
        if len(lengths) == trials or trained.all():
            return
        trial, dials = searcher.start()
        distance = np.abs(places - _place(space, dials)).sum(1)
        row = int(np.where(trained, np.inf, distance).argmin())
        trained[row] = True
        heapq.heappush(queue, (now + table.seconds[row, 0], len(lengths), row, 1, trial))
        lengths.append(0)

    for _ in range(slots):
        start(0.0)
    times, best = [], [0.0]
    while queue and best[-1] < until:
        now, number, row, epoch, trial = heapq.heappop(queue)
        value = float(table.auc[row, epoch - 1])
        times.append(now)
        best.append(max(best[-1], value))
        lengths[number] = epoch
        stop = searcher.report(trial, epoch, value)
        if epoch < epochs and not stop:
            then = now + table.seconds[row, epoch]
            heapq.heappush(queue, (then, number, row, epoch + 1, trial))
        else:
            searcher.end(trial, epoch == epochs)
            start(now)
    return Played(np.array(times), np.array(best[1:]), tuple(lengths))


def _place(space: Space, values: Mapping[str, Any]) -> np.ndarray:
    """Coordinates of a combination, in which one step of a choice is as far as a whole range."""
    return np.concatenate([_coordinates(dimension, values) for dimension in space.dimensions])


def _coordinates(dimension: Dimension, values: Mapping[str, Any]) -> list[float]:
    if dimension.name not in values:
        length = len(dimension.choices) if isinstance(dimension, ChoiceDimension) else 1
        return [-1.0] * length
    value = values[dimension.name]
    if isinstance(dimension, ChoiceDimension):
        return [0.5 * (value == choice) for choice in dimension.choices]
    scale = math.log if dimension.log else float
    low, high = scale(dimension.low), scale(dimension.high)
    return [(scale(value) - low) / ((high - low) or 1.0)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder or a run's name")
    parser.add_argument("--to", type=Path, required=True, help="the JSON file to write")
    given = parser.parse_args()
    print(f"{record(given.run, given.to)} configurations written to {given.to}")


if __name__ == "__main__":
    main()
