"""One trial inside a worker: prepare the faces, train, write checkpoints and TensorBoard.

The same generator runs in a Tune slot that trains alone and on every rank of a Ray Train group.
Whatever goes wrong becomes the last result it yields, so the process lives on for the next trial.
"""

import errno
import gc
import os
import socket
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from siamtune.config import DataConfig, trial_config
from siamtune.data.decode import decode
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import Source, open_source
from siamtune.errors import (
    CheckpointError,
    ClusterError,
    DataError,
    SiamtuneError,
    TrialCollapsed,
    Unwritable,
)
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob
from siamtune.launch.mirror import run_stored_trial
from siamtune.launch.preflight import check_host
from siamtune.report.tensorboard import TrialBoard
from siamtune.search.records import State
from siamtune.training.checkpoint import Checkpoint, read_checkpoint
from siamtune.training.distributed import first_told, rank, world_size
from siamtune.training.evaluation import validation_pairs
from siamtune.training.memory import return_freed_memory
from siamtune.training.trainer import Epoch, epochs
from siamtune.verification.kept import keep_answers
from siamtune.verification.protocols import Fold, collection, protocol_folds

# What torch says, in a plain RuntimeError, when the host has no memory left ...
NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")
# ... and when another rank has vanished in the midst of a message.
PEER_GONE = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


@lru_cache(maxsize=1)
def _source(name: str, data_home: str | None) -> Source:
    """Listing LFW's files takes a second: once a process, not once a trial."""
    return open_source(name, Path(data_home) if data_home else None)


def data_source(data: DataSpec) -> Source:
    """The pictures that a trial's data name."""
    return _source(data.source, data.data_home)


def prepare_faces(
    data: DataSpec,
    config: DataConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> Faces:
    """The faces of a trial, from this node's cache or made and put there."""
    # The split of identity-holdout needs no more than the seed.
    fold = None
    if data.protocol != "identity-holdout":
        fold = data_folds(data, progress)[data.fold - 1]
    return prepare(
        data_source(data),
        config,
        split_seed=data.split_seed,
        split=fold.split if fold else None,
        landmarks=Path(data.landmarks) if data.landmarks else None,
        progress=progress,
    )


def data_folds(
    data: DataSpec, progress: Callable[[str, int, int], None] | None = None
) -> tuple[Fold, ...]:
    """All folds of the protocol that a trial's data name."""
    source = data_source(data)
    return protocol_folds(
        data.protocol,
        collection(source, decode(source, progress=progress)),
        seed=data.split_seed,
        data_home=Path(data.data_home) if data.data_home else None,
        validation_share=data.validation_share,
    )


def run_trial(
    job: TrialJob, device: torch.device | None = None
) -> Generator[dict[str, Any], None, None]:
    """Yield one result an epoch; the last has "state" and, if it is not "complete", "reason".

    Closing the iterator stops the trial after the epoch that it yielded last. Interrupted trials go
    on from their last epoch, which lies in the trial's folder.
    """
    if job.store is not None:
        yield from run_stored_trial(job, lambda local: run_trial(local, device))
        return
    torch.set_num_threads(job.threads)
    board = None
    best_metrics: Mapping[str, float] | None = None
    state: State = "stopped"
    reason: str | None = None
    ending: dict[str, Any] | None = None
    epoch: Epoch | None = None
    try:
        config = trial_config(dict(job.config))
        faces = _prepare_together(job, config.data)
        pairs = validation_pairs(faces)
        last, best = job.folder / LAST, job.folder / BEST
        before = _readable(last)
        history = before.facts["progress"]["history"] if before else []
        if rank() == 0:
            board = TrialBoard(
                job.tensorboard,
                job.hparams,
                config=job.config,
                facts=data_facts(faces),
                first_epoch=job.recorded_epochs + 1,
            )
        # What was trained before the trial was interrupted, but never heard of.
        for metrics in history[job.recorded_epochs :]:
            if board is not None:
                board.epoch(metrics)
            state = "complete" if metrics["epoch"] >= config.epochs else state
            yield _result(metrics, state)
        value = max if job.mode == "max" else min
        best_metrics = value(history, key=itemgetter(job.metric), default=None)
        if rank() == 0 and history and best_metrics is history[-1]:
            _link(last, best)  # it may have been killed before it could
        resume_from = last if before else None
        with closing(epochs(config, faces, resume_from=resume_from, device=device)) as trained:
            for epoch in trained:
                metrics = epoch.metrics
                if board is not None:
                    # The first of equal epochs stays the best.
                    is_best = best_metrics is None or best_metrics is not value(
                        best_metrics, metrics, key=itemgetter(job.metric)
                    )
                    with _writing(job.folder):
                        if is_best:  # before the checkpoint: an epoch that has one is not redone
                            keep_answers(
                                Path(job.run_folder), job.number, pairs, faces.identities,
                                faces.split.digest, epoch.scores, metrics["threshold"],
                                int(metrics["epoch"]),
                            )  # fmt: skip
                        epoch.save(last)
                        if is_best:
                            best_metrics = metrics
                            _link(last, best)
                    board.epoch(metrics)
                state = "complete" if metrics["epoch"] >= config.epochs else state
                yield _result(metrics, state)
        if state != "complete":  # all was told but the end
            state = "complete"
            ending = {"state": state}
    except Exception as error:
        state, reason = _classify(error)
        unfit = isinstance(error, ClusterError)
        if state == "failed" and Path(job.run_folder).is_dir():
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "error.txt").write_text(traceback.format_exc())
        if world_size() > 1 and not isinstance(error, SiamtuneError):
            raise  # the other ranks wait in a collective for this one: the group must end
        # Told when all is freed: here the error still holds the frames that the network lies in.
        ending = {"state": state, "reason": reason} | ({"unfit_host": True} if unfit else {})
    finally:
        if board is not None:
            board.end(state, reason, best_metrics)
        epoch = None  # it can still write the network
        gc.collect()
        _set_modules_aside()
        return_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if ending is not None:
        yield ending


@cache
def _set_modules_aside() -> None:
    """Let later collections pass over what the first trial has imported: a fifth of a second each.

    After a collection nothing but what lives on is there to be set aside.
    """
    gc.freeze()


def data_facts(faces: Faces) -> dict[str, str]:
    """What the numbers of a trial were measured on."""
    split = faces.split
    return {"data": faces.source, "protocol": split.protocol, "split": split.digest}


def _prepare_together(job: TrialJob, config: DataConfig) -> Faces:
    """The faces of a trial on every rank, or the same failure on every rank.

    A rank whose host is unfit or lacks the pictures would else leave the others waiting for it.
    """
    if world_size() == 1:
        return _checked_faces(job, config)
    faces = None
    fault: tuple[type[SiamtuneError], str] | None = None
    try:
        faces = _checked_faces(job, config)
    except ClusterError as error:
        fault = (ClusterError, str(error))
    except (SiamtuneError, OSError) as error:
        fault = (DataError, f"worker {rank()}: {error}")
    if found := first_told(fault):
        kind, told = found
        raise kind(told)
    assert faces is not None
    return faces


def _checked_faces(job: TrialJob, config: DataConfig) -> Faces:
    """The faces of a trial on a host that is fit for it, of the pictures that the driver saw.

    Raises:
        ClusterError: the host is unfit.
        DataError: there are other pictures here, or now.
    """
    check_host(job)
    faces = prepare_faces(job.data, config)
    if job.split not in (None, faces.split.digest):
        raise DataError(
            f"{job.data.source} must hold the pictures that it held at the start (split "
            f"{job.split}), but on {socket.gethostname()} its split is {faces.split.digest}; put "
            "back what was there, or begin another run"
        )
    return faces


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A checkpoint that cannot be written is no fault of its trial."""
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{folder} must be writable, but {error}") from error


def _classify(error: BaseException) -> tuple[State, str]:
    text = str(error).partition("\n")[0]
    if isinstance(error, TrialCollapsed):
        return "collapsed", str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    ):
        return "out_of_memory", text or "out of memory"
    if isinstance(error, Unwritable | ClusterError):  # no fault of the trial's
        return "interrupted", str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "interrupted", f"there must be room on the disk, but {error}"
    if isinstance(error, SiamtuneError):
        return "failed", str(error)
    if world_size() > 1 and (
        isinstance(error, dist.DistError) or any(words in str(error) for words in PEER_GONE)
    ):
        return "lost", f"another worker of the trial is gone: {text}"
    return "failed", f"{type(error).__name__}: {error}".strip()


def _link(existing: Path, name: Path) -> None:
    """Give a finished file a second name, replacing what had it before; atomic, and no copy."""
    unfinished = name.with_name(f".{name.name}.{socket.gethostname()}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    os.link(existing, unfinished)
    unfinished.replace(name)


def _result(metrics: Mapping[str, float], state: State) -> dict[str, Any]:
    return {"metrics": metrics} | ({"state": state} if state == "complete" else {})


def _readable(path: Path) -> Checkpoint | None:
    """The checkpoint at a path; None if there is none, or half of one: the trial starts anew."""
    try:
        return read_checkpoint(path)
    except CheckpointError:
        return None
