import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from siamtune.report.table import (
    count_states,
    dial_columns,
    dial_name,
    duration,
    metric_columns,
    metric_name,
    one_line,
    result_document,
    shown,
    trial_table,
)
from siamtune.search.dimensions import ChoiceDimension, FloatDimension, IntDimension
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space, load_space

DIMENSIONS = (
    IntDimension("model.embedding_size", 16, 256),
    ChoiceDimension("data.normalization", ("minmax", "lcn", "lcn-", "zca")),
    FloatDimension("loss.margin", 0.1, 4.0),
    FloatDimension("optim.lr", 1e-4, 1e-2, log=True),
    ChoiceDimension("loss.name", ("contrastive", "triplet")),
    ChoiceDimension("model.architecture", ("hani", "resnet")),
)


def space_of(metric: str = "val/auc", mode: str = "max") -> Space:
    return Space(Objective(metric, mode), StudySettings(), {"epochs": 9, "seed": 4}, (), DIMENSIONS)


def trial(number: int, state: str, *aucs: float, **config: Any) -> TrialRecord:
    epochs = tuple(
        {"epoch": float(at), "val/auc": auc, "val/f1": auc - 0.1, "val/eer": 1 - auc}
        for at, auc in enumerate(aucs, start=1)
    )
    dials = {name.replace("_", ".", 1): value for name, value in config.items()}
    return TrialRecord(number, state, dials, epochs)  # type: ignore[arg-type]


def drawn(groups: list[list[TrialRecord]], space: Space, width: int, **options: Any) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(trial_table(groups, space, width, **options))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_row_has_the_numbers_of_the_best_epoch_and_the_last_epoch_reached() -> None:
    rows = drawn([[trial(3, "stopped", 0.6, 0.8, 0.7, loss_name="triplet")]], space_of(), 60)
    assert rows[0].split() == ["trial", "state", "epoch", "AUC", "F1", "architecture"]
    assert rows[1].split() == ["3", "stopped", "3/9", "0.8000", "0.7000", "-"]


def test_the_objective_comes_first_and_decides_which_epoch_is_best() -> None:
    rows = drawn([[trial(0, "complete", 0.7, 0.9)]], space_of("val/eer", "min"), 50)
    assert rows[0].split() == ["trial", "state", "epoch", "EER", "AUC", "F1"]
    assert rows[1].split() == ["0", "complete", "2/9", "0.1000", "0.9000", "0.8000"]


def test_the_best_trial_is_marked_and_groups_stand_apart() -> None:
    groups = [[trial(12, "running")], [], [trial(7, "complete", 0.9), trial(3, "complete", 0.8)]]
    rows = drawn(groups, space_of(), 80, best=7)
    assert [row[:18].split() for row in rows[1:]] == [
        ["12", "running"],
        [],
        ["*", "7", "complete"],
        ["3", "complete"],
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_row_is_wider_than_the_terminal_and_none_is_cut(width: int) -> None:
    record = trial(
        1234, "complete", 0.9, model_architecture="resnet", loss_name="contrastive",
        optim_lr=0.000123456, loss_margin=0.123456, data_normalization="minmax",
        model_embedding_size=128,
    )  # fmt: skip
    rows = drawn([[record]], space_of(), width, best=1234)
    assert len(rows) == 2
    assert all(len(row) <= width for row in rows)
    assert "…" not in rows[1]
    assert "* 1234" in rows[1]
    assert "0.9000" in rows[1]


@pytest.mark.parametrize("name", ["full", "lfw", "quickstart", "seed2016"])
def test_no_number_is_cut_at_any_width(name: str) -> None:
    """A learning rate of 0.0001… could be 0.000199."""
    space = load_space(name)
    longest = {
        d.name: max(d.choices, key=lambda choice: len(shown(choice)))
        if isinstance(d, ChoiceDimension)
        else (0.000123456 if isinstance(d, FloatDimension) else d.high)
        for d in space.dimensions
    }
    epochs = ({"epoch": 1, "val/auc": 0.9, "val/f1": 0.8},)
    record = TrialRecord(1234, "complete", longest, epochs)
    for width in range(44, 151):
        for row in drawn([[record]], space, width, best=1234):
            assert len(row) <= width
            assert "…" not in row, width


def test_the_dials_that_people_look_for_are_shown_first_and_five_at_most() -> None:
    first = ["model.architecture", "loss.name", "optim.lr", "data.normalization"]
    assert dial_columns(DIMENSIONS) == [*first, "model.embedding_size"]
    assert dial_columns(DIMENSIONS, 14 + 13) == first[:2]
    assert dial_columns(DIMENSIONS, 14 + 13 - 1) == [first[0], "optim.lr"]  # the next that fits
    assert dial_columns(DIMENSIONS, 0) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.000123"),
        (1e-5, "1e-05"),
        (128, "128"),
        (True, "true"),
        (None, "null"),
        ("lcn-", "lcn-"),
        ("\x1b[31mred\n", " [31mred "),
    ],
)
def test_values_are_shown_short_and_cannot_steer_the_terminal(value: Any, text: str) -> None:
    assert shown(value) == text


def test_headings_are_short_but_never_just_a_name() -> None:
    names = ["optim.lr", "loss.name", "optim.name", "epochs"]
    assert [dial_name(name) for name in names] == ["lr", "loss", "optim", "epochs"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3600 + 59, "1 h 00 min"),
        (2 * 86400 + 5 * 3600, "2 d 5 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_states_are_counted_in_one_order() -> None:
    records = [trial(0, "failed"), trial(1, "running"), trial(2, "failed"), trial(3, "complete")]
    assert list(count_states(records).items()) == [("running", 1), ("complete", 1), ("failed", 2)]


def test_auc_and_f1_are_shown_whatever_the_objective() -> None:
    assert metric_columns(Objective("val/f1", "max")) == ["val/f1", "val/auc"]


def test_one_line_is_one_line() -> None:
    assert one_line("a\r\nb\tc\x07é") == "a  b c é"


def test_the_result_is_one_document_with_the_winner_complete(tmp_path: Path) -> None:
    facts = {"data": "demo", "protocol": "identity-holdout", "split": "abc"}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    records = {
        record.number: record
        for record in (
            trial(0, "failed"),
            trial(1, "stopped", 0.95, loss_name="triplet"),
            trial(2, "complete", 0.7, 0.9, 0.8, loss_name="contrastive"),
        )
    }
    document = result_document(Run(tmp_path), records, space_of())
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "siamtune.search/1"
    assert (document["data"], document["protocol"], document["split"]) == tuple(facts.values())
    assert document["states"] == {"complete": 1, "stopped": 1, "failed": 1}
    winner = document["winner"]
    assert winner["trial"] == 2
    assert winner["best"]["epoch"] == 2
    assert winner["config"] == {"epochs": 9, "seed": 4, "loss.name": "contrastive"}
    assert [row["trial"] for row in document["trials"]] == [2, 1, 0]
    assert document["trials"][2]["best"] is None


def test_a_search_without_a_winner_is_a_document_too(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert result_document(Run(tmp_path), {}, space_of())["winner"] is None


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("val/auc", "AUC"), ("val/accuracy", "accuracy"), ("val/tar@far=0.01", "TAR@1%"),
        ("val/tar@far=0.001", "TAR@0.1%"), ("val/precision@1", "P@1"), ("val/map@r", "MAP@R"),
    ],
)  # fmt: skip
def test_a_metric_has_a_short_heading(metric: str, name: str) -> None:
    assert metric_name(metric) == name
