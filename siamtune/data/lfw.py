"""LFW's lists of people and of pairs, as its makers publish them (Huang et al. 2007)."""

from dataclasses import dataclass
from pathlib import Path

from siamtune.data.sources import find_lfw
from siamtune.errors import DataError

SITE = "https://vis-www.cs.umass.edu/lfw/"  # told to people; nothing is downloaded from it


@dataclass(frozen=True)
class NamedPair:
    """Two pictures by their file, `person/person_0001.jpg`."""

    left: str
    right: str
    same: bool


def find_lists(data_home: Path | None = None) -> Path:
    """The folder of LFW's lists in a data home: beside the folder of its people, or in it.

    Raises:
        DataError: there is no LFW, or it came without its lists.
    """
    people = find_lfw(data_home)
    for folder in (people.parent, people):
        if (folder / "pairs.txt").is_file():
            return folder
    raise DataError(
        f"lfw's protocols need its lists of people and pairs, but neither {people.parent} nor "
        f"{people} holds pairs.txt; put pairs*.txt and people*.txt of {SITE} there"
    )


def read_people(path: Path) -> tuple[tuple[str, ...], ...]:
    """Names of people, fold by fold, from people.txt (ten folds) or peopleDevTrain.txt (one).

    Raises:
        DataError: the file is missing or cut short, or a line is no name and count.
    """
    lines = _lines(path)
    if len(lines[0]) != 1:
        raise _fault(path, 1, lines[0], "a number of folds or of people")
    many = len(lines) > 1 and len(lines[1]) == 1
    number = _count(path, 1, lines[0][0]) if many else 1
    place = 1 if many else 0
    folds = []
    for _ in range(number):
        size = _count(path, place + 1, _line(path, lines, place)[0])
        rows = [_line(path, lines, place + 1 + row) for row in range(size)]
        for row, fields in enumerate(rows):
            if len(fields) != 2:
                raise _fault(path, place + 2 + row, fields, "a name and a number of pictures")
        folds.append(tuple(fields[0] for fields in rows))
        place += 1 + size
    _check_end(path, lines, place)
    return tuple(folds)


def read_pairs(path: Path) -> tuple[tuple[NamedPair, ...], ...]:
    """Pairs, fold by fold, from pairs.txt (ten folds) or pairsDevTest.txt (one).

    Every fold holds as many pairs of one person, `name 1 4`, as of two, `name 1 name 2`.

    Raises:
        DataError: the file is missing or cut short, or a line is no pair.
    """
    lines = _lines(path)
    if len(lines[0]) not in (1, 2):
        raise _fault(path, 1, lines[0], "a number of folds and of pairs")
    number = _count(path, 1, lines[0][0]) if len(lines[0]) == 2 else 1
    size = 2 * _count(path, 1, lines[0][-1])
    pairs = [_pair(path, 2 + row, _line(path, lines, 1 + row)) for row in range(number * size)]
    _check_end(path, lines, 1 + len(pairs))
    return tuple(tuple(pairs[start : start + size]) for start in range(0, len(pairs), size))


def _pair(path: Path, number: int, fields: list[str]) -> NamedPair:
    if len(fields) == 3:
        fields = [fields[0], fields[1], fields[0], fields[2]]
    if len(fields) != 4:
        raise _fault(path, number, fields, "`name 1 4` or `name 1 name 2`")
    left, right = (
        f"{name}/{name}_{_count(path, number, picture):04d}.jpg"
        for name, picture in (fields[:2], fields[2:])
    )
    return NamedPair(left, right, fields[0] == fields[2])


def _lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: must be a list of LFW, but {reason}; it is at {SITE}") from None
    lines = [line.split() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: must be a list of LFW, but it is empty; it is at {SITE}")
    return lines


def _line(path: Path, lines: list[list[str]], place: int) -> list[str]:
    if place < len(lines) and lines[place]:
        return lines[place]
    raise DataError(
        f"{path}:{place + 1}: must go on, but the list is cut short; get it anew from {SITE}"
    )


def _check_end(path: Path, lines: list[list[str]], place: int) -> None:
    if place < len(lines):
        raise _fault(path, place + 1, lines[place], "the end of the list")


def _count(path: Path, number: int, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _fault(path, number, [text], "a number")
    return int(text)


def _fault(path: Path, number: int, fields: list[str], wanted: str) -> DataError:
    return DataError(
        f"{path}:{number}: must be {wanted}, but got {' '.join(fields)!r}; get the list anew from "
        f"{SITE}"
    )
