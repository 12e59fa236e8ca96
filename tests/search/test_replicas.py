"""Which configurations are trained again, with which seeds, and what is trained already."""

import json
from pathlib import Path
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.errors import UsageError
from siamtune.search.history import History
from siamtune.search.records import TrialRecord
from siamtune.search.replicas import (
    FILE,
    Best,
    Estimate,
    Replicated,
    Replication,
    Wish,
    best_configurations,
    fresh_seeds,
    parse_wish,
    read_replication,
    replicated_best,
    to_train,
)
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space


def record(number: int, auc: float, state: str = "complete", **dials: Any) -> TrialRecord:
    epochs = ({"epoch": 1.0, "val/auc": auc},)
    named = {name.replace("_", ".", 1): value for name, value in dials.items()}
    return TrialRecord(number, state, named, epochs)  # type: ignore[arg-type]


def history(*records: TrialRecord, folder: Path = Path("run"), **fixed: Any) -> History:
    space = Space(Objective(), StudySettings(), {"epochs": 3, **fixed}, (), ())
    return History(Run(folder), {}, space, {each.number: each for each in records})


def test_wishes_are_read_and_one_seed_is_refused() -> None:
    assert parse_wish(" 5x3") == Wish(5, 3)
    assert str(parse_wish("12X2")) == "12x2"
    for text in ("5", "5x1", "0x3", "5x", "x3", "5 x 3", "-5x3", "5x3x2", "99999x3"):
        with pytest.raises(UsageError, match="--replicate must be configurations x fresh seeds"):
            parse_wish(text)


def test_trials_that_differ_in_the_seed_alone_are_one_configuration() -> None:
    found = best_configurations(
        history(
            record(0, 0.7, optim_lr=1e-3),
            record(1, 0.9, optim_lr=1e-2, seed=4),
            record(2, 0.8, optim_lr=1e-2, seed=5),
            record(3, 0.99, "stopped", optim_lr=1e-4),
            record(4, 0.99, "failed", optim_lr=1e-5),
        ),
        5,
    )
    assert [each.record.number for each in found] == [1, 0, 3]
    assert [each.place for each in found] == [1, 2, 3]
    assert {**found[0].dials, "seed": 0} == {**DEFAULTS, "epochs": 3, "optim.lr": 1e-2}
    assert "seed" not in found[0].dials


def test_seeds_are_fresh() -> None:
    assert fresh_seeds(history(record(0, 0.7)), 3) == [1, 2, 3]  # the default is 0
    assert fresh_seeds(history(record(0, 0.7), seed=7), 3) == [0, 1, 2]
    assert fresh_seeds(history(record(0, 0.7, seed=1), record(1, 0.7, seed=2)), 3) == [0, 3, 4]


def test_what_is_trained_is_not_trained_again_and_what_was_cut_short_goes_on() -> None:
    of = history(record(0, 0.9, optim_lr=1e-3), record(1, 0.8, optim_lr=1e-2))
    configurations = best_configurations(of, 2)

    def replica(number: int, state: str, lr: float, seed: int) -> TrialRecord:
        config = {**DEFAULTS, "epochs": 3, "optim.lr": lr, "seed": seed}
        return TrialRecord(number, state, config)  # type: ignore[arg-type]

    there = [
        replica(0, "complete", 1e-3, 1),
        replica(1, "interrupted", 1e-2, 1),
        replica(2, "failed", 1e-3, 2),
        replica(3, "collapsed", 1e-2, 2),
        replica(4, "complete", 5e-3, 3),  # of a configuration that others have displaced
    ]
    wanted = to_train(configurations, [1, 2, 3], {each.number: each for each in there})
    assert [(each.number, each.of.number, each.config["seed"]) for each in wanted] == [
        (1, 1, 1), (5, 0, 2), (6, 0, 3), (7, 1, 3),
    ]  # fmt: skip
    assert wanted[0].config == there[1].config


def replication(**changes: Any) -> Replication:
    found = Replication(
        time="2026-01-02T03:04:05+00:00", asked="2x2", metric="val/auc", mode="max", data="demo",
        protocol="identity-holdout", split="x", pairs=10, trials=2, seeds=(1, 2), seed_spread=0.01,
        over="seeds and people", winner=0, lead=None,
        configurations=(
            Replicated(
                trial=1, place=2, search=0.8, replicas=(), tied=True,
                mean=Estimate(value=0.79, margin=0.01), luck=Estimate(value=0.01, margin=0.02),
            ),
        ),
        best=Best(trial=1, replica=3, seed=2, value=0.81),
    )  # fmt: skip
    return found.model_copy(update=changes)


def test_the_best_is_the_replicated_one_until_the_search_finds_another_winner(
    tmp_path: Path,
) -> None:
    of = history(record(0, 0.9), record(1, 0.8), folder=tmp_path)
    assert replicated_best(of) is None
    (tmp_path / FILE).write_text(json.dumps(replication().document()))
    assert read_replication(of.run) == replication()
    assert replicated_best(of) == replication().best
    later = history(record(0, 0.9), record(1, 0.8), record(2, 0.95), folder=tmp_path)
    assert replicated_best(later) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"schema": "siamtune.replication/1"}', "{"])
def test_a_damaged_file_is_no_replication(tmp_path: Path, damage: str) -> None:
    (tmp_path / FILE).write_text(damage)
    assert read_replication(Run(tmp_path)) is None
