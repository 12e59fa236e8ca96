"""What an evaluation has measured, fold by fold, as folds.jsonl keeps it.

{"fold": 3, "method": "csls", "flip_average": true, "threshold_from": "validation", "protocol": ...,
 "split": ..., "pairs": 600, "threshold": ..., "metrics": {"auc": 0.97, ...}}

An ensemble's own file holds what its members say together; theirs lie in members/.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from siamtune.errors import InvalidInput
from siamtune.search.runs import Run, write_text

FOLDS = "folds.jsonl"

Key = tuple[int, str, bool, str]  # fold, method, flips averaged, whose threshold


def read_folds(run: Run) -> dict[Key, dict[str, Any]]:
    """The lines of folds.jsonl.

    Raises:
        InvalidInput: a line is damaged.
    """
    path = run.folder / FOLDS
    if not path.exists():
        return {}
    try:
        read = [json.loads(line) for line in path.read_text().splitlines()]
        return {key_of(line): line for line in read}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path}: must hold one JSON object a line, but {error}; remove the damaged line, and "
            "its fold is asked again"
        ) from None


def write_folds(run: Run, lines: Mapping[Key, Mapping[str, Any]]) -> None:
    write_text(run.folder / FOLDS, "".join(json.dumps(line) + "\n" for line in lines.values()))


def key_of(line: Mapping[str, Any]) -> Key:
    return line["fold"], line["method"], line["flip_average"], line["threshold_from"]


def by_method(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The lines of each way to ask, in the order in which they were asked first."""
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        _, name, flips, threshold_from = key_of(line)
        name += ", flip-averaged" * flips + ", threshold from train" * (threshold_from == "train")
        methods.setdefault(name, []).append(line)
    return methods


def over_folds(
    lines: Iterable[Mapping[str, Any]], metric: str
) -> tuple[float, float | None] | None:
    """The mean over folds and its standard error, None for one fold; None if it is not known."""
    values = [line["metrics"][metric] for line in lines if metric in line["metrics"]]
    if not values:
        return None
    many = len(values)
    mean = sum(values) / many
    if many == 1:
        return mean, None
    return mean, (sum((value - mean) ** 2 for value in values) / (many - 1) / many) ** 0.5
