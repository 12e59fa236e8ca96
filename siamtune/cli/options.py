"""Options that several verbs share, and how their values are read."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete
from siamtune.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Data = Annotated[
    str | None,
    typer.Option(
        help="demo, lfw, olivetti or a FOLDER of person/*.jpg. Default: $SIAMTUNE_DATA or demo.",
        autocompletion=complete.sources,
        show_default=False,
    ),
]
DataOfProtocol = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="demo, lfw, olivetti or a FOLDER of person/*.jpg. Default: what the protocol is made "
        "for, or $SIAMTUNE_DATA, or demo.",
        autocompletion=complete.sources,
        show_default=False,
    ),
]
DataHome = Annotated[
    Path | None,
    typer.Option(help="Where lfw and olivetti lie. Default: scikit-learn's data home."),
]
Landmarks = Annotated[
    Path | None,
    typer.Option(
        help="The file of dlib's landmark predictor, for the crops `aligned` (5 or 68 points) "
        "and `trees` (68).",
        envvar="SIAMTUNE_LANDMARKS",
    ),
]
SplitSeed = Annotated[
    int, typer.Option(help="Decides who is in training, validation and test.", min=0)
]


def output_folder(text: str) -> Path:
    """The folder of `--output`; for a URL that of its copies on this machine."""
    from siamtune.search.store import copies_of, is_url

    return copies_of(text) if is_url(str(text)) else Path(text)


Output = Annotated[
    Path,
    typer.Option(
        help="Where run folders are made: a folder, or a URL like s3://bucket/runs.",
        envvar="SIAMTUNE_OUTPUT",
        parser=output_folder,
        metavar="FOLDER|URL",
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        help="A run folder, a run's name or URL, or `latest`.", autocompletion=complete.runs
    ),
]
SpaceOption = Annotated[
    str,
    typer.Option(
        "--space",
        help="A space file, or the name of a shipped space.",
        autocompletion=complete.spaces,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="An exported folder, a run or `latest`. Default: siamtune's own, trained on LFW.",
        envvar="SIAMTUNE_MODEL",
        autocompletion=complete.runs,
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Fix a dial, e.g. --set optim.lr=1e-3. May be repeated.",
        autocompletion=complete.dials,
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training pictures.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Tracebacks = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show where an unexpected error came from.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show Ray's output and tracebacks.")]

DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([smhd])")
SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([KMGT])")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `2h` or `1d`.

    Raises:
        UsageError: the text is none of these.
    """
    match = DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise UsageError(f"a duration must be like 90s, 10m, 2h or 1d, but got {text!r}")
    return float(match[1]) * SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes of `500M` or `5G`, in powers of 1024, or of `0`.

    Raises:
        UsageError: the text is no size.
    """
    if text.strip() == "0":
        return 0
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"a size must be like 500M, 5G or 2T, or 0 for no limit, but got {text!r}")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2]))


def parse_overrides(assignments: list[str] | None, epochs: int | None) -> dict[str, Any]:
    """`--set key=value` and `--epochs` as dials; values are read as YAML reads them.

    Raises:
        UsageError: an assignment without `=`.
    """
    from siamtune.search.space import parse_value

    overrides: dict[str, Any] = {}
    for assignment in assignments or []:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set must be key=value, but got {assignment!r}")
        overrides[key.strip()] = parse_value(value.strip())
    if epochs is not None:
        overrides["epochs"] = epochs
    return overrides


def check_scorers(wanted: list[str] | None) -> None:
    """Raises UsageError if one is no scorer."""
    from siamtune.verification.scorers import SCORERS

    for name in wanted or []:
        if name not in SCORERS:
            raise UsageError(f"--scorer must be one of {', '.join(SCORERS)}, but got {name!r}")


def chosen_data(data: str | None) -> str:
    return data or os.environ.get("SIAMTUNE_DATA") or "demo"


def table_console() -> "Console":
    """Where tables are printed; a pipe gets lines as long as they need be."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000
    return console


def print_columns(rows: list[Any]) -> None:
    """Rows of text on stdout, columns two spaces apart, the last one as long as it is."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
