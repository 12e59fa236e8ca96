"""`siamtune embed`: the embeddings of a folder of pictures, for other programs."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from siamtune.cli import options
from siamtune.errors import DataError, InvalidInput, UsageError


def embed(
    folder: Annotated[Path, typer.Argument(help="Where the pictures are, at any depth.")],
    to: Annotated[Path, typer.Option("-o", "--to", help="The .npz file to write.")],
    model: options.Model = None,
    landmarks: options.Landmarks = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Embed all pictures of a folder: siamtune embed photos -o embeddings.npz

    The file holds `names` (N,), paths in the folder, `embeddings` (N, D) float32, the `distance`
    that compares them (or the scorer) and the `threshold` of minus that distance (or of its score).
    """
    if to.suffix != ".npz":
        raise UsageError(f"-o must name an .npz file, but got {to}")
    import numpy as np

    from siamtune.cli.predict import open_model
    from siamtune.report.progress import progress_bar

    files = _pictures(folder)
    verifier = open_model(model, output, landmarks)
    with progress_bar() as progress:
        embeddings, unreadable = verifier.embed_readable(files, progress)
    for place in unreadable:
        print(f"siamtune: {files[place]} cannot be read; it is left out", file=sys.stderr)
    lost = set(unreadable)
    names = [file.relative_to(folder).as_posix() for i, file in enumerate(files) if i not in lost]
    if not names:
        raise DataError(f"{folder} must hold pictures, but none of {len(files)} can be read")
    unfinished = to.with_name(f".{os.getpid()}.{to.name}")
    try:
        np.savez(
            unfinished,
            names=np.array(names, np.str_),
            embeddings=embeddings,
            distance=np.array(verifier.scorer_name),
            threshold=np.array(verifier.threshold),
        )
        unfinished.replace(to)
    except OSError as error:
        raise InvalidInput(f"{to} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    if as_json:
        document = {
            "schema": "siamtune.embed/1",
            "file": str(to),
            "model": str(verifier.path),
            "pictures": len(names),
            "embedding_size": verifier.embedding_size,
            "unreadable": [str(files[place]) for place in unreadable],
        }
        print(json.dumps(document, indent=2))
    else:
        print(f"{to}: {len(names)} embeddings of {verifier.embedding_size} numbers")
        print(f"model: {verifier.title}")


def _pictures(folder: Path) -> list[Path]:
    """Files with the name of a picture, hidden ones aside, sorted by path.

    Raises:
        DataError: there are none.
    """
    from siamtune.data.sources import PICTURE_SUFFIXES

    if not folder.is_dir():
        raise DataError(f"{folder} must be a folder of pictures, but is none")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")
        ]
    if not found:
        raise DataError(
            f"{folder} must hold pictures ({', '.join(PICTURE_SUFFIXES)}), but has none"
        )
    return sorted(found)
