"""A small residual network for aligned faces.

K. He et al. 2016, "Deep residual learning for image recognition", its basic blocks.
"""

from torch import Tensor, nn

from siamtune.config import ModelConfig
from siamtune.models.activations import ACTIVATIONS
from siamtune.models.initialization import he_normal
from siamtune.models.width import widened


class Block(nn.Module):
    """Two convolutions and a way around them; `(B, I, S, S)` to `(B, O, S, S)`, S over stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels_in, channels_out, 3, stride),
            ACTIVATIONS[activation](),
            *_convolution(channels_out, channels_out, 3, 1),
        )
        self.stride = stride
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(*_convolution(channels_in, channels_out, 1, 1))
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        # Subsampled before the convolution and not by its stride, which is the same: with channels
        # last and few of them, oneDNN's gradient of a strided 1 x 1 convolution writes past its
        # workspace (uxlfoundation/oneDNN issue 6035; wrong gradients, or the process dies).
        around = x[:, :, :: self.stride, :: self.stride]
        return self.activation(self.body(x) + self.shortcut(around))


def resnet(config: ModelConfig, channels: int, resolution_px: int) -> nn.Sequential:
    """Pictures `(B, C, R, R)` to `(B, embedding_size)`; four stages of 16, 32, 64 and 128 maps.

    From 32 pixels on the stem has the stride `stem_stride`: 2 halves the picture at once, since at
    full resolution it and the first stage would take four fifths of the time. The first of a
    stage's `blocks` takes its stride. The last maps are flattened, not averaged, because on aligned
    faces a place in the picture is a place in the face.
    """
    stem_stride = config.stem_stride if resolution_px >= 32 else 1
    stem, *stages = (widened(maps, config.width) for maps in (16, 16, 32, 64, 128))
    layers = [*_convolution(channels, stem, 3, stem_stride), ACTIVATIONS[config.activation]()]
    channels_in, side = stem, -(-resolution_px // stem_stride)
    for channels_out, stride in zip(stages, (1, 2, 2, 2), strict=True):
        layers.append(Block(channels_in, channels_out, stride, config.activation))
        for _ in range(config.blocks - 1):
            layers.append(Block(channels_out, channels_out, 1, config.activation))
        channels_in, side = channels_out, -(-side // stride)
    network = nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(config.dropout),
        nn.Linear(channels_in * side**2, config.embedding_size),
    )
    he_normal(network)
    return network


def _convolution(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    # No bias: batch normalization subtracts it again.
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    return [convolution, nn.BatchNorm2d(channels_out)]
