"""The pages of a search's finalists in TensorBoard, written when it has ended."""

from collections.abc import Callable
from pathlib import Path

from siamtune.report.tensorboard import finalist_step, remove_finalist, trial_text
from siamtune.search.history import History
from siamtune.search.records import TrialRecord, best_epoch

# Of the trials whose checkpoints are kept; each takes some seconds.
FINALISTS = 3

Progress = Callable[[str, int, int], None]


def finalists_to_show(history: History) -> list[TrialRecord]:
    """The best trials whose pages are missing, or show the model of another epoch."""
    return [
        record
        for record in history.ranked[:FINALISTS]
        if finalist_step(_folder(history, record)) != _step(history, record)
    ]


def show_finalists(history: History, progress: Progress | None = None) -> list[str]:
    """Write the pages that are missing, take away those of trials that others have displaced.

    Returns why there is none of a finalist, one line each: nothing here is worth a search.
    """
    finalists = history.ranked[:FINALISTS]
    numbers = {record.number for record in finalists}
    problems = []
    wanted = finalists_to_show(history)
    try:
        for record in history.records.values():
            if record.number not in numbers:
                remove_finalist(_folder(history, record))
    except OSError as error:
        problems.append(str(error))
    for done, record in enumerate(wanted):
        if progress:
            progress("TensorBoard, finalists", done, len(wanted))
        try:
            _show(history, record)
        except Exception as error:  # of drawing, of the disk, of data that are gone
            problems.append(f"trial {record.number}: {error}")
        if progress:
            progress("TensorBoard, finalists", done + 1, len(wanted))
    return problems


def _show(history: History, record: TrialRecord) -> None:
    # `siamtune board` shall not wait for torch where nothing is missing.
    from siamtune.launch.gallery import open_gallery
    from siamtune.launch.job import data_spec_of
    from siamtune.report.finalists import write_finalist
    from siamtune.shipping.find import trial_checkpoint
    from siamtune.shipping.verifier import load

    objective = history.space.objective
    _, path = trial_checkpoint(history, record.number)
    spec = data_spec_of(history.facts, record.number)
    if spec is None:
        raise ValueError("run.json does not say where the data lies")
    landmarks = Path(spec.landmarks) if spec.landmarks else None
    gallery = open_gallery(load(path, device="cpu", landmarks=landmarks), spec)
    split = gallery.faces.split.digest
    if split != record.facts.get("split", split):
        raise ValueError(f"the data has changed: its split is {split} now")
    about = trial_text(
        record.state,
        record.reason,
        best_epoch(record, objective.metric, objective.mode),
        {**record.facts, "place": history.ranked.index(record) + 1, "checkpoint": path},
    )
    write_finalist(_folder(history, record), gallery, _step(history, record), about)


def _folder(history: History, record: TrialRecord) -> Path:
    return history.run.tensorboard / f"{record.number:04d}"


def _step(history: History, record: TrialRecord) -> int:
    objective = history.space.objective
    best = best_epoch(record, objective.metric, objective.mode)
    return int(best["epoch"]) if best else 0
