"""What `siamtune resume` refuses before it touches a run, and what it says."""

import json
import subprocess
import sys
from pathlib import Path

from siamtune.search.lock import driving
from siamtune.search.runs import Run

SPACE = "version: 1\nspace: {optim.lr: {float: [1e-4, 1e-2]}}\n"


def write_run(folder: Path) -> Run:
    folder.mkdir(parents=True)
    facts = {"name": folder.name, "kind": "search", "trials": 4, "split": "x"}
    (folder / "run.json").write_text(json.dumps(facts | {"data_spec": {"source": "demo"}}))
    (folder / "space.yaml").write_text(SPACE)
    return Run(folder)


def resume(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "siamtune", "resume", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_run_that_still_runs_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "faces")
    before = run.facts_path.read_text()
    with driving(run):
        done = resume(str(run.folder), "--trials", "+50")
    assert done.returncode == 3
    assert "must be driven by one process at a time" in done.stderr
    assert run.facts_path.read_text() == before


def test_a_space_that_cannot_be_carried_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path / "faces")
    (tmp_path / "new.yaml").write_text(SPACE.replace("optim.lr", "loss.margin"))
    done = resume(str(run.folder), "--space", str(tmp_path / "new.yaml"))
    assert done.returncode == 3
    assert "optim.lr must be searched or fixed" in done.stderr
    assert run.space_path.read_text() == SPACE
    assert json.loads(run.facts_path.read_text())["trials"] == 4
