"""The report on trials: who is best, how they learnt, what failed."""

from html import escape
from shlex import quote

from siamtune.report.charts import (
    Mark,
    NumberAxis,
    chart,
    dots,
    lines,
    padded,
    svg,
)
from siamtune.report.evidence import Evidence
from siamtune.report.findings import drawn_trials, failures, whose
from siamtune.report.html import (
    as_text,
    legend,
    panel,
    state_class,
    state_mark,
    table,
    trial_brief,
    trial_cells,
    trial_line,
    where,
)
from siamtune.report.table import (
    dial_columns,
    dial_name,
    epoch_text,
    metric_columns,
    metric_name,
    total_epochs,
)
from siamtune.search.history import History

ROWS = 15  # of the leaderboard; the table of all trials stands below it
SYMBOLS_TOLD = 12  # trials that are named behind a reason


def leaderboard_section(history: History, evidence: Evidence) -> str:
    """The best trials, with intervals where their answers were kept."""
    order, space = history.ranked, history.space
    if not order:
        problem = "No trial has ended yet."
        if history.records and all(r.state != "running" for r in history.records.values()):
            problem = "No trial got as far as a measurement; why is told below."
        return f"<p>{problem}</p>"
    metrics, dials = metric_columns(space.objective), dial_columns(space.dimensions)
    rows = []
    for place, record in enumerate(order[:ROWS], start=1):
        known = evidence.trials.get(record.number)
        numbers, values = trial_cells(
            history, record, metrics, dials, known.intervals if known else None
        )
        rows.append(
            f'<tr data-t="{record.number}"{" class=best" if place == 1 else ""}>'
            f'<td class="n">{place}</td><td class="n">{record.number}</td>'
            f"<td>{state_mark(record.state)}</td>"
            f'<td class="n">{epoch_text(record, space)}</td>{numbers}{values}</tr>'
        )
    headings = ["", "trial", "state", "epoch", *map(metric_name, metrics), *map(dial_name, dials)]
    more = len(order) - ROWS
    below = f"; <a href='#trials'>{more} more stand below</a>" if more > 0 else ""
    return (
        f"<p class='why'>Each trial with the numbers of its best epoch, of {where(history)}. "
        f"{'[low, high]: 95 % over people. ' if evidence.trials else ''}Complete trials come "
        f"before those that were stopped early, which were measured on less training{below}.</p>"
        + panel(table(headings, rows, [0, 1, *range(3, 4 + len(metrics))]))
    )


def curves_section(history: History) -> str:
    """The objective over the epochs of every trial."""
    metric = history.space.objective.metric
    curves = {
        number: [(e["epoch"], e[metric]) for e in record.epochs if metric in e]
        for number, record in sorted(drawn_trials(history).items())
    }
    values = [value for curve in curves.values() for _, value in curve]
    if not values:
        return ""
    winner = history.winner
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    first = 1.0 if last > 1 else 0.0
    x = NumberAxis("epoch", first, max(last, total_epochs(history.space)), whole=True)
    y = NumberAxis(metric_name(metric), *padded(values))
    # The best is drawn last, on top of all.
    order = sorted(curves, key=lambda number: winner is not None and number == winner.number)
    drawn, ends = [], []
    for number in order:
        record, curve = history.records[number], curves[number]
        if not curve:
            continue
        best = winner is not None and number == winner.number
        look = "best" if best else state_class(record.state)
        says, key = trial_brief(history, record), str(number)
        drawn.append((curve, Mark(f"line {look}", says, key)))
        if record.epoch < x.high or best or len(curve) == 1:
            ends.append((*curve[-1], Mark(f"dot {look}", says, key)))
    says = f"{metric_name(metric)} over epochs of {len(curves)} trials"
    drawings = []
    for classes, width, height in (("only-wide", 1050, 400), ("only-narrow", 340, 300)):
        whole = chart(x, y, width, height)
        lines(whole, drawn)
        dots(whole, ends, radius=3)
        drawings.append(svg(whole, f"curves {classes}", says, f"chart {classes}"))
    return (
        f"<p class='why'>After every epoch of {whose(history)}, on {where(history)}. A line that "
        "ends in a point before the last epoch was stopped, failed, or still runs.</p>"
        + panel(legend(history, "line") + "".join(drawings))
    )


def failures_section(history: History) -> str:
    """Trials that ended without being of use, by their reason."""
    found = failures(history.records.values())
    if not found:
        return ""
    rows = []
    for failure in found:
        named = ", ".join(map(str, failure.trials[:SYMBOLS_TOLD]))
        more = len(failure.trials) - SYMBOLS_TOLD
        rows.append(
            f'<tr><td>{state_mark(failure.state)}</td><td class="n">{len(failure.trials)}</td>'
            f'<td class="text">{as_text(failure.reason) or "no reason was recorded"}</td>'
            f'<td class="text">{named}{f" and {more} more" if more > 0 else ""}</td></tr>'
        )
    folder = str(history.run.folder)
    one = as_text(f"siamtune show {quote(folder)} {found[0].trials[0]}")
    return (
        f"<p class='why'>Tracebacks lie in <code>{as_text(folder)}/trials/</code>; one trial: "
        f"<code>{one}</code></p>"
        + panel(table(["state", "times", "reason", "trials"], rows, numeric=[1]))
    )


def all_trials_section(history: History) -> str:
    """Trials with every dial, in the order of their numbers, folded away."""
    if not history.records:
        return ""
    space = history.space
    metrics = metric_columns(space.objective)
    dials = [dimension.name for dimension in space.dimensions]
    rows = []
    for _, record in sorted(drawn_trials(history).items()):
        numbers, values = trial_cells(history, record, metrics, dials)
        rows.append(
            f'<tr data-t="{record.number}" data-says="{escape(trial_line(history, record))}">'
            f'<td class="n">{record.number}</td><td>{state_mark(record.state)}</td>'
            f'<td class="n">{epoch_text(record, space)}</td>{numbers}'
            f'<td class="n">{record.training_s:.0f}</td>{values}'
            f'<td class="text">{as_text(record.reason or "")}</td></tr>'
        )
    headings = ["trial", "state", "epoch", *map(metric_name, metrics), "seconds", *dials, "reason"]
    numeric = [0, 2, *range(3, 4 + len(metrics))]
    left_out = len(history.records) - len(rows)
    what = f"the best and some others: {len(rows)}" if left_out else f"all trials: {len(rows)}"
    rest = (
        f"<p class='why'>The other {left_out} stand in <code>{as_text(history.run.trials_path)}"
        "</code>.</p>"
        if left_out
        else ""
    )
    return (
        f"<details><summary>Show {what}</summary>{rest}"
        f"{panel(table(headings, rows, numeric))}</details>"
    )
