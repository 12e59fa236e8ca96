import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from siamtune.config import trial_config
from siamtune.search.dimensions import contains
from siamtune.search.settings import SAMPLERS
from siamtune.search.space import load_space
from siamtune.search.suggest import start_points, suggest

SPACE = """\
version: 1
fixed: {epochs: 3, data.resolution_px: 48}
start:
  - {}
  - {loss.name: triplet, model.embedding_size: 40}
  - {data.crop_factor: 1.03}
space:
  loss.name: {choice: [contrastive, triplet, supcon]}
  loss.mining: {choice: [hard, all], when: {loss.name: triplet}}
  loss.margin: {float: [0.1, 4.0], log: true, when: {loss.name: contrastive}}
  model.embedding_size: {int: [16, 64], step: 16}
  data.crop_factor: {float: [0.6, 2.2], step: 0.05}
  optim.lr: {float: [1e-2, 1e-1], log: true}
  verification.distance_threshold: {float: [1, 4], log: true}
"""


@pytest.fixture
def space_path(tmp_path: Path) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return str(path)


def study(sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=0))


def test_inactive_dials_are_not_suggested(space_path: str) -> None:
    space = load_space(space_path)
    asked = study()
    seen = set()
    for _ in range(60):
        trial = asked.ask()
        values = suggest(space, trial)
        assert values == {**space.fixed, **trial.params}
        assert ("loss.mining" in values) == (values["loss.name"] == "triplet")
        assert ("loss.margin" in values) == (values["loss.name"] == "contrastive")
        seen.add(values["loss.name"])
    assert seen == {"contrastive", "triplet", "supcon"}


def test_suggestions_lie_within_their_dimensions_in_the_order_of_the_file(space_path: str) -> None:
    space = load_space(space_path)
    asked = study()
    names = [dimension.name for dimension in space.dimensions]
    for _ in range(60):
        trial = asked.ask()
        suggest(space, trial)
        assert list(trial.params) == [name for name in names if name in trial.params]
        for dimension in space.dimensions:
            if dimension.name in trial.params:
                assert contains(dimension, trial.params[dimension.name])


def test_start_points_name_every_active_dial(space_path: str) -> None:
    defaults, triplet, snapped = start_points(load_space(space_path))
    assert defaults == {
        "loss.name": "supcon",
        "model.embedding_size": 64,  # the default, 128, lies above
        "data.crop_factor": pytest.approx(1.0),
        "optim.lr": 1e-2,  # the default, 1e-3, lies below
        "verification.distance_threshold": pytest.approx(2.0),  # no default: the middle
    }
    assert triplet["loss.mining"] == "hard"  # the default, semihard, is not tried: the first
    assert triplet["model.embedding_size"] == 48  # half way between 32 and 48
    assert "loss.margin" not in triplet
    assert snapped["data.crop_factor"] == pytest.approx(1.05)


@pytest.mark.parametrize("name", ["full", "lfw", "quickstart", "seed2016", "small"])
def test_optuna_takes_start_points_as_they_are(name: str, space_path: str) -> None:
    space = load_space(space_path if name == "small" else name)
    asked = study()
    points = start_points(space)
    assert points
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of values that it must move
        for point in points:
            asked.enqueue_trial(point)
        for point in points:
            trial = asked.ask()
            values = suggest(space, trial)
            assert trial.params == point
            trial_config(values)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["full", "lfw", "quickstart", "seed2016"])
def test_what_samplers_propose_of_a_shipped_space_can_be_built(name: str, sampler: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers: dict[str, Any] = {
            "tpe": optuna.samplers.TPESampler(
                multivariate=True, group=True, seed=0, n_startup_trials=10
            ),
            "random": optuna.samplers.RandomSampler(seed=0),
            "qmc": optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False),
        }
    space = load_space(name)
    asked = study(samplers[sampler])
    for point in start_points(space):
        asked.enqueue_trial(point)
    for number in range(25):
        trial = asked.ask()
        trial_config(suggest(space, trial))
        asked.tell(trial, float(number))
