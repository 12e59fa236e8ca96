"""S2: the useful share of a search: training seconds over slots times wall seconds, ASHA on.

    python benchmarks/useful_share.py                            # a few short trials on the demo
    python benchmarks/useful_share.py --data-home DIR --long     # 32 trials on LFW, an hour

Two slots, one processor core each, the same trials for all: siamtune's search; Optuna with a
process a job; Ray Tune with OptunaSearch, ASHA and a fresh actor a trial. The others train with
siamtune's trainer too, so that only what lies between trials differs. Wall seconds begin with the
first trial.
"""

import multiprocessing
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import time

import optuna
import torch
from measuring import Figure, Options, in_turns, run_alone, wanted

from siamtune.config import trial_config
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, run_search
from siamtune.launch.worker import prepare_faces
from siamtune.search.runs import new_run
from siamtune.search.space import load_space
from siamtune.search.suggest import suggest
from siamtune.training.trainer import epochs

SLOTS = 2
SPACE = """
version: 1
study: {{trials: {trials}, scheduler: {{asha: {{min_epochs: 1, eta: 3}}}}, seed: {seed}}}
fixed: {{epochs: {epochs}, data.resolution_px: 48, model.width: 0.5, data.images_per_person: 4}}
space:
  optim.lr: {{float: [1e-4, 3e-2], log: true}}
  model.dropout: {{float: [0.0, 0.5]}}
  augmentation.strength: {{float: [0.0, 1.5]}}
"""


class Silent:
    def update(self, records, changed) -> None: ...
    def tick(self) -> None: ...
    def log(self, line: str) -> None: ...


def share(spans: list[tuple[float, float]], trained_s: float) -> float:
    """From each trial's start and end, and what all of them trained."""
    wall_s = max(end for _, end in spans) - min(start for start, _ in spans)
    return trained_s / (SLOTS * wall_s)


def ours(work: Path, space: str, data: DataSpec, trials: int) -> float:
    result = run_search(
        new_run(work / "runs", None, "share"), load_space(space), data,
        {"data": data.source, "protocol": "identity-holdout", "split": "-"},
        SearchOptions(trials=trials, concurrent=SLOTS), Silent(),
    )  # fmt: skip
    records = result.records.values()
    return share(
        [(record.started, record.ended or 0.0) for record in records],
        sum(record.training_s for record in records),
    )


def trained(config: dict, data: DataSpec) -> Iterator[dict[str, float]]:
    torch.set_num_threads(1)
    built = trial_config(config)
    for epoch in epochs(built, prepare_faces(data, built.data)):
        yield epoch.metrics


def optuna_job(journal: str, space: str, data: DataSpec, left) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    study = optuna.load_study(
        study_name="share", storage=storage,
        sampler=optuna.samplers.TPESampler(multivariate=True),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )  # fmt: skip
    loaded = load_space(space)

    def objective(trial: optuna.Trial) -> float:
        trained_s = 0.0
        for metrics in trained(suggest(loaded, trial), data):
            trained_s += metrics["seconds"]
            trial.set_user_attr("trained_s", trained_s)
            trial.report(metrics["val/auc"], int(metrics["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned
        return metrics["val/auc"]

    while True:
        with left.get_lock():
            if left.value <= 0:
                return
            left.value -= 1
        study.optimize(objective, n_trials=1)


def optuna_processes(space: str, data: DataSpec, trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        journal = f"{folder}/study.log"
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(journal)
        )
        study = optuna.create_study(study_name="share", storage=storage, direction="maximize")
        context = multiprocessing.get_context("spawn")
        left = context.Value("i", trials)
        jobs = [
            context.Process(target=optuna_job, args=(journal, space, data, left))
            for _ in range(SLOTS)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        ended = [trial for trial in study.get_trials() if trial.datetime_complete]
    return share(
        [(t.datetime_start.timestamp(), t.datetime_complete.timestamp()) for t in ended],
        sum(t.user_attrs["trained_s"] for t in ended),
    )


def ray_tune(space: str, data: DataSpec, trials: int) -> float:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    loaded = load_space(space)
    began: dict[str, float] = {}
    spans: dict[str, tuple[float, float]] = {}
    trained_s: dict[str, float] = {}

    def trial(config: dict) -> None:
        from ray import tune

        for metrics in trained({**loaded.fixed, **config}, data):
            tune.report({"auc": metrics["val/auc"], "epoch": metrics["epoch"],
                         "trained_s": metrics["seconds"]})  # fmt: skip

    class Spans(tune.Callback):
        def on_trial_start(self, iteration, trials, trial, **info) -> None:
            began.setdefault(trial.trial_id, time())

        def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
            seconds = result.get("trained_s", 0.0)
            trained_s[trial.trial_id] = trained_s.get(trial.trial_id, 0.0) + seconds

        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            spans[trial.trial_id] = began[trial.trial_id], time()

    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            trial,
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=SLOTS, metric="auc", mode="max",
                search_alg=OptunaSearch(space=lambda t: suggest(loaded, t) and None),
                scheduler=ASHAScheduler(
                    time_attr="epoch", max_t=int(loaded.fixed["epochs"]), grace_period=1,
                    reduction_factor=3,
                ),
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Spans()], verbose=0),
        ).fit()  # fmt: skip
    return share(list(spans.values()), sum(trained_s.values()))


def useful_share(options: Options) -> Iterator[Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = (
        DataSpec("lfw", str(options.data_home.resolve()))
        if options.data_home and options.long
        else DataSpec("demo")
    )
    trials, length = (32, 12) if options.long else (8, 4)
    turn = count()
    with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
        work = Path(name)

        def space() -> str:
            """Another seed each turn."""
            path = work / f"space-{next(turn)}.yaml"
            path.write_text(SPACE.format(trials=trials, epochs=length, seed=next(turn)))
            return str(path)

        prepare_faces(data, trial_config(dict(load_space(space()).fixed)).data)
        peers = {
            "Optuna, a process a job": lambda: optuna_processes(space(), data, trials),
            "Ray Tune: OptunaSearch, ASHA, a fresh actor a trial": lambda: ray_tune(
                space(), data, trials
            ),
        }
        figure = f"S2 useful share, {trials} trials of {data.source}, {SLOTS} slots"
        for against, theirs in peers.items():
            if wanted(options, f"{figure} {against}"):
                values = in_turns(lambda: ours(work, space(), data, trials), theirs)
                yield Figure(figure, against, "", *values, better="more", goal=0.92, goal_of="ours")


if __name__ == "__main__":
    run_alone(useful_share, __doc__ or "")
