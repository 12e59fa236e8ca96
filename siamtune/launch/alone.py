"""One configuration, recorded like a search of one: in this process, or on several workers."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from siamtune.config import DEFAULTS
from siamtune.errors import SiamtuneError
from siamtune.launch.cluster import (
    TrialResources,
    connect,
    prepare_environment,
    resolved,
)
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob, trial_folder
from siamtune.launch.mirror import mirrored
from siamtune.launch.preflight import preflight
from siamtune.launch.worker import run_trial
from siamtune.search.config_file import config_yaml
from siamtune.search.lock import driving
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
    *,
    resources: TrialResources | None = None,
    address: str | None = None,
) -> TrialRecord:
    """Train a flat configuration to its end and leave its best model in the run folder.

    One worker trains in this process, without Ray; several are a Ray Train group.

    Raises:
        ClusterError: the cluster cannot hold the workers.
        GangDied: the workers ended in the midst of the training.
        InvalidInput: another process drives this run, or its object store cannot be written.
    """
    resources = resources or TrialResources()
    if threads is None:
        several = resources.workers > 1  # each has so many processors, on whatever host
        threads = resources.threads if several else len(os.sched_getaffinity(0))
    job = TrialJob(
        number=0,
        config=config,
        hparams={},
        run_folder=str(run.folder.resolve()),
        data=data,
        split=facts.get("split"),
        threads=threads,
    )
    with driving(run), mirrored(run, tell) as mirror:
        if mirror is not None and resources.workers > 1:
            job = replace(job, store=run.url)
        recorder = Recorder(run.trials_path)
        unlike = {name: value for name, value in config.items() if value != DEFAULTS[name]}
        recorder.started(0, unlike, {key: facts[key] for key in ("data", "protocol", "split")})
        tell("  ".join(f"{column.rpartition('/')[2]:>8}" for column in COLUMNS))
        with closing(recorder), _results(job, resources, address) as results:
            try:
                for result in results:
                    if metrics := result.get("metrics"):
                        recorder.epoch(0, metrics)
                        tell("  ".join(f"{_short(metrics[column]):>8}" for column in COLUMNS))
                    if state := result.get("state"):
                        recorder.ended(0, state, result.get("reason"))
            except SiamtuneError as error:  # its workers are gone
                recorder.ended(0, "lost", str(error))
                raise
        folder = trial_folder(run.folder, 0)
        if mirror is not None and job.store is not None:
            mirror.fetch(f"trials/{folder.name}/{BEST}")
        if (folder / BEST).exists():
            write_text(run.folder / "best.yaml", config_yaml(config))
            ship_model(folder / BEST, run.best_model)
            for name in (LAST, BEST):
                (folder / name).unlink(missing_ok=True)
                if mirror is not None:
                    mirror.remove(f"trials/{folder.name}/{name}")
        return recorder.records[0]


@contextmanager
def _results(
    job: TrialJob, resources: TrialResources, address: str | None
) -> Iterator[Iterator[dict[str, Any]]]:
    if resources.workers == 1:
        yield run_trial(job)
        return
    prepare_environment(address)
    connect(address, resources, verbose=False)
    resources = resolved(resources)
    preflight(job.data, resources, output=job.store or Path(job.run_folder))
    from siamtune.launch.gang import Gang

    gang = Gang(resources)
    try:
        yield gang.run(replace(job, gpus_per_worker=resources.gpus_per_worker or 0.0))
    finally:
        gang.close()


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and value >= 1 else f"{value:.4f}"
