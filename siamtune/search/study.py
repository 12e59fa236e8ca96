"""The Optuna study of a search: the one truth about what was proposed and what came of it.

It lies on disk as a journal, so sampler, rungs and history survive any restart, and
`optuna-dashboard RUN/study.log` opens it while the search runs.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from siamtune.config import check_shared_out, trial_config
from siamtune.errors import ConfigError, InvalidInput, SpaceError
from siamtune.search.records import State, cut_unfinished_line
from siamtune.search.sampler import BoundedTPE
from siamtune.search.space import Space
from siamtune.search.suggest import distribution, start_points, suggest

STUDY_NAME = "siamtune"
# Proposals in a row that cannot be built before the space itself is at fault.
MAX_INVALID_PROPOSALS = 200
# What is on the disk before the search goes on.
WAITED_FOR = (
    JournalOperation.CREATE_STUDY,
    JournalOperation.CREATE_TRIAL,
    JournalOperation.SET_TRIAL_STATE_VALUES,
)
BESIDE = "beside/"  # before an epoch: the attribute that holds its second objective

# What each honest state is to Optuna. A collapsed trial is PRUNED: it was tried and is bad, and the
# sampler should know; a failed one says nothing about its configuration.
OPTUNA_STATES: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "collapsed": TrialState.PRUNED,
    "invalid": TrialState.FAIL,
    "out_of_memory": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
}


def _tpe(seed: int, trials: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return BoundedTPE(seed + trials)


def _qmc(seed: int, trials: int) -> BaseSampler:
    # The sequence knows its place by its seed; dials that are not in every trial are drawn.
    drawn = RandomSampler(seed=seed + trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return QMCSampler(
            scramble=True, seed=seed, independent_sampler=drawn, warn_independent_sampling=False
        )


# From the seed and the number of trials that the study holds already: the same seed again would
# draw the same first points again.
SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed, trials: RandomSampler(seed=seed + trials),
    "qmc": _qmc,
}


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its number, the dials that were suggested, and the whole configuration."""

    number: int
    suggested: Mapping[str, Any]
    config: Mapping[str, Any]  # flat; fixed and suggested dials
    facts: Mapping[str, Any] = field(default_factory=dict)  # for its record, beside the run's


@dataclass(frozen=True)
class Rejected:
    """A proposal that cannot be built and was told to the study as failed."""

    number: int
    suggested: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Past:
    """A trial of a study that is told anew to another one."""

    number: int
    state: State
    params: Mapping[str, Any]  # those that it suggests; none matter where it lies outside
    values: Mapping[int, float]  # the objective after each epoch
    reason: str | None = None
    started: float | None = None  # seconds since 1970
    ended: float | None = None
    outside: str | None = None  # why the sampler is not told of it
    warm_from: str | None = None  # the run to which it belongs, if it is not this one


class Journal(JournalFileBackend):
    """A journal of one writer that stays readable after a crash or a full disk.

    Optuna's own writes on behind half a line, and nothing after that can be read again. It also
    waits for the disk after every line; this one only when a trial begins or ends, since an epoch
    that a power failure takes is in the record and in the checkpoint, too.
    """

    def __init__(self, path: str) -> None:
        # The lock by O_EXCL works on shared file systems where symbolic links do not.
        super().__init__(path, lock_obj=JournalFileOpenLock(path))
        self._held: list[bytes] | None = None  # lines that are to be written together
        self._before: int | None = None  # how many lines came before them, once asked

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is logged meanwhile at once: a proposal is a line for each of its dials."""
        self._held, self._before = [], None
        try:
            yield
        finally:
            held, self._held = self._held, None
            try:
                if held:
                    self._write(held, wait=True)
            finally:
                if self._before is not None:  # those lines are never read again
                    end = os.stat(self._file_path).st_size
                    self._log_number_offset[self._before + len(held)] = end

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self._held is not None:
            self._held += lines
        else:
            self._write(lines, wait=any(log["op_code"] in WAITED_FOR for log in logs))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        if self._held:
            if self._before is None:
                self._before = log_number_from
            return (json.loads(line) for line in self._held[log_number_from - self._before :])
        # Asked before and after whatever is done: mostly there is nothing new.
        if self._log_number_offset.get(log_number_from) == os.stat(self._file_path).st_size:
            return iter(())
        return super().read_logs(log_number_from)

    def _write(self, lines: list[bytes], *, wait: bool) -> None:
        """Write whole lines or none, after the last whole line."""
        with get_lock_file(self._lock):
            end = cut_unfinished_line(Path(self._file_path))
            try:
                with open(self._file_path, "ab") as file:
                    file.write(b"".join(lines))
                    file.flush()
                    if wait:
                        os.fsync(file.fileno())
            except OSError:
                os.truncate(self._file_path, end)
                raise


def open_study(path: Path | None, space: Space) -> optuna.Study:
    """Open the journal at `path`, or begin one whose first trials are the space's start points.

    Without a path it lies in memory, for a search that is only played.

    Raises:
        InvalidInput: the journal is damaged.
    """
    study = _study(path, space)
    if not study.get_trials(deepcopy=False):
        _enqueue_start(study, space)
    return study


def _study(path: Path | None, space: Space) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    if path is not None:
        storage = JournalStorage(Journal(str(path)))
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            pruner=_pruner(space),
            directions=[
                "maximize" if objective.mode == "max" else "minimize"
                for objective in space.objective.each
            ],
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise InvalidInput(
            f"{path}: must be the journal of a study, but it cannot be read ({error})"
        ) from error
    trials = len(study.get_trials(deepcopy=False))
    study.sampler = SAMPLERS[space.study.sampler](space.study.seed, trials)
    return study


def _enqueue_start(study: optuna.Study, space: Space) -> None:
    for point in start_points(space):
        study.enqueue_trial(point, skip_if_exists=True)


def past_trials(path: Path, space: Space) -> list[Past]:
    """What the study in a journal holds, in the order of the numbers; open trials are "running".

    Start points that still wait for their turn are no past; behind the trials of another run they
    are told as outside, and may begin under later numbers.
    """
    trials = _study(path, space).get_trials(deepcopy=False)
    while trials and trials[-1].state is TrialState.WAITING:
        trials = trials[:-1]
    waiting = "it had not begun"
    return [
        Past(
            trial.number,
            "running" if not trial.state.is_finished() else trial.user_attrs.get("state", "failed"),
            trial.params,
            trial.intermediate_values,
            trial.user_attrs.get("reason"),
            outside=waiting
            if trial.state is TrialState.WAITING
            else trial.user_attrs.get("outside"),
            warm_from=trial.user_attrs.get("warm_from"),
        )
        for trial in trials
    ]


def write_study(path: Path, space: Space, history: Sequence[Past]) -> None:
    """Begin a journal at `path` with past trials, numbered from 0 in their order."""
    study = _study(path, space)
    add_past(study, space, history)
    _enqueue_start(study, space)


def add_past(study: optuna.Study, space: Space, history: Sequence[Past]) -> None:
    """Tell a study of past trials, which take its next numbers.

    Every epoch is reported anew, so that the pruner of this space sets its own rungs.
    """
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    memory = optuna.create_study(
        direction=study.direction, pruner=study.pruner, sampler=RandomSampler()
    )
    for number, past in enumerate(history):
        attrs = {"state": past.state} | ({"reason": past.reason} if past.reason else {})
        if past.outside is not None:
            attrs["outside"] = past.outside
            memory.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attrs))
            continue
        memory.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(past.params),
                distributions={name: distribution(dimensions[name]) for name in past.params},
            )
        )
        for epoch, value in sorted(past.values.items()):
            report_epoch(memory, number, epoch, value)
            if isinstance(memory.pruner, SuccessiveHalvingPruner):
                should_stop(memory, number)  # notes the rung that the trial has reached
        if past.state != "running":
            tell(memory, number, past.state, past.reason)
    for past, trial in zip(history, memory.get_trials(), strict=True):
        if past.started is not None:
            trial.datetime_start = datetime.fromtimestamp(past.started)
        if past.ended is not None and trial.state.is_finished():
            trial.datetime_complete = datetime.fromtimestamp(past.ended)
        if past.warm_from is not None:
            trial.set_user_attr("warm_from", past.warm_from)
        study.add_trial(trial)


def _pruner(space: Space) -> BasePruner:
    scheduler = space.study.scheduler
    match scheduler.name:
        case "asha":  # Li et al. 2020; asynchronous: a trial never waits for its peers
            return SuccessiveHalvingPruner(
                min_resource=scheduler.min_epochs, reduction_factor=scheduler.eta
            )
        case "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=scheduler.min_epochs)
        case _:
            return NopPruner()


def propose(
    study: optuna.Study, space: Space, rejected: Callable[[Rejected], None], *, workers: int = 1
) -> Proposal:
    """Ask the sampler until it proposes what can be built and shared out to `workers`.

    Each refused proposal is told as failed and handed to `rejected`.

    Raises:
        SpaceError: nothing that can be built was found.
    """
    reason = ""
    backend = getattr(study._storage, "_backend", None)
    for _ in range(MAX_INVALID_PROPOSALS):
        with backend.together() if isinstance(backend, Journal) else nullcontext():
            trial = study.ask()
            config = suggest(space, trial)
        try:
            check_shared_out(trial_config(config), workers)
        except ConfigError as error:
            reason = str(error)
            study.tell(trial, state=TrialState.FAIL)
            rejected(Rejected(trial.number, trial.params, reason))
            continue
        return Proposal(trial.number, trial.params, config)
    raise SpaceError(
        f"of {MAX_INVALID_PROPOSALS} proposals in a row none could be built, the last because: "
        f"{reason}; narrow the space so that such combinations do not occur"
    )


def interrupted(study: optuna.Study, space: Space) -> list[Proposal]:
    """Trials that were running when their search ended, to be continued under their numbers."""
    return [
        Proposal(trial.number, trial.params, {**space.fixed, **trial.params})
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    ]


def report_epoch(
    study: optuna.Study, number: int, epoch: int, value: float, beside: float | None = None
) -> None:
    """Tell the study what a running trial measured; a second value for an epoch is ignored.

    `beside` is that of the second objective, where there are two.
    """
    frozen = _frozen(study, number)
    if not math.isfinite(value) or epoch in frozen.intermediate_values:
        return
    trial = Trial(study, frozen._trial_id)
    if beside is None:
        trial.report(value, epoch)
        return
    # Optuna has no reports of two values. The second is written first: it may be there alone.
    trial.set_user_attr(f"{BESIDE}{epoch}", beside)
    study._storage.set_trial_intermediate_value(frozen._trial_id, epoch, value)


def should_stop(study: optuna.Study, number: int) -> bool:
    """Whether the study's pruner would end the trial after the epochs it has reported."""
    return study.pruner.prune(study, _frozen(study, number))


def tell(study: optuna.Study, number: int, state: State, reason: str | None = None) -> None:
    """End a trial in the study: complete with its best epoch (by the first of two objectives),
    stopped with what it measured.

    A trial that has ended already stays as it is.
    """
    frozen = _frozen(study, number)
    if frozen.state.is_finished():
        return
    values = frozen.intermediate_values.values()
    optuna_state = OPTUNA_STATES[state]
    if not values and state in ("complete", "stopped"):
        optuna_state = TrialState.FAIL  # ended without a measurement: nothing to learn from
    if len(study.directions) > 1 and optuna_state is TrialState.PRUNED:
        optuna_state = TrialState.FAIL  # the sampler orders pruned trials by one objective only
    value: float | list[float] | None = None
    if optuna_state is TrialState.COMPLETE:
        best = max if study.directions[0].name == "MAXIMIZE" else min
        epochs = frozen.intermediate_values
        epoch = best(epochs, key=epochs.__getitem__)
        value = epochs[epoch]
        if len(study.directions) > 1:
            value = [value, frozen.user_attrs[f"{BESIDE}{epoch}"]]
    trial = Trial(study, frozen._trial_id)
    trial.set_user_attr("state", state)
    if reason:
        trial.set_user_attr("reason", reason)
    study.tell(number, value, state=optuna_state)


def told_end(study: optuna.Study, number: int) -> tuple[State, str | None] | None:
    """The state and the reason that a trial was told to have ended with; None while it is open."""
    trial = _frozen(study, number)
    if not trial.state.is_finished():
        return None
    return trial.user_attrs.get("state", "failed"), trial.user_attrs.get("reason")


def _frozen(study: optuna.Study, number: int) -> FrozenTrial:
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return study._storage.get_trial(trial_id)
