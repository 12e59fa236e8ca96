"""`siamtune show`: what one trial was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from siamtune.search.history import History
    from siamtune.search.records import TrialRecord

EPOCHS_SHOWN = 12
ERROR_LINES = 12  # the end of a traceback: where it happened and what it was
ANSWERED = ("auc", "f1", "accuracy", "eer")  # of the test pairs of an evaluation's fold
EPOCH_COLUMNS = ("train/loss", "val/auc", "val/f1", "val/accuracy", "val/eer", "lr", "seconds")


def show(
    run: options.RunName,
    trial: Annotated[
        int, typer.Argument(help="The trial's number.", min=0, autocompletion=complete.trials)
    ],
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Show what a trial was, measured and left behind: siamtune show latest 7"""
    from siamtune.report.table import measured_on, metric_name
    from siamtune.search.folds import by_method, read_folds
    from siamtune.search.history import read_history

    history = read_history(run, output)
    record = history.trial(trial)
    folder = history.run.folder / "trials" / f"{trial:04d}"
    checkpoints = sorted(folder.glob("*.safetensors"))
    answers: list[dict[str, Any]] = []
    if history.facts.get("kind") == "evaluate":
        fold = history.run.fold_model(trial)
        checkpoints += [fold] if fold.is_file() else []
        answers = [line for line in read_folds(history.run).values() if line["fold"] == trial]
    error = _last_lines(folder / "error.txt")
    if as_json:
        document = _document(history, record, checkpoints, error)
        print(json.dumps(document | ({"answers": answers} if answers else {}), indent=2))
        return

    console = options.table_console()
    console.print(_title(history, record))
    if record.reason:
        console.print(_plain(f"reason: {record.reason}"))
    for reason in record.retries:
        console.print(_plain(f"run again: {reason}"))
    if record.facts:
        console.print(_plain(f"measured on {measured_on(record.facts)}"))
    console.print()
    console.print(_dials(history, record))
    if record.epochs:
        console.print()
        console.print(_epochs(history, record))
    console.print()
    for name, lines in by_method(answers).items():
        told = (f"{metric_name(each)} {lines[0]['metrics'][each]:.4f}" for each in ANSWERED)
        console.print(_plain(f"its {lines[0]['pairs']:,} test pairs by {name}: {', '.join(told)}"))
    for path in checkpoints:
        console.print(_plain(f"checkpoint: {path}"))
    if not checkpoints:
        console.print(_plain("no checkpoint is kept; those of the best trials are"))
    if error:
        console.print(_plain(f"{folder / 'error.txt'} ends:"))
        for line in error:
            console.print(_plain(f"  {line}", keep_spaces=True))


def _document(
    history: "History", record: "TrialRecord", checkpoints: list[Path], error: list[str]
) -> dict[str, Any]:
    from siamtune.report.table import trial_document

    return {
        "schema": "siamtune.show/1",
        "run": str(history.run.folder),
        **trial_document(record, history.space.objective),
        "facts": dict(record.facts),
        "config": history.config(record),
        "searched": sorted(record.config),
        "epochs": [dict(epoch) for epoch in record.epochs],
        "checkpoints": [str(path) for path in checkpoints],
        "retries": list(record.retries),
        "error": error,
    }


def _title(history: "History", record: "TrialRecord") -> "Text":
    from rich.text import Text

    from siamtune.report.table import STATES, duration, metric_columns, metric_name, total_epochs
    from siamtune.search.records import best_epoch

    objective = history.space.objective
    noun = "fold" if history.facts.get("kind") == "evaluate" else "trial"
    title = Text(f"{noun} {record.number} of {history.run.name}: ", "bold")
    title.append(record.state.replace("_", " "), STATES[record.state])
    if record.epochs:
        title.append(f" at epoch {record.epoch} of {total_epochs(history.space)}", "not bold")
        title.append(f", {duration(record.training_s)} of training", "not bold")
    best = best_epoch(record, objective.metric, objective.mode)
    if best:
        numbers = (
            f"{metric_name(metric)} {best[metric]:.4f}"
            for metric in metric_columns(objective)
            if metric in best
        )
        title.append(f"\nbest epoch {best['epoch']:.0f}: {', '.join(numbers)}", "not bold")
    return title


def _dials(history: "History", record: "TrialRecord") -> "Table":
    """Dials that were searched or fixed, each beside its default; the others have theirs."""
    from rich.text import Text

    from siamtune.config import DEFAULTS
    from siamtune.report.table import plain_table, shown

    table = plain_table("dial", "value", "default", "")
    searched = {dimension.name for dimension in history.space.dimensions}
    named = {**history.space.fixed, **record.config}
    for name in sorted(named, key=lambda name: (name not in searched, list(DEFAULTS).index(name))):
        is_default = named[name] == DEFAULTS[name]
        table.add_row(
            Text(name),
            Text(shown(named[name]), "" if is_default else "bold"),
            Text("same" if is_default else shown(DEFAULTS[name]), "dim"),
            Text("searched" if name in searched else "fixed", "dim"),
        )
    inactive = [name for name in searched if name not in named]
    for name in sorted(inactive):
        table.add_row(Text(name), Text("-", "dim"), "", Text("not active in this trial", "dim"))
    others = len(DEFAULTS) - len(named) - len(inactive)
    if others:
        table.caption = f"{others} other dials have their defaults"
        table.caption_justify = "left"
    return table


def _epochs(history: "History", record: "TrialRecord") -> "Table":
    from siamtune.report.table import metric_name, plain_table
    from siamtune.search.records import best_epoch

    objective = history.space.objective
    best = best_epoch(record, objective.metric, objective.mode)
    columns = [
        name
        for name in dict.fromkeys([*EPOCH_COLUMNS, objective.metric])
        if any(name in epoch for epoch in record.epochs)
    ]
    headings = {"train/loss": "loss", "lr": "lr", "seconds": "seconds"}
    table = plain_table("epoch", *(headings.get(name) or metric_name(name) for name in columns))
    for column in table.columns:
        column.justify = "right"
    late = record.epochs[-EPOCHS_SHOWN:]
    shown_epochs = [epoch for epoch in record.epochs if epoch in late or epoch is best]
    for epoch in shown_epochs:
        table.add_row(
            f"{epoch['epoch']:.0f}",
            *(_number(name, epoch) for name in columns),
            style="bold" if epoch is best else "",
        )
    if len(shown_epochs) < len(record.epochs):
        hidden = len(record.epochs) - len(shown_epochs)
        table.caption = f"{hidden} earlier epochs: --json"
        table.caption_justify = "left"
    return table


def _number(name: str, epoch: Mapping[str, float]) -> str:
    if name not in epoch:
        return ""
    if name == "seconds":
        return f"{epoch[name]:.1f}"
    return f"{epoch[name]:.3g}" if name == "lr" else f"{epoch[name]:.4f}"


def _plain(text: str, keep_spaces: bool = False) -> "Text":
    from rich.text import Text

    from siamtune.report.table import one_line

    return Text(one_line(text) if keep_spaces else " ".join(one_line(text).split()))


def _last_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return text.rstrip().splitlines()[-ERROR_LINES:]
