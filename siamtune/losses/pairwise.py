"""Losses of single pairs: pull one person's pictures together, push two people's apart.

The formulas are functions of distances `(P,)`, of `same` `(P,)` bool (one person or two) and of a
margin, and give the loss of each pair `(P,)`; `PairwiseLoss` makes pairs of a batch and averages.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from siamtune.losses.distances import DISTANCES, DISTANCES_WITHIN, all_pairs
from siamtune.losses.loss import Loss

PairLoss = Callable[[Tensor, Tensor, float], Tensor]


def contrastive(energies: Tensor, same: Tensor, margin: float) -> Tensor:
    """`E` of the same person, `max(Q - E, 0)` of two.

    The loss of Kadenze's siamese_net (2016), linear in an energy E: the squared Euclidean
    distance. Its margin Q therefore means the distance sqrt(Q).
    """
    return torch.where(same, energies, (margin - energies).clamp_min(0))


def contrastive_squared(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """`contrastive` of squared distances."""
    return contrastive(distances.square(), same, margin)


def hadsell(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """`D^2 / 2` of the same person, `max(0, m - D)^2 / 2` of two.

    R. Hadsell, S. Chopra and Y. LeCun 2006, "Dimensionality reduction by learning an invariant
    mapping".
    """
    return torch.where(same, distances, (margin - distances).clamp_min(0)).square() / 2


def chopra(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """`2 / Q E^2` of the same person, `2 Q exp(-2.77 E / Q)` of two.

    S. Chopra, R. Hadsell and Y. LeCun 2005, "Learning a similarity metric discriminatively, with
    application to face verification", where E is an L1 distance and Q its upper bound.
    """
    pull = distances.square() * (2 / margin)
    push = 2 * margin * torch.exp(distances * (-2.77 / margin))
    return torch.where(same, pull, push)


def balanced_mean(losses: Tensor, same: Tensor) -> Tensor:
    """The mean of two means: over pairs of one person and over pairs of two.

    For as many of both it is the plain mean; in a batch of all pairs, where two people are far
    more frequent, it keeps them from drowning the others. A kind that is absent does not count.
    """
    kinds = same.any().int() + (~same).any().int()
    return (_mean(losses, same) + _mean(losses, ~same)) / kinds.clamp_min(1)


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    return (losses * counted).sum() / counted.sum().clamp_min(1)


class PairwiseLoss(Loss):
    """Mean of a pair loss over the pairs of a batch, both kinds weighing one half.

    Args:
        distance: a name in `DISTANCES`.
    """

    def __init__(self, pair_loss: PairLoss, distance: str, margin: float) -> None:
        super().__init__()
        self.pair_loss, self.distance, self.margin = pair_loss, distance, margin

    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        if pairs is None:
            left, right = all_pairs(embeddings)
            distances = DISTANCES_WITHIN[self.distance](embeddings)
        else:
            left, right = pairs
            distances = DISTANCES[self.distance](embeddings[left], embeddings[right])
        same = identities[left] == identities[right]
        return balanced_mean(self.pair_loss(distances, same, self.margin), same)
