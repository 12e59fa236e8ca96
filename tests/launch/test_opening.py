"""The test people of a run: asked the protocol's pairs, and every look at them is written down."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from siamtune.cli.export import export
from siamtune.cli.top import top
from siamtune.errors import DataError, InvalidInput
from siamtune.launch.evidence import data_spec
from siamtune.launch.opening import open_test
from siamtune.launch.worker import data_folds
from siamtune.report.openings import opening_lines
from siamtune.search.history import History, read_history
from siamtune.search.openings import FILE, read_openings
from siamtune.shipping.verifier import load
from siamtune.verification.metrics import roc_auc

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> History:
    shutil.copytree(trained_run, tmp_path / "run")
    return read_history(str(tmp_path / "run"), tmp_path)


def test_each_look_at_the_test_people_is_written_down_once(
    run: History, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.run.folder
    assert read_openings(run.run) == []
    assert "opened for the first time" in open_test(run)
    (opening,) = read_openings(run.run)
    # Asked by hand, picture by picture.
    (fold,) = data_folds(data_spec(run))
    from siamtune.config import trial_config
    from siamtune.launch.worker import prepare_faces

    verifier = load(folder)
    faces = prepare_faces(data_spec(run), trial_config(verifier.facts["config"]).data)
    vectors = verifier.embed_faces(faces.images)
    scores = -np.linalg.norm(vectors[fold.pairs.left] - vectors[fold.pairs.right], axis=1)
    auc = opening.measured["auc"]
    assert auc["value"] == pytest.approx(roc_auc(scores, fold.pairs.same))
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert set(faces.identities[fold.pairs.left]) <= set(faces.split.test)
    assert (opening.trial, opening.replica) == (0, None)
    assert (opening.protocol, opening.split) == ("identity-holdout", faces.split.digest)

    # The same model at the same threshold is the same look, whoever asks.
    assert "these are the same numbers" in open_test(run)
    export(str(folder), folder / "m", test=True)
    assert "these are the same numbers" in capsys.readouterr().err
    assert len(read_openings(run.run)) == 1
    document = json.loads((folder / "m" / "model.json").read_text())
    assert document["test"]["auc"] == auc
    # Another threshold is another one.
    export(str(folder), folder / "n", far=0.3, test=True)
    told = capsys.readouterr().err
    assert f"caution: test people opened 2 times; the first time on {opening.time}" in told
    first, second = read_openings(run.run)
    assert first == opening
    assert second.threshold != first.threshold
    lines = opening_lines([first, second])
    assert f"AUC {auc['value']:.4f} [{auc['low']:.4f}, {auc['high']:.4f}]" in lines[0]
    assert "opening 2 of 2" in lines[1]
    top(str(folder), as_json=True)
    assert len(json.loads(capsys.readouterr().out)["test"]) == 2
    top(str(folder))
    assert "opening 1 of 2" in capsys.readouterr().out


def test_a_model_that_may_have_seen_the_test_people_is_refused(run: History) -> None:
    other = {**run.facts, "data_spec": {**run.facts["data_spec"], "split_seed": 1}}
    elsewhere = History(run.run, other, run.space, run.records)
    with pytest.raises(DataError, match="the model may have seen test people"):
        open_test(elsewhere)
    assert not (run.run.folder / FILE).exists()


def test_a_damaged_line_is_not_passed_over(run: History) -> None:
    (run.run.folder / FILE).write_text("{}\n")
    with pytest.raises(InvalidInput, match=r"test.jsonl:1: must hold one opening"):
        open_test(run)
