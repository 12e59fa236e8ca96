"""Searches whose run lies in an object store: `file://`, a store that needs no server."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siamtune.cli.options import output_folder
from siamtune.cli.search import AtTheEnd, _search, resume, search
from siamtune.cli.stop import stop
from siamtune.config import DEFAULTS, flatten, trial_config
from siamtune.errors import InvalidInput, SiamtuneError
from siamtune.launch import mirror as room
from siamtune.launch.job import BEST, LAST, DataSpec, TrialJob
from siamtune.launch.mirror import Mirror, Results, mirrored, run_stored_trial
from siamtune.launch.search import SearchOptions, SearchResult
from siamtune.launch.worker import run_trial
from siamtune.search.history import read_history
from siamtune.search.lock import driving
from siamtune.search.records import Recorder, TrialRecord, read_records
from siamtune.search.runs import Run, find_run, forget, new_run
from siamtune.search.space import load_space
from siamtune.search.stops import take_stops
from siamtune.search.store import open_store
from siamtune.training.checkpoint import read_checkpoint

SPACE = """
version: 1
study: {trials: 3, scheduler: {none: {}}, sampler: {random: {}}, seed: 0}
fixed: {epochs: 2, data.resolution_px: 16, data.crop: none, model.width: 0.5,
        model.embedding_size: 16, batch.images: 16}
space:
  optim.lr: {float: [1e-4, 3e-2], log: true}
"""
Elsewhere = Callable[[str], None]


@pytest.fixture
def on_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Go on with the disk of another host: what is not in the store is not there."""

    def go(name: str) -> None:
        monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / name))

    go("first host")
    return go


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket/runs"


def no_log(line: str) -> None: ...


@pytest.mark.ray
def test_a_search_in_a_store_is_whole_on_every_host_and_goes_on_there(
    ray_here: str, tmp_path: Path, pattern_people: Path, url: str, on_host: Elsewhere
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    search(space=str(tmp_path / "space.yaml"), data=str(pattern_people), concurrent=2, name="run",
           output=output_folder(url))  # fmt: skip
    here = read_history(f"{url}/run", Path("runs"))
    assert {record.state for record in here.records.values()} == {"complete"}
    files = open_store(f"{url}/run").files()
    assert {"run.json", "space.yaml", "environment.json", "trials.jsonl", "study.log", "best.yaml",
            "best/model.safetensors"} <= set(files)  # fmt: skip
    assert "driver.json" not in files
    kept = [name for name in files if name.startswith("trials/")]
    names = (BEST, "scores.npz")
    assert sorted(kept) == [f"trials/000{n}/{name}" for n in range(3) for name in names]
    for number in here.records:
        assert any(name.startswith(f"tensorboard/000{number}/events") for name in files)

    on_host("second host")
    there = read_history(f"{url}/run", Path("runs"))
    assert there.run.folder != here.run.folder
    assert there.records == here.records
    model = there.run.folder / "best" / "model.safetensors"
    assert (
        read_checkpoint(model).facts
        == read_checkpoint(here.run.folder / "best" / "model.safetensors").facts
    )
    resume(run="run", trials="+1", concurrent=1, output=output_folder(url))

    on_host("third host")
    last = read_history(f"{url}/run", Path("runs"))
    assert sorted(last.records) == [0, 1, 2, 3]
    assert all(last.records[n] == here.records[n] for n in here.records)
    assert last.records[3].state == "complete"


@pytest.fixture
def run(url: str, on_host: Elsewhere) -> Run:
    return new_run(output_folder(url), "run", "x")


def job_of(run: Run, pattern_people: Path, **dials: Any) -> TrialJob:
    small = {"epochs": 3, "data.resolution_px": 16, "data.crop": "none", "model.width": 0.5,
             "model.embedding_size": 16, "batch.images": 16, **dials}  # fmt: skip
    config = flatten(trial_config({**DEFAULTS, **small}))
    return TrialJob(
        0, config, {}, str(run.folder), DataSpec(str(pattern_people)), "val/auc", "max",
        store=run.url,
    )  # fmt: skip


def test_a_trial_goes_on_where_it_was_on_another_host(
    cache: Path, run: Run, pattern_people: Path, on_host: Elsewhere
) -> None:
    job = job_of(run, pattern_people)
    straight = [result["metrics"]["train/loss"] for result in run_trial(replace(job, number=1))]
    store = open_store(job.store or "")
    results = run_trial(job)
    told = [next(results)["metrics"]["train/loss"]]
    # Before the driver hears of an epoch, its checkpoint is in the store.
    assert {f"trials/0000/{LAST}", f"trials/0000/{BEST}"} <= set(store.files())
    results.close()  # the host dies
    on_host("second host")
    told += [r["metrics"]["train/loss"] for r in run_trial(replace(job, recorded_epochs=1))]
    assert told == pytest.approx(straight, rel=1e-6)
    assert len([name for name in store.files() if name.startswith("tensorboard/0000/")]) == 2
    assert not list((run.folder / "trials").glob("*")), "workers write on disks of their own"


def test_a_checkpoint_of_a_trial_that_was_never_told_is_left_alone(
    cache: Path, run: Run, pattern_people: Path
) -> None:
    """The driver's host was lost just after it had started a trial under this number."""
    lost = run_trial(job_of(run, pattern_people, **{"optim.lr": 0.03}))
    next(lost)
    lost.close()
    epochs = [r["metrics"]["epoch"] for r in run_trial(job_of(run, pattern_people))]
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize("when", ["before it begins", "after its first epoch"])
def test_a_trial_whose_store_falls_silent_is_interrupted_and_says_why(
    run: Run, pattern_people: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(room, "RETRIES_S", (0.0, 0.0))
    job = job_of(run, pattern_people)
    store = open_store(run.url or "")
    asked: list[str] = []

    def silent(self: Any, name: str, *content: bytes) -> Any:
        asked.append(name)
        raise OSError("no route to host")

    def training(local: TrialJob) -> Results:
        for epoch in (1.0, 2.0, 3.0):
            local.folder.mkdir(parents=True, exist_ok=True)
            (local.folder / LAST).write_bytes(b"x" * int(epoch))
            if epoch == 2:
                monkeypatch.setattr(type(store), "write", silent)
            yield {"metrics": {"epoch": epoch}}

    if when == "before it begins":
        monkeypatch.setattr(type(store), "read", silent)
    *epochs, last = run_stored_trial(job, training)
    assert epochs == ([{"metrics": {"epoch": 1.0}}] if when.startswith("after") else [])
    assert last["state"] == "interrupted"
    assert "no route to host" in last["reason"]
    assert str(run.url) in last["reason"]
    # It is waited for once; what is left when all is over is only tried.
    assert len(asked) == (4 if when.startswith("after") else 3)


def test_what_is_sent_is_whole_lines_and_the_study_is_never_behind_the_record(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, bytes]] = []
    store = open_store(run.url or "")
    write = type(store).write

    def spy(self: Any, name: str, content: bytes) -> Any:
        sent.append((name, content))
        return write(self, name, content)

    monkeypatch.setattr(type(store), "write", spy)
    read = room._whole_lines

    def and_then_a_trial_ends(path: Path) -> Any:
        """Between the reading of two files the driver tells the study and the record."""
        content = read(path)
        for name in ("study.log", "trials.jsonl"):
            with (run.folder / name).open("a") as file:
                file.write("2\n")
        return content

    monkeypatch.setattr(room, "_whole_lines", and_then_a_trial_ends)
    for name in ("study.log", "trials.jsonl"):
        (run.folder / name).write_text("1\nhalf a li")
    Mirror(run, store, no_log)._send()
    assert [name for name, _ in sent] == ["study.log", "trials.jsonl"]
    study, record = (content for _, content in sent)
    assert record == b"1\n"
    assert study.startswith(b"1\n")
    assert study.endswith(b"2\n")


def test_a_study_of_which_only_a_part_was_sent_is_not_rolled_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver was killed between the sending of its study and of its record."""
    store = open_store(run.url or "")
    files = ("run.json", "study.log", "trials.jsonl")
    for name in files:
        (run.folder / name).write_text("{}\n")
    with mirrored(run, no_log):
        pass
    write = type(store).write

    def cut_off(self: Any, name: str, content: bytes) -> Any:
        if name == "trials.jsonl":
            raise OSError("no route to host")
        return write(self, name, content)

    mirror = Mirror(run, store, no_log)
    for name in files[1:]:
        (run.folder / name).write_text("{}\n2\n")
    monkeypatch.setattr(type(store), "write", cut_off)
    with pytest.raises(OSError, match="no route"):
        mirror._send()
    monkeypatch.setattr(type(store), "write", write)
    for name in files[1:]:
        (run.folder / name).write_text("{}\n2\n3\n")
    assert store.read("study.log") == b"{}\n2\n"

    found = find_run(run.url or "", Path("runs"))
    assert [(found.folder / name).read_text() for name in files[1:]] == ["{}\n2\n3\n"] * 2
    with mirrored(found, no_log):
        pass
    assert [store.read(name) for name in files[1:]] == [b"{}\n2\n3\n"] * 2


def test_changes_come_by_themselves_and_removals_after_what_was_told_before(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.02)
    store = open_store(run.url or "")
    with mirrored(run, no_log) as mirror:
        assert mirror is not None
        store.write("trials/0000/last.safetensors", b"x")
        recorder = Recorder(run.trials_path)
        recorder.started(0, {})
        recorder.ended(0, "failed", "why")
        mirror.remove("trials/0000/last.safetensors")
        for _ in range(200):
            if "trials/0000/last.safetensors" not in store.files():
                break
            time.sleep(0.02)
        assert b"failed" in store.read("trials.jsonl")
        recorder.started(1, {})
        recorder.close()
    assert store.read("trials.jsonl") == run.trials_path.read_bytes()
    assert read_records(run.trials_path)[1].state == "running"


def test_a_store_that_falls_silent_is_told_once_and_the_search_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.01)
    monkeypatch.setattr(room, "RETRIES_S", (0.01,))
    lines: list[str] = []
    store = open_store(run.url or "")

    def silent(self: Any, name: str, content: bytes) -> Any:
        raise OSError("no route to host")

    mirror = Mirror(run, store, lines.append)
    mirror.start()
    monkeypatch.setattr(type(store), "write", silent)
    (run.folder / "run.json").write_text("{}")
    for _ in range(300):
        if lines:
            break
        time.sleep(0.01)
    time.sleep(0.1)
    with pytest.raises(SiamtuneError, match=r"siamtune resume file://.* on this machine sends it"):
        mirror.close()
    (line,) = lines
    assert "no route to host" in line
    monkeypatch.undo()
    with mirrored(run, no_log):
        pass
    assert store.read("run.json") == b"{}"


def test_a_run_that_another_host_drives_is_refused_until_it_is_silent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(run.url or "")
    driver = {"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00"}
    store.write("driver.json", json.dumps(driver).encode())
    with pytest.raises(InvalidInput, match="but process 7 on elsewhere drives it"):
        Mirror(run, store, no_log).start()
    path = Path((run.url or "").removeprefix("file://")) / "driver.json"
    long_ago = time.time() - room.DEAD_AFTER_S - 5
    os.utime(path, (long_ago, long_ago))
    with mirrored(run, no_log):
        pass
    assert "driver.json" not in store.files()


def test_a_run_that_two_hosts_begin_is_the_first_ones(
    run: Run, url: str, on_host: Elsewhere
) -> None:
    """Neither has seen a run of this name when it looked for one."""
    on_host("second host")
    other = new_run(output_folder(url), "run", "x")
    for each in (run, other):
        (each.folder / "run.json").write_text(json.dumps({"of": str(each.folder)}))
    store = open_store(f"{url}/run")
    with driving(run), mirrored(run, no_log):
        with pytest.raises(InvalidInput, match="drives it"), driving(other):
            Mirror(other, store, no_log).start()
        forget(other)
        assert {"run.json", "driver.json"} <= store.files().keys()
    # Nor if the first has ended since.
    again = Run(other.folder)
    again.folder.mkdir()
    with pytest.raises(InvalidInput, match=r"has written run\.json since"):
        Mirror(again, store, no_log).start()
    forget(again)
    assert store.read("run.json") == run.facts_path.read_bytes()
    forget(run)
    assert store.files() == {}


def test_of_two_drivers_that_begin_at_one_time_one_is_refused(
    run: Run, url: str, on_host: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host("second host")
    other = new_run(output_folder(url), "run", "x")
    store = open_store(f"{url}/run")
    files, between = type(store).files, [other]

    def and_meanwhile(self: Any) -> Any:
        if between:
            between.clear()
            with driving(other), pytest.raises(InvalidInput, match="begins to at this moment"):
                Mirror(other, store, no_log).start()
        return files(self)

    monkeypatch.setattr(type(store), "files", and_meanwhile)
    with driving(run), mirrored(run, no_log):
        assert store.files().keys() == {"driver.json"}


def test_a_run_that_another_host_drives_is_not_changed_by_who_wants_to_resume_it(
    run: Run, url: str, tmp_path: Path, on_host: Elsewhere
) -> None:
    (run.folder / "space.yaml").write_text(SPACE)
    facts = {"kind": "search", "trials": 3, "split": "x", "data_spec": {"source": "demo"}}
    (run.folder / "run.json").write_text(json.dumps(facts))
    (tmp_path / "new.yaml").write_text(SPACE.replace("3e-2", "4e-2"))
    with driving(run), mirrored(run, no_log):
        on_host("second host")
        with pytest.raises(InvalidInput, match="drives it"):
            resume(run=f"{url}/run", space=str(tmp_path / "new.yaml"), trials="+5")
        there = Run(output_folder(url) / "run")
        assert there.facts() == facts
        assert there.space_path.read_text() == SPACE


def test_what_workers_have_sent_is_not_sent_again_at_the_end_of_a_search(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.folder / "space.yaml").write_text(SPACE)
    (run.folder / "run.json").write_text("{}")
    store = open_store(run.url or "")
    with driving(run), mirrored(run, no_log):
        for name in (f"trials/0000/{BEST}", "tensorboard/0000/events.out.tfevents.1"):
            store.write(name, b"a worker's")
    record = TrialRecord(0, "complete", {}, ({"epoch": 1, "val/auc": 0.9},))
    result = SearchResult(run, {0: record}, record, None, 1.0)
    monkeypatch.setattr("siamtune.launch.search.run_search", lambda *given: result)
    sent: list[str] = []
    write = type(store).write

    def spy(self: Any, name: str, content: bytes) -> Any:
        sent.append(name)
        return write(self, name, content)

    monkeypatch.setattr(type(store), "write", spy)
    space = load_space(str(run.space_path))
    end = AtTheEnd()
    _search(run, space, DataSpec("demo"), {"data": "demo"}, SearchOptions(trials=1), end, False)
    assert (run.folder / "trials" / "0000" / BEST).exists(), "the finalists' pages want it"
    assert [name for name in sent if not name.startswith(".claim-")] == []


def test_hosts_of_one_name_are_told_apart_and_a_killed_driver_is_succeeded_at_once(
    run: Run, url: str, on_host: Elsewhere
) -> None:
    """Containers share names; on its own machine the lock tells that a driver is dead."""
    (run.folder / "run.json").write_text("{}")
    with driving(run), mirrored(run, no_log):
        on_host("second host")
        other = find_run(f"{url}/run", Path("runs"))
        with pytest.raises(InvalidInput, match="drives it"), driving(other):
            Mirror(other, open_store(f"{url}/run"), no_log).start()
        killed = open_store(f"{url}/run").read("driver.json")
    open_store(f"{url}/run").write("driver.json", killed)
    with driving(run), mirrored(run, no_log):
        pass
    assert "driver.json" not in open_store(f"{url}/run").files()


def test_a_driver_gives_signs_of_life_while_it_sends_a_large_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HEARTBEAT_S", 0.02)
    store = open_store(run.url or "")
    signs: list[bool] = []
    large, write = threading.Event(), type(store).write

    def slow(self: Any, name: str, content: bytes) -> Any:
        if name == "driver.json":
            signs.append(large.is_set())
        if name == "study.log":
            large.set()
            wait_for(lambda: sum(signs) >= 3)
            large.clear()
        return write(self, name, content)

    monkeypatch.setattr(type(store), "write", slow)
    (run.folder / "study.log").write_text("large\n")
    with driving(run), mirrored(run, no_log):
        assert sum(signs) >= 3


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_slow_sending_the_next_is_not_far(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.01)
    monkeypatch.setattr(room, "MOST_S", 0.02)
    sent: list[bytes] = []
    store = open_store(run.url or "")
    write = type(store).write

    def slow(self: Any, name: str, content: bytes) -> Any:
        time.sleep(1.0 * (content == b"slow\n"))
        sent.append(content)
        return write(self, name, content)

    monkeypatch.setattr(type(store), "write", slow)
    with mirrored(run, no_log):
        for content in (b"slow\n", b"quick\n"):
            (run.folder / "study.log").write_bytes(content)
            began = time.monotonic()
            wait_for(lambda content=content: content in sent)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("other_ended", [False, True])
def test_a_driver_that_was_taken_for_dead_ends_in_order_and_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, other_ended: bool
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.01)
    monkeypatch.setattr(room, "HEARTBEAT_S", 0.02)
    lines: list[str] = []
    store = open_store(run.url or "")
    other = {"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00", "copy": "x"}
    (run.folder / "study.log").write_text("1\n")
    with driving(run):
        mirror = Mirror(run, store, lines.append)
        mirror.start()
        with mirror._beating:  # it sleeps
            store.write("driver.json", json.dumps(other).encode())
            if other_ended:
                store.remove("driver.json")
        wait_for(lambda: (run.folder / "stop" / "search").exists())
        (run.folder / "study.log").write_text("1\n2\n")
        who = "another process" if other_ended else "process 7 on elsewhere"
        with pytest.raises(SiamtuneError, match=f"but {who} has gone on with it"):
            mirror.close()
    assert take_stops(run) == [None]
    assert ("driver.json" in store.files()) is not other_ended
    assert store.read("study.log") == b"1\n"
    (line,) = lines
    assert str(run.folder) in line


def test_a_request_to_stop_reaches_the_driver_on_another_host(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    on_host: Elsewhere,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(room, "EVERY_S", 0.02)
    monkeypatch.setattr(room, "LISTEN_EVERY_S", 0.0)
    (run.folder / "run.json").write_text('{"kind": "search"}')
    recorder = Recorder(run.trials_path)
    recorder.started(3, {})
    with driving(run), mirrored(run, no_log):
        on_host("second host")
        stop(run=run.url or "", trial=3, as_json=True)
        told = json.loads(capsys.readouterr().out)
        assert (told["heard"], told["after_epoch"]) == (True, 1)
        assert socket.gethostname() in told["driver"]
        assert take_stops(run) == [3]
    recorder.close()
    with pytest.raises(InvalidInput, match="no process drives it"):
        stop(run=run.url or "")
