"""The report of a search: one HTML page that needs no network, from the run's own records.

The page forbids itself every connection and every script but its own (Content-Security-Policy), so
what stands in a name or a reason stays text even where escaping should fail.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from siamtune.report.charts import (
    Axis,
    Cell,
    Frame,
    NameAxis,
    NumberAxis,
    Strand,
    axes,
    dot,
    drawing,
    heat_map,
    line,
    padded,
    parallel,
)
from siamtune.report.findings import (
    LEAST_FOR_BOUNDS,
    Importance,
    costs,
    failures,
    fields,
    has,
    importance,
    on_bounds,
    untried,
    word,
)
from siamtune.report.table import (
    STATES,
    count_states,
    dial_columns,
    dial_name,
    duration,
    epoch_text,
    metric_columns,
    metric_name,
    one_line,
    shown,
    total_epochs,
)
from siamtune.search.dimensions import ChoiceDimension, Dimension, IntDimension, described
from siamtune.search.history import History
from siamtune.search.records import TrialRecord, best_epoch

ROWS = 15  # of the leaderboard; the table of all trials stands below it
MOST_COLUMNS = 7  # of the parallel coordinates, beside the objective
LEAST_SHARE = 0.01  # of importance, to be drawn
PANELS = 12  # dials that are drawn at once; the others fold away
# Trials that were stopped after an epoch or two lie far below: where enough are complete, the
# objective's axis reaches this share of their range below the worst of them.
BELOW_COMPLETE, LEAST_COMPLETE = 0.5, 8
JITTER = 0.6  # of the room of a choice; points on one another cannot be counted
GOLDEN = 0.6180339887
SYMBOLS_TOLD = 12  # trials that are named behind a reason


def report_page(history: History, environment: Mapping[str, Any], written: datetime) -> str:
    """The whole page as text.

    `environment` is what environment.json holds; `written` is the moment that the page shows.
    """
    found = importance(history)
    sections = [
        ("next", "What to do next", _advice(history)),
        ("leaderboard", "Leaderboard", _leaderboard(history)),
        ("curves", "Learning curves", _curves(history)),
        ("importance", "Which dials matter", _importance(history, found)),
        ("slices", "Dial by dial", _slices(history, found)),
        ("fields", "Crop factor and normalization", _fields(history)),
        ("parallel", "All dials at once", _parallel(history, found)),
        ("cost", "What it cost", _cost(history)),
        ("failures", "What failed", _failures(history)),
        ("trials", "Every trial, every dial", _all_trials(history)),
        ("setting", "Space and environment", _setting(history, environment)),
    ]
    present = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in present)
    body = "".join(
        f'<section><h2 id="{name}">{title}</h2>{content}</section>'
        for name, title, content in present
    )
    room = files("siamtune.report")
    style = room.joinpath("page.css").read_text(encoding="utf-8")
    script = room.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(history.run.name)} · siamtune</title><style>{style}</style></head>"
        f"<body><main>{_header(history, written)}<nav>{links}</nav>{body}</main>"
        f'<div id="told" hidden></div><script>{script}</script></body></html>\n'
    )


def _text(value: Any) -> str:
    """What others wrote, as text of the page."""
    return escape(one_line(value))


def _value(value: Any) -> str:
    return _text(shown(value))


def _state(state: str) -> str:
    return f'<span class="state {_state_class(state)}">{state.replace("_", " ")}</span>'


def _state_class(state: str) -> str:
    return "fault" if STATES[state] == "red" else state


def _table(headings: Sequence[str], rows: Iterable[str], numeric: Sequence[int] = ()) -> str:
    head = "".join(
        f"<th class={'n' if at in numeric else 'w'}>{_text(name)}</th>"
        for at, name in enumerate(headings)
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and contents; the contents are HTML already."""
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{html}</dd>' for name, html in pairs)}</dl>"


def _cells(
    history: History, record: TrialRecord, metrics: Sequence[str], dials: Sequence[str]
) -> tuple[str, str]:
    """A trial's cells of a table: its best numbers, and its values of the dials."""
    measured = _measured(history, record)
    numbers = "".join(
        f'<td class="n">{measured[m]:.4f}</td>' if m in measured else "<td></td>" for m in metrics
    )
    values = "".join(
        f"<td>{_value(record.config[d])}</td>" if d in record.config else "<td>-</td>"
        for d in dials
    )
    return numbers, values


def _measured(history: History, record: TrialRecord) -> Mapping[str, float]:
    objective = history.space.objective
    return best_epoch(record, objective.metric, objective.mode) or {}


def _says(history: History, record: TrialRecord) -> str:
    """A trial in one line."""
    state = record.state.replace("_", " ")
    parts = [f"trial {record.number}", state]
    if record.epochs:
        parts[1] = f"{state} at epoch {epoch_text(record, history.space)}"
    measured = _measured(history, record)
    parts += [
        f"{metric_name(metric)} {measured[metric]:.4f}"
        for metric in metric_columns(history.space.objective)
        if metric in measured
    ]
    parts += [f"{dial_name(name)} {shown(value)}" for name, value in record.config.items()]
    return one_line(" · ".join(parts))


def _brief(history: History, record: TrialRecord) -> str:
    """A trial in a few words; the page's own line tells its dials."""
    metric = history.space.objective.metric
    measured = _measured(history, record)
    value = f", {metric_name(metric)} {measured[metric]:.4f}" if measured else ""
    return f"trial {record.number}: {record.state.replace('_', ' ')}{value}"


def _header(history: History, written: datetime) -> str:
    facts, space, records = history.facts, history.space, history.records
    counts = count_states(records.values())
    standing = f"As it stood on {_moment(written.isoformat())}."
    if counts.get("running"):
        many = counts["running"]
        standing += f" {many} trial{'s' if many > 1 else ''} still ran: the numbers may change."
    measured_on = [_text(facts[key]) for key in ("data", "protocol") if facts.get(key)]
    if facts.get("split"):
        measured_on.append(f"split {_text(facts['split'])}")
    cards = []
    winner = history.winner
    if winner:
        best = _measured(history, winner)
        for metric in dict.fromkeys([*metric_columns(space.objective), "val/eer"]):
            if metric in best:
                where = f"trial {winner.number}, epoch {best['epoch']:.0f}"
                cards.append((f"{best[metric]:.4f}", f"{metric_name(metric)} of the best: {where}"))
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items())
    planned = facts.get("trials")
    of = f" of {planned}" if isinstance(planned, int) and planned > len(records) else ""
    cards.append((f"{len(records)}{of}", f"trials: {states}" if states else "trials"))
    training_s = sum(record.training_s for record in records.values())
    cards.append((duration(training_s), "of training, all trials"))
    numbers = "".join(
        f"<div><b>{_text(number)}</b><span>{_text(what)}</span></div>" for number, what in cards
    )
    people, pictures = facts.get("people"), facts.get("pictures")
    about = [("measured on", f"validation people of {', '.join(measured_on)}")]
    if isinstance(people, dict):
        shares = ", ".join(f"{_text(count)} {_text(part)}" for part, count in people.items())
        about.append(("people", shares + (f"; {_text(pictures)} pictures" if pictures else "")))
    scheduler = space.study.scheduler
    about += [
        (
            "objective",
            f"{_text(space.objective.metric)}, "
            f"{'the larger' if space.objective.mode == 'max' else 'the smaller'} the better",
        ),
        ("proposed by", _text(f"{space.study.sampler}, stopped early by {scheduler.name}")),
        ("begun", _text(_moment(facts.get("created")))),
        ("command", f"<code>siamtune {_text(' '.join(map(str, facts.get('command', []))))}</code>"),
    ]
    caution = (
        ""
        if winner is None
        else (
            "<p class='why'>Every number is of validation people, whom no training saw. The best "
            "of many trials was chosen by these numbers and is a little too good; the test people, "
            "whom the search never opened, tell by how much.</p>"
        )
    )
    return (
        f"<h1>{_text(history.run.name)}</h1><p class='soft'>{standing}</p>"
        f'<div class="numbers">{numbers}</div>{caution}{_panel(_facts(about))}'
    )


def _moment(text: Any) -> str:
    """A time as run.json holds it, for people everywhere."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return "unknown"


def _advice(history: History) -> str:
    complete = count_states(history.records.values()).get("complete", 0)
    if not complete:
        return "<p>No trial is complete yet: there is nothing to advise.</p>"
    items = []
    for bound in on_bounds(history):
        advice = (
            f"<b>{_text(bound.name)}</b>: {bound.trials} of the best {bound.of} complete trials "
            f"lie at its {bound.end} bound, {_value(bound.bound)}. "
        )
        if bound.wider is None:
            advice += "There is hardly any room beyond it."
        else:
            way = "upwards" if bound.end == "upper" else "downwards"
            advice += f"Widen it {way}: <code>{_text(described(bound.wider))}</code>."
        items.append(f"<li>{advice}</li>")
    if complete < LEAST_FOR_BOUNDS:
        widen = (
            f"<p>Too early to say: {LEAST_FOR_BOUNDS} complete trials or more are needed, "
            f"and there are {complete}.</p>"
        )
    elif items:
        widen = (
            "<p class='why'>Where the best trials sit on the edge of a range, better ones may lie "
            f"beyond it.</p><ul>{''.join(items)}</ul>"
        )
    else:
        widen = "<p>The best complete trials crowd at no bound of a range: nothing to widen.</p>"
    rows = [
        f"<tr><td>{_text(gap.name)}</td>"
        f'<td class="text">{", ".join(f"<code>{_text(value)}</code>" for value in gap.values)}</td>'
        f'<td class="n">{gap.begun or "none"}</td></tr>'
        for gap in untried(history)
    ]
    if not rows:
        return _panel(
            f"<h3>Ranges</h3>{widen}<h3>Choices</h3><p>Every one was tried to the end.</p>"
        )
    gaps = _table(["dial", "never tried to the end", "trials that began with it"], rows, [2])
    return _panel(f"<h3>Ranges</h3>{widen}") + _panel(
        "<h3>Gaps</h3><p class='why'>No trial with these values was trained to its last epoch: "
        "they were judged early, or not at all.</p>" + gaps
    )


def _leaderboard(history: History) -> str:
    order, space = history.ranked, history.space
    if not order:
        problem = "No trial has ended yet."
        if history.records and all(r.state != "running" for r in history.records.values()):
            problem = "No trial got as far as a measurement; why is told below."
        return f"<p>{problem}</p>"
    metrics, dials = metric_columns(space.objective), dial_columns(space.dimensions)
    rows = []
    for place, record in enumerate(order[:ROWS], start=1):
        numbers, values = _cells(history, record, metrics, dials)
        rows.append(
            f'<tr data-t="{record.number}"{" class=best" if place == 1 else ""}>'
            f'<td class="n">{place}</td><td class="n">{record.number}</td>'
            f"<td>{_state(record.state)}</td>"
            f'<td class="n">{epoch_text(record, space)}</td>{numbers}{values}</tr>'
        )
    headings = ["", "trial", "state", "epoch", *map(metric_name, metrics), *map(dial_name, dials)]
    more = len(order) - ROWS
    below = f"; <a href='#trials'>{more} more stand below</a>" if more > 0 else ""
    return (
        "<p class='why'>Each trial with the numbers of its best epoch. Complete trials come before "
        f"those that were stopped early, which were measured on less training{below}.</p>"
        + _panel(_table(headings, rows, [0, 1, *range(3, 4 + len(metrics))]))
    )


def _curves(history: History) -> str:
    metric = history.space.objective.metric
    curves = {
        record.number: [(e["epoch"], e[metric]) for e in record.epochs if metric in e]
        for record in history.records.values()
    }
    values = [value for curve in curves.values() for _, value in curve]
    if not values:
        return ""
    winner = history.winner
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    first = 1.0 if last > 1 else 0.0
    x = NumberAxis("epoch", first, max(last, total_epochs(history.space)), whole=True)
    y = NumberAxis(metric_name(metric), *padded(values))
    frames = {
        "only-wide": Frame(x, y, width=1050, height=400, left=60),
        "only-narrow": Frame(x, y, width=340, height=300),
    }
    # The best is drawn last, on top of all.
    order = sorted(curves, key=lambda number: winner is not None and number == winner.number)
    drawings = []
    for classes, frame in frames.items():
        marks = [axes(frame)]
        for number in order:
            record = history.records[number]
            if not curves[number]:
                continue
            points = [(frame.px(epoch), frame.py(value)) for epoch, value in curves[number]]
            best = winner is not None and number == winner.number
            look = "best" if best else _state_class(record.state)
            says, key = _brief(history, record), str(number)
            marks.append(line(points, look, says=says, key=key))
            if record.epoch < x.high or best or len(points) == 1:
                marks.append(dot(*points[-1], look, radius=3, says=says, key=key))
        says = f"{metric_name(metric)} over epochs of {len(curves)} trials"
        drawings.append(drawing(frame.width, frame.height, marks, says, f"chart {classes}"))
    return (
        "<p class='why'>Validation people after every epoch. A line that ends in a point before "
        "the last epoch was stopped, failed, or still runs.</p>"
        + _panel(_legend(history, "line") + "".join(drawings))
    )


def _legend(history: History, kind: str) -> str:
    """What the colours mean, of those that occur."""
    of_use = ("complete", "stopped")
    states = count_states(
        record
        for record in history.records.values()
        if record.epochs and (kind == "line" or record.state in of_use)
    )
    present: dict[str, str] = {}
    for state in states:
        present.setdefault(_state_class(state), state.replace("_", " "))
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


def _importance(history: History, found: Importance) -> str:
    if not history.space.dimensions:
        return ""
    if found.problem:
        return f"<p>Not known yet: {_text(found.problem)}.</p>"
    most = max(found.shares.values()) or 1.0
    rows = "".join(
        f'<div class="name">{_text(name)}</div><div class="track"><span '
        f'class="{"" if name in found.beyond_chance else "pale"}" '
        f'style="width:{max(0.5, 100 * share / most):.1f}%"></span></div>'
        f'<div class="share">{100 * share:.0f}%</div>'
        for name, share in found.shares.items()
        if share >= LEAST_SHARE
    )
    without = sum(share < LEAST_SHARE for share in found.shares.values())
    rest = f"<p class='why'>{without} other dials: less than 1% each.</p>" if without else ""
    return (
        f"<p class='why'>What sets the best of {found.trials} trials apart from all of them, at "
        f"their best up to epoch {found.epoch} (which half of the trials reached): Optuna's "
        "PED-ANOVA, shares of the whole. Pale bars are no longer than shuffled numbers give: with "
        "so few trials they say nothing.</p>" + _panel(f'<div class="shares">{rows}</div>{rest}')
    )


def _dimensions(history: History, found: Importance) -> list[Dimension]:
    """The searched dials, those that matter first."""
    place = {name: at for at, name in enumerate(found.shares)}
    return sorted(history.space.dimensions, key=lambda d: place.get(d.name, len(place)))


def _axis(dimension: Dimension, label: str) -> Axis:
    if isinstance(dimension, ChoiceDimension):
        return NameAxis(label, tuple(word(value) for value in dimension.choices))
    return NumberAxis(
        label, float(dimension.low), float(dimension.high), dimension.log,
        whole=isinstance(dimension, IntDimension),
    )  # fmt: skip


def _slices(history: History, found: Importance) -> str:
    metric, order = history.space.objective.metric, history.ranked
    if not order or not history.space.dimensions:
        return ""
    values = {record.number: _measured(history, record)[metric] for record in order}
    y = _objective_axis(history, values)
    panels = []
    for dimension in _dimensions(history, found):
        active = [record for record in order if has(record, dimension)]
        if not active:
            continue
        log = " (log)" if getattr(dimension, "log", False) else ""
        frame = Frame(_axis(dimension, dimension.name + log), y)
        marks = [axes(frame)]
        for record in reversed(active):  # the best on top
            look = "best" if record is order[0] else _state_class(record.state)
            up = min(max(values[record.number], y.low), y.high)
            look += "" if up == values[record.number] else " edge"
            marks.append(
                dot(_across(frame, dimension, record), frame.py(up), look, key=str(record.number),
                    says=_brief(history, record), radius=5 if look == "best" else 3.5)
            )  # fmt: skip
        says = f"{metric_name(metric)} over {dimension.name}, {len(active)} trials"
        when = " and ".join(
            f"{name} {' or '.join(map(word, allowed))}" for name, allowed in dimension.when.items()
        )
        note = f"<p class='why'>only with {_text(when)}</p>" if when else ""
        panels.append(_panel(drawing(frame.width, frame.height, marks, says) + note))
    out = sum(not y.low <= value <= y.high for value in values.values())
    clipped = f" {out} points beyond the axis lie on its edge." if out else ""
    rest = len(panels) - PANELS
    folded = (
        f"<details><summary>Show {rest} more dials</summary>"
        f'<div class="grid2">{"".join(panels[PANELS:])}</div></details>'
        if rest > 0
        else ""
    )
    return (
        "<p class='why'>The best epoch of each trial over each dial, dials that matter first. "
        f"Hollow points were stopped early and might have risen.{clipped} Touch a point to see "
        "the trial everywhere.</p>"
        f'{_legend(history, "dot")}<div class="grid2">{"".join(panels[:PANELS])}</div>{folded}'
    )


def _objective_axis(history: History, values: Mapping[int, float]) -> NumberAxis:
    objective = history.space.objective
    ends = [v for number, v in values.items() if history.records[number].state == "complete"]
    low, high = padded(list(values.values()), 0.06)
    if len(ends) >= LEAST_COMPLETE:
        room = BELOW_COMPLETE * (max(ends) - min(ends))
        if objective.mode == "max":
            low = max(low, min(ends) - room)
        else:
            high = min(high, max(ends) + room)
    return NumberAxis(metric_name(objective.metric), low, high)


def _across(frame: Frame, dimension: Dimension, record: TrialRecord) -> float:
    value = record.config[dimension.name]
    if not isinstance(dimension, ChoiceDimension):
        return frame.px(value)
    room = (frame.width - frame.left - frame.right) / len(dimension.choices)
    aside = (record.number * GOLDEN) % 1 - 0.5
    return frame.px(word(value)) + JITTER * room * aside


def _fields(history: History) -> str:
    found = fields(history, "data.normalization", "data.crop_factor")
    if found is None:
        return ""
    metric = history.space.objective.metric
    measured = {record.number: _measured(history, record)[metric] for record in history.ranked}
    scale = _objective_axis(history, measured)
    name = metric_name(metric)

    def strength(value: float) -> float:
        share = min(max(scale.at(value), 0.0), 1.0)
        return share if history.space.objective.mode == "max" else 1 - share

    cells = {
        (row, column): Cell(
            strength(value), f"{value:.3f}", f"of {trials}",
            f"{found.rows[row]}, crop factor {found.columns[column]}: best {name} {value:.4f} "
            f"of {trials} trials",
        )
        for (row, column), (value, trials) in found.best.items()
    }  # fmt: skip
    chart = heat_map(
        found.rows, found.columns, cells,
        labels=("normalization", "crop factor"),
        says=f"best {name} by normalization and crop factor",
    )  # fmt: skip
    return (
        f"<p class='why'>The best {_text(name)} in each field, and of how many trials; a best of "
        "many is higher by luck alone. Dashed fields were never measured.</p>"
        + _panel(f'<div class="wide">{chart}</div>')
    )


def _parallel(history: History, found: Importance) -> str:
    order, metric = history.ranked, history.space.objective.metric
    shared = [
        d
        for d in _dimensions(history, found)
        if all(has(record, d) for record in order)
        and (isinstance(d, ChoiceDimension) or d.low < d.high)
    ][:MOST_COLUMNS]
    if len(order) < 2 or not shared:
        return ""
    values = [_measured(history, record)[metric] for record in order]
    columns: list[Axis] = [_axis(d, dial_name(d.name)) for d in shared]
    goal = NumberAxis(metric_name(metric), min(values), max(values))
    strands = []
    for record, value in reversed(list(zip(order, values, strict=True))):
        shares = [
            axis.at(word(record.config[d.name]))
            if isinstance(axis, NameAxis)
            else axis.at(record.config[d.name])
            for d, axis in zip(shared, columns, strict=True)
        ]
        faint = "" if record.state == "complete" else " faint"
        look = "best" if record is order[0] else _state_class(record.state) + faint
        says = _brief(history, record)
        strands.append(Strand((*shares, goal.at(value)), look, says, str(record.number)))
    says = f"parallel coordinates of {len(strands)} trials over {len(columns)} dials"
    left_out = len(history.space.dimensions) - len(shared)
    rest = f" Left out: {left_out} dials that matter less or that only some trials have." * bool(
        left_out
    )
    return (
        f"<p class='why'>Each line is a trial; the last axis is the objective.{rest}</p>"
        + _panel(
            _legend(history, "strand")
            + f'<div class="wide">{parallel([*columns, goal], strands, says)}</div>'
        )
    )


def _cost(history: History) -> str:
    found = costs(history.records.values())
    if not found:
        return ""
    total = sum(cost.training_s for cost in found)
    rows = [
        f'<tr><td>{_state(cost.state)}</td><td class="n">{cost.trials}</td>'
        f'<td class="n">{cost.epochs}</td><td class="n">{duration(cost.training_s)}</td>'
        f'<td class="n">{100 * cost.training_s / total if total else 0:.0f}%</td></tr>'
        for cost in found
    ]
    split = "".join(
        f'<span class="{_state_class(cost.state)}" '
        f'style="width:{100 * cost.training_s / total:.2f}%"></span>'
        for cost in found
        if total and cost.training_s
    )
    epochs = sum(cost.epochs for cost in found)
    full = total_epochs(history.space) * sum(c.trials for c in found if c.state != "invalid")
    saved = (
        f"Training every trial to its end would have been {full} epochs; {epochs} were trained."
        if full > epochs
        else ""
    )
    return (
        f"<p class='why'>Seconds in training and evaluating, as the trials measured them; starting "
        f"and preparing are not in it. {saved}</p>"
        + _panel(
            (f'<div class="split">{split}</div>' if split else "")
            + _table(["state", "trials", "epochs", "training", "share"], rows, numeric=range(1, 5))
        )
    )


def _failures(history: History) -> str:
    found = failures(history.records.values())
    if not found:
        return ""
    rows = []
    for failure in found:
        named = ", ".join(map(str, failure.trials[:SYMBOLS_TOLD]))
        more = len(failure.trials) - SYMBOLS_TOLD
        rows.append(
            f'<tr><td>{_state(failure.state)}</td><td class="n">{len(failure.trials)}</td>'
            f'<td class="text">{_text(failure.reason) or "no reason was recorded"}</td>'
            f'<td class="text">{named}{f" and {more} more" if more > 0 else ""}</td></tr>'
        )
    name = _text(history.run.folder)
    return (
        f"<p class='why'>Tracebacks lie in <code>{name}/trials/</code>; one trial: "
        f"<code>siamtune show {name} {found[0].trials[0]}</code></p>"
        + _panel(_table(["state", "times", "reason", "trials"], rows, numeric=[1]))
    )


def _all_trials(history: History) -> str:
    if not history.records:
        return ""
    space = history.space
    metrics = metric_columns(space.objective)
    dials = [dimension.name for dimension in space.dimensions]
    rows = []
    for record in sorted(history.records.values(), key=lambda record: record.number):
        numbers, values = _cells(history, record, metrics, dials)
        rows.append(
            f'<tr data-t="{record.number}" data-says="{escape(_says(history, record))}">'
            f'<td class="n">{record.number}</td><td>{_state(record.state)}</td>'
            f'<td class="n">{epoch_text(record, space)}</td>{numbers}'
            f'<td class="n">{record.training_s:.0f}</td>{values}'
            f'<td class="text">{_text(record.reason or "")}</td></tr>'
        )
    headings = ["trial", "state", "epoch", *map(metric_name, metrics), "seconds", *dials, "reason"]
    numeric = [0, 2, *range(3, 4 + len(metrics))]
    return (
        f"<details><summary>Show all {len(rows)} trials</summary>"
        f"{_panel(_table(headings, rows, numeric))}</details>"
    )


def _setting(history: History, environment: Mapping[str, Any]) -> str:
    space = history.space
    parts = []
    if space.dimensions:
        rows = [
            f"<tr><td>{_text(d.name)}</td><td class=text>{_text(described(d))}</td></tr>"
            for d in space.dimensions
        ]
        parts.append(f"<h3>Searched</h3>{_table(['dial', 'values'], rows)}")
    if space.fixed:
        fixed = [
            f"<tr><td>{_text(name)}</td><td class=text>{_value(value)}</td></tr>"
            for name, value in space.fixed.items()
        ]
        parts.append(f"<h3>Fixed</h3>{_table(['dial', 'value'], fixed)}")
    packages = environment.get("packages")
    known = [
        (name, _text(environment[name]))
        for name in ("siamtune", "python", "platform", "cpus")
        if name in environment
    ]
    if isinstance(packages, dict):
        known += [(name, _text(version)) for name, version in packages.items()]
    if known:
        parts.append(f"<h3>Environment</h3>{_facts(known)}")
    return f"<details><summary>Show them</summary>{''.join(map(_panel, parts))}</details>"
