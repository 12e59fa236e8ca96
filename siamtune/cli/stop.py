"""`siamtune stop`: end one trial of a running search, or the search, from another terminal."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siamtune.cli import complete, options
from siamtune.errors import InvalidInput

if TYPE_CHECKING:
    from siamtune.search.runs import Run

# The driver listens every second; a shared folder may show it the request later.
PATIENCE_S = 10.0
POLL_S = 0.1


def stop(
    run: options.RunName,
    trial: Annotated[
        int | None,
        typer.Argument(
            help="The trial's number. Default: the whole search.",
            min=0,
            autocompletion=complete.running_trials,
        ),
    ] = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Stop a trial of a running search, or the search: siamtune stop latest 7

        siamtune stop latest

    The trial ends after its present epoch, is recorded as stopped by hand, and another takes its
    place. Without a TRIAL the search ends in good order, as with Ctrl-C; `siamtune resume` goes on.
    Works from any host that sees the run folder.
    """
    from siamtune.search.lock import driver_elsewhere, driver_of
    from siamtune.search.runs import find_run
    from siamtune.search.stops import ask_to_stop, request_name
    from siamtune.search.store import open_store

    found = find_run(run, output)
    if found.facts().get("kind") == "train":
        raise InvalidInput(
            f"{found.folder} must be a search, but is one training; end it with Ctrl-C"
        )
    driver, elsewhere = driver_of(found), driver_elsewhere(found)
    if driver is None and elsewhere is None:
        raise InvalidInput(f"{found.name} must be running to be stopped, but no process drives it")
    epoch = None if trial is None else _running_epoch(found, trial)
    if found.url is not None and driver is None:
        driver, request = elsewhere, f"{found.url}/{request_name(trial)}"
        store = open_store(found.url)
        store.write(request_name(trial), b"")
        heard = _is_heard(lambda: request_name(trial) in store.listed())
    else:
        path = ask_to_stop(found, trial)
        request, heard = str(path), _is_heard(path.exists)
    if as_json:
        document = {
            "schema": "siamtune.stop/1",
            "run": str(found.folder),
            "trial": trial,
            "after_epoch": None if epoch is None else epoch + 1,
            "driver": driver,
            "heard": heard,
        }
        print(json.dumps(document, indent=2))
        return
    if not heard:
        what = found.name if trial is None else f"trial {trial} of {found.name}"
        print(f"asked {what} to end")
    elif trial is None:
        go_on = f"siamtune resume {found.place}"
        if found.facts().get("kind") == "evaluate":
            go_on = f"the same siamtune evaluate command and --name {found.name}"
        print(f"{found.name} ends; go on with: {go_on}")
    else:
        print(f"trial {trial} of {found.name} ends after epoch {(epoch or 0) + 1}")
    if not heard:
        print(f"{driver} has not heard it yet; the request lies in {request}", file=sys.stderr)


def _running_epoch(run: "Run", trial: int) -> int:
    """The last epoch that a running trial has reported.

    Raises:
        InvalidInput: there is no such trial, or it does not run.
    """
    from siamtune.search.records import read_records

    records = read_records(run.trials_path)
    if trial not in records:
        known = f"{min(records)} to {max(records)}" if records else "none yet"
        raise InvalidInput(
            f"TRIAL must be the number of a trial of {run.name} ({known}), but got {trial}"
        )
    record = records[trial]
    if record.state != "running":
        running = [str(each.number) for each in records.values() if each.state == "running"]
        raise InvalidInput(
            f"trial {trial} must be running to be stopped, but is {record.state.replace('_', ' ')};"
            f" running: {', '.join(running) or 'none'}"
        )
    return record.epoch


def _is_heard(waits: Callable[[], bool]) -> bool:
    """Wait a little for the driver to take the request up."""
    deadline = time.monotonic() + PATIENCE_S
    while waits():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
