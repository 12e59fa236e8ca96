"""What Tab offers, asked as a shell asks it: by the environment, of a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.search.records import Recorder

HEAVY = ("torch", "ray", "optuna", "cv2", "sklearn", "numpy")
LINES = {
    "siamtune st": ["stop", "status"],
    "siamtune top ": ["latest", "other", "faces-2", "faces-1"],
    "siamtune report faces": ["faces-2", "faces-1"],
    "siamtune show faces-1 ": ["0", "1", "12"],
    "siamtune diff faces-1 0 1": ["1", "12"],
    "siamtune stop faces-1 ": ["1"],
    "siamtune export faces-1 ": ["0"],
    "siamtune show other ": [],
    "siamtune show missing ": [],
    "siamtune search --space q": ["quickstart"],
    "siamtune search --space full --set model.dr": ["model.dropout="],
    "siamtune spaces show s": ["seed2016"],
    "siamtune search --data o": ["olivetti"],
    "siamtune predict --model fac": ["faces-2", "faces-1"],
    "siamtune top --output elsewhere fa": [],
}
# A shell calls the command anew for each line; here one process answers them all, and says at last
# what it has imported and how long it took.
PROGRAM = f"""
import json, os, sys, time
from contextlib import redirect_stdout
from io import StringIO
from siamtune.cli.main import app
answers = []
for environment in json.load(sys.stdin):
    os.environ.update(environment)
    with redirect_stdout(StringIO()) as answer:
        try:
            app(prog_name="siamtune")
        except SystemExit:
            pass
    answers.append(answer.getvalue())
print(json.dumps([answers, [m for m in {HEAVY!r} if m in sys.modules], time.process_time()]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    for number, name in enumerate(("faces-1", "faces-2", "other")):
        run = folder / "runs" / name
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"name": name}))
        os.utime(run / "run.json", (number, number))
    recorder = Recorder(folder / "runs" / "faces-1" / "trials.jsonl")
    for trial in (0, 1, 12):
        recorder.started(trial, {})
        recorder.epoch(trial, {"epoch": 3, "val/auc": 0.5})
    recorder.ended(0, "complete")
    recorder.ended(12, "stopped")
    recorder.close()
    for trial in ("0000", "0012"):
        (folder / "runs" / "faces-1" / "trials" / trial).mkdir(parents=True)
    (folder / "runs" / "faces-1" / "trials" / "0000" / "best.safetensors").touch()
    (folder / "runs" / "other" / "trials.jsonl").write_text("{damaged\n")
    return folder


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[Any]:
    """Answers to all lines as bash asks, then to one as zsh does; imports; seconds."""
    asks = []
    for line in LINES:
        words = line.split(" ")
        asks.append({"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)})
        asks[-1]["_SIAMTUNE_COMPLETE"] = "complete_bash"
    zsh = "siamtune stop faces-1 "
    asks.append({"_SIAMTUNE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": zsh})
    asks.append({"_SIAMTUNE_COMPLETE": "source_bash"})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(asks), capture_output=True, text=True, cwd=folder, check=True,
        env={name: value for name, value in os.environ.items() if name != "SIAMTUNE_OUTPUT"},
    )  # fmt: skip
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("line", LINES)
def test_tab_offers_what_fits(asked: list[Any], line: str) -> None:
    assert asked[0][list(LINES).index(line)].split() == LINES[line]


def test_zsh_is_told_what_a_trial_is(asked: list[Any]) -> None:
    assert '"1":"running at epoch 3"' in asked[0][-2]


def test_bash_is_taught_to_ask(asked: list[Any]) -> None:
    assert "_SIAMTUNE_COMPLETE=complete_bash" in asked[0][-1]
    assert "complete -o default" in asked[0][-1]  # files where nothing is offered


def test_it_is_quick(asked: list[Any]) -> None:
    _, imported, seconds = asked
    assert imported == []
    assert seconds < 3, "of processor time, for all lines together"


def test_every_dial_is_offered() -> None:
    from siamtune.cli.complete import dials

    assert {offer for offer, _ in dials("")} == {f"{name}=" for name in DEFAULTS}
    assert dials("loss.distance=l") == [("loss.distance=l1", ""), ("loss.distance=l2", "")]
