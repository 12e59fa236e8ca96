"""Who says what is trained next and who may be ended early: a study that samples, or a list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import optuna

from siamtune.search import study as studies
from siamtune.search.records import Recorder, State
from siamtune.search.space import Space
from siamtune.search.study import Proposal, Rejected


class Proposer(Protocol):
    """Asked by the driver for the next trial, and told what became of each."""

    def next_trial(self, rejected: Callable[[Rejected], None]) -> Proposal | None:
        """None when there is none to start any more; what cannot be built goes to `rejected`."""

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        """An epoch of a trial that runs."""

    def should_stop(self, number: int) -> bool:
        """Whether the trial shall end after the epochs that it has reported."""

    def tell(self, number: int, state: State, reason: str | None) -> None:
        """A trial has ended for good."""

    def told_end(self, number: int) -> tuple[State, str | None] | None:
        """The end that was told of a trial, perhaps in an earlier life; None while it is open."""


@dataclass
class StudyProposer:
    """An Optuna study, whose pruner ends trials."""

    study: optuna.Study
    space: Space
    recorder: Recorder
    trials: int  # to be started in all, this time and before
    workers: int  # that share a trial
    interrupted: list[Proposal] = field(default_factory=list)
    # Counted, not looked up: a search may have ten thousand trials behind it.
    _started: int = field(init=False)

    def __post_init__(self) -> None:
        records = self.recorder.records.values()
        self._started = sum(record.state != "invalid" for record in records)

    def next_trial(self, rejected: Callable[[Rejected], None]) -> Proposal | None:
        if self.interrupted:
            proposal = self.interrupted.pop(0)
        elif self._started >= self.trials:
            return None
        else:
            proposal = studies.propose(self.study, self.space, rejected, workers=self.workers)
        self._started += proposal.number not in self.recorder.records
        return proposal

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        values = [metrics[objective.metric] for objective in self.space.objective.each]
        studies.report_epoch(self.study, number, int(metrics["epoch"]), *values)

    def should_stop(self, number: int) -> bool:
        return studies.should_stop(self.study, number)

    def tell(self, number: int, state: State, reason: str | None) -> None:
        studies.tell(self.study, number, state, reason)

    def told_end(self, number: int) -> tuple[State, str | None] | None:
        return studies.told_end(self.study, number)


@dataclass
class ListProposer:
    """A fixed list; each is trained to its end, and nobody learns from it."""

    waiting: list[Proposal]

    def next_trial(self, rejected: Callable[[Rejected], None]) -> Proposal | None:
        return self.waiting.pop(0) if self.waiting else None

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        pass

    def should_stop(self, number: int) -> bool:
        return False

    def tell(self, number: int, state: State, reason: str | None) -> None:
        pass

    def told_end(self, number: int) -> tuple[State, str | None] | None:
        return None
