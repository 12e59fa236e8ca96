"""Losses that see a whole batch at once, from pytorch-metric-learning.

They find the pairs or triplets of a batch by its identities, whichever way it was sampled.
"""

import torch
from pytorch_metric_learning.distances import BaseDistance, CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import (
    ArcFaceLoss,
    CircleLoss,
    CosFaceLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    SupConLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.miners import MultiSimilarityMiner, TripletMarginMiner
from torch import Tensor, nn

from siamtune.config import LossConfig
from siamtune.losses.loss import Loss

# At cosines of exactly one or minus one the slope of the arc cosine is infinite.
LARGEST_COSINE = 1 - 1e-6


class MetricLearningLoss(Loss):
    """A loss of pytorch-metric-learning, with a miner that chooses what counts, if given."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        mined = None if self.miner is None else self.miner(embeddings, identities)
        return self.loss(embeddings, identities, mined)


class SteadyArcFaceLoss(ArcFaceLoss):
    """ArcFace whose gradient stays finite where an embedding meets its class's direction."""

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        return torch.acos(cosine_of_target_classes.clamp(-LARGEST_COSINE, LARGEST_COSINE))


def triplet(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Mean over the mined triplets of `max(0, d(anchor, positive) - d(anchor, negative) + margin)`.

    F. Schroff et al. 2015, "FaceNet". Of the triplets that break the margin, `semihard` takes those
    with the negative behind the positive, `hard` those with it in front, `all` both. The search
    takes B^3 bytes.
    """
    margin = config.triplet_margin
    return MetricLearningLoss(
        TripletMarginLoss(margin, distance=_distance(config)),
        TripletMarginMiner(margin, config.mining, distance=_distance(config)),
    )


def multisimilarity(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Soft maxima over the mined positives and negatives of each picture.

    X. Wang et al. 2019, "Multi-similarity loss with general pair weighting". With a distance in
    place of a cosine, `base` is the distance that separates the two.
    """
    return MetricLearningLoss(
        MultiSimilarityLoss(config.alpha, config.beta, config.base, distance=_distance(config)),
        MultiSimilarityMiner(distance=_distance(config)),
    )


def supcon(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Cross-entropy of each picture's positives among all others, over similarity / temperature.

    P. Khosla et al. 2020, "Supervised contrastive learning". Minus a distance stands in for the
    cosine similarity.
    """
    return MetricLearningLoss(SupConLoss(config.temperature, distance=_distance(config)))


def ntxent(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Cross-entropy of each positive pair among it and its first picture's negatives.

    T. Chen et al. 2020, "SimCLR"; unlike `supcon` a positive pair does not compete with others.
    """
    return MetricLearningLoss(NTXentLoss(config.temperature, distance=_distance(config)))


def circle(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Soft maxima of negatives' and positives' cosines, each weighted by how far it has to go.

    Y. Sun et al. 2020, "Circle loss".
    """
    return MetricLearningLoss(CircleLoss(config.cosine_margin, config.scale))


def arcface(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Softmax over the cosines to one learnt direction an identity, with an angle as margin.

    J. Deng et al. 2019, "ArcFace". The directions are parameters `(D, identities)` of the loss.
    """
    return MetricLearningLoss(
        SteadyArcFaceLoss(identities, embedding_size, config.angular_margin_deg, config.scale)
    )


def cosface(config: LossConfig, embedding_size: int, identities: int) -> MetricLearningLoss:
    """Softmax over the cosines to one learnt direction an identity, with a cosine as margin.

    H. Wang et al. 2018, "CosFace". The directions are parameters `(D, identities)` of the loss.
    """
    return MetricLearningLoss(
        CosFaceLoss(identities, embedding_size, margin=config.cosine_margin, scale=config.scale)
    )


def _distance(config: LossConfig) -> BaseDistance:
    """The library's equal of `DISTANCES[config.distance]`, up to the sign of the cosine's."""
    if config.distance == "cosine":
        return CosineSimilarity()
    # Embeddings have the length that the model gave them.
    return LpDistance(normalize_embeddings=False, p={"l1": 1, "l2": 2}[config.distance])
