"""The network that both pictures of a pair pass through."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from siamtune.config import (
    MINIMUM_RESOLUTION_PX,
    MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX,
    ModelConfig,
)
from siamtune.errors import ConfigError
from siamtune.models.chopra import chopra
from siamtune.models.custom import custom
from siamtune.models.deepid import deepid, deepid2
from siamtune.models.hani import hani
from siamtune.models.resnet import resnet
from siamtune.models.spatial_transformer import SpatialTransformer

Architecture = Callable[[ModelConfig, int, int], nn.Module]  # configuration, channels, R

ARCHITECTURES: dict[str, Architecture] = {
    "hani": hani,
    "chopra": chopra,
    "custom": custom,
    "deepid": deepid,
    "deepid2": deepid2,
    "resnet": resnet,
}


class SiameseNet(nn.Module):
    """Maps pictures to embeddings; its twin of the literature is a second call of the same weights.

    Args:
        architecture: pictures `(B, C, R, R)` to embeddings `(B, D)`.
        spatial_transformer: warps the pictures first, if given.
        unit_length: scale every embedding to Euclidean length one.
    """

    def __init__(
        self,
        architecture: nn.Module,
        *,
        spatial_transformer: SpatialTransformer | None,
        unit_length: bool,
    ) -> None:
        super().__init__()
        self.spatial_transformer = spatial_transformer
        self.architecture = architecture
        self.unit_length = unit_length

    def forward(self, images: Tensor) -> Tensor:
        """Normalized pictures `(B, C, R, R)` of floats to embeddings `(B, D)`."""
        if self.spatial_transformer is not None:
            images = self.spatial_transformer(images)
        embeddings = self.architecture(images)
        return unit_length(embeddings) if self.unit_length else embeddings


def unit_length(embeddings: Tensor) -> Tensor:
    """The same directions `(B, D)` with Euclidean length one; zero stays zero."""
    lengths = embeddings.norm(dim=1, keepdim=True)
    # A flat picture is zero all the way through a network without biases, and zero has no
    # direction: it stays what it is, with the gradient of the identity. That of
    # `torch.nn.functional.normalize` would be 1e12 there and wreck the biases at once.
    return embeddings / lengths.masked_fill(lengths == 0, 1.0)


def build_model(config: ModelConfig, *, channels: int, resolution_px: int) -> SiameseNet:
    """The network a configuration describes, with weights drawn from torch's global generator.

    Args:
        channels: of a picture, 1 or 3.
        resolution_px: side of a picture.

    Raises:
        ConfigError: pictures are too small for the architecture or its spatial transformer.
    """
    _require_px(config.architecture, MINIMUM_RESOLUTION_PX[config.architecture], resolution_px)
    spatial_transformer = None
    if config.spatial_transformer:
        _require_px(
            "model.spatial_transformer", MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX, resolution_px
        )
        spatial_transformer = SpatialTransformer(channels, resolution_px)
    network = SiameseNet(
        ARCHITECTURES[config.architecture](config, channels, resolution_px),
        spatial_transformer=spatial_transformer,
        unit_length=config.unit_length,
    )
    # The order of numbers in memory, not a shape; a quarter faster on a CPU in every architecture.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _require_px(what: str, minimum_px: int, resolution_px: int) -> None:
    if resolution_px < minimum_px:
        raise ConfigError(
            f"{what} needs data.resolution_px >= {minimum_px}, but got {resolution_px}"
        )
