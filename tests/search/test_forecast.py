"""The imagined course of a search against Optuna's own pruners and against sums by hand."""

from collections import Counter
from random import Random

import pytest

from siamtune.search import study as studies
from siamtune.search.forecast import TrialCost, decisions, imagine
from siamtune.search.settings import Objective, Scheduler, StudySettings
from siamtune.search.space import Space


def settings(name: str, min_epochs: int = 1, eta: int = 3) -> StudySettings:
    return StudySettings(scheduler=Scheduler(name, min_epochs, eta))


@pytest.mark.parametrize("epochs", [9, 10])
@pytest.mark.parametrize(
    "study", [settings("asha"), settings("asha", 2, 2), settings("median", 2), settings("none")]
)
def test_trials_end_where_optunas_pruner_ends_them(study: StudySettings, epochs: int) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials, seed = 30, 5
    course = imagine(study, epochs, trials, 1, lambda number, random: TrialCost(1.0), seed)

    space = Space(Objective(), study, {}, (), ())
    real = optuna.create_study(direction="maximize", pruner=studies._pruner(space))
    random = Random(seed)
    ended: Counter[int] = Counter()
    for _ in range(trials):
        number = real.ask().number
        worth = random.random()
        for epoch in range(1, epochs + 1):
            studies.report_epoch(real, number, epoch, worth)
            # The last epoch does not pass the scheduler: the trial is complete.
            if epoch < epochs and studies.should_stop(real, number):
                studies.tell(real, number, "stopped")
                break
        else:
            studies.tell(real, number, "complete")
        ended[epoch] += 1
    assert course.ended_at == ended
    assert course.epochs == sum(epoch * count for epoch, count in ended.items())


def test_the_scheduler_decides_where_the_space_says() -> None:
    assert decisions(settings("asha", 2, 3), 30) == [2, 6, 18]
    assert decisions(settings("asha", 2, 3), 18) == [2, 6]
    assert decisions(settings("median", 3), 30) == [3]
    assert decisions(settings("none"), 30) == []


def test_slots_work_side_by_side_and_what_is_shared_is_paid_once() -> None:
    def cost(number: int, random: Random) -> TrialCost:
        return TrialCost(2.0, 1.0, (("faces", 5.0),))

    course = imagine(settings("none"), 10, 5, 2, cost, 0)
    # 21 s a trial, 5 more for the first: 26 + 21 on one slot, 21 + 21 + 21 on the other.
    assert course.busy_s == 5 * 21 + 5
    assert course.wall_s == 63
    assert imagine(settings("none"), 10, 5, 2, cost, 0, ready_s=7).wall_s == 70
    assert course.ended_at == {10: 5}


def test_a_trial_has_its_own_cost() -> None:
    course = imagine(settings("none"), 2, 3, 1, lambda number, random: TrialCost(float(number)), 0)
    assert course.wall_s == 2 * (0 + 1 + 2)
