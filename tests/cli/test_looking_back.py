"""The verbs that read a run: top, show, diff and report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from siamtune.cli.main import app
from siamtune.errors import InvalidInput
from siamtune.search.records import Recorder

SPACE = """version: 1
fixed: {epochs: 20, model.width: 0.5}
space:
  optim.lr: {float: [1e-4, 1e-2], log: true}
  loss.name: {choice: [contrastive, triplet]}
  loss.margin: {float: [0.1, 4.0], log: true, when: {loss.name: contrastive}}
"""
DIALS = {"optim.lr": 0.002, "loss.name": "triplet"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"name": "faces", "data": "demo", "protocol": "holdout", "split": "5b1e"})
    )
    (folder / "space.yaml").write_text(SPACE)
    recorder = Recorder(folder / "trials.jsonl")
    facts = {"data": "demo", "protocol": "holdout", "split": "5b1e"}
    recorder.started(0, DIALS, facts)
    for epoch in range(1, 21):
        auc = 0.95 if epoch == 3 else 0.7 + epoch / 1000
        recorder.epoch(0, {"epoch": epoch, "val/auc": auc, "val/f1": 0.5, "lr": 1e-3})
    recorder.ended(0, "complete")
    recorder.started(1, {"optim.lr": 0.001, "loss.name": "contrastive", "loss.margin": 0.5}, facts)
    recorder.epoch(1, {"epoch": 1, "val/auc": 0.6, "val/f1": 0.4, "seconds": 3.0})
    recorder.ended(1, "stopped")
    recorder.started(2, DIALS)
    recorder.ended(2, "failed", "ValueError: \x1b[31mno faces")
    recorder.started(3, DIALS)
    recorder.close()
    (folder / "trials" / "0000").mkdir(parents=True)
    (folder / "trials" / "0000" / "best.safetensors").touch()
    (folder / "trials" / "0002").mkdir()
    (folder / "trials" / "0002" / "error.txt").write_text(
        "\n".join(f"line {n}" for n in range(30)) + "\nValueError: \x1b[31mno faces\n"
    )
    return folder


def call(run: Path, verb: str, *arguments: str) -> Result:
    result = CliRunner().invoke(app, [verb, "faces", *arguments, "--output", str(run.parent)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(run: Path, verb: str, *arguments: str) -> list[str]:
    result = call(run, verb, *arguments)
    assert result.exit_code == 0
    return [line.rstrip() for line in result.stdout.splitlines()]


def document(run: Path, verb: str, *arguments: str) -> Any:
    return json.loads(call(run, verb, *arguments, "--json").stdout)


def test_top_shows_the_best_first_and_what_they_were_measured_on(run: Path) -> None:
    shown = lines(run, "top")
    assert shown[0].split()[:5] == ["trial", "state", "epoch", "AUC", "F1"]
    assert shown[1].split()[1:6] == ["0", "complete", "20/20", "0.9500", "0.5000"]
    assert shown[2].split()[:5] == ["1", "stopped", "1/20", "0.6000", "0.4000"]
    assert "1 running, 1 complete, 1 stopped, 1 failed" in shown
    assert "measured on validation people of demo, holdout, split 5b1e" in shown


def test_top_shows_as_many_as_are_asked_for(run: Path) -> None:
    assert not any("stopped   1/20" in line for line in lines(run, "top", "-n", "1"))
    assert [t["trial"] for t in document(run, "top")["trials"]] == [0, 1]
    one = document(run, "top", "-n", "1")
    assert one["schema"] == "siamtune.top/1"
    assert [t["trial"] for t in one["trials"]] == [0]
    assert one["states"]["running"] == 1


def test_top_of_a_run_that_has_not_begun_says_so(run: Path) -> None:
    (run / "trials.jsonl").unlink()
    result = call(run, "top")
    assert result.stdout == ""
    assert "no trial has started yet" in result.stderr
    assert document(run, "top")["trials"] == []


def test_show_tells_the_dials_beside_their_defaults(run: Path) -> None:
    shown = lines(run, "show", "0")
    assert shown[0] == "trial 0 of faces: complete at epoch 20 of 20, 0 s of training"
    assert shown[1] == "best epoch 3: AUC 0.9500, F1 0.5000"
    rows = [line.split() for line in shown]
    assert ["optim.lr", "0.002", "0.001", "searched"] in rows
    assert ["model.width", "0.5", "1", "fixed"] in rows
    assert ["loss.margin", "-", "not", "active", "in", "this", "trial"] in rows
    assert any(f"{run / 'trials' / '0000' / 'best.safetensors'}" in line for line in shown)


def test_show_keeps_the_last_epochs_and_the_best_and_says_how_many_it_leaves_out(run: Path) -> None:
    shown = lines(run, "show", "0")
    numbers = [line.split()[0] for line in shown if line.split()[1:2] in (["0.9500"], ["0.7200"])]
    assert numbers == ["3", "20"]
    epochs = [line.split()[0] for line in shown if len(line.split()) == 4 and "0.5000" in line]
    assert epochs == ["3", *map(str, range(9, 21))]
    assert any("7 earlier epochs" in line for line in shown)


def test_show_of_a_failed_trial_ends_with_the_end_of_its_traceback(run: Path) -> None:
    shown = lines(run, "show", "2")
    assert shown[0] == "trial 2 of faces: failed"
    assert shown[1] == "reason: ValueError: [31mno faces"
    assert shown[-2:] == ["  line 29", "  ValueError:  [31mno faces"]
    assert "  line 19" in shown
    assert "  line 18" not in shown
    assert "\x1b" not in call(run, "show", "2").stdout


def test_show_as_json_holds_everything(run: Path) -> None:
    shown = document(run, "show", "1")
    assert shown["schema"] == "siamtune.show/1"
    assert shown["state"] == "stopped"
    assert shown["config"]["loss.margin"] == 0.5
    assert shown["config"]["optim.name"] == "adamw"
    assert shown["searched"] == ["loss.margin", "loss.name", "optim.lr"]
    assert shown["epochs"] == [{"epoch": 1, "val/auc": 0.6, "val/f1": 0.4, "seconds": 3.0}]
    assert len(document(run, "show", "0")["epochs"]) == 20
    assert document(run, "show", "2")["error"][-1].startswith("ValueError")


def test_a_trial_that_runs_is_shown_too(run: Path) -> None:
    shown = lines(run, "show", "3")
    assert shown[0] == "trial 3 of faces: running"
    assert document(run, "show", "3")["best"] is None


def test_diff_shows_only_dials_that_differ_and_the_gain(run: Path) -> None:
    shown = [line.split() for line in lines(run, "diff", "1", "0")]
    dials = {row[0]: row[1:] for row in shown if row and "." in row[0]}
    assert dials == {
        "optim.lr": ["0.001", "0.002"], "loss.name": ["contrastive", "triplet"],
        "loss.margin": ["0.5", "2"],
    }  # fmt: skip
    assert ["AUC", "0.6000", "0.9500", "+0.3500"] in shown
    compared = document(run, "diff", "1", "0")
    assert compared["schema"] == "siamtune.diff/1"
    assert compared["dials"]["optim.lr"] == [0.001, 0.002]
    assert compared["gain"]["val/auc"] == pytest.approx(0.35)


def test_diff_with_a_trial_that_measured_nothing_compares_the_dials_alone(run: Path) -> None:
    assert lines(run, "diff", "0", "2")[0] == "no dial differs"
    assert document(run, "diff", "0", "2")["gain"] == {}


@pytest.mark.parametrize("arguments", [("show", "9"), ("diff", "0", "9"), ("diff", "9", "0")])
def test_a_trial_that_is_not_there_is_refused(run: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"faces \(0 to 3\), but got 9"):
        call(run, *arguments)


def test_report_lies_in_the_run_folder_or_where_it_is_wanted(run: Path, tmp_path: Path) -> None:
    for arguments, path in (
        ((), run / "report.html"),
        (("--to", str(tmp_path / "a.html")), tmp_path / "a.html"),
        (("--to", str(tmp_path)), tmp_path / "report.html"),
    ):
        assert lines(run, "report", *arguments) == [str(path)]
        assert "0.9500" in path.read_text(encoding="utf-8")
    assert not list(run.glob(".report*"))


def test_report_into_nowhere_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"No such file or directory.*another --to"):
        call(run, "report", "--to", str(tmp_path / "no" / "r.html"))


@pytest.mark.parametrize("content", ["", "[]", '{"packages": 3}', "\x00"])
def test_a_damaged_environment_does_not_matter(run: Path, content: str) -> None:
    (run / "environment.json").write_text(content)
    assert call(run, "report").exit_code == 0


def test_looking_back_imports_neither_torch_nor_ray(run: Path) -> None:
    code = f"""
import sys
from siamtune.cli.main import app
for verb in (["top"], ["show"], ["diff"], ["report"]):
    numbers = {{"show": ["0"], "diff": ["0", "1"]}}.get(verb[0], [])
    app([*verb, "latest", *numbers, "--output", {str(run.parent)!r}], standalone_mode=False)
print({{"torch", "ray", "optuna", "cv2"}} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "set()"


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Two of three folds are done, asked in two ways."""
    folder = tmp_path / "faces"
    facts = {"name": "faces", "kind": "evaluate", "data": "lfw", "protocol": "lfw-view2",
             "split": "5b1e", "splits": ["5b1e", "6c2f", "7d30"], "trials": 3,
             "config": {"optim.lr": 0.002}}  # fmt: skip
    (folder / "folds" / "02").mkdir(parents=True)
    (folder / "folds" / "02" / "model.safetensors").touch()
    (folder / "run.json").write_text(json.dumps(facts))
    recorder = Recorder(folder / "trials.jsonl")
    answers = []
    for fold, auc in ((1, 0.9), (2, 0.96)):
        recorder.started(fold, {}, {"data": "lfw", "protocol": "lfw-view2", "split": "6c2f"})
        recorder.epoch(fold, {"epoch": 1, "val/auc": 0.99, "val/f1": 0.98})
        recorder.ended(fold, "complete")
        for method, flips in (("cosine", False), ("csls", True)):
            metrics = {"auc": auc, "f1": auc - 0.1, "accuracy": 0.8, "eer": 0.1}
            answers.append({"fold": fold, "method": method, "flip_average": flips,
                            "threshold_from": "validation", "pairs": 600,
                            "metrics": metrics})  # fmt: skip
    recorder.close()
    text = "".join(json.dumps(answer) + "\n" for answer in answers)
    (folder / "folds.jsonl").write_text(text)
    return folder


def test_top_of_an_evaluation_is_the_mean_over_its_folds(evaluation: Path) -> None:
    heading, first, second, where = lines(evaluation, "top")
    assert heading.split()[:4] == ["score", "folds", "AUC", "accuracy"]
    assert first.startswith("cosine ")
    assert second.startswith("csls, flip-averaged ")
    # 0.03 either side of the mean: a standard deviation of 0.0424, over the root of two.
    assert "2 of 3  0.9300 ± 0.0300" in first
    assert where == "test pairs of lfw, lfw-view2; mean over folds ± standard error"
    told = document(evaluation, "top")
    assert told["schema"] == "siamtune.top.evaluation/1"
    assert [method["folds"] for method in told["methods"]] == [2, 2]
    (evaluation / "folds.jsonl").unlink()
    result = call(evaluation, "top")
    assert (result.stdout, result.stderr) == ("", "faces: no fold is done yet\n")


def test_show_of_a_fold_names_its_model_and_what_it_answered(evaluation: Path) -> None:
    shown = lines(evaluation, "show", "2")
    assert shown[0].startswith("fold 2 of faces: complete")
    asked = "its 600 test pairs by csls, flip-averaged: AUC 0.9600, F1 0.8600, accuracy 0.8000, "
    assert asked + "EER 0.1000" in shown
    assert f"checkpoint: {evaluation / 'folds' / '02' / 'model.safetensors'}" in shown
    assert len(document(evaluation, "show", "2")["answers"]) == 2
    assert "no checkpoint is kept; those of the best trials are" in lines(evaluation, "show", "1")


def test_ls_shows_what_an_evaluation_tested_not_what_its_folds_validated(evaluation: Path) -> None:
    result = CliRunner().invoke(app, ["ls", "--output", str(evaluation.parent)])
    row = result.stdout.splitlines()[1].split()
    assert row[:6] == ["faces", "lfw", "lfw-view2", "0.9300", "0.8300", "2"]
    result = CliRunner().invoke(app, ["ls", "--output", str(evaluation.parent), "--json"])
    (told,) = json.loads(result.stdout)["runs"]
    assert (told["best"], told["best_trial"]) == (None, None)
    assert [method["method"] for method in told["methods"]] == ["cosine", "csls, flip-averaged"]


def test_a_report_is_of_a_search(evaluation: Path) -> None:
    with pytest.raises(InvalidInput, match="but faces is an evaluation; its numbers: siamtune top"):
        call(evaluation, "report")
