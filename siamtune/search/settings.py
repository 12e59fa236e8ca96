"""What a space says besides its dials: the objective, the number of trials, who proposes and stops.

objective: {metric: val/auc, mode: max}
study: {trials: 64, scheduler: {asha: {min_epochs: 2, eta: 3}}, sampler: {tpe: {}}, seed: 0}
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from siamtune.search.located import Fault, Located, did_you_mean, read_entries, shown

# Each metric with its better direction.
METRICS = {
    "val/auc": "max",
    "val/f1": "max",
    "val/accuracy": "max",
    "val/eer": "min",
    "val/tar@far=0.01": "max",
    "val/tar@far=0.001": "max",
    "val/precision@1": "max",
    "val/map@r": "max",
    "images_per_second": "max",
}
SCHEDULERS = {"asha": ("min_epochs", "eta"), "median": ("min_epochs",), "none": ()}
SAMPLERS = ("tpe", "random", "qmc")
MAX_SEED = 2**32 - 1  # NumPy's


@dataclass(frozen=True)
class Objective:
    """What is optimised; `beside` is the second of two, none of which is given up for the other.

    Tables rank by the first; the two together give a front of trials that no other one beats in
    both.
    """

    metric: str = "val/auc"
    mode: str = "max"
    beside: "Objective | None" = None

    @property
    def each(self) -> "tuple[Objective, ...]":
        """The one objective, or the two."""
        return (self,) if self.beside is None else (self, self.beside)


@dataclass(frozen=True)
class Scheduler:
    """Who stops trials: after `min_epochs` at the earliest; asha keeps one of `eta` a rung."""

    name: str = "asha"
    min_epochs: int = 1
    eta: int = 3


@dataclass(frozen=True)
class StudySettings:
    """How many trials are proposed and by whom; `seed` is the sampler's."""

    trials: int = 64
    scheduler: Scheduler = Scheduler()
    sampler: str = "tpe"
    seed: int = 0


def read_objective(located: Located, faults: list[Fault]) -> Objective:
    """Read `objective`; a mode left out is the metric's own; a list names two metrics."""
    if isinstance(located.value, tuple):
        return _read_two(located, located.value, faults)
    entries = read_entries(located, "objective", ("metric", "mode"), faults)
    metric = entries.get("metric", Located(Objective.metric, located.line))
    if not isinstance(metric.value, str) or metric.value not in METRICS:
        rule = f"objective.metric must be one of {', '.join(METRICS)}, but got {shown(metric)}"
        faults.append(Fault(metric.line, rule + did_you_mean(metric.value, METRICS)))
        return Objective()
    better = METRICS[metric.value]
    mode = entries.get("mode", Located(better, located.line))
    if mode.value != better:
        rule = f"objective.mode must be {better} for {metric.value}, but got {shown(mode)}"
        faults.append(Fault(mode.line, f"{rule}; write {better}"))
    return Objective(metric.value, better)


def objective_spec(objective: Objective) -> Any:
    """The objective as a space file writes it."""
    if objective.beside is None:
        return {"metric": objective.metric, "mode": objective.mode}
    return [objective.metric, objective.beside.metric]


def _read_two(located: Located, metrics: tuple[Located, ...], faults: list[Fault]) -> Objective:
    if len(metrics) != 2 or metrics[0].value == metrics[1].value:
        rule = "objective must be like {metric: val/auc} or a list of two different metrics"
        faults.append(Fault(located.line, f"{rule}, but got {shown(located)}"))
        return Objective()
    first, second = (
        read_objective(Located({"metric": metric}, metric.line), faults) for metric in metrics
    )
    return replace(first, beside=second)


def read_study(located: Located, epochs: int, faults: list[Fault]) -> StudySettings:
    """Read `study`; `epochs` is the length of a trial, which the scheduler must not outlast."""
    keys = ("trials", "scheduler", "sampler", "seed")
    entries = read_entries(located, "study", keys, faults)
    scheduler = StudySettings.scheduler
    if "scheduler" in entries:
        scheduler = _read_scheduler(entries["scheduler"], epochs, faults)
    sampler = StudySettings.sampler
    if "sampler" in entries:
        sampler, options = _read_named(entries["sampler"], "study.sampler", SAMPLERS, faults)
        read_entries(options, f"study.sampler.{sampler}", (), faults)
    return StudySettings(
        trials=_read_whole(entries, "study", "trials", 1, None, StudySettings.trials, faults),
        scheduler=scheduler,
        sampler=sampler,
        seed=_read_whole(entries, "study", "seed", 0, MAX_SEED, StudySettings.seed, faults),
    )


def study_spec(study: StudySettings) -> dict[str, Any]:
    """The settings as a space file writes them."""
    scheduler = study.scheduler
    options = {key: getattr(scheduler, key) for key in SCHEDULERS[scheduler.name]}
    return {
        "trials": study.trials,
        "scheduler": {scheduler.name: options},
        "sampler": {study.sampler: {}},
        "seed": study.seed,
    }


def _read_scheduler(located: Located, epochs: int, faults: list[Fault]) -> Scheduler:
    name, options = _read_named(located, "study.scheduler", SCHEDULERS, faults)
    what = f"study.scheduler.{name}"
    entries = read_entries(options, what, SCHEDULERS[name], faults)
    scheduler = Scheduler(
        name,
        _read_whole(entries, what, "min_epochs", 1, None, Scheduler.min_epochs, faults),
        _read_whole(entries, what, "eta", 2, None, Scheduler.eta, faults),
    )
    if scheduler.min_epochs > epochs:
        line = entries["min_epochs"].line
        rule = f"{what}.min_epochs must be at most epochs, which is {epochs}"
        faults.append(Fault(line, f"{rule}, but got {scheduler.min_epochs}; lower it"))
    return scheduler


def _read_named(
    located: Located, what: str, known: Collection[str], faults: list[Fault]
) -> tuple[str, Located]:
    """`asha` or `{asha: options}`: the name and its options, empty where there are none."""
    value = located.value
    default = next(iter(known))
    nothing = Located({}, located.line)
    if isinstance(value, dict) and len(value) == 1:
        name, options = next(iter(value.items()))
        options = nothing if options.value is None else options
    else:
        name, options = value, nothing
    if not isinstance(name, str) or name not in known:
        rule = f"{what} must be one of {', '.join(known)}, but got {shown(name)}"
        faults.append(Fault(located.line, rule + did_you_mean(name, known)))
        return default, nothing
    return name, options


def _read_whole(
    entries: dict[str, Located],
    what: str,
    key: str,
    low: int,
    high: int | None,
    default: int,
    faults: list[Fault],
) -> int:
    if key not in entries:
        return default
    value = entries[key].value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and low <= value and (high is None or value <= high):
        return int(value)
    limits = f"{low} or more" if high is None else f"{low} to {high}"
    rule = f"{what}.{key} must be a whole number, {limits}, but got {shown(entries[key])}"
    faults.append(Fault(entries[key].line, rule))
    return default
