import pytest
import torch
import torch.nn.functional as F

from siamtune.models.locally_connected import LocallyConnected2d


def slowly(layer: LocallyConnected2d, images: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel: the patch under the kernel times the weights of the pixel's region."""
    side, kernel = layer.side_out, layer.kernel
    out = torch.empty(len(images), layer.bias.shape[-1], side, side, dtype=images.dtype)
    for row in range(side):
        for column in range(side):
            region = row // layer.region, column // layer.region
            patch = images[:, :, row : row + kernel, column : column + kernel].flatten(1)
            out[:, :, row, column] = patch @ layer.weight[region].T + layer.bias[region]
    return out


@pytest.mark.parametrize(
    ("side", "kernel", "region"),
    [(6, 3, 2), (7, 3, 2), (7, 2, 1), (9, 3, 3), (8, 2, 4), (2, 2, 1)],
    ids=["whole regions", "a cut rim", "unshared", "regions of 3", "a wide cut rim", "one pixel"],
)
def test_each_region_has_its_own_convolution(side: int, kernel: int, region: int) -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(3, 4, kernel, side=side, region=region).double()
    torch.nn.init.normal_(layer.bias)
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    torch.testing.assert_close(layer(images), slowly(layer, images))


def test_one_region_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 5, 3, side=8, region=6).double()
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    weight = layer.weight.reshape(5, 2, 3, 3)
    torch.testing.assert_close(layer(images), F.conv2d(images, weight, layer.bias.flatten()))


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 2, 2, side=4, region=2).double()
    images = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (images,))
