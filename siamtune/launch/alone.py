"""One configuration in this process: the worker's own loop, recorded like a search of one."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob, trial_folder
from siamtune.launch.worker import run_trial
from siamtune.search.config_file import config_yaml
from siamtune.search.records import Recorder, TrialRecord
from siamtune.search.runs import Run, write_text
from siamtune.training.checkpoint import ship_model

COLUMNS = ("epoch", "train/loss", "val/auc", "val/f1", "val/eer", "val/accuracy", "seconds")


def train_alone(
    run: Run,
    config: Mapping[str, Any],
    data: DataSpec,
    facts: Mapping[str, Any],
    threads: int | None,
    tell: Callable[[str], None],
) -> TrialRecord:
    """Train a flat configuration to its end and leave its best model in the run folder."""
    job = TrialJob(
        number=0,
        config=config,
        hparams={},
        run_folder=str(run.folder.resolve()),
        data=data,
        metric="val/auc",
        mode="max",
        threads=threads or len(os.sched_getaffinity(0)),
    )
    recorder = Recorder(run.trials_path)
    recorder.started(0, {}, {key: facts[key] for key in ("data", "protocol", "split")})
    tell("  ".join(f"{column.rpartition('/')[2]:>8}" for column in COLUMNS))
    for result in run_trial(job):
        if metrics := result.get("metrics"):
            recorder.epoch(0, metrics)
            tell("  ".join(f"{_short(metrics[column]):>8}" for column in COLUMNS))
        if state := result.get("state"):
            recorder.ended(0, state, result.get("reason"))
    recorder.close()
    folder = trial_folder(run.folder, 0)
    if (folder / BEST).exists():
        write_text(run.folder / "best.yaml", config_yaml(config))
        ship_model(folder / BEST, run.folder / "best" / "model.safetensors")
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
    return recorder.records[0]


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and value >= 1 else f"{value:.4f}"
