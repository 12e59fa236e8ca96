"""From a configuration to a loss."""

from siamtune.config import LossConfig
from siamtune.losses.joint import Identification, Joint
from siamtune.losses.loss import Loss, LossBuilder
from siamtune.losses.metric_learning import (
    arcface,
    circle,
    cosface,
    multisimilarity,
    ntxent,
    supcon,
    triplet,
)
from siamtune.losses.pairwise import (
    PairLoss,
    PairwiseLoss,
    chopra,
    contrastive,
    contrastive_squared,
    hadsell,
)
from siamtune.losses.semi_siamese import SemiSiamese

PAIR_LOSSES: dict[str, PairLoss] = {
    "contrastive": contrastive,
    "hadsell": hadsell,
    "chopra": chopra,
}


def pairwise(config: LossConfig, embedding_size: int, identities: int) -> PairwiseLoss:
    """The mean of a loss of single pairs, by the distance and the margin of the configuration."""
    pair_loss = PAIR_LOSSES[config.name]
    if config.name == "contrastive" and config.distance == "l2":
        pair_loss = contrastive_squared  # the energy of 2016
    return PairwiseLoss(pair_loss, config.distance, config.margin)


def joint(config: LossConfig, embedding_size: int, identities: int) -> Joint:
    """The loss `config.verification`, joined with a softmax over people."""
    verification = config.model_copy(update={"name": config.verification})
    return Joint(
        build_loss(verification, embedding_size=embedding_size, identities=identities),
        Identification(embedding_size, identities, config.scale, config.label_smoothing),
        config.identification_weight,
    )


def semi_siamese(config: LossConfig, embedding_size: int, identities: int) -> SemiSiamese:
    """The margin and the scale of the configuration, over a gallery of its size."""
    return SemiSiamese(embedding_size, config.cosine_margin, config.scale, config.gallery_size)


LOSSES: dict[str, LossBuilder] = {
    **dict.fromkeys(PAIR_LOSSES, pairwise),
    "triplet": triplet,
    "multisimilarity": multisimilarity,
    "supcon": supcon,
    "ntxent": ntxent,
    "circle": circle,
    "arcface": arcface,
    "cosface": cosface,
    "joint": joint,
    "semi_siamese": semi_siamese,
}


def build_loss(config: LossConfig, *, embedding_size: int, identities: int) -> Loss:
    """The loss a configuration names.

    Directions of people are drawn from torch's global generator.

    Args:
        identities: how many people there are in training, numbered from 0.
    """
    return LOSSES[config.name](config, embedding_size, identities)
