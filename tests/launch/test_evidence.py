"""What a report and a diff know besides the records, of real answers to real pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from siamtune.cli.diff import diff
from siamtune.cli.report import report
from siamtune.errors import DataError
from siamtune.launch import evidence as module
from siamtune.launch.evidence import gather
from siamtune.report.evidence import SEED, SIAMTUNE, default_trials
from siamtune.search.history import History, read_history
from siamtune.search.records import Recorder
from siamtune.verification.kept import keep_answers, read_answers
from siamtune.verification.metrics import roc_auc

FEW = ("chance", "pixels/cosine", "untrained/cosine")


@pytest.fixture
def run(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a second trial, which judges some pairs otherwise than the first."""
    monkeypatch.setattr("siamtune.launch.evaluate.BASELINE_METHODS", FEW)
    folder = tmp_path / "tiny"
    shutil.copytree(trained_run, folder)
    kept = read_answers(folder, 0)
    assert kept is not None
    scores = kept.answers.scores.copy()
    scores[:3], scores[-2:] = kept.answers.threshold - 1, kept.answers.threshold + 1
    people = np.zeros(max(kept.pairs.left.max(), kept.pairs.right.max()) + 1, np.int64)
    keep_answers(folder, 1, kept.pairs, people, kept.split, scores, kept.answers.threshold, 2)
    recorder = Recorder(folder / "trials.jsonl")
    recorder.started(1, {"optim.lr": 0.5})
    recorder.epoch(1, {"epoch": 2, "val/auc": 0.5})
    recorder.ended(1, "complete")
    recorder.started(2, {})
    recorder.ended(2, "failed", "no memory")
    recorder.close()
    return folder


def history(run: Path) -> History:
    return read_history(str(run), run.parent)


def test_evidence_is_measured_once_and_then_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gather(history(run), 5)
    assert list(first.baselines) == list(FEW)
    assert first.baselines["chance"].metrics["auc"] == 0.5
    kept = read_answers(run, 0)
    assert kept is not None
    answers = kept.answers
    assert first.trials[0].metrics["auc"] == roc_auc(answers.scores, answers.same)
    assert first.trials[0].intervals["auc"].low < first.trials[0].metrics["auc"]
    assert {standing.pairs for standing in first.baselines.values()} == {len(answers.same)}
    assert first.notes == ()

    monkeypatch.setattr(module, "standing", None)
    monkeypatch.setattr(module, "_ask_baselines", None)
    again = gather(history(run), 5)
    assert again.baselines["pixels/cosine"].metrics == first.baselines["pixels/cosine"].metrics
    assert again.trials[0].intervals == first.trials[0].intervals
    (run / "baselines.json").unlink()
    assert list(gather(history(run), 5).baselines) == list(FEW)  # from the machine's cache


def test_baselines_of_another_split_are_measured_anew(run: Path) -> None:
    (run / "baselines.json").write_text(json.dumps({"version": 1, "split": "x", "methods": {}}))
    assert list(gather(history(run), 5, faces=False).baselines) == list(FEW)


def test_data_that_are_gone_cost_the_faces_and_are_told(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    facts["data_spec"]["source"] = str(run / "nowhere")
    (run / "run.json").write_text(json.dumps(facts))
    found = gather(history(run), 5)
    assert set(found.trials) == {0, 1}
    assert not found.strangers
    assert [note.partition(":")[0] for note in found.notes] == ["no baselines", "no faces"]


def test_the_defaults_are_known_by_their_dials(run: Path) -> None:
    known = history(run)
    assert default_trials(known) == {}
    recorder = Recorder(run / "trials.jsonl")
    from siamtune.report.evidence import default_configs

    for number, dials in enumerate(default_configs().values(), start=7):
        recorder.started(number, {**dials, "epochs": 2, "seed": 9})
        recorder.epoch(number, {"epoch": 1, "val/auc": 0.4})
        recorder.ended(number, "complete")
    recorder.close()
    assert default_trials(history(run)) == {SIAMTUNE: 7, SEED: 8}


def test_the_report_trains_missing_defaults_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**dict(history(run).config(history(run).records[0])), "epochs": 1, "seed": 5}
    monkeypatch.setattr(module, "default_configs", lambda: {SIAMTUNE: small})
    monkeypatch.setattr(module, "total_epochs", lambda space: 1)
    monkeypatch.setattr(module, "default_trials", lambda history: {})
    for _ in range(2):
        report(str(run), train_defaults=True, baselines=False, faces=False, threads=1)
    captured = capsys.readouterr()
    assert captured.err.count("training siamtune's default, 1 epochs") == 1
    page = (run / "report.html").read_text()
    assert page.count("<td>siamtune&#x27;s default</td>") == 1
    assert "data:image" not in page


def test_diff_counts_and_draws_the_pairs_that_only_one_judges_rightly(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = read_answers(run, 0)
    assert kept is not None
    right = (kept.answers.scores >= kept.answers.threshold) == kept.answers.same
    wrong_now = int(right[:3].sum() + right[-2:].sum())
    diff(str(run), 0, 1, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["mcnemar"] == {
        "first_only": wrong_now, "second_only": 0, "p_value": 2 * 0.5**wrong_now,
    }  # fmt: skip
    assert document["auc_gain"]["low"] <= document["auc_gain"]["high"] <= 0
    picture = Path(document["picture"])
    assert picture == run / "diff-0-1.svg"
    drawn = picture.read_text()
    assert drawn.count("data:image/jpeg;base64,") == 2 * wrong_now
    assert "Only trial 0 is right" in drawn
    assert "Nowhere is only trial 1 right" in drawn
    diff(str(run), 0, 1, faces=False)
    printed = capsys.readouterr().out
    assert f"only A is right on {wrong_now}, only B on 0" in printed
    assert "more than other people explain" in printed or "they are tied" in printed
    assert "measured on validation people of pattern_people0, identity-holdout, split" in printed


def test_diff_says_which_trial_has_kept_no_answers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diff(str(run), 0, 2)
    assert (
        "trial 2 of tiny has kept no answers (it has measured nothing)" in capsys.readouterr().out
    )
    (run / "trials" / "0000" / "scores.npz").unlink()
    diff(str(run), 0, 1, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["mcnemar"] is None
    assert "trial 0 of tiny has kept no answers (an older siamtune" in document["missing"][0]


def test_pictures_that_were_exchanged_are_not_shown(run: Path) -> None:
    kept = read_answers(run, 0)
    assert kept is not None
    album = module.open_album(module.data_spec(history(run)))
    album.require(kept)
    kept.answers.left[0] += 1
    with pytest.raises(DataError, match="but it holds others now"):
        album.require(kept)
