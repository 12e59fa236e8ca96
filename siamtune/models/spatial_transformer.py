"""A learnt affine warp in front of the network.

M. Jaderberg et al. 2015, "Spatial transformer networks".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialTransformer(nn.Module):
    """Looks at a picture and samples it through the affine map it finds best; size is kept.

    It starts as the identity exactly. The one of 2016 started beside it and halved the picture,
    after which no network could be built at 64 pixels.

    Args:
        resolution_px: of the square pictures; at least 28.
    """

    def __init__(self, channels: int, resolution_px: int) -> None:
        super().__init__()
        side = (resolution_px // 2 - 4) // 2 - 4
        affine = nn.Linear(50, 6)
        nn.init.zeros_(affine.weight)
        affine.bias.data = torch.eye(2, 3).flatten()
        self.localisation = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 20, 5),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(20 * side**2, 50),
            nn.ReLU(inplace=True),
            affine,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Pictures `(B, C, R, R)` to pictures of the same shape."""
        affine = self.localisation(images).view(-1, 2, 3)
        # Both count from pixel edges: the identity then meets every pixel in its centre.
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        # Zero is no neutral colour under most normalizations; the rim goes on outside instead.
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
