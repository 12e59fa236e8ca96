"""Where to cut: fitted on the scores of people who take no part in the evaluation."""

import numpy as np

from siamtune.verification.metrics import cut_at_far
from siamtune.verification.roc import Cuts, cuts


def fit_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold of highest accuracy on these pairs, midway between neighbouring scores.

    Among equals the highest: it accepts the fewest strangers.

    Raises:
        InvalidInput: a score is not finite, or all pairs are of one kind.
    """
    roc = cuts(scores, same)
    return _between(roc, int(np.argmax(roc.true_accepts - roc.false_accepts)))


def threshold_at_far(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """The threshold of highest recall that accepts at most a share `far` of the negatives.

    Raises:
        InvalidInput: as `tar_at_far`.
    """
    roc = cuts(scores, same)
    return _between(roc, cut_at_far(roc, far))


def _between(roc: Cuts, cut: int) -> float:
    """A threshold that makes this cut, as far from the scores on both sides as can be."""
    if cut == 0:  # nothing is accepted
        return float(np.nextafter(roc.lowest[1], np.inf))
    above = float(roc.lowest[cut])
    if cut == len(roc.lowest) - 1:  # everything is
        return above
    below = float(roc.lowest[cut + 1])
    middle = below + (above - below) / 2
    return middle if below < middle else above  # neighbours in floating point have no middle
