"""The disk limit: what goes, in which order, and what never does."""

import os
from pathlib import Path

import pytest

from siamtune.cli.options import output_folder
from siamtune.launch import keep as room
from siamtune.launch import mirror as mirror_room
from siamtune.launch.job import BEST, LAST, trial_folder
from siamtune.launch.keep import CheckpointKeeper, folder_size, shown_size, winner_yaml
from siamtune.launch.mirror import Mirror
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run, new_run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space
from siamtune.search.store import Store, open_store

CHECKPOINT = 1000


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Trials 0 to 4 have ended, the later the better; 5 is running with a best and a last."""
    for number in range(6):
        folder = trial_folder(tmp_path, number)
        folder.mkdir(parents=True)
        (folder / BEST).write_bytes(bytes(CHECKPOINT))
    (trial_folder(tmp_path, 5) / LAST).write_bytes(bytes(CHECKPOINT))
    (tmp_path / "study.log").write_bytes(bytes(500))
    return Run(tmp_path)


RECORDS = {
    number: TrialRecord(number, "complete", {}, ({"epoch": 1.0, "val/auc": number / 10},))
    for number in range(5)
}
SPACE = Space(Objective(), StudySettings(), fixed={}, start=(), dimensions=())


def keeper(run: Run, limit: int | None) -> CheckpointKeeper:
    return CheckpointKeeper(run, SPACE, RECORDS, limit)


def kept(run: Run) -> list[int]:
    return [number for number in range(6) if (trial_folder(run.folder, number) / BEST).exists()]


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (8500, [0, 1, 2, 3, 4, 5]),  # 7500 bytes and room for one more checkpoint
        (8400, [1, 2, 3, 4, 5]),
        (5500, [3, 4, 5]),
        (4500, [4, 5]),
    ],
)
def test_the_worst_of_the_best_go_first(run: Run, limit: int | None, left: list[int]) -> None:
    assert keeper(run, limit).hold(running=1) is None
    assert kept(run) == left
    if limit is not None:
        assert folder_size(run.folder)[0] + CHECKPOINT <= limit


def test_what_a_search_needs_stays_and_the_search_ends(run: Run) -> None:
    reason = keeper(run, 4400).hold(running=1)
    assert reason is not None
    assert reason.startswith("the disk limit of 4.3K: the run folder holds 3.42K that must stay")
    assert kept(run) == [4, 5]
    assert (trial_folder(run.folder, 5) / LAST).exists()
    assert (run.folder / "study.log").exists()


def test_a_file_with_two_names_counts_once(run: Run) -> None:
    before = folder_size(run.folder)
    os.link(trial_folder(run.folder, 0) / BEST, trial_folder(run.folder, 0) / LAST)
    assert folder_size(run.folder) == before == (7500, CHECKPOINT)


def test_what_a_killed_driver_has_left_undone_is_done_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped: list[Path] = []
    model = run.folder / "best" / "model.safetensors"

    def ship(checkpoint: Path, to: Path) -> None:
        shipped.append(checkpoint)
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(checkpoint.read_bytes())

    monkeypatch.setattr(room, "ship_model", ship)
    for name in (LAST, "worker-0.log"):
        (trial_folder(run.folder, 2) / name).write_bytes(b"left")
    winner = trial_folder(run.folder, 4) / BEST
    configuration = run.folder / "best.yaml"

    keeper(run, None).catch_up()  # it was killed before it shipped anything
    assert shipped == [winner]
    assert configuration.read_text() == winner_yaml(run, SPACE, RECORDS[4])
    assert [path.name for path in trial_folder(run.folder, 2).iterdir()] == [BEST]
    assert (trial_folder(run.folder, 5) / LAST).exists()
    assert kept(run) == [0, 1, 2, 3, 4, 5]

    keeper(run, None).catch_up()
    assert shipped == [winner]
    configuration.write_text(winner_yaml(run, SPACE, RECORDS[3]))  # killed before the next winner
    keeper(run, None).catch_up()
    assert shipped == [winner, winner]
    configuration.write_text("what replicas have chosen")
    keeper(run, None).catch_up()
    assert shipped == [winner, winner]
    model.unlink()
    keeper(run, None).catch_up()
    assert len(shipped) == 3


def in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Store, Mirror]:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    stored = new_run(output_folder(f"file://{tmp_path}/bucket"), "run", "x")
    store = open_store(stored.url or "")
    return stored, store, Mirror(stored, store, lambda line: None)


def best_of(number: int) -> str:
    return f"trials/{number:04d}/{BEST}"


def test_a_winner_that_its_store_does_not_give_is_shipped_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, store, mirror = in_a_store(tmp_path, monkeypatch)
    shipped: list[str] = []
    monkeypatch.setattr(room, "ship_model", lambda path, to: shipped.append(path.parent.name))
    for number in RECORDS:
        store.write(best_of(number), b"x")
    ended = CheckpointKeeper(stored, SPACE, {}, None, mirror)
    configuration = stored.folder / "best.yaml"
    read = Store.read

    def silent(self: Store, name: str) -> bytes:
        raise OSError("no route to host")

    ended.ended(RECORDS[1])
    monkeypatch.setattr(Store, "read", silent)
    monkeypatch.setattr(mirror_room, "RETRIES_S", (0.0,))
    ended.ended(RECORDS[3])
    assert configuration.read_text() == winner_yaml(stored, SPACE, RECORDS[1])
    monkeypatch.setattr(Store, "read", read)
    ended.ended(RECORDS[2])  # a worse one, but the store answers again
    assert configuration.read_text() == winner_yaml(stored, SPACE, RECORDS[3])

    monkeypatch.setattr(Store, "read", silent)
    ended.ended(RECORDS[4])
    assert not ended.ship_overdue()
    monkeypatch.setattr(Store, "read", read)
    assert ended.ship_overdue()  # at the end of the search
    assert configuration.read_text() == winner_yaml(stored, SPACE, RECORDS[4])
    assert ended.ship_overdue()
    assert shipped == ["0001", "0003", "0004"]


@pytest.mark.parametrize(("limit", "left"), [(8500, 6), (8400, 5), (5500, 3), (4400, 2)])
def test_of_a_run_in_a_store_what_lies_there_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, left: int
) -> None:
    """The same files as above, and none of the checkpoints is here."""
    stored, store, mirror = in_a_store(tmp_path, monkeypatch)
    for number in range(6):
        store.write(best_of(number), bytes(CHECKPOINT))
    store.write(f"trials/0005/{LAST}", bytes(CHECKPOINT))
    store.write(f"trials/0006/{LAST}", bytes(CHECKPOINT))
    (stored.folder / "study.log").write_bytes(b"x" * 499 + b"\n")
    mirror._send()
    mirror.remove(f"trials/0006/{LAST}")  # it goes with what is sent next
    limited = CheckpointKeeper(stored, SPACE, RECORDS, limit, mirror)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "files", lambda self: (_ for _ in ()).throw(OSError("no route")))
        assert limited.hold(running=1) is None
    limited._next_look = 0.0
    reason = limited.hold(running=1)
    assert (reason is not None) == (limit == 4400)
    mirror._send()
    kept_there = [number for number in range(6) if best_of(number) in store.files()]
    assert kept_there == list(range(6 - left, 6))
    assert f"trials/0005/{LAST}" in store.files()


def test_sizes_are_shown_as_they_are_asked_for() -> None:
    assert [shown_size(n) for n in (0, 1023, 1024, 5 * 2**30, 3 * 2**41)] == [
        "0", "1023", "1K", "5G", "6T",
    ]  # fmt: skip
