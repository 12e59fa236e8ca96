"""Losses of pairs, each a function of distances, and the module that applies one to a batch."""

# B embeddings in the batch · D embedding size · P pairs

from collections.abc import Callable

import torch
from torch import Tensor, nn

from siamtune.losses.distances import DISTANCES

# From distances (P,), which pairs are the same (P,) bool, and the margin to losses (P,).
PairLoss = Callable[[Tensor, Tensor, float], Tensor]


def contrastive(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """d^2 of same pairs, max(0, Q - d^2) of different ones: the loss of the 2016 package.

    The hinge is linear in the energy: for `l2` that is the squared distance, so Q = 2 keeps people
    apart by the square root of two. `l1` and `cosine` are taken as they are, see `energy`.
    """
    return torch.where(same, distances, (margin - distances).clamp_min(0))


def hadsell(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """d^2 / 2 of same pairs, max(0, m - d)^2 / 2 of different ones (Hadsell et al. 2006)."""
    return torch.where(same, distances, (margin - distances).clamp_min(0)).square() / 2


def chopra(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """2/Q d^2 of same pairs, 2Q exp(-2.77 d / Q) of different ones (Chopra et al. 2005).

    Q is the largest distance that can be; the paper's distance is `l1`.
    """
    pulled = 2 / margin * distances.square()
    pushed = 2 * margin * torch.exp(-2.77 / margin * distances)
    return torch.where(same, pulled, pushed)


def energy(name: str, distance: str) -> Callable[[Tensor, Tensor], Tensor]:
    """What a pair loss is a function of: the distance, squared for `contrastive` with `l2`."""
    if name == "contrastive" and distance == "l2":
        return lambda a, b: (a - b).square().sum(1)
    return DISTANCES[distance]


PAIR_LOSSES: dict[str, PairLoss] = {
    "contrastive": contrastive,
    "hadsell": hadsell,
    "chopra": chopra,
}


class LossOfPairs(nn.Module):
    """A pair loss over a batch; same and different pairs weigh one half each.

    For equally many of both, as `pairs` sampling draws them, that is the plain mean. The 2016
    package divided by the batch once more.
    """

    def __init__(self, name: str, distance: str, margin: float) -> None:
        super().__init__()
        self.loss = PAIR_LOSSES[name]
        self.energy = energy(name, distance)
        self.margin = margin

    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        """The loss of `pairs` `(2, P)`, places in the batch, or of all pairs if None."""
        if pairs is None:
            count = len(embeddings)
            pairs = torch.triu_indices(count, count, offset=1, device=embeddings.device)
        left, right = pairs
        same = identities[left] == identities[right]
        losses = self.loss(self.energy(embeddings[left], embeddings[right]), same, self.margin)
        weights = torch.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
        return (losses * weights).sum() / weights.sum()
