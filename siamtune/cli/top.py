"""`siamtune top`: the best trials of a run."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siamtune.cli import options

if TYPE_CHECKING:
    from siamtune.search.history import History


def top(
    run: options.RunName,
    trials: Annotated[int, typer.Option("-n", "--trials", help="Rows.", min=1)] = 10,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Show the best trials of a run: siamtune top latest -n 20

    Complete trials come first, then those that were stopped early, at their best epoch each. Of an
    evaluation it shows the mean over the folds that are done, for each score that was asked.
    """
    from siamtune.report.live import print_final_table
    from siamtune.report.table import result_document
    from siamtune.search.history import read_history

    history = read_history(run, output)
    if history.facts.get("kind") == "evaluate":
        _evaluated(history, as_json)
        return
    if as_json:
        document = result_document(history.run, history.records, history.space)
        placed = len(history.ranked)
        best = document["trials"][: min(trials, placed)]
        print(json.dumps({**document, "schema": "siamtune.top/1", "trials": best}, indent=2))
        return
    if not history.records:
        print(f"{history.run.name}: no trial has started yet", file=sys.stderr)
        return
    print_final_table(
        history.run, history.records, history.space, options.table_console(), rows=trials
    )


def _evaluated(history: "History", as_json: bool) -> None:
    """What each way to ask gave, over the folds that are done."""
    from siamtune.cli.evaluate import METRICS
    from siamtune.report.table import plain_table
    from siamtune.search.folds import by_method, over_folds, read_folds

    facts = history.facts
    methods = by_method(read_folds(history.run).values())
    if as_json:
        document = {
            "schema": "siamtune.top.evaluation/1",
            "run": str(history.run.folder),
            **{name: facts.get(name) for name in ("data", "protocol", "splits")},
            "methods": [
                {"method": method, "folds": len(lines), "each": lines}
                for method, lines in methods.items()
            ],
        }
        print(json.dumps(document, indent=2))
        return
    if not methods:
        print(f"{history.run.name}: no fold is done yet", file=sys.stderr)
        return
    table = plain_table("score", "folds", *METRICS.values())
    for column in table.columns[1:]:
        column.justify = "right"
    for method, lines in methods.items():
        cells = []
        for metric in METRICS:
            mean, error = over_folds(lines, metric) or (None, None)
            spread = "" if error is None else f" ± {error:.4f}"
            cells.append("" if mean is None else f"{mean:.4f}{spread}")
        table.add_row(method, f"{len(lines)} of {facts.get('trials')}", *cells)
    console = options.table_console()
    console.print(table)
    console.print(
        f"test pairs of {facts.get('data')}, {facts.get('protocol')}; mean over folds ± standard "
        "error",
        markup=False,
    )
