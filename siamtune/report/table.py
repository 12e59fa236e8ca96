"""Trials as rows: the same columns, words and numbers wherever trials are shown."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from siamtune.search.records import TrialRecord, best_epoch, front, ranked

if TYPE_CHECKING:  # `siamtune ls` reads no space
    from siamtune.search.dimensions import Dimension
    from siamtune.search.runs import Run
    from siamtune.search.settings import Objective
    from siamtune.search.space import Space

# Every state in the order in which it is counted, and how it looks.
STATES = {
    "running": "cyan",
    "complete": "green",
    "stopped": "yellow",
    "interrupted": "magenta",
    "collapsed": "red",
    "invalid": "red",
    "out_of_memory": "red",
    "failed": "red",
    "lost": "red",
}
# Dials that people look for first; the others follow in the order of the space.
FIRST_DIALS = (
    "model.architecture",
    "loss.name",
    "optim.lr",
    "data.normalization",
    "data.crop_factor",
)
MOST_DIALS = 5
NUMBER_WIDTH = 8  # of a dial's number in three digits: 0.000123, 1.23e-05
GAP = 2
METRICS = ("val/auc", "val/f1")


def metric_columns(objective: "Objective") -> list[str]:
    """The objective, or both, and AUC and F1 whatever the objective is."""
    return list(dict.fromkeys([*(each.metric for each in objective.each), *METRICS]))


def front_numbers(records: Iterable[TrialRecord], objective: "Objective") -> list[int] | None:
    """The trials that no other one beats in both objectives; None where there is one objective."""
    if objective.beside is None:
        return None
    return [
        record.number
        for record in front(records, [(each.metric, each.mode) for each in objective.each])
    ]


def metric_name(metric: str) -> str:
    """`val/auc` as a heading: AUC; `val/tar@far=0.01`: TAR@1%."""
    name = metric.rpartition("/")[2]
    recall, at, far = name.partition("@far=")
    if at:
        return f"{recall.upper()}@{100 * float(far):g}%"
    return {"accuracy": name, "precision@1": "P@1", "images_per_second": "images/s"}.get(
        name, name.upper()
    )


def metric_value(metric: str, value: float) -> str:
    """A metric as a cell shows it: shares with four digits, images a second whole."""
    return f"{value:.0f}" if metric == "images_per_second" else f"{value:.4f}"


def dial_name(dial: str) -> str:
    """A dial as a heading: `optim.lr` is lr, but `loss.name` is loss."""
    section, _, leaf = dial.rpartition(".")
    return section if leaf == "name" else leaf


def dial_columns(dimensions: Sequence["Dimension"], width: float = math.inf) -> list[str]:
    """The dials to show beside the metrics in so many characters: five at most, the first first."""
    by_name = {dimension.name: dimension for dimension in dimensions}
    order = dict.fromkeys([*(name for name in FIRST_DIALS if name in by_name), *by_name])
    chosen: list[str] = []
    for name in order:
        values = [shown(value) for value in getattr(by_name[name], "choices", ())]
        needed = GAP + max(map(len, [dial_name(name), *(values or ["x" * NUMBER_WIDTH])]))
        if needed <= width and len(chosen) < MOST_DIALS:
            chosen.append(name)
            width -= needed
    return chosen


def shown(value: Any) -> str:
    """A dial's value in a cell, as the space file would write it; numbers to three digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    return "null" if value is None else one_line(value)


def plain_table(*headings: str) -> Table:
    """A table without lines, its columns as wide as they need be."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def one_line(text: Any) -> str:
    """What others wrote, without line ends or anything that could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def shortened(content: str, most: int) -> str:
    """At most so many letters, with an ellipsis where some are missing."""
    return content if len(content) <= most else content[: most - 1] + "…"


def measured_on(facts: Mapping[str, Any]) -> str:
    """What a run's numbers are of: `validation people of lfw, identity-holdout, split 5b1e`."""
    known = [str(facts[key]) for key in ("data", "protocol") if facts.get(key)]
    if facts.get("split"):
        known.append(f"split {facts['split']}")
    return f"validation people of {', '.join(known)}"


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def count_states(records: Iterable[TrialRecord]) -> dict[str, int]:
    """How many trials are in each state that occurs."""
    counts: Counter[str] = Counter(record.state for record in records)
    return {state: counts[state] for state in STATES if counts[state]}


def states_text(counts: Mapping[str, int], separator: str = ", ") -> Text:
    """`3 running, 12 complete`, in colours."""
    parts = [
        Text(f"{counts[state]} {state.replace('_', ' ')}", style)
        for state, style in STATES.items()
        if counts.get(state)
    ]
    return Text(separator).join(parts)


def trial_table(
    groups: Iterable[Sequence[TrialRecord]],
    space: "Space",
    width: int,
    *,
    best: int | None = None,
    star: str = "*",
) -> Table:
    """Trials in groups with a blank line between, each with the numbers of its best epoch.

    `width` is that of the terminal; the trial numbered `best` is marked by `star`.
    """
    metrics = metric_columns(space.objective)
    groups = [group for group in groups if group]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    epochs = len(str(total_epochs(space)))
    fixed_columns = {"trial": 6, "state": len("complete"), "epoch": 2 * epochs + 1}
    for heading, least in fixed_columns.items():
        table.add_column(
            heading,
            justify="right" if heading in ("trial", "epoch") else "left",
            min_width=least,
            no_wrap=True,
        )
    for metric in metrics:
        table.add_column(metric_name(metric), justify="right", min_width=6, no_wrap=True)
    used = sum(max(len(name), least) + GAP for name, least in fixed_columns.items())
    used += sum(max(6, len(metric_name(metric))) + GAP for metric in metrics)
    dials = dial_columns(space.dimensions, width - used + GAP)  # no gap after the last
    for dial in dials:
        is_number = not hasattr(_dimension(space, dial), "choices")
        table.add_column(dial_name(dial), justify="right" if is_number else "left", no_wrap=True)

    for group in groups:
        if table.row_count:
            table.add_row()
        for record in group:
            measured = best_epoch(record, space.objective.metric, space.objective.mode) or {}
            mark = f"{star} " if record.number == best else ""
            table.add_row(
                f"{mark}{record.number}",
                Text(record.state.replace("_", " "), STATES[record.state]),
                epoch_text(record, space),
                *(metric_value(m, measured[m]) if m in measured else "" for m in metrics),
                *(shown(record.config[d]) if d in record.config else "-" for d in dials),
                style="bold" if record.number == best else "",
            )
    return table


def epoch_text(record: TrialRecord, space: "Space") -> str:
    """How far a trial has come: `12/30`."""
    return f"{record.epoch}/{total_epochs(space)}"


def total_epochs(space: "Space") -> int:
    from siamtune.config import DEFAULTS

    return int(space.fixed.get("epochs", DEFAULTS["epochs"]))


def _dimension(space: "Space", name: str) -> "Dimension":
    return next(dimension for dimension in space.dimensions if dimension.name == name)


def trial_document(record: TrialRecord, objective: "Objective") -> dict[str, Any]:
    """One trial as JSON holds it."""
    best = best_epoch(record, objective.metric, objective.mode)
    return {
        "trial": record.number,
        "state": record.state,
        "reason": record.reason,
        "epochs": record.epoch,
        "best": dict(best) if best else None,
        "config": dict(record.config),
    }


def result_document(
    run: "Run", records: Mapping[int, TrialRecord], space: "Space"
) -> dict[str, Any]:
    """A whole search as one JSON document: the winner's complete dials, and every trial's own."""
    from siamtune.search.openings import openings_document
    from siamtune.search.replicas import read_replication

    objective, facts = space.objective, run.facts()
    order = ranked(records.values(), objective.metric, objective.mode)
    placed = {record.number for record in order}
    winner = trial_document(order[0], objective) if order else None
    if winner:
        winner["config"] = {**space.fixed, **winner["config"]}
    return {
        "schema": "siamtune.search/1",
        "run": str(run.folder),
        "data": facts.get("data"),
        "protocol": facts.get("protocol"),
        "split": facts.get("split"),
        "objective": {"metric": objective.metric, "mode": objective.mode},
        **({"objectives": [each.metric for each in objective.each]} if objective.beside else {}),
        **({"front": numbers} if (numbers := front_numbers(records.values(), objective)) else {}),
        "states": count_states(records.values()),
        "winner": winner,
        **({"replication": found.document()} if (found := read_replication(run)) else {}),
        **({"test": opened} if (opened := openings_document(run)) else {}),
        "trials": [
            trial_document(record, objective)
            for record in [*order, *(r for r in records.values() if r.number not in placed)]
        ],
    }
