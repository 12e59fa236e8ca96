"""The report on pairs: finalists beside baselines, and the faces that the winner mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from siamtune.report.charts import Mark, NumberAxis, RateAxis, chart, lines, svg
from siamtune.report.evidence import Evidence, default_configs
from siamtune.report.html import as_text, interval_text, panel, table, where
from siamtune.report.pairs import PairPicture, pair_drawing
from siamtune.report.standing import Standing
from siamtune.report.table import epoch_text, metric_name
from siamtune.search.history import History

LOOKS = ("best", "complete solid", "complete dashed")  # of the finalists' curves
DEFAULT_LOOKS = ("running solid", "running dashed")  # siamtune's and that of 2016
FINALISTS = len(LOOKS)
METRICS = ("auc", "accuracy", "f1", "eer", "tar@far=0.01", "tar@far=0.001")
NAMES = {
    "pixels": "raw pixels",
    "pca": "PCA",
    "hog": "HOG",
    "lbp": "LBP",
    "untrained": "untrained network",
    "logistic": "logistic regression",
    "lda": "Fisher's discriminants",
}
LEAST_RATE, MOST_RATE = 0.001, 0.8  # of a DET curve; with few pairs the least is one pair


@dataclass(frozen=True)
class _Drawn:
    name: str
    look: str  # class of its line
    key: str  # the trial's number, where it is one
    standing: Standing


def comparison_section(history: History, evidence: Evidence) -> str:
    """ROC and DET curves and all numbers of finalists, defaults and baselines, on equal pairs."""
    drawn = _drawn(history, evidence)
    if not drawn:
        return _notes(evidence)
    finalists = list(evidence.trials.items())[:FINALISTS]
    rows: list[tuple[str, Standing, int | None]] = [
        *((f"trial {number}{_cut_short(history, number)}", s, number) for number, s in finalists),
        *(
            (name if trial is None else f"{name}, trial {trial}", s, trial)
            for name, (trial, s) in evidence.defaults.items()
        ),
        *(
            (_baseline_name(name), s, None)
            for name, s in sorted(
                evidence.baselines.items(), key=lambda item: -item[1].metrics["auc"]
            )
        ),
    ]
    told = [m for m in METRICS if any(m in s.metrics for _, s, _ in rows)]
    lines = []
    for at, (name, standing, trial) in enumerate(rows):
        numbers = "".join(f'<td class="n">{_number(standing, metric)}</td>' for metric in told)
        mark = "" if trial is None else f' data-t="{trial}"'
        best = " class=best" if at == 0 else ""
        lines.append(f"<tr{mark}{best}><td>{as_text(name)}</td>{numbers}</tr>")
    pairs = next(iter(drawn)).standing.pairs
    legend = "".join(
        f'<span><i class="{each.look}"></i>{as_text(each.name)}</span>' for each in drawn
    )
    missing = [name for name in default_configs() if name not in evidence.defaults]
    command = as_text(f"siamtune report {quote(history.run.place)} --train-defaults")
    absent = (
        f"<p class='why'>Not among the complete trials: {as_text(' and '.join(missing))}. "
        f"<code>{command}</code> trains "
        f"{'them' if len(missing) > 1 else 'it'} on the same split, as long as a trial.</p>"
        if missing
        else ""
    )
    return (
        f"<p class='why'>All were asked the same {pairs:,} pairs of {where(history)}, half of them "
        "of one person; thresholds come from training people, unless a trial fixes its own. "
        "[low, high] holds the number 95 times of 100 with other people (bootstrap over "
        "identities). Of baselines the better way to score is drawn.</p>"
        + panel(
            f'<div class="legend">{legend}</div><div class="grid2 curves">'
            f"{_roc(drawn)}{_det(drawn)}</div>"
        )
        + panel(table(["", *(metric_name(name) for name in told)], lines, range(1, len(told) + 1)))
        + absent
        + _notes(evidence)
    )


def wrong_pairs_section(history: History, evidence: Evidence) -> str:
    """The winner's most confident mistakes, as faces."""
    winner = history.winner
    if winner is None or not (evidence.strangers or evidence.own):
        return ""
    return (
        f"<p class='why'>Trial {winner.number}, {where(history)}: the wrong answers farthest from "
        "the threshold, the worst first. Some are faults of the data: a picture under the wrong "
        "name, two people in one picture, a face that the crop has missed. These are photographs "
        "of people; <code>--no-faces</code> writes a report to pass on without them.</p>"
        + _group("Two people taken for one", evidence.strangers)
        + _group("One person taken for two", evidence.own)
    )


def _group(heading: str, pairs: Sequence[PairPicture]) -> str:
    if not pairs:
        return ""
    drawn = "".join(pair_drawing(pair) for pair in pairs)
    return panel(f'<h3>{heading}</h3><div class="pairs">{drawn}</div>')


def _cut_short(history: History, number: int) -> str:
    """What of a trial that was not trained to its end must stand beside its numbers."""
    record = history.trial(number)
    if record.state == "complete":
        return ""
    return f", {record.state.replace('_', ' ')} at {epoch_text(record, history.space)}"


def _notes(evidence: Evidence) -> str:
    return "".join(f"<p class='why'>Missing: {as_text(note)}.</p>" for note in evidence.notes)


def _baseline_name(name: str) -> str:
    features, _, how = name.rpartition("/")
    return f"{NAMES[features]}, {NAMES.get(how, how)}" if features else name


def _number(standing: Standing, metric: str) -> str:
    if metric not in standing.metrics:
        return ""
    return f"{standing.metrics[metric]:.4f}{interval_text(standing.intervals.get(metric))}"


def _drawn(history: History, evidence: Evidence) -> list[_Drawn]:
    """Whose curves are drawn, the best first."""
    drawn = []
    for at, (number, standing) in enumerate(list(evidence.trials.items())[:FINALISTS]):
        look = LOOKS[at]
        drawn.append(_Drawn(f"trial {number}", look, str(number), standing))
    shown = {each.key for each in drawn}
    looks = dict(zip(default_configs(), DEFAULT_LOOKS, strict=True))
    for name, (trial, standing) in evidence.defaults.items():
        if str(trial) not in shown:
            drawn.append(_Drawn(name, looks[name], "" if trial is None else str(trial), standing))
    better: dict[str, tuple[str, Standing]] = {}
    for name, standing in evidence.baselines.items():
        features = name.rpartition("/")[0]
        before = better.get(features)
        if features and (not before or before[1].metrics["auc"] < standing.metrics["auc"]):
            better[features] = name, standing
    for at, (name, standing) in enumerate(better.values()):
        drawn.append(_Drawn(_baseline_name(name), f"baseline b{at}", "", standing))
    return drawn


def _roc(drawn: Sequence[_Drawn]) -> str:
    roc = chart(
        NumberAxis("false accept rate", 0.0, 1.0), NumberAxis("true accept rate", 0.0, 1.0),
        width=480, height=400,
    )  # fmt: skip
    lines(roc, [([(0.0, 0.0), (1.0, 1.0)], Mark("line chance"))])
    lines(roc, [(each.standing.curve, _mark(each)) for each in reversed(drawn)])
    return svg(roc, "roc", f"ROC curves of {_names(drawn)}")


def _det(drawn: Sequence[_Drawn]) -> str:
    least = max(LEAST_RATE, 2 / drawn[0].standing.pairs)
    x, y = (
        RateAxis(f"{kind} (normal deviates)", least, MOST_RATE)
        for kind in ("false accept rate", "false reject rate")
    )
    det = chart(x, y, width=480, height=400)
    curves = []
    for each in reversed(drawn):
        within = [
            (far, 1 - tar)
            for far, tar in each.standing.curve
            if least <= far <= MOST_RATE and least <= 1 - tar <= MOST_RATE
        ]
        curves.append((within, _mark(each)))
    lines(det, curves)
    return svg(det, "det", f"DET curves of {_names(drawn)}")


def _mark(each: _Drawn) -> Mark:
    says = f"{each.name}: AUC {each.standing.metrics['auc']:.4f}"
    return Mark(f"line {each.look}", says, each.key)


def _names(drawn: Sequence[_Drawn]) -> str:
    return ", ".join(each.name for each in drawn)
