"""When the test people of a run were opened, by what, for which model: test.jsonl, a line each.

Validation people are asked after every epoch and wear out: whoever chooses by them flatters the
chosen. Test people stay honest only as long as nothing is chosen by them, so every look at them is
written down, and a second one is told as what it is.
"""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from siamtune.errors import InvalidInput
from siamtune.search.records import cut_unfinished_line
from siamtune.search.runs import Run

FILE = "test.jsonl"


class Opening(BaseModel):
    """One look at the test people; the same model at the same threshold is no further one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    command: tuple[str, ...]
    trial: int
    replica: int | None
    model: str  # twelve hexadecimal digits over its weights
    threshold: float
    data: str
    protocol: str
    split: str
    measured: Mapping[str, Any]  # people, pairs, and each metric as value, low and high

    @property
    def asked(self) -> tuple[str, float, str]:
        return self.model, self.threshold, self.split


def read_openings(run: Run) -> list[Opening]:
    """All there were, the first first.

    Raises:
        InvalidInput: a line is damaged; it is not passed over, since it counts.
    """
    path = run.folder / FILE
    if not path.exists():
        return []
    *lines, _unfinished = path.read_bytes().split(b"\n")
    found = []
    for at, line in enumerate(lines, start=1):
        try:
            found.append(Opening.model_validate_json(line))
        except ValueError:
            raise InvalidInput(
                f"{path}:{at}: must hold one opening of the test people as JSON, but got "
                f"{line[:80]!r}; mend the line"
            ) from None
    return found


def note_opening(run: Run, opening: Opening) -> str:
    """Write an opening down unless it is there already; the line that tells a person of it.

    Raises:
        InvalidInput: the file is damaged or cannot be written.
    """
    before = read_openings(run)
    known = next((each for each in before if each.asked == opening.asked), None)
    if known is not None:
        return f"test people: opened on {known.time} for this model; these are the same numbers"
    path = run.folder / FILE
    try:
        cut_unfinished_line(path)
        with path.open("ab") as file:
            file.write(opening.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput(
            f"{path}: the opening of the test people must be written down, but: {error.strerror}"
        ) from None
    if not before:
        return f"test people: opened for the first time, written down in {path}"
    first = before[0]
    return (
        f"caution: test people opened {len(before) + 1} times; the first time on {first.time} for "
        f"trial {first.trial}. Whoever chooses between models by these numbers has no test left"
    )


def openings_document(run: Run) -> list[dict[str, Any]]:
    """As JSON holds them."""
    return [opening.model_dump(mode="json") for opening in read_openings(run)]
