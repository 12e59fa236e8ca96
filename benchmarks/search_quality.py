"""S6: how soon a search finds a good configuration, played on the table of real trials.

    python benchmarks/search_quality.py
    python benchmarks/search_quality.py --peer mobster=VENV/bin/python  # syne-tune[gpsearchers]

Simulated seconds until 99 % of the table's best AUC, on two slots; a configuration is trained once.
Each turn is the mean of some searches with seeds of their own; all see the same table, the
same slots and, where they end trials early, the same rungs. A search that has ended every good
configuration too early is charged what training the whole table takes, and is counted. MOBSTER is
in syne-tune up to 0.13.
"""

import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from driver import FakeTrial
from measuring import Figure, Options, run_alone, side_by_side, wanted
from table import Searcher, Siamtune, Table, load, play

from siamtune.search.dimensions import ChoiceDimension, Dimension, IntDimension
from siamtune.search.settings import Scheduler
from siamtune.search.space import Space, load_space, walk
from siamtune.search.suggest import suggest

HERE = Path(__file__).parent
TABLE = HERE / "lfw_table.json"
SLOTS = 2
MIN_EPOCHS, ETA = 2, 3
GOAL = 0.99  # of the best AUC in the table


def of_space(space: Space, sampler: str, scheduler: str, seed: int) -> Space:
    named = Scheduler(scheduler, MIN_EPOCHS, ETA) if scheduler == "asha" else Scheduler(scheduler)
    return replace(space, study=replace(space.study, sampler=sampler, scheduler=named, seed=seed))


class OptunaTPE:
    """Optuna's TPE as it comes, without early ends."""

    def __init__(self, space: Space, seed: int, pruner: optuna.pruners.BasePruner) -> None:
        self.space = space
        self.study = optuna.create_study(
            direction="maximize", pruner=pruner,
            sampler=optuna.samplers.TPESampler(seed=seed),
        )  # fmt: skip

    def start(self) -> tuple[optuna.Trial, Mapping[str, Any]]:
        trial = self.study.ask()
        suggest(self.space, trial)
        return trial, trial.params

    def report(self, trial: optuna.Trial, epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return trial.should_prune()

    def end(self, trial: optuna.Trial, complete: bool) -> None:
        if complete:
            measured = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
            self.study.tell(trial, max(measured.values()))
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)


class RayOptunaASHA:
    """Ray's OptunaSearch and ASHA, as Tune's controller calls them."""

    def __init__(self, space: Space, seed: int, epochs: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        self.space = space
        self.searcher = OptunaSearch(
            space=lambda trial: suggest(space, trial) and None, metric="auc", mode="max", seed=seed
        )
        self.scheduler = ASHAScheduler(
            time_attr="epoch", metric="auc", mode="max", max_t=epochs, grace_period=MIN_EPOCHS,
            reduction_factor=ETA,
        )  # fmt: skip
        self.numbers = itertools.count()

    def start(self) -> tuple[FakeTrial, Mapping[str, Any]]:
        number = next(self.numbers)
        dials = self.searcher.suggest(f"{number:08d}")
        trial = FakeTrial(number, dials, Path())
        self.scheduler.on_trial_add(None, trial)
        return trial, dials

    def report(self, trial: FakeTrial, epoch: int, value: float) -> bool:
        trial.last = {"auc": value, "epoch": epoch, "training_iteration": epoch}
        self.searcher.on_trial_result(trial.trial_id, trial.last)
        return self.scheduler.on_trial_result(None, trial, trial.last) == "STOP"

    def end(self, trial: FakeTrial, complete: bool) -> None:
        self.scheduler.on_trial_complete(None, trial, trial.last)
        self.searcher.on_trial_complete(trial.trial_id, trial.last)


SYNE_TUNE = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from datetime import datetime
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, finrange, lograndint, loguniform, randint, uniform
from syne_tune.optimizer import baselines
name, dials, seed, epochs, least, eta = json.loads(sys.stdin.readline())
kinds = dict(choice=choice, finrange=finrange, lograndint=lograndint, loguniform=loguniform,
             randint=randint, uniform=uniform)
searched = {"search_options": {"debug_log": False}} if name == "MOBSTER" else {}
scheduler = getattr(baselines, name)(
    {dial: kinds[kind](*given) for dial, (kind, given) in dials.items()}, metric="auc", mode="max",
    resource_attr="epoch", max_t=epochs, grace_period=least, reduction_factor=eta,
    type="stopping", random_seed=seed, **searched)
trials = {}
for line in sys.stdin:
    what, number, epoch, value = json.loads(line)
    if what == "start":
        suggestion = scheduler.suggest(number)
        trials[number] = Trial(number, suggestion.config, datetime.now())
        scheduler.on_trial_add(trials[number])
        answer = suggestion.config
    elif what == "report":
        answer = scheduler.on_trial_result(trials[number], {"auc": value, "epoch": epoch})
        if answer == "STOP":
            scheduler.on_trial_remove(trials[number])
    else:
        answer = scheduler.on_trial_complete(trials[number], {"auc": value, "epoch": epoch})
    print("ANSWER", json.dumps(answer, default=lambda number: number.item()), flush=True)
"""


class SyneTune:
    """A scheduler of syne-tune in an environment of its own, asked line by line.

    It knows no conditions: it proposes every dial, and those that are not active are left out.
    """

    def __init__(self, python: Path, name: str, space: Space, seed: int, epochs: int) -> None:
        self.space = space
        # Its matrices are so small that several threads for each make it ten times slower.
        self.process = subprocess.Popen(
            [python, "-c", SYNE_TUNE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        dials = {dimension.name: syne_tune_domain(dimension) for dimension in space.dimensions}
        self.tell([name, dials, seed, epochs, MIN_EPOCHS, ETA])
        self.numbers = itertools.count()
        self.last: dict[int, tuple[int, float]] = {}

    def tell(self, message: list[Any]) -> None:
        assert self.process.stdin is not None
        print(json.dumps(message), file=self.process.stdin, flush=True)

    def ask(self, *message: Any) -> Any:
        self.tell([*message])
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise RuntimeError(f"syne-tune ended with exit code {self.process.wait()}")

    def start(self) -> tuple[int, Mapping[str, Any]]:
        number = next(self.numbers)
        every = self.ask("start", number, 0, 0.0)
        active = walk(self.space, lambda dimension: every[dimension.name])
        return number, {name: value for name, value in active.items() if name in every}

    def report(self, trial: int, epoch: int, value: float) -> bool:
        self.last[trial] = epoch, value
        return bool(self.ask("report", trial, epoch, value) == "STOP")

    def end(self, trial: int, complete: bool) -> None:
        if complete:
            self.ask("end", trial, *self.last[trial])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def syne_tune_domain(dimension: Dimension) -> tuple[str, list[Any]]:
    if isinstance(dimension, ChoiceDimension):
        return "choice", [list(dimension.choices)]
    low, high = dimension.low, dimension.high
    if isinstance(dimension, IntDimension):
        return ("lograndint" if dimension.log else "randint"), [low, high]
    if dimension.step is not None:
        return "finrange", [low, high, round((high - low) / dimension.step) + 1]
    return ("loguniform" if dimension.log else "uniform"), [low, high]


def seconds_until_good(table: Table, space: Space, searcher: Searcher) -> float:
    """Infinity if every good configuration was ended too early."""
    goal = GOAL * float(table.auc.max())
    trials = len(table.configurations)
    played = play(table, space, searcher, trials=trials, slots=SLOTS, until=goal)
    return played.seconds_until(goal)


def search_quality(options: Options) -> Iterator[Figure]:
    if not TABLE.exists():
        print(f"S6 needs {TABLE}, which benchmarks/table.py writes", file=sys.stderr)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, space = load(TABLE), load_space(str(HERE / "table_space.yaml"))
    epochs = table.auc.shape[1]
    a_turn = 10 if options.long else 4
    whole_table_s = float(table.seconds.sum()) / SLOTS
    played: Counter[str] = Counter()
    in_vain: Counter[str] = Counter()

    def mean_of(name: str, searcher: Callable[[int], Searcher]) -> float:
        def one() -> float:
            made = searcher(played[name])  # seeds of its own
            played[name] += 1
            try:
                seconds = seconds_until_good(table, space, made)
            finally:
                if isinstance(made, SyneTune):
                    made.close()
            lost = math.isinf(seconds)
            in_vain[name] += lost
            return whole_table_s if lost else seconds

        return fmean(one() for _ in range(a_turn))

    def siamtune(sampler: str, scheduler: str) -> Callable[[int], Searcher]:
        return lambda seed: Siamtune(of_space(space, sampler, scheduler, 1000 * seed))

    peers: dict[str, tuple[Callable[[int], Searcher], float | None]] = {
        "random": (siamtune("random", "none"), 0.5),
        "random and ASHA": (siamtune("random", "asha"), 1.0),
        "Optuna's TPE": (lambda seed: OptunaTPE(space, seed, optuna.pruners.NopPruner()), 1.0),
        "Optuna's TPE and ASHA": (
            lambda seed: OptunaTPE(
                space, seed, optuna.pruners.SuccessiveHalvingPruner(MIN_EPOCHS, ETA)
            ),
            1.0,
        ),
        "Ray's OptunaSearch and ASHA": (lambda seed: RayOptunaASHA(space, seed, epochs), 1.0),
    }
    if "mobster" in options.peers:
        python = options.peers["mobster"]
        for name in ("ASHA", "MOBSTER"):
            peers[f"syne-tune's {name}"] = (
                lambda seed, name=name: SyneTune(python, name, space, seed, epochs),
                1.0,
            )
    figure = f"S6 simulated time until {GOAL:.0%} of the best AUC, mean of {a_turn} searches"
    peers = {name: peer for name, peer in peers.items() if wanted(options, f"{figure} {name}")}
    values = side_by_side(
        lambda: mean_of("siamtune", siamtune("tpe", "asha")),
        {
            name: lambda name=name, theirs=theirs: mean_of(name, theirs)
            for name, (theirs, _) in peers.items()
        },
    )
    for name, searches in played.items():
        print(f"S6 {name}: {in_vain[name]} of {searches} searches in vain", file=sys.stderr)
    for against, (ours, theirs) in values.items():
        yield Figure(figure, against, "s", ours, theirs, goal=peers[against][1])


if __name__ == "__main__":
    run_alone(search_quality, __doc__ or "")
