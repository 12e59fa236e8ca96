"""Which model is meant where a command line names a folder, a run, or nothing."""

import os
from pathlib import Path

from siamtune.errors import CheckpointError, InvalidInput
from siamtune.search.history import History
from siamtune.search.replicas import replicated_best
from siamtune.search.runs import MODEL, find_run
from siamtune.shipping.verifier import built_in_model, model_path, shipped_model
from siamtune.training.checkpoint import read_facts


def find_model(name: str | None, output: Path) -> Path:
    """The file of a model: of an exported folder, a run by path or name, or a file.

    Without a name it is the one that siamtune brings along.

    Raises:
        CheckpointError: there is no such model.
    """
    if name is None:
        return built_in_model()
    path = Path(name).expanduser()
    if os.path.exists(path):  # False, too, for a name that is too long
        return model_path(path)
    try:
        return model_path(find_run(name, output).folder)
    except InvalidInput as error:
        if shipped := shipped_model(name):
            return shipped
        raise CheckpointError(
            f"--model must be an exported folder, {MODEL}, a run folder or a run's name, but: "
            f"{error}"
        ) from None


def best_model_of(history: History) -> tuple[int, int | None] | None:
    """The trial that the run's best model is of, and the replica if it is one's.

    What `rescore` has chosen says so itself; else it is that of the replication, if there was one,
    or the winner's. None without a trained trial.
    """
    model = history.run.best_model
    chosen = read_facts(model).get("rescored") if model.is_file() else None
    if chosen and chosen["trial"] in history.records:
        return chosen["trial"], chosen["replica"]
    if best := replicated_best(history):
        return best.trial, best.replica
    return (history.winner.number, None) if history.winner else None


def trial_checkpoint(history: History, trial: int | None) -> tuple[int, Path]:
    """A trial of a run, by default the best, and the file of its best epoch.

    Of an evaluation the trials are its folds, of which all models are kept.

    Raises:
        InvalidInput: there is none; only those of the best trials are kept.
    """
    best = best_model_of(history)
    if trial is None:
        if best is None:
            raise InvalidInput(f"{history.run.folder} must hold a trained trial, but has none yet")
        number, replica = best
    else:
        number, replica = history.trial(trial).number, None
    trials = history.run.folder / "trials"
    candidates = [trials / f"{number:04d}" / "best.safetensors"]
    if (number, replica) == best:
        candidates.insert(0, history.run.best_model)
    for path in (*candidates, history.run.fold_model(number)):
        if path.is_file():
            return number, path
    kept = sorted(int(path.parent.name) for path in trials.glob("*/best.safetensors"))
    raise InvalidInput(
        f"trial {number} must have a checkpoint, but {candidates[-1]} does not exist; kept are "
        f"those of the best trials: {', '.join(map(str, kept)) or 'none'}"
    )
