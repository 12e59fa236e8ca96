"""One configuration on several workers: what its record says when they are gone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from siamtune.cli.options import output_folder
from siamtune.config import DEFAULTS
from siamtune.launch import alone
from siamtune.launch.cluster import TrialResources
from siamtune.launch.gang import GangDied
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.search.records import read_records
from siamtune.search.runs import Run, find_run, new_run
from siamtune.search.store import open_store


def test_a_training_whose_workers_vanished_is_lost_and_keeps_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def results() -> Iterator[dict[str, Any]]:
        yield {"metrics": dict.fromkeys(alone.COLUMNS, 1.0)}
        raise GangDied("the trial's workers have ended")

    @contextmanager
    def group(*given: object) -> Iterator[Iterator[dict[str, Any]]]:
        yield results()

    monkeypatch.setattr(alone, "_results", group)
    facts = {"data": "demo", "protocol": "identity-holdout", "split": "5b1e"}
    run = Run(tmp_path)
    with pytest.raises(GangDied, match="workers have ended"):
        alone.train_alone(run, DEFAULTS, DataSpec("demo"), facts, 1, lambda line: None)
    (record,) = read_records(run.trials_path).values()
    assert (record.state, record.reason) == ("lost", "the trial's workers have ended")
    assert record.epoch == 1


def test_what_a_training_writes_in_the_copy_of_its_store_is_not_fetched_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record would lie in a file that has no name any more."""
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    run = new_run(output_folder(f"file://{tmp_path}/bucket"), "run", "x")
    (run.folder / "run.json").write_text("{}")

    def results() -> Iterator[dict[str, Any]]:
        assert "driver.json" in open_store(run.url or "").files()
        open_store(run.url or "").write("trials.jsonl", b"")
        assert find_run(run.url or "", Path("runs")).folder == run.folder
        yield {"metrics": dict.fromkeys(alone.COLUMNS, 1.0), "state": "complete"}

    @contextmanager
    def alone_in_here(*given: object) -> Iterator[Iterator[dict[str, Any]]]:
        yield results()

    monkeypatch.setattr(alone, "_results", alone_in_here)
    facts = {"data": "demo", "protocol": "identity-holdout", "split": "5b1e"}
    alone.train_alone(run, DEFAULTS, DataSpec("demo"), facts, 1, lambda line: None)
    assert read_records(run.trials_path)[0].epoch == 1
    assert open_store(run.url or "").read("trials.jsonl") == run.trials_path.read_bytes()


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        (TrialResources(1), len(os.sched_getaffinity(0))),
        (TrialResources(4, cpus_per_worker=2.5), 2),
    ],
)
def test_workers_take_the_processors_that_they_hold_and_one_alone_takes_all(
    resources: TrialResources, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrialJob] = []

    @contextmanager
    def group(job: TrialJob, *given: object) -> Iterator[Iterator[dict[str, Any]]]:
        jobs.append(job)
        yield iter([{"state": "complete"}])

    monkeypatch.setattr(alone, "_results", group)
    facts = {"data": "demo", "protocol": "identity-holdout", "split": "5b1e"}
    alone.train_alone(
        Run(tmp_path), DEFAULTS, DataSpec("demo"), facts, None, lambda line: None,
        resources=resources,
    )  # fmt: skip
    assert jobs[0].threads == threads
