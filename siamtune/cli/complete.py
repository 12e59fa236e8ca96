"""What the shell offers when Tab is pressed; nothing heavy is imported here.

Whatever is damaged or missing is left out: a prompt is no place for messages.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from siamtune.errors import InvalidInput

if TYPE_CHECKING:
    from siamtune.search.runs import Run

Offer = tuple[str, str]  # what is completed, and what is told of it beside


def runs(context: typer.Context, incomplete: str) -> list[Offer]:
    """Runs under --output, newest first, and `latest`."""
    from siamtune.search.runs import list_runs

    found = sorted(list_runs(_output(context)), key=_changed, reverse=True)
    named = [(run.name, "") for run in found]
    latest = [("latest", found[0].name)] if found else []
    return _fitting([*latest, *named], incomplete)


def trials(context: typer.Context, incomplete: str) -> list[Offer]:
    """Trials of the run that stands before, each with its state."""
    return _fitting(_trials(context), incomplete)


def running_trials(context: typer.Context, incomplete: str) -> list[Offer]:
    """Those of them that run."""
    running = [offer for offer in _trials(context) if offer[1].startswith("running")]
    return _fitting(running, incomplete)


def kept_trials(context: typer.Context, incomplete: str) -> list[Offer]:
    """Those of them whose model is kept."""
    run = _run(context)
    files = run.folder.glob("trials/[0-9]*/best.safetensors") if run else ()
    kept = {str(int(path.parent.name)) for path in files}
    return _fitting([offer for offer in _trials(context) if offer[0] in kept], incomplete)


def spaces(incomplete: str) -> list[Offer]:
    """Shipped spaces; files are the shell's."""
    from siamtune.search.shipped import about, shipped_spaces

    return _fitting([(name, about(path)) for name, path in shipped_spaces().items()], incomplete)


def dials(incomplete: str) -> list[Offer]:
    """`optim.lr=` and its like; behind the sign the words that a dial knows."""
    from siamtune.config import DEFAULTS, choices

    name, equals, _ = incomplete.partition("=")
    if equals and name in DEFAULTS:
        words = [str(word).lower() for word in choices(name) or ()]
        return _fitting([(f"{name}={word}", "") for word in words], incomplete)
    return _fitting([(f"{dial}=", "") for dial in DEFAULTS], incomplete)


def sources(incomplete: str) -> list[Offer]:
    """Data that have a name; folders are the shell's."""
    named = {
        "demo": "faces drawn by siamtune",
        "lfw": "Labeled Faces in the Wild",
        "olivetti": "the faces of AT&T",
    }
    return _fitting(list(named.items()), incomplete)


def _trials(context: typer.Context) -> list[Offer]:
    from siamtune.search.records import read_records

    run = _run(context)
    try:
        records = read_records(run.trials_path) if run else {}
    except InvalidInput:
        return []
    return [
        (str(record.number), f"{record.state.replace('_', ' ')} at epoch {record.epoch}")
        for record in records.values()
    ]


def _run(context: typer.Context) -> "Run | None":
    from siamtune.search.runs import find_run
    from siamtune.search.store import is_url

    named = str(context.params.get("run"))
    if is_url(named):  # a Tab must not wait for a store
        return None
    try:
        return find_run(named, _output(context))
    except InvalidInput:
        return None


def _fitting(offers: list[Offer], incomplete: str) -> list[Offer]:
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _output(context: typer.Context) -> Path:
    from siamtune.search.store import copies_of, is_url

    named = str(context.params.get("output") or os.environ.get("SIAMTUNE_OUTPUT") or "runs")
    return copies_of(named) if is_url(named) else Path(named)


def _changed(run: "Run") -> float:
    try:
        return run.facts_path.stat().st_mtime
    except OSError:  # removed in this moment
        return 0.0
