"""The best configurations of a search, trained again with seeds that it did not use.

The best of many trials was chosen by a number that is partly luck. Replicas tell how much: they
are trained on the same people, never stopped early, and are no trials of the search: its sampler
is not told of them and its order stays. They lie beside it:

replicas/trials.jsonl      what happened to each, as of a trial; numbered on their own
replicas/trials/0004/      its answers; the model of the best replica of each configuration
replication.json           what they came to
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from siamtune.config import DEFAULTS
from siamtune.errors import UsageError
from siamtune.search.history import History
from siamtune.search.records import State, TrialRecord
from siamtune.search.runs import Run

FOLDER, FILE = "replicas", "replication.json"
SCHEMA = "siamtune.replication/1"
WISH = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Part):
    """A value, and how far the true one may lie from it, 95 times of 100; None if unknown."""

    value: float
    margin: float | None


class ReplicaResult(Part):
    """One training of a configuration, at its best epoch."""

    replica: int  # its number in replicas/trials.jsonl
    seed: int
    state: State
    reason: str | None
    epoch: int | None
    value: float | None


class Replicated(Part):
    """A configuration; without a `mean` none of its replicas was trained to an end."""

    trial: int  # its best one in the search
    place: int  # among the configurations of the search, from 1
    search: float  # what the search measured
    replicas: tuple[ReplicaResult, ...]
    mean: Estimate | None = None
    spread: float | None = None  # standard deviation over its seeds
    behind: Estimate | None = None  # the first; holds for all configurations at once
    tied: bool = False  # with the first
    luck: Estimate | None = None  # what a complete trial measured above the mean


class Lead(Part):
    """How far the winner of the search led, and what is left of it with fresh seeds."""

    trial: int
    over: int
    search: float
    replicated: Estimate


class Best(Part):
    """Which model is the run's best: of a replica, or of the trial itself if None."""

    trial: int
    replica: int | None
    seed: int
    value: float


class Replication(Part):
    """What replicas came to, as replication.json holds it."""

    time: str
    asked: str
    metric: str
    mode: str
    data: str | None
    protocol: str | None
    split: str | None
    pairs: int | None
    trials: int  # of the search when it was replicated
    seeds: tuple[int, ...]
    seed_spread: float | None  # standard deviation over seeds, pooled
    over: str  # what the margins are over: seeds and people, or seeds
    winner: int  # of the search
    lead: Lead | None
    configurations: tuple[Replicated, ...] = Field(min_length=1)  # the best mean first
    best: Best | None = None

    @property
    def first(self) -> Replicated:
        return self.configurations[0]

    @property
    def tied(self) -> list[int]:
        """Trials whose configurations are tied with the first, itself included."""
        return [each.trial for each in self.configurations if each.tied]

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"schema": SCHEMA, **self.model_dump(mode="json"), "tied": self.tied}


@dataclass(frozen=True)
class Wish:
    """So many of the best configurations, with so many fresh seeds each."""

    configurations: int
    seeds: int

    def __str__(self) -> str:
        return f"{self.configurations}x{self.seeds}"


@dataclass(frozen=True)
class Replica:
    """One training that a wish asks for; `number` is that of its record, old or new."""

    number: int
    of: TrialRecord
    config: Mapping[str, Any]  # complete, with the fresh seed


@dataclass(frozen=True)
class Configuration:
    """What is trained again, by its best trial in the search.

    `place` counts from 1; trials that differ in the seed alone are one configuration.
    """

    record: TrialRecord
    place: int
    dials: Mapping[str, Any]  # complete but for the seed


def parse_wish(text: str) -> Wish:
    """`5x3`.

    Raises:
        UsageError: it is not that, or asks for one seed, which tells no spread.
    """
    match = WISH.fullmatch(text.strip().lower())
    if match is None or int(match[2]) < 2:
        raise UsageError(
            "--replicate must be configurations x fresh seeds, two seeds or more, like 5x3, but "
            f"got {text!r}"
        )
    return Wish(int(match[1]), int(match[2]))


# Such a replica is not trained again: one that has collapsed would again.
TRAINED = ("complete", "collapsed")


def replicas_run(run: Run) -> Run:
    """The folder of a run's replicas, which is made like that of a run."""
    return Run(run.folder / FOLDER)


def best_configurations(history: History, most: int) -> list[Configuration]:
    """The first in the search's order, complete trials before stopped ones."""
    found: list[Configuration] = []
    for record in history.ranked:
        if len(found) == most:
            break
        dials = _without_seed(history.config(record))
        if all(dials != known.dials for known in found):
            found.append(Configuration(record, len(found) + 1, dials))
    return found


def fresh_seeds(history: History, many: int) -> list[int]:
    """The first seeds that no trial was trained with."""
    used = {history.config(record)["seed"] for record in history.records.values()}
    return list(islice((seed for seed in count() if seed not in used), many))


def replicas_of(
    configuration: Configuration, replicas: Iterable[TrialRecord]
) -> dict[int, TrialRecord]:
    """By seed, the last of its replicas with it."""
    return {
        record.config["seed"]: record
        for record in replicas
        if _without_seed({**DEFAULTS, **record.config}) == configuration.dials
    }


def to_train(
    configurations: Iterable[Configuration],
    seeds: Iterable[int],
    replicas: Mapping[int, TrialRecord],
) -> list[Replica]:
    """What is not trained to an end yet, all with the first seed first.

    What was interrupted goes on under its number; what failed of itself is tried again under a new
    one, but a training that collapsed would collapse again.
    """
    configurations = list(configurations)
    numbers = count(max(replicas, default=-1) + 1)
    wanted = []
    for seed in seeds:
        for configuration in configurations:
            known = replicas_of(configuration, replicas.values()).get(seed)
            if known is not None and known.state in TRAINED:
                continue
            goes_on = known is not None and not known.ended_for_good
            number = known.number if known is not None and goes_on else next(numbers)
            config = {**configuration.dials, "seed": seed}
            wanted.append(Replica(number, configuration.record, config))
    return wanted


def read_replication(run: Run) -> Replication | None:
    """What `replication.json` holds; None where there is none, or not of this version."""
    try:
        document = json.loads((run.folder / FILE).read_text())
        if document.pop("schema") != SCHEMA:
            return None
        document.pop("tied")
        return Replication.model_validate(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def replicated_best(history: History) -> Best | None:
    """Which trial the run's best model is of, by its replication.

    None where nothing was replicated, or the search has found another winner since, whose model
    took its place.
    """
    found, winner = read_replication(history.run), history.winner
    if found is None or winner is None or found.winner != winner.number:
        return None
    return found.best if found.best and found.best.trial in history.records else None


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "seed"}
