"""A finalist's page in TensorBoard, read back with TensorBoard's own readers."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util.tensor_util import make_ndarray

from siamtune.cli.search import show_finalists as tell_finalists
from siamtune.launch.finalists import finalists_to_show, show_finalists
from siamtune.launch.gallery import open_gallery
from siamtune.launch.job import data_spec_of
from siamtune.report.finalists import write_finalist
from siamtune.report.gallery import Gallery
from siamtune.report.tensorboard import (
    TrialBoard,
    finalist_step,
    remove_finalist,
    trial_text,
)
from siamtune.search.history import read_history
from siamtune.search.runs import Run
from siamtune.shipping.verifier import load
from siamtune.verification.pairs import verification_pairs

ABOUT = {"data": "<img src=x>|`a`", "split": "abc"}


@pytest.fixture(scope="module")
def gallery(trained_run: Path) -> Gallery:
    facts = json.loads((trained_run / "run.json").read_text())
    spec = data_spec_of(facts)
    assert spec is not None
    return open_gallery(load(trained_run, device="cpu"), spec)


@pytest.fixture(scope="module")
def folder(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial that was trained, and shown twice, as before and after a resume."""
    folder = tmp_path_factory.mktemp("board") / "0007"
    board = TrialBoard(folder, {"optim.lr": 1e-3}, facts=ABOUT)
    for epoch in (1, 2, 3):
        board.epoch({"epoch": float(epoch), "val/auc": 0.6 + epoch / 10})
    board.end("stopped", best={"epoch": 3.0, "val/auc": 0.9})
    about = trial_text("stopped", None, {"epoch": 3.0, "val/auc": 0.9}, ABOUT)
    write_finalist(folder, gallery, 2, about)
    write_finalist(folder, gallery, 3, about)
    return folder


@pytest.fixture(scope="module")
def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    return accumulator.Reload()


def test_everything_is_there_once_and_the_curves_stay(read: EventAccumulator) -> None:
    tags = read.Tags()
    assert set(tags["images"]) >= {"curves/scores", "curves/roc", "curves/roc, rare errors"}
    assert set(tags["images"]) <= {
        "curves/scores", "curves/roc", "curves/roc, rare errors", "mistakes/called the same person",
        "mistakes/called two people",
    }  # fmt: skip
    for tag in tags["images"]:
        (image,) = read.Images(tag)
        assert image.step == 3
        drawn = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), 1)
        assert drawn.shape[:2] == (image.height, image.width)
        assert drawn.std() > 10
    assert [(point.step, round(point.value, 3)) for point in read.Scalars("val/auc")] == [
        (1, 0.7), (2, 0.8), (3, 0.9),
    ]  # fmt: skip


def test_the_curve_counts_the_pairs_of_the_search(read: EventAccumulator, gallery: Gallery) -> None:
    (event,) = read.Tensors("same person")
    assert read.SummaryMetadata("same person").plugin_data.plugin_name == "pr_curves"
    true_accepts, false_accepts, *_, precision, recall = make_ndarray(event.tensor_proto)
    faces, verifier = gallery.faces, gallery.verifier
    pairs = verification_pairs(faces.indices("validation"), faces.identities, seed=0)
    embeddings = verifier.embed_faces(faces.images)
    chances = verifier.calibration.probability(verifier.scores(embeddings, pairs.left, pairs.right))
    for place in range(0, 127, 9):
        accepted = np.floor(chances * 126) >= place
        assert true_accepts[place] == (accepted & pairs.same).sum()
        assert false_accepts[place] == (accepted & ~pairs.same).sum()
        assert recall[place] == pytest.approx(accepted[pairs.same].mean(), abs=1e-5)
        if accepted.any():
            assert precision[place] == pytest.approx(pairs.same[accepted].mean(), abs=1e-5)


def test_histograms_hold_the_scores_of_each_kind(read: EventAccumulator, gallery: Gallery) -> None:
    for tag, kind in (("same person", True), ("different people", False)):
        (event,) = read.Histograms(f"scores/{tag}")
        scores = gallery.scored.scores[gallery.scored.same == kind]
        told = event.histogram_value
        assert told.num == sum(told.bucket) == len(scores)
        assert (told.min, told.max) == pytest.approx((scores.min(), scores.max()))
        below = np.cumsum(told.bucket)
        for limit, count in zip(told.bucket_limit, below, strict=True):
            assert count == pytest.approx((scores < limit).sum(), abs=1)


def test_text_tells_what_the_trial_was_and_is_never_markup(read: EventAccumulator) -> None:
    for tag in ("trial", "finalist"):
        (event,) = read.Tensors(tag)
        text = event.tensor_proto.string_val[0].decode()
        assert event.step == 3
        for line in ("| state | stopped |", "| best epoch | 3 |", "| val/auc | 0.9000 |"):
            assert line in text
        assert "| split | abc |" in text
        assert "<img" not in text
        assert "&lt;img src=x&gt;&#124;&#96;a&#96;" in text


def test_the_projector_finds_an_embedding_a_name_and_a_face_each(
    folder: Path, gallery: Gallery
) -> None:
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (shown,) = config.embeddings
    embeddings = np.loadtxt(folder / shown.tensor_path, delimiter="\t")
    heading, *rows = (folder / shown.metadata_path).read_text().splitlines()
    sprite = cv2.imread(str(folder / shown.sprite.image_path))
    faces = gallery.faces
    validation = faces.indices("validation")
    assert heading == "person\tpicture"
    assert len(embeddings) == len(rows) == len(validation) == 20
    side = shown.sprite.single_image_dim[0]
    assert side == faces.images.shape[-1]
    assert sprite.shape == (5 * side, 5 * side, 3)
    by_name = {gallery.name(i): i for i in validation}
    for place, row in enumerate(rows):
        person, name = row.split("\t")
        index = by_name[name]
        assert person == faces.names[faces.identities[index]]
        assert np.allclose(
            embeddings[place], gallery.verifier.embed_faces(faces.images[[index]])[0], atol=1e-4
        )
        top, left = place // 5 * side, place % 5 * side
        drawn = sprite[top : top + side, left : left + side, 0]
        assert np.array_equal(drawn, faces.images[index, 0])


def test_what_is_taken_away_leaves_the_training_alone(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert finalist_step(copy) == 3
    remove_finalist(copy)
    assert finalist_step(copy) is None
    accumulator = EventAccumulator(str(copy)).Reload()
    assert len(accumulator.Scalars("val/auc")) == 3
    assert accumulator.Tags()["images"] == []
    assert len(list(copy.iterdir())) == 1


def test_a_run_gets_the_pages_that_it_lacks_and_only_those(
    trained_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "copy"))
    history = read_history(str(run), tmp_path)
    assert [record.number for record in finalists_to_show(history)] == [0]
    told: list[tuple[str, int, int]] = []
    assert show_finalists(history, lambda *what: told.append(what)) == []
    assert told[-1] == ("TensorBoard, finalists", 1, 1)
    page = run / "tensorboard" / "0000"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in page.iterdir())
    assert show_finalists(history) == []
    assert sorted((path.name, path.stat().st_mtime_ns) for path in page.iterdir()) == before

    remove_finalist(page)
    facts = json.loads((run / "run.json").read_text())
    facts["data_spec"]["source"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(facts))
    (problem,) = show_finalists(read_history(str(run), tmp_path))
    assert problem.startswith("trial 0: ")
    assert "gone" in problem
    assert finalist_step(page) is None


def test_a_search_outlives_whatever_goes_wrong_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_finalists(Run(tmp_path))  # there is no such run
    assert "TensorBoard lacks the page of a finalist: " in capsys.readouterr().err
