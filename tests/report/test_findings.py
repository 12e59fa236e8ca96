from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from siamtune.report.findings import (
    LEAST_FOR_IMPORTANCE,
    MOST_DRAWN,
    Cost,
    Failure,
    Untried,
    _share_at,
    _wider,
    costs,
    drawn_trials,
    failures,
    fields,
    importance,
    on_bounds,
    place,
    untried,
)
from siamtune.search.dials import dial_value
from siamtune.search.dimensions import ChoiceDimension, Dimension, FloatDimension, IntDimension
from siamtune.search.history import History
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space
from siamtune.search.suggest import distribution

LR = FloatDimension("optim.lr", 1e-4, 1e-2, log=True)
DROPOUT = FloatDimension("model.dropout", 0.0, 0.5)
LOSS = ChoiceDimension("loss.name", ("triplet", "supcon", "arcface"))
CROP = FloatDimension("data.crop_factor", 0.75, 1.5, step=0.25)
NORMALIZATION = ChoiceDimension("data.normalization", ("minmax", "lcn"))


def trial(
    number: int, config: dict[str, Any], *values: float, state: Any = "complete", reason: str = ""
) -> TrialRecord:
    epochs = tuple(
        {"epoch": at, "val/auc": value, "seconds": 2.0} for at, value in enumerate(values, start=1)
    )
    return TrialRecord(number, state, config, epochs, reason or None)


def history(dimensions: tuple[Dimension, ...], *trials: TrialRecord, mode: str = "max") -> History:
    space = Space(Objective("val/auc", mode), StudySettings(), {"epochs": 3}, (), dimensions)
    return History(Run(Path("runs/faces")), {}, space, {t.number: t for t in trials})


def test_importance_finds_the_dial_that_decides_and_not_the_one_that_does_nothing() -> None:
    random = Random(1)
    trials = []
    for number in range(80):
        lr, dropout = 10 ** random.uniform(-4, -2), random.uniform(0, 0.5)
        value = 0.9 - abs(lr - 0.001) * 50 + random.gauss(0, 0.001)
        trials.append(trial(number, {"optim.lr": lr, "model.dropout": dropout}, value))
    found = importance(history((LR, DROPOUT), *trials))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert next(iter(found.shares)) == "optim.lr"
    assert found.shares["optim.lr"] > 0.7
    assert found.beyond_chance == {"optim.lr"}
    assert (found.trials, found.epoch, found.problem) == (80, 1, "")


def test_noise_is_hardly_ever_taken_for_importance() -> None:
    random = Random(2)
    dials = tuple(FloatDimension(f"loss.{name}", 0.0, 1.0) for name in "abcdef")
    wrong = 0
    for _ in range(6):
        trials = [
            trial(n, {dial.name: random.random() for dial in dials}, random.random())
            for n in range(24)
        ]
        wrong += len(importance(history(dials, *trials)).beyond_chance)
    assert wrong <= 4  # of 36 dials one in 21 is expected, and more than four in one of 40 cases


def test_importance_follows_the_direction_of_the_objective() -> None:
    random = Random(3)
    trials = []
    for number in range(80):
        # The lowest values all have one loss; the highest have either.
        loss = random.choice(("triplet", "supcon"))
        low = loss == "supcon" and random.random() < 0.3
        value = random.uniform(0, 0.1) if low else random.uniform(0.2, 1)
        trials.append(trial(number, {"loss.name": loss}, value))
    assert "loss.name" in importance(history((LOSS,), *trials, mode="min")).beyond_chance
    assert "loss.name" not in importance(history((LOSS,), *trials)).beyond_chance


def test_few_trials_give_no_importance_and_say_how_many_there_are() -> None:
    trials = [trial(n, {"optim.lr": 1e-3}, 0.5) for n in range(LEAST_FOR_IMPORTANCE - 1)]
    found = importance(history((LR,), *trials))
    assert not found.shares
    assert "there are 19" in found.problem


def test_stopped_trials_are_compared_after_as_many_epochs_as_half_of_them_reached() -> None:
    short = [trial(n, {"optim.lr": 1e-3}, 0.5, state="stopped") for n in range(10)]
    middle = [trial(n, {"optim.lr": 1e-3}, 0.5, 0.6, state="stopped") for n in range(10, 35)]
    long = [trial(n, {"optim.lr": 1e-3}, 0.5, 0.6, 0.7) for n in range(35, 40)]
    found = importance(history((LR,), *short, *middle, *long))
    assert (found.epoch, found.trials) == (2, 30)


def test_a_dial_whose_best_trials_crowd_at_a_bound_is_to_be_widened_there() -> None:
    at_top = [trial(n, {"optim.lr": lr}, 0.9) for n, lr in enumerate((9e-3, 1e-2, 8e-3, 5e-3))]
    elsewhere = [trial(n, {"optim.lr": 1e-3}, 0.6) for n in range(4, 12)]
    (found,) = on_bounds(history((LR,), *at_top, *elsewhere))
    assert (found.name, found.end, found.bound) == ("optim.lr", "upper", 1e-2)
    assert (found.trials, found.of) == (3, 4)  # 5e-3 lies 15 % below, on a log scale
    assert found.wider == replace(LR, high=0.046)


@pytest.mark.parametrize("state", ["stopped", "running", "failed"])
def test_trials_that_are_not_complete_do_not_speak_of_bounds(state: str) -> None:
    trials = [trial(n, {"optim.lr": 1e-2}, 0.9, state=state) for n in range(10)]
    assert on_bounds(history((LR,), *trials)) == []


def test_beyond_what_the_dial_allows_nothing_is_widened() -> None:
    trials = [trial(n, {"model.dropout": 0.0}, 0.9) for n in range(4)]
    (found,) = on_bounds(history((DROPOUT,), *trials))
    assert (found.end, found.wider) == ("lower", None)


@pytest.mark.parametrize(
    ("dimension", "end", "wider"),
    [
        (FloatDimension("data.crop_factor", 0.625, 2.25), "lower", 0.2),  # its least
        (FloatDimension("optim.weight_decay", 1e-6, 0.1, log=True), "upper", 1.0),  # its most
        (FloatDimension("loss.alpha", 1.0, 4.0), "lower", 0.5),  # half-way to 0, which is excluded
        (FloatDimension("optim.momentum", 0.5, 0.98), "upper", 0.99),
        (FloatDimension("optim.lr", 0.09, 0.1, log=True), "upper", 0.104),  # 0.10 would be no wider
        (FloatDimension("optim.lr", 0.1, 0.11, log=True), "lower", 0.097),
        (IntDimension("model.embedding_size", 32, 256, step=32), "lower", None),  # 0 is too small
        (IntDimension("loss.gallery_size", 1, 8, log=True), "lower", None),
        (IntDimension("model.embedding_size", 2, 4, log=True), "upper", 6),
        (FloatDimension("augmentation.strength", 0.25, 1.5, step=0.25), "lower", 0.0),
    ],
)
def test_a_range_is_widened_as_far_as_its_dial_allows(
    dimension: FloatDimension | IntDimension, end: str, wider: float | None
) -> None:
    found = _wider(dimension, end)
    if wider is None:
        assert found is None
        return
    changed = {"high" if end == "upper" else "low": wider}
    assert found == replace(dimension, **changed)
    assert dial_value(dimension.name, wider) == wider


def test_a_coarse_range_is_not_to_be_widened_by_luck() -> None:
    """Of two values one is always at a bound: three of four there are no sign of anything."""
    two = IntDimension("model.embedding_size", 16, 32, step=16)
    assert _share_at(two, "upper") == 0.5
    trials = [trial(n, {two.name: size}, 0.9) for n, size in enumerate((32, 32, 32, 16))]
    assert on_bounds(history((two,), *trials)) == []
    all_of_ten = [trial(n, {two.name: 32}, 0.9) for n in range(40)]
    (found,) = on_bounds(history((two,), *all_of_ten))
    assert (found.end, found.trials) == ("upper", 10)


@pytest.mark.parametrize(
    "dimension",
    [
        IntDimension("model.embedding_size", 1, 12, log=True),
        FloatDimension("data.crop_factor", 0.75, 1.5, step=0.125),
        FloatDimension("optim.lr", 1e-4, 1e-2, log=True),
    ],
)
def test_the_share_at_an_end_is_that_of_random_draws(dimension: Dimension) -> None:
    import optuna

    assert not isinstance(dimension, ChoiceDimension)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [
        place(dimension, study.ask({"x": distribution(dimension)}).params["x"]) for _ in range(1500)
    ]
    for end, share in (
        ("lower", sum(p <= 0.1 for p in drawn) / 1500),
        ("upper", sum(p >= 0.9 for p in drawn) / 1500),
    ):
        assert _share_at(dimension, end) == pytest.approx(share, abs=0.04)


def test_of_very_many_trials_the_best_and_some_others_are_drawn() -> None:
    trials = [trial(n, {"optim.lr": 1e-3}, (n + 1) / 3000) for n in range(2500)]
    failed = [trial(n, {}, state="failed") for n in range(2500, 2600)]
    drawn = drawn_trials(history((LR,), *trials, *failed))
    assert len(drawn) == MOST_DRAWN
    assert list(drawn)[: MOST_DRAWN // 2] == list(range(2499, 1999, -1))
    assert sum(number < 1000 for number in drawn) == pytest.approx(500 * 1000 / 2100, abs=2)
    assert any(number >= 2500 for number in drawn)
    assert set(drawn_trials(history((LR,), *trials[:1000]))) == set(range(1000))


def test_a_wider_range_keeps_its_grid_and_its_kind() -> None:
    crop = [trial(n, {"data.crop_factor": 1.5}, 0.9) for n in range(4)]
    (found,) = on_bounds(history((CROP,), *crop))
    assert found.wider == replace(CROP, high=1.75)
    size = IntDimension("model.embedding_size", 16, 128, log=True)
    sizes = [trial(n, {size.name: 128}, 0.9) for n in range(4)]
    (found,) = on_bounds(history((size,), *sizes))
    assert isinstance(found.wider, IntDimension)
    assert found.wider.high == 256
    assert isinstance(found.wider.high, int)


def test_choices_that_no_complete_trial_had_are_named_with_who_began_them() -> None:
    found = untried(
        history(
            (LOSS,),
            trial(0, {"loss.name": "supcon"}, 0.9),
            trial(1, {"loss.name": "triplet"}, 0.5, state="stopped"),
            trial(2, {"loss.name": "supcon"}, 0.5, state="stopped"),
        )
    )
    assert found == [Untried("loss.name", ("triplet", "arcface"), 1)]


def test_quarters_of_a_range_that_no_complete_trial_had_are_named() -> None:
    trials = [trial(n, {"model.dropout": 0.02 * n}, 0.9) for n in range(8)]
    early = trial(8, {"model.dropout": 0.45}, 0.5, state="stopped")
    found = untried(history((DROPOUT,), *trials, early))
    assert found == [Untried("model.dropout", ("0.25 to 0.5",), 1)]
    assert untried(history((DROPOUT,), *trials[:7], early)) == []  # too few to tell


def test_a_quarter_without_a_value_of_the_grid_is_no_gap() -> None:
    halves = FloatDimension("data.crop_factor", 1.0, 2.0, step=0.5)
    trials = [trial(n, {"data.crop_factor": (1.0, 1.5, 2.0)[n % 3]}, 0.9) for n in range(9)]
    assert untried(history((halves,), *trials)) == []


def test_before_a_trial_is_complete_nothing_counts_as_untried() -> None:
    assert untried(history((LOSS,), trial(0, {"loss.name": "supcon"}, 0.9, state="stopped"))) == []


def test_trials_that_another_space_left_behind_speak_only_of_what_it_still_holds() -> None:
    random = Random(4)

    def trials(rate: float, loss: str, first: int) -> list[TrialRecord]:
        return [
            trial(n, {"optim.lr": rate, "loss.name": loss}, random.random())
            for n in range(first, first + 20)
        ]

    space = (LR, LOSS)
    inside = trials(1e-3, "triplet", 0)
    outside = trials(0.5, "contrastive", 20)  # both values are no longer tried
    assert importance(history(space, *inside, *outside)).trials == 40
    assert on_bounds(history(space, *outside)) == []
    assert untried(history(space, *inside, *outside)) == untried(history(space, *inside))


def test_costs_add_up_by_state() -> None:
    trials = [
        trial(0, {}, 0.5, 0.6, 0.7),
        trial(1, {}, 0.5, state="stopped"),
        trial(2, {}, 0.5, 0.6, state="stopped"),
        trial(3, {}, state="failed"),
    ]
    assert costs(trials) == [
        Cost("complete", 1, 3, 6.0), Cost("stopped", 2, 3, 6.0), Cost("failed", 1, 0, 0.0),
    ]  # fmt: skip


def test_failures_with_one_reason_are_one_line_the_most_frequent_first() -> None:
    trials = [
        trial(0, {}, 0.5),
        trial(1, {}, state="failed", reason="a"),
        trial(2, {}, state="lost", reason="b"),
        trial(3, {}, state="lost", reason="b"),
        trial(4, {}, state="failed", reason="b"),
        trial(5, {}, state="interrupted"),
    ]
    assert failures(trials) == [
        Failure("lost", "b", (2, 3)), Failure("failed", "a", (1,)), Failure("failed", "b", (4,)),
    ]  # fmt: skip


@pytest.mark.parametrize(("mode", "best"), [("max", 0.8), ("min", 0.7)])
def test_a_field_holds_the_best_of_its_trials_and_their_number(mode: str, best: float) -> None:
    found = fields(
        history(
            (CROP, NORMALIZATION),
            trial(0, {"data.crop_factor": 1.0, "data.normalization": "lcn"}, 0.7),
            trial(1, {"data.crop_factor": 1.0, "data.normalization": "lcn"}, 0.8, state="stopped"),
            trial(2, {"data.crop_factor": 1.5, "data.normalization": "minmax"}, 0.6),
            trial(3, {"data.crop_factor": 1.5, "data.normalization": "minmax"}, state="failed"),
            mode=mode,
        ),
        "data.normalization",
        "data.crop_factor",
    )
    assert found is not None
    assert (found.rows, found.columns) == (("minmax", "lcn"), ("0.75", "1", "1.25", "1.5"))
    assert found.best == {(1, 1): (best, 2), (0, 3): (0.6, 1)}


def test_many_values_are_put_together_and_the_last_holds_its_upper_bound() -> None:
    crop = FloatDimension("data.crop_factor", 0.5, 2.5)
    trials = [
        trial(n, {"data.crop_factor": value, "data.normalization": "lcn"}, 0.7)
        for n, value in enumerate((0.5, 0.7, 2.5))
    ]
    found = fields(
        history((crop, NORMALIZATION), *trials), "data.normalization", "data.crop_factor"
    )
    assert found is not None
    assert (found.columns[0], found.columns[-1], len(found.columns)) == ("0.5–0.75", "2.25–2.5", 8)
    assert found.best == {(1, 0): (0.7, 2), (1, 7): (0.7, 1)}


def test_without_both_dials_there_are_no_fields() -> None:
    assert fields(history((CROP,)), "data.normalization", "data.crop_factor") is None
    assert fields(history((NORMALIZATION,)), "data.normalization", "data.crop_factor") is None
