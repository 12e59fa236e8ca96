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
    output: options.Output = Path("runs"),
) -> None:
    """Write what a search found as one page that needs no network: siamtune report latest

    Works while the search runs: it shows the run as it stands.
    """
    from siamtune.report.page import report_page
    from siamtune.search.history import read_history
    from siamtune.search.runs import write_text

    history = read_history(run, output)
    page = report_page(history, _environment(history.run.folder), datetime.now(UTC))
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
