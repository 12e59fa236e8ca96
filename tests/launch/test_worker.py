"""What a trial leaves behind in a process that trains the next one."""

import errno
import gc
import weakref
from contextlib import closing
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.launch import worker
from siamtune.launch.job import BEST, DataSpec, TrialJob
from siamtune.launch.worker import run_trial
from siamtune.training import trainer
from siamtune.training.checkpoint import read_facts
from siamtune.verification.kept import read_answers
from siamtune.verification.metrics import roc_auc

DIVERGES = {"optim.name": "sgd", "optim.lr": 10.0, "loss.name": "hadsell", "loss.distance": "l2",
            "model.unit_length": False, "epochs": 30}  # fmt: skip


class Circle:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.own = self


def test_garbage_of_a_trial_goes_and_what_is_imported_is_looked_through_once(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    small = {"epochs": 1, "data.resolution_px": 16, "data.crop": "none", "model.width": 0.25,
             "model.embedding_size": 8, "batch.images": 16}  # fmt: skip
    garbage: list[Any] = []
    load = worker.validation_pairs

    def pairs(faces: Any) -> Any:
        garbage.append(weakref.ref(Circle()))
        return load(faces)

    monkeypatch.setattr(worker, "validation_pairs", pairs)
    monkeypatch.setattr(worker, "_set_modules_aside", worker._set_modules_aside.__wrapped__)
    gc.disable()  # only the trial's own collection remains
    try:
        for number in range(2):
            job = TrialJob(
                number, {**DEFAULTS, **small}, {}, str(tmp_path), DataSpec(str(pattern_people)),
                "val/auc", "max",
            )  # fmt: skip
            *_, last = run_trial(job)
            assert last["state"] == "complete"
            assert garbage[number]() is None
            # torch alone brings along so many; collections do not see them any more.
            assert gc.get_freeze_count() > 50_000 > len(gc.get_objects())
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("step", ["keep_answers", "_link"])
def test_what_is_kept_of_the_best_epoch_is_of_that_epoch_though_it_was_cut_short(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    small = {"epochs": 3, "data.resolution_px": 16, "data.crop": "none", "model.width": 0.25,
             "model.embedding_size": 8, "batch.images": 16, "optim.lr": 3e-3}  # fmt: skip
    job = TrialJob(0, {**DEFAULTS, **small}, {}, str(tmp_path), DataSpec(str(pattern_people)))
    real = getattr(worker, step)
    calls: list[int] = []

    def full(*given: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(worker, step, full)
        first = list(run_trial(job))
    assert first[-1]["state"] == "interrupted"
    results = [*first[:-1], *run_trial(replace(job, recorded_epochs=len(first) - 1))]
    assert results[-1]["state"] == "complete"
    metrics = [result["metrics"] for result in results]
    assert [each["epoch"] for each in metrics] == [1, 2, 3]
    best = max(metrics, key=itemgetter("val/auc"))
    kept = read_answers(tmp_path, 0)
    assert kept is not None
    assert kept.epoch == best["epoch"] > 1
    assert roc_auc(kept.answers.scores, kept.answers.same) == pytest.approx(best["val/auc"])
    assert read_facts(job.folder / BEST)["metrics"]["epoch"] == best["epoch"]


def test_pictures_that_changed_since_the_start_are_refused(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    job = TrialJob(0, DEFAULTS, {}, str(tmp_path), DataSpec(str(pattern_people)), split="5b1e")
    (result,) = run_trial(job)
    assert result["state"] == "failed"
    assert "must hold the pictures that it held at the start (split 5b1e)" in result["reason"]


@pytest.mark.parametrize(
    ("dials", "state"),
    [({}, "complete"), (DIVERGES, "collapsed"), (None, "failed")],
)
def test_no_network_is_alive_when_the_memory_of_a_trial_is_given_back(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch,
    dials: dict[str, Any] | None, state: str,
) -> None:  # fmt: skip
    """What is alive then stays in the memory of a GPU while the next trial begins."""
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    networks: list[Any] = []
    build = trainer.build_model

    def building(*given: Any, **named: Any) -> Any:
        network = build(*given, **named)
        networks.append(weakref.ref(network))
        return network

    alive: list[bool] = []
    monkeypatch.setattr(trainer, "build_model", building)
    monkeypatch.setattr(worker, "_set_modules_aside", lambda: None)
    monkeypatch.setattr(
        worker, "return_freed_memory", lambda: alive.append(networks[0]() is not None)
    )
    if dials is None:

        def broken(*given: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(worker, "keep_answers", broken)
    small = {"epochs": 1, "data.resolution_px": 16, "data.crop": "none", "model.width": 0.25,
             "model.embedding_size": 8, "batch.images": 16}  # fmt: skip
    job = TrialJob(0, {**DEFAULTS, **small, **(dials or {})}, {}, str(tmp_path),
                   DataSpec(str(pattern_people)))  # fmt: skip
    with closing(run_trial(job)) as results:
        while "state" not in (result := next(results)):
            pass
    assert result["state"] == state
    assert alive == [False]
