"""Four convolutions, the upper two without full weight sharing, and a layer that sees both.

Y. Sun, X. Wang and X. Tang 2014, "Deep learning face representation from predicting 10,000 classes"
(DeepID) and, with Y. Chen, "Deep learning face representation by joint
identification-verification" (DeepID2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamtune.config import ModelConfig
from siamtune.models.activations import ACTIVATIONS
from siamtune.models.initialization import he_normal
from siamtune.models.locally_connected import LocallyConnected2d
from siamtune.models.width import widened

# Height of DeepID's pictures (39 x 31) in that of DeepID2's (55 x 47).
DEEPID_SHARE = 39 / 55


class DeepID(nn.Module):
    """Pictures `(B, C, R, R)` to `(B, embedding_size)`, R >= 31.

    The third convolution shares its weights within 2 x 2 pixels, the fourth not at all, and the
    embedding (160 rectified features in the papers, linear here) sees what both of them found:
    the skip past the fourth saves what its bottleneck would lose.

    DeepID2 keeps these layers. What it changed lies elsewhere: its larger pictures, see `deepid`,
    and its loss, which joined verification to identification.
    """

    def __init__(self, config: ModelConfig, channels: int, resolution_px: int) -> None:
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        conv1, conv2, conv3, conv4 = (widened(maps, config.width) for maps in (20, 40, 60, 80))
        side2 = ((resolution_px - 3) // 2 - 2) // 2  # 64 -> 61 -> 30 -> 28 -> 14
        side3 = (side2 - 2) // 2  # 14 -> 12 -> 6
        self.lower = nn.Sequential(
            nn.Conv2d(channels, conv1, 4),
            activation(),
            nn.MaxPool2d(2),
            nn.Conv2d(conv1, conv2, 3),
            activation(),
            nn.MaxPool2d(2),
            LocallyConnected2d(conv2, conv3, 3, side=side2, region=2),
            activation(),
            nn.MaxPool2d(2),
        )
        self.upper = nn.Sequential(LocallyConnected2d(conv3, conv4, 2, side=side3), activation())
        self.dropout = nn.Dropout(config.dropout)
        features = conv3 * side3**2 + conv4 * (side3 - 1) ** 2
        self.embedding = nn.Linear(features, config.embedding_size)
        he_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        pool3 = self.lower(images)
        conv4 = self.upper(pool3)
        return self.embedding(self.dropout(torch.cat([pool3.flatten(1), conv4.flatten(1)], 1)))


class Reduced(nn.Module):
    """Pictures `(B, C, R, R)` to `(B, C, side_px, side_px)`, each new pixel a mean of its area."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.side_px = side_px

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(images, (self.side_px, self.side_px), mode="area")


def deepid(config: ModelConfig, channels: int, resolution_px: int) -> nn.Module:
    """DeepID: the pictures of DeepID2, reduced by as much as the papers' differ; R >= 44."""
    side_px = round(resolution_px * DEEPID_SHARE)
    return nn.Sequential(Reduced(side_px), DeepID(config, channels, side_px))


def deepid2(config: ModelConfig, channels: int, resolution_px: int) -> nn.Module:
    """DeepID2: the same layers on the whole picture; R >= 31."""
    return DeepID(config, channels, resolution_px)
