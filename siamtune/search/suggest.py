"""A space seen by Optuna: what a trial is suggested, and with which points the study begins."""

from typing import TYPE_CHECKING, Any

from siamtune.search.dimensions import ChoiceDimension, Dimension, IntDimension
from siamtune.search.space import Space, complete, walk

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial


def suggest(space: Space, trial: "BaseTrial") -> dict[str, Any]:
    """A trial's dials under their dotted names: the fixed ones and those that the trial suggests.

    A dial whose `when` does not hold is not suggested and not among them.
    """
    return walk(space, lambda dimension: _suggest_one(dimension, trial))


def start_points(space: Space) -> list[dict[str, Any]]:
    """Each start point in full, without fixed dials, as `study.enqueue_trial` takes it.

    What a point does not name is its default, or the nearest value that the space holds.
    """
    searched = {dimension.name for dimension in space.dimensions}
    return [
        {name: value for name, value in complete(space, named).items() if name in searched}
        for named in space.start
    ]


def distribution(dimension: Dimension) -> "BaseDistribution":
    """What Optuna notes down when a trial is suggested a value of this dimension."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, ChoiceDimension):
        return CategoricalDistribution(dimension.choices)
    low, high, log = dimension.low, dimension.high, dimension.log
    if isinstance(dimension, IntDimension):
        return IntDistribution(int(low), int(high), log=log, step=dimension.step)
    return FloatDistribution(low, high, log=log, step=dimension.step)


def _suggest_one(dimension: Dimension, trial: "BaseTrial") -> Any:
    if isinstance(dimension, ChoiceDimension):
        return trial.suggest_categorical(dimension.name, dimension.choices)
    name, low, high, log = dimension.name, dimension.low, dimension.high, dimension.log
    if isinstance(dimension, IntDimension):
        return trial.suggest_int(name, int(low), int(high), step=dimension.step, log=log)
    return trial.suggest_float(name, low, high, step=dimension.step, log=log)
