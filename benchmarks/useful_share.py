"""S2: the useful share of a search: training seconds over slots times wall seconds, ASHA on.

    python benchmarks/useful_share.py                            # a few short trials on the demo
    python benchmarks/useful_share.py --data-home DIR --long     # 32 trials on LFW, 100 minutes

Two slots, one processor core each, the same trials for all: siamtune's search; Optuna with a
process a job; Ray Tune with OptunaSearch, ASHA and a fresh actor a trial; with `--long` the same
with a TorchTrainer in each trial, as Ray documents it. The others train with siamtune's trainer
too, so that only what lies between trials differs. For all of them wall seconds
begin when the first epoch of training does and end with the last trial: what a search starts once,
processes that import torch, would else be most of a short one. The goal is one of the long form.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from time import time

import optuna
import torch
from measuring import Figure, Options, in_torch_trainer, run_alone, side_by_side, wanted

from siamtune.config import trial_config
from siamtune.launch.cluster import TrialResources, connect, prepare_environment
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, run_search
from siamtune.launch.worker import prepare_faces
from siamtune.search.runs import new_run
from siamtune.search.space import Space, load_space
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


class FirstEpochs:
    """Watches a search: when the first epoch of each trial began."""

    def __init__(self) -> None:
        self.began: dict[int, float] = {}

    def update(self, records, changed) -> None:
        if changed.epochs:
            self.began.setdefault(changed.number, time() - changed.epochs[0]["seconds"])

    def tick(self) -> None: ...
    def log(self, line: str) -> None: ...


def share(began: Iterable[float], ended: Iterable[float], trained_s: float) -> float:
    """From when each trial's first epoch began and it ended, and what all of them trained."""
    return trained_s / (SLOTS * (max(ended) - min(began)))


def ours(work: Path, space: str, data: DataSpec, trials: int) -> float:
    view = FirstEpochs()
    result = run_search(
        new_run(work / "runs", None, "share"), load_space(space), data,
        {"data": data.source, "protocol": "identity-holdout"},
        SearchOptions(trials=trials, concurrent=SLOTS), view,
    )  # fmt: skip
    records = result.records.values()
    return share(
        view.began.values(),
        [record.ended or 0.0 for record in records],
        sum(record.training_s for record in records),
    )


def trained(config: dict, data: DataSpec) -> Iterator[dict[str, float]]:
    torch.set_num_threads(1)
    built = trial_config(config)
    for epoch in epochs(built, prepare_faces(data, built.data)):
        yield epoch.metrics


def optuna_job(journal: str, space: str, data: DataSpec, left) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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
            if not trained_s:
                trial.set_user_attr("began", time() - metrics["seconds"])
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
            if job.exitcode:
                raise RuntimeError(f"a process ended with exit code {job.exitcode}")
        ended = [trial for trial in study.get_trials() if trial.datetime_complete]
    return share(
        [t.user_attrs["began"] for t in ended],
        [t.datetime_complete.timestamp() for t in ended],
        sum(t.user_attrs["trained_s"] for t in ended),
    )


def drawn(space: Space, trial: optuna.Trial) -> None:
    """The space as OptunaSearch wants it; it must be of a module, because Tune pickles it."""
    suggest(space, trial)


def fresh_actor(loaded: Space, data: DataSpec) -> Callable[[dict], None]:
    """A Tune function that trains in its own process."""

    def trial(config: dict) -> None:
        from ray import tune

        for metrics in trained({**loaded.fixed, **config}, data):
            tune.report(reported(metrics))

    return trial


def documented(loaded: Space, data: DataSpec) -> Callable[[dict], None]:
    """A Tune function that has a TorchTrainer train, as Ray's guide has it."""

    def worker(config: dict) -> None:
        import ray.train

        for metrics in trained({**loaded.fixed, **config}, data):
            ray.train.report(reported(metrics))

    return in_torch_trainer(worker, 1)


def reported(metrics: dict[str, float]) -> dict[str, float]:
    return {
        "auc": metrics["val/auc"], "epoch": metrics["epoch"], "trained_s": metrics["seconds"]
    }  # fmt: skip


def ray_tune(
    made: Callable[[Space, DataSpec], Callable[[dict], None]],
    space: str,
    data: DataSpec,
    trials: int,
) -> float:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    loaded = load_space(space)
    began: dict[str, float] = {}
    ended: list[float] = []
    trained_s: dict[str, float] = {}

    class Heard(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
            seconds = result.get("trained_s", 0.0)
            began.setdefault(trial.trial_id, time() - seconds)
            trained_s[trial.trial_id] = trained_s.get(trial.trial_id, 0.0) + seconds

        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            ended.append(time())

    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(made(loaded, data), {"cpu": 0.5}),  # a TorchTrainer takes the rest
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=SLOTS, metric="auc", mode="max",
                search_alg=OptunaSearch(
                    space=partial(drawn, loaded), metric="auc", mode="max"
                ),
                scheduler=ASHAScheduler(
                    time_attr="epoch", max_t=int(loaded.fixed["epochs"]), grace_period=1,
                    reduction_factor=3,
                ),
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Heard()], verbose=0),
        ).fit()  # fmt: skip
    if results.errors:
        raise results.errors[0]
    return share(began.values(), ended, sum(trained_s.values()))


def with_dashboard(measure: Callable[[], float]) -> float:
    """Measure on a Ray of its own whose dashboard runs.

    Without its state service the workers of a TorchTrainer whose trial was stopped early keep their
    processors, and the search stands still after a few trials.
    """
    prepare_environment()
    import ray  # reads the environment

    ray.shutdown()
    connect(None, TrialResources(workers=2), verbose=False)
    try:
        return measure()
    finally:
        ray.shutdown()


def useful_share(options: Options) -> Iterator[Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = (
        DataSpec("lfw", str(options.data_home.resolve()))
        if options.data_home and options.long
        else DataSpec("demo")
    )
    trials, length = (32, 12) if options.long else (4, 4)
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
                fresh_actor, space(), data, trials
            ),
        }
        if options.long:
            peers["Ray Tune: the same, a TorchTrainer a trial"] = lambda: with_dashboard(
                lambda: ray_tune(documented, space(), data, trials)
            )
        figure = f"S2 useful share, {trials} trials of {data.source}, {SLOTS} slots"
        theirs = {
            against: measure
            for against, measure in peers.items()
            if wanted(options, f"{figure} {against}")
        }
        values = side_by_side(lambda: ours(work, space(), data, trials), theirs)
        goal = 0.92 if options.long else None
        for against, (own, other) in values.items():
            yield Figure(figure, against, "", own, other, better="more", goal=goal, goal_of="ours")


if __name__ == "__main__":
    run_alone(useful_share, __doc__ or "")
