"""`siamtune submit`, `status` and `logs`: run a command on a cluster and look after it."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import options
from siamtune.errors import UsageError

if TYPE_CHECKING:
    from siamtune.launch.jobs import Job

Address = Annotated[
    str,
    typer.Option(
        help="Dashboard of the cluster, e.g. http://127.0.0.1:8265 through a tunnel.",
        envvar="RAY_API_SERVER_ADDRESS",
    ),
]
JobId = Annotated[str, typer.Argument(help="What `siamtune submit` has printed.", metavar="ID")]


def submit(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(help="After `--`, what to run there, without `siamtune`.")
    ],
    address: Address,
    working_dir: Annotated[
        Path,
        typer.Option(
            help="Sent along, less what its .gitignore names; the command runs in a copy.",
            exists=True,
            file_okay=False,
        ),
    ] = Path("."),
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for the job's end.")
    ] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Run a command on a cluster:
    siamtune submit --address http://head:8265 -- search --space full --output /shared/runs

    Prints the job's id on stdout and its log on stderr; Ctrl-C leaves it running. The exit code is
    that of the command, 130 for a job that was stopped.
    """
    check_command(context, command)
    from siamtune.launch.jobs import find_job, follow_log, open_server, submit_job

    server = open_server(address)
    entrypoint = shlex.join(["python3", "-m", "siamtune", *command])
    job_id = submit_job(server, entrypoint, working_dir.absolute())
    if not as_json:
        print(job_id, flush=True)
    detached = detach
    if not detach:
        try:
            job = follow_log(server, job_id, _write_log)
        except KeyboardInterrupt:
            detached = True
    if detached:
        _tell_where(server.address, job_id)
        job = find_job(server, job_id)
    if as_json:
        _print_json("siamtune.job/1", {"address": server.address, **asdict(job)})
    if not detached:
        _tell_end(job)
        raise typer.Exit(exit_code(job))
    if not detach:
        raise typer.Exit(130)


def status(
    address: Address,
    job_id: Annotated[str | None, typer.Argument(help="Only this job.", metavar="ID")] = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List the jobs of a cluster, or look at one: siamtune status --address http://head:8265"""
    from siamtune.launch.jobs import find_job, list_jobs, open_server

    server = open_server(address)
    if job_id is None:
        jobs = list_jobs(server)
        if as_json:
            rows = [asdict(job) for job in jobs]
            _print_json("siamtune.jobs/1", {"address": server.address, "jobs": rows})
        elif jobs:
            _print_table(jobs)
        else:
            print(f"no job was submitted to {server.address} yet", file=sys.stderr)
        return
    job = find_job(server, job_id)
    if as_json:
        _print_json("siamtune.job/1", {"address": server.address, **asdict(job)})
        return
    for name, value in asdict(job).items():
        if value not in (None, ""):
            print(f"{name.replace('_', ' '):<10} {value}")


def logs(
    job_id: JobId,
    address: Address,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended, or Ctrl-C.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Print what a job has printed: siamtune logs ID --address http://head:8265 --follow"""
    from siamtune.launch.jobs import follow_log, open_server, read_log

    server = open_server(address)
    if not follow:
        print(read_log(server, job_id), end="", flush=True)
        return
    try:
        job = follow_log(server, job_id, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        _tell_where(server.address, job_id)
        raise typer.Exit(130) from None
    _tell_end(job)
    raise typer.Exit(exit_code(job))


def check_command(context: typer.Context, command: list[str]) -> None:
    """Read a command as the cluster will, so that a typing error is told before anything is sent.

    Raises:
        UsageError: its output would lie in the job's copy of the working folder and be lost.
    """
    from siamtune.search.store import is_url

    root = context.find_root()
    found: Any = root.command
    name, rest = "", list(command)
    while rest and hasattr(found, "resolve_command"):  # a group: siamtune itself, spaces, data
        name, found, rest = found.resolve_command(root, rest)
    parsed = found.make_context(name, rest, parent=root)
    output = parsed.params.get("output")
    if output is None:
        return
    # Where a run or model is told by its URL or path, no folder of runs is looked at.
    told = parsed.params.get("run") or parsed.params.get("model")
    looks_back = {"run", "model"} & set(parsed.params)
    if looks_back and (told is None or is_url(told) or Path(told).is_absolute()):
        return
    given = parsed.get_parameter_source("output").name == "COMMANDLINE"
    if not given or not Path(output).is_absolute():
        raise UsageError(
            "a job's --output must be a URL, or the absolute path of a folder that all hosts of "
            f"the cluster share, but got {str(output) if given else 'none'}; "
            f"e.g. siamtune submit ... -- {command[0]} --output /shared/runs"
        )


def exit_code(job: "Job") -> int:
    """That of the job's command; 130 for a job that was stopped, 1 where Ray does not say."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return 130
    return job.exit_code if job.exit_code and 0 < job.exit_code < 256 else 1


def _write_log(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _tell_where(address: str, job_id: str) -> None:
    for line in (
        f"job {job_id} goes on by itself",
        f"see it again:  siamtune logs {job_id} --address {address} --follow",
        f"how it stands: siamtune status {job_id} --address {address}",
        f"stop it:       ray job stop {job_id} --address {address}",
    ):
        print(line, file=sys.stderr, flush=True)


def _tell_end(job: "Job") -> None:
    why = f": {job.message.strip()}" if job.status != "SUCCEEDED" and job.message else ""
    took = f" after {job.seconds:.0f} s" if job.seconds is not None else ""
    print(f"job {job.id} {job.status.lower()}{took}{why}", file=sys.stderr, flush=True)


def _print_json(schema: str, document: dict[str, Any]) -> None:
    print(json.dumps({"schema": schema, **document}, indent=2))


def _print_table(jobs: "list[Job]") -> None:
    rows = [("id", "status", "started", "seconds", "command")]
    for job in jobs:
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        rows.append((job.id, job.status, job.started or "", seconds, job.command))
    options.print_columns(rows)
