"""A bar on a terminal, a line every few seconds elsewhere, for work that takes a while."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[str, int, int], None]  # what, done, total
QUIET_S = 2.0  # nothing is shown of work that is done sooner


@contextmanager
def progress_bar() -> Iterator[Advance]:
    """Yield a function to be told (what, done, total); it draws on stderr."""
    console = Console(stderr=True)
    began: dict[str, float] = {}
    if not console.is_terminal:
        told: dict[str, float] = {}

        def tell(what: str, done: int, total: int) -> None:
            now = time.monotonic()
            if now - began.setdefault(what, now) > QUIET_S and now - told.get(what, 0.0) > 5.0:
                told[what] = now
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

        yield tell
        return

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        tasks = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield advance
