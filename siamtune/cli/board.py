"""`siamtune board`: TensorBoard on a run."""

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from siamtune.cli import options
from siamtune.errors import InvalidInput, SiamtuneError, UsageError

if TYPE_CHECKING:
    from siamtune.search.runs import Run

HOST = "127.0.0.1"
FETCH_EVERY_S = 20.0


def board(
    run: options.RunName,
    port: Annotated[int, typer.Option(help="Where to listen.", min=1, max=65535)] = 6006,
    output: options.Output = Path("runs"),
    verbose: options.Tracebacks = False,
) -> None:
    """Open a run in TensorBoard, until Ctrl-C: siamtune board latest"""
    from siamtune.search.runs import find_run

    found = find_run(run, output)
    if not found.tensorboard.is_dir():
        raise InvalidInput(
            f"{found.tensorboard} must hold the logs of {found.name}, but there is no such folder; "
            "it is made when the first trial starts"
        )
    _check_port(port)
    _show_finalists(found)
    print(f"TensorBoard: http://{HOST}:{port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(found.tensorboard)]
    command += ["--host", HOST, "--port", str(port)]
    # Words, no shell: whatever the folder is called, it is one of them.
    server = subprocess.Popen(  # nosec B603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    if found.url is not None:
        Thread(target=_keep_up, args=(found.url, output), daemon=True).start()
    try:
        _, complaints = server.communicate()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return
    if server.returncode > 0:
        raise SiamtuneError(f"TensorBoard ended by itself: {complaints.strip()[-1000:]}")


def _show_finalists(run: "Run") -> None:
    """Draw what a search that was cut off, or trained elsewhere, has not; not while it runs."""
    from siamtune.cli.search import show_finalists
    from siamtune.search.lock import driver_of

    if driver_of(run) is None:
        show_finalists(run)


def _keep_up(url: str, output: Path) -> None:
    """Bring the copy of a run up to date from time to time: its search may still go on."""
    from siamtune.search.runs import find_run

    while True:
        sleep(FETCH_EVERY_S)
        with suppress(SiamtuneError):  # the store does not answer now
            find_run(url, output)


def _check_port(port: int) -> None:
    """Make sure that TensorBoard can listen there.

    Raises:
        UsageError: somebody else does, or it is not allowed.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a board that has just ended
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} must be free, but got: {(error.strerror or str(error)).lower()}; "
                f"choose another with --port {port + 1 if port < 65535 else 6006}"
            ) from None
