"""What TensorBoard shows is asked of TensorBoard, over the HTTP API that its pages use."""

import html
import io
import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from siamtune.report.tensorboard import TrialBoard, trial_hparams, write_experiment
from siamtune.search.dimensions import ChoiceDimension, FloatDimension, IntDimension

DIMENSIONS = [
    ChoiceDimension("model.architecture", ("hani", "resnet")),
    ChoiceDimension("model.unit_length", (False, True)),
    IntDimension("model.embedding_size", 16, 256),
    ChoiceDimension("data.images_per_person", (None, 2, 4)),
    ChoiceDimension("loss.name", ("contrastive", "triplet")),
    FloatDimension("loss.margin", 0.1, 4.0, log=True, when={"loss.name": ("contrastive",)}),
    ChoiceDimension("loss.mining", ("all", "hard"), when={"loss.name": ("triplet",)}),
]
COMMON = {"model.architecture": "hani", "model.unit_length": False, "model.embedding_size": 40}
CONTRASTIVE = trial_hparams(
    DIMENSIONS,
    COMMON | {"data.images_per_person": None, "loss.name": "contrastive", "loss.margin": 2.0},
)
TRIPLET = trial_hparams(
    DIMENSIONS,
    COMMON
    | {
        "model.unit_length": True,
        "data.images_per_person": 2,
        "loss.name": "triplet",
        "loss.mining": "hard",
    },
)


def metrics(epoch: int, auc: float) -> dict[str, float]:
    return {
        "epoch": float(epoch),
        "train/loss": 1 / epoch,
        "val/auc": auc,
        "val/f1": auc - 0.1,
        "val/eer": 1 - auc,
        "val/accuracy": auc - 0.05,
        "val/map@r": auc - 0.1,
        "lr": 1e-3,
        "images_per_second": 1000.0,
        "seconds": 2.0,
    }


def write_logs(folder: Path) -> None:
    write_experiment(folder, DIMENSIONS)
    board = TrialBoard(folder / "0000", CONTRASTIVE, config={"loss.margin": "<b>|2`"})
    for epoch in (1, 2, 3):
        board.epoch(metrics(epoch, 0.6 + epoch / 100))
    board.end("complete")
    board = TrialBoard(folder / "0001", TRIPLET)
    board.epoch(metrics(1, 0.7))
    board.end("failed")
    # Killed in its third epoch, whose point is on the disk but whose checkpoint is not.
    killed = TrialBoard(folder / "0002", CONTRASTIVE)
    for epoch in (1, 2, 3):
        killed.epoch(metrics(epoch, 0.5))
    again = TrialBoard(folder / "0002", CONTRASTIVE, first_epoch=3)
    for epoch in (3, 4):
        again.epoch(metrics(epoch, 0.8))
    write_experiment(folder, DIMENSIONS)  # as a resumed search does


def test_what_other_dials_were_declared_with_is_removed(tmp_path: Path) -> None:
    write_experiment(tmp_path, DIMENSIONS)
    (before,) = tmp_path.iterdir()
    write_experiment(tmp_path, DIMENSIONS)
    assert list(tmp_path.iterdir()) == [before]
    removed: list[Path] = []
    write_experiment(tmp_path, DIMENSIONS[1:], removed.append)  # after `resume --space`
    assert removed == [before]
    assert len(list(tmp_path.iterdir())) == 2


Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A function from a path of TensorBoard's API and its parameters to the answer."""
    logs = tmp_path_factory.mktemp("run") / "tensorboard"
    write_logs(logs)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def get(path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{port}/data/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                if len(get("runs")) == 4:
                    break
            except OSError:
                pass
            assert time.monotonic() < give_up, "TensorBoard does not answer"
            time.sleep(0.2)
        yield get
    finally:
        server.terminate()
        server.wait()


def session_groups(ask: Ask, **column: Any) -> list[dict[str, Any]]:
    statuses = ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN", "STATUS_FAILURE"]
    names = [{"hparam": dimension.name} for dimension in DIMENSIONS]
    columns = [{**name, **column} if name["hparam"] == column.get("hparam") else name
               for name in names]  # fmt: skip
    request = {
        "allowedStatuses": statuses,
        "colParams": [*columns, {"metric": {"tag": "val/auc"}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    answer = ask("plugin/hparams/session_groups", request=json.dumps(request))
    groups: list[dict[str, Any]] = answer["sessionGroups"]
    return groups


def test_every_dial_has_a_column_with_its_type_and_values(ask: Ask) -> None:
    experiment = ask("plugin/hparams/experiment", request="{}")
    columns = {
        info["name"]: (info["type"], info.get("domainDiscrete") or info.get("domainInterval"))
        for info in experiment["hparamInfos"]
    }
    assert columns == {
        "model.architecture": ("DATA_TYPE_STRING", ["hani", "resnet"]),
        "model.unit_length": ("DATA_TYPE_BOOL", [False, True]),
        "model.embedding_size": ("DATA_TYPE_FLOAT64", {"minValue": 16.0, "maxValue": 256.0}),
        "data.images_per_person": ("DATA_TYPE_FLOAT64", [2.0, 4.0]),
        "loss.name": ("DATA_TYPE_STRING", ["contrastive", "triplet"]),
        "loss.margin": ("DATA_TYPE_FLOAT64", {"minValue": 0.1, "maxValue": 4.0}),
        "loss.mining": ("DATA_TYPE_STRING", ["all", "hard", "n/a"]),
    }
    shown = {info["name"]["tag"]: info["displayName"] for info in experiment["metricInfos"]}
    assert shown["val/auc"] == "last AUC"
    assert shown["val/f1"] == "last F1"


def test_every_trial_is_a_row_with_its_values_its_metrics_and_its_end(ask: Ask) -> None:
    rows = {group["name"]: group for group in session_groups(ask)}
    assert list(rows) == ["0000", "0001", "0002"]
    active = {name: value for name, value in CONTRASTIVE.items() if value is not None}
    assert rows["0000"]["hparams"] == active
    assert rows["0000"]["hparams"]["loss.mining"] == "n/a"
    assert rows["0001"]["hparams"]["data.images_per_person"] == 2
    assert "loss.margin" not in rows["0001"]["hparams"]
    statuses = [row["sessions"][0]["status"] for row in rows.values()]
    assert statuses == ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN"]
    values = {m["name"]["tag"]: m["value"] for m in rows["0000"]["metricValues"]}
    assert values == pytest.approx(
        {
            "val/auc": 0.63,
            "val/f1": 0.53,
            "val/eer": 0.37,
            "val/accuracy": 0.58,
            "val/map@r": 0.53,
            "train/loss": 1 / 3,
        }
    )


@pytest.mark.parametrize("name", [dimension.name for dimension in DIMENSIONS])
def test_the_table_can_be_sorted_by_every_dial_though_some_are_inactive(name, ask: Ask) -> None:
    for order in ("ORDER_ASC", "ORDER_DESC"):
        assert len(session_groups(ask, hparam=name, order=order)) == 3


def test_a_retried_trial_shows_each_epoch_once(ask: Ask) -> None:
    points = ask("plugin/scalars/scalars", run="0002", tag="val/auc")
    shown = [(step, round(value, 3)) for _, step, value in points]
    assert shown == [(1, 0.5), (2, 0.5), (3, 0.8), (4, 0.8)]


def test_curves_are_drawn_over_epochs(ask: Ask) -> None:
    tags = ask("plugin/scalars/tags")
    curves = "train/loss val/auc val/f1 val/eer val/accuracy val/map@r lr images_per_second"
    assert set(tags["0000"]) == set(curves.split())
    assert "." not in tags  # the root holds the declaration only


def test_text_shows_values_as_they_are_and_never_as_markup(ask: Ask) -> None:
    (text,) = ask("plugin/text/text", run="0000", tag="configuration")
    assert "<b>" not in text["text"]
    assert "<td>loss.margin</td>\n<td><b>|2`</td>" in html.unescape(text["text"])
    (text,) = ask("plugin/text/text", run="0001", tag="configuration")
    assert "<td>loss.mining</td>\n<td>hard</td>" in text["text"]


def test_the_python_reader_withdraws_the_points_of_a_lost_epoch_too(tmp_path: Path) -> None:
    write_logs(tmp_path)
    accumulator = EventAccumulator(str(tmp_path / "0002"))
    accumulator.Reload()
    points = [(point.step, round(point.value, 3)) for point in accumulator.Scalars("val/auc")]
    assert points == [(1, 0.5), (2, 0.5), (3, 0.8), (4, 0.8)]


def test_a_full_disk_is_told_once_and_then_borne(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: io.FileIO("/dev/full", "w"))
    board = TrialBoard(tmp_path, CONTRASTIVE)
    board.epoch(metrics(1, 0.5))
    board.end("complete")
    (record,) = caplog.records
    assert "No space left on device" in record.message


def test_a_folder_that_cannot_be_made_is_borne_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    board = TrialBoard(tmp_path / "file" / "0000", CONTRASTIVE)
    board.epoch(metrics(1, 0.5))
    board.end("complete")
    assert len(caplog.records) == 1
