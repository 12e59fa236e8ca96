"""`siamtune ls`: the runs in a folder."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamtune.cli import options
from siamtune.errors import InvalidInput
from siamtune.search.runs import FIRST_SEARCH

if TYPE_CHECKING:
    from rich.table import Table

    from siamtune.search.runs import Run


def ls(
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """List runs with their best AUC and F1: siamtune ls --output runs

    Of a search and a training they are the best trial's, on validation people; of an evaluation the
    mean over its folds, on the pairs that its protocol tests, as it was asked first.
    """
    documents = list(_documents(output))
    if as_json:
        print(json.dumps({"schema": "siamtune.ls/1", "runs": documents}, indent=2))
        return
    if not documents:
        print(f"there is no run in {output}; start one with: {FIRST_SEARCH}", file=sys.stderr)
        return
    options.table_console().print(_table(documents))


def _documents(output: Path) -> Iterator[dict[str, Any]]:
    """Every readable run, newest last; what is wrong with the others goes to stderr."""
    from siamtune.search.runs import list_runs

    documents = []
    for run in list_runs(output):
        try:
            documents.append(_document(run))
        except InvalidInput as error:
            print(f"siamtune: {error}", file=sys.stderr)
    yield from sorted(documents, key=lambda document: str(document["created"]))


def _document(run: "Run") -> dict[str, Any]:
    from siamtune.report.table import count_states
    from siamtune.search.folds import by_method, over_folds, read_folds
    from siamtune.search.records import best_epoch, ranked, read_records

    facts = run.facts()
    metric, mode = run.objective()
    records = read_records(run.trials_path)
    is_evaluation = facts.get("kind") == "evaluate"
    # The folds of an evaluation have other people each: none is the best.
    order = [] if is_evaluation else ranked(records.values(), metric, mode)
    document = {
        "name": run.name,
        "folder": run.place,
        "kind": facts.get("kind"),
        "data": facts.get("data"),
        "protocol": facts.get("protocol"),
        "created": facts.get("created"),
        "objective": {"metric": metric, "mode": mode},
        "trials": facts.get("trials"),
        "states": count_states(records.values()),
        "best_trial": order[0].number if order else None,
        "best": dict(best_epoch(order[0], metric, mode) or {}) if order else None,
    }
    if is_evaluation:
        document["methods"] = [
            {
                "method": method,
                "folds": len(lines),
                **{name: (over_folds(lines, name) or [None])[0] for name in ("auc", "f1")},
            }
            for method, lines in by_method(read_folds(run).values()).items()
        ]
    return document


def _table(documents: list[dict[str, Any]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from siamtune.report.table import one_line, states_text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    table.add_column("data", overflow="fold")
    table.add_column("protocol", overflow="fold")
    for heading in ("AUC", "F1"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("trials", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("created", no_wrap=True)
    for document in documents:
        best = document["best"] or {}
        if asked := document.get("methods"):
            best = {f"val/{name}": asked[0][name] for name in ("auc", "f1")}
        table.add_row(
            Text(one_line(document["name"])),
            Text(one_line(document["data"] or "")),
            Text(one_line(document["protocol"] or "")),
            *(
                f"{best[metric]:.4f}" if best.get(metric) is not None else ""
                for metric in ("val/auc", "val/f1")
            ),
            str(sum(document["states"].values())),
            states_text(document["states"]),
            _when(document["created"]),
        )
    return table


def _when(created: Any) -> str:
    """A time as a clock on the wall here shows it."""
    try:
        return datetime.fromisoformat(str(created)).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""
