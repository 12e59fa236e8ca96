"""`siamtune predict`: is this the same person?"""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import options
from siamtune.errors import DataError, InvalidInput, UsageError

if TYPE_CHECKING:
    from siamtune.shipping.verifier import Verdict, Verifier

HEADING = ("left", "right")
ANSWERS = ("same", "score", "probability", "threshold")


def predict(
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Two pictures.", metavar="A B")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a CSV file of two paths a line, relative to its folder. Answers come as "
            "CSV.",
        ),
    ] = None,
    model: options.Model = None,
    landmarks: options.Landmarks = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Tell whether two pictures show the same person: siamtune predict a.jpg b.jpg

        siamtune predict --pairs pairs.csv --model my-model > answers.csv

    A picture is cut as those of the model's training were; where a model looks at the middle of the
    picture and the face is elsewhere, the biggest face that is found stands in.
    """
    if (pairs is None) == (not pictures):
        raise UsageError("give two pictures, or --pairs with a CSV file")
    if pictures and len(pictures) != 2:
        raise UsageError(f"give two pictures, but got {len(pictures)}; many pairs go by --pairs")
    asked = read_pairs(pairs) if pairs else [(str(pictures[0]), str(pictures[1]))]  # type: ignore[index]
    folder = pairs.parent if pairs else Path()
    verifier = open_model(model, output, landmarks)
    verdicts = _verdicts(verifier, asked, folder)
    if as_json:
        answers = [
            {"left": left, "right": right, **_answer(verdict)}
            for (left, right), verdict in zip(asked, verdicts, strict=True)
        ]
        document = {
            "schema": "siamtune.predict/1",
            "model": str(verifier.path),
            "trained_on": verifier.facts["data"],
            "pairs": answers,
        }
        print(json.dumps(document, indent=2))
    elif pairs:
        print(f"model: {verifier.title}", file=sys.stderr)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(HEADING + ANSWERS)
        for (left, right), verdict in zip(asked, verdicts, strict=True):
            writer.writerow([left, right, *_answer(verdict).values()])
    else:
        _print(verdicts[0], verifier)
    missing = sum(verdict is None for verdict in verdicts)
    if missing:
        raise DataError(
            f"{missing} of {len(verdicts)} pairs have no answer: their pictures cannot be read"
        )


def open_model(model: str | None, output: Path, landmarks: Path | None) -> "Verifier":
    """The model of the command line, else the built-in one."""
    from siamtune.shipping.find import find_model
    from siamtune.shipping.verifier import load

    return load(find_model(model, output), landmarks=landmarks)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Two paths a line; a first line `left,right` is a heading, further columns are ignored.

    Raises:
        InvalidInput: the file cannot be read, or a line has no two paths.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: must be a CSV file of two paths a line, but {error}") from None
    found = []
    for at, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row[:2]]
        if not row or (at == 1 and tuple(cell.lower() for cell in cells) == HEADING):
            continue
        if len(cells) < 2 or not all(cells):
            raise InvalidInput(f"{path}:{at}: must hold two paths, but got {','.join(row)!r}")
        found.append((cells[0], cells[1]))
    if not found:
        raise InvalidInput(f"{path}: must be a CSV file of two paths a line, but holds none")
    return found


def _verdicts(
    verifier: "Verifier", asked: list[tuple[str, str]], folder: Path
) -> list["Verdict | None"]:
    """An answer a pair, None where a picture cannot be read; each picture is embedded once."""
    import numpy as np

    from siamtune.report.progress import progress_bar

    names = list(dict.fromkeys(name for pair in asked for name in pair))
    paths = [folder / Path(name).expanduser() for name in names]
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise DataError(f"{', '.join(absent[:5])}{more} must be pictures, but do not exist")
    with progress_bar() as progress:
        embeddings, unreadable = verifier.embed_readable(paths, progress)
    for place in unreadable:
        print(f"{paths[place]} cannot be read", file=sys.stderr)
    lost = set(unreadable)
    rows = {name: row for row, name in enumerate(n for i, n in enumerate(names) if i not in lost)}
    answered = [pair for pair in asked if pair[0] in rows and pair[1] in rows]
    left, right = (np.array([rows[pair[side]] for pair in answered], np.int64) for side in (0, 1))
    verdicts = iter(verifier.verdicts(verifier.scores(embeddings, left, right)))
    return [next(verdicts) if pair[0] in rows and pair[1] in rows else None for pair in asked]


def _answer(verdict: "Verdict | None") -> dict[str, Any]:
    return dict.fromkeys(ANSWERS) if verdict is None else asdict(verdict)


def _print(verdict: "Verdict | None", verifier: "Verifier") -> None:
    if verdict is not None:
        print("same person" if verdict.same else "different people")
        print(f"score        {verdict.score:.4f}")
        print(f"threshold    {verdict.threshold:.4f}")
        print(f"probability  {verdict.probability:.4f}")
        print(f"model        {verifier.title}")
