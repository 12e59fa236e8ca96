"""The report on dials: which matter, what to widen, and the objective over each of them."""

from collections.abc import Mapping, Sequence

from siamtune.report.charts import (
    Axis,
    Cell,
    Mark,
    NameAxis,
    NumberAxis,
    bars,
    chart,
    dots,
    heat_map,
    padded,
    parallel,
    svg,
)
from siamtune.report.findings import (
    LEAST_FOR_BOUNDS,
    Importance,
    drawn_trials,
    fields,
    has,
    on_bounds,
    untried,
    whose,
    word,
)
from siamtune.report.html import (
    as_text,
    best_numbers,
    legend,
    panel,
    state_class,
    table,
    trial_brief,
    value_text,
)
from siamtune.report.table import (
    count_states,
    dial_name,
    metric_name,
)
from siamtune.search.dimensions import ChoiceDimension, Dimension, IntDimension, described
from siamtune.search.history import History
from siamtune.search.records import TrialRecord

MOST_COLUMNS = 7  # of the parallel coordinates, beside the objective
LEAST_SHARE = 0.01  # of importance, to be drawn
PANELS = 12  # dials that are drawn at once; the others fold away
# Trials that were stopped after an epoch or two lie far below: where enough are complete, the
# objective's axis reaches this share of their range below the worst of them.
BELOW_COMPLETE, LEAST_COMPLETE = 0.5, 8
JITTER = 0.6  # of the room of a choice; points on one another cannot be counted
GOLDEN = 0.6180339887


def advice_section(history: History) -> str:
    if not history.space.dimensions:
        return ""
    complete = count_states(history.records.values()).get("complete", 0)
    if not complete:
        return "<p>No trial is complete yet: there is nothing to advise.</p>"
    items = []
    for bound in on_bounds(history):
        advice = (
            f"<b>{as_text(bound.name)}</b>: {bound.trials} of the best {bound.of} complete trials "
            f"lie at its {bound.end} bound, {value_text(bound.bound)}. "
        )
        if bound.wider is None:
            advice += "The dial allows nothing beyond it."
        else:
            way = "upwards" if bound.end == "upper" else "downwards"
            advice += f"Widen it {way}: <code>{as_text(described(bound.wider))}</code>."
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
        f"<tr><td>{as_text(gap.name)}</td>"
        f'<td class="text">{_codes(gap.values)}</td>'
        f'<td class="n">{gap.begun or "none"}</td></tr>'
        for gap in untried(history)
    ]
    if not rows:
        return panel(
            f"<h3>Ranges</h3>{widen}<h3>Choices</h3><p>Every one was tried to the end.</p>"
        )
    gaps = table(["dial", "never tried to the end", "trials that began with it"], rows, [2])
    return panel(f"<h3>Ranges</h3>{widen}") + panel(
        "<h3>Gaps</h3><p class='why'>No trial with these values was trained to its last epoch: "
        "they were judged early, or not at all.</p>" + gaps
    )


def _codes(values: Sequence[str]) -> str:
    return ", ".join(f"<code>{as_text(value)}</code>" for value in values)


def importance_section(history: History, found: Importance) -> str:
    if not history.space.dimensions:
        return ""
    if found.problem:
        return f"<p>Not known yet: {as_text(found.problem)}.</p>"
    drawn = {name: share for name, share in found.shares.items() if share >= LEAST_SHARE}
    if not drawn:
        return "<p>No dial sets the best trials apart from the others.</p>"
    marks = [
        Mark(f"bar{'' if name in found.beyond_chance else ' pale'}", f"{name}: {100 * share:.1f}%")
        for name, share in drawn.items()
    ]
    says = f"importance of {len(drawn)} dials"
    charts = "".join(
        svg(bars(list(drawn), list(drawn.values()), marks, width), f"importance {classes}", says,
            f"chart {classes}")
        for classes, width in (("only-wide", 1050), ("only-narrow", 340))
    )  # fmt: skip
    without = sum(share < LEAST_SHARE for share in found.shares.values())
    others = (
        "another dial: less than 1%" if without == 1 else f"{without} others: less than 1% each"
    )
    rest = f"<p class='why'>{others}.</p>" if without else ""
    return (
        f"<p class='why'>What sets the best of {found.trials} trials apart from all of them, at "
        f"their best up to epoch {found.epoch} (which half of the trials reached): Optuna's "
        "PED-ANOVA, shares of the whole. Pale bars are no longer than shuffled numbers give: with "
        "so few trials they say nothing. Of dials that do nothing one in twenty is not pale, too."
        "</p>" + panel(charts + rest)
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


def slices_section(history: History, found: Importance) -> str:
    metric, shown = history.space.objective.metric, drawn_trials(history)
    order = [record for record in history.ranked if record.number in shown]
    if not order or not history.space.dimensions:
        return ""
    values = {record.number: best_numbers(history, record)[metric] for record in order}
    y = _objective_axis(history, values)
    panels = []
    for dimension in _dimensions(history, found):
        active = [record for record in order if has(record, dimension)]
        if not active:
            continue
        log = " (log)" if getattr(dimension, "log", False) else ""
        points = []
        for record in reversed(active):
            best = "best" if record is order[0] else ""
            up = min(max(values[record.number], y.low), y.high)
            look = f"dot {best or state_class(record.state)}"
            look += "" if up == values[record.number] else " edge"
            mark = Mark(look, trial_brief(history, record), str(record.number))
            points.append((_across(dimension, record), up, mark))
        whole = chart(_axis(dimension, dimension.name + log), y)
        of_best = [point for point in points if "best" in point[2].classes]
        dots(whole, [point for point in points if point not in of_best])
        dots(whole, of_best, radius=5)
        says = f"{metric_name(metric)} over {dimension.name}, {len(active)} trials"
        when = " and ".join(
            f"{name} {' or '.join(map(word, allowed))}" for name, allowed in dimension.when.items()
        )
        note = f"<p class='why'>only with {as_text(when)}</p>" if when else ""
        panels.append(panel(svg(whole, f"slice {dimension.name}", says) + note))
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
        f"<p class='why'>The best epoch of {whose(history)} over each dial, dials that matter "
        "first. Hollow points were stopped early and might have become better."
        f"{clipped} Touch a point to see the trial everywhere.</p>"
        f'{legend(history, "dot")}<div class="grid2">{"".join(panels[:PANELS])}</div>{folded}'
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


def _across(dimension: Dimension, record: TrialRecord) -> float:
    """Where a trial stands on the axis of a dial."""
    value = record.config[dimension.name]
    if not isinstance(dimension, ChoiceDimension):
        return float(value)
    aside = (record.number * GOLDEN) % 1 - 0.5
    return [word(choice) for choice in dimension.choices].index(word(value)) + JITTER * aside


def fields_section(history: History) -> str:
    found = fields(history, "data.normalization", "data.crop_factor")
    if found is None:
        return ""
    metric = history.space.objective.metric
    measured = {record.number: best_numbers(history, record)[metric] for record in history.ranked}
    scale = _objective_axis(history, measured)
    name = metric_name(metric)

    def strength(value: float) -> float:
        share = min(max((value - scale.low) / (scale.high - scale.low), 0.0), 1.0)
        return share if history.space.objective.mode == "max" else 1 - share

    cells = {
        (row, column): Cell(
            strength(value), f"{value:.3f}", f"of {trials}",
            f"{found.rows[row]}, crop factor {found.columns[column]}: best {name} {value:.4f} "
            f"of {trials} trials",
        )
        for (row, column), (value, trials) in found.best.items()
    }  # fmt: skip
    whole = heat_map(found.rows, found.columns, cells, ("normalization", "crop factor"))
    says = f"best {name} by normalization and crop factor"
    drawn = svg(whole, "fields", says, "chart fixed")
    return (
        f"<p class='why'>The best {as_text(name)} in each field, and of how many trials; a best of "
        "many is better by luck alone. Dashed fields were never measured.</p>"
        + panel(f'<div class="wide">{drawn}</div>')
    )


def parallel_section(history: History, found: Importance) -> str:
    metric, shown = history.space.objective.metric, drawn_trials(history)
    order = [record for record in history.ranked if record.number in shown]
    shared = [
        d
        for d in _dimensions(history, found)
        if all(has(record, d) for record in order)
        and (isinstance(d, ChoiceDimension) or d.low < d.high)
    ][:MOST_COLUMNS]
    if len(order) < 2 or not shared:
        return ""
    values = [best_numbers(history, record)[metric] for record in order]
    columns: list[Axis] = [_axis(d, dial_name(d.name)) for d in shared]
    goal = NumberAxis(metric_name(metric), min(values), max(values))
    strands = []
    for record, value in reversed(list(zip(order, values, strict=True))):
        places = [
            word(record.config[d.name]) if isinstance(d, ChoiceDimension) else record.config[d.name]
            for d in shared
        ]
        faint = "" if record.state == "complete" else " faint"
        look = "best" if record is order[0] else state_class(record.state) + faint
        mark = Mark(f"line {look}", trial_brief(history, record), str(record.number))
        strands.append(([*places, value], mark))
    says = f"parallel coordinates of {len(strands)} trials over {len(columns)} dials"
    whole = svg(parallel([*columns, goal], strands), "parallel", says, "chart fixed")
    left_out = len(history.space.dimensions) - len(shared)
    dials = "dial that matters" if left_out == 1 else "dials that matter"
    rest = f" Left out: {left_out} {dials} less or that only some trials have." if left_out else ""
    return (
        f"<p class='why'>Each line is a trial, of {whose(history)}; the last axis is the "
        f"objective.{rest}</p>"
        + panel(legend(history, "strand") + f'<div class="wide">{whole}</div>')
    )
