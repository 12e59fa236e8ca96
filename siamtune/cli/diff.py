"""`siamtune diff`: two trials side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from siamtune.search.history import History
    from siamtune.search.records import TrialRecord

# What is compared besides the objective, as far as both trials measured it.
METRICS = ("val/auc", "val/f1", "val/accuracy", "val/eer", "train/loss")


def diff(
    run: options.RunName,
    first: Annotated[int, typer.Argument(metavar="A", help="A trial's number.", min=0)],
    second: Annotated[int, typer.Argument(metavar="B", help="Another's.", min=0)],
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Show which dials of two trials differ, and their best numbers: siamtune diff latest 7 12"""
    from siamtune.search.history import read_history

    history = read_history(run, output)
    pair = history.trial(first), history.trial(second)
    if as_json:
        print(json.dumps(_document(history, *pair), indent=2))
        return

    console = options.table_console()
    dials = _different_dials(history, *pair)
    if dials:
        console.print(_dial_table(history, dials, *pair))
    else:
        console.print("no dial differs")
    console.print()
    console.print(_metric_table(history, *pair))


def _different_dials(
    history: "History", first: "TrialRecord", second: "TrialRecord"
) -> dict[str, tuple[Any, Any]]:
    """Dials with unlike values; one that is not active in a trial has its default there."""
    a, b = history.config(first), history.config(second)
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def _best(history: "History", record: "TrialRecord") -> dict[str, float]:
    from siamtune.search.records import best_epoch

    objective = history.space.objective
    best = best_epoch(record, objective.metric, objective.mode) or {}
    return {
        name: best[name]
        for name in dict.fromkeys([objective.metric, *METRICS, "epoch"])
        if name in best
    }


def _document(history: "History", first: "TrialRecord", second: "TrialRecord") -> dict[str, Any]:
    from siamtune.report.table import trial_document

    best = _best(history, first), _best(history, second)
    return {
        "schema": "siamtune.diff/1",
        "run": str(history.run.folder),
        "trials": [trial_document(r, history.space.objective) for r in (first, second)],
        "dials": {
            name: list(values) for name, values in _different_dials(history, first, second).items()
        },
        "gain": {
            name: best[1][name] - best[0][name]
            for name in best[0]
            if name in best[1] and name != "epoch"
        },
    }


def _dial_table(
    history: "History",
    dials: dict[str, tuple[Any, Any]],
    first: "TrialRecord",
    second: "TrialRecord",
) -> "Table":
    from rich.text import Text

    from siamtune.report.table import shown

    def cell(name: str, value: Any, record: "TrialRecord") -> Text:
        known = name in record.config or name in history.space.fixed
        return Text(shown(value), "" if known else "dim")

    table = _table("dial", first, second)
    for name, (a, b) in dials.items():
        table.add_row(Text(name), cell(name, a, first), cell(name, b, second))
    inactive = any(name not in r.config for name in dials for r in (first, second))
    if inactive:
        table.caption = "a dial that is not active in a trial has its default there"
        table.caption_justify = "left"
    return table


def _metric_table(history: "History", first: "TrialRecord", second: "TrialRecord") -> "Table":
    from rich.text import Text

    from siamtune.report.table import STATES, epoch_text, metric_name

    table = _table("best epoch of each", first, second, "B - A")
    for column in table.columns[1:]:
        column.justify = "right"
    states = (Text(r.state.replace("_", " "), STATES[r.state]) for r in (first, second))
    table.add_row("state", *states, "")
    table.add_row("trained", *(epoch_text(record, history.space) for record in (first, second)), "")
    a, b = _best(history, first), _best(history, second)
    for name in dict.fromkeys([*a, *b]):
        digits = 0 if name == "epoch" else 4
        heading = {"epoch": "at epoch", "train/loss": "training loss"}.get(name)
        table.add_row(
            heading or metric_name(name),
            *(f"{best[name]:.{digits}f}" if name in best else "" for best in (a, b)),
            f"{b[name] - a[name]:+.4f}" if name != "epoch" and name in a and name in b else "",
        )
    return table


def _table(heading: str, first: "TrialRecord", second: "TrialRecord", *more: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    for name in (heading, f"A: trial {first.number}", f"B: trial {second.number}", *more):
        table.add_column(name, no_wrap=True)
    return table
