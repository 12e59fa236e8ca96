import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from siamtune.report.live import LiveView, print_final_table
from siamtune.search.dimensions import ChoiceDimension, FloatDimension
from siamtune.search.records import TrialRecord, apply_event
from siamtune.search.runs import Run
from siamtune.search.settings import Objective, StudySettings
from siamtune.search.space import Space

SPACE = Space(
    Objective(),
    StudySettings(),
    {"epochs": 9},
    (),
    (
        ChoiceDimension("loss.name", ("contrastive", "triplet")),
        FloatDimension("optim.lr", 1e-4, 1e-2, log=True),
    ),
)


class Search:
    """Feeds a view the events of a search."""

    def __init__(self, view: LiveView, records: dict[int, TrialRecord] | None = None) -> None:
        self.view, self.records = view, records or {}

    def started(self, number: int, **config: Any) -> None:
        dials = {name.replace("_", ".", 1): value for name, value in config.items()}
        self._tell({"event": "started", "trial": number, "time": 1.0, "config": dials})

    def epoch(self, number: int, epoch: int, auc: float) -> None:
        metrics = {"epoch": epoch, "val/auc": auc, "val/f1": auc - 0.1}
        self._tell({"event": "epoch", "trial": number, "metrics": metrics})

    def ended(self, number: int, state: str, reason: str | None = None) -> None:
        event = {"event": "ended", "trial": number, "time": 2.0, "state": state, "reason": reason}
        self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        self.view.update(self.records, apply_event(self.records, event))


def pipe() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, highlight=False), file


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None,
        force_interactive=True, _environ={},
    )  # fmt: skip


def screen(view: LiveView, console: Console) -> list[str]:
    """What the view draws at this moment."""
    with console.capture() as capture:
        console.print(view._draw())
    return [line.rstrip() for line in capture.get().splitlines()]


def view_on(console: Console, trials: int = 10) -> LiveView:
    return LiveView(Run(Path("runs/faces")), SPACE, data="lfw", trials=trials, console=console)


def test_a_pipe_gets_one_plain_line_an_event() -> None:
    console, file = pipe()
    with view_on(console, trials=4) as view:
        search = Search(view)
        search.started(0, loss_name="triplet", optim_lr=0.00123456)
        search.epoch(0, 1, 0.8)
        search.started(1, loss_name="contrastive", optim_lr=0.1)
        search.epoch(0, 2, 0.75)
        search.ended(0, "complete")
        search.epoch(1, 1, 0.6)
        search.ended(1, "stopped")
        search.started(2)
        search.epoch(2, 1, 0.9)
        search.ended(2, "complete")
        search.started(3)
        search.ended(3, "out_of_memory", "CUDA out of memory\nTried [bold]2 GiB")
        view.log("a warning")
        view.tick()
    assert file.getvalue().splitlines() == [
        "faces: 4 trials on lfw",
        "trial 0 started: loss=triplet lr=0.00123",
        "trial 1 started: loss=contrastive lr=0.1",
        "trial 0 complete at epoch 2 of 9: AUC 0.8000, F1 0.7000, the best so far",
        "trial 1 stopped at epoch 1 of 9: AUC 0.6000, F1 0.5000",
        "trial 2 started",
        "trial 2 complete at epoch 1 of 9: AUC 0.9000, F1 0.8000, the best so far",
        "trial 3 started",
        "trial 3 out of memory (CUDA out of memory Tried [bold]2 GiB)",
        "a warning",
        "4 trials in 0 s: 2 complete, 1 stopped, 1 out of memory",
    ]


def test_lines_in_a_pipe_are_not_broken_at_its_width() -> None:
    console, file = pipe()
    with view_on(console) as view:
        view.log("x" * 200)
    assert "x" * 200 in file.getvalue()


def test_a_trial_that_goes_on_says_from_where() -> None:
    console, file = pipe()
    with view_on(console) as view:
        search = Search(view)
        search.started(0)
        search.epoch(0, 1, 0.8)
        search.ended(0, "interrupted")
        search.started(0)
        search.epoch(0, 2, 0.9)
    assert "trial 0 goes on after epoch 1\n" in file.getvalue()
    assert file.getvalue().endswith("1 trials in 0 s: 1 running\n")


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_screen_shows_running_trials_and_the_best_that_ended(width: int) -> None:
    console = terminal(width)
    view = view_on(console)
    assert "no trial runs yet" in screen(view, console)[-1]
    search = Search(view)
    for number, auc in enumerate((0.7, 0.9, 0.8)):
        search.started(number, loss_name="triplet", optim_lr=0.001)
        search.epoch(number, 1, auc)
        search.ended(number, "complete")
    search.started(3, loss_name="contrastive", optim_lr=0.002)
    search.epoch(3, 4, 0.75)
    lines = screen(view, console)
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("faces · lfw · 0 s elapsed")
    assert lines[1].endswith("3 of 10 trials")
    assert lines[2] == "1 running · 3 complete"
    assert [line.split()[:5] for line in lines[5:]] == [
        ["3", "running", "4/9", "0.7500", "0.6500"],
        [],
        ["★", "1", "complete", "1/9", "0.9000"],
        ["2", "complete", "1/9", "0.8000", "0.7000"],
        ["0", "complete", "1/9", "0.7000", "0.6000"],
    ]


def test_the_last_fault_is_shown_with_its_reason_on_one_line() -> None:
    console = terminal()
    view = view_on(console)
    search = Search(view)
    search.started(0)
    search.ended(0, "failed", "ValueError: " + "long " * 40)
    lines = screen(view, console)
    assert lines[3].startswith("trial 0 failed: ValueError: long")
    assert lines[3].endswith("…")
    assert len(lines[3]) == 80


@pytest.mark.parametrize("height", [11, 12, 24, 60])
def test_the_screen_is_never_higher_than_the_terminal(height: int) -> None:
    console = terminal(height=height)
    view = view_on(console, trials=100)
    search = Search(view)
    for number in range(40):
        search.started(number, loss_name="triplet", optim_lr=0.001)
        search.epoch(number, 1, 0.5 + number / 100)
        if number < 20:
            search.ended(number, "failed" if number == 4 else "complete")
    lines = screen(view, console)
    assert len(lines) <= height
    shown = sum("running" in line and "·" not in line for line in lines)
    assert shown + (int(lines[-1].split()[1]) if "more that run" in lines[-1] else 0) == 20


def test_the_time_left_is_guessed_from_the_trials_of_this_sitting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    console = terminal()
    view = view_on(console, trials=20)
    earlier = {
        number: TrialRecord(number, "complete", {}, ({"epoch": 1, "val/auc": 0.5},))
        for number in range(10)
    }
    search = Search(view, dict(earlier))
    for number in range(10, 14):
        search.started(number)
        if number == 12:
            assert "left" not in screen(view, console)[0]
        search.ended(number, "complete")
        now[0] += 60
    # Four in four minutes, and six of twenty are left.
    assert screen(view, console)[0].endswith("4 min 00 s elapsed · about 6 min 00 s left")
    assert "14 of 20 trials" in screen(view, console)[1]


def test_the_closing_line_counts_what_this_sitting_has_done() -> None:
    console, file = pipe()
    earlier = {number: TrialRecord(number, "complete", {}) for number in range(50)}
    with view_on(console, trials=52) as view:
        search = Search(view, earlier)
        for number in (50, 51):
            search.started(number)
            search.ended(number, "complete")
    assert file.getvalue().splitlines()[-1] == "2 trials in 0 s (52 in all): 52 complete"


def test_only_those_that_were_named_are_counted_and_shown() -> None:
    console = terminal()
    view = LiveView(
        Run(Path("runs/faces")), SPACE, data="lfw", trials=3, noun="replica", of={7, 8, 9},
        console=console,
    )  # fmt: skip
    others = {n: TrialRecord(n, "complete", {}, ({"epoch": 1, "val/auc": 0.9},)) for n in range(8)}
    search = Search(view, others)
    search.started(8)
    lines = screen(view, console)
    assert "1 of 3 replicas" in lines[1]
    assert "1 running · 1 complete" in lines[2]


def test_work_besides_training_is_shown_within_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal()
    view = view_on(console)
    Search(view).started(0)
    view.advance("drawing people", 3, 15)
    assert "drawing people: 3 of 15" in screen(view, console)
    view.advance("drawing people", 15, 15)
    assert not any("drawing" in line for line in screen(view, console))
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    plain, file = pipe()
    with view_on(plain) as view:
        for done in range(1, 16):
            now[0] += 1
            view.advance("drawing people", done, 15)
    told = [line for line in file.getvalue().splitlines() if "drawing" in line]
    assert told == [f"drawing people: {done} of 15" for done in (1, 7, 13)]


def test_a_dumb_terminal_gets_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, _environ={"TERM": "dumb"}, width=80)
    with view_on(console) as view:
        Search(view).started(0, optim_lr=0.5)
    assert "trial 0 started: lr=0.5" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_a_terminal_is_redrawn_and_left_clean_even_when_the_search_breaks() -> None:
    console = terminal()

    def broken_search() -> None:
        with view_on(console) as view:
            Search(view).started(0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_search()
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "\x1b[?25l" in file.getvalue()  # the cursor was hidden
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")
    assert file.getvalue().endswith("1 trials in 0 s: 1 running\n")


def test_an_update_costs_the_same_at_ten_thousand_trials() -> None:
    console = terminal()
    view = view_on(console, trials=10_000)
    search = Search(view)
    started = time.process_time()
    for number in range(10_000):
        search.started(number)
        search.epoch(number, 1, number / 10_000)
        search.ended(number, "complete")
    assert time.process_time() - started < 5
    assert "10000 of 10000 trials" in screen(view, console)[1]


def test_the_closing_table_names_what_was_measured_and_where_things_lie(tmp_path: Path) -> None:
    facts = {"data": "lfw", "protocol": "identity-holdout", "split": "3f9a"}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "best.yaml").touch()
    records = {
        number: TrialRecord(
            number, "complete", {"loss.name": "triplet"}, ({"epoch": 9, "val/auc": number / 100},)
        )
        for number in range(30)
    }
    console, file = pipe()
    print_final_table(Run(tmp_path), records, SPACE, console)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert lines[1].split()[:5] == ["★", "29", "complete", "9/9", "0.2900"]
    assert lines[10].split()[0] == "20"
    assert lines[11:] == [
        "",
        "30 complete",
        "measured on validation people of lfw, identity-holdout, split 3f9a",
        f"best configuration: {tmp_path / 'best.yaml'}",
        f"curves: siamtune board {tmp_path}",
    ]


def test_a_search_without_a_best_trial_has_a_closing_word_too(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"data": "demo"}')
    console, file = pipe()
    print_final_table(Run(tmp_path), {0: TrialRecord(0, "failed", {})}, SPACE, console)
    assert file.getvalue().startswith("1 failed\nmeasured on validation people of demo\n")
