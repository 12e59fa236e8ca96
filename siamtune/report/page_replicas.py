"""The report on replicas: which configurations are tied, and what was luck."""

from siamtune.report.html import as_text, panel, table
from siamtune.report.replication import HEADINGS, replication_cells, replication_lines, title
from siamtune.search.replicas import Replication

WHY = (
    "The best of many trials was chosen by a number that is partly the luck of its seed. The best "
    "configurations were trained again with seeds that the search did not use, on the same people, "
    "never stopped early. ±: 95 %, over {over}; of how far one is behind the first for all "
    "together. Luck: what the search showed above the mean of the fresh seeds, ± over seeds."
)


def replication_section(found: Replication | None) -> str:
    """The section of the report; nothing where nothing was replicated."""
    if found is None:
        return ""
    rows = []
    for place, row in enumerate(found.configurations):
        trial, *cells = replication_cells(found, row)
        numbers = "".join(f'<td class="n">{as_text(cell)}</td>' for cell in cells)
        tied = "" if place == 0 or row.mean is None else "yes" if row.tied else "no"
        rows.append(
            f'<tr data-t="{as_text(trial)}"{" class=best" if place == 0 else ""}>'
            f'<td class="n">{as_text(trial)}</td>{numbers}<td>{tied}</td></tr>'
        )
    since = f"{found.trials} trials had begun then."
    lines = "".join(f"<p>{as_text(_sentence(line))}</p>" for line in replication_lines(found))
    return (
        f"<p class='why'>{as_text(WHY.format(over=found.over))}</p>{lines}"
        + panel(table([*HEADINGS, "tied"], rows, numeric=range(len(HEADINGS))))
        + f"<p class='soft'>{as_text(title(found))}: {as_text(since)}</p>"
    )


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."
