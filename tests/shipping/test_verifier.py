"""A model in use gives what training saw, whatever the pictures come as."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import siamtune
from siamtune.cli.train import train
from siamtune.config import trial_config
from siamtune.data.prepare import prepare
from siamtune.data.sources import open_source
from siamtune.errors import CheckpointError, DataError
from siamtune.shipping.verifier import Verifier, load
from siamtune.training.checkpoint import read_checkpoint, write_checkpoint
from siamtune.training.evaluation import plan_evaluation


@pytest.fixture(scope="module")
def verifier(trained_run: Path) -> Verifier:
    return load(trained_run)


def picture(people: Path, person: int, number: int) -> Path:
    return people / f"person {person:02d}" / f"{number}.png"


def rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1]


def test_embeddings_and_scores_are_those_of_the_training(
    verifier: Verifier, trained_run: Path, pattern_people: Path
) -> None:
    checkpoint = read_checkpoint(trained_run / "best" / "model.safetensors")
    config = trial_config(checkpoint.facts["config"])
    source = open_source(str(pattern_people))
    faces = prepare(source, config.data)
    embeddings = verifier.embed(list(source.pictures))
    assert embeddings.shape == (200, 16)
    assert embeddings.dtype == np.float32
    assert np.allclose(embeddings, verifier.embed_faces(faces.images), atol=1e-6)

    evaluation = plan_evaluation(faces, faces.indices("train"), config, torch.device("cpu"))
    result = evaluation.run(verifier.model, verifier.normalization)
    assert result.metrics["auc"] == checkpoint.facts["metrics"]["val/auc"] > 0.8
    assert result.shipped_threshold == pytest.approx(verifier.threshold)
    assert result.calibration.slope == pytest.approx(verifier.calibration.slope, rel=1e-3)


def test_two_crops_of_one_picture_are_the_same_and_two_people_are_not(
    verifier: Verifier, pattern_people: Path
) -> None:
    one, other = rgb(picture(pattern_people, 0, 0)), rgb(picture(pattern_people, 1, 0))
    alike = verifier.verify(one[1:, 1:], one[:-1, :-1])
    different = verifier.verify(one, other)
    assert alike.same
    assert not different.same
    assert alike.score > alike.threshold == verifier.threshold > different.score
    assert alike.probability > 0.5 > different.probability
    assert verifier.score(one, one) == pytest.approx(0.0, abs=1e-3)
    assert verifier.score(one, other) == verifier.score(other, one) == different.score


def test_the_score_is_minus_the_distance_that_training_used(
    verifier: Verifier, pattern_people: Path
) -> None:
    a, b = (picture(pattern_people, person, 0) for person in (3, 4))
    left, right = verifier.embed([a, str(b)])
    assert verifier.score(a, b) == pytest.approx(-float(np.sqrt(((left - right) ** 2).sum())))


def test_paths_arrays_and_any_file_format_of_one_picture_embed_alike(
    verifier: Verifier, pattern_people: Path, tmp_path: Path
) -> None:
    path = picture(pattern_people, 5, 2)
    pixels = rgb(path)
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), pixels[:, :, ::-1].astype(np.uint16) * 257)
    clear = tmp_path / "clear.png"
    cv2.imwrite(str(clear), np.dstack([pixels[:, :, ::-1], np.full((48, 40), 255, np.uint8)]))
    same = verifier.embed([path, str(path), pixels, deep, clear])
    assert np.allclose(same, same[0], atol=1e-6)

    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    thrice = np.repeat(gray[:, :, None], 3, axis=2)
    assert np.allclose(*verifier.embed([gray, thrice]), atol=1e-6)


def test_a_picture_does_not_depend_on_its_company(
    verifier: Verifier, pattern_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(pattern_people.glob("*/*.png"))[:20]
    together = verifier.embed(files)
    monkeypatch.setattr("siamtune.shipping.verifier.PICTURES_AT_ONCE", 3)
    told: list[tuple[str, int, int]] = []
    apart = verifier.embed(files, lambda *what: told.append(what))
    assert np.allclose(together, apart, atol=1e-5)
    assert told[-1] == ("embedding pictures", 20, 20)
    assert len(told) == 7
    assert verifier.embed([]).shape == (0, 16)


def test_what_cannot_be_read_is_named(
    verifier: Verifier, pattern_people: Path, tmp_path: Path
) -> None:
    good, broken = picture(pattern_people, 0, 0), tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken.jpg cannot be read"):
        verifier.verify(good, broken)
    embeddings, unreadable = verifier.embed_readable([broken, good, tmp_path / "absent.jpg"])
    assert unreadable == [0, 2]
    assert np.array_equal(embeddings, verifier.embed([good]))


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_pictures_are_refused(verifier: Verifier, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match="a picture must be a path or a uint8 array"):
        verifier.embed([wrong])


@pytest.mark.parametrize(
    "one", ["a.jpg", np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)]
)
def test_one_picture_is_not_taken_for_a_list(verifier: Verifier, one: str | np.ndarray) -> None:
    with pytest.raises(DataError, match="takes a list of pictures"):
        verifier.embed(one)


def test_loading_changes_no_random_number(trained_run: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(trained_run / "best")
    assert torch.equal(torch.rand(1), expected)


def test_foreign_truncated_and_incomplete_files_give_one_message(
    trained_run: Path, tmp_path: Path
) -> None:
    whole = trained_run / "best" / "model.safetensors"
    path = tmp_path / "model.safetensors"
    content = whole.read_bytes()
    for wrong in (b"", content[:100], content[:-1], b"\x80\x04" + content):
        path.write_bytes(wrong)
        with pytest.raises(CheckpointError, match="must be a checkpoint written by siamtune"):
            load(tmp_path)
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="must be a checkpoint written by siamtune"):
        load(path)

    checkpoint = read_checkpoint(whole)
    for lost in ("config", "face_box", "metrics", "calibration"):
        facts = {name: value for name, value in checkpoint.facts.items() if name != lost}
        write_checkpoint(path, checkpoint.parts, facts)
        with pytest.raises(CheckpointError, match=f"no '{lost}'; train or export it again"):
            load(path)
    write_checkpoint(path, {}, checkpoint.facts)
    with pytest.raises(CheckpointError, match="must hold a whole model"):
        load(path)

    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="siamtune export"):
        load(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="there is no such file"):
        load(tmp_path / "absent")


def test_a_colour_model_sees_colours_and_keeps_its_fitted_normalization(
    pattern_people: Path, trained_run: Path, tmp_path: Path
) -> None:
    dials = ["model.width=0.25", "data.resolution_px=16", "data.grayscale=false",
             "data.crop=none", "data.normalization=zca", "batch.images=32"]  # fmt: skip
    train(data=str(pattern_people), epochs=1, set_=dials, threads=1, name="colour",
          output=trained_run.parent)  # fmt: skip
    verifier = siamtune.load(str(trained_run.parent / "colour"))
    path = picture(pattern_people, 0, 0)
    plain, swapped = verifier.embed([rgb(path), rgb(path)[:, :, ::-1].copy()])
    assert not np.allclose(plain, swapped, atol=1e-3)
    assert np.allclose(plain, verifier.embed([path])[0], atol=1e-6)

    checkpoint = read_checkpoint(trained_run.parent / "colour" / "best" / "model.safetensors")
    lost = tmp_path / "lost.safetensors"
    write_checkpoint(lost, {"model": checkpoint.parts["model"]}, checkpoint.facts)
    with pytest.raises(CheckpointError, match="the normalization must be"):
        load(lost)


def test_importing_siamtune_stays_light() -> None:
    code = (
        "import sys, siamtune, json; heavy = {'torch', 'numpy', 'cv2'} & set(sys.modules);"
        "assert 'load' in siamtune.__all__; print(json.dumps(sorted(heavy)));"
        "assert siamtune.load and siamtune.Verifier"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = siamtune.lod
