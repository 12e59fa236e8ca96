"""What a search says once it is looked at as a whole: what mattered, what to widen, what it cost.

Everything is computed from the records and the space; a finding that rests on too little says so.
"""

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

from siamtune.report.table import STATES, total_epochs
from siamtune.search.dials import dial_schema, dial_value
from siamtune.search.dimensions import (
    ChoiceDimension,
    Dimension,
    FloatDimension,
    IntDimension,
    holds,
)
from siamtune.search.history import History
from siamtune.search.records import TrialRecord, best_epoch
from siamtune.search.suggest import distribution

# More trials than this make a page that no browser likes; it is told what was left out.
MOST_DRAWN = 1000
# PED-ANOVA compares the best trials with all; Optuna's advice is five or more among the best.
LEAST_FOR_IMPORTANCE = 20
LEAST_AMONG_BEST = 5
# With few trials PED-ANOVA finds importance in noise: what counts is above that of all of so many
# shufflings of the values. Of dials that do nothing one in 21 is, too.
SHUFFLES = 20
# Of the complete trials, the best that are looked at for bounds, and how near a bound is "on" it.
BEST_SHARE, LEAST_FOR_BOUNDS, BEST_MOST = 0.25, 4, 10
NEAR_BOUND = 0.1
MOST_ON_BOUND = 0.6
# So rarely as many would lie there if they lay anywhere: of four sizes each end has a quarter.
LUCK = 0.05
FINE_GRID = 1000  # a grid of more steps is as good as none
# A range is cut into so many parts when it is asked what was never tried to the end.
PARTS = 4
LEAST_FOR_PARTS = 8
WIDEN_BY = 1 / 3  # of the range


def drawn_trials(history: History) -> dict[int, TrialRecord]:
    """The trials that a report draws and lists: all, or of very many the best and some others.

    Half of the room is for the best; the rest is spread evenly over those that are left.
    """
    order = list(history.ranked)
    placed = {record.number for record in order}
    order += [record for number, record in history.records.items() if number not in placed]
    if len(order) > MOST_DRAWN:
        best, others = order[: MOST_DRAWN // 2], order[MOST_DRAWN // 2 :]
        room = MOST_DRAWN - len(best)
        order = best + [others[at * len(others) // room] for at in range(room)]
    return {record.number: record for record in order}


def whose(history: History) -> str:
    """`each trial`, or of very many: which are drawn and listed."""
    there = len(history.records)
    if there <= MOST_DRAWN:
        return "each trial"
    return f"{MOST_DRAWN:,} of {there:,} trials (the best, and of the others some)"


@dataclass(frozen=True)
class Importance:
    """How much each dial sets the best trials apart (they sum to 1), or why that is not known."""

    shares: Mapping[str, float]  # largest first
    beyond_chance: frozenset[str]  # dials with more importance than shuffled values ever gave
    trials: int
    epoch: int  # all trials are compared after so many epochs
    problem: str = ""


def importance(history: History) -> Importance:
    """Importance of each searched dial by conditional PED-ANOVA (arXiv:2304.10255, 2601.20800).

    Trials that were stopped count too: those that survived are few and alike. All are compared at
    the last epoch that half of them reached, each by its best value up to there.
    """
    objective = history.space.objective
    epoch, measured = _comparable(history)
    if len(measured) < LEAST_FOR_IMPORTANCE:
        return Importance(
            {}, frozenset(), len(measured), epoch,
            f"{LEAST_FOR_IMPORTANCE} measured trials or more are needed to say which dials matter, "
            f"and there are {len(measured)}",
        )  # fmt: skip
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    searched = {d.name: d for d in history.space.dimensions}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evaluator = PedAnovaImportanceEvaluator(
        target_quantile=max(0.1, LEAST_AMONG_BEST / len(measured))
    )

    # The evaluator takes the lowest values for the best.
    values = [value if objective.mode == "min" else -value for _, value in measured]
    study = optuna.create_study()
    for (record, _), value in zip(measured, values, strict=True):
        known = [name for name, dimension in searched.items() if has(record, dimension)]
        study.add_trial(
            optuna.trial.create_trial(
                params={name: record.config[name] for name in known},
                distributions={name: distribution(searched[name]) for name in known},
                value=value,
            )
        )

    def raw(of: Sequence[float]) -> dict[str, float]:
        return get_param_importances(
            study, evaluator=evaluator, target=lambda trial: of[trial.number], normalize=False
        )

    random = Random(0)
    with warnings.catch_warnings():
        # That low values count as the best, which is meant here; and that all values are equal,
        # which sets no dial apart.
        warnings.simplefilter("ignore")
        found = raw(values)
        shuffled = [raw(random.sample(values, len(values))) for _ in range(SHUFFLES)]
    total = sum(found.values()) or 1.0
    beyond = {
        name for name, value in found.items() if all(other[name] < value for other in shuffled)
    }
    order = sorted(found, key=lambda name: -found[name])
    return Importance(
        {name: found[name] / total for name in order}, frozenset(beyond), len(measured), epoch
    )


def _comparable(history: History) -> tuple[int, list[tuple[TrialRecord, float]]]:
    """The last epoch that half of the trials reached, and what each had measured by then."""
    metric, better = history.space.objective.metric, best_of(history.space.objective.mode)
    began = sum(any(metric in e for e in r.epochs) for r in history.records.values())
    for epoch in range(total_epochs(history.space), 0, -1):
        measured = [
            (record, better(values))
            for record in history.records.values()
            if record.epoch >= epoch and (values := _values(record, metric, epoch))
        ]
        if len(measured) >= max(LEAST_FOR_IMPORTANCE, began / 2):
            break
    return epoch, measured


def _values(record: TrialRecord, metric: str, until: int) -> list[float]:
    return [e[metric] for e in record.epochs if e["epoch"] <= until and metric in e]


def best_of(mode: str) -> Any:
    return max if mode == "max" else min


@dataclass(frozen=True)
class OnBound:
    """A numeric dial whose best trials sit at an end of its range."""

    name: str
    end: str  # upper or lower
    bound: float
    trials: int  # of the best, so many lie there
    of: int
    wider: Dimension | None  # a range to try next; None where the dial allows nothing beyond


def on_bounds(history: History) -> list[OnBound]:
    """Dials with most of the best complete trials within a tenth of the range of one bound, and
    more than would be there by luck."""
    from scipy.stats import binom

    complete = [record for record in history.ranked if record.state == "complete"]
    share = math.ceil(len(complete) * BEST_SHARE)
    best = complete[: min(BEST_MOST, max(LEAST_FOR_BOUNDS, share))]
    found = []
    for dimension in history.space.dimensions:
        if isinstance(dimension, ChoiceDimension) or dimension.low == dimension.high:
            continue
        places = [place(dimension, r.config[dimension.name]) for r in best if has(r, dimension)]
        if len(places) < LEAST_FOR_BOUNDS:
            continue
        for end, bound, count in (
            ("lower", dimension.low, sum(p <= NEAR_BOUND for p in places)),
            ("upper", dimension.high, sum(p >= 1 - NEAR_BOUND for p in places)),
        ):
            by_luck = binom.sf(count - 1, len(places), _share_at(dimension, end))
            if count >= MOST_ON_BOUND * len(places) and by_luck < LUCK:
                wider = _wider(dimension, end)
                found.append(OnBound(dimension.name, end, bound, count, len(places), wider))
    return found


def place(dimension: FloatDimension | IntDimension, value: float) -> float:
    """Where a value lies in a range, 0 at its lower end and 1 at its upper."""
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return 0.5 if high == low else (value - low) / (high - low)


def has(record: TrialRecord, dimension: Dimension) -> bool:
    """Whether a trial was suggested a value of a dial that the space, as it is now, still holds."""
    return dimension.name in record.config and holds(dimension, record.config[dimension.name])


def _share_at(dimension: FloatDimension | IntDimension, end: str) -> float:
    """The share of a range that counts as its end; of a grid, what its values there are drawn for.

    A value of a grid is drawn for all that is nearer to it than to its neighbours.
    """
    low, high, step = float(dimension.low), float(dimension.high), float(dimension.step or 0)
    if not step or (high - low) / step > FINE_GRID:
        return NEAR_BOUND
    values = [min(low + k * step, high) for k in range(round((high - low) / step) + 1)]
    places = [place(dimension, value) for value in values]
    near = [p <= NEAR_BOUND if end == "lower" else p >= 1 - NEAR_BOUND for p in places]
    scale = math.log if dimension.log else float
    edges = [scale(values[0] - step / 2), *(scale(value + step / 2) for value in values)]
    drawn = [above - below for below, above in pairwise(edges)]
    return sum(room for room, at in zip(drawn, near, strict=True) if at) / sum(drawn)


def _wider(dimension: FloatDimension | IntDimension, end: str) -> Dimension | None:
    """The range a third longer at one end, or as far as the dial allows; None if not at all."""
    low, high = float(dimension.low), float(dimension.high)
    bound, way = (high, 1) if end == "upper" else (low, -1)
    limit, excluded = _limit(dimension, end)
    if dimension.log:
        beyond = bound * (high / low) ** (way * WIDEN_BY)
    else:
        beyond = bound + way * (high - low) * WIDEN_BY
    if dimension.step is not None:
        step = float(dimension.step)
        most = math.inf
        if math.isfinite(limit):
            room = abs(limit - bound) / step
            most = math.ceil(room - 1e-9) - 1 if excluded else math.floor(room + 1e-9)
        beyond = bound + way * min(math.ceil(abs(beyond - bound) / step - 1e-9), most) * step
        beyond = float(f"{beyond:.6g}")
    elif way * (beyond - limit) >= 0:
        beyond = float(f"{(bound + limit) / 2:.6g}") if excluded else limit
    else:
        beyond = _rounded_beyond(beyond, bound, way)
    if way * (beyond - bound) <= 0:
        return None
    value = round(beyond) if isinstance(dimension, IntDimension) else beyond
    change: dict[str, Any] = {
        "high" if end == "upper" else "low": dial_value(dimension.name, value)
    }
    return replace(dimension, **change)


def _limit(dimension: FloatDimension | IntDimension, end: str) -> tuple[float, bool]:
    """How far a dial may go in one direction, and whether not quite so far."""
    schema = dial_schema(dimension.name)
    number = next(b for b in schema.get("anyOf", [schema]) if b["type"] in ("number", "integer"))
    inclusive, exclusive, none = (
        ("maximum", "exclusiveMaximum", math.inf)
        if end == "upper"
        else ("minimum", "exclusiveMinimum", -math.inf)
    )
    limit, excluded = float(number.get(inclusive, none)), False
    if exclusive in number:
        limit, excluded = float(number[exclusive]), True
    if dimension.log and end == "lower" and limit <= 0:  # a logarithm begins above 0
        return 0.0, True
    return limit, excluded


def _rounded_beyond(value: float, bound: float, way: int) -> float:
    """A value in as few digits, two or more, as leave it beyond a bound."""
    shorter = (float(f"{value:.{digits}g}") for digits in range(2, 7))
    return next((each for each in shorter if way * (each - bound) > 0), value)


@dataclass(frozen=True)
class Untried:
    """Values of a dial with which no trial was trained to its last epoch."""

    name: str
    values: tuple[str, ...]
    begun: int  # trials that had them and were not complete


def untried(history: History) -> list[Untried]:
    """Choices, and quarters of ranges, that no complete trial had; nothing before one is complete.

    A range is judged only when enough complete trials could have fallen into every quarter.
    """
    complete = [record for record in history.records.values() if record.state == "complete"]
    if not complete:
        return []
    found = []
    for dimension in history.space.dimensions:
        ended = [record for record in complete if has(record, dimension)]
        of_them = {record.number for record in ended}
        begun = [
            record
            for number, record in history.records.items()
            if number not in of_them and has(record, dimension)
        ]
        if isinstance(dimension, ChoiceDimension):
            missing: Collection[Any] = [
                value
                for value in dimension.choices
                if all(record.config[dimension.name] != value for record in ended)
            ]
            if missing:
                early = sum(record.config[dimension.name] in missing for record in begun)
                found.append(Untried(dimension.name, tuple(map(word, missing)), early))
        elif len(ended) >= LEAST_FOR_PARTS and dimension.low < dimension.high:
            parts = {_part(dimension, r.config[dimension.name]) for r in ended}
            empty = [part for part in range(PARTS) if part not in parts and _holds(dimension, part)]
            if empty:
                early = sum(_part(dimension, r.config[dimension.name]) in empty for r in begun)
                ranges = tuple(_range_text(dimension, run) for run in _runs(empty))
                found.append(Untried(dimension.name, ranges, early))
    return found


def word(value: Any) -> str:
    """A choice as a space file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _part(dimension: FloatDimension | IntDimension, value: float) -> int:
    return min(PARTS - 1, int(place(dimension, value) * PARTS))


def _holds(dimension: FloatDimension | IntDimension, part: int) -> bool:
    """Whether any value on the dimension's grid lies in a part; four sizes are four values."""
    if dimension.step is None:
        return True
    steps = round((dimension.high - dimension.low) / dimension.step)
    values = (dimension.low + k * dimension.step for k in range(steps + 1))
    return any(_part(dimension, min(value, dimension.high)) == part for value in values)


def _runs(parts: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring parts together: [0, 1, 3] becomes (0, 1), (3, 3)."""
    runs: list[tuple[int, int]] = []
    for part in parts:
        if runs and runs[-1][1] == part - 1:
            runs[-1] = (runs[-1][0], part)
        else:
            runs.append((part, part))
    return runs


def _range_text(dimension: FloatDimension | IntDimension, run: tuple[int, int]) -> str:
    low, high = (_value(dimension, share) for share in (run[0] / PARTS, (run[1] + 1) / PARTS))
    return f"{low:.3g} to {high:.3g}"


def _value(dimension: FloatDimension | IntDimension, share: float) -> float:
    low, high = float(dimension.low), float(dimension.high)
    return low * (high / low) ** share if dimension.log else low + share * (high - low)


@dataclass(frozen=True)
class Cost:
    """What the trials of one state took."""

    state: str
    trials: int
    epochs: int
    training_s: float


def costs(records: Iterable[TrialRecord]) -> list[Cost]:
    """Epochs and seconds of training by state, in the order of the states."""
    grouped: dict[str, list[TrialRecord]] = {state: [] for state in STATES}
    for record in records:
        grouped[record.state].append(record)
    return [
        Cost(state, len(group), sum(r.epoch for r in group), sum(r.training_s for r in group))
        for state, group in grouped.items()
        if group
    ]


@dataclass(frozen=True)
class Failure:
    """Trials that ended without being of use, for one reason."""

    state: str
    reason: str
    trials: tuple[int, ...]


def failures(records: Iterable[TrialRecord]) -> list[Failure]:
    """Trials that are neither complete, stopped, running nor to be resumed, most frequent first."""
    of_use = ("complete", "stopped", "running", "interrupted")
    grouped: dict[tuple[str, str], list[int]] = {}
    for record in records:
        if record.state not in of_use:
            grouped.setdefault((record.state, record.reason or ""), []).append(record.number)
    found = [Failure(state, why, tuple(sorted(t))) for (state, why), t in grouped.items()]
    return sorted(found, key=lambda failure: (-len(failure.trials), failure.trials))


@dataclass(frozen=True)
class Fields:
    """The best objective by two dials: values of each, and (row, column) -> (best, trials)."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    best: Mapping[tuple[int, int], tuple[float, int]]


MOST_COLUMNS = 14  # more distinct values of a range are put together


def fields(history: History, row: str, column: str) -> Fields | None:
    """The best objective for each pair of a choice and a part of a range; None if not searched."""
    by_name = {dimension.name: dimension for dimension in history.space.dimensions}
    rows, columns = by_name.get(row), by_name.get(column)
    if not isinstance(rows, ChoiceDimension) or columns is None:
        return None
    if isinstance(columns, ChoiceDimension):
        return None
    steps = round((columns.high - columns.low) / columns.step) if columns.step else MOST_COLUMNS
    many = steps + 1 > MOST_COLUMNS
    edges = [_value(columns, part / PARTS / 2) for part in range(2 * PARTS + 1)]
    names = (
        tuple(f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges))
        if many
        else tuple(f"{columns.low + k * (columns.step or 0):.4g}" for k in range(steps + 1))
    )
    better = best_of(history.space.objective.mode)
    objective = history.space.objective
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for record in history.ranked:
        if not has(record, rows) or not has(record, columns):
            continue
        value = record.config[column]
        at = (
            min(len(names) - 1, int(place(columns, value) * len(names)))
            if many
            else round((value - columns.low) / (columns.step or 1))
        )
        key = (rows.choices.index(record.config[row]), at)
        measured = best_epoch(record, objective.metric, objective.mode)
        assert measured is not None  # ranked trials have measured
        before, trials = best.get(key, (measured[objective.metric], 0))
        best[key] = (better(before, measured[objective.metric]), trials + 1)
    return Fields(tuple(map(word, rows.choices)), names, best) if best else None
