from random import Random
from typing import Any

import optuna
import pytest

from siamtune.search.dimensions import (
    ChoiceDimension,
    Dimension,
    FloatDimension,
    IntDimension,
    contains,
    count,
    described,
    draw,
    is_active,
    nearest,
)

LR = FloatDimension("optim.lr", 1e-4, 1e-2, log=True)
CROP = FloatDimension("data.crop_factor", 0.6, 2.2, step=0.05)
SIZE = IntDimension("model.embedding_size", 16, 64, step=16)
IMAGES = IntDimension("batch.images", 4, 8)
LOG_INT = IntDimension("model.embedding_size", 16, 512, log=True)
LOSS = ChoiceDimension("loss.name", ("contrastive", "triplet"))
RESOLUTION = ChoiceDimension("data.resolution_px", (48, 64, 96))
PER_PERSON = ChoiceDimension("data.images_per_person", (2, None))
ALL = [LR, CROP, SIZE, IMAGES, LOG_INT, LOSS, RESOLUTION, PER_PERSON]


@pytest.mark.parametrize(
    ("dimension", "wanted", "found"),
    [
        (LR, 1e-3, 1e-3),
        (LR, 5.0, 1e-2),
        (LR, 0.0, 1e-4),
        (LR, None, 1e-3),  # the geometric middle
        (SIZE, 40, 48),
        (SIZE, 39, 32),
        (SIZE, 1000, 64),
        (SIZE, None, 48),
        (LOSS, "triplet", "triplet"),
        (LOSS, "supcon", "contrastive"),
        (RESOLUTION, 70, 64),
        (RESOLUTION, None, 48),
        (PER_PERSON, None, None),
        (PER_PERSON, 5, 2),
    ],
)
def test_the_nearest_value_is_within_the_dimension(
    dimension: Dimension, wanted: Any, found: Any
) -> None:
    assert nearest(dimension, wanted) == pytest.approx(found) if found else found is None
    assert contains(dimension, nearest(dimension, wanted))


@pytest.mark.parametrize("dimension", ALL, ids=described)
def test_draws_lie_within_and_reach_every_value_or_both_ends(dimension: Dimension) -> None:
    random = Random(0)
    draws = [draw(dimension, random) for _ in range(3000)]
    assert all(contains(dimension, value) for value in draws)
    if (number := count(dimension)) is not None and number < 100:
        assert len(set(draws)) == number
    assert all(nearest(dimension, value) == value for value in draws)


def test_a_grid_point_is_the_float_that_optuna_makes() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert CROP.step is not None
    for _ in range(200):
        value = study.ask().suggest_float("x", CROP.low, CROP.high, step=CROP.step)
        assert nearest(CROP, value) == value


def test_a_logarithmic_dimension_is_drawn_evenly_by_factor() -> None:
    random = Random(0)
    draws = [draw(LR, random) for _ in range(4000)]
    assert sum(value < 1e-3 for value in draws) == pytest.approx(2000, abs=130)


def test_counts() -> None:
    assert [count(d) for d in ALL] == [None, 33, 4, 5, 497, 2, 3, 2]


def test_a_dial_is_active_if_every_condition_holds() -> None:
    mining = ChoiceDimension(
        "loss.mining", ("all", "hard"), {"loss.name": ("triplet",), "batch.images": (64, 128)}
    )
    assert is_active(mining, {"loss.name": "triplet", "batch.images": 64})
    assert not is_active(mining, {"loss.name": "triplet", "batch.images": 32})
    assert not is_active(mining, {"loss.name": "supcon", "batch.images": 64})
    assert not is_active(mining, {"batch.images": 64})  # its target is inactive itself


def test_descriptions_fit_a_table() -> None:
    assert described(LR) == "0.0001 to 0.01, log"
    assert described(CROP) == "0.6 to 2.2, step 0.05"
    assert described(IMAGES) == "4 to 8"
    assert described(LOSS) == "contrastive, triplet"
    assert described(PER_PERSON) == "2, null"
