"""What is told before a job is sent, and what its end means for the shell."""

from pathlib import Path

import pytest
import typer

from siamtune.cli.jobs import check_command, exit_code
from siamtune.errors import UsageError
from siamtune.launch.jobs import Job


@pytest.fixture
def context() -> typer.Context:
    from siamtune.cli.main import app

    return typer.Context(typer.main.get_command(app), info_name="siamtune")


@pytest.mark.parametrize(
    "line",
    [
        "search --space full --output /shared/runs",
        "resume latest --trials +5 --output /shared/runs",
        "search --space full --output s3://bucket/runs",
        "spaces check full",
        "ls --output /shared/runs",
        "resume s3://bucket/runs/first",
        "top /shared/runs/first",
        "predict a.jpg b.jpg",
        "predict a.jpg b.jpg --model /shared/my-model",
    ],
)
def test_a_command_that_a_cluster_can_run_passes(
    context: typer.Context, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path))
    check_command(context, line.split())


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("search --space full", "none"),
        ("search --space full --output runs", "runs"),
        ("resume latest", "none"),
        ("top runs/first", "none"),
        ("predict a.jpg b.jpg --model first", "none"),
        ("ls", "none"),
    ],
)
def test_an_output_that_would_be_lost_with_the_job_is_refused(
    context: typer.Context, line: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_OUTPUT", "/here/not/there")  # of this machine, not of the cluster
    with pytest.raises(UsageError, match=f"but got {got};"):
        check_command(context, line.split())


@pytest.mark.parametrize("line", ["search --spase full", "sarch", "spaces chek full"])
def test_a_typing_error_is_told_before_anything_is_sent(context: typer.Context, line: str) -> None:
    with pytest.raises(Exception, match="No such"):
        check_command(context, line.split())


@pytest.mark.parametrize(
    ("status", "of_command", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 4, 4),
        ("FAILED", None, 1),
        ("FAILED", -9, 1),
        ("STOPPED", None, 130),
    ],
)
def test_the_exit_code_is_that_of_the_command(
    status: str, of_command: int | None, expected: int
) -> None:
    job = Job("a", status, "", None, None, of_command, "")
    assert exit_code(job) == expected
