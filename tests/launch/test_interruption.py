"""A search that is killed and interrupted goes on where it was, from the command line."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from siamtune.cli import search as verbs
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
PATIENCE_S = 300.0  # on a busy machine
Records = dict[int, TrialRecord]


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "siamtune", *words, "--output", str(folder / "runs"),
               "--concurrent", "2"]  # fmt: skip
    # Its own process group, as a shell gives it: a signal to the driver alone.
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def end_midway(folder: Path, driver: subprocess.Popen[bytes], way: int, ended: int) -> Records:
    """Signal a driver when so many trials have ended and another one is in the midst of its
    epochs; what was recorded then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and driver.poll() is None:
        records = records_of(folder).values()
        if sum(record.state == "complete" for record in records) >= ended and any(
            record.state == "running" and record.epoch >= 2 for record in records
        ):
            break
        time.sleep(0.05)
    else:
        driver.kill()
        raise AssertionError((folder / "log.txt").read_text())
    driver.send_signal(way)
    code = driver.wait(PATIENCE_S)
    assert code == (130 if way == signal.SIGINT else -way), (folder / "log.txt").read_text()
    return records_of(folder)


def records_of(folder: Path) -> Records:
    return read_records(folder / "runs" / "run" / "trials.jsonl")


def nothing_is_lost(before: Records, after: Records) -> None:
    """What had ended is as it was; the others went on after what was measured before."""
    assert set(before) <= set(after)
    assert {record.state for record in before.values()} > {"complete"}
    for number, record in before.items():
        if record.state == "complete":
            assert after[number] == record
        assert after[number].config == record.config
        assert after[number].epochs[: record.epoch] == record.epochs


def test_nothing_is_lost_and_nothing_runs_twice(
    tmp_path: Path,
    pattern_people: Path,
    ray_here: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed on a Ray of its own, which goes with it, then interrupted on one that stays."""
    (tmp_path / "space.yaml").write_text(SPACE)
    driver = start(
        tmp_path, "search", "--space", str(tmp_path / "space.yaml"), "--data", str(pattern_people),
        "--name", "run",
    )  # fmt: skip
    killed = end_midway(tmp_path, driver, signal.SIGKILL, ended=1)
    driver = start(tmp_path, "resume", "run", "--address", ray_here)
    interrupted = end_midway(tmp_path, driver, signal.SIGINT, ended=3)
    open_states = {record.state for record in interrupted.values()} - {"complete"}
    assert open_states == {"interrupted"}
    assert (tmp_path / "runs" / "run" / "best" / "model.safetensors").exists()

    capsys.readouterr()
    verbs.resume("run", concurrent=2, output=tmp_path / "runs", as_json=True)
    document = json.loads(capsys.readouterr().out)
    after = records_of(tmp_path)
    assert sorted(after) == list(range(6))
    assert {record.state for record in after.values()} == {"complete"}
    assert len(document["trials"]) == 6
    nothing_is_lost(killed, interrupted)
    nothing_is_lost(interrupted, after)
    for record in after.values():
        assert [epoch["epoch"] for epoch in record.epochs] == list(range(1, 13))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "runs" / "run" / "study.log"))
    )
    study = optuna.load_study(study_name="siamtune", storage=storage)
    assert Counter(trial.state.name for trial in study.trials) == {"COMPLETE": 6}
