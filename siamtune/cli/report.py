"""`siamtune report`: a run as one HTML page."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from siamtune.cli import options
from siamtune.errors import InvalidInput


def report(
    run: options.RunName,
    to: Annotated[
        Path | None,
        typer.Option(help="The page to write. Default: report.html in the run folder."),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            help="Measure pixels, PCA, HOG, LBP and the untrained network on the same pairs; half "
            "a minute on LFW, once a split."
        ),
    ] = True,
    faces: Annotated[
        bool, typer.Option(help="Show the faces that the winner takes for the wrong person.")
    ] = True,
    train_defaults: Annotated[
        bool,
        typer.Option(
            "--train-defaults",
            help="Also train siamtune's default and the 2016 seed's, as long as a trial, where no "
            "trial is that configuration. Kept in the run folder.",
        ),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads of that training.", min=1)
    ] = None,
    output: options.Output = Path("runs"),
    verbose: options.Tracebacks = False,
) -> None:
    """Write what a search found as one page that needs no network: siamtune report latest

    Works while the search runs: it shows the run as it stands.
    """
    from siamtune.cli.search import tell
    from siamtune.launch.evidence import gather, train_defaults_of
    from siamtune.report.page import report_page
    from siamtune.report.page_trials import ROWS
    from siamtune.report.progress import progress_bar
    from siamtune.search.history import read_history
    from siamtune.search.runs import write_text

    history = read_history(run, output)
    if history.facts.get("kind") == "evaluate":
        raise InvalidInput(
            f"a report must be of a search or a training, but {history.run.name} is an evaluation; "
            f"its numbers: siamtune top {history.run.place}"
        )
    if train_defaults:
        train_defaults_of(history, threads, tell)
    with progress_bar() as progress:
        evidence = gather(history, ROWS, baselines=baselines, faces=faces, progress=progress)
    for note in evidence.notes:
        tell(f"the report lacks: {note}")
    page = report_page(history, evidence, _environment(history.run.folder), datetime.now(UTC))
    path = to or history.run.folder / "report.html"
    if path.is_dir():
        path = path / "report.html"
    try:
        write_text(path, page)
    except OSError as error:
        raise InvalidInput(
            f"{path}: the report cannot be written there ({error.strerror}); choose another --to"
        ) from None
    print(path)


def _environment(folder: Path) -> dict[str, Any]:
    """Versions and machine, or nothing: a report without them is still a report."""
    try:
        environment = json.loads((folder / "environment.json").read_text())
    except (OSError, ValueError):
        return {}
    return environment if isinstance(environment, dict) else {}
