"""The report of a search: one HTML page that needs no network, from the run's own records.

The page forbids itself every connection and every script but its own (Content-Security-Policy), so
what stands in a name or a reason stays text even where escaping should fail.
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any

from siamtune.report.evidence import Evidence
from siamtune.report.findings import costs, importance
from siamtune.report.html import (
    as_text,
    best_numbers,
    facts_list,
    moment,
    panel,
    state_class,
    state_mark,
    table,
    value_text,
    where,
)
from siamtune.report.openings import opening_lines
from siamtune.report.page_dials import (
    advice_section,
    fields_section,
    importance_section,
    parallel_section,
    slices_section,
)
from siamtune.report.page_pairs import comparison_section, wrong_pairs_section
from siamtune.report.page_replicas import replication_section
from siamtune.report.page_trials import (
    all_trials_section,
    curves_section,
    failures_section,
    leaderboard_section,
)
from siamtune.report.replication import replication_lines
from siamtune.report.table import (
    count_states,
    duration,
    front_numbers,
    metric_columns,
    metric_name,
    metric_value,
    total_epochs,
)
from siamtune.search.dimensions import described
from siamtune.search.history import History
from siamtune.search.openings import read_openings
from siamtune.search.replicas import Replication, read_replication
from siamtune.search.settings import StudySettings


def report_page(
    history: History, evidence: Evidence, environment: Mapping[str, Any], written: datetime
) -> str:
    """The whole page as text.

    `environment` is what environment.json holds; `written` is the moment that the page shows.
    """
    found = importance(history)
    replicated = read_replication(history.run)
    sections = [
        ("next", "What to do next", advice_section(history)),
        ("leaderboard", "Leaderboard", leaderboard_section(history, evidence)),
        ("replicas", "Replicated", replication_section(replicated)),
        ("comparison", "Beside the baselines", comparison_section(history, evidence)),
        ("curves", "Learning curves", curves_section(history)),
        ("importance", "Which dials matter", importance_section(history, found)),
        ("slices", "Dial by dial", slices_section(history, found)),
        ("fields", "Crop factor and normalization", fields_section(history)),
        ("parallel", "All dials at once", parallel_section(history, found)),
        ("mistakes", "Most confident mistakes", wrong_pairs_section(history, evidence)),
        ("cost", "What it cost", _cost(history)),
        ("failures", "What failed", failures_section(history)),
        ("trials", "Every trial, every dial", all_trials_section(history)),
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
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{as_text(history.run.name)} · siamtune</title><style>{style}</style></head>"
        f"<body><main>{_header(history, evidence, replicated, written)}"
        f"<nav>{links}</nav>{body}</main>"
        f'<div id="told" hidden></div><script>{script}</script></body></html>\n'
    )


def _header(
    history: History, evidence: Evidence, replicated: Replication | None, written: datetime
) -> str:
    facts, space, records = history.facts, history.space, history.records
    counts = count_states(records.values())
    standing = f"As it stood on {moment(written.isoformat())}."
    if counts.get("running"):
        many = counts["running"]
        standing += f" {many} trial{'s' if many > 1 else ''} still ran: the numbers may change."
    cards = []
    winner = history.winner
    if winner:
        best = best_numbers(history, winner)
        known = evidence.trials.get(winner.number)
        intervals = known.intervals if known else {}
        for metric in dict.fromkeys([*metric_columns(space.objective), "val/eer"]):
            if metric in best:
                what = f"{metric_name(metric)} of the best: trial {winner.number}, epoch "
                what += f"{best['epoch']:.0f}"
                interval = intervals.get(metric.removeprefix("val/"))
                if interval:
                    what += f"; [{interval.low:.3f}, {interval.high:.3f}] over people"
                cards.append((metric_value(metric, best[metric]), what))
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items())
    planned = facts.get("trials")
    of = f" of {planned}" if isinstance(planned, int) and planned > len(records) else ""
    cards.append((f"{len(records)}{of}", f"trials: {states}" if states else "trials"))
    training_s = sum(record.training_s for record in records.values())
    cards.append((duration(training_s), "of training, all trials"))
    numbers = "".join(
        f"<div><b>{as_text(number)}</b><span>{as_text(what)}</span></div>" for number, what in cards
    )
    people, pictures = facts.get("people"), facts.get("pictures")
    about = [("measured on", where(history))]
    if isinstance(people, dict):
        shares = ", ".join(f"{as_text(count)} {as_text(part)}" for part, count in people.items())
        about.append(("people", shares + (f"; {as_text(pictures)} pictures" if pictures else "")))
    if replicated is not None:
        about.append(("with fresh seeds", as_text("; ".join(replication_lines(replicated)))))
    openings = read_openings(history.run)
    about += [("test people", as_text(line)) for line in opening_lines(openings)]
    if leading := front_numbers(records.values(), space.objective):
        about.append(("front", "not beaten in both: trials " + ", ".join(map(str, leading))))
    command = shlex.join(map(str, facts.get("command", [])))
    about += [
        (
            "objective",
            "; ".join(
                f"{as_text(each.metric)}, the "
                f"{'larger' if each.mode == 'max' else 'smaller'} the better"
                for each in space.objective.each
            ),
        ),
        *([("proposed by", as_text(_proposed_by(space.study)))] if space.dimensions else []),
        ("begun", as_text(moment(facts.get("created")))),
        (
            "command",
            f"<code>siamtune {as_text(command)}</code>",
        ),
    ]
    chosen = (
        "The best of many trials was chosen by these numbers"
        if space.dimensions
        else "The epoch of the model was chosen by these numbers"
    )
    told = "below," if openings else "whom the search never opened,"
    caution = (
        ""
        if winner is None
        else (
            "<p class='why'>Every number is of validation people, whom no training saw. "
            f"{chosen} and is a little too good; the test people, {told} tell by how much.</p>"
        )
    )
    return (
        f"<h1>{as_text(history.run.name)}</h1><p class='soft'>{standing}</p>"
        f'<div class="numbers">{numbers}</div>{caution}{panel(facts_list(about))}'
    )


def _proposed_by(study: StudySettings) -> str:
    name = study.scheduler.name
    return (
        f"{study.sampler}, {'none stopped early' if name == 'none' else f'stopped early by {name}'}"
    )


def _cost(history: History) -> str:
    found = costs(history.records.values())
    if not found:
        return ""
    total = sum(cost.training_s for cost in found)
    rows = [
        f'<tr><td>{state_mark(cost.state)}</td><td class="n">{cost.trials}</td>'
        f'<td class="n">{cost.epochs}</td><td class="n">{duration(cost.training_s)}</td>'
        f'<td class="n">{100 * cost.training_s / total if total else 0:.0f}%</td></tr>'
        for cost in found
    ]
    split = "".join(
        f'<span class="{state_class(cost.state)}" '
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
        + panel(
            (f'<div class="split">{split}</div>' if split else "")
            + table(["state", "trials", "epochs", "training", "share"], rows, numeric=range(1, 5))
        )
    )


def _setting(history: History, environment: Mapping[str, Any]) -> str:
    space = history.space
    parts = []
    if space.dimensions:
        rows = [
            f"<tr><td>{as_text(d.name)}</td><td class=text>{as_text(described(d))}</td></tr>"
            for d in space.dimensions
        ]
        parts.append(f"<h3>Searched</h3>{table(['dial', 'values'], rows)}")
    if space.fixed:
        fixed = [
            f"<tr><td>{as_text(name)}</td><td class=text>{value_text(value)}</td></tr>"
            for name, value in space.fixed.items()
        ]
        parts.append(f"<h3>Fixed</h3>{table(['dial', 'value'], fixed)}")
    packages = environment.get("packages")
    known = [
        (name, as_text(environment[name]))
        for name in ("siamtune", "python", "platform", "cpus")
        if name in environment
    ]
    if isinstance(packages, dict):
        known += [(name, as_text(version)) for name, version in packages.items()]
    if known:
        parts.append(f"<h3>Environment</h3>{facts_list(known)}")
    return f"<details><summary>Show them</summary>{''.join(map(panel, parts))}</details>"
