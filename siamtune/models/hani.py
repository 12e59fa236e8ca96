"""Four layers that subsample by the stride of their convolutions.

M. Khalil-Hani and L. S. Sung 2014, "A convolutional neural network approach for face verification".
"""

from torch import nn

from siamtune.config import ModelConfig
from siamtune.models.activations import ACTIVATIONS
from siamtune.models.initialization import normal_2016
from siamtune.models.width import widened


def hani(config: ModelConfig, channels: int, resolution_px: int) -> nn.Sequential:
    """Pictures `(B, C, R, R)` to `(B, embedding_size)`, R >= 36; a tiny, linear last layer.

    That last layer starts within ±0.01, so that all pictures start out nearly equal.
    """
    activation = ACTIVATIONS[config.activation]
    conv1, conv2, conv3 = (widened(maps, config.width) for maps in (5, 14, 60))
    side = ((resolution_px - 4) // 2 - 4) // 2 - 5  # 64 -> 30 -> 13 -> 8
    embedding = nn.Linear(config.embedding_size, config.embedding_size)
    network = nn.Sequential(
        nn.Conv2d(channels, conv1, 6, stride=2),
        activation(),
        nn.Conv2d(conv1, conv2, 6, stride=2),
        activation(),
        nn.Dropout(config.dropout),
        nn.Conv2d(conv2, conv3, 6),
        activation(),
        nn.Flatten(),
        nn.Linear(conv3 * side**2, config.embedding_size),
        activation(),
        embedding,
    )
    normal_2016(network)
    nn.init.uniform_(embedding.weight, -0.01, 0.01)
    return network
