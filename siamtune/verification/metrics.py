"""How well scores tell the same person from two; all from continuous scores `(P,)` and `same`.

Each function raises InvalidInput when a score is not finite or all pairs are of one kind.
"""

import numpy as np

from siamtune.errors import InvalidInput
from siamtune.verification.roc import Cuts, checked, cuts

# False accept rates at which recall is told, where there are negative pairs enough to tell.
FARS = {"tar@far=0.01": 0.01, "tar@far=0.001": 0.001}


def roc_auc(scores: np.ndarray, same: np.ndarray) -> float:
    """The chance that a positive pair scores above a negative one; equal scores count half."""
    return _auc(cuts(scores, same))


def eer(scores: np.ndarray, same: np.ndarray) -> float:
    """The equal error rate: where false accepts and false rejects are as frequent, interpolated."""
    return _eer(cuts(scores, same))


def accuracy(scores: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """Share of pairs judged rightly when a score of `threshold` or more means the same person."""
    scores, same = checked(scores, same)
    return float(((scores >= threshold) == same).mean())


def best_accuracy(scores: np.ndarray, same: np.ndarray) -> float:
    """Accuracy at the best of all thresholds, chosen on these very pairs: an upper bound."""
    roc = cuts(scores, same)
    right = roc.true_accepts + roc.negatives - roc.false_accepts
    return float(right.max()) / (roc.positives + roc.negatives)


def f1(scores: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """Harmonic mean of precision and recall of "same" at a threshold; 0 if nothing is accepted."""
    scores, same = checked(scores, same)
    accepted = scores >= threshold
    return float(2 * (accepted & same).sum() / (accepted.sum() + same.sum()))


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """Share of positives accepted by the laxest threshold that accepts at most `far` negatives.

    `far` is a share, not a percentage. Not interpolated: a threshold that does this exists.

    Raises:
        InvalidInput: also when so small a rate cannot be told from none with these negatives.
    """
    return _tar(cuts(scores, same), far)


def cut_at_far(roc: Cuts, far: float) -> int:
    """The last cut with a false accept rate of at most `far`.

    Raises:
        InvalidInput: `far` is below one pair of the negatives, or no rate.
    """
    if not 1 / roc.negatives <= far <= 1:
        raise InvalidInput(
            f"with {roc.negatives} negative pairs the false accept rate must be between "
            f"{1 / roc.negatives:.3g} and 1, but got {far:g}; ask for more or give more pairs"
        )
    # A hair above, so that 0.29 of 100 pairs is 29 although 0.29 * 100 is less in floating point.
    allowed = int(far * roc.negatives * (1 + 1e-12))
    return int(np.searchsorted(roc.false_accepts, allowed, side="right")) - 1


def verification_metrics(
    scores: np.ndarray, same: np.ndarray, threshold: float
) -> dict[str, float]:
    """The numbers of an epoch: "auc" and "eer"; "f1" and "accuracy" at the threshold.

    And "tar@far=0.01" and "tar@far=0.001", each where one pair of the negatives is not more.
    """
    roc = cuts(scores, same)
    return {
        "auc": _auc(roc),
        "f1": f1(scores, same, threshold),
        "accuracy": accuracy(scores, same, threshold),
        "eer": _eer(roc),
        **{name: _tar(roc, far) for name, far in FARS.items() if far * roc.negatives >= 1},
    }


def _tar(roc: Cuts, far: float) -> float:
    return float(roc.true_accepts[cut_at_far(roc, far)]) / roc.positives


def _auc(roc: Cuts) -> float:
    area = np.trapezoid(roc.true_accepts.astype(float), roc.false_accepts)
    return float(area) / (roc.positives * roc.negatives)


def _eer(roc: Cuts) -> float:
    far = roc.false_accepts / roc.negatives
    frr = 1 - roc.true_accepts / roc.positives
    excess = far - frr  # rises from -1 to 1, and strictly: each cut accepts a pair more
    return float(np.interp(0.0, excess, far))
