"""How good a model is on people whom it was not trained on, with intervals over people."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtune.data.prepare import Faces
from siamtune.errors import InvalidInput
from siamtune.shipping.verifier import Verifier
from siamtune.verification.bootstrap import Interval, identity_intervals
from siamtune.verification.metrics import verification_metrics
from siamtune.verification.pairs import VerificationPairs

METRICS = ("auc", "f1", "accuracy", "eer", "tar", "far")


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Verification pairs of a part of the people and what a model says of them.

    Attributes:
        scores, same: `(P,)`.
        left, right: `(P,)` identities of the two people of each pair.
        pictures: `(P, 2)` indices into the images of the faces.
    """

    part: str
    people: int
    scores: NDArray[np.float64]
    same: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    pictures: NDArray[np.int64]

    def mistakes(self, threshold: float, *, called_same: bool, most: int) -> NDArray[np.int64]:
        """Positions of the pairs that are wrongly called so, the most confident first."""
        wrong = np.flatnonzero((self.same != called_same) & self._called(threshold, called_same))
        return wrong[np.argsort(np.abs(self.scores[wrong] - threshold))[::-1][:most]]

    def typical(self, threshold: float, *, called_same: bool) -> NDArray[np.int64]:
        """Position of the pair in the middle of those that are rightly called so, if there are."""
        right = np.flatnonzero((self.same == called_same) & self._called(threshold, called_same))
        return right[np.argsort(self.scores[right])][len(right) // 2 :][:1]

    def _called(self, threshold: float, same: bool) -> NDArray[np.bool_]:
        return (self.scores >= threshold) == same


def score_pairs(
    verifier: Verifier, faces: Faces, pairs: VerificationPairs, part: str
) -> ScoredPairs:
    """Score pairs of "validation" or "test" people."""
    pictures = np.unique(np.concatenate([pairs.left, pairs.right]))
    embeddings = verifier.embed_faces(faces.images[pictures])
    scores = verifier.scores(
        embeddings, np.searchsorted(pictures, pairs.left), np.searchsorted(pictures, pairs.right)
    )
    left, right = faces.identities[pairs.left], faces.identities[pairs.right]
    people = len(np.unique(np.concatenate([left, right])))
    drawn = np.stack([pairs.left, pairs.right], axis=1)
    return ScoredPairs(part, people, scores, pairs.same, left, right, drawn)


def measured(pairs: ScoredPairs, threshold: float) -> dict[str, Any]:
    """People, pairs, and each of `METRICS` as {"value", "low", "high"}.

    The interval is what 95 of 100 other choices of people would give; it is null for the EER, and
    for all where too few people have positive pairs.
    """
    accepted = pairs.scores >= threshold
    values = {
        **verification_metrics(pairs.scores, pairs.same, threshold),
        "tar": float(accepted[pairs.same].mean()),
        "far": float(accepted[~pairs.same].mean()),
    }
    intervals: dict[str, Interval] = {}
    with suppress(InvalidInput):  # too few people to resample
        intervals = identity_intervals(pairs.scores, pairs.same, pairs.left, pairs.right, threshold)
    document: dict[str, Any] = {
        "people": pairs.people,
        "pairs": {"same": int(pairs.same.sum()), "different": int((~pairs.same).sum())},
    }
    for name in METRICS:
        interval = intervals.get(name)
        document[name] = {
            "value": values[name],
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
        }
    return document
