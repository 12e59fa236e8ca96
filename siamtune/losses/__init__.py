"""What training minimises, and how far two embeddings lie apart."""

from siamtune.losses.build import LOSSES, build_loss
from siamtune.losses.distances import DISTANCES
from siamtune.losses.loss import Loss

__all__ = ["DISTANCES", "LOSSES", "Loss", "build_loss"]
