"""One configuration on several workers: what its record says when they are gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.launch import alone
from siamtune.launch.gang import GangDied
from siamtune.launch.job import DataSpec
from siamtune.search.records import read_records
from siamtune.search.runs import Run


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
