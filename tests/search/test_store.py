"""Runs in an object store; `file://` is the one that needs no server."""

import os
import threading
from pathlib import Path

import pytest
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from siamtune.cli.options import output_folder
from siamtune.errors import InvalidInput, UsageError
from siamtune.search import runs as runs_room
from siamtune.search.lock import driver_of, driving
from siamtune.search.runs import Run, find_run, list_runs, new_run
from siamtune.search.store import (
    Store,
    copies_of,
    fetch,
    is_url,
    local_files,
    local_signature,
    open_store,
    origin,
    read_agreed,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


def test_a_url_is_told_from_a_folder() -> None:
    assert is_url("s3://bucket/runs")
    assert is_url("memory://")
    assert not any(map(is_url, ("runs", "/shared/runs", "C:/runs", "a:b", "./s3:/x", "")))


def test_a_url_stands_for_one_folder_of_copies_that_knows_it(bucket: Path) -> None:
    url = f"file://{bucket}/runs"
    folder = output_folder(url)
    assert folder == copies_of(url) == copies_of(f"{url}/")
    assert origin(folder) == url
    assert folder != copies_of(f"file://{bucket}/more/runs")
    assert output_folder("runs") == Path("runs")
    assert origin(Path("runs")) is None


@pytest.mark.parametrize(
    "url",
    ["s3://KEY:hunter2@bucket/runs", "s3://bucket/runs?secret_key=1", "gs://bucket#x", "s3://",
     "s3:///"],
)  # fmt: skip
def test_a_url_with_more_than_a_place_is_refused_and_nothing_of_it_is_kept(
    url: str, cache: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        output_folder(url)
    assert "hunter2" not in str(raised.value)
    assert not cache.exists()


@pytest.mark.parametrize("url", ["carrier-pigeon://coop/runs", "s4://bucket/runs"])
def test_an_unknown_kind_of_store_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="like s3://bucket/runs"):
        list_runs(output_folder(url))


def test_a_store_writes_reads_lists_and_removes(bucket: Path) -> None:
    store = open_store(f"file://{bucket}").child("runs/faces")
    assert store.files() == {}
    told = store.write("trials/0000/last.safetensors", b"12345")
    assert store.files() == {"trials/0000/last.safetensors": told}
    assert told[0] == 5
    assert store.read("trials/0000/last.safetensors") == b"12345"
    assert open_store(f"file://{bucket}/runs").folders() == ["faces"]
    store.remove("trials/0000/last.safetensors")
    store.remove("trials/0000/last.safetensors")  # it is gone, which is what was wanted
    with pytest.raises(FileNotFoundError):
        store.read("trials/0000/last.safetensors")


def test_fsspec_serves_the_stores_that_arrow_does_not_know() -> None:
    store = open_store("memory://siamtune/runs").child("faces")
    store.write("run.json", b"{}")
    assert list(store.files()) == ["run.json"]
    assert store.read("run.json") == b"{}"
    store.remove("run.json")
    assert store.files() == {}


def test_a_copy_follows_the_store_and_keeps_what_only_it_has(bucket: Path, tmp_path: Path) -> None:
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    for name in ("run.json", "trials.jsonl", "trials/0000/last.safetensors"):
        store.write(name, b"old")
    fetch(store, copy)
    assert dict(local_files(copy)).keys() == store.files().keys()
    before = (copy / "run.json").stat()

    (copy / "study.log").write_bytes(b"never sent")
    (copy / "run.json").write_bytes(b"changed here")
    store.write("trials.jsonl", b"new and longer")
    store.remove("trials/0000/last.safetensors")
    fetch(store, copy)
    assert (copy / "trials.jsonl").read_bytes() == b"new and longer"
    assert not (copy / "trials/0000/last.safetensors").exists()
    assert (copy / "study.log").read_bytes() == b"never sent"
    assert (copy / "run.json").read_bytes() == b"changed here"
    assert before.st_mtime_ns == store.files()["run.json"][1]  # `latest` goes by it

    store.write("run.json", b"changed there, by who went on")
    fetch(store, copy)
    assert (copy / "run.json").read_bytes() == b"changed there, by who went on"


def test_what_has_changed_here_and_there_is_not_lost(
    bucket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    agreed = {"ahead": b"1\n", "behind": b"1\n", "best.yaml": b"lr: 1", "same": b"1\n"}
    for name, content in agreed.items():
        store.write(name, content)
    fetch(store, copy)
    store.write("ahead", b"1\n2\n")
    (copy / "ahead").write_bytes(b"1\n2\n3\n")
    store.write("behind", b"1\n2\n3\n")
    (copy / "behind").write_bytes(b"1\n2\n")
    store.write("best.yaml", b"lr: 0.3")
    (copy / "best.yaml").write_bytes(b"lr: 0.25")
    for _ in range(2):  # the second finds nothing to do
        fetch(store, copy)
        assert (copy / "ahead").read_bytes() == (copy / "behind").read_bytes() == b"1\n2\n3\n"
        assert (copy / "best.yaml").read_bytes() == b"lr: 0.3"
    agreed_now = read_agreed(copy)
    changed = [at for at, path in local_files(copy) if local_signature(path) != agreed_now[at][1]]
    assert changed == ["ahead"], "what is yet to be sent"
    (aside,) = copy.glob(".best.yaml.unsent-*")
    assert aside.read_bytes() == b"lr: 0.25"
    (told,) = caplog.messages
    assert str(aside) in told


def test_who_drives_a_run_is_what_the_store_says(
    bucket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver that was killed here has left its own words."""
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    store.write("run.json", b"{}")
    store.write("driver.json", b"elsewhere")
    copy.mkdir()
    (copy / "driver.json").write_bytes(b"here")
    fetch(store, copy)
    assert (copy / "driver.json").read_bytes() == b"elsewhere"
    store.remove("driver.json")
    (copy / "driver.json").write_bytes(b"here")
    fetch(store, copy)
    assert not (copy / "driver.json").exists()
    assert not caplog.messages


def test_a_record_is_of_the_study_beside_it(bucket: Path, tmp_path: Path) -> None:
    """Another host has gone on with the study and was cut off before it sent a record."""
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    for name in ("study.log", "trials.jsonl"):
        store.write(name, b"1\n")
    fetch(store, copy)
    for name in ("study.log", "trials.jsonl"):
        (copy / name).write_bytes(b"1\n2 here\n")
    store.write("study.log", b"1\n2 there\n")
    fetch(store, copy)
    assert (copy / "study.log").read_bytes() == b"1\n2 there\n"
    assert (copy / "trials.jsonl").read_bytes() == b"1\n"
    asides = sorted(copy.glob(".*.unsent-*"))
    assert [path.read_bytes() for path in asides] == [b"1\n2 here\n"] * 2


def test_a_fetch_that_is_cut_off_knows_what_has_come(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    for name in ("run.json", "trials.jsonl"):
        store.write(name, b"{}")
    read = type(store).read

    def then_ctrl_c(self: Store, name: str) -> bytes:
        if name == "trials.jsonl":
            raise KeyboardInterrupt
        return read(self, name)

    monkeypatch.setattr(type(store), "read", then_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        fetch(store, copy)
    assert read_agreed(copy).keys() == {"run.json"}


def test_a_file_that_vanishes_while_a_run_is_fetched_is_gone_here_too(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver removes the checkpoint of a trial between the listing and the reading."""
    store, copy = open_store(f"file://{bucket}"), tmp_path / "copy"
    for name in ("run.json", "trials/0000/last.safetensors", "trials/0001/last.safetensors"):
        store.write(name, b"old")
    fetch(store, copy)
    store.write("trials/0000/last.safetensors", b"newer")
    store.write("trials/0001/last.safetensors", b"newer")
    listed = store.files()
    store.remove("trials/0000/last.safetensors")
    monkeypatch.setattr(type(store), "files", lambda self: dict(listed))
    fetch(store, copy)
    assert not (copy / "trials/0000/last.safetensors").exists()
    assert (copy / "trials/0001/last.safetensors").read_bytes() == b"newer"


def test_a_name_in_a_store_cannot_lead_out_of_the_copy(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{bucket}")
    store.write("run.json", b"{}")
    names = ["../out", "/tmp/out", "a/../../out", "a//b", "./x", "a\0b", ".driver.lock"]
    listed = {**store.files(), **dict.fromkeys(names, (3, 1))}
    monkeypatch.setattr(type(store), "files", lambda self: listed)
    fetch(store, tmp_path / "deep" / "copy")
    below = sorted(p.name for p in (tmp_path / "deep").rglob("*") if p.is_file())
    assert below == [".agreed.json", "run.json"]
    assert not (tmp_path / "out").exists()


def test_runs_are_found_by_url_by_name_and_as_the_latest(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{bucket}/runs"
    for at, name in enumerate(("one", "two")):
        there = open_store(url).child(name)
        there.write("run.json", b"{}")
        there.write("tensorboard/events.out.tfevents.1", b"x")
        os.utime(bucket / "runs" / name / "run.json", (at, at))
    output = output_folder(url)
    assert [run.name for run in list_runs(output)] == ["one", "two"]
    assert not (output / "one" / "tensorboard").exists()  # a list is quick
    for words in ((f"{url}/two", Path("runs")), ("two", output), ("latest", output)):
        run = find_run(*words)
        assert (run.name, run.place) == ("two", f"{url}/two")
        assert (run.tensorboard / "events.out.tfevents.1").is_file()
    # A folder of the same name where the person stands is another run.
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_run(f"{url}/two", Path("runs")).folder == output / "two"
    with pytest.raises(InvalidInput, match=f"the name of a run in {url}.*runs there: one, two"):
        find_run("three", output)
    with pytest.raises(UsageError, match=f"{url}/one exists already"):
        new_run(output, "one", "x")
    fresh = new_run(output, "three", "x")
    assert fresh.url == f"{url}/three"
    assert Run(bucket).url is None


def test_who_drives_a_run_waits_for_the_end_of_a_fetch(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`board` still fetches when `resume` on the same machine begins to write."""
    url = f"file://{bucket}/runs/one"
    for name in ("run.json", "trials.jsonl"):
        open_store(url).write(name, b"{}")
    run = find_run(url, Path("runs"))
    open_store(url).write("trials.jsonl", b"{}\n{}")
    reads, may_end = threading.Event(), threading.Event()
    read = Store.read

    def slow(self: Store, name: str) -> bytes:
        reads.set()
        may_end.wait(10)
        return read(self, name)

    monkeypatch.setattr(Store, "read", slow)
    fetching = threading.Thread(target=find_run, args=(url, Path("runs")))
    fetching.start()
    assert reads.wait(10)
    monkeypatch.setattr(runs_room, "FETCH_WAIT_S", 0.1)
    with pytest.raises(InvalidInput, match="must be at rest to be driven"), driving(run):
        pass
    assert driver_of(run) is None, "who fetches is not told as who drives"
    monkeypatch.setattr(runs_room, "FETCH_WAIT_S", 10.0)
    threading.Timer(0.2, may_end.set).start()
    with driving(run):
        assert may_end.is_set()
        assert run.trials_path.read_bytes() == b"{}\n{}"
        run.trials_path.write_bytes(b"written since")
        find_run(url, Path("runs"))
        assert run.trials_path.read_bytes() == b"written since"
    fetching.join()


def test_a_store_that_does_not_answer_is_told(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = output_folder(f"file://{bucket}/runs")
    (bucket / "runs").write_text("a file")
    with pytest.raises(InvalidInput, match="must be reachable and readable"):
        list_runs(output)


def test_google_is_not_waited_for_longer_than_half_a_minute() -> None:
    store = open_store("gs://bucket/runs")
    assert store._root == "bucket/runs"
    assert store._files != FileSystem.from_uri("gs://bucket/runs")[0]
    assert store._files == FileSystem.from_uri("gs://bucket/runs?retry_limit_seconds=30")[0]


def test_folders_that_google_does_not_list_are_known_by_their_files(
    bucket: Path,
) -> None:
    store = open_store(f"file://{bucket}")
    for name in ("a/1/x", "b/x", "x"):
        store.write(name, b"")

    class LikeGoogle:
        """A listing without the folders that nobody has made by themselves."""

        type_name = "gcs"

        def get_file_info(self, selector: FileSelector) -> list[FileInfo]:
            found = store._files.get_file_info(selector)
            return [info for info in found if info.type is FileType.File]

    assert Store(store.url, LikeGoogle(), store._root).folders() == store.folders() == ["a", "b"]
