"""Jobs: commands that run on the head of a distant cluster, with the sender's siamtune.

What is spoken is Ray's job API over HTTP, at the dashboard's address.
"""

import asyncio
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from siamtune.errors import ClusterError, InvalidInput, UsageError
from siamtune.launch.cluster import DEFAULT_TOKEN, check_token_file
from siamtune.search.shipped import PACKAGE, shipped_folder

DEFAULT_PORTS = {"http": 80, "https": 443}
CONNECT_TIMEOUT_S = 10.0
AGENT_TIMEOUT_S = 60.0
POLL_S = 1.0
MOST_CUTS = 3
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class JobServer:
    address: str  # http://host:port
    client: Any  # ray.job_submission.JobSubmissionClient


@dataclass(frozen=True)
class Job:
    id: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    command: str
    started: str | None  # ISO 8601, UTC
    seconds: float | None  # from its start until it ended, or until now
    exit_code: int | None  # of the command, once it has ended
    message: str

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def open_server(address: str) -> JobServer:
    """Connect to the dashboard of a cluster, e.g. http://head:8265.

    A token is taken from where Ray looks for one: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH,
    else ~/.ray/auth_token.

    Raises:
        UsageError: the address is not one of HTTP.
        InvalidInput: the token lies open.
        ClusterError: nobody answers there, or the token is missing or wrong.
    """
    url = urlsplit(address if "://" in address else f"http://{address}")
    try:
        port = url.port or DEFAULT_PORTS.get(url.scheme)
    except ValueError:  # not a number
        port = None
    if url.scheme not in DEFAULT_PORTS or port is None or not url.hostname:
        raise UsageError(
            f"--address must be that of a Ray dashboard, like http://head:8265, but got {address!r}"
        )
    address = f"{url.scheme}://{url.netloc}"
    try:
        # Ray's own requests wait without end where a firewall drops them.
        socket.create_connection((url.hostname, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(_unreachable(address, error)) from None

    check_token_file()
    if "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"  # Ray's job client does not look for one by itself
    # A RAY_ADDRESS for other commands would be preferred to the one that was asked for.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # they tell of every package and connection
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    with _told(address):
        return JobServer(address, JobSubmissionClient(address))


def submit_job(server: JobServer, entrypoint: str, working_dir: Path | None = None) -> str:
    """Send a shell command with this siamtune and a folder of files it needs; return the job's id.

    The cluster must have siamtune's dependencies; its own siamtune, if any, is overshadowed.

    Raises:
        InvalidInput: the folder cannot be sent.
        ClusterError: the cluster refuses.
    """
    with tempfile.TemporaryDirectory(prefix="siamtune-job-") as scratch:
        runtime_env: dict[str, Any] = {"py_modules": [str(_package_copy(Path(scratch)))]}
        if working_dir is not None:
            # Run folders are what a job makes, not what it needs.
            runtime_env |= {"working_dir": str(working_dir), "excludes": ["runs/"]}
        with _told(server.address):
            try:
                return _send(server, entrypoint, runtime_env)
            except ValueError as error:
                raise InvalidInput(
                    f"{working_dir} must be a folder small enough to be sent, but {error}; choose "
                    "a smaller one with --working-dir, or list what is not needed in a .gitignore"
                ) from None


def find_job(server: JobServer, job_id: str) -> Job:
    """
    Raises:
        InvalidInput: there is no job of this id.
        ClusterError: the cluster does not answer.
    """
    with _told(server.address, job_id):
        return _job(server.client.get_job_info(job_id))


def list_jobs(server: JobServer) -> list[Job]:
    """All jobs that were submitted to the cluster since it began, oldest first."""
    with _told(server.address):
        details = server.client.list_jobs()
    jobs = [_job(each) for each in details if each.submission_id]
    return sorted(jobs, key=lambda job: job.started or "")


def read_log(server: JobServer, job_id: str) -> str:
    """What a job has printed so far.

    Raises:
        InvalidInput: there is no job of this id.
    """
    with _told(server.address, job_id):
        return str(server.client.get_job_logs(job_id))


def follow_log(server: JobServer, job_id: str, write: Callable[[str], object]) -> Job:
    """Write what a job prints as it comes, until it has ended; a cut connection is taken up again.

    Raises:
        InvalidInput: there is no job of this id.
        ClusterError: the cluster no longer answers.
    """
    from aiohttp import ClientError

    written = 0

    async def tail() -> None:
        nonlocal written
        position = 0  # every tail begins at the log's first character
        async for text in server.client.tail_job_logs(job_id):
            fresh = text[max(0, written - position) :]
            position += len(text)
            written = max(written, position)
            write(fresh)

    find_job(server, job_id)
    cut_at_the_end = 0
    while True:
        whole = True
        try:
            asyncio.run(tail())
        except (ClientError, RuntimeError):
            whole = False
            time.sleep(POLL_S)  # find_job tells whether the cluster is gone
        job = find_job(server, job_id)
        # What it wrote last, while the connection was cut, is asked for again.
        if job.ended and (whole or cut_at_the_end == MOST_CUTS):
            return job
        cut_at_the_end += job.ended
        time.sleep(POLL_S)


def _send(server: JobServer, entrypoint: str, runtime_env: dict[str, Any]) -> str:
    """Submit; a head that has just started answers before it can run a job, so ask again."""
    deadline = time.monotonic() + AGENT_TIMEOUT_S
    while True:
        try:
            return str(server.client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def _package_copy(scratch: Path) -> Path:
    """Copy siamtune the way a wheel holds it: with its spaces inside."""
    copy = scratch / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shipped_folder(), copy / "search_spaces", dirs_exist_ok=True)
    return copy


def _has_token() -> bool:
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return bool(named) or DEFAULT_TOKEN.expanduser().is_file()


def _job(details: Any) -> Job:
    began, ended = details.start_time, details.end_time  # ms since 1970
    until = ended or time.time() * 1000
    return Job(
        id=details.submission_id or details.job_id,
        status=str(details.status),
        command=details.entrypoint,
        started=datetime.fromtimestamp(began / 1000, UTC).isoformat(timespec="seconds")
        if began
        else None,
        seconds=round((until - began) / 1000, 1) if began else None,
        exit_code=details.driver_exit_code,
        message=(details.message or "").partition(", last available logs")[0],
    )


def _unreachable(address: str, error: Exception) -> str:
    return (
        f"a Ray dashboard must answer at {address}, but {error}; check the address, and that the "
        "tunnel or port-forward to it is open"
    )


@contextmanager
def _told(address: str, job_id: str = "") -> Iterator[None]:
    """Turn what Ray's client raises into a message for a person."""
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException

    try:
        yield
    except AuthenticationError as error:
        missing = "required" in str(error)
        raise ClusterError(
            f"{address} wants the cluster's token, but "
            f"{'got none' if missing else 'got another one'}; put the token into a file that only "
            "you can read and name it in RAY_AUTH_TOKEN_PATH"
        ) from None
    except (ConnectionError, RequestException) as error:
        raise ClusterError(_unreachable(address, error)) from None
    except RuntimeError as error:
        if job_id and "404" in str(error):
            raise InvalidInput(
                f"{job_id!r} must be the id of a job at {address}, but there is none of this id; "
                f"list them with: siamtune status --address {address}"
            ) from None
        raise ClusterError(f"{address} refused: {error}") from None
