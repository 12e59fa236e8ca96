import json
from pathlib import Path

import pytest

from siamtune.config import DEFAULTS
from siamtune.errors import InvalidInput
from siamtune.search.history import read_history
from siamtune.search.records import Recorder

SPACE = """version: 1
objective: {metric: val/eer, mode: min}
fixed: {epochs: 5}
space:
  optim.lr: {float: [1e-4, 1e-2], log: true}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"name": "faces", "data": "demo"}))
    recorder = Recorder(folder / "trials.jsonl")
    for number, eer in enumerate((0.3, 0.1, 0.2)):
        recorder.started(number, {"optim.lr": 0.001 * (number + 1)})
        recorder.epoch(number, {"epoch": 1, "val/eer": eer, "val/auc": eer})
        recorder.ended(number, "complete")
    recorder.close()
    return folder


def test_a_search_is_ranked_by_the_objective_of_its_own_space(run: Path) -> None:
    (run / "space.yaml").write_text(SPACE)
    history = read_history("faces", run.parent)
    assert [record.number for record in history.ranked] == [1, 2, 0]
    assert history.winner == history.trial(1)
    assert history.config(history.trial(1)) == DEFAULTS | {"epochs": 5, "optim.lr": 0.002}


def test_a_training_without_a_space_is_read_with_the_dials_it_was_given(run: Path) -> None:
    history = read_history(str(run), Path("elsewhere"))
    assert history.space.objective.metric == "val/auc"
    assert history.space.fixed == {"optim.lr": 0.001}
    assert history.space.dimensions == ()


def test_a_trial_that_is_not_there_is_told_with_those_that_are(run: Path) -> None:
    history = read_history("faces", run.parent)
    with pytest.raises(InvalidInput, match=r"TRIAL must be .* faces \(0 to 2\), but got 9"):
        history.trial(9)
    (run / "trials.jsonl").unlink()
    history = read_history("faces", run.parent)
    assert history.winner is None
    with pytest.raises(InvalidInput, match="none yet"):
        history.trial(0)


def test_reading_changes_nothing(run: Path) -> None:
    (run / "space.yaml").write_text(SPACE)
    with (run / "trials.jsonl").open("a") as file:
        file.write('{"event": "ep')  # a search that writes at this moment
    before = {path: path.read_bytes() for path in run.iterdir()}
    read_history("latest", run.parent)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
