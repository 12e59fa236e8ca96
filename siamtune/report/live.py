"""A search while it runs: a table that redraws itself on a terminal, a line an event elsewhere."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from siamtune.report.openings import opening_lines
from siamtune.report.replication import replication_lines, replication_table
from siamtune.report.table import (
    STATES,
    count_states,
    dial_columns,
    dial_name,
    duration,
    front_numbers,
    measured_on,
    metric_columns,
    metric_name,
    metric_value,
    one_line,
    shown,
    states_text,
    total_epochs,
    trial_table,
)
from siamtune.search.history import History
from siamtune.search.openings import read_openings
from siamtune.search.records import TrialRecord, best_epoch, ranked
from siamtune.search.replicas import read_replication, replicated_best
from siamtune.search.runs import Run
from siamtune.search.space import Space

REDRAWS_PER_S = 2
BEST_SHOWN = 5  # finished trials in the live view
FINAL_SHOWN = 10  # and in the closing table
HEADER_ROWS = 9  # everything in the view that is no trial
# A guess at the time left is none before so many trials have ended.
ENDED_FOR_ESTIMATE = 3
WORK_TOLD_S = 5.0  # between two lines on work that is no training
OPEN = ("running", "interrupted")
FAULTS = ("collapsed", "invalid", "out_of_memory", "failed", "lost")


class LiveView:
    """Shows a search on stderr from `with` to its end; every call costs the same at any size.

    `noun` is what its trials are called; `of` are the numbers of those that are shown, if not all.
    """

    def __init__(
        self,
        run: Run,
        space: Space,
        *,
        data: str,
        trials: int,
        noun: str = "trial",
        of: Collection[int] | None = None,
        console: Console | None = None,
    ) -> None:
        if console is None:
            # FORCE_COLOR asks for colours in a pipe, never for redrawing.
            interactive = None if sys.stderr.isatty() else False
            console = Console(stderr=True, force_interactive=interactive, highlight=False)
        self._console = console
        self._run = run
        self._space = space
        self._data = data
        self._trials = trials
        self._noun, self._nouns = noun, f"{noun}s"
        self._of = of
        self._began = time.monotonic()
        self._states: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._ended_before: int | None = None  # trials of earlier sittings, once they are known
        self._here: set[int] = set()  # trials of this sitting
        self._work, self._work_told = "", 0.0  # what is done besides training
        self._running: dict[int, TrialRecord] = {}
        self._best: list[TrialRecord] = []
        self._fault: TrialRecord | None = None
        self._lock = threading.Lock()  # rich redraws on a thread of its own
        self._live = (
            Live(
                console=console,
                get_renderable=self._draw,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            if console.is_interactive
            else None
        )

    def __enter__(self) -> "LiveView":
        if self._live:
            self._live.start()
        else:
            self._print(f"{self._run.name}: {self._trials} {self._nouns} on {self._data}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        here, known = len(self._here), sum(self._counts.values())
        ended = Text(f"{here} {self._nouns} in {duration(self._elapsed())}")
        if known > here:
            ended.append(f" ({known} in all)")
        if self._counts:
            ended.append(": ").append_text(states_text(self._counts))
        self._console.print(ended)

    def update(self, records: Mapping[int, TrialRecord], changed: TrialRecord) -> None:
        """Take in the trial that has just changed; `records` are all, read at the first call."""
        with self._lock:
            if self._ended_before is None:
                for record in records.values():
                    if record.number != changed.number and self._shows(record.number):
                        self._take(record)
                self._ended_before = self._ended()
            self._here.add(changed.number)
            began = self._states.get(changed.number) != "running"
            leader = self._best[:1]
            self._take(changed)
            leads = self._best[:1] != leader and self._best[0].number == changed.number
        if self._live:
            return
        if changed.state != "running":
            self._print(self._end_line(changed, leads))
        elif began:
            self._print(self._start_line(changed))

    def tick(self) -> None:
        """Time passes; the terminal redraws by itself."""

    def log(self, line: str) -> None:
        """Show a line that stays."""
        self._print(line)

    def advance(self, what: str, done: int, total: int) -> None:
        """Show work that is no training: on a terminal in its place, else a line now and then."""
        line = f"{what}: {done} of {total}"
        self._work = line if done < total else ""
        now = time.monotonic()
        if not self._live and now - self._work_told > WORK_TOLD_S:
            self._work_told = now
            self._print(line)

    def _shows(self, number: int) -> bool:
        return self._of is None or number in self._of

    def _take(self, record: TrialRecord) -> None:
        before = self._states.get(record.number)
        if before is not None:
            self._counts[before] -= 1
        self._states[record.number] = record.state
        self._counts[record.state] += 1
        if record.state == "running":
            self._running[record.number] = record
            return
        self._running.pop(record.number, None)
        if record.state in FAULTS:
            self._fault = record
        others = [known for known in self._best if known.number != record.number]
        objective = self._space.objective
        self._best = ranked([*others, record], objective.metric, objective.mode)[:BEST_SHOWN]

    def _ended(self) -> int:
        return sum(self._counts[state] for state in STATES if state not in OPEN)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _left(self) -> str:
        ended_here = self._ended() - (self._ended_before or 0)
        left = self._trials - self._ended()
        if ended_here < ENDED_FOR_ESTIMATE or left <= 0:
            return ""
        return f" · about {duration(self._elapsed() / ended_here * left)} left"

    def _print(self, line: str) -> None:
        self._console.print(Text(one_line(line)), soft_wrap=True)

    def _start_line(self, record: TrialRecord) -> str:
        line = f"{self._noun} {record.number} started"
        if record.epochs:
            line = f"{self._noun} {record.number} goes on after epoch {record.epoch}"
        if "replica_of" in record.facts:
            line += f", trial {record.facts['replica_of']} with seed {record.config['seed']}"
        dials = [
            f"{dial_name(name)}={shown(record.config[name])}"
            for name in dial_columns(self._space.dimensions)
            if name in record.config
        ]
        return f"{line}: {' '.join(dials)}" if dials else line

    def _end_line(self, record: TrialRecord, leads: bool) -> str:
        line = f"{self._noun} {record.number} {record.state.replace('_', ' ')}"
        if record.epochs:
            line += f" at epoch {record.epoch} of {total_epochs(self._space)}"
        if numbers := self._numbers(record):
            line += f": {numbers}"
        if leads and self._noun == "trial":
            line += ", the best so far"
        return f"{line} ({record.reason})" if record.reason else line

    def _numbers(self, record: TrialRecord) -> str:
        objective = self._space.objective
        measured = best_epoch(record, objective.metric, objective.mode) or {}
        return ", ".join(
            f"{metric_name(metric)} {metric_value(metric, measured[metric])}"
            for metric in metric_columns(objective)
            if metric in measured
        )

    def _draw(self) -> Group:
        with self._lock:
            return Group(*self._parts())

    def _parts(self) -> list[Text | Table]:
        width, height = self._console.size
        title = Text(self._run.name, "bold")
        elapsed = f"{duration(self._elapsed())} elapsed"
        title.append(f" · {self._data} · {elapsed}{self._left()}", "not bold")
        title.truncate(width)
        ended = self._ended()
        bar = Table.grid(padding=(0, 2, 0, 0))
        bar.add_row(
            ProgressBar(
                total=self._trials,
                completed=ended,
                width=max(10, min(40, width - 24)),
                complete_style="cyan",
                finished_style="green",
            ),
            f"{ended} of {self._trials} {self._nouns}",
        )
        parts: list[Text | Table] = [title, bar, states_text(self._counts, " · ")]
        if self._work:
            parts.append(Text(self._work, "dim", no_wrap=True, overflow="ellipsis"))
        if self._fault is not None:
            what = self._fault.state.replace("_", " ")
            fault = (
                f"{self._noun} {self._fault.number} {what}: {one_line(self._fault.reason or '')}"
            )
            parts.append(Text(fault, "red", no_wrap=True, overflow="ellipsis"))
        if not self._running and not self._best:
            return [*parts, Text(f"no {self._noun} runs yet: Ray is starting", "dim")]
        room = max(2, height - HEADER_ROWS - bool(self._work))
        best = self._best[: max(1, room // 2)]
        running = list(self._running.values())
        hidden = max(0, len(running) - (room - len(best)))
        leader = best[0].number if best else None
        groups = [running[hidden:], best]
        table = trial_table(groups, self._space, width, best=leader, star=star(self._console))
        parts += [Text(), table]
        if hidden:
            parts.append(Text(f"and {hidden} more that run", "dim"))
        return parts


def star(console: Console) -> str:
    """The mark of the best trial, in letters that the console has."""
    return "*" if console.options.ascii_only else "★"


def print_final_table(
    run: Run,
    records: Mapping[int, TrialRecord],
    space: Space,
    console: Console | None = None,
    *,
    rows: int = FINAL_SHOWN,
) -> None:
    """Print the best trials, what the numbers were measured on, and where things lie, on stdout."""
    console = console or Console(highlight=False)
    objective, facts = space.objective, run.facts()
    best = ranked(records.values(), objective.metric, objective.mode)[:rows]
    if best:
        number = best[0].number
        console.print(trial_table([best], space, console.width, best=number, star=star(console)))
        console.print()
    console.print(states_text(count_states(records.values())))
    replication = read_replication(run)
    if replication:
        console.print()
        console.print(replication_table(replication, star(console)))
        for line in replication_lines(replication):
            console.print(Text(one_line(line)), soft_wrap=True)
        console.print()
    lines = [f"measured on {measured_on(facts)}"]
    lines += opening_lines(read_openings(run))
    if numbers := front_numbers(records.values(), objective):
        lines.insert(
            0,
            f"front, {' and '.join(metric_name(each.metric) for each in objective.each)}: "
            f"trials {', '.join(map(str, numbers))}",
        )
    if (run.folder / "best.yaml").exists():
        shipped = replicated_best(History(run, facts, space, records))
        of = f" (trial {shipped.trial}, the best with fresh seeds)" if shipped else ""
        lines.append(f"best configuration{of}: {run.folder / 'best.yaml'}")
    if run.best_model.exists():
        lines.append(f"best model: {run.best_model}")
    lines.append(f"curves: siamtune board {run.place}")
    for line in lines:
        console.print(Text(one_line(line)), soft_wrap=True)
