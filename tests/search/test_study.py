import resource
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from siamtune.errors import SpaceError
from siamtune.search.space import Space, load_space
from siamtune.search.study import (
    SAMPLERS,
    Rejected,
    interrupted,
    open_study,
    propose,
    report_epoch,
    should_stop,
    tell,
)

SPACE = """
version: 1
objective: {metric: val/auc, mode: max}
study: {trials: 20, scheduler: {SCHEDULER}, sampler: {SAMPLER: {}}, seed: 3}
fixed: {epochs: 9}
start: [{}]
space:
  optim.lr: {float: [1e-4, 1e-2], log: true}
  loss.name: {choice: [supcon, triplet]}
  loss.triplet_margin: {float: [0.1, 0.5], when: {loss.name: triplet}}
"""
ASHA = "asha: {min_epochs: 1, eta: 3}"


def a_space(
    tmp_path: Path, scheduler: str = ASHA, sampler: str = "tpe", text: str = SPACE
) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text.replace("SCHEDULER", scheduler).replace("SAMPLER", sampler))
    return load_space(str(path))


def never(rejected: Rejected) -> None:
    raise AssertionError(rejected)


def trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False)


def test_the_first_proposal_is_the_start_point_and_the_next_is_the_samplers(tmp_path: Path) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    first, second = propose(study, space, never), propose(study, space, never)
    assert first.number == 0
    assert first.suggested == {"optim.lr": 1e-3, "loss.name": "supcon"}
    assert first.config == {"epochs": 9, **first.suggested}
    assert second.suggested != first.suggested


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_seeds_propose_equally(tmp_path: Path, sampler: str) -> None:
    def proposals(name: str) -> list[Any]:
        space = a_space(tmp_path, sampler=sampler)
        study = open_study(tmp_path / name, space)
        told = []
        for _ in range(14):  # beyond the sampler's start-up
            proposal = propose(study, space, never)
            report_epoch(study, proposal.number, 1, proposal.config["optim.lr"])
            tell(study, proposal.number, "complete")
            told.append(proposal.suggested)
        return told

    assert proposals("a.log") == proposals("b.log")


def test_what_cannot_be_built_is_told_as_failed_and_proposed_no_further(tmp_path: Path) -> None:
    text = SPACE.replace(
        "space:\n",
        "space:\n  model.architecture: {choice: [chopra, resnet]}\n"
        "  data.resolution_px: {choice: [32, 64]}\n",
    )
    space = a_space(tmp_path, sampler="random", text=text)
    study = open_study(tmp_path / "study.log", space)
    rejected: list[Rejected] = []
    for _ in range(12):
        proposal = propose(study, space, rejected.append)
        assert proposal.config["model.architecture"] != "chopra" or (
            proposal.config["data.resolution_px"] == 64
        )
    assert rejected
    for each in rejected:
        assert trials(study)[each.number].state is TrialState.FAIL
        assert each.reason == "chopra needs data.resolution_px >= 46, but got 32"


def test_a_batch_that_the_workers_cannot_share_is_not_proposed(tmp_path: Path) -> None:
    text = SPACE.replace("space:\n", "space:\n  batch.images: {choice: [40, 48]}\n")
    study = open_study(tmp_path / "study.log", space := a_space(tmp_path, "none: {}", text=text))
    rejected: list[Rejected] = []
    for _ in range(8):
        proposal = propose(study, space, rejected.append, workers=3)
        assert proposal.config["batch.images"] == 48
    assert {each.suggested["batch.images"] for each in rejected} == {40}
    assert rejected[0].reason == (
        "batch.images must be a multiple of the 3 workers that share it, but got 40"
    )


def test_a_space_of_nothing_buildable_ends_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)

    def refuse(flat: dict[str, Any]) -> None:
        from siamtune.errors import ConfigError

        raise ConfigError("no such network")

    monkeypatch.setattr("siamtune.search.study.trial_config", refuse)
    with pytest.raises(SpaceError, match="none could be built, the last because: no such network"):
        propose(study, space, lambda rejected: None)


def test_every_state_is_told_truthfully(tmp_path: Path) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    expected = {
        "complete": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "collapsed": TrialState.PRUNED,
        "out_of_memory": TrialState.FAIL,
        "failed": TrialState.FAIL,
        "lost": TrialState.FAIL,
    }
    for state in expected:
        proposal = propose(study, space, never)
        report_epoch(study, proposal.number, 1, 0.9)
        report_epoch(study, proposal.number, 2, 0.8)
        tell(study, proposal.number, state, "because")  # type: ignore[arg-type]
    for trial, (state, optuna_state) in zip(trials(study), expected.items(), strict=True):
        assert trial.state is optuna_state
        assert trial.user_attrs == {"state": state, "reason": "because"}
        assert trial.intermediate_values == {1: 0.9, 2: 0.8}
    assert trials(study)[0].value == 0.9  # the best epoch, not the last


def test_a_trial_told_twice_stays_as_it_was_told_first(tmp_path: Path) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    number = propose(study, space, never).number
    report_epoch(study, number, 1, 0.9)
    tell(study, number, "stopped")
    tell(study, number, "failed")
    assert trials(study)[0].state is TrialState.PRUNED


def test_complete_without_a_measurement_is_a_failure(tmp_path: Path) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    tell(study, propose(study, space, never).number, "complete")
    assert trials(study)[0].state is TrialState.FAIL


def test_asha_keeps_the_best_third_at_each_rung_and_no_pruning_keeps_all(tmp_path: Path) -> None:
    def stopped(scheduler: str) -> list[tuple[int, int]]:
        space = a_space(tmp_path, scheduler, "random")
        study = open_study(tmp_path / f"{scheduler[:4]}.log", space)
        ends = []
        for value in (0.5, 0.6, 0.7, 0.4, 0.65, 0.8):
            number = propose(study, space, never).number
            for epoch in range(1, 10):
                report_epoch(study, number, epoch, value)
                if should_stop(study, number):
                    ends.append((number, epoch))
                    tell(study, number, "stopped")
                    break
            else:
                tell(study, number, "complete")
        return ends

    # By hand: a rung promotes the best floor(n / 3) of the n that have reached it, at least one.
    assert stopped(ASHA) == [(3, 1), (4, 1)]
    assert stopped("none: {}") == []


def test_rungs_and_history_survive_a_restart(tmp_path: Path) -> None:
    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    number = propose(study, space, never).number
    report_epoch(study, number, 1, 0.9)
    assert not should_stop(study, number)
    tell(study, number, "complete")
    running = propose(study, space, never)

    again = open_study(tmp_path / "study.log", space)
    (left,) = interrupted(again, space)
    assert (left.number, dict(left.suggested), dict(left.config)) == (
        running.number,
        dict(running.suggested),
        dict(running.config),
    )
    report_epoch(again, left.number, 1, 0.1)
    assert should_stop(again, left.number)
    assert len(trials(again)) == 2  # the start point is not enqueued again


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_restarted_sampler_does_not_propose_again_what_it_proposed(
    tmp_path: Path, sampler: str
) -> None:
    space = a_space(tmp_path, sampler=sampler)
    rates = []
    for _ in range(3):
        study = open_study(tmp_path / "study.log", space)
        for _ in range(3):
            proposal = propose(study, space, never)
            rates.append(proposal.config["optim.lr"])
            report_epoch(study, proposal.number, 1, 0.5)
            tell(study, proposal.number, "complete")
    assert len(set(rates)) == 9


def test_optuna_dashboard_opens_the_study(tmp_path: Path) -> None:
    from io import BytesIO

    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_dashboard import wsgi

    space = a_space(tmp_path)
    study = open_study(tmp_path / "study.log", space)
    for value in (0.8, 0.7):
        number = propose(study, space, never).number
        report_epoch(study, number, 1, value)
        tell(study, number, "complete" if value > 0.75 else "stopped")
    app = wsgi(JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))

    def get(path: str) -> Any:
        import json

        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "after=0",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": BytesIO(),
            "wsgi.url_scheme": "http",
            "wsgi.errors": BytesIO(),
        }
        body = b"".join(app(environ, lambda line, headers, exc=None: status.append(line)))
        assert status[0].startswith("200"), body
        return json.loads(body)

    (summary,) = get("/api/studies")["study_summaries"]
    assert summary["study_name"] == "siamtune"
    shown = get(f"/api/studies/{summary['study_id']}")["trials"]
    assert [trial["state"] for trial in shown] == ["Complete", "Pruned"]


def test_a_journal_cut_short_by_a_crash_is_read_and_written_on(tmp_path: Path) -> None:
    space, path = a_space(tmp_path), tmp_path / "study.log"
    first = propose(open_study(path, space), space, never)
    with path.open("a") as file:
        file.write('{"op_code":6,"worker_id":"half a line')
    study = open_study(path, space)
    report_epoch(study, first.number, 1, 0.5)
    tell(study, first.number, "complete")
    assert [trial.value for trial in trials(open_study(path, space))] == [0.5]


def test_a_disk_that_refuses_half_way_leaves_whole_lines(tmp_path: Path) -> None:
    space, path = a_space(tmp_path), tmp_path / "study.log"
    study = open_study(path, space)
    number = propose(study, space, never).number
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            report_epoch(study, number, 1, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    report_epoch(study, number, 1, 0.5)  # once there is room
    (trial,) = (trial for trial in trials(open_study(path, space)) if trial.number == number)
    assert trial.intermediate_values == {1: 0.5}


TWO = SPACE.replace("{metric: val/auc, mode: max}", "[val/auc, images_per_second]")


def test_two_objectives_give_a_front_and_stop_nobody(tmp_path: Path) -> None:
    space = a_space(tmp_path, text=TWO)
    study = open_study(tmp_path / "study.log", space)
    points = [(0.6, 100.0), (0.5, 300.0), (0.4, 200.0), (0.9, 50.0)]
    for auc, speed in points:
        number = propose(study, space, never).number
        for epoch, value, beside in ((1, auc, speed), (2, auc - 0.1, 2 * speed)):
            report_epoch(study, number, epoch, value, beside)
            assert not should_stop(study, number)
        tell(study, number, "complete")
    # What was stopped by hand has no place: it is bad in nothing but its length.
    number = propose(study, space, never).number
    report_epoch(study, number, 1, 0.99, 999.0)
    tell(study, number, "stopped")
    again = open_study(tmp_path / "study.log", space)
    assert [tuple(trial.values) for trial in trials(again)[:4]] == points  # of the best epoch
    assert {trial.number for trial in again.best_trials} == {0, 1, 3}
    assert trials(again)[4].state is TrialState.FAIL
    for _ in range(12):  # beyond the sampler's random start
        number = propose(again, space, never).number
        report_epoch(again, number, 1, 0.5, 10.0)
        tell(again, number, "complete")
