"""Jobs on a real head: sent, followed, looked at, refused."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siamtune.errors import ClusterError, UsageError
from siamtune.launch.jobs import JobServer, _package_copy, follow_log, open_server

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a head that wants a token, and the environment of who has it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "HOME": str(tmp_path),  # no token of the person who tests
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    port = free_port()
    # Ports and a folder of its own: another Ray on this machine is neither used nor disturbed.
    # The folder is a short one, because paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [
            "ray", "start", "--head", "--block", "--num-cpus=1", "--port=0",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
            "--dashboard-agent-listen-port=0", f"--temp-dir={folder}",
        ]  # fmt: skip
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_for(port)
            yield f"http://127.0.0.1:{port}", environment
            process.terminate()


def wait_for(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 1).close()
        time.sleep(0.2)
    raise TimeoutError(f"no dashboard on port {port}")


def siamtune(
    *arguments: str, env: dict[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "siamtune", *arguments],
        env={**env, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.ray
def test_a_job_runs_with_the_code_and_files_of_its_sender_and_hands_back_its_end(
    head: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, environment = head
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "mine.yaml").write_text("version: 1\nspace: {optim.lrr: {float: [1, 2]}}\n")

    sent = siamtune(
        "submit", "--address", address, "--", "spaces", "check", "mine.yaml",
        env=environment, cwd=folder,
    )  # fmt: skip
    assert sent.returncode == 3, sent.stderr  # that of `spaces check`, for a faulty space
    job_id = sent.stdout.strip()
    assert len(sent.stdout.splitlines()) == 1
    assert "optim.lrr" in sent.stderr

    # Without the mode in the environment a token is found all the same.
    found = {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}
    listed = siamtune("status", "--address", address, "--json", env=found)
    (row,) = json.loads(listed.stdout)["jobs"]
    assert (row["id"], row["status"], row["exit_code"]) == (job_id, "FAILED", 3)
    assert row["command"] == "python3 -m siamtune spaces check mine.yaml"

    printed = siamtune("logs", job_id, "--address", address, env=environment)
    assert "optim.lrr" in printed.stdout

    unknown = siamtune("logs", "nobody", "--address", address, env=environment)
    assert unknown.returncode == 3
    assert "'nobody' must be the id of a job" in unknown.stderr
    stranger = {**environment, "RAY_AUTH_TOKEN": "0" * 32}
    refused = siamtune("status", "--address", address, env=stranger)
    assert refused.returncode == 6
    assert "wants the cluster's token, but got another one" in refused.stderr


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "ftp://head", "head", "http://", "http://head:many", "auto"]
)
def test_an_address_that_is_no_dashboard_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: Any) -> None:
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr("socket.create_connection", nobody)
    expected = ClusterError if address in ("head", "auto") else UsageError
    with pytest.raises(expected, match=r"must (be that of a Ray dashboard|answer)"):
        open_server(address)


def test_what_is_sent_is_the_package_as_a_wheel_holds_it(tmp_path: Path) -> None:
    copy = _package_copy(tmp_path)
    assert (copy / "launch" / "jobs.py").read_bytes() == (
        ROOT / "siamtune" / "launch" / "jobs.py"
    ).read_bytes()
    assert (copy / "search_spaces" / "full.yaml").is_file()
    assert not list(copy.rglob("__pycache__"))


class CutConnection:
    """A job whose log is cut off in the middle of a word and then begins anew, as Ray's does."""

    def __init__(self, running: int) -> None:
        self.tails = [["epoch 1\nepo"], ["epoch 1\n", "epoch 2\n", "done\n"]]
        self.left = running  # tails, before the job has ended

    async def tail_job_logs(self, job_id: str) -> Any:
        self.left = max(0, self.left - 1)
        for text in self.tails.pop(0):
            yield text
        if self.tails:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, job_id: str) -> Any:
        return SimpleNamespace(
            submission_id=job_id,
            status="RUNNING" if self.left else "SUCCEEDED",
            entrypoint="",
            start_time=1000,
            end_time=None if self.left else 5000,
            driver_exit_code=0,
            message="",
        )


@pytest.mark.parametrize("running", [2, 1])  # 1: the job ends while the connection is cut
def test_a_cut_connection_is_taken_up_where_it_was(
    monkeypatch: pytest.MonkeyPatch, running: int
) -> None:
    monkeypatch.setattr("siamtune.launch.jobs.POLL_S", 0.01)
    written: list[str] = []
    job = follow_log(JobServer("http://head:8265", CutConnection(running)), "first", written.append)
    assert "".join(written) == "epoch 1\nepoch 2\ndone\n"
    assert (job.status, job.seconds) == ("SUCCEEDED", 4.0)
