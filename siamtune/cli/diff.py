"""`siamtune diff`: two trials side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.errors import DataError, InvalidInput, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from siamtune.launch.contest import Contest
    from siamtune.search.history import History
    from siamtune.search.records import TrialRecord

# What is compared besides the objective, as far as both trials measured it.
METRICS = (
    "val/auc", "val/f1", "val/accuracy", "val/eer", "val/tar@far=0.01", "val/map@r", "train/loss",
)  # fmt: skip
HARDLY = 0.001  # smaller p values are told as "below"


def diff(
    run: options.RunName,
    first: Annotated[
        int,
        typer.Argument(
            metavar="A", help="A trial's number.", min=0, autocompletion=complete.trials
        ),
    ],
    second: Annotated[
        int, typer.Argument(metavar="B", help="Another's.", min=0, autocompletion=complete.trials)
    ],
    faces: Annotated[
        bool, typer.Option(help="Draw the pairs that only one of them judges rightly.")
    ] = True,
    to: Annotated[
        Path | None,
        typer.Option(help="The drawing, an .svg. Default: diff-A-B.svg in the run folder."),
    ] = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Compare two trials, their dials, numbers and judgements: siamtune diff latest 7 12"""
    from siamtune.launch.contest import contest, draw_flips
    from siamtune.search.history import read_history

    if to is not None and to.suffix != ".svg":
        raise UsageError(f"--to must be an .svg file, but got {to}")
    history = read_history(run, output)
    pair = history.trial(first), history.trial(second)
    notes: list[str] = []
    found: Contest | None = None
    picture: Path | None = None
    try:
        found = contest(history, *pair)
    except InvalidInput as error:
        notes.append(str(error))
    if found is not None and faces and found.flips:
        from siamtune.report.progress import progress_bar

        picture = to or history.run.folder / f"diff-{first}-{second}.svg"
        try:
            with progress_bar() as progress:
                draw_flips(history, found, picture, progress)
        except (DataError, InvalidInput) as error:
            notes.append(f"the pairs cannot be drawn: {error}")
            picture = None
    if as_json:
        print(json.dumps(_document(history, *pair, found, picture, notes), indent=2))
        return

    console = options.table_console()
    dials = _different_dials(history, *pair)
    if dials:
        console.print(_dial_table(history, dials, *pair))
    else:
        console.print("no dial differs")
    console.print()
    console.print(_metric_table(history, *pair))
    console.print()
    for line in [*(_contest_lines(history, found) if found else []), *notes]:
        console.print(line, markup=False)
    if picture:
        console.print(f"the pairs that flipped: {picture}", markup=False)


def _contest_lines(history: "History", found: "Contest") -> list[str]:
    from siamtune.report.table import measured_on

    test, gain = found.test, found.auc_gain
    chance = f"below {HARDLY}" if test.p_value < HARDLY else f"= {test.p_value:.3f}"
    lines = [
        f"same {found.pairs:,} pairs, each at its trial's threshold: only A is right on "
        f"{test.first_only}, only B on {test.second_only}; by chance alone p {chance} "
        "(McNemar, exact)"
    ]
    if gain is not None:
        tied = "they are tied" if gain.low <= 0 <= gain.high else "more than other people explain"
        lines.append(
            f"AUC of B minus A: {found.auc_difference:+.4f}, 95 % over people "
            f"[{gain.low:+.4f}, {gain.high:+.4f}]: {tied}"
        )
    return [*lines, f"measured on {measured_on(history.facts)}"]


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


def _document(
    history: "History",
    first: "TrialRecord",
    second: "TrialRecord",
    found: "Contest | None",
    picture: Path | None,
    notes: list[str],
) -> dict[str, Any]:
    from siamtune.report.table import trial_document

    best = _best(history, first), _best(history, second)
    return {
        "schema": "siamtune.diff/1",
        "run": str(history.run.folder),
        **{key: history.facts.get(key) for key in ("data", "protocol", "split")},
        "trials": [trial_document(r, history.space.objective) for r in (first, second)],
        "dials": {
            name: list(values) for name, values in _different_dials(history, first, second).items()
        },
        "gain": {
            name: best[1][name] - best[0][name]
            for name in best[0]
            if name in best[1] and name != "epoch"
        },
        "pairs": found.pairs if found else None,
        "mcnemar": asdict(found.test) if found else None,
        "auc_gain": asdict(found.auc_gain) if found and found.auc_gain else None,
        "picture": str(picture) if picture else None,
        "missing": notes,
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
