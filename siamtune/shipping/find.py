"""Which model is meant where a command line names a folder, a run, or nothing."""

import os
from pathlib import Path

from siamtune.errors import CheckpointError, InvalidInput
from siamtune.search.runs import find_run
from siamtune.shipping.verifier import MODEL, built_in_model, model_path


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
        raise CheckpointError(
            f"--model must be an exported folder, {MODEL}, a run folder or a run's name, but: "
            f"{error}"
        ) from None
