"""What a run keeps of its trials' answers, so that they can be looked at without their models.

pairs-5b1e90c3a2f4.npz    the validation pairs of a split: pictures, people, truths
trials/0007/scores.npz    a trial's scores of them at its best epoch, its threshold, its split

Some fifty kilobytes a trial: intervals, curves and the pairs that two trials judge differently need
no checkpoint, which only the best trials keep.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from siamtune.errors import InvalidInput
from siamtune.verification.answers import Answers
from siamtune.verification.pairs import VerificationPairs

MOST_OF_A_PERSON = 2


@dataclass(frozen=True, eq=False)
class KeptAnswers:
    """A trial's answers at its best epoch; equal `split` means equal pairs."""

    pairs: VerificationPairs  # indices of readable pictures of the source
    answers: Answers
    epoch: int
    split: str


def keep_answers(
    run: Path,
    trial: int,
    pairs: VerificationPairs,
    identities: np.ndarray,
    split: str,
    scores: np.ndarray,
    threshold: float,
    epoch: int,
) -> None:
    """Write a trial's `scores` (P,), and the pairs if no other trial has; each file at once.

    `identities` (N,) is indexed by picture.
    """
    shared = _pairs_path(run, split)
    if not shared.exists():
        _write(
            shared,
            left=pairs.left,
            right=pairs.right,
            same=pairs.same,
            left_person=identities[pairs.left],
            right_person=identities[pairs.right],
        )
    _write(_scores_path(run, trial), scores=scores, threshold=threshold, epoch=epoch, split=split)


def read_answers(run: Path, trial: int) -> KeptAnswers | None:
    """What was kept of a trial; None if nothing was.

    Raises:
        InvalidInput: a file is damaged.
    """
    path = _scores_path(run, trial)
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            scores, threshold = kept["scores"], float(kept["threshold"])
            epoch, split = int(kept["epoch"]), str(kept["split"])
        path = _pairs_path(run, split)
        with np.load(path) as kept:
            pairs = VerificationPairs(kept["left"], kept["right"], kept["same"])
            people = kept["left_person"], kept["right_person"]
        if not len(scores) == len(pairs) == len(people[0]) == len(people[1]):
            raise ValueError(f"{len(scores)} scores of {len(pairs)} pairs")
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise InvalidInput(
            f"{path}: must hold what siamtune kept of a trial's answers, but cannot be read "
            f"({error}); remove {_scores_path(run, trial)}, and the trial is shown without them"
        ) from None
    return KeptAnswers(pairs, Answers(scores, pairs.same, *people, threshold), epoch, split)


def kept_paths(run: Path, trial: int, split: str | None) -> list[Path]:
    """Where a trial's answers are kept, and the pairs of its split if that is known."""
    return [_scores_path(run, trial), *([_pairs_path(run, split)] if split else [])]


def wrong_pairs(kept: KeptAnswers, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pairs farthest on the wrong side of the threshold, farthest first.

    Two people called one, then one person called two. Nobody is shown more than twice: one person
    who is hard to recognise would fill all places.
    """
    above = kept.answers.scores - kept.answers.threshold
    strangers = np.flatnonzero(~kept.answers.same & (above >= 0))
    own = np.flatnonzero(kept.answers.same & (above < 0))
    return (
        varied(kept, strangers[np.argsort(-above[strangers], kind="stable")], most),
        varied(kept, own[np.argsort(above[own], kind="stable")], most),
    )


def varied(kept: KeptAnswers, order: np.ndarray, most: int) -> np.ndarray:
    """The first `most` of positions that show nobody more than twice."""
    shown: Counter[int] = Counter()
    chosen: list[int] = []
    for at in order:
        people = {int(kept.answers.left[at]), int(kept.answers.right[at])}
        if len(chosen) < most and all(shown[person] < MOST_OF_A_PERSON for person in people):
            chosen.append(int(at))
            shown.update(people)
    return np.array(chosen, np.int64)


def _pairs_path(run: Path, split: str) -> Path:
    return run / f"pairs-{split}.npz"


def _scores_path(run: Path, trial: int) -> Path:
    return run / "trials" / f"{trial:04d}" / "scores.npz"


def _write(path: Path, **arrays: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
