"""What the driver of a search does when nothing can be written any more."""

import errno
from pathlib import Path
from typing import Any

import pytest

from siamtune.errors import Unwritable
from siamtune.launch.proposers import StudyProposer
from siamtune.launch.searcher import HOPELESS_FAILURES, Driver
from siamtune.search.records import Recorder, State
from siamtune.search.space import load_space
from siamtune.search.study import open_study

SPACE = "version: 1\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n"


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(str(tmp_path / "space.yaml"))
    recorder = Recorder(tmp_path / "trials.jsonl")
    study = open_study(tmp_path / "study.log", space)
    driver = Driver(
        proposer=StudyProposer(study, space, recorder, trials=20, workers=1),
        recorder=recorder,
        plain_job=lambda proposal, epochs: {"number": proposal.number},
        listen=lambda record: None,
        log=lambda line: None,
    )
    for number in range(8):
        assert driver.next_trial(f"tune-{number}") == {"number": number}
    return driver


def test_a_disk_that_is_full_at_the_end_ends_the_search_in_order(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*event: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(driver.recorder, "ended", full)
    driver.interrupt_running()
    assert isinstance(driver.error, OSError)
    driver.error = told = Unwritable("a checkpoint")
    driver.interrupt_running()
    assert driver.error is told  # what came first is the reason


def test_a_trial_whose_checkpoint_finds_no_room_stays_open(driver: Driver) -> None:
    driver.end("tune-0", "interrupted", "no room")
    assert isinstance(driver.error, Unwritable)
    assert driver.is_ending()
    assert driver.recorder.records[0].state == "interrupted"
    assert isinstance(driver.proposer, StudyProposer)
    assert driver.proposer.study.trials[0].state.name == "RUNNING"


@pytest.mark.parametrize(
    ("ends", "hopeless"),
    [
        ([("complete", None), *[("failed", "no pictures")] * 5], True),
        ([("complete", None), *[("failed", "no pictures")] * 4], False),
        ([*[("failed", "no pictures")] * 4, ("complete", None), ("failed", "no pictures")], False),
        ([("complete", None), *[("failed", str(n)) for n in range(5)]], False),
        ([("complete", None), *[("out_of_memory", "no memory")] * 5], False),
        ([("failed", str(n)) for n in range(5)], True),  # none has succeeded at all
    ],
)
def test_trials_that_fail_in_a_row_for_one_reason_end_the_search(
    driver: Driver, ends: list[tuple[State, str | None]], hopeless: bool
) -> None:
    assert HOPELESS_FAILURES == 5
    for number, (state, reason) in enumerate(ends):
        driver.end(f"tune-{number}", state, reason)
    assert (driver.hopeless is not None) == hopeless


def test_epochs_that_the_study_has_lost_are_told_again(driver: Driver, tmp_path: Path) -> None:
    """The journal waits for the disk at a trial's beginning and end only."""
    for epoch in (1, 2, 3):
        driver.epoch(4, {"epoch": epoch, "val/auc": 0.5 + epoch / 10})
    driver.end("tune-5", "complete", None)  # behind it in the journal: told, and on the disk
    driver.epoch(4, {"epoch": 4, "val/auc": 0.95})
    driver.epoch(6, {"epoch": 1, "val/auc": 0.55})
    journal = tmp_path / "study.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-2]))  # the power fails

    assert isinstance(driver.proposer, StudyProposer)
    space = driver.proposer.space
    study = open_study(journal, space)
    assert study.trials[4].intermediate_values == {1: 0.6, 2: 0.7, 3: 0.8}
    recorder = Recorder(tmp_path / "trials.jsonl")
    again = Driver(
        proposer=StudyProposer(study, space, recorder, trials=20, workers=1),
        recorder=recorder,
        plain_job=lambda proposal, epochs: {},
        listen=lambda record: None,
        log=lambda line: None,
    )
    again.catch_up()
    study = open_study(journal, space)
    assert study.trials[4].intermediate_values == {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.95}
    assert study.trials[6].intermediate_values == {1: 0.55}
    assert study.trials[5].state.is_finished()


def test_a_trial_whose_process_the_end_of_the_search_took_is_interrupted(driver: Driver) -> None:
    driver.end("tune-0", "lost", "its process vanished")
    driver.drain("a termination signal")  # which the processes of trials have got as well
    driver.end("tune-1", "lost", "its process vanished")
    driver.end("tune-2", None, None)
    driver.end("tune-3", "complete", None)
    driver.interrupt_running()
    states = [driver.recorder.records[number].state for number in range(5)]
    assert states == ["lost", "interrupted", "interrupted", "complete", "interrupted"]
    assert isinstance(driver.proposer, StudyProposer)
    assert driver.proposer.study.trials[1].state.name == "RUNNING"  # `resume` goes on with it
