"""Which model is meant where a command line names a folder, a run, or nothing."""

import os
from pathlib import Path

from siamtune.errors import CheckpointError, InvalidInput
from siamtune.search.runs import find_run, list_runs
from siamtune.shipping.verifier import MODEL, model_path


def find_model(name: str | None, output: Path) -> Path:
    """The file of a model: of an exported folder, a run by path or name, or a file.

    Without a name it is the best of the latest run under `output` that has one.

    Raises:
        CheckpointError: there is no such model.
    """
    if name is None:
        return _latest(output)
    path = Path(name).expanduser()
    if os.path.exists(path):  # False, too, for a name that is too long
        return model_path(path)
    try:
        return model_path(find_run(name, output).folder)
    except InvalidInput as error:
        raise CheckpointError(
            f"--model must be an exported folder, {MODEL}, a run folder or a run's name, but: "
            f"{error}"
        ) from None


def _latest(output: Path) -> Path:
    models = [run.folder / "best" / MODEL for run in list_runs(output)]
    found = [path for path in models if path.is_file()]
    if not found:
        raise CheckpointError(
            f"there is no model: --model and $SIAMTUNE_MODEL are not given and no run in {output} "
            "has one; make one with: siamtune train"
        )
    return max(found, key=lambda path: (path.stat().st_mtime, str(path)))
