"""What a person asks of a running search: to stop a trial, or to end.

A request is a file in the run folder, so it reaches the driver from any host that sees the folder;
where the run lies in an object store, the driver looks there every few seconds.

stop/0007     end trial 7 after its present epoch
stop/search   end the search in good order

The driver takes a request up by removing its file.
"""

from contextlib import suppress
from pathlib import Path

from siamtune.errors import InvalidInput
from siamtune.search.runs import Run

FOLDER = "stop"
SEARCH = "search"
# Why a trial, or the search, has ended then.
BY_HAND = "by hand"
VERB = "siamtune stop"
BUDGET = "the end of the time budget"
CTRL_C = "Ctrl-C"
TERMINATED = "a termination signal"


def request_name(trial: int | None) -> str:
    return f"{FOLDER}/{SEARCH if trial is None else f'{trial:04d}'}"


def ask_to_stop(run: Run, trial: int | None) -> Path:
    """Leave a request to stop a trial, or the search if None; the file is gone once it is heard.

    Raises:
        InvalidInput: the run folder cannot be written.
    """
    path = run.folder / request_name(trial)
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    except OSError as error:
        raise InvalidInput(
            f"{run.folder} must be writable to leave a request there, but: {error.strerror}"
        ) from None
    return path


def take_stops(run: Run) -> list[int | None]:
    """The trials that are asked to stop, None for the search; each is told once."""
    taken: list[int | None] = []
    with suppress(FileNotFoundError):
        for path in sorted((run.folder / FOLDER).iterdir()):
            if path.name == SEARCH or path.name.isdecimal():
                path.unlink(missing_ok=True)
                taken.append(None if path.name == SEARCH else int(path.name))
    return taken


def forget_stops(run: Run) -> None:
    """Leave no folder of requests behind; what nobody has heard is void."""
    take_stops(run)
    with suppress(OSError):
        (run.folder / FOLDER).rmdir()
