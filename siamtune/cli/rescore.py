"""`siamtune rescore`: other scores for trained embeddings, without training again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import options
from siamtune.errors import InvalidInput

if TYPE_CHECKING:
    from siamtune.search.history import History


def rescore(
    run: options.RunName,
    trials: Annotated[
        int, typer.Option(help="How many of the best kept models to try.", min=1)
    ] = 3,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            help="cosine, l1, l2, logistic, whitening, lda, joint_bayesian or csls. May be "
            "repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Make the best the run's best model.")] = True,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Try all scores on a search's best models: siamtune rescore latest

    Each score, with and without averaging a picture with its mirror image, is fitted on training
    people and judged by the AUC of validation people. The best one goes into the run's
    best/model.safetensors, which `export`, `predict` and `embed` use, and its configuration into
    best.yaml; it may be another trial's than the winner's.
    """
    options.check_scorers(scorer)
    from siamtune.cli.search import tell
    from siamtune.launch.mirror import mirrored
    from siamtune.search.config_file import config_yaml
    from siamtune.search.history import read_history
    from siamtune.search.lock import driving
    from siamtune.search.runs import write_text
    from siamtune.shipping.rescore import ship_scored, try_scorers
    from siamtune.verification.scorers import SCORERS

    history = read_history(run, output)
    rows: list[dict[str, Any]] = []
    best: Any = None
    for of, checkpoint in _checkpoints(history, trials):
        faces = _faces(history, checkpoint)
        for scored in try_scorers(checkpoint, faces, scorer or list(SCORERS), (False, True)):
            auc = scored.metrics["auc"]
            rows.append(
                {
                    **of,
                    "scorer": scored.name,
                    "flip": scored.flip,
                    "metrics": scored.metrics,
                }
            )
            flipped = ", flip-averaged" if scored.flip else ""
            tell(f"trial {_named(of)}  {scored.name:15} val/auc {auc:.4f}{flipped}")
            if best is None or auc > best[2].metrics["auc"]:
                best = of, checkpoint, scored
    if best is None:
        raise InvalidInput("no scorer could be fitted on these embeddings; name another --scorer")
    of, checkpoint, scored = best
    flipped = ", flip-averaged" if scored.flip else ""
    said = f"trial {_named(of)} by {scored.name}{flipped}, val/auc {scored.metrics['auc']:.4f}"
    model = history.run.best_model
    if keep:
        with driving(history.run), mirrored(history.run, tell):
            facts = ship_scored(checkpoint, scored, model, of)
            about = f"{said}, of {history.run.name}"
            write_text(history.run.folder / "best.yaml", config_yaml(facts["config"], about))
    if as_json:
        document = {
            "schema": "siamtune.rescore/1",
            "run": str(history.run.folder),
            "model": str(model) if keep else None,
            "best": {**of, "scorer": scored.name, "flip": scored.flip},
            "scores": rows,
        }
        print(json.dumps(document, indent=2))
        return
    _print(history, rows)
    print(f"best: {said}")
    if keep:
        print(f"model: {model}")


def _checkpoints(history: "History", count: int) -> list[tuple[dict[str, int | None], Path]]:
    """Of the best kept models "trial" and "replica", which is None for a trial's own, and the file.

    Raises:
        InvalidInput: no model is kept.
    """
    from siamtune.launch.job import BEST, trial_folder
    from siamtune.search.replicas import replicas_run, replicated_best
    from siamtune.shipping.find import best_model_of

    wanted: list[tuple[int, int | None]] = [(record.number, None) for record in history.ranked]
    best = replicated_best(history)
    if best and best.replica is not None:
        wanted.insert(0, (best.trial, best.replica))
    shipped_of = best_model_of(history)
    found: list[tuple[dict[str, int | None], Path]] = []
    for trial, replica in wanted:
        run = history.run if replica is None else replicas_run(history.run)
        kept = trial_folder(run.folder, trial if replica is None else replica) / BEST
        if not kept.is_file() and (trial, replica) == shipped_of:
            kept = history.run.best_model
        if kept.is_file():
            found.append(({"trial": trial, "replica": replica}, kept))
    if not found:
        raise InvalidInput(f"{history.run.folder} must hold a trained model, but has none yet")
    return found[:count]


def _named(of: Mapping[str, Any]) -> str:
    return f"{of['trial']}" if of["replica"] is None else f"{of['trial']}, replica {of['replica']}"


def _faces(history: "History", checkpoint: Path) -> Any:
    """The pictures of the run, which must be those of the training.

    Raises:
        DataError: they are not.
    """
    from siamtune.config import trial_config
    from siamtune.errors import DataError
    from siamtune.launch.job import data_spec_of
    from siamtune.launch.worker import prepare_faces
    from siamtune.report.progress import progress_bar
    from siamtune.training.checkpoint import read_facts

    facts = read_facts(checkpoint)
    spec = data_spec_of(history.facts)
    if spec is None:
        raise DataError(f"{history.run.facts_path} must say where the data lies, but does not")
    with progress_bar() as progress:
        data = trial_config(facts["config"]).data
        faces = prepare_faces(spec, data, progress)
    if faces.split.digest != facts["split"]["digest"]:
        raise DataError(
            f"the data must be that of the training, split {facts['split']['digest']}, but got "
            f"split {faces.split.digest}"
        )
    return faces


def _print(history: "History", rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    values = {
        (_named(row), row["scorer"], row["flip"]): f"{row['metrics']['auc']:.4f}" for row in rows
    }
    facts = history.facts
    table = Table(
        title=f"val/auc ({facts['data']}, {facts['protocol']}, split {facts['split']})",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for heading in ("trial", "scorer", "as it is", "flip-averaged"):
        table.add_column(heading, justify="left" if heading == "scorer" else "right", no_wrap=True)
    for model, name in dict.fromkeys((_named(row), row["scorer"]) for row in rows):
        cells = (values.get((model, name, flip), "") for flip in (False, True))
        table.add_row(model, name, *cells)
    options.table_console().print(table)
