"""What a validation set can tell apart, before anything is trained."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from siamtune.data.prepare import Faces
from siamtune.verification.baselines import BASELINES
from siamtune.verification.bootstrap import enough_people, identity_replicates
from siamtune.verification.metrics import roc_auc
from siamtune.verification.pairs import verification_pairs

REPLICATES = 500
# Plain features of which no two err alike, as unlike networks do not. Against trained networks the
# difference came out twice as large as needed on LFW (four good ones) and a fifth too small on the
# demo faces (five poor ones; 0.058 against 0.075), whose validation people are few.
FEATURES = ("pixels", "hog", "lbp")
SHOWN_AUC = (0.9, 0.7)
# So many false accepts must be seen for a rate to be known within 30 %, nine times of ten
# (Doddington et al. 2000, the rule of 30).
FALSE_ACCEPTS = 30


@dataclass(frozen=True)
class Resolution:
    """Of a validation set.

    Attributes:
        people: who validate; `several` of them have two pictures or more.
        auc_spread: 1.96 standard errors over people of the difference in AUC of two trials on the
            same pairs, over sqrt(AUC (1 - AUC)), with which it shrinks (the leading term of Hanley
            and McNeil 1982); None where too few people have positive pairs.
        smallest_far: for which TAR can be told.
    """

    people: int
    several: int
    positives: int
    negatives: int
    auc_spread: float | None
    smallest_far: float

    def auc_difference(self, auc: float) -> float | None:
        """Two trials about this good are tied if their AUC differ by less."""
        return None if self.auc_spread is None else self.auc_spread * _scale(auc)

    def __str__(self) -> str:
        """One line for a person."""
        pairs = f"{self.people:,} people, {self.positives:,} + {self.negatives:,} pairs"
        if self.auc_spread is None:
            return f"{pairs} of one person: nothing can be told of other people"
        good, poor = SHOWN_AUC
        return (
            f"{pairs}: two trials are tied whose val/auc differ by less than about "
            f"{self.auc_difference(good):.2g} near {good} ({self.auc_difference(poor):.2g} near "
            f"{poor}); TAR can be told at a FAR of {self.smallest_far:.1g} or more"
        )


def validation_resolution(faces: Faces) -> Resolution:
    """What the validation people can tell apart, by resampling them under plain features."""
    pictures = faces.indices("validation")
    identities = faces.identities
    pairs = verification_pairs(pictures, identities, seed=faces.split.seed)
    used, places = np.unique(np.stack([pairs.left, pairs.right]), return_inverse=True)
    left, right = places.reshape(2, -1)
    people = identities[pairs.left], identities[pairs.right]
    spread = None
    if enough_people(pairs.same, people[0]):
        drawn, scales = [], []
        for name in FEATURES:
            features = BASELINES[name](faces.images[used]).reshape(len(used), -1)
            features = features - features.mean(0)
            features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            scores = (features[left] * features[right]).sum(1)
            replicates = identity_replicates(
                scores, pairs.same, *people, threshold=0.0, replicates=REPLICATES
            )
            drawn.append(replicates["auc"])
            scales.append(_scale(roc_auc(scores, pairs.same)))
        # Equal seeds draw equal people: the differences are those of paired measurements.
        spread = 1.96 * float(
            np.mean(
                [
                    np.nanstd(drawn[a] - drawn[b]) / np.mean([scales[a], scales[b]])
                    for a, b in combinations(range(len(FEATURES)), 2)
                ]
            )
        )
    negatives = int((~pairs.same).sum())
    return Resolution(
        people=len(faces.split.validation),
        several=len(np.unique(people[0][pairs.same])),
        positives=int(pairs.same.sum()),
        negatives=negatives,
        auc_spread=spread,
        smallest_far=min(1.0, FALSE_ACCEPTS / negatives),
    )


def _scale(auc: float) -> float:
    return math.sqrt(max(auc * (1 - auc), 1e-4))
