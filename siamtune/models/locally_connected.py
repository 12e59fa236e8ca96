"""Convolution whose weights differ from region to region."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocallyConnected2d(nn.Module):
    """Valid convolution of stride 1 on squares, with own weights for each region of its output.

    Regions are squares of `region` x `region` output pixels; those at the right and lower rim may
    be cut. A region of one pixel shares nothing, one of the whole output is a convolution.

    Args:
        side: of the square input, in pixels; at least `kernel`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, side: int, region: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.region = kernel, region
        self.side_out = side - kernel + 1
        self.regions = math.ceil(self.side_out / region)  # along each axis
        fan_in = channels_in * kernel**2
        self.weight = nn.Parameter(torch.empty(self.regions, self.regions, channels_out, fan_in))
        self.bias = nn.Parameter(torch.zeros(self.regions, self.regions, channels_out))
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_in))  # He et al. 2015

    def forward(self, images: Tensor) -> Tensor:
        """`(B, channels_in, side, side)` to `(B, channels_out, side_out, side_out)`."""
        count, region, side_out = self.regions, self.region, self.side_out
        # Cut regions become whole ones, whose surplus is dropped at the end.
        surplus = count * region - side_out
        patches = F.unfold(F.pad(images, (0, surplus, 0, surplus)), self.kernel)
        # shape[0], because whoever traces this for export takes len() for a constant.
        patches = patches.view(images.shape[0], -1, count, region, count, region)
        # y, x: region; i, j: pixel within it; k: input under the kernel; o: output channel
        out = torch.einsum("bkyixj,yxok->boyixj", patches, self.weight)
        out = out + self.bias.permute(2, 0, 1)[:, :, None, :, None]
        out = out.reshape(images.shape[0], -1, count * region, count * region)
        return out[..., :side_out, :side_out]
