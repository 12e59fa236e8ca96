import math

import pytest
import torch

from siamtune.config import MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX
from siamtune.models.spatial_transformer import SpatialTransformer


def fixed(resolution_px: int, affine: list[float]) -> SpatialTransformer:
    transformer = SpatialTransformer(1, resolution_px)
    with torch.no_grad():
        transformer.localisation[-1].bias.copy_(torch.tensor(affine))
    return transformer


@pytest.mark.parametrize("resolution_px", [28, 45, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_starts_as_the_identity(resolution_px: int, channels: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, channels, resolution_px, resolution_px)
    transformer = SpatialTransformer(channels, resolution_px)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert torch.equal(transformer.localisation(images), identity.expand(2, 6))
    torch.testing.assert_close(transformer(images), images, atol=1e-4, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    images = torch.randn(1, 1, 28, 28)
    turned = fixed(28, [0, -1, 0, 1, 0, 0])(images)
    # Output (x, y) looks at (-y, x): what was to the right is now above.
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_a_shift_moves_by_pixels_and_continues_the_rim() -> None:
    images = torch.randn(1, 1, 32, 32)
    shifted = fixed(32, [1, 0, 2 / 32 * 3, 0, 1, 0])(images)  # 2 is the whole side
    torch.testing.assert_close(shifted[..., :-3], images[..., 3:], atol=1e-4, rtol=0)
    rim = images[..., -1:].expand(-1, -1, -1, 3)
    torch.testing.assert_close(shifted[..., -3:], rim, atol=1e-4, rtol=0)


def test_it_learns_to_undo_a_rotation() -> None:
    torch.manual_seed(0)
    straight = torch.zeros(1, 1, 28, 28)
    straight[..., 6:22, 10:18] = 1.0
    angle = math.radians(20)
    turn = [math.cos(angle), -math.sin(angle), 0, math.sin(angle), math.cos(angle), 0]
    crooked = fixed(28, turn)(straight).detach()
    transformer = SpatialTransformer(1, 28)
    optimizer = torch.optim.Adam(transformer.parameters(), 3e-3)
    errors = []
    for _ in range(40):
        error = (transformer(crooked) - straight).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 4


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_the_minimum_resolution_is_the_least() -> None:
    side = MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX
    images = torch.randn(2, 1, side, side)
    assert SpatialTransformer(1, side)(images).shape == images.shape
    with pytest.raises(RuntimeError):
        SpatialTransformer(1, side - 1)(images[..., 1:, 1:])
