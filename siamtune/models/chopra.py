"""Convolutions and pools alternating, ending in 250 maps.

S. Chopra, R. Hadsell and Y. LeCun 2005, "Learning a similarity metric discriminatively, with
application to face verification", with square pools.
"""

from torch import nn

from siamtune.config import ModelConfig
from siamtune.models.activations import ACTIVATIONS
from siamtune.models.initialization import normal_2016
from siamtune.models.width import widened


def chopra(config: ModelConfig, channels: int, resolution_px: int) -> nn.Sequential:
    """Pictures `(B, C, R, R)` to `(B, embedding_size)`, R >= 46.

    The 2016 network rectified its embedding, which left a fraction of the directions and let units
    die for good; here the last layer is linear, with the same parameters.
    """
    activation = ACTIVATIONS[config.activation]
    conv1, conv2, conv3 = (widened(maps, config.width) for maps in (15, 45, 250))
    side = ((resolution_px - 6) // 2 - 5) // 3 - 4  # 64 -> 58 -> 29 -> 24 -> 8 -> 4
    network = nn.Sequential(
        nn.Conv2d(channels, conv1, 7),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(conv1, conv2, 6),
        activation(),
        nn.MaxPool2d(3),
        nn.Dropout(config.dropout),
        nn.Conv2d(conv2, conv3, 5),
        activation(),
        nn.Flatten(),
        nn.Linear(conv3 * side**2, config.embedding_size),
        activation(),
        nn.Linear(config.embedding_size, config.embedding_size),
    )
    normal_2016(network)
    return network
