"""What the test people said, and how often they were asked."""

from collections.abc import Sequence

from siamtune.report.table import metric_name
from siamtune.search.openings import Opening
from siamtune.shipping.card import estimate

SHOWN = ("auc", "accuracy", "f1", "eer")


def opening_lines(openings: Sequence[Opening]) -> list[str]:
    """One line an opening: model, numbers with intervals over people, when."""
    return [
        f"test people of {opening.data}, {opening.protocol}, split {opening.split}: "
        f"trial {opening.trial}"
        + (f" (replica {opening.replica})" if opening.replica is not None else "")
        + "".join(
            f", {metric_name(metric)} {estimate(opening.measured[metric])}"
            for metric in SHOWN
            if metric in opening.measured
        )
        + f"; opening {at} of {len(openings)}, {opening.time}"
        for at, opening in enumerate(openings, start=1)
    ]
