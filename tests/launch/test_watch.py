"""A process that hangs says where and ends itself; its successor knows what the kernel did."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siamtune.launch import searcher, watch
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.searcher import why_vanished
from siamtune.launch.watch import hang_told, patience_s, run_watched

# A trial that reports twice and then waits for a lock that nobody gives back.
HANGING = """
import sys, threading
from siamtune.launch import watch
from siamtune.launch.job import DataSpec, TrialJob

def a_trial_that_hangs(job, device):
    for epoch in range(2):
        yield {"metrics": {"epoch": epoch, "seconds": 0.01}}
    lock = threading.Lock()
    with lock:
        lock.acquire()

watch.run_trial = a_trial_that_hangs
watch.LEAST_S = 1.0
job = TrialJob(0, {}, {}, sys.argv[1], DataSpec("demo"), "val/auc", "max", watchdog=10.0)
for result in watch.run_watched(job):
    print(result["metrics"]["epoch"], flush=True)
"""


def job(folder: Path, retries: int = 0) -> TrialJob:
    return TrialJob(0, {}, {}, str(folder), DataSpec("demo"), "val/auc", "max", retries=retries)


def test_patience_grows_with_the_usual_epoch_and_has_a_least() -> None:
    assert patience_s([], 10.0) == watch.FIRST_REPORT_S
    assert patience_s([1.0, 1.0, 2.0], 10.0) == watch.LEAST_S
    assert patience_s([60.0, 61.0, 600.0], 10.0) == 610.0  # one slow epoch is not usual


def test_a_trial_that_hangs_tells_where_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stdout.split() == ["0", "1"]
    told = hang_told(job(tmp_path).folder)
    assert told is not None
    stacks = (job(tmp_path).folder / "hang.txt").read_text()
    assert "in a_trial_that_hangs" in stacks
    assert f'"host": "{socket.gethostname()}"' in stacks
    assert hang_told(job(tmp_path).folder) is None  # it is told once
    # Beside it, what Ray says of the process would be a guess.
    assert why_vanished(job(tmp_path).folder, RuntimeError("connection lost"))[0] == "lost"


def test_a_trial_that_ends_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "run_trial", lambda job, device: iter_of_one())
    assert [result["state"] for result in run_watched(job(tmp_path))] == ["complete"]
    assert not job(tmp_path).folder.exists()


def iter_of_one():  # type: ignore[no-untyped-def]
    yield {"state": "complete"}


@pytest.mark.parametrize(
    ("host", "kills", "retries", "state"),
    [
        (socket.gethostname(), 3, 1, "out_of_memory"),
        (socket.gethostname(), 4, 1, "complete"),  # nothing was killed since
        ("elsewhere", 3, 1, "complete"),  # what the kernel does there is not known here
        (socket.gethostname(), 3, 0, "complete"),  # a resumed search: its processes ended together
    ],
)
def test_a_trial_that_the_kernel_ended_for_want_of_memory_is_not_run_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    kills: int,
    retries: int,
    state: str,
) -> None:
    monkeypatch.setattr(watch, "run_trial", lambda job, device: iter_of_one())
    monkeypatch.setattr(watch, "_memory_kills", lambda: 4)
    folder = job(tmp_path).folder
    folder.mkdir(parents=True)
    signature = {"host": host, "pid": os.getpid(), "memory_kills": kills}
    (folder / "worker-0.log").write_text(json.dumps(signature) + "\n")
    assert [result["state"] for result in run_watched(job(tmp_path, retries))] == [state]


def test_what_has_ended_a_process_is_told_by_its_error(tmp_path: Path) -> None:
    guess = RuntimeError("The process is killed by SIGKILL by OOM killer due to high memory usage")
    assert why_vanished(tmp_path, guess)[0] == "lost"  # one of three root causes that Ray lists
    monitor = RuntimeError(
        "Task failed.\n2 workers were killed due to the node running low on memory."
    )
    state, reason = why_vanished(tmp_path, monitor)
    assert state == "out_of_memory"
    assert reason == "2 workers were killed due to the node running low on memory."
    (tmp_path / "error.txt").write_text("Traceback\n  ...\nValueError: no\n")
    assert why_vanished(tmp_path, RuntimeError("gloo")) == ("failed", "ValueError: no")


def test_a_frozen_slot_is_ended_by_ray_but_not_while_it_prepares_or_the_driver_sleeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, killed, said = [0.0], [], []
    monkeypatch.setattr(searcher, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(searcher.ray, "kill", killed.append)
    record = SimpleNamespace(epochs=({"seconds": 1.0},) * 3)
    driver: Any = SimpleNamespace(recorder=SimpleNamespace(records={7: record}), log=said.append)
    trial: Any = SimpleNamespace(
        trial_id="a",
        config={"job": {"number": 7}},
        temporary_state=SimpleNamespace(ray_actor="its slot"),
    )
    ticker = searcher.Ticker(driver, lambda: None, watchdog=10.0)

    def wait(seconds: int) -> None:
        for _ in range(seconds):
            clock[0] += 1.0
            ticker.on_step_end(0, [])

    ticker.on_trial_start(0, [], trial)  # it goes on after epoch 3, and prepares its pictures first
    wait(1000)
    assert not killed
    ticker.on_trial_result(0, [], trial, {})
    wait(170)
    clock[0] += 1000.0  # Ctrl-Z, and fg
    wait(170)
    assert not killed
    wait(20)
    assert killed == ["its slot"]
    assert said == ["trial 7: no word for 181 s, its slot is ended"]
    wait(1000)
    assert len(killed) == 1
