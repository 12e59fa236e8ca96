import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from siamtune.config import DEFAULTS
from siamtune.errors import SpaceError
from siamtune.search.carry import (
    Plan,
    carried,
    carry,
    compare,
    finish_carry,
    known_from,
    plan_carry,
)
from siamtune.search.records import Recorder, read_records
from siamtune.search.runs import Run
from siamtune.search.space import Space, load_space, to_yaml
from siamtune.search.study import (
    add_past,
    interrupted,
    open_study,
    propose,
    report_epoch,
    should_stop,
    tell,
)

HEAD = """
version: 1
study: {trials: 20, scheduler: {asha: {min_epochs: 1, eta: 3}}, sampler: {tpe: {}}, seed: 3}
start: [{}]
"""
OLD = """
fixed: {epochs: 9, batch.images: 64}
space:
  optim.lr: {float: [1e-4, 1e-2], log: true}
  loss.name: {choice: [supcon, triplet]}
  loss.triplet_margin: {float: [0.1, 0.5], when: {loss.name: triplet}}
"""


def space_of(folder: Path, text: str, name: str = "space.yaml") -> Space:
    path = folder / name
    path.write_text(HEAD + text)
    return load_space(str(path))


def kinds(old: Space, new: Space) -> dict[str, str]:
    return {change.dial: change.kind for change in compare(old, new)}


@pytest.mark.parametrize(
    ("was", "now", "kind"),
    [
        ("[1e-4, 1e-2], log: true", "[1e-3, 1e-2], log: true", "narrowed"),
        ("[1e-4, 1e-2], log: true", "[1e-5, 1e-2], log: true", "widened"),
        ("[1e-4, 1e-2], log: true", "[1e-3, 1e-1], log: true", "moved"),
        ("[1e-4, 1e-2], log: true", "[1e-4, 1e-2]", "changed"),
    ],
)
def test_a_range_is_compared_with_what_it_was(
    tmp_path: Path, was: str, now: str, kind: str
) -> None:
    old = space_of(tmp_path, OLD)
    assert kinds(old, space_of(tmp_path, OLD.replace(was, now))) == {"optim.lr": kind}


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        ("[supcon, triplet, contrastive]", "widened"),
        ("[triplet]", "narrowed"),
        ("[triplet, contrastive]", "moved"),
    ],
)
def test_choices_are_compared_with_what_they_were(tmp_path: Path, now: str, kind: str) -> None:
    old = space_of(tmp_path, OLD)
    assert kinds(old, space_of(tmp_path, OLD.replace("[supcon, triplet]", now))) == {
        "loss.name": kind
    }


def test_new_fixed_and_removed_dials_are_named(tmp_path: Path) -> None:
    new = """
fixed: {epochs: 9, optim.lr: 1e-3, loss.name: supcon}
space:
  batch.images: {choice: [32, 64]}
  model.width: {float: [0.5, 2.0]}
"""
    changes = compare(space_of(tmp_path, OLD), space_of(tmp_path, new))
    assert [(change.dial, change.kind) for change in changes] == [
        ("batch.images", "new"),
        ("model.width", "new"),
        ("optim.lr", "fixed"),
        ("loss.name", "fixed"),
        ("loss.triplet_margin", "removed"),  # only ever active with what is fixed away
    ]
    assert "trials so far had 64, its fixed" in changes[0].text
    assert "its default" in changes[1].text


def test_the_same_space_has_no_changes(tmp_path: Path) -> None:
    assert compare(space_of(tmp_path, OLD), space_of(tmp_path, OLD)) == ()


def test_all_that_cannot_be_carried_is_refused_at_once(tmp_path: Path) -> None:
    new = """
objective: {metric: val/eer}
fixed: {epochs: 12, batch.images: 64}
space:
  loss.name: {choice: [supcon, triplet]}
"""
    with pytest.raises(SpaceError) as raised:
        compare(space_of(tmp_path, OLD), space_of(tmp_path, new))
    objective, epochs, *dials = str(raised.value).splitlines()
    assert objective.startswith("objective must stay val/auc, but got val/eer")
    assert epochs.startswith("epochs must stay 9, but got 12")
    assert [line.split()[0] for line in dials] == ["optim.lr", "loss.triplet_margin"]
    assert "put `optim.lr: 0.001` under fixed" in dials[0]


def test_only_trials_of_one_objective_are_carried(tmp_path: Path) -> None:
    two = "objective: [val/auc, val/eer]" + OLD
    with pytest.raises(SpaceError, match="only trials of one objective are carried over"):
        compare(space_of(tmp_path, two), space_of(tmp_path, two))


def under(tmp_path: Path, new: str, config: dict[str, Any], old: str = OLD) -> Any:
    return carried(config, space_of(tmp_path, old), space_of(tmp_path, new))


def test_a_trial_inside_a_narrower_space_stays_and_one_outside_does_not(tmp_path: Path) -> None:
    new = OLD.replace("1e-4, 1e-2", "1e-3, 1e-2")
    inside = {"optim.lr": 2e-3, "loss.name": "supcon"}
    assert under(tmp_path, new, inside).params == inside
    outside = under(tmp_path, new, {"optim.lr": 2e-4, "loss.name": "supcon"})
    assert outside.params is None
    assert outside.dial == "optim.lr"
    assert outside.reason == "optim.lr 0.0002 is not in 0.001 to 0.01, log"
    assert outside.config == {"optim.lr": 2e-4, "loss.name": "supcon"}


def test_a_new_dial_counts_with_its_fixed_value_or_its_default(tmp_path: Path) -> None:
    new = OLD.replace(", batch.images: 64", "") + (
        "  batch.images: {choice: [32, 64]}\n  model.width: {float: [0.5, 2.0]}\n"
    )
    config = {"optim.lr": 2e-3, "loss.name": "supcon"}
    assert under(tmp_path, new, config).params == {
        **config,
        "batch.images": 64,
        "model.width": DEFAULTS["model.width"],
    }
    without = new.replace("[32, 64]", "[16, 32]")
    assert under(tmp_path, without, config).reason == "batch.images 64 is not in 16, 32"


def test_a_trial_off_the_new_grid_does_not_count(tmp_path: Path) -> None:
    new = OLD.replace("[0.1, 0.5]", "[0.1, 0.5], step: 0.1")
    on = {"optim.lr": 2e-3, "loss.name": "triplet", "loss.triplet_margin": 0.3}
    assert under(tmp_path, new, on).params == pytest.approx(on)
    assert under(tmp_path, new, on | {"loss.triplet_margin": 0.33}).dial == "loss.triplet_margin"


def test_a_fixed_dial_keeps_the_trials_that_had_its_value(tmp_path: Path) -> None:
    new = OLD.replace("batch.images: 64", "batch.images: 64, loss.name: supcon").replace(
        "  loss.name: {choice: [supcon, triplet]}\n", ""
    )
    new = new[: new.index("  loss.triplet_margin")]
    kept = under(tmp_path, new, {"optim.lr": 2e-3, "loss.name": "supcon"})
    assert kept.params == {"optim.lr": 2e-3}
    config = {"optim.lr": 2e-3, "loss.name": "triplet", "loss.triplet_margin": 0.3}
    lost = under(tmp_path, new, config)
    assert lost.reason == "loss.name 'triplet' is now 'supcon'"
    assert lost.config == config  # the record still says how it was trained


def test_fixing_a_dial_that_was_inactive_rules_nothing_out(tmp_path: Path) -> None:
    new = OLD.replace("epochs: 9", "epochs: 9, loss.triplet_margin: 0.4")
    new = new[: new.index("  loss.triplet_margin")]
    supcon = {"optim.lr": 2e-3, "loss.name": "supcon"}
    assert under(tmp_path, new, supcon).params == supcon
    triplet = {"optim.lr": 2e-3, "loss.name": "triplet", "loss.triplet_margin": 0.3}
    assert under(tmp_path, new, triplet).dial == "loss.triplet_margin"


def test_a_record_says_how_its_trial_was_trained_under_either_space(tmp_path: Path) -> None:
    new = OLD.replace("batch.images: 64", "batch.images: 32, model.width: 0.5")
    config = {"optim.lr": 2e-3, "loss.name": "supcon"}
    old_space, new_space = space_of(tmp_path, OLD), space_of(tmp_path, new)
    record = carried(config, old_space, new_space).config
    trained = {**DEFAULTS, **old_space.fixed, **config}
    assert {**DEFAULTS, **old_space.fixed, **record} == trained
    assert {**DEFAULTS, **new_space.fixed, **record} == trained
    # So a way back brings back what was ruled out on the way there.
    assert carried(record, new_space, old_space).params == config


def a_search(tmp_path: Path, epochs: tuple[int, ...] = (9, 1, 3)) -> tuple[Run, Space]:
    """A run of ended trials with so many epochs, one that runs, and one proposed and unrecorded."""
    folder = tmp_path / "run"
    folder.mkdir()
    run = Run(folder)
    space = space_of(folder, OLD)
    run.space_path.write_text(to_yaml(space))
    study = open_study(run.journal_path, space)
    recorder = Recorder(run.trials_path)
    for length in (*epochs, 2):
        proposal = propose(study, space, lambda rejected: None)
        recorder.started(proposal.number, proposal.suggested)
        for epoch in range(1, length + 1):
            value = 0.5 + 0.01 * length + 0.001 * epoch
            report_epoch(study, proposal.number, epoch, value)
            recorder.epoch(proposal.number, {"epoch": epoch, "val/auc": value})
            should_stop(study, proposal.number)
        if proposal.number < len(epochs):
            state: Any = "complete" if length == 9 else "stopped"
            tell(study, proposal.number, state)
            recorder.ended(proposal.number, state)
    propose(study, space, lambda rejected: None)
    recorder.close()
    return run, space


def frozen(run: Run, space: Space) -> list[optuna.trial.FrozenTrial]:
    return open_study(run.journal_path, space).get_trials(deepcopy=False)


def test_the_new_study_holds_the_old_trials_under_their_numbers_with_their_rungs(
    tmp_path: Path,
) -> None:
    run, old = a_search(tmp_path)
    before = frozen(run, old)
    new = space_of(tmp_path, OLD.replace("[supcon, triplet]", "[supcon, triplet, contrastive]"))
    carry(run, old, new)
    after = frozen(run, new)
    assert len(after) == len(before) == 5
    for was, now in zip(before, after, strict=True):
        assert (now.number, now.state, now.params, now.value) == (
            was.number, was.state, was.params, was.value,
        )  # fmt: skip
        assert now.intermediate_values == was.intermediate_values
        assert now.user_attrs == was.user_attrs
        rungs = {k: v for k, v in was.system_attrs.items() if k.startswith("completed_rung")}
        assert {k: v for k, v in now.system_attrs.items() if "rung" in k} == rungs
    assert {k for k in after[0].system_attrs if "rung" in k} == {
        "completed_rung_0", "completed_rung_1", "completed_rung_2",
    }  # fmt: skip
    assert load_space(str(run.space_path)) == new
    assert load_space(str(run.folder / "space-1.yaml")) == old
    study = open_study(run.journal_path, new)
    assert [proposal.number for proposal in interrupted(study, new)] == [3, 4]
    following = propose(study, new, lambda rejected: None)
    assert following.number == 5


def test_the_sampler_is_not_told_of_what_lies_outside(tmp_path: Path) -> None:
    run, old = a_search(tmp_path)
    first = read_records(run.trials_path)[0]
    rate = first.config["optim.lr"]
    new = space_of(tmp_path, OLD.replace("1e-4, 1e-2", f"{rate * 0.999}, {rate * 1.001}"))
    plan: Plan = plan_carry(run, old, new)
    assert plan.counting == 1
    assert "trials ruled out: 3" in plan.lines()[0]
    assert plan.lines()[-1].startswith("history: 1 of 4 trials count")
    carry(run, old, new)
    kept, *others = frozen(run, new)
    assert kept.state is TrialState.COMPLETE
    assert {trial.state for trial in others} == {TrialState.FAIL}
    assert all("optim.lr" in trial.user_attrs["outside"] for trial in others)
    assert others[2].user_attrs["state"] == "stopped"  # it ran, and has no place any more
    records = read_records(run.trials_path)
    assert [record.epoch for record in records.values()] == [9, 1, 3, 2]


def test_a_space_and_back_brings_everything_back(tmp_path: Path) -> None:
    run, old = a_search(tmp_path)
    before = frozen(run, old)
    there = space_of(tmp_path, OLD.replace("batch.images: 64", "batch.images: 32"))
    carry(run, old, there)
    assert TrialState.COMPLETE not in {trial.state for trial in frozen(run, there)}
    carry(run, there, old)
    after = frozen(run, old)
    assert [t.params for t in after[:3]] == [t.params for t in before[:3]]
    assert [t.state for t in after[:3]] == [t.state for t in before[:3]]
    assert sorted(path.name for path in run.folder.glob("*-[12].*")) == [
        "space-1.yaml", "space-2.yaml", "study-1.log", "study-2.log",
    ]  # fmt: skip


def test_a_space_in_which_nothing_counts_is_refused(tmp_path: Path) -> None:
    run, old = a_search(tmp_path)
    new = space_of(tmp_path, OLD.replace("batch.images: 64", "batch.images: 32"))
    with pytest.raises(SpaceError, match=r"none does \(trial 0: batch\.images 64 is now 32"):
        plan_carry(run, old, new)


def test_a_new_start_point_runs_first_and_an_old_one_not_again(tmp_path: Path) -> None:
    run, old = a_search(tmp_path)
    new = space_of(tmp_path, OLD)
    path = tmp_path / "space.yaml"
    path.write_text(path.read_text().replace("start: [{}]", "start: [{}, {optim.lr: 4e-3}]"))
    new = load_space(str(path))
    carry(run, old, new)
    proposal = propose(open_study(run.journal_path, new), new, lambda rejected: None)
    assert (proposal.number, proposal.config["optim.lr"]) == (5, 4e-3)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_carry_that_is_killed_is_completed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Killed before the staged files' `at`-th step into their places."""
    run, old = a_search(tmp_path)
    new = space_of(tmp_path, OLD.replace("1e-4, 1e-2", "1e-5, 1e-2"))
    steps = 0

    def killed(step: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            nonlocal steps
            if run.folder.joinpath(".carried-1").exists():
                steps += 1
                if steps > at:
                    raise KeyboardInterrupt
            return step(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed(os.link))
        patch.setattr(Path, "replace", killed(Path.replace))
        with pytest.raises(KeyboardInterrupt):
            carry(run, old, new)
    finish_carry(run)
    assert load_space(str(run.space_path)) == new
    assert load_space(str(run.folder / "space-1.yaml")) == old
    assert len(frozen(run, new)) == 5
    assert [path.name for path in run.folder.iterdir() if "carried" in path.name] == []


def warm_study(tmp_path: Path) -> tuple[Run, Space, list[optuna.trial.FrozenTrial]]:
    other, _ = a_search(tmp_path)
    new = space_of(tmp_path, OLD.replace("1e-4, 1e-2", "1e-5, 1e-1"))
    (tmp_path / "warm").mkdir()
    run = Run(tmp_path / "warm")
    run.space_path.write_text(to_yaml(new))
    study = open_study(run.journal_path, new)
    add_past(study, new, known_from(other, new))
    return run, new, study.get_trials(deepcopy=False)


def test_a_warm_study_knows_the_others_ended_trials_and_begins_with_its_start_points(
    tmp_path: Path,
) -> None:
    run, new, trials = warm_study(tmp_path)
    theirs = read_records(tmp_path / "run" / "trials.jsonl")
    waiting, *known = trials
    assert waiting.state is TrialState.WAITING
    assert [trial.params for trial in known] == [dict(theirs[n].config) for n in (0, 1, 2)]
    assert {trial.user_attrs["warm_from"] for trial in known} == {"run"}
    assert known[0].value == pytest.approx(0.599)
    study = open_study(run.journal_path, new)
    proposals = [propose(study, new, lambda rejected: None) for _ in range(2)]
    assert [proposal.number for proposal in proposals] == [0, 4]
    assert proposals[0].config["optim.lr"] == DEFAULTS["optim.lr"]


def test_a_warm_study_is_carried_with_what_it_knows(tmp_path: Path) -> None:
    run, new, before = warm_study(tmp_path)
    wider = space_of(tmp_path, OLD.replace("1e-4, 1e-2", "1e-6, 1e-1"))
    carry(run, new, wider)
    after = frozen(run, wider)
    assert [trial.params for trial in after[1:4]] == [trial.params for trial in before[1:4]]
    assert [trial.user_attrs for trial in after[1:4]] == [trial.user_attrs for trial in before[1:4]]
    proposal = propose(open_study(run.journal_path, wider), wider, lambda rejected: None)
    # The start point had not begun; it does under a new number, unless they have tried it already.
    assert proposal.number == 4


def test_a_search_that_measures_otherwise_teaches_nothing(tmp_path: Path) -> None:
    other, _ = a_search(tmp_path)
    new = space_of(tmp_path, "objective: {metric: val/eer}" + OLD.replace("epochs: 9", "epochs: 8"))
    with pytest.raises(SpaceError) as raised:
        known_from(other, new)
    assert [line.split()[2] for line in str(raised.value).splitlines()] == ["objective", "epochs"]


def test_a_search_without_a_trial_in_the_space_is_refused(tmp_path: Path) -> None:
    other, _ = a_search(tmp_path)
    new = space_of(tmp_path, OLD.replace("batch.images: 64", "batch.images: 32"))
    with pytest.raises(SpaceError, match=r"there are none \(trial 0: batch"):
        known_from(other, new)
