import json
import random
from pathlib import Path

import pytest

from siamtune.errors import InvalidInput
from siamtune.search.records import (
    Recorder,
    TrialRecord,
    best_epoch,
    front,
    ranked,
    read_records,
)


def metrics(epoch: int, auc: float) -> dict[str, float]:
    return {"epoch": float(epoch), "val/auc": auc, "seconds": 2.0}


def test_what_is_read_back_is_what_was_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trials.jsonl")
    recorder.started(0, {"optim.lr": 0.1}, {"data": "demo"})
    recorder.epoch(0, metrics(1, 0.7))
    recorder.epoch(0, metrics(2, 0.6))
    recorder.ended(0, "complete")
    recorder.started(1, {"optim.lr": 0.2})
    recorder.close()
    read = read_records(tmp_path / "trials.jsonl")
    assert read == recorder.records
    assert read[0].state == "complete"
    assert read[0].epoch == 2
    assert read[0].training_s == 4.0
    assert read[0].facts == {"data": "demo"}
    best = best_epoch(read[0], "val/auc", "max")
    assert best is not None
    assert best["epoch"] == 1
    assert read[1].state == "running"


def test_a_line_cut_short_by_a_crash_is_dropped_and_never_glued_to_the_next(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.jsonl"
    recorder = Recorder(path)
    recorder.started(0, {})
    recorder.epoch(0, metrics(1, 0.7))
    recorder.close()
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines()[0]) + 2, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_records(path)[0].epoch == 0
        again = Recorder(path)
        again.epoch(0, metrics(1, 0.8))
        again.close()
        assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == [
            "started",
            "epoch",
        ]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"event": "started", "trial": 0, "time": 1, "config": {}}\nrubbish\n{}\n')
    with pytest.raises(InvalidInput, match=r"trials\.jsonl:2: must hold one trial event as JSON"):
        read_records(path)


def test_an_epoch_run_again_after_a_crash_replaces_the_first_telling(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trials.jsonl")
    recorder.started(0, {})
    for epoch, auc in ((1, 0.6), (2, 0.7)):
        recorder.epoch(0, metrics(epoch, auc))
    recorder.ended(0, "interrupted")
    recorder.started(0, {})
    record = recorder.epoch(0, metrics(2, 0.71))
    assert [epoch["val/auc"] for epoch in record.epochs] == [0.6, 0.71]
    assert record.state == "running"


def test_complete_trials_rank_before_stopped_ones_and_failed_ones_not_at_all(
    tmp_path: Path,
) -> None:
    recorder = Recorder(tmp_path / "trials.jsonl")
    for number, (auc, state) in enumerate(
        [(0.8, "complete"), (0.99, "stopped"), (0.9, "complete"), (0.95, "failed")]
    ):
        recorder.started(number, {})
        recorder.epoch(number, metrics(1, auc))
        recorder.ended(number, state)  # type: ignore[arg-type]
    order = ranked(recorder.records.values(), "val/auc", "max")
    assert [record.number for record in order] == [2, 0, 1]
    order = ranked(recorder.records.values(), "val/auc", "min")
    assert [record.number for record in order] == [0, 2, 1]


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trials.jsonl")
    recorder.started(0, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        recorder.epoch(0, metrics(1, float("nan")))
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 1


def test_a_trial_that_was_run_again_says_why(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trials.jsonl")
    recorder.started(0, {"optim.lr": 0.1})
    recorder.epoch(0, metrics(1, 0.7))
    recorder.retried(0, "its process vanished")
    recorder.retried(0, "it hung")
    recorder.close()
    record = read_records(tmp_path / "trials.jsonl")[0]
    assert record.retries == ("its process vanished", "it hung")
    assert (record.state, record.epoch) == ("running", 1)


def test_the_front_is_whom_nobody_beats_in_both_objectives() -> None:
    rng = random.Random(0)
    records = []
    for number in range(40):
        # The second epoch is worse in the first objective: the first one counts, in both.
        auc, eer = rng.randint(0, 9) / 10, rng.randint(0, 9) / 10
        first, second = ({"epoch": e, "val/auc": a, "val/eer": b}
                         for e, a, b in ((1.0, auc, eer), (2.0, auc - 0.05, 0.0)))  # fmt: skip
        state = "stopped" if number % 7 == 0 else "complete"
        records.append(TrialRecord(number, state, {}, (first, second)))
    complete = [r for r in records if r.state == "complete"]
    expected = set()
    for one in complete:
        auc, eer = one.epochs[0]["val/auc"], one.epochs[0]["val/eer"]
        beaten = False
        for other in complete:
            more, less = other.epochs[0]["val/auc"], other.epochs[0]["val/eer"]
            if (more >= auc and less < eer) or (more > auc and less <= eer):
                beaten = True
        if not beaten:
            expected.add(one.number)
    found = front(records, [("val/auc", "max"), ("val/eer", "min")])
    assert {record.number for record in found} == expected
    values = [record.epochs[0]["val/auc"] for record in found]
    assert values == sorted(values, reverse=True)
    assert 1 < len(expected) < 20
