"""`siamtune export`: a trial's model as a folder to give away."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.errors import DataError

if TYPE_CHECKING:
    from siamtune.data.prepare import Faces
    from siamtune.launch.job import DataSpec
    from siamtune.search.history import History
    from siamtune.shipping.verifier import Verifier
    from siamtune.verification.pairs import VerificationPairs


def export(
    run: options.RunName,
    to: Annotated[Path, typer.Option(help="The folder to make; one that is there must be empty.")],
    trial: Annotated[
        int | None,
        typer.Argument(
            help="The trial's number, of an evaluation the fold's. Default: the best.",
            min=0,
            autocompletion=complete.kept_trials,
        ),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            help="Set the threshold for this false accept rate on validation pairs, e.g. 1e-2. "
            "Default: that of the highest accuracy on them.",
        ),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Measure on the test people, too: once, when all is decided."),
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write model.onnx, compared with PyTorch.")
    ] = False,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a folder with a model, its card and its threshold:
    siamtune export latest --to my-model --far 1e-2
    """
    from siamtune.launch.job import data_spec_of
    from siamtune.search.history import read_history
    from siamtune.shipping.export import Wish, export_model
    from siamtune.shipping.find import best_model_of, trial_checkpoint
    from siamtune.shipping.verifier import load

    history = read_history(run, output)
    number, checkpoint = trial_checkpoint(history, trial)
    best = best_model_of(history) if trial is None else None
    replica = best[1] if best else None
    verifier = load(checkpoint, device="cpu")
    spec = data_spec_of(history.facts, number)
    faces, why = _faces(spec, verifier)
    asked = _test_pairs(spec, verifier, faces, why) if test else None
    document = export_model(
        checkpoint,
        to,
        {
            "run": history.run.name,
            "trial": number,
            **({"replica": replica} if replica is not None else {}),
        },
        faces=faces,
        why_no_faces=why,
        wish=Wish(far, asked, onnx),
    )
    if test:
        _note_test(history, verifier, number, replica, document)
    for line in document["missing"]:
        print(f"missing: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({**document, "folder": str(to)}, indent=2))
        return
    _print(document, to)


def _faces(spec: "DataSpec | None", verifier: "Verifier") -> tuple["Faces | None", str | None]:
    """The prepared pictures of a run, or why there are none."""
    from siamtune.config import trial_config
    from siamtune.launch.worker import prepare_faces
    from siamtune.report.progress import progress_bar

    config = trial_config(verifier.facts["config"])
    if spec is None:
        return None, "run.json does not say where the data lies"
    try:
        with progress_bar() as progress:
            return prepare_faces(spec, config.data, progress), None
    except DataError as error:
        return None, str(error)


def _test_pairs(
    spec: "DataSpec | None", verifier: "Verifier", faces: "Faces | None", why: str | None
) -> "VerificationPairs":
    """The test pairs of the run's protocol; a model that has seen their people is refused."""
    from siamtune.launch.opening import unseen_pairs

    if faces is None or spec is None:
        raise DataError(f"--test needs the data of the run, but {why}")
    return unseen_pairs(spec, faces, verifier)


def _note_test(
    history: "History",
    verifier: "Verifier",
    number: int,
    replica: int | None,
    document: Mapping[str, Any],
) -> None:
    """Write down in the run that its test people were opened, and say how often they were."""
    from siamtune.cli.search import tell
    from siamtune.launch.mirror import mirrored
    from siamtune.launch.opening import note

    with mirrored(history.run, tell):
        threshold = document["threshold"]["score"]
        tell(note(history.run, verifier, number, replica, threshold, document["test"]))


def _print(document: Mapping[str, Any], folder: Path) -> None:
    from siamtune.shipping.card import ROWS, estimate

    print(f"model: {folder}")
    for part in ("validation", "test"):
        if part in document:
            rows = ((words, document[part].get(key)) for key, words in ROWS.items())
            print(f"{part} people ({document['data']}, {document['protocol']}, "
                  f"split {document['split']}):")  # fmt: skip
            for words, number in rows:
                if number:
                    print(f"  {words:36} {estimate(number)}")
    threshold = document["threshold"]
    print(f"threshold: {threshold['score']:.6g}, from {threshold['from']}")
    if "onnx" in document:
        print(
            f"ONNX: {document['onnx']['file']}, differs from PyTorch by "
            f"{document['onnx']['largest_difference']:.1g} at most"
        )
