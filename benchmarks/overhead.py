"""S1: what a trial costs besides its training, in the steady state.

    python benchmarks/overhead.py                        # one worker a trial
    python benchmarks/overhead.py --long                 # two workers as well
    python benchmarks/overhead.py --peer syne-tune=VENV/bin/python

One trial at a time, trivial ones. Overhead is the time from the end of a trial to the end of the
next less what that one trained. Against: the pattern that Ray documents, a TorchTrainer inside a
Tune function (docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html); a Tune
function with Ray's fresh actor a trial; Optuna with a process for each of its jobs; and syne-tune's
local backend, installed by whoever wants it in an environment of its own:

    python -m venv VENV && VENV/bin/pip install "syne-tune[extra]" torch
"""

import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from time import perf_counter, time

import optuna
from leaks import TINY, people
from measuring import Figure, Options, in_turns, run_alone, wanted

from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, run_search
from siamtune.search.runs import new_run
from siamtune.search.space import load_space

# Trials of a turn: the first is left out, it starts what the others find.
OURS, FEW, MANY = 13, 3, 12
SPACE = f"""
version: 1
study: {{trials: {OURS}, scheduler: {{none: {{}}}}, sampler: {{random: {{}}}}, seed: 0}}
fixed:
  epochs: 1
{TINY}space:
  optim.lr: {{float: [1e-4, 1e-2], log: true}}
"""
# A trial of syne-tune is a program; this one does what `trivial` does.
SYNE_TUNE_TRIAL = """
import argparse, time
from syne_tune import Reporter
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
lr = parser.parse_args().lr
import torch
began = time.time()
layer = torch.nn.Linear(64, 8)
for _ in range(20):
    layer.zero_grad()
    layer(torch.randn(16, 64)).square().mean().backward()
Reporter()(loss=lr, trained_s=time.time() - began)
"""
SYNE_TUNE_SEARCH = """
import json, sys
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import loguniform
from syne_tune.optimizer.baselines import RandomSearch
trials = int(sys.argv[2])
tuner = Tuner(
    trial_backend=LocalBackend(entry_point=sys.argv[1]),
    scheduler=RandomSearch({"lr": loguniform(1e-4, 1e-2)}, metrics=["loss"]),
    stop_criterion=StoppingCriterion(max_num_trials_finished=trials),
    n_workers=1, save_tuner=False, results_update_interval=1e9, print_update_interval=1e9,
)
tuner.run()
results = tuner.trial_backend._trial_dict
ends = [(r.training_end_time or r.creation_time).timestamp() for r in results.values()]
print("ENDS", json.dumps(sorted(ends)))
"""


def trivial() -> float:
    """Train next to nothing; returns the seconds that it took."""
    import torch

    began = time()
    layer = torch.nn.Linear(64, 8)
    for _ in range(20):
        layer.zero_grad()
        layer(torch.randn(16, 64)).square().mean().backward()
    return time() - began


def between(ends: list[float], trained_s: list[float]) -> float:
    """The mean overhead of all trials but the first."""
    steps = [after - before for before, after in pairwise(ends)]
    return fmean(steps) - fmean(trained_s[1:])


class Silent:
    def update(self, records, changed) -> None: ...
    def tick(self) -> None: ...
    def log(self, line: str) -> None: ...


def ours(work: Path, workers: int) -> float:
    space = work / "space.yaml"
    space.write_text(SPACE)
    result = run_search(
        new_run(work / "runs", None, "overhead"), load_space(str(space)),
        DataSpec(str(work / "people")),
        {"data": "patterns", "protocol": "identity-holdout", "split": "-"},
        SearchOptions(
            trials=OURS,
            concurrent=1,
            resources=TrialResources(workers, cpus_per_worker=1 / workers),
        ),
        Silent(),
    )  # fmt: skip
    records = [result.records[number] for number in sorted(result.records)]
    return between([r.ended or 0.0 for r in records], [r.training_s for r in records])


def tuned(function: Callable[[dict[str, float]], None], trials: int) -> float:
    """The overhead of Tune trials that report `trained_s`."""
    from ray import tune

    heard: list[tuple[float, float]] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            heard.append((time(), trial.last_result["trained_s"]))

    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            function,
            param_space={"lr": tune.loguniform(1e-4, 1e-2)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Ends()], verbose=0),
        ).fit()
    if results.errors:
        raise results.errors[0]
    return between([end for end, _ in heard], [trained for _, trained in heard])


def fresh_actors() -> float:
    def trial(config: dict[str, float]) -> None:
        from ray import tune

        tune.report({"trained_s": trivial()})

    return tuned(trial, FEW)


def documented(workers: int) -> float:
    """A TorchTrainer inside a Tune function, as Ray's guide has it."""

    def worker(config: dict[str, float]) -> None:
        import ray.train

        ray.train.report({"trained_s": trivial()})

    def trial(config: dict[str, float]) -> None:
        import ray.train
        from ray import tune
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        TorchTrainer(
            worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, resources_per_worker={"CPU": 0.5 / workers}
            ),
            run_config=ray.train.RunConfig(
                name=f"train-trial_id={tune.get_context().get_trial_id()}",
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    return tuned(trial, FEW)


def optuna_job(journal: str, trials: int) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    study = optuna.load_study(study_name="overhead", storage=storage)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        trial.set_user_attr("trained_s", trivial())
        return 0.0

    study.optimize(objective, n_trials=trials)


def optuna_processes() -> float:
    """A process for a job, a study in a journal."""
    with tempfile.TemporaryDirectory() as folder:
        journal = f"{folder}/study.log"
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(journal)
        )
        study = optuna.create_study(study_name="overhead", storage=storage)
        job = multiprocessing.get_context("spawn").Process(target=optuna_job, args=(journal, MANY))
        job.start()
        job.join()
        trials = study.get_trials()
    return between(
        [trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete],
        [trial.user_attrs["trained_s"] for trial in trials],
    )


def syne_tune(python: Path) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trial.py").write_text(SYNE_TUNE_TRIAL)
        (folder / "search.py").write_text(SYNE_TUNE_SEARCH)
        told = subprocess.run(
            [python, folder / "search.py", folder / "trial.py", str(FEW + 2)],
            check=True, capture_output=True, text=True, cwd=folder,
            env={**os.environ, "SYNETUNE_FOLDER": name, "PYTHONPATH": ""},
        )  # fmt: skip
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("ENDS ")]
    ends = json.loads(line.removeprefix("ENDS "))
    return between(ends, [0.0] * len(ends))  # what it trains is a hundredth of a second


def overhead(options: Options) -> Iterator[Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    contenders: list[tuple[int, str, Callable[[], float], float | None]] = [
        (1, "TorchTrainer in a Tune function", lambda: documented(1), 1 / 50),
        (1, "Ray's fresh actor a trial", fresh_actors, 1.0),
        (1, "Optuna, a process a job", optuna_processes, None),
    ]
    if options.long:
        contenders.insert(0, (2, "TorchTrainer in a Tune function", lambda: documented(2), 1 / 20))
    if "syne-tune" in options.peers:
        python = options.peers["syne-tune"]
        contenders.append((1, "syne-tune's local backend", lambda: syne_tune(python), 1.0))
    with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
        work = Path(name)
        os.environ["SIAMTUNE_CACHE"] = str(work / "cache")
        people(work / "people")
        ours(work, 2 if options.long else 1)  # starts Ray, with a dashboard if a group needs one
        for workers, against, theirs, goal in contenders:
            figure = f"S1 overhead a trial, {workers} worker{'s' * (workers > 1)}"
            if not wanted(options, f"{figure} {against}"):
                continue
            began = perf_counter()
            values = in_turns(lambda workers=workers: ours(work, workers), theirs)
            print(f"{against}: {perf_counter() - began:.0f} s", flush=True)
            yield Figure(figure, against, "s", *values, goal=goal)


if __name__ == "__main__":
    run_alone(overhead, __doc__ or "")
