"""`siamtune figures`: looking inside a model."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siamtune.cli import options
from siamtune.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from siamtune.launch.job import DataSpec
    from siamtune.report.figures import Pair
    from siamtune.report.gallery import Gallery
    from siamtune.shipping.verifier import Verifier

FIGURES = ("pair", "map", "layers", "saliency", "mosaic")
OF_MANY = ("map", "mosaic")  # they show more people than those of a pair
FORMATS = ("png", "svg")


def figures(
    to: Annotated[Path, typer.Option(help="The folder to write to; made if it is missing.")],
    run: Annotated[
        str | None,
        typer.Argument(help="A run folder, a run's name, or `latest`. Default: see --model."),
    ] = None,
    trial: Annotated[
        int | None, typer.Argument(help="The trial's number. Default: the best.", min=0)
    ] = None,
    pair: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two photographs of your own.", metavar="A B", show_default=False),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help=f"Some of {','.join(FIGURES)}. Default: all.", metavar="NAMES"),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="png or svg.")] = "png",
    model: Annotated[
        str | None,
        typer.Option(
            help="Instead of a run: an exported folder. Default: $SIAMTUNE_MODEL or siamtune's "
            "own, trained on LFW.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Whom to show: demo, lfw, olivetti or a FOLDER of person/*.jpg. Default: the "
            "validation people of the run; of a model, $SIAMTUNE_DATA or demo.",
            show_default=False,
        ),
    ] = None,
    data_home: options.DataHome = None,
    landmarks: options.Landmarks = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Look inside a model: siamtune figures latest --to figures

        siamtune figures --pair a.jpg b.jpg --to figures

    Draws pairs with their verdicts (pair), a map of the embedding (map), what each layer makes of a
    face (layers), which pixels the score depends on (saliency) and faces under every normalization
    and crop factor (mosaic).
    """
    wanted = _wanted(only)
    if format_ not in FORMATS:
        raise UsageError(f"--format must be {' or '.join(FORMATS)}, but got {format_!r}")
    if run is not None and model is not None:
        raise UsageError(f"give a run or --model, but got both, {run} and {model}")
    verifier, title, spec = _subject(run, trial, model, output, landmarks)
    if data is not None or (spec is None and pair is None):
        from siamtune.cli.search import data_spec

        spec = data_spec(data, data_home, landmarks, 0)
    if spec is None:
        if only and set(wanted) & set(OF_MANY):
            raise UsageError(
                f"{' and '.join(OF_MANY)} show many people: say whom with --data, e.g. --data demo"
            )
        wanted = [name for name in wanted if name not in OF_MANY]

    from siamtune.launch.gallery import open_gallery
    from siamtune.report.gallery import own_pair
    from siamtune.report.progress import progress_bar

    with progress_bar() as progress:
        gallery = open_gallery(verifier, spec, progress) if spec else None
        pairs = [own_pair(verifier, pair)] if pair else gallery.telling_pairs() if gallery else []
        files = {}
        for done, name in enumerate(wanted):
            progress("drawing figures", done, len(wanted))
            path = to / f"{name}.{format_}"
            _write(_draw(name, verifier, pairs, gallery, title), path)
            files[name] = str(path)
        progress("drawing figures", len(wanted), len(wanted))
    if as_json:
        document = {
            "schema": "siamtune.figures/1",
            "model": str(verifier.path),
            "data": gallery.faces.source if gallery else None,
            "pairs": [
                {"left": pair.names[0], "right": pair.names[1], "truth": pair.truth,
                 **asdict(pair.verdict)}
                for pair in pairs
            ],
            "files": files,
        }  # fmt: skip
        print(json.dumps(document, indent=2))
    else:
        print(f"model: {verifier.title}", file=sys.stderr)
        for path_text in files.values():
            print(path_text)


def _wanted(only: str | None) -> list[str]:
    """The figures to draw, in their own order.

    Raises:
        UsageError: there is no such figure.
    """
    if only is None:
        return list(FIGURES)
    asked = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in asked if name not in FIGURES]
    if unknown or not asked:
        raise UsageError(f"--only must be some of {','.join(FIGURES)}, but got {only!r}")
    return [name for name in FIGURES if name in asked]


def _subject(
    run: str | None, trial: int | None, model: str | None, output: Path, landmarks: Path | None
) -> tuple["Verifier", str, "DataSpec | None"]:
    """The model, what it is called on a picture, and the data that it was trained on."""
    if run is None:
        from siamtune.cli.predict import open_model

        verifier = open_model(model or os.environ.get("SIAMTUNE_MODEL"), output, landmarks)
        return verifier, verifier.title, None
    from siamtune.launch.job import data_spec_of
    from siamtune.search.history import read_history
    from siamtune.shipping.find import trial_checkpoint
    from siamtune.shipping.verifier import load

    history = read_history(run, output)
    number, path = trial_checkpoint(history, trial)
    spec = data_spec_of(history.facts, number)
    if landmarks is None and spec and spec.landmarks:
        landmarks = Path(spec.landmarks)
    return load(path, landmarks=landmarks), f"trial {number} of {history.run.name}", spec


def _draw(
    name: str, verifier: "Verifier", pairs: "Sequence[Pair]", gallery: "Gallery | None", title: str
) -> "Figure":
    from siamtune.report.figures import pair_figure
    from siamtune.report.gallery import layers_of, saliency_of

    match name:
        case "pair":
            return pair_figure(pairs, verifier)
        case "layers":
            return layers_of(verifier, pairs[0], title)
        case "saliency":
            return saliency_of(verifier, pairs[:2])
    assert gallery is not None  # without people to show neither is drawn
    return gallery.map(title) if name == "map" else gallery.mosaic(title)


def _write(figure: "Figure", path: Path) -> None:
    from siamtune.report.figures import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(figure, path)
    except OSError as error:
        raise InvalidInput(
            f"{path}: the figure cannot be written there ({error.strerror}); choose another --to"
        ) from None
