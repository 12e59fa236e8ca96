"""What a search will cost, from what its trials cost: who is stopped when, and how long it takes.

A trial's worth is drawn at random and holds from its first epoch to its last. So the first third
of a search promises as much as its last, and nothing is known of which architecture wins: a sampler
that learns lets more trials go on, good defaults that run first let fewer.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapreplace
from random import Random

from siamtune.search.settings import StudySettings

MEDIAN_STARTUP = 5  # trials that MedianPruner lets run first, as `study._pruner` asks it to


@dataclass(frozen=True)
class TrialCost:
    """Seconds: of an epoch, of what comes before the first, and of what trials share."""

    epoch_s: float
    start_s: float = 0.0
    shared_s: tuple[tuple[str, float], ...] = ()  # by name; paid by the first trial that needs it


@dataclass(frozen=True)
class Course:
    """One search as it might go."""

    wall_s: float
    busy_s: float  # of all slots together
    epochs: int
    ended_at: Counter[int]  # epochs of a trial -> trials


def decisions(study: StudySettings, epochs: int) -> list[int]:
    """The epochs after which a trial may be stopped."""
    scheduler = study.scheduler
    if scheduler.name == "median":
        return [scheduler.min_epochs] if scheduler.min_epochs < epochs else []
    rungs = []
    at = scheduler.min_epochs
    while scheduler.name == "asha" and at < epochs:
        rungs.append(at)
        at *= scheduler.eta
    return rungs


def imagine(
    study: StudySettings,
    epochs: int,
    trials: int,
    slots: int,
    cost: Callable[[int, Random], TrialCost],
    seed: int,
    ready_s: float = 0.0,
) -> Course:
    """One search of `trials` trials of up to `epochs` epochs, so many at once.

    Args:
        cost: of the trial of this number, with what is random about it.
        ready_s: seconds before the first trial starts.
    """
    random = Random(seed)
    stops = decisions(study, epochs)
    reached: dict[int, list[float]] = {epoch: [] for epoch in stops}
    free = [ready_s] * slots
    prepared: set[str] = set()
    ended_at: Counter[int] = Counter()
    busy_s = 0.0
    for number in range(trials):
        trial = cost(number, random)
        worth = random.random()
        last = next(
            (epoch for epoch in stops if not _goes_on(study, worth, reached[epoch])), epochs
        )
        ended_at[last] += 1
        seconds = trial.start_s + trial.epoch_s * last
        for name, once_s in trial.shared_s:
            seconds += 0.0 if name in prepared else once_s
            prepared.add(name)
        busy_s += seconds
        heapreplace(free, free[0] + seconds)
    return Course(max(free), busy_s, sum(e * n for e, n in ended_at.items()), ended_at)


def _goes_on(study: StudySettings, worth: float, reached: list[float]) -> bool:
    """Whether the scheduler lets a trial go on; notes what it was compared with (sorted)."""
    if study.scheduler.name == "median":  # against those that were not stopped
        enough = len(reached) >= MEDIAN_STARTUP
        goes_on = not enough or bisect_left(reached, worth) >= len(reached) / 2
        if goes_on:
            insort(reached, worth)
        return goes_on
    insort(reached, worth)
    better = len(reached) - bisect_left(reached, worth) - 1
    return better < max(1, len(reached) // study.scheduler.eta)
