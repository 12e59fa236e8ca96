"""A search that is interrupted or killed goes on where it was, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from siamtune.search.records import TrialRecord, read_records

pytestmark = pytest.mark.ray

SPACE = """
version: 1
study: {trials: 6, scheduler: {none: {}}, sampler: {random: {}}, seed: 0}
fixed:
  epochs: 12
  data.resolution_px: 16
  data.crop: none
  model.width: 0.5
  batch.images: 16
space:
  optim.lr: {float: [1e-4, 3e-2], log: true}
"""
PATIENCE_S = 120.0


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "siamtune", *words, "--output", str(folder / "runs"),
               "--concurrent", "2", "--json"]  # fmt: skip
    log = (folder / "log.txt").open("a")
    # Its own process group, as a shell gives it: a signal to the driver alone.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
    )


def wait_for(folder: Path, ended: int) -> None:
    """Wait until so many trials have ended and another one is in the midst of its epochs."""
    path = folder / "runs" / "run" / "trials.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        records = read_records(path)
        states = Counter(record.state for record in records.values())
        if states["complete"] >= ended and any(
            record.state == "running" and record.epoch >= 2 for record in records.values()
        ):
            return
        time.sleep(0.05)
    raise AssertionError((folder / "log.txt").read_text())


def records_of(folder: Path) -> dict[int, TrialRecord]:
    return read_records(folder / "runs" / "run" / "trials.jsonl")


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_lost_and_nothing_runs_twice(
    tmp_path: Path, pattern_people: Path, cache: Path, way: signal.Signals
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    search = start(
        tmp_path, "search", "--space", str(tmp_path / "space.yaml"), "--data", str(pattern_people),
        "--name", "run",
    )  # fmt: skip
    wait_for(tmp_path, ended=2)
    os.kill(search.pid, way)
    assert search.wait(PATIENCE_S) == (130 if way is signal.SIGINT else -signal.SIGKILL)
    before = records_of(tmp_path)
    finished = {number for number, record in before.items() if record.state == "complete"}
    open_trials = {number: r for number, r in before.items() if r.state != "complete"}
    assert finished
    assert open_trials
    if way is signal.SIGINT:
        assert {record.state for record in open_trials.values()} == {"interrupted"}
        assert (tmp_path / "runs" / "run" / "best" / "model.safetensors").exists()

    resumed = start(tmp_path, "resume", "run")
    stdout, _ = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, (tmp_path / "log.txt").read_text()
    document = json.loads(stdout)
    after = records_of(tmp_path)
    assert sorted(after) == list(range(6))
    assert {record.state for record in after.values()} == {"complete"}
    assert len(document["trials"]) == 6
    for number in finished:
        assert after[number] == before[number]
    for number, record in open_trials.items():
        # What was measured before the interruption stays; the trial went on after it.
        assert after[number].config == record.config
        assert after[number].epochs[: record.epoch] == record.epochs
        assert [epoch["epoch"] for epoch in after[number].epochs] == list(range(1, 13))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "runs" / "run" / "study.log"))
    )
    study = optuna.load_study(study_name="siamtune", storage=storage)
    assert Counter(trial.state.name for trial in study.trials) == {"COMPLETE": 6}
