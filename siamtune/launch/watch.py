"""Who watches over a trial while it trains, from within its own process.

A trial that does not report any more is ended, and says first where it hangs: the timer is a thread
of the C library `faulthandler`, which runs on when Python waits for a lock or in native code. What
has ended a process otherwise can be told only by its successor: whether the kernel has taken it for
want of memory, which another try would only repeat.
"""

import faulthandler
import json
import os
import socket
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import torch

from siamtune.launch.job import TrialJob
from siamtune.launch.worker import run_trial
from siamtune.training.distributed import first_told, rank

# The first report comes after pictures are prepared; of a later one the usual time is known.
FIRST_REPORT_S = 3600.0
LEAST_S = 120.0
HANGS = "hang.txt"  # in a trial's folder: where its processes stood when they were ended
DUMPED = "Timeout ("  # faulthandler's first word


def patience_s(epochs_s: Sequence[float], factor: float) -> float:
    """How long a report may take: `factor` times the usual epoch, two minutes at least."""
    return max(LEAST_S, factor * median(epochs_s)) if epochs_s else FIRST_REPORT_S


def run_watched(
    job: TrialJob, device: torch.device | None = None
) -> Generator[dict[str, Any], None, None]:
    """The results of `run_trial`; a process that takes too long for one of them ends itself.

    A trial whose last process was taken by the kernel for want of memory is not run again.
    """
    if job.retries and (reason := _memory_was_short(job)):
        yield {"state": "out_of_memory", "reason": reason}
        return
    log = _open_log(job)
    epochs_s: list[float] = []
    try:
        with closing(run_trial(job, device)) as results:
            while True:
                _sign(log)
                if job.watchdog:
                    wait_s = patience_s(epochs_s, job.watchdog)
                    faulthandler.dump_traceback_later(wait_s, exit=True, file=log)
                try:
                    result = next(results, None)
                finally:
                    faulthandler.cancel_dump_traceback_later()
                if result is None:
                    return
                if "metrics" in result:
                    epochs_s.append(result["metrics"]["seconds"])
                yield result
    finally:
        if log is not sys.__stderr__:
            log.close()
            with suppress(OSError):
                _log_path(job).unlink()
                job.folder.rmdir()  # if it holds nothing else


def hang_told(folder: Path) -> str | None:
    """Move what hanging processes of a trial have told to `hang.txt`; None if none has."""
    dumps = []
    for path in sorted(folder.glob("worker-*.log")):
        signature, dumped, stacks = path.read_text(errors="replace").partition(DUMPED)
        if dumped:
            dumps.append(f"{time.strftime('%F %T')} {path.stem} {signature}{dumped}{stacks}\n")
            path.unlink()
    if not dumps:
        return None
    with (folder / HANGS).open("a") as file:
        file.writelines(dumps)
    return f"it did not report for too long and was ended; where it hung: {folder / HANGS}"


def _memory_was_short(job: TrialJob) -> str | None:
    """Why the last processes of a trial are gone, if the kernel has taken one of them."""
    own = None
    for path in job.folder.glob("worker-*.log"):
        with suppress(OSError, ValueError, KeyError, IndexError):
            signature = json.loads(path.read_text().splitlines()[0])
            kills = _memory_kills() - signature["memory_kills"]
            if signature["host"] == socket.gethostname() and kills > 0:
                own = f"the kernel of {signature['host']} ended its process for want of memory"
    return first_told(own)


def _memory_kills() -> int:
    """How many processes the kernel of this host has ended for want of memory."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _log_path(job: TrialJob) -> Path:
    return job.folder / f"worker-{rank()}.log"


def _open_log(job: TrialJob) -> TextIO:
    try:
        # Not its parents: a host without the run folder must be told from one that shares it.
        job.folder.parent.mkdir(exist_ok=True)
        job.folder.mkdir(exist_ok=True)
        return _log_path(job).open("w")
    except OSError:  # the trial will say so itself when it writes its checkpoint
        assert sys.__stderr__ is not None
        return sys.__stderr__


def _sign(log: TextIO) -> None:
    """Write who runs the trial, for whoever finds it gone."""
    if log is sys.__stderr__:
        return
    signature = {
        "host": socket.gethostname(), "pid": os.getpid(), "memory_kills": _memory_kills(),
    }  # fmt: skip
    with suppress(OSError):
        log.seek(0)
        log.truncate()
        log.write(json.dumps(signature) + "\n")
        log.flush()
