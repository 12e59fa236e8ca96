"""What `siamtune resume` refuses before it touches a run, and what it says."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer

from siamtune.cli import search as verbs
from siamtune.cli.options import parse_size
from siamtune.errors import InvalidInput, UsageError
from siamtune.launch.job import DataSpec
from siamtune.launch.search import SearchOptions, SearchResult
from siamtune.search.lock import driving
from siamtune.search.records import TrialRecord
from siamtune.search.runs import Run
from siamtune.search.space import load_space
from siamtune.search.stops import BUDGET, TERMINATED, VERB

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


def test_a_resumed_search_runs_as_it_was_asked_to_unless_told_otherwise(
    tmp_path: Path, pattern_people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    runs = tmp_path / "runs"
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "cache"))
    ran: list[SearchOptions] = []
    monkeypatch.setattr(
        verbs, "_search", lambda run, space, spec, facts, asked, *_: ran.append(asked)
    )
    verbs.search(
        space=str(tmp_path / "space.yaml"), data=str(pattern_people), name="run", output=runs,
        set_=["data.resolution_px=16", "data.crop=none"],
        concurrent=3, workers_per_trial=2, cpus_per_worker=0.5, gpus_per_worker=2.0,
        watchdog=0.0, disk_limit="2G",
    )  # fmt: skip
    verbs.resume("run", output=runs)
    verbs.resume("run", output=runs, workers_per_trial=1, disk_limit="0", trials="+1")
    verbs.resume("run", output=runs)
    first, again, other, last = ran
    assert again == first
    assert (first.concurrent, first.watchdog, first.disk_limit) == (3, 0.0, 2 * 2**30)
    assert vars(first.resources) == {"workers": 2, "cpus_per_worker": 0.5, "gpus_per_worker": 2.0}
    assert vars(other.resources) == {"workers": 1, "cpus_per_worker": 0.5, "gpus_per_worker": 2.0}
    assert (other.disk_limit, other.concurrent, other.trials) == (None, 3, first.trials + 1)
    assert last == other  # what was told otherwise stays

    # A space file says how many trials it is meant for: fewer are no reason to end sooner.
    for trials, wanted in ((2, other.trials), (500, 500)):
        study = f"version: 1\nstudy: {{trials: {trials}}}\n"
        (tmp_path / "new.yaml").write_text(SPACE.replace("version: 1\n", study))
        verbs.resume("run", output=runs, space=str(tmp_path / "new.yaml"))
        assert ran[-1].trials == wanted
    with pytest.raises(UsageError, match="--trials must be a number"):
        verbs.resume("run", output=runs, trials="²")


def test_a_run_whose_wishes_are_damaged_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "faces")
    facts = json.loads(run.facts_path.read_text())
    for asked in ({"workers_per_trial": "two"}, {"workers": 2}, "two"):
        run.facts_path.write_text(json.dumps({**facts, "asked": asked}))
        with pytest.raises(InvalidInput, match=r"run.json: must tell trials and data"):
            verbs.resume(str(run.folder))


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500M", 500 * 2**20), ("1.5G", 3 * 2**29), ("2T", 2**41)]
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "5GB", "-1G", "G", "1e3M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a size must be like"):
        parse_size(text)


@pytest.mark.parametrize(("ended", "code"), [(TERMINATED, 130), (VERB, 130), (BUDGET, None)])
def test_a_search_that_was_ended_says_so_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str, code: int | None
) -> None:
    run = write_run(tmp_path / "faces")
    records = {0: TrialRecord(0, "complete", {}, ({"epoch": 1, "val/auc": 0.9},))}
    monkeypatch.setattr(
        "siamtune.launch.search.run_search",
        lambda *given: SearchResult(run, records, records[0], ended, 1.0),
    )
    drawn: list[Run] = []
    monkeypatch.setattr(verbs, "show_finalists", drawn.append)
    space = load_space(str(run.space_path))
    options = SearchOptions(trials=4)
    left = nullcontext() if code is None else pytest.raises(typer.Exit)
    with left as exit_:
        verbs._search(
            run, space, DataSpec("demo"), {"data": "demo"}, options, verbs.AtTheEnd(), False
        )
    if exit_ is not None:
        assert exit_.value.exit_code == code
    assert drawn == ([] if ended == TERMINATED else [run])  # who wants out waits for no pictures
