"""Other scores for trained embeddings: each as it is fitted, the best one kept and exported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from siamtune.cli.export import export
from siamtune.cli.rescore import rescore
from siamtune.config import trial_config
from siamtune.data.prepare import prepare
from siamtune.data.sources import open_source
from siamtune.errors import InvalidInput, UsageError
from siamtune.search.history import read_history
from siamtune.search.records import Recorder
from siamtune.shipping.find import trial_checkpoint
from siamtune.shipping.verifier import load
from siamtune.training.checkpoint import read_checkpoint, write_checkpoint
from siamtune.verification.metrics import roc_auc
from siamtune.verification.pairs import verification_pairs
from siamtune.verification.scorers import SCORERS, fit_scorer


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "tiny"))


def test_the_best_score_on_validation_people_becomes_the_runs(
    run: Path, pattern_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_checkpoint(run / "best" / "model.safetensors")
    rescore(str(run), as_json=True)
    document = json.loads(capsys.readouterr().out)
    rows = {(row["scorer"], row["flip"]): row["metrics"]["auc"] for row in document["scores"]}
    assert set(rows) == {(name, flip) for name in SCORERS for flip in (False, True)}
    assert rows["l2", False] == pytest.approx(before.facts["metrics"]["val/auc"])  # as trained
    best = document["best"]["scorer"], document["best"]["flip"]
    assert rows[best] == max(rows.values()) > rows["l2", False]

    verifier = load(run)
    config = trial_config(verifier.facts["config"])
    assert (verifier.scorer_name, verifier.flip) == best
    assert verifier.flip == config.verification.flip
    faces = prepare(open_source(str(pattern_people)), config.data)
    pairs = verification_pairs(faces.indices("validation"), faces.identities, seed=0)
    embeddings = verifier.embed_faces(faces.images)
    scores = verifier.scores(embeddings, pairs.left, pairs.right)
    assert roc_auc(scores, pairs.same) == pytest.approx(rows[best], abs=1e-6)
    train = faces.indices("train")
    fitted = fit_scorer(best[0], embeddings[train], faces.identities[train], 0)
    expected = fitted.score(embeddings[pairs.left], embeddings[pairs.right])
    assert scores == pytest.approx(expected, rel=1e-3, abs=1e-3)
    measured = verifier.facts["metrics"]
    right = {
        at: float(np.mean((scores >= at) == pairs.same))
        for at in (*scores, measured["threshold"], verifier.threshold)
    }
    # Measured at a threshold of training people, used with the best of validation people, who are
    # strangers to the scorer as those are whom it will meet.
    assert right[measured["threshold"]] == pytest.approx(measured["val/accuracy"], abs=1e-3)
    assert right[verifier.threshold] == max(right.values())


def test_a_fitted_score_is_exported_with_its_model(
    run: Path, pattern_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rescore(str(run), scorer=["joint_bayesian"])
    assert "best: trial 0 by joint_bayesian" in capsys.readouterr().out
    export(str(run), tmp_path / "model")
    told = json.loads((tmp_path / "model" / "model.json").read_text())
    assert told["scorer"] == "joint_bayesian"
    assert "what `joint_bayesian`, fitted on" in (tmp_path / "model" / "README.md").read_text()
    pictures = [pattern_people / "person 03" / f"{number}.png" for number in (0, 1)]
    before, after = load(run), load(tmp_path / "model")
    assert after.score(*pictures) == before.score(*pictures)
    rescore(str(run), scorer=["l2"])  # the distance that was trained
    assert load(run).scorer is None


def test_a_model_that_holds_training_people_says_so(
    run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    rescore(str(run), scorer=["csls"])
    export(str(run), tmp_path / "model")
    assert "mean embedding of each training person" in (tmp_path / "model/README.md").read_text()
    pictures = [pattern_people / "person 03" / f"{number}.png" for number in (0, 1)]
    assert load(tmp_path / "model").score(*pictures) == load(run).score(*pictures)
    rescore(str(run), scorer=["lda"])
    export(str(run), tmp_path / "other")
    assert "each training person" not in (tmp_path / "other/README.md").read_text()


def test_the_best_model_is_that_of_the_trial_it_says(run: Path, tmp_path: Path) -> None:
    # The winner's network spoilt, another trial's is the better one.
    shipped = run / "best" / "model.safetensors"
    other = run / "trials" / "0001" / "best.safetensors"
    other.parent.mkdir(parents=True)
    shutil.copy(shipped, other)
    spoilt = read_checkpoint(shipped)
    noise = {name: torch.randn_like(value) for name, value in spoilt.parts["model"].items()
             if value.is_floating_point()}  # fmt: skip
    parts = {**spoilt.parts, "model": {**spoilt.parts["model"], **noise}}
    write_checkpoint(shipped, parts, spoilt.facts)
    recorder = Recorder(run / "trials.jsonl")
    recorder.started(1, {"optim.lr": 0.004})
    recorder.epoch(1, {"epoch": 1, "val/auc": 0.1})
    recorder.ended(1, "complete")
    recorder.close()

    rescore(str(run), scorer=["cosine"])
    history = read_history(str(run), run.parent)
    assert history.winner is not None
    assert history.winner.number == 0
    assert trial_checkpoint(history, None) == (1, shipped)
    assert trial_checkpoint(history, 1) == (1, shipped)
    with pytest.raises(InvalidInput, match="trial 0 must have a checkpoint"):
        trial_checkpoint(history, 0)
    export(str(run), tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["trial"] == 1
    about = (run / "best.yaml").read_text().splitlines()[0]
    assert about.startswith("# trial 1 by cosine")


def test_a_fixed_threshold_is_that_of_the_trained_distance_alone(
    run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    shipped = run / "best" / "model.safetensors"
    trained = read_checkpoint(shipped)
    trained.facts["config"]["verification.distance_threshold"] = 0.125
    write_checkpoint(shipped, trained.parts, trained.facts)
    rescore(str(run), scorer=["lda"])
    assert load(run).threshold != -0.125
    export(str(run), tmp_path / "lda")
    told = json.loads((tmp_path / "lda" / "model.json").read_text())
    assert told["threshold"]["from"].startswith("highest accuracy")
    rescore(str(run), scorer=["l2"])
    assert load(run).threshold == -0.125
    export(str(run), tmp_path / "l2")
    told = json.loads((tmp_path / "l2" / "model.json").read_text())
    assert told["threshold"]["from"] == "configuration"


def test_numbers_of_the_score_before_are_not_told_of_the_new_one(run: Path) -> None:
    shipped = run / "best" / "model.safetensors"
    assert "val/map@r" in read_checkpoint(shipped).facts["metrics"]
    rescore(str(run), scorer=["lda"])
    metrics = read_checkpoint(shipped).facts["metrics"]
    assert "val/map@r" not in metrics
    assert {"epoch", "train/loss", "val/auc", "threshold"} <= set(metrics)


def test_looking_changes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = run / "best" / "model.safetensors"
    before = model.read_bytes()
    rescore(str(run), scorer=["cosine", "lda"], keep=False)
    assert "flip-averaged" in capsys.readouterr().out
    assert model.read_bytes() == before
    with pytest.raises(UsageError, match="--scorer must be one of"):
        rescore(str(run), scorer=["euclid"])
