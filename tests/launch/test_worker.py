"""What a trial leaves behind in a process that trains the next one."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.launch import worker
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.worker import run_trial


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
