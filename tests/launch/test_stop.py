"""`siamtune stop` on a real running search: a message through the run folder."""

import json
import threading
import time
from pathlib import Path

import optuna
import pytest
from click.testing import Result
from typer.testing import CliRunner

from siamtune.cli.main import app
from siamtune.errors import InvalidInput
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, SearchResult, run_search
from siamtune.search.lock import driver_of
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run, new_run
from siamtune.search.space import load_space
from siamtune.search.stops import ask_to_stop, take_stops

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]

SPACE = """
version: 1
study: {trials: 2, scheduler: {none: {}}, sampler: {random: {}}, seed: 0}
fixed:
  epochs: 100000
  data.resolution_px: 16
  data.crop: none
  model.width: 0.25
  model.embedding_size: 4
  batch.images: 32
space:
  optim.lr: {float: [1e-5, 1e-4], log: true}
"""
PATIENCE_S = 60.0


class Terminal:
    """Another terminal: types commands while the search runs, and keeps what they say."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.states: dict[int, tuple[str, int]] = {}
        self.lines: list[str] = []
        self.results: dict[str, Result] = {}
        self.thread = threading.Thread(target=self.type)

    def update(self, records: dict[int, TrialRecord], changed: TrialRecord) -> None:
        self.states[changed.number] = (changed.state, changed.epoch)
        if not self.results and not self.thread.is_alive():
            self.thread.start()

    def tick(self) -> None: ...

    def log(self, line: str) -> None:
        self.lines.append(line)

    def stop(self, *words: str) -> None:
        folder = str(self.run.folder)
        self.results[" ".join(words)] = CliRunner().invoke(app, ["stop", folder, *words])

    def wait_for(self, number: int, state: str, epoch: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            now, at = self.states.get(number, ("", 0))
            if now == state and at >= epoch:
                return
            time.sleep(0.02)

    def type(self) -> None:
        try:
            self.wait_for(0, "running", 1)
            self.wait_for(1, "running", 1)
            self.stop("7")
            self.stop("0", "--json")
            self.wait_for(0, "stopped", 1)
            self.stop("0")
        finally:
            self.stop()  # or the search would never end


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, pattern_people: Path, ray_here: str
) -> tuple[SearchResult, Terminal]:
    folder = tmp_path_factory.mktemp("stop")
    (folder / "space.yaml").write_text(SPACE)
    run = new_run(folder / "runs", "run", "test")
    run.facts_path.write_text(json.dumps({"name": "run", "kind": "search"}))
    ask_to_stop(run, 1)  # of a driver that has died since: nobody may act on it
    terminal = Terminal(run)
    result = run_search(
        run,
        load_space(str(folder / "space.yaml")),
        DataSpec(str(pattern_people)),
        {"data": "people", "protocol": "identity-holdout"},
        SearchOptions(trials=2, concurrent=2, resources=TrialResources()),
        terminal,
    )
    terminal.thread.join(PATIENCE_S)
    return result, terminal


def test_the_trial_ends_in_its_course_and_is_told_as_stopped_by_hand(
    stopped: tuple[SearchResult, Terminal],
) -> None:
    result, terminal = stopped
    answer = terminal.results["0 --json"]
    document = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert (document["trial"], document["heard"]) == (0, True)
    record = result.records[0]
    assert (record.state, record.reason) == ("stopped", "by hand")
    assert record.epoch >= document["after_epoch"]
    assert any(line.startswith("trial 0 is stopped by hand") for line in terminal.lines)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(result.run.journal_path))
    )
    trial = optuna.load_study(study_name="siamtune", storage=storage).trials[0]
    assert trial.state.name == "PRUNED"
    assert len(trial.intermediate_values) == record.epoch
    assert trial.user_attrs == {"state": "stopped", "reason": "by hand"}


def test_without_a_trial_the_search_ends_in_good_order(
    stopped: tuple[SearchResult, Terminal],
) -> None:
    result, terminal = stopped
    go_on = f"siamtune resume {result.run.place}"
    assert terminal.results[""].stdout == f"run ends; go on with: {go_on}\n"
    assert result.ended_early == "siamtune stop"
    record = result.records[1]
    assert (record.state, record.reason) == ("interrupted", "siamtune stop")
    assert not (result.run.folder / "stop").exists()


def test_what_cannot_be_stopped_is_refused(stopped: tuple[SearchResult, Terminal]) -> None:
    result, terminal = stopped
    for words, phrase in {
        "7": "TRIAL must be the number of a trial of run (0 to 1), but got 7",
        "0": "trial 0 must be running to be stopped, but is stopped; running: 1",
    }.items():
        error = terminal.results[words].exception
        assert isinstance(error, InvalidInput)
        assert phrase in str(error)
    assert driver_of(result.run) is None
    after = CliRunner().invoke(app, ["stop", str(result.run.folder), "1"])
    assert "run must be running to be stopped, but no process drives it" in str(after.exception)


def test_one_training_is_no_search(trained_run: Path) -> None:
    refused = CliRunner().invoke(app, ["stop", str(trained_run)])
    assert "must be a search, but is one training; end it with Ctrl-C" in str(refused.exception)
    assert not (trained_run / "stop").exists()


def test_a_request_is_taken_once_and_other_files_stay(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert take_stops(run) == []
    ask_to_stop(run, 12345)
    ask_to_stop(run, None)
    (tmp_path / "stop" / ".nfs0001").touch()
    assert take_stops(run) == [12345, None]
    assert take_stops(run) == []
    assert (tmp_path / "stop" / ".nfs0001").exists()
