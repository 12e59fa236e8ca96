"""Tune's searcher and scheduler, both thin: the proposer decides, the record remembers."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from siamtune.errors import ClusterError, Unwritable
from siamtune.launch.job import trial_folder
from siamtune.launch.proposers import Proposer
from siamtune.launch.watch import hang_told, patience_s
from siamtune.search.records import Recorder, State, TrialRecord
from siamtune.search.stops import BUDGET, BY_HAND
from siamtune.search.study import Proposal, Rejected

# When so many trials have failed and none succeeded, or so many in a row for one reason, the fault
# is not in the configurations.
HOPELESS_FAILURES = 5
FAILURES: tuple[State, ...] = ("failed", "lost", "out_of_memory")
# A slot that has not ended itself after so many times its patience is ended by Ray.
FROZEN = 1.5
ASLEEP_S = 30.0
# What Ray says when it has ended a process for want of memory, and torch when a worker has none.
MEMORY_SHORT = ("running low on memory", "OutOfMemory", "out of memory")


@dataclass
class Driver:
    """What the searcher, the scheduler and the stopper share: the trials as they stand."""

    proposer: Proposer
    recorder: Recorder
    # What a slot's config holds for a trial, of which so many epochs are recorded already.
    plain_job: Callable[[Proposal, int], dict[str, Any]]
    listen: Callable[[TrialRecord], None]
    log: Callable[[str], None]  # shows a line that stays
    go_on: str = ""  # what a person does after the disk was full
    facts: dict[str, Any] = field(default_factory=dict)
    deadline: float | None = None  # time.monotonic(); no trial starts or goes on after it
    draining: str | None = None  # why no further trial is started and running ones end
    hopeless: str | None = None  # why every trial so far, or every one of late, has failed
    error: BaseException | None = None
    numbers: dict[str, int] = field(default_factory=dict)  # Tune's trial id -> ours
    _running: set[int] = field(default_factory=set)
    _stopped: set[int] = field(default_factory=set)
    _by_hand: set[int] = field(default_factory=set)  # that a person wants to end
    # Counted, not looked up: a search may have ten thousand trials behind it.
    _ends: Counter[str] = field(default_factory=Counter)
    _alike: tuple[str | None, int] = (None, 0)  # how many trials in a row have failed for a reason

    def catch_up(self) -> None:
        """Take up what an earlier life of the search has left; to be called once, at first.

        Of an end that was told to the study only, the record is told now; the other way round
        cannot be, since the study is always told first and has it on the disk. Epochs it has not:
        what a power failure took from it, the record may have kept.
        """
        for number, record in list(self.recorder.records.items()):
            told = None if record.ended_for_good else self.proposer.told_end(number)
            if told is not None:
                record = self.recorder.ended(number, *told)
                self.listen(record)
            elif not record.ended_for_good:
                for metrics in record.epochs:
                    self.proposer.report(number, metrics)
            if record.ended_for_good:
                self._ends[record.state] += 1

    def next_trial(self, tune_id: str) -> dict[str, Any] | None:
        """The next trial's config, None when there is none to start any more."""
        proposal = None if self.is_ending() else self.proposer.next_trial(self._reject)
        if proposal is None:
            return None
        self.numbers[tune_id] = proposal.number
        self._running.add(proposal.number)
        facts = {**self.facts, **proposal.facts}
        record = self.recorder.started(proposal.number, proposal.suggested, facts)
        self.listen(record)
        return self.plain_job(proposal, record.epoch)

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Record an epoch; one that is recorded already stays as it is."""
        if metrics["epoch"] <= self.recorder.records[number].epoch:
            return
        self.proposer.report(number, metrics)
        self.listen(self.recorder.epoch(number, metrics))

    def should_stop(self, number: int) -> bool:
        """Whether the scheduler or a person ends the trial after its last recorded epoch."""
        # The pruner is asked in any case: it notes what the trial reached.
        if self.proposer.should_stop(number) or number in self._by_hand:
            self._stopped.add(number)
            return True
        return False

    def stop_by_hand(self, number: int) -> bool:
        """End a trial after its present epoch; False if it does not run."""
        if number in self._running:
            self._by_hand.add(number)
        return number in self._running

    def end(self, tune_id: str, state: State | None, reason: str | None) -> None:
        """Record the end of a trial; `state` None means that its process is gone."""
        number = self.numbers[tune_id]
        if number not in self._running:
            return
        if state in (None, "lost") and number not in self._stopped and self.is_ending():
            return  # what ended the search has ended its process as well: it is interrupted
        self._running.discard(number)
        if state == "interrupted":  # by the disk or its host; the study keeps it open
            self.error = self.error or Unwritable(str(reason))
            self.listen(self.recorder.ended(number, state, reason))
            return
        state = "stopped" if number in self._stopped else state or "lost"
        if state == "stopped" and number in self._by_hand:
            reason = BY_HAND
        self.proposer.tell(number, state, reason)
        self.listen(self.recorder.ended(number, state, reason))
        self._ends[state] += 1
        failures = sum(self._ends[failure] for failure in FAILURES)
        if state in ("failed", "lost"):
            self._alike = (reason, 1 + (self._alike[1] if self._alike[0] == reason else 0))
        else:
            self._alike = (None, 0)
        none_succeeded = failures == self._ends.total() - self._ends["invalid"]
        all_failed = none_succeeded and failures >= HOPELESS_FAILURES
        if all_failed or self._alike[1] >= HOPELESS_FAILURES:
            self.hopeless = reason or "the processes of all trials vanished"

    def retry(self, number: int, reason: str) -> TrialRecord:
        """Record that a trial goes on in another process, from its last checkpoint."""
        record = self.recorder.retried(number, reason)
        self.log(f"trial {number} is run again after epoch {record.epoch}: {reason}")
        self.listen(record)
        return record

    def drain(self, reason: str) -> None:
        """Start no further trial and end the search at the next occasion."""
        self.draining = reason

    def is_ending(self) -> bool:
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.draining = self.draining or BUDGET
        return bool(self.draining or self.hopeless or self.error)

    def interrupt_running(self) -> None:
        """Record that the search ended before its running trials; the study keeps them open."""
        try:
            for number in sorted(self._running):
                self.listen(self.recorder.ended(number, "interrupted", self.draining))
        except OSError as error:  # nothing can be written; to resume, the study is enough
            self.error = self.error or error
        self._running.clear()

    def _reject(self, rejected: Rejected) -> None:
        self.recorder.started(rejected.number, rejected.suggested, self.facts)
        self.listen(self.recorder.ended(rejected.number, "invalid", rejected.reason))


class DriverSearcher(Searcher):
    """Hands the driver's trials to Tune. Their state lies in the run: Tune keeps none of it."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def suggest(self, trial_id: str) -> Any:
        try:
            return self.driver.next_trial(trial_id) or Searcher.FINISHED
        except Exception as error:
            self.driver.error = error  # Tune would log it and go on
            return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id not in self.driver.numbers:
            return
        result = result or {}
        number = self.driver.numbers[trial_id]
        try:
            if metrics := epoch_metrics(result):
                self.driver.epoch(number, metrics)  # the last one does not pass the scheduler
            if result.get("unfit_host"):
                self.driver.error = self.driver.error or ClusterError(result["reason"])
            self.driver.end(trial_id, None if error else result.get("state"), result.get("reason"))
        except Exception as failure:
            self.driver.error = failure

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal and the record are on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its tuner at the start; a copy of its state would only be stale


class DriverScheduler(FIFOScheduler):
    """Records each epoch and asks the proposer: the study's own rungs survive a restart."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        try:
            number = trial.config["job"]["number"]
            self.driver.epoch(number, epoch_metrics(result))
            stop = self.driver.should_stop(number)
        except Exception as error:
            self.driver.error = error
            return TrialScheduler.STOP
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """A trial's process has ended under it: run it again where that may help."""
        job = trial.config["job"]
        try:
            folder = trial_folder(Path(job["run_folder"]), job["number"])
            state, reason = why_vanished(folder, _last_error(trial))
            if state == "lost" and trial.should_recover() and not self.driver.is_ending():
                record = self.driver.retry(job["number"], reason)
                job.update(retries=job["retries"] + 1, recorded_epochs=record.epoch)
                return
            self.driver.end(trial.trial_id, state, reason)
        except ClusterError as failure:
            self.driver.error = failure
            self.driver.end(trial.trial_id, "interrupted", str(failure))
        except Exception as failure:
            self.driver.error = failure
        tune_controller.request_stop_trial(trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class DriverStopper(Stopper):
    """Ends the experiment when the driver says so; never a single trial."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.driver.is_ending()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Ticker(Callback):
    """Lets the view redraw whenever Tune's loop comes round, and ends slots that are frozen.

    A process that hangs ends itself, unless it is stopped as a whole or its host is: then Ray ends
    it, when it should have done so long ago.
    """

    def __init__(self, driver: Driver, tick: Callable[[], None], watchdog: float) -> None:
        self.driver = driver
        self.tick = tick
        self.watchdog = watchdog
        # By Tune's id: the trial, when it was heard of (time.monotonic()), its usual epochs if it
        # has reported one in this life; before that it prepares its pictures.
        self._heard: dict[str, tuple[TuneTrial, float, list[float]]] = {}
        self._awake = time.monotonic()

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._heard[trial.trial_id] = (trial, time.monotonic(), [])

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        record = self.driver.recorder.records[trial.config["job"]["number"]]
        epochs_s = [epoch["seconds"] for epoch in record.epochs]
        self._heard[trial.trial_id] = (trial, time.monotonic(), epochs_s)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._heard.pop(trial.trial_id, None)

    on_trial_error = on_trial_recover = on_trial_complete

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self.tick()
        if not self.watchdog:
            return
        now = time.monotonic()
        asleep_s = now - self._awake
        self._awake = now
        if asleep_s > ASLEEP_S:  # the driver did not listen, so nobody was silent
            self._heard = {i: (trial, now, epochs) for i, (trial, _, epochs) in self._heard.items()}
        for tune_id, (trial, heard, epochs_s) in list(self._heard.items()):
            silent_s = now - heard
            actor = trial.temporary_state.ray_actor
            if silent_s > FROZEN * patience_s(epochs_s, self.watchdog) and actor is not None:
                del self._heard[tune_id]
                number = trial.config["job"]["number"]
                self.driver.log(f"trial {number}: no word for {silent_s:.0f} s, its slot is ended")
                ray.kill(actor)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _last_error(trial: TuneTrial) -> BaseException | None:
    """What Tune has written down, in a file of its own, a moment ago.

    Its `get_pickled_error` looks where it will have been copied to later.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    error = cloudpickle.loads(Path(path).read_bytes())
    return error if isinstance(error, BaseException) else None


def why_vanished(folder: Path, error: BaseException | None) -> tuple[State, str]:
    """The honest state of a trial whose process or group has ended under it, and the reason.

    Raises:
        ClusterError: its group could not be started at all, or its host has no siamtune.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ClusterError):
        raise cause
    text = str(cause or "")
    if "No module named 'siamtune" in text:
        raise ClusterError(
            "every host must be able to run siamtune, but one that has joined is not; install the "
            "same siamtune there, or send it along with: siamtune submit"
        )
    if any(words in text for words in MEMORY_SHORT):
        return "out_of_memory", next(
            line.strip() for line in text.splitlines() if any(word in line for word in MEMORY_SHORT)
        )
    if (folder / "error.txt").exists():  # one worker of several has failed by itself
        return "failed", (folder / "error.txt").read_text().rstrip().rpartition("\n")[2]
    if hang := hang_told(folder):
        return "lost", hang
    first_line = text.strip().partition("\n")[0].strip()
    return "lost", "its process or host vanished" + (f" ({first_line})" if first_line else "")


def epoch_metrics(result: dict[str, Any]) -> dict[str, float]:
    """A trial's own numbers among those that Tune has added, from its flattened result."""
    prefix = "metrics/"
    return {key[len(prefix) :]: value for key, value in result.items() if key.startswith(prefix)}
