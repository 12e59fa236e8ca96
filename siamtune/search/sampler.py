"""TPE whose proposals cost the same after ten thousand trials as after three hundred.

Optuna's own looks at every trial for every group of dials: a second and more after ten thousand,
while all slots wait. This one also sorts the trials once for all groups and reads the dials of an
ended trial once.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import (
    _split_trials,
    default_gamma,
    default_gamma_multiobjective,
)
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
        # The good trials of the window, and the others and those that run.
        self._sides: tuple[list[FrozenTrial], list[FrozenTrial]] = [], []
        # By number, a trial's dials as the model takes them: of the ended ones, and of those that
        # ran at the last choice.
        self._places: dict[int, Mapping[str, float]] = {}
        self._open: dict[int, Mapping[str, float]] = {}
        self._dials: dict[str, BaseDistribution] = {}  # all that an ended trial had

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

    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        good, others = self._sides
        below = self._build_parzen_estimator(study, search_space, good, handle_below=True)
        above = self._build_parzen_estimator(study, search_space, others, handle_below=False)
        drawn = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(drawn, self._compute_acquisition_func(drawn, below, above))
        return {
            name: distribution.to_external_repr(best[name])
            for name, distribution in search_space.items()
        }

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, np.ndarray]:
        ended, running = self._places, self._open
        places = [ended[n] if (n := past.number) in ended else running[n] for past in trials]
        whole = [place for place in places if search_space.keys() <= place.keys()]
        return {name: np.array([place[name] for place in whole]) for name in search_space}

    def _place(self, past: FrozenTrial, study: Study) -> Mapping[str, float]:
        # A running one may have been drawn dials that no ended one had: they are modelled by none.
        dials = self._get_params(past, study).items()
        return {n: self._dials[n].to_internal_repr(v) for n, v in dials if n in self._dials}

    def _look(self, study: Study, trial: FrozenTrial) -> None:
        """Choose what the proposals for a trial are made from, once for all its dials."""
        if self._seen_by == trial.number:
            return
        self._seen_by = trial.number
        ended = _measured(study)
        self._new = [past for past in ended if past.number not in self._ranked]
        self._ranked.update(past.number for past in self._new)
        for past in self._new:
            self._dials |= past.distributions
            self._places[past.number] = self._place(past, study)
        self._best = _split_trials(study, [*self._best, *self._new], BEST)[0]
        self._window = ended
        if len(ended) > MOST:
            best = {past.number for past in self._best}
            latest = [past for past in ended if past.number not in best][BEST - MOST :]
            self._window = sorted([*self._best, *latest], key=lambda past: past.number)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        others = [other for other in running if other.number != trial.number]
        self._open = {other.number: self._place(other, study) for other in others}
        gamma = default_gamma_multiobjective if len(study.directions) > 1 else default_gamma
        self._sides = _split_trials(study, [*self._window, *others], gamma(len(self._window)))


class _Seen:
    """A study that shows only some of its measured trials; of others it is not asked here."""

    def __init__(self, study: Study, measured: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._measured = measured

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool, states: Container[TrialState], use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._measured if trial.state in states]


def _seen(study: Study, measured: Sequence[FrozenTrial]) -> Study:
    return cast("Study", _Seen(study, measured))


def _measured(study: Study) -> list[FrozenTrial]:
    return study._get_trials(deepcopy=False, states=MEASURED, use_cache=True)
