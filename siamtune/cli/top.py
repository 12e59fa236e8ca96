"""`siamtune top`: the best trials of a run."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from siamtune.cli import options


def top(
    run: options.RunName,
    trials: Annotated[int, typer.Option("-n", "--trials", help="Rows.", min=1)] = 10,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Show the best trials of a run: siamtune top latest -n 20

    Complete trials come first, then those that were stopped early, at their best epoch each.
    """
    from siamtune.report.live import print_final_table
    from siamtune.report.table import result_document
    from siamtune.search.history import read_history

    history = read_history(run, output)
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
