"""Pieces of the report's HTML, and how trials are told in it; whatever others wrote stays text."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from siamtune.report.table import (
    STATES,
    count_states,
    dial_name,
    epoch_text,
    measured_on,
    metric_columns,
    metric_name,
    metric_value,
    one_line,
    shown,
)
from siamtune.search.history import History
from siamtune.search.records import TrialRecord, best_epoch
from siamtune.verification.bootstrap import Interval


def as_text(value: Any) -> str:
    """What others wrote, as text of the page."""
    return escape(one_line(value))


def value_text(value: Any) -> str:
    return as_text(shown(value))


def state_mark(state: str) -> str:
    return f'<span class="state {state_class(state)}">{state.replace("_", " ")}</span>'


def state_class(state: str) -> str:
    return "fault" if STATES[state] == "red" else state


def table(headings: Sequence[str], rows: Iterable[str], numeric: Sequence[int] = ()) -> str:
    head = "".join(
        f"<th class={'n' if at in numeric else 'w'}>{as_text(name)}</th>"
        for at, name in enumerate(headings)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def where(history: History) -> str:
    """What a run's numbers are of."""
    return as_text(measured_on(history.facts))


def interval_text(interval: Interval | None) -> str:
    """An interval behind its number, or nothing."""
    return f" <small>[{interval.low:.3f}, {interval.high:.3f}]</small>" if interval else ""


def panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'


def facts_list(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and contents; the contents are HTML already."""
    return f"<dl>{''.join(f'<dt>{as_text(name)}</dt><dd>{html}</dd>' for name, html in pairs)}</dl>"


def trial_cells(
    history: History,
    record: TrialRecord,
    metrics: Sequence[str],
    dials: Sequence[str],
    intervals: Mapping[str, Interval] | None = None,
) -> tuple[str, str]:
    """A trial's cells of a table: its best numbers, and its values of the dials."""
    measured = best_numbers(history, record)
    known = intervals or {}
    numbers = "".join(
        f'<td class="n">{metric_value(m, measured[m])}'
        f"{interval_text(known.get(m.removeprefix('val/')))}</td>"
        if m in measured
        else "<td></td>"
        for m in metrics
    )
    values = "".join(
        f"<td>{value_text(record.config[d])}</td>" if d in record.config else "<td>-</td>"
        for d in dials
    )
    return numbers, values


def best_numbers(history: History, record: TrialRecord) -> Mapping[str, float]:
    objective = history.space.objective
    return best_epoch(record, objective.metric, objective.mode) or {}


def trial_line(history: History, record: TrialRecord) -> str:
    """A trial in one line."""
    state = record.state.replace("_", " ")
    parts = [f"trial {record.number}", state]
    if record.epochs:
        parts[1] = f"{state} at epoch {epoch_text(record, history.space)}"
    measured = best_numbers(history, record)
    parts += [
        f"{metric_name(metric)} {metric_value(metric, measured[metric])}"
        for metric in metric_columns(history.space.objective)
        if metric in measured
    ]
    parts += [f"{dial_name(name)} {shown(value)}" for name, value in record.config.items()]
    return one_line(" · ".join(parts))


def trial_brief(history: History, record: TrialRecord) -> str:
    """A trial in a few words; the page's own line tells its dials."""
    metric = history.space.objective.metric
    measured = best_numbers(history, record)
    value = f", {metric_name(metric)} {metric_value(metric, measured[metric])}" if measured else ""
    return f"trial {record.number}: {record.state.replace('_', ' ')}{value}"


def moment(text: Any) -> str:
    """A time as run.json holds it, for people everywhere."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return "unknown"


def legend(history: History, kind: str) -> str:
    """What the colours mean, of those that occur."""
    of_use = ("complete", "stopped")
    states = count_states(
        record
        for record in history.records.values()
        if record.epochs and (kind == "line" or record.state in of_use)
    )
    present: dict[str, str] = {}
    for state in states:
        present.setdefault(state_class(state), state.replace("_", " "))
    if sum(STATES[state] == "red" for state in states) > 1 and "fault" in present:
        present["fault"] = "ended by a fault"
    marks = [
        f'<span><i class="{look} {_legend_mark(look, kind)}"></i>{name}</span>'
        for look, name in present.items()
    ]
    if history.winner:
        marks.append(f'<span><i class="best {_legend_mark("best", kind)}"></i>the best</span>')
    return f'<div class="legend">{"".join(marks)}</div>'


def _legend_mark(look: str, kind: str) -> str:
    if kind != "dot":
        return ""
    return "ring" if look == "stopped" else "full"
