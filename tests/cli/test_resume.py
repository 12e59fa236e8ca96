"""What `siamtune resume` refuses before it touches a run, and what it says."""

import json
import subprocess
import sys
from pathlib import Path

from siamtune.search.lock import driving
from siamtune.search.runs import Run


def write_run(folder: Path) -> Run:
    folder.mkdir(parents=True)
    facts = {"name": folder.name, "kind": "search", "trials": 4, "data_spec": {"source": "demo"}}
    (folder / "run.json").write_text(json.dumps(facts))
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
