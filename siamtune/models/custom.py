"""Pairs of 3 x 3 convolutions between pools, after VGG: the network Kadenze published in 2016."""

from torch import nn

from siamtune.config import ModelConfig
from siamtune.models.activations import ACTIVATIONS
from siamtune.models.initialization import normal_2016
from siamtune.models.width import widened


def custom(config: ModelConfig, channels: int, resolution_px: int) -> nn.Sequential:
    """Pictures `(B, C, R, R)` to `(B, embedding_size)`, R >= 36.

    The 2016 network rectified its embedding; here the last layer is linear, with the same
    parameters. It had no dropout; here it lies in front of the embedding.
    """
    activation = ACTIVATIONS[config.activation]
    maps = [channels, *(widened(maps, config.width) for maps in (16, 32, 32, 64, 64, 128))]
    layers: list[nn.Module] = []
    side = resolution_px
    for first in (0, 2, 4):  # 64 -> 60 -> 30 -> 26 -> 13 -> 9 -> 4
        layers += [
            nn.Conv2d(maps[first], maps[first + 1], 3),
            activation(),
            nn.Conv2d(maps[first + 1], maps[first + 2], 3),
            activation(),
            nn.MaxPool2d(2),
        ]
        side = (side - 4) // 2
    network = nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(maps[-1] * side**2, config.embedding_size),
        activation(),
        nn.Dropout(config.dropout),
        nn.Linear(config.embedding_size, config.embedding_size),
    )
    normal_2016(network)
    return network
