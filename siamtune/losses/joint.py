"""Who is it, and is it the same person? Both questions in one loss.

Y. Sun, X. Wang and X. Tang 2014, "Deep learning face representation by joint
identification-verification" (DeepID2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtune.losses.loss import Loss


class Identification(Loss):
    """Label-smoothed softmax over the cosines, times `scale`, to one learnt direction an identity.

    C. Szegedy et al. 2016, "Rethinking the Inception architecture", section 7, for the smoothing:
    the true person gets `1 - smoothing` of the probability, all people share the rest.
    """

    def __init__(
        self, embedding_size: int, identities: int, scale: float, smoothing: float
    ) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(identities, embedding_size))
        self.scale, self.smoothing = scale, smoothing

    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        directions = F.normalize(self.directions).to(embeddings)
        cosines = F.linear(F.normalize(embeddings), directions)
        return F.cross_entropy(self.scale * cosines, identities, label_smoothing=self.smoothing)


class Joint(Loss):
    """`verification + weight * identification`."""

    def __init__(self, verification: Loss, identification: Loss, weight: float) -> None:
        super().__init__()
        self.verification, self.identification = verification, identification
        self.weight = weight

    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        verification = self.verification(embeddings, identities, pairs)
        return verification + self.weight * self.identification(embeddings, identities, pairs)
