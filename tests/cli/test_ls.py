import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from siamtune.cli.ls import ls
from siamtune.search.records import Recorder


def write_run(folder: Path, created: str = "2026-01-02T03:04:05+00:00", **facts: Any) -> Path:
    folder.mkdir(parents=True)
    known = {
        "name": folder.name,
        "kind": "search",
        "created": created,
        "data": "demo",
        "protocol": "identity-holdout",
        "trials": 4,
        "objective": {"metric": "val/auc", "mode": "max"},
    }
    (folder / "run.json").write_text(json.dumps(known | facts))
    return folder


def write_trials(folder: Path) -> None:
    recorder = Recorder(folder / "trials.jsonl")
    for number, auc in enumerate((0.7, 0.9, 0.8)):
        recorder.started(number, {"optim.lr": 0.1})
        recorder.epoch(number, {"epoch": 1, "val/auc": auc, "val/f1": auc - 0.2})
        recorder.epoch(number, {"epoch": 2, "val/auc": auc - 0.1, "val/f1": 0.1})
    recorder.ended(0, "complete")
    recorder.ended(1, "complete")
    recorder.close()


def test_each_run_is_a_line_with_its_trials_and_the_best_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trials(write_run(tmp_path / "second", created="2026-01-03T00:00:00+00:00"))
    write_run(tmp_path / "first", data="lfw")
    (tmp_path / "no_run").mkdir()
    ls(tmp_path)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "data", "protocol", "AUC", "F1", "trials", "created"]
    assert first.split()[:4] == ["first", "lfw", "identity-holdout", "0"]
    told = "second demo identity-holdout 0.9000 0.7000 3 1 running, 2 complete"
    assert " ".join(second.split()).startswith(told)


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trials(write_run(tmp_path / "faces"))
    ls(tmp_path, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "siamtune.ls/1"
    (run,) = document["runs"]
    assert run["name"] == "faces"
    assert run["states"] == {"running": 1, "complete": 2}
    assert run["best_trial"] == 1
    assert run["best"] == {"epoch": 1, "val/auc": 0.9, "val/f1": 0.7}


def test_a_damaged_run_is_told_and_the_others_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad") / "run.json").write_text("{")
    (write_run(tmp_path / "worse") / "trials.jsonl").write_text("no event\n{}\n")
    ls(tmp_path)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "good" in captured.out
    assert "bad: must be the folder of a run" in captured.err
    assert "trials.jsonl:1: must hold one trial event" in captured.err


def test_a_last_line_cut_by_a_crash_does_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "faces")
    write_trials(folder)
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"event": "epo')
    ls(tmp_path)
    assert "0.9000" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["", "missing"])
def test_where_there_is_no_run_it_says_how_to_start_one(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ls(tmp_path / folder)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "siamtune search" in captured.err
    ls(tmp_path / folder, as_json=True)
    assert json.loads(capsys.readouterr().out)["runs"] == []


def test_what_a_run_is_called_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "faces", data="[bold]my\x1b[31m\nfolder")
    ls(tmp_path)
    assert "[bold]my [31m folder" in capsys.readouterr().out


def test_a_thousand_trials_are_listed_in_a_moment_and_without_torch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "faces")
    with (folder / "trials.jsonl").open("w") as file:
        for trial in range(1000):
            started = {"event": "started", "trial": trial, "time": 1.0, "config": {"optim.lr": 1}}
            file.write(json.dumps(started) + "\n")
            for epoch in range(1, 11):
                metrics = {"epoch": epoch, "val/auc": trial / 1000, "val/f1": 0.5, "lr": 1e-3}
                event = {"event": "epoch", "trial": trial, "metrics": metrics}
                file.write(json.dumps(event) + "\n")
            ended = {"event": "ended", "trial": trial, "time": 2.0, "state": "complete"}
            file.write(json.dumps(ended) + "\n")
    code = (
        "import sys; from pathlib import Path; from siamtune.cli.ls import ls;"
        f"ls(Path({str(tmp_path)!r}));"
        "heavy = {'torch', 'ray', 'optuna', 'sklearn', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    started_at = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1000 complete" in done.stdout
    assert "0.9990" in done.stdout
    assert time.perf_counter() - started_at < 4  # about half a second on an idle machine
