"""S5: the driver of a search after 100, 1,000 and 10,000 trials; results as fast as they come.

    python benchmarks/driver.py             # 100 and 1,000, against Ray's
    python benchmarks/driver.py --long      # 10,000, too, and against Optuna alone

Thirty-two slots are played by one loop: each reports an epoch in its turn and asks whether to stop;
one that is free asks for the next trial. siamtune's own driver (study, record, checkpoints kept) is
called as its searcher and scheduler call it; of Ray's defaults OptunaSearch, ASHA and the JSON, CSV
and TensorBoard loggers, without Tune's snapshots; of Optuna its TPE, its pruner and a journal. The
trials that a search has behind it are put there at once, and are the same for all.
"""

import random
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import optuna
from measuring import REPEATS, Figure, Options, in_turns, run_alone, wanted

from siamtune.launch.keep import CheckpointKeeper
from siamtune.launch.proposers import StudyProposer
from siamtune.launch.searcher import Driver
from siamtune.search.records import Recorder, read_records
from siamtune.search.runs import Run, new_run
from siamtune.search.space import Space, load_space
from siamtune.search.study import Past, Proposal, open_study, write_study
from siamtune.search.suggest import suggest

SLOTS, TRIALS_A_TURN = 32, 40
DEAR_TRIALS_A_TURN = 8  # after 10,000 trials, when a proposal of the others takes seconds
LENGTHS = (4, 4, 4, 4, 4, 4, 12, 12, 36, 60)  # epochs of past trials: ASHA stops most at 4
METRICS = ("val/f1", "val/accuracy", "val/eer", "train/loss", "threshold", "lr", "seconds",
           "images_per_second", "evaluation_s", "val/precision@1", "val/map@r")  # fmt: skip


def measured(number: int, epoch: int) -> dict[str, float]:
    """What a trial reports; it rises with the epochs towards what its number decides."""
    best = random.Random(number).random()
    auc = 0.5 + 0.45 * best * (1 - 0.8**epoch)
    return {"epoch": float(epoch), "val/auc": auc, **dict.fromkeys(METRICS, auc / 2)}


def history(space: Space, trials: int) -> list[Past]:
    """Random trials, ended where ASHA usually ends them."""
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rng, past = random.Random(0), []
    for number in range(trials):
        trial = memory.ask()
        suggest(space, trial)
        memory.tell(trial, 0.0)
        epochs = rng.choice(LENGTHS)
        values = {epoch: measured(number, epoch)["val/auc"] for epoch in range(1, epochs + 1)}
        past.append(Past(number, "complete" if epochs == 60 else "stopped", trial.params, values))
    return past


class Contender(Protocol):
    def start(self) -> Any: ...
    def report(self, trial: Any, epoch: int) -> bool: ...  # whether it is to stop
    def end(self, trial: Any, complete: bool) -> None: ...


class Siamtune:
    def __init__(self, folder: Path, space: Space, past: list[Past]) -> None:
        run = self.run = written_run(folder, space, past)
        recorder = Recorder(run.trials_path)
        keeper = CheckpointKeeper(run, space, recorder.records)

        def listen(record: Any) -> None:
            if record.ended_for_good:
                keeper.ended(record)

        def plain_job(proposal: Proposal, recorded_epochs: int) -> dict[str, Any]:
            return {"number": proposal.number}

        study = open_study(run.journal_path, space)
        self.driver = Driver(
            proposer=StudyProposer(study, space, recorder, trials=10**9, workers=1),
            recorder=recorder, plain_job=plain_job, listen=listen, log=print,
        )  # fmt: skip
        self.driver.catch_up()
        self.count = 0

    def start(self) -> tuple[str, int]:
        self.count += 1
        job = self.driver.next_trial(str(self.count))
        assert job is not None, self.driver.error
        return str(self.count), job["number"]

    def report(self, trial: tuple[str, int], epoch: int) -> bool:
        self.driver.epoch(trial[1], measured(trial[1], epoch))
        return self.driver.should_stop(trial[1])

    def end(self, trial: tuple[str, int], complete: bool) -> None:
        self.driver.end(trial[0], "complete" if complete else "stopped", None)


def written_run(folder: Path, space: Space, past: list[Past]) -> Run:
    """A run folder as a search leaves it that has so many trials behind it."""
    run = new_run(folder / "runs", f"after-{len(past)}", "benchmark")
    write_study(run.journal_path, space, past)
    recorder = Recorder(run.trials_path)
    for trial in past:
        recorder.started(trial.number, trial.params)
        for epoch in trial.values:
            recorder.epoch(trial.number, measured(trial.number, epoch))
        recorder.ended(trial.number, trial.state)
    recorder.close()
    return run


class OptunaAlone:
    def __init__(self, folder: Path, space: Space, past: list[Past]) -> None:
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / "optuna.log"))
        )
        self.space = space
        self.study = optuna.create_study(
            storage=storage, direction="maximize",
            sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=4, reduction_factor=3),
        )  # fmt: skip
        scratch = open_study(folder / "scratch.log", space)
        write_past(scratch, space, past)
        self.study.add_trials(
            trial for trial in scratch.get_trials(deepcopy=False) if trial.state.is_finished()
        )

    def start(self) -> optuna.Trial:
        trial = self.study.ask()
        suggest(self.space, trial)
        return trial

    def report(self, trial: optuna.Trial, epoch: int) -> bool:
        trial.report(measured(trial.number, epoch)["val/auc"], epoch)
        return trial.should_prune()

    def end(self, trial: optuna.Trial, complete: bool) -> None:
        state = optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED
        self.study.tell(trial, 0.9 if complete else None, state=state)


def write_past(study: optuna.Study, space: Space, past: list[Past]) -> None:
    from siamtune.search.study import add_past

    add_past(study, space, past)


class FakeTrial:
    """What Ray's searcher, scheduler and loggers ask of a trial."""

    def __init__(self, number: int, config: dict[str, Any], folder: Path) -> None:
        self.number, self.config, self.evaluated_params = number, config, config
        self.trial_id = f"{number:08d}"
        self.experiment_tag = str(number)
        self.local_path = str(folder / self.trial_id)
        self.status, self.checkpoint = "RUNNING", None

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


class RayDefaults:
    def __init__(self, folder: Path, space: Space, past: list[Past]) -> None:
        from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        self.folder = folder / "ray"
        self.searcher = OptunaSearch(
            space=lambda trial: suggest(space, trial) and None, metric="val/auc", mode="max", seed=0
        )
        self.scheduler = ASHAScheduler(
            time_attr="epoch", metric="val/auc", mode="max", max_t=60, grace_period=4,
            reduction_factor=3,
        )  # fmt: skip
        self.loggers = (JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback())
        self.count = 0
        scratch = open_study(folder / "scratch-ray.log", space)
        write_past(scratch, space, past)
        self.searcher.suggest("first")  # makes its study
        self.searcher._ot_study.add_trials(
            trial for trial in scratch.get_trials(deepcopy=False) if trial.state.is_finished()
        )

    def start(self) -> FakeTrial:
        self.count += 1
        config = self.searcher.suggest(f"{self.count:08d}")
        trial = FakeTrial(self.count, config, self.folder)
        trial.init_local_path()
        self.scheduler.on_trial_add(None, trial)
        for logger in self.loggers:
            logger.log_trial_start(trial)
        return trial

    def result(self, trial: FakeTrial, epoch: int) -> dict[str, Any]:
        """With what Tune adds to each."""
        return {
            **measured(trial.number, epoch), "trial_id": trial.trial_id, "done": False,
            "training_iteration": epoch, "time_total_s": 1.0, "time_this_iter_s": 1.0,
            "timestamp": 1, "date": "2026-01-01_00-00-00", "pid": 1, "hostname": "host",
            "node_ip": "127.0.0.1", "time_since_restore": 1.0, "iterations_since_restore": epoch,
            "config": trial.config,
        }  # fmt: skip

    def report(self, trial: FakeTrial, epoch: int) -> bool:
        trial.last = self.result(trial, epoch)
        for logger in self.loggers:
            logger.log_trial_result(epoch, trial, trial.last)
        self.searcher.on_trial_result(trial.trial_id, trial.last)
        return self.scheduler.on_trial_result(None, trial, trial.last) == "STOP"

    def end(self, trial: FakeTrial, complete: bool) -> None:
        self.searcher.on_trial_complete(trial.trial_id, trial.last)
        for logger in self.loggers:
            logger.log_trial_end(trial)


Made = Callable[[Path, Space, list[Past]], Contender]
CONTENDERS: dict[str, Made] = {"Ray's OptunaSearch, ASHA and loggers": RayDefaults}
LONG_CONTENDERS: dict[str, Made] = {**CONTENDERS, "Optuna alone": OptunaAlone}


class Played:
    """A contender with all slots busy; what its calls took."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.suggestions_s: list[float] = []
        self.longest_s = 0.0
        self.slots = [(self._timed(contender.start), 0) for _ in range(SLOTS)]

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        started = perf_counter()
        value = call(*arguments)
        took = perf_counter() - started
        self.longest_s = max(self.longest_s, took)
        if call == self.contender.start:
            self.suggestions_s.append(took)
        return value

    def results_per_s(self, trials: int = TRIALS_A_TURN) -> float:
        """Epochs a second until so many trials have ended."""
        started, results, ended = perf_counter(), 0, 0
        self.suggestions_s, self.longest_s = [], 0.0
        while ended < trials:
            for at, (trial, epoch) in enumerate(self.slots):
                stop = self._timed(self.contender.report, trial, epoch + 1)
                results += 1
                self.slots[at] = trial, epoch + 1
                if stop or epoch + 1 == 60:
                    self._timed(self.contender.end, trial, epoch + 1 == 60)
                    self.slots[at] = self._timed(self.contender.start), 0
                    ended += 1
        return results / (perf_counter() - started)


def driver(options: Options) -> Iterator[Figure]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_space("lfw")
    behind: dict[int, tuple[float, float]] = {}
    contenders = LONG_CONTENDERS if options.long else CONTENDERS
    sizes = (100, 1000, 10_000) if options.long else (100, 1000)
    for trials in sizes:
        past = history(space, trials)
        a_turn = TRIALS_A_TURN if trials < 10_000 else DEAR_TRIALS_A_TURN
        with tempfile.TemporaryDirectory(prefix="siamtune-benchmark-") as name:
            siamtune = Siamtune(Path(name), space, past)
            behind[trials] = bytes_a_trial(siamtune.run, space, trials)
            ours = Played(siamtune)
            for against, contender in contenders.items():
                figure = f"S5 results/s after {trials:,} trials, {SLOTS} slots"
                if not wanted(options, f"{figure} {against}"):
                    continue
                theirs = Played(contender(Path(name), space, past))
                suggestions: list[float] = []
                pauses: list[float] = []
                peers: tuple[list[float], list[float]] = ([], [])

                def own(suggestions=suggestions, pauses=pauses, ours=ours, n=a_turn) -> float:
                    rate = ours.results_per_s(n)
                    suggestions.append(sum(ours.suggestions_s) / len(ours.suggestions_s) * 1e3)
                    pauses.append(ours.longest_s)
                    return rate

                def other(theirs=theirs, peers=peers, n=a_turn) -> float:
                    rate = theirs.results_per_s(n)
                    peers[0].append(sum(theirs.suggestions_s) / len(theirs.suggestions_s) * 1e3)
                    peers[1].append(theirs.longest_s)
                    return rate

                rates = in_turns(own, other, REPEATS)
                goal = 5.0 if "Ray" in against else None
                yield Figure(figure, against, "results/s", *rates, better="more", goal=goal)
                yield Figure(
                    f"S5 suggestion after {trials:,} trials", against, "ms", suggestions, peers[0],
                    goal=50.0, goal_of="ours",
                )  # fmt: skip
                yield Figure(
                    f"S5 longest pause after {trials:,} trials", against, "s", pauses, peers[1],
                    goal=0.2, goal_of="ours",
                )  # fmt: skip
    first, last = sizes[0], sizes[-1]
    for what, at in (("memory", 0), ("disk", 1)):
        yield Figure(
            f"S5 {what} a trial after {last:,}", f"after {first}", "bytes",
            [behind[last][at]], [behind[first][at]], goal=1.2,
        )  # fmt: skip


def bytes_a_trial(run: Run, space: Space, trials: int) -> tuple[float, float]:
    """What the study and the record of a run take in memory and on disk, a trial."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = open_study(run.journal_path, space), read_records(run.trials_path)
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del held
    disk = run.journal_path.stat().st_size + run.trials_path.stat().st_size
    return memory / trials, disk / trials


if __name__ == "__main__":
    run_alone(driver, __doc__ or "")
