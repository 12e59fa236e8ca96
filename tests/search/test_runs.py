from pathlib import Path

import pytest

from siamtune.errors import InvalidInput, UsageError
from siamtune.search.runs import find_run, list_runs, new_run, write_text


def make(output: Path, name: str) -> Path:
    run = new_run(output, name, "full")
    write_text(run.facts_path, "{}")
    return run.folder


def test_a_run_is_found_by_path_by_name_and_as_the_latest(tmp_path: Path) -> None:
    first = make(tmp_path, "first")
    assert find_run(str(first), Path("nowhere")).folder == first
    assert find_run("first", tmp_path).folder == first
    assert find_run("latest", tmp_path).folder == first


def test_a_run_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    make(tmp_path, "first")
    with pytest.raises(InvalidInput, match="runs there: first"):
        find_run("fist", tmp_path)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a" * 65, "with space"])
def test_a_name_cannot_leave_the_output_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name must be"):
        new_run(tmp_path, name, "full")


def test_a_run_never_writes_into_another(tmp_path: Path) -> None:
    make(tmp_path, "first")
    with pytest.raises(UsageError, match="exists already"):
        new_run(tmp_path, "first", "full")


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    make(tmp_path, "first")
    (tmp_path / "other").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["first"]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("stem", "begins"),
    [("my space", "my-space-"), ("größe", "gr-e-"), ("_best", "best-"), ("ñ", "run-")],
)
def test_a_run_without_a_name_is_called_after_its_file_as_far_as_a_name_can_be(
    tmp_path: Path, stem: str, begins: str
) -> None:
    assert new_run(tmp_path, None, stem).name.startswith(begins)
