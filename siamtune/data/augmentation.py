"""Random changes of training pictures, on the device, a whole batch at once.

One dial scales them all. The ranges at strength 1 are usual for small networks that learn faces
from scratch: flip, a little rotation, scale, shift and shear in one warp, loss of detail by blur or
by low resolution, another tone, an erased rectangle (Zhong et al. 2020, "Random Erasing").
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtune.data.normalization import gaussian_matrix

# At strength 1. SD: standard deviation of a normal draw; RANGE: half width of a uniform one.
ROTATION_SD_DEG = 8.0
SCALE_SD = 0.08  # of the logarithm, so that larger and smaller are alike
SHIFT_SD = 0.05  # of the side
SHEAR_SD_DEG = 4.0
DETAIL_PROBABILITY = 0.2  # half of that blurred, half taken at a low resolution
GAMMA_RANGE = 0.3  # of the logarithm of the exponent
CONTRAST_RANGE = 0.3  # of the logarithm of the factor
BRIGHTNESS_RANGE = 0.15  # of 255
ERASE_PROBABILITY = 0.3
# These do not grow with the strength.
FLIP_PROBABILITY = 0.5
BLUR_SIGMA = 1 / 64  # of the side
LOW_RESOLUTIONS = (2 / 3, 1 / 2, 1 / 3)  # of the side; one as likely as another
ERASED_AREA = (0.02, 0.2)  # of the picture
ERASED_ASPECT_RANGE = math.log(3)


@torch.no_grad()
def augment(
    images: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    own: slice = slice(None),
    batch_images: int | None = None,
) -> Tensor:
    """Change every picture `(B, C, R, R)` of floats in [0, 255] at random, within the same range.

    The same state of the generator gives the same changes. Strength 0 returns the input itself;
    any other flips half of the pictures and scales the rest of the changes.

    Args:
        images: all pictures of a batch, or those of one worker.
        own: which of the `batch_images` pictures of the batch they are. Every worker draws for the
            whole batch, so that a picture is changed alike on however many workers.
    """
    if strength == 0:
        return images
    count = len(images) if batch_images is None else batch_images
    # Two draws for everything: on a GPU each one is a kernel.
    device = generator.device
    normal = torch.randn((5, count), generator=generator, device=device)[:, own].to(images)
    uniform = torch.rand((10, count), generator=generator, device=device)[:, own].to(images)
    images = _warp(images, strength * normal, uniform[0] < FLIP_PROBABILITY)
    images = _lose_detail(images, uniform[1] / (DETAIL_PROBABILITY * strength))
    images = _change_tone(images, strength * (2 * uniform[2:5] - 1))
    return _erase(images, uniform[5] < ERASE_PROBABILITY * strength, uniform[6:])


def _warp(images: Tensor, draw: Tensor, flip: Tensor) -> Tensor:
    """Flip, shear, rotate, scale and shift by one sampling, so that pixels are mixed only once."""
    angle, growth, right, down, shear = draw
    # Places are complex numbers: to turn and scale is one multiplication, and the outer sum below
    # costs a CPU a fortieth of affine_grid's product of thin matrices.
    turn = torch.polar(torch.exp(SCALE_SD * growth), math.radians(ROTATION_SD_DEG) * angle)
    slant = math.radians(SHEAR_SD_DEG) * shear
    across = turn * (1 - 2 * flip.to(images))
    along = turn * torch.complex(slant, torch.ones_like(slant))
    shift = 2 * SHIFT_SD * torch.complex(right, down)  # the side is 2 long
    side = images.shape[-1]
    centres = (2 * torch.arange(side, device=images.device) + 1) / side - 1
    columns = across[:, None] * centres
    rows = along[:, None] * centres + shift[:, None]
    source = torch.view_as_real(rows[:, :, None] + columns[:, None, :])
    return F.grid_sample(images, source, padding_mode="border", align_corners=False)


def _lose_detail(images: Tensor, draw: Tensor) -> Tensor:
    """Blur where `draw` `(B,)` is below one half, take at a low resolution where it is below 1."""
    ways = _detail_matrices(images.shape[-1], images.device)
    low = (2 * draw - 1) * len(LOW_RESOLUTIONS)
    way = torch.where(draw < 0.5, 0, 1 + low.clamp(0, len(LOW_RESOLUTIONS) - 1).long())
    if images.device.type != "cpu":
        # Change all: to wait for how many were chosen costs more.
        matrix = ways[way][:, None]
        return torch.where((draw < 1)[:, None, None, None], matrix @ images @ matrix.mT, images)
    chosen = draw < 1
    matrix = ways[way[chosen]][:, None]
    images[chosen] = matrix @ images[chosen] @ matrix.mT
    return images


@lru_cache(maxsize=8)
def _detail_matrices(side: int, device: torch.device) -> Tensor:
    """`(1 + len(LOW_RESOLUTIONS), R, R)`: each takes detail from the columns of a picture."""
    matrices = [gaussian_matrix(side, BLUR_SIGMA * side)]
    for share in LOW_RESOLUTIONS:
        small = max(1, round(share * side))
        # Each row of the identity shows what becomes of one pixel: means of areas, then between
        # their centres straight lines.
        fewer = F.interpolate(torch.eye(side)[None], small, mode="area")
        matrices.append(F.interpolate(fewer, side, mode="linear")[0].T)
    return torch.stack(matrices).to(device)


def _change_tone(images: Tensor, draw: Tensor) -> Tensor:
    """Gamma, then contrast about the picture's mean, then brightness; clamped to [0, 255]."""
    gamma, contrast, brightness = (row[:, None, None, None] for row in draw)
    # x ** g as 2 ** (g log x), which is twice as fast; rounding may leave a pixel just below 0.
    images = (images / 255).clamp_(min=0).log2_().mul_(torch.exp(GAMMA_RANGE * gamma)).exp2_()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    factor = 255 * torch.exp(CONTRAST_RANGE * contrast)
    offset = 255 * (mean + BRIGHTNESS_RANGE * brightness) - factor * mean
    return torch.addcmul(offset, images, factor).clamp_(0, 255)


def _erase(images: Tensor, chosen: Tensor, draw: Tensor) -> Tensor:
    """Paint one rectangle of a chosen picture, inside the frame, with the picture's mean."""
    size, shape, right, down = draw
    smallest, largest = ERASED_AREA
    area = smallest + (largest - smallest) * size
    aspect = torch.exp(ERASED_ASPECT_RANGE * (2 * shape - 1))
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()  # at most 0.78 of the side
    side = images.shape[-1]
    columns = _between(right * (1 - width), width, side) * chosen[:, None]
    rows = _between(down * (1 - height), height, side)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(images, mean, (rows[:, :, None] * columns[:, None, :])[:, None])


def _between(start: Tensor, length: Tensor, side: int) -> Tensor:
    """1 where the centre of a pixel lies in `[start, start + length)`, else 0: `(B, side)`."""
    offset = (torch.arange(side, device=start.device) + 0.5) / side - start[:, None]
    return ((offset >= 0) & (offset < length[:, None])).to(start)
