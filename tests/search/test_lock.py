import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from siamtune.errors import InvalidInput
from siamtune.search.lock import driving
from siamtune.search.runs import Run

HOLD = """
import sys, time
from pathlib import Path
from siamtune.search.lock import driving
from siamtune.search.runs import Run
with driving(Run(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_drives(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(InvalidInput) as raised, driving(Run(tmp_path)):
            pass
        assert f"process {process.pid} on {socket.gethostname()}" in str(raised.value)
        assert raised.value.exit_code == 3
    finally:
        process.kill()
        process.communicate()


def test_a_killed_driver_leaves_the_run_free(tmp_path: Path) -> None:
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with driving(Run(tmp_path)):
        assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()


def test_a_run_can_be_driven_again_after_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), driving(Run(tmp_path)):
        raise ZeroDivisionError
    assert not (tmp_path / "driver.json").exists()
    with driving(Run(tmp_path)):
        pass


def test_one_process_does_not_drive_a_run_twice(tmp_path: Path) -> None:
    with (
        driving(Run(tmp_path)),
        pytest.raises(InvalidInput, match=f"process {os.getpid()} on"),
        driving(Run(tmp_path)),
    ):
        pass
