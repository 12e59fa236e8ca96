"""What a validation set can tell apart, before anything is trained."""

from dataclasses import dataclass

import numpy as np

from siamtune.data.prepare import Faces
from siamtune.verification.baselines import BASELINES
from siamtune.verification.bootstrap import identity_replicates
from siamtune.verification.pairs import verification_pairs

REPLICATES = 500
# Two plain features whose errors are about as unlike as those of two networks.
FEATURES = ("hog", "lbp")
# So many false accepts must be seen for a rate to be known within 30 %, nine times of ten
# (Doddington et al. 2000, the rule of 30).
FALSE_ACCEPTS = 30


@dataclass(frozen=True)
class Resolution:
    """Of a validation set.

    Attributes:
        people: who validate; `several` of them have two pictures or more.
        auc_difference: of two trials on the same pairs, 1.96 standard errors over people; None
            where fewer than two people have positive pairs.
        smallest_far: for which TAR can be told.
    """

    people: int
    several: int
    positives: int
    negatives: int
    auc_difference: float | None
    smallest_far: float

    def __str__(self) -> str:
        """One line for a person."""
        pairs = f"{self.people:,} people, {self.positives:,} + {self.negatives:,} pairs"
        if self.auc_difference is None:
            return f"{pairs} of one person: nothing can be told of other people"
        return (
            f"{pairs}: two trials whose val/auc differ by less than about "
            f"{self.auc_difference:.2g} are tied, and TAR can be told at a FAR of "
            f"{self.smallest_far:.1g} or more"
        )


def validation_resolution(faces: Faces) -> Resolution:
    """What the validation people can tell apart, by resampling them under two plain features."""
    pictures = faces.indices("validation")
    identities = faces.identities
    pairs = verification_pairs(pictures, identities, seed=faces.split.seed)
    used, places = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    left, right = places.reshape(2, -1)
    people = identities[pairs.left], identities[pairs.right]
    difference = None
    if len(np.unique(people[0][pairs.same])) > 1:
        drawn = []
        for name in FEATURES:
            features = BASELINES[name](faces.images[used]).reshape(len(used), -1)
            features = features - features.mean(0)
            features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            scores = (features[left] * features[right]).sum(1)
            replicates = identity_replicates(
                scores, pairs.same, *people, threshold=0.0, replicates=REPLICATES
            )
            drawn.append(replicates["auc"])
        # Equal seeds draw equal people: the differences are those of paired measurements.
        difference = 1.96 * float(np.nanstd(drawn[0] - drawn[1]))
    negatives = int((~pairs.same).sum())
    return Resolution(
        people=len(faces.split.validation),
        several=len(np.unique(people[0][pairs.same])),
        positives=int(pairs.same.sum()),
        negatives=negatives,
        auc_difference=difference,
        smallest_far=min(1.0, FALSE_ACCEPTS / negatives),
    )
