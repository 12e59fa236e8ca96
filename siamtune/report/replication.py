"""What the replicas of a search came to: a table and two sentences."""

from rich.table import Table

from siamtune.report.table import GAP, metric_name, metric_value
from siamtune.search.replicas import Estimate, Replicated, Replication

HEADINGS = ("trial", "search", "fresh seeds", "behind", "luck", "trained")


def replication_table(found: Replication, star: str) -> Table:
    """A row a configuration, the best mean first."""
    shown = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    shown.title = f"{title(found)} (± 95 % over {found.over})"
    shown.title_justify, shown.title_style = "left", "none"
    for heading in HEADINGS:
        shown.add_column(heading, justify="right", no_wrap=True)
    for place, row in enumerate(found.configurations):
        trial, *cells = replication_cells(found, row)
        style = "bold" if place == 0 else "" if row.tied else "dim"
        shown.add_row(f"{star} {trial}" if place == 0 else trial, *cells, style=style)
    return shown


def replication_lines(found: Replication) -> list[str]:
    """Who is tied with the first, and how much of the winner's lead was luck."""
    first = found.first.trial
    others = [str(trial) for trial in found.tied if trial != first]
    tied = f"tied with trial {first}: {', '.join(others)}" if others else ""
    measured = sum(row.mean is not None for row in found.configurations)
    none = f"no other of the {measured} that were trained is tied with trial {first}"
    if measured < 2:
        none = f"of no other configuration a replica was trained to an end: trial {first} is alone"
    return [tied or none, *_luck(found)]


def title(found: Replication) -> str:
    """`AUC, replicated 5x3 with seeds 1, 2, 3`."""
    seeds = ", ".join(map(str, found.seeds))
    return f"{metric_name(found.metric)}, replicated {found.asked} with seeds {seeds}"


def replication_cells(found: Replication, row: Replicated) -> list[str]:
    """A configuration under `HEADINGS`."""
    metric = found.metric
    ended = [replica.state for replica in row.replicas]
    many = str(ended.count("complete"))
    many += "".join(
        f", {ended.count(state)} {state.replace('_', ' ')}"
        for state in dict.fromkeys(ended)
        if state != "complete"
    )
    return [
        str(row.trial),
        metric_value(metric, row.search),
        _estimate(metric, row.mean),
        _estimate(metric, row.behind),
        _estimate(metric, row.luck),
        many,
    ]


def _luck(found: Replication) -> list[str]:
    metric, lead = found.metric, found.lead
    row = next(r for r in found.configurations if r.trial == found.winner)
    if row.mean is None:
        return [f"trial {row.trial} led the search; none of its replicas was trained to an end"]
    name = metric_name(metric)
    text = (
        f"luck: trial {row.trial} led the search with {name} "
        f"{metric_value(metric, row.search)}; with fresh seeds it has {_estimate(metric, row.mean)}"
    )
    if row.luck is not None and row.luck.value > 0:
        text += f": {_estimate(metric, row.luck)} of it was luck"
    elif row.luck is not None:
        text += f": it was no luck ({_estimate(metric, row.luck)})"
    if lead is not None:
        text += (
            f". Of its lead of {metric_value(metric, lead.search)} over trial {lead.over} "
            f"fresh seeds leave {_estimate(metric, lead.replicated)}"
        )
    return [text]


def _estimate(metric: str, estimate: Estimate | None) -> str:
    """`0.9661 ± 0.0042`."""
    if estimate is None:
        return ""
    text = metric_value(metric, estimate.value)
    margin = estimate.margin
    return text if margin is None else f"{text} ± {metric_value(metric, margin)}"
