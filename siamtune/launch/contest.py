"""Two trials before the same pairs: who is right where the other is wrong, and is it chance?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siamtune.errors import InvalidInput
from siamtune.search.history import History
from siamtune.search.records import TrialRecord
from siamtune.search.runs import write_text
from siamtune.verification.bootstrap import Interval, difference_interval, enough_people
from siamtune.verification.kept import KeptAnswers, read_answers, varied
from siamtune.verification.mcnemar import McNemar, mcnemar
from siamtune.verification.metrics import roc_auc

if TYPE_CHECKING:
    from siamtune.data.decode import Progress

MOST_DRAWN = 12  # of each kind


@dataclass(frozen=True, eq=False)
class Contest:
    """What two trials say of the same pairs, each at its own threshold.

    Attributes:
        auc_difference, auc_gain: of the second minus the first, and its interval over people; None
            where too few people have positive pairs.
        first_only, second_only: positions of pairs that one alone judges rightly, the farthest
            from the other's threshold first.
    """

    numbers: tuple[int, int]
    answers: tuple[KeptAnswers, KeptAnswers]
    test: McNemar
    auc_difference: float
    auc_gain: Interval | None
    first_only: NDArray[np.int64]
    second_only: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        return len(self.answers[0].pairs)

    @property
    def flips(self) -> int:
        return len(self.first_only) + len(self.second_only)


def contest(history: History, first: TrialRecord, second: TrialRecord) -> Contest:
    """Compare the kept answers of two trials.

    Raises:
        InvalidInput: one of them kept none, or they were asked other pairs.
    """
    a, b = _kept(history, first), _kept(history, second)
    if a.split != b.split:
        raise InvalidInput(
            f"trials {first.number} and {second.number} were asked other pairs (split {a.split} "
            f"and {b.split}): their answers cannot be compared"
        )
    above = [kept.answers.scores - kept.answers.threshold for kept in (a, b)]
    same = a.answers.same
    right = [(side >= 0) == same for side in above]
    only = [np.flatnonzero(right[0] & ~right[1]), np.flatnonzero(right[1] & ~right[0])]
    aucs = [roc_auc(kept.answers.scores, same) for kept in (a, b)]
    gain = None
    if enough_people(same, a.answers.left):
        gain = difference_interval(
            "auc", a.answers.scores, b.answers.scores, same, a.answers.left, a.answers.right
        )
    return Contest(
        (first.number, second.number),
        (a, b),
        mcnemar(*right),
        aucs[1] - aucs[0],
        gain,
        only[0][np.argsort(-np.abs(above[1][only[0]]), kind="stable")],
        only[1][np.argsort(-np.abs(above[0][only[1]]), kind="stable")],
    )


def draw_flips(
    history: History, found: Contest, to: Path, progress: "Progress | None" = None
) -> None:
    """Write the pairs that one trial alone judges rightly as an SVG.

    Raises:
        DataError: the pictures are gone or are others now.
        InvalidInput: the file cannot be written.
    """
    from siamtune.launch.evidence import data_spec, open_album
    from siamtune.report.pairs import pairs_file

    album = open_album(data_spec(history), progress)
    album.require(found.answers[0])
    groups = []
    for winner, positions in enumerate((found.first_only, found.second_only)):
        drawn = varied(found.answers[0], positions, MOST_DRAWN)
        of = f", {len(drawn)} of {len(positions)}" if len(drawn) < len(positions) else ""
        heading = (
            f"Only trial {found.numbers[winner]} is right{of}; each score from its own threshold"
            if len(positions)
            else f"Nowhere is only trial {found.numbers[winner]} right"
        )
        groups.append(
            (heading, [album.pair(found.answers[0], at, _says(found, at)) for at in drawn])
        )
    try:
        write_text(to, pairs_file(groups))
    except OSError as error:
        raise InvalidInput(
            f"{to}: the picture cannot be written there ({error.strerror}); choose another --to"
        ) from None


def _says(found: Contest, at: int) -> str:
    """`trial 7 +0.031 · trial 12 -0.012`: how far each trial's score is from its threshold."""
    return " · ".join(
        f"trial {number} {kept.answers.scores[at] - kept.answers.threshold:+.3f}"
        for number, kept in zip(found.numbers, found.answers, strict=True)
    )


def _kept(history: History, record: TrialRecord) -> KeptAnswers:
    kept = read_answers(history.run.folder, record.number)
    if kept is None:
        why = (
            "it has measured nothing"
            if not record.epochs
            else ("an older siamtune has trained it, or its folder was tidied up")
        )
        raise InvalidInput(
            f"trial {record.number} of {history.run.name} has kept no answers ({why}): no pairs to "
            "compare"
        )
    return kept
