"""One trial inside a worker: prepare the faces, train, write checkpoints and TensorBoard.

The same generator runs in a Tune slot that trains alone and on every rank of a Ray Train group.
Whatever goes wrong becomes the last result it yields, so the process lives on for the next trial.
"""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from siamtune.config import DataConfig, trial_config
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import Source, open_source
from siamtune.errors import CheckpointError, SiamtuneError, TrialCollapsed
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob
from siamtune.report.tensorboard import TrialBoard
from siamtune.search.records import State
from siamtune.training.checkpoint import read_checkpoint
from siamtune.training.distributed import rank, world_size
from siamtune.training.trainer import epochs


@lru_cache(maxsize=1)
def _source(data: DataSpec) -> Source:
    """Listing LFW's files takes a second: once a process, not once a trial."""
    return open_source(data.source, Path(data.data_home) if data.data_home else None)


def prepare_faces(
    data: DataSpec,
    config: DataConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> Faces:
    """The faces of a trial, from this node's cache or made and put there."""
    return prepare(
        _source(data),
        config,
        split_seed=data.split_seed,
        landmarks=Path(data.landmarks) if data.landmarks else None,
        progress=progress,
    )


def run_trial(job: TrialJob, device: torch.device | None = None) -> Iterator[dict[str, Any]]:
    """Yield one result an epoch; the last has "state" and, if it is not "complete", "reason".

    Closing the iterator stops the trial after the epoch that it yielded last. Interrupted trials go
    on from their last epoch, which lies in the trial's folder.
    """
    torch.set_num_threads(job.threads)
    board = None
    state: State = "stopped"
    try:
        config = trial_config(dict(job.config))
        faces = prepare_faces(job.data, config.data)
        last, best = job.folder / LAST, job.folder / BEST
        resume_from = last if _readable(last) else None
        best_value = _value(best, job.metric) if resume_from else None
        if rank() == 0:
            first_epoch = int(_progress(resume_from)) + 1 if resume_from else 1
            board = TrialBoard(
                job.tensorboard, job.hparams, config=job.config, first_epoch=first_epoch
            )
        with closing(epochs(config, faces, resume_from=resume_from, device=device)) as trained:
            for epoch in trained:
                metrics = epoch.metrics
                if rank() == 0:
                    assert board is not None
                    epoch.save(last)
                    value = metrics[job.metric]
                    if best_value is None or (
                        value > best_value if job.mode == "max" else value < best_value
                    ):
                        best_value = value
                        _link(last, best)
                    board.epoch(metrics)
                finished = metrics["epoch"] >= config.epochs
                if finished:
                    state = "complete"
                yield {"metrics": metrics} | ({"state": state} if finished else {})
        if resume_from and state != "complete":  # killed between its last epoch and its last word
            state = "complete"
            yield {"state": state}
    except Exception as error:
        state, reason = _classify(error)
        if state == "failed":
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "error.txt").write_text(traceback.format_exc())
        if world_size() > 1 and not isinstance(error, SiamtuneError):
            raise  # the other ranks wait in a collective for this one: the group must end
        yield {"state": state, "reason": reason}
    finally:
        if board is not None:
            board.end(state)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _classify(error: BaseException) -> tuple[State, str]:
    if isinstance(error, TrialCollapsed):
        return "collapsed", str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory", str(error).partition("\n")[0] or "out of memory"
    if isinstance(error, SiamtuneError):
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {error}".strip()


def _link(existing: Path, name: Path) -> None:
    """Give a finished file a second name, replacing what had it before; atomic, and no copy."""
    unfinished = name.with_name(f".{name.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    os.link(existing, unfinished)
    unfinished.replace(name)


def _readable(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        read_checkpoint(path)
    except CheckpointError:
        return False  # cut short: the trial starts anew
    return True


def _progress(path: Path) -> int:
    return int(read_checkpoint(path).facts["progress"]["epoch"])


def _value(path: Path, metric: str) -> float | None:
    return float(read_checkpoint(path).facts["metrics"][metric]) if _readable(path) else None
