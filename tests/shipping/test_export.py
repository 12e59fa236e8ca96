"""An exported folder says what is true of the model in it, and the model keeps its promises."""

import json
from pathlib import Path

import numpy as np
import pytest

from siamtune.cli.export import export
from siamtune.config import trial_config
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import open_source
from siamtune.errors import CheckpointError, DataError, InvalidInput, UsageError
from siamtune.search.config_file import read_config
from siamtune.search.records import Recorder
from siamtune.shipping.card import model_card
from siamtune.shipping.export import Wish, export_model
from siamtune.shipping.onnx_file import PACKAGES
from siamtune.shipping.verifier import BUILT_IN, load
from siamtune.training.checkpoint import read_checkpoint, write_checkpoint
from siamtune.verification.pairs import verification_pairs

ORIGIN = {"run": "tiny", "trial": 0}


@pytest.fixture(scope="module")
def checkpoint(trained_run: Path) -> Path:
    return trained_run / "best" / "model.safetensors"


@pytest.fixture(scope="module")
def faces(pattern_people: Path, trained_run: Path) -> Faces:
    config = trial_config(read_config(trained_run / "best.yaml"))
    return prepare(open_source(str(pattern_people)), config.data)


def test_the_folder_holds_the_model_its_facts_and_its_card(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out" / "model"
    export(str(trained_run), to, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    document = json.loads((to / "model.json").read_text())
    assert printed == {**document, "folder": str(to)}
    assert sorted(path.name for path in to.iterdir()) == [
        "README.md", "config.yaml", "model.json", "model.safetensors",
    ]  # fmt: skip
    assert [path.name for path in to.parent.iterdir()] == ["model"]
    assert document["schema"] == "siamtune.model/1"
    assert document["missing"] == []
    assert document["trained_on"] == {"people": 32, "pictures": 160}
    assert read_config(to / "config.yaml") == read_config(trained_run / "best.yaml")

    before, after = load(trained_run), load(to)
    assert document["threshold"]["score"] == after.threshold == before.threshold
    assert after.calibration == before.calibration
    assert document["calibration"]["slope"] == after.calibration.slope
    assert after.recipe == before.recipe
    assert {**document["crop"], "landmarks": None} == vars(after.recipe)
    auc = document["validation"]["auc"]
    assert auc["value"] == pytest.approx(before.facts["metrics"]["val/auc"])
    assert auc["low"] <= auc["value"] <= auc["high"]

    card = (to / "README.md").read_text()
    assert f"{auc['value']:.4f} [{auc['low']:.4f}, {auc['high']:.4f}]" in card
    for told in (document["split"], "identity-holdout", "Intended use", "24 x 24 px gray"):
        assert told in card
    assert "## Missing" not in card
    assert (to / "model.safetensors").stat().st_mode == (to / "README.md").stat().st_mode


@pytest.mark.parametrize("far", [0.025, 0.1, 0.3])
def test_the_threshold_for_a_rate_keeps_it_on_the_pairs_it_was_set_on(
    checkpoint: Path, faces: Faces, far: float, tmp_path: Path
) -> None:
    tested = verification_pairs(faces.indices("test"), faces.identities, seed=0)
    document = export_model(
        checkpoint, tmp_path / "m", ORIGIN, faces=faces, wish=Wish(far=far, test=tested)
    )
    assert document["threshold"]["far_set"] == far
    verifier = load(tmp_path / "m")
    for part in ("validation", "test"):
        pairs = verification_pairs(faces.indices(part), faces.identities, seed=0)
        accepted = {True: 0, False: 0}
        asked = {True: 0, False: 0}
        embeddings = verifier.embed_faces(faces.images)
        for left, right, same in zip(pairs.left, pairs.right, pairs.same, strict=True):
            score = -np.sqrt(((embeddings[left] - embeddings[right]) ** 2).sum())
            asked[bool(same)] += 1
            accepted[bool(same)] += bool(score >= verifier.threshold)
        measured = document[part]
        assert measured["far"]["value"] == pytest.approx(accepted[False] / asked[False])
        assert measured["tar"]["value"] == pytest.approx(accepted[True] / asked[True])
        assert measured["pairs"] == {"same": asked[True], "different": asked[False]}
    assert document["validation"]["far"]["value"] <= far
    interval = document["validation"]["far"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert "| | validation people | test people |" in (tmp_path / "m" / "README.md").read_text()


def test_a_rate_that_the_pairs_cannot_resolve_is_refused_and_leaves_nothing(
    checkpoint: Path, faces: Faces, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="with 40 negative pairs"):
        export_model(checkpoint, tmp_path / "m", ORIGIN, faces=faces, wish=Wish(far=1e-3))
    assert list(tmp_path.iterdir()) == []


def test_without_the_data_it_exports_what_the_checkpoint_has_and_says_so(
    trained_run: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    (moved / "best").mkdir(parents=True)
    for name in ("trials.jsonl", "best/model.safetensors"):
        (moved / name).write_bytes((trained_run / name).read_bytes())
    facts = json.loads((trained_run / "run.json").read_text())
    facts["data_spec"]["source"] = str(tmp_path / "gone")
    (moved / "run.json").write_text(json.dumps(facts))

    export(str(moved), tmp_path / "m")
    told = capsys.readouterr().err
    assert "missing: intervals and the false accept rate" in told
    assert "gone" in told
    assert "gone" in (tmp_path / "m" / "README.md").read_text()
    document = json.loads((tmp_path / "m" / "model.json").read_text())
    recorded = load(checkpoint).facts["metrics"]
    assert document["validation"]["auc"] == {
        "value": recorded["val/auc"], "low": None, "high": None,
    }  # fmt: skip
    used = load(tmp_path / "m").threshold
    assert used == load(checkpoint).threshold == load(checkpoint).facts["threshold"]
    # Accuracy was recorded at the threshold of training people.
    at_this = [line for line in document["missing"] if line.startswith("accuracy and F1 at this")]
    assert bool(at_this) == (used != recorded["threshold"])
    with pytest.raises(DataError, match="--far needs the data of the run"):
        export(str(moved), tmp_path / "far", far=0.1)


def test_other_people_than_those_of_the_training_are_not_measured(
    checkpoint: Path, pattern_people: Path, faces: Faces, tmp_path: Path
) -> None:
    config = trial_config(load(checkpoint).facts["config"])
    others = prepare(open_source(str(pattern_people)), config.data, split_seed=1)
    document = export_model(checkpoint, tmp_path / "m", ORIGIN, faces=others)
    assert "the data is no longer that of the training" in document["missing"][0]
    assert document["validation"]["auc"]["low"] is None


def test_a_folder_that_holds_something_is_left_alone(
    checkpoint: Path, faces: Faces, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    export_model(checkpoint, tmp_path / "m", ORIGIN, faces=None, why_no_faces="no data")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="new or an empty folder"):
        export_model(checkpoint, tmp_path / "m", ORIGIN, faces=faces)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


def test_the_current_folder_is_not_replaced(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="another folder than the current one"):
        export_model(checkpoint, Path("."), ORIGIN, faces=None, why_no_faces="no data")


def test_the_card_counts_the_pictures_that_were_trained_on(
    checkpoint: Path, pattern_people: Path, tmp_path: Path
) -> None:
    trained = read_checkpoint(checkpoint)
    trained.facts["config"]["data.images_per_person"] = 2
    few = tmp_path / "few.safetensors"
    write_checkpoint(few, trained.parts, trained.facts)
    config = trial_config(trained.facts["config"])
    faces = prepare(open_source(str(pattern_people)), config.data)
    told = export_model(few, tmp_path / "m", ORIGIN, faces=faces)["trained_on"]
    assert told["pictures"] == 2 * told["people"] < len(faces.indices("train"))


def test_a_broken_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        export_model(tmp_path / "bad.safetensors", tmp_path / "m", ORIGIN, faces=None)
    assert not (tmp_path / "m").exists()


def test_trials_without_a_checkpoint_are_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be the number of a trial"):
        export(str(trained_run), tmp_path / "m", 7)
    run = tmp_path / "empty"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(InvalidInput, match="must hold a trained trial"):
        export(str(run), tmp_path / "m")


def test_a_trial_besides_the_winner_is_exported_from_its_own_checkpoint(
    trained_run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "search"
    (run / "best").mkdir(parents=True)
    (run / "run.json").write_text((trained_run / "run.json").read_text())
    recorder = Recorder(run / "trials.jsonl")
    for number, auc in enumerate((0.7, 0.9, 0.8)):
        recorder.started(number, {})
        recorder.epoch(number, {"epoch": 1, "val/auc": auc})
        recorder.ended(number, "complete")
    recorder.close()
    read = read_checkpoint(checkpoint)
    for number, path in ((1, "best/model.safetensors"), (2, "trials/0002/best.safetensors")):
        facts = {**read.facts, "metrics": {**read.facts["metrics"], "epoch": 10.0 + number}}
        write_checkpoint(run / path, read.parts, facts)

    for trial, number in ((None, 1), (1, 1), (2, 2)):
        export(str(run), tmp_path / f"m{trial}", trial)
        document = json.loads((tmp_path / f"m{trial}" / "model.json").read_text())
        assert (document["run"], document["trial"]) == ("search", number)
        assert document["epoch"] == 10 + number
        exported = read_checkpoint(tmp_path / f"m{trial}" / "model.safetensors")
        assert set(exported.parts) <= {"model", "normalization"}
    with pytest.raises(InvalidInput, match=r"trial 0 must have a checkpoint.*kept are .*: 2$"):
        export(str(run), tmp_path / "m0", 0)


def test_without_the_packages_for_onnx_it_says_how_to_get_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'siamtune\[onnx\]'"):
        export_model(checkpoint, tmp_path / "m", ORIGIN, faces=None, wish=Wish(onnx=True))
    assert not (tmp_path / "m").exists()


def test_the_folder_says_what_onnx_file_it_holds(checkpoint: Path, tmp_path: Path) -> None:
    for package in PACKAGES:
        pytest.importorskip(package)
    document = export_model(checkpoint, tmp_path / "m", ORIGIN, faces=None, wish=Wish(onnx=True))
    assert (tmp_path / "m" / document["onnx"]["file"]).is_file()
    assert document["onnx"]["input"] == ["pictures", 1, 24, 24]
    assert "model.onnx" in (tmp_path / "m" / "README.md").read_text()


def test_the_card_of_the_model_that_comes_along_is_what_its_facts_give() -> None:
    for name in (None, "lfw"):
        verifier = load(name, device="cpu")
        assert verifier.path.parent == BUILT_IN
    document = json.loads((BUILT_IN / "model.json").read_text())
    assert (BUILT_IN / "README.md").read_text() == model_card(document, "lfw")
    assert document["threshold"]["score"] == verifier.threshold
    assert {**document["crop"], "landmarks": None} == vars(verifier.recipe)
