"""S1: what a trial costs besides its training, in the steady state.

    python benchmarks/overhead.py                        # one worker a trial
    python benchmarks/overhead.py --long                 # two workers as well
    python benchmarks/overhead.py --peer syne-tune=VENV/bin/python

One trial at a time, trivial ones. Overhead is the time from the end of a trial to the end of the
next less what that one trained; of Tune's trials, which start everything anew, the time since their
configuration was drawn, so that one a turn is enough. Against: the pattern that Ray documents, a
TorchTrainer inside a Tune function
(docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html); a Tune function with
Ray's fresh actor a trial; Optuna with a process for each of its jobs; and syne-tune's local
backend, which asks for results every 0.1 s here, every 5 s by default. It is installed by whoever
wants it in an environment of its own:

    python -m venv VENV && VENV/bin/pip install "syne-tune[extra]==0.16.0" torch
"""

import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from time import time

import optuna
from leaks import TINY, people
from measuring import Figure, Options, in_torch_trainer, run_alone, side_by_side, wanted

from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, run_search
from siamtune.search.runs import new_run
from siamtune.search.space import load_space

# Trials of a turn: the first is left out, it starts what the others find.
OURS, OPTUNAS, SYNE_TUNES = 13, 13, 2
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
parser.add_argument("--st_checkpoint_dir")
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
import json, sys, time
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import loguniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.tuner_callback import TunerCallback
class Ends(TunerCallback):
    heard = []
    def on_trial_complete(self, trial, result):
        self.heard.append((time.time(), result["trained_s"]))
trials = int(sys.argv[2])
tuner = Tuner(
    trial_backend=LocalBackend(entry_point=sys.argv[1]),
    scheduler=RandomSearch({"lr": loguniform(1e-4, 1e-2)}, metrics=["loss"]),
    # It stops beyond this number.
    stop_criterion=StoppingCriterion(max_num_trials_finished=trials - 1),
    n_workers=1, sleep_time=0.1, callbacks=[Ends()], save_tuner=False,
    results_update_interval=1e9, print_update_interval=1e9,
)
tuner.run()
print("ENDS", json.dumps(Ends.heard))
"""


# Against whom -> how to measure it, and the ratio to reach.
Peers = dict[str, tuple[Callable[[], float], float | None]]


def trivial() -> float:
    """Train next to nothing; returns the seconds that it took."""
    import torch

    began = time()
    layer = torch.nn.Linear(64, 8)
    for _ in range(20):
        layer.zero_grad()
        layer(torch.randn(16, 64)).square().mean().backward()
    return time() - began


def between(ends: Sequence[float], trained_s: Sequence[float]) -> float:
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
        {"data": "patterns", "protocol": "identity-holdout"},
        SearchOptions(
            trials=OURS,
            concurrent=1,
            resources=TrialResources(workers, cpus_per_worker=1 / workers),
        ),
        Silent(),
    )  # fmt: skip
    records = [result.records[number] for number in sorted(result.records)]
    return between([r.ended or 0.0 for r in records], [r.training_s for r in records])


def tuned(function: Callable[[dict[str, float]], None]) -> float:
    """The overhead of a Tune trial that reports `trained_s`."""
    from ray import tune

    ends: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info) -> None:
            ends.append(time())

    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            function,
            param_space={
                "lr": tune.loguniform(1e-4, 1e-2), "drawn": tune.sample_from(lambda _: time())
            },
            run_config=tune.RunConfig(storage_path=folder, callbacks=[Ends()], verbose=0),
        ).fit()  # fmt: skip
    if results.errors:
        raise results.errors[0]
    (result,), (end,) = results, ends
    return end - result.config["drawn"] - result.metrics["trained_s"]


def fresh_actors() -> float:
    def trial(config: dict[str, float]) -> None:
        from ray import tune

        tune.report({"trained_s": trivial()})

    return tuned(trial)


def documented(workers: int) -> float:
    """A TorchTrainer inside a Tune function, as Ray's guide has it."""

    def worker(config: dict[str, float]) -> None:
        import ray.train

        ray.train.report({"trained_s": trivial()})

    return tuned(in_torch_trainer(worker, workers))


def optuna_job(journal: str, trials: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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
        job = multiprocessing.get_context("spawn").Process(
            target=optuna_job, args=(journal, OPTUNAS)
        )
        job.start()
        job.join()
        if job.exitcode:
            raise RuntimeError(f"its process ended with exit code {job.exitcode}")
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
            [python, folder / "search.py", folder / "trial.py", str(SYNE_TUNES)],
            check=True, capture_output=True, text=True, cwd=folder,
            env={**os.environ, "SYNETUNE_FOLDER": name, "PYTHONPATH": ""},
        )  # fmt: skip
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("ENDS ")]
    ends, trained_s = zip(*json.loads(line.removeprefix("ENDS ")), strict=True)
    return between(ends, trained_s)


def overhead(options: Options) -> Iterator[Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    contenders: dict[int, Peers] = {
        1: {
            "TorchTrainer in a Tune function": (lambda: documented(1), 1 / 50),
            "Ray's fresh actor a trial": (fresh_actors, 1.0),
            "Optuna, a process a job": (optuna_processes, None),
        }
    }
    if "syne-tune" in options.peers:
        python = options.peers["syne-tune"]
        contenders[1]["syne-tune's local backend"] = lambda: syne_tune(python), 1.0
    if options.long:
        contenders[2] = {"TorchTrainer in a Tune function": (lambda: documented(2), 1 / 20)}
    with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
        work = Path(name)
        os.environ["SIAMTUNE_CACHE"] = str(work / "cache")
        people(work / "people")
        ours(work, 2 if options.long else 1)  # starts Ray, with a dashboard if a group needs one
        for workers, peers in contenders.items():
            figure = f"S1 overhead a trial, {workers} worker{'s' * (workers > 1)}"
            theirs = {
                against: measure
                for against, (measure, _) in peers.items()
                if wanted(options, f"{figure} {against}")
            }
            values = side_by_side(lambda workers=workers: ours(work, workers), theirs)
            for against, (own, other) in values.items():
                yield Figure(figure, against, "s", own, other, goal=peers[against][1])


if __name__ == "__main__":
    run_alone(overhead, __doc__ or "")
