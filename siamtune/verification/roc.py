"""Every way to cut a set of scores in two, counted once; all metrics and thresholds read this."""

from dataclasses import dataclass

import numpy as np

from siamtune.errors import InvalidInput


@dataclass(frozen=True)
class Cuts:
    """C cuts, from "nothing is the same" to "everything is"; equal scores fall on one side.

    At cut i pairs with a score of `lowest[i]` or more are called the same person.
    """

    lowest: np.ndarray  # (C,) float64, falling; inf first
    true_accepts: np.ndarray  # (C,) int64, rising from 0 to `positives`
    false_accepts: np.ndarray  # (C,) int64, rising from 0 to `negatives`

    @property
    def positives(self) -> int:
        return int(self.true_accepts[-1])

    @property
    def negatives(self) -> int:
        return int(self.false_accepts[-1])


def cuts(scores: np.ndarray, same: np.ndarray) -> Cuts:
    """Count accepted pairs at every distinct score; `scores` (P,) float, `same` (P,) bool.

    Raises:
        InvalidInput: a score is not finite, or all pairs are of one kind.
    """
    scores, same = checked(scores, same)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = group_ends(falling)
    true_accepts = np.cumsum(same[order])[ends]
    return Cuts(
        np.concatenate([[np.inf], falling[ends]]),
        np.concatenate([[0], true_accepts]),
        np.concatenate([[0], ends + 1 - true_accepts]),
    )


def group_ends(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values ends."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and `same` as bool.

    Raises:
        InvalidInput: a score is not finite, or all pairs are of one kind.
    """
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.shape != same.shape or scores.ndim != 1:
        raise InvalidInput(
            "scores and same must be one number a pair each, but got shapes "
            f"{scores.shape} and {same.shape}"
        )
    unusable = int((~np.isfinite(scores)).sum())
    if unusable:
        raise InvalidInput(f"scores must be finite, but {unusable} of {len(scores)} are not")
    if same.all() or not same.any():
        raise InvalidInput(
            "verification needs positive and negative pairs, but got "
            f"{int(same.sum())} and {int((~same).sum())}"
        )
    return scores, same


def thinned(roc: Cuts, points: int = 120) -> list[tuple[float, float]]:
    """False and true accept rates of the cuts that a drawing needs, rising from (0, 0) to (1, 1).

    Of the cuts with one false accept rate the last matters; of the others about `points` are kept,
    half of them evenly over the rates and half over their logarithms, where errors are rare.
    """
    last = np.flatnonzero(np.append(roc.false_accepts[1:] != roc.false_accepts[:-1], True))
    far, tar = roc.false_accepts[last] / roc.negatives, roc.true_accepts[last] / roc.positives
    wanted = np.concatenate(
        [np.linspace(0, 1, points // 2), np.geomspace(1 / roc.negatives, 1, points // 2)]
    )
    kept = np.unique(np.searchsorted(far, wanted * (1 + 1e-12), side="right") - 1)
    rates = [(float(far[at]), float(tar[at])) for at in kept]
    return rates if rates[0] == (0.0, 0.0) else [(0.0, 0.0), *rates]
