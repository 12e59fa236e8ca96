import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from siamtune.cli.board import board
from siamtune.errors import InvalidInput, UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tensorboard_runs_until_it_is_interrupted(number: signal.Signals, run: Path) -> None:
    port = free_port()
    code = (
        "from pathlib import Path; from siamtune.cli.board import board;"
        f"board('faces', {port}, Path({str(run.parent)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}/"
        give_up = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(url + "data/logdir", timeout=5) as answer:
                    assert str(run / "tensorboard") in answer.read().decode()
                    break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.1)
        os.kill(process.pid, number)
        _, told = process.communicate(timeout=30)
        assert url in told
        assert process.returncode == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=5)
    finally:
        process.kill()
        process.wait()


def test_a_taken_port_is_refused_with_another_one(run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} must be free.*--port"):
            board(str(run), port)


def test_what_is_no_run_is_refused(run: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'nothing' must be a run folder.*faces"):
        board("nothing", 6006, run.parent)


def test_a_run_that_has_not_begun_is_refused(run: Path) -> None:
    (run / "tensorboard").rmdir()
    with pytest.raises(InvalidInput, match="when the first trial starts"):
        board(str(run), 6006)
