"""TPE whose proposals cost the same after ten thousand trials as after three hundred.

Optuna's own looks at every trial for every group of dials: a second and more after ten thousand,
while all slots wait.
"""

from collections.abc import Container, Sequence
from typing import Any, cast

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

# How many ended trials TPE models. The best of all are among them, so its model of good trials is
# the whole one; the others are the latest, to which it gives the most weight anyway.
MOST = 250
BEST = 25  # so many good ones Optuna's TPE models of that many trials or more
MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)


class BoundedTPE(TPESampler):
    """Optuna's TPE of the `BEST` trials and the latest others; up to `MOST` it is the same."""

    def __init__(self, seed: int) -> None:
        # Conditional dials are modelled jointly within each group that occurs together.
        super().__init__(multivariate=True, group=True, seed=seed)
        self._ranked: set[int] = set()  # numbers of the trials that `_best` has been chosen from
        self._best: list[FrozenTrial] = []
        self._grouped: set[frozenset[str]] = set()  # dials that occurred together so far
        self._new: list[FrozenTrial] = []  # trials that the last choice was the first to see
        self._seen_by: int | None = None  # the trial that `_window` was made for
        self._window: list[FrozenTrial] = []

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._look(study, trial)
        # Dials that occurred together once tell nothing new the next time.
        new = {
            dials: past
            for past in self._new
            if (dials := frozenset(past.distributions)) not in self._grouped
        }
        self._grouped |= new.keys()
        return super().infer_relative_search_space(_seen(study, list(new.values())), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._look(study, trial)
        return super().sample_relative(_seen(study, self._window), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._look(study, trial)
        return super().sample_independent(
            _seen(study, self._window), trial, param_name, param_distribution
        )

    def _look(self, study: Study, trial: FrozenTrial) -> None:
        """Choose what the proposals for a trial are made from, once for all its dials."""
        if self._seen_by == trial.number:
            return
        self._seen_by = trial.number
        ended = _measured(study)
        self._new = [past for past in ended if past.number not in self._ranked]
        self._ranked.update(past.number for past in self._new)
        self._best = _split_trials(study, [*self._best, *self._new], BEST)[0]
        if len(ended) <= MOST:
            self._window = ended
            return
        best = {past.number for past in self._best}
        latest = [past for past in ended if past.number not in best][BEST - MOST :]
        self._window = sorted([*self._best, *latest], key=lambda past: past.number)


class _Seen:
    """A study that shows only some of its measured trials, and all that run."""

    def __init__(self, study: Study, measured: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._measured = measured

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool, states: Container[TrialState], use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._measured if trial.state in states]
        if TrialState.RUNNING in states:
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            trials = sorted([*trials, *running], key=lambda trial: trial.number)
        return trials


def _seen(study: Study, measured: Sequence[FrozenTrial]) -> Study:
    return cast("Study", _Seen(study, measured))


def _measured(study: Study) -> list[FrozenTrial]:
    return study._get_trials(deepcopy=False, states=MEASURED, use_cache=True)
