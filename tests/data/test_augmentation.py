"""Augmentation: same generator, same changes; each change against its definition."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from siamtune.data import augmentation
from siamtune.data.augmentation import augment

NOTHING = torch.zeros(5, 1)
NO_FLIP = torch.tensor([False])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 8, channels: int = 1, side: int = 32) -> Tensor:
    noise = torch.rand(count, channels, side, side, generator=generator(7))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2) * 255


def test_strength_zero_returns_the_input_itself() -> None:
    images = pictures()
    assert augment(images, 0, generator()) is images


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 17)])
def test_range_shape_and_input_are_kept(strength: float, channels: int, side: int) -> None:
    images = pictures(16, channels, side)
    images[0] = 0
    before = images.clone()
    changed = augment(images, strength, generator())
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


def test_the_generator_decides() -> None:
    images = pictures()
    first, same, other = (augment(images, 1.0, generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_two_workers_change_the_pictures_of_a_batch_as_one_does() -> None:
    images = pictures(12)
    whole = augment(images, 2.0, generator())
    parts = [
        augment(images[own], 2.0, generator(), own=own, batch_images=12)
        for own in (slice(0, 6), slice(6, 12))
    ]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-3)


def test_more_strength_changes_more() -> None:
    images = pictures(64)
    # The flips are the same, so only the scaled changes differ.
    distances = [
        (augment(images, strength, generator()) - augment(images, 1e-6, generator())).abs().mean()
        for strength in (0.1, 0.5, 1.0, 2.0)
    ]
    assert distances == sorted(distances)


def test_half_of_the_pictures_are_flipped_and_nothing_else_at_a_trace_of_strength() -> None:
    images = pictures(400)
    changed = augment(images, 1e-6, generator())
    kept = (changed - images).abs().amax((1, 2, 3)) < 0.1
    flipped = (changed - images.flip(3)).abs().amax((1, 2, 3)) < 0.1
    assert torch.equal(kept, ~flipped)
    assert 160 < flipped.sum() < 240


def test_a_shift_of_whole_pixels_moves_and_repeats_the_border() -> None:
    image = pictures(1, side=20)
    draw = NOTHING.clone()
    draw[2] = 1.0  # one standard deviation: 0.05 of 20 pixels
    moved = augmentation._warp(image, draw, NO_FLIP)
    expected = torch.cat([image[..., 1:], image[..., -1:]], -1)
    assert torch.allclose(moved, expected, atol=1e-2)


def test_a_rotation_by_a_right_angle_is_exact() -> None:
    image = pictures(1, side=16)
    draw = NOTHING.clone()
    draw[0] = 90 / augmentation.ROTATION_SD_DEG
    assert torch.allclose(
        augmentation._warp(image, draw, NO_FLIP), torch.rot90(image, 1, (2, 3)), atol=1e-2
    )


def test_warp_equals_the_affine_map_written_out() -> None:
    image = pictures(1, side=24)
    draw = torch.tensor([[0.7], [-1.2], [0.5], [-0.8], [1.5]])
    angle, size = math.radians(8) * 0.7, math.exp(0.08 * -1.2)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1, math.radians(4) * 1.5], [0, 1]])
    linear = size * rotation @ shear @ np.diag([-1, 1])
    theta = torch.tensor([[*linear[0], 0.1 * 0.5], [*linear[1], 0.1 * -0.8]]).float()
    grid = torch.nn.functional.affine_grid(theta[None], [1, 1, 24, 24], align_corners=False)
    expected = torch.nn.functional.grid_sample(
        image, grid, padding_mode="border", align_corners=False
    )
    warped = augmentation._warp(image, draw, torch.tensor([True]))
    assert torch.allclose(warped, expected, atol=1e-2)


def test_a_share_of_the_pictures_loses_detail_in_one_of_four_ways() -> None:
    images = pictures(6, side=48)
    draw = torch.tensor([1.7, 0.2, 0.55, 0.8, 0.95, 1.0])
    changed = augmentation._lose_detail(images.clone(), draw)
    assert torch.equal(changed[[0, 5]], images[[0, 5]])
    blurred = gaussian_filter(images[1, 0].numpy(), 48 / 64, mode="nearest", truncate=3.0)
    assert changed[1, 0].numpy() == pytest.approx(blurred, abs=1e-2)
    for place, side in ((2, 32), (3, 24), (4, 16)):
        small = cv2.resize(images[place, 0].numpy(), (side, side), interpolation=cv2.INTER_AREA)
        large = cv2.resize(small, (48, 48), interpolation=cv2.INTER_LINEAR)
        if side != 32:  # at 2/3 of the side the library's areas are whole pixels, OpenCV's parts
            assert changed[place, 0].numpy() == pytest.approx(large, abs=1e-2)
        assert (changed[place] - images[place]).abs().mean() > 0.5


def test_as_many_are_blurred_as_are_taken_at_a_low_resolution() -> None:
    strength = 1e-6  # no other change but flips can be seen
    draws = torch.rand((10, 4000), generator=generator())[1] / augmentation.DETAIL_PROBABILITY
    assert (draws < 0.5).float().mean() == pytest.approx(0.1, abs=0.02)
    assert ((draws >= 0.5) & (draws < 1)).float().mean() == pytest.approx(0.1, abs=0.02)
    images = pictures(8, side=48)
    assert torch.equal(augmentation._lose_detail(images.clone(), draws[:8] / strength), images)


def test_tone_equals_gamma_contrast_and_brightness_written_out() -> None:
    images = pictures(1)
    gamma, contrast, brightness = 0.4, -0.6, 0.2
    changed = augmentation._change_tone(images, torch.tensor([[gamma], [contrast], [brightness]]))
    x = (images / 255) ** math.exp(0.3 * gamma)
    x = (x - x.mean()) * math.exp(0.3 * contrast) + x.mean() + 0.15 * brightness
    assert torch.allclose(changed, 255 * x.clamp(0, 1), atol=1e-2)


def test_an_erased_rectangle_has_the_drawn_area_and_the_mean() -> None:
    images = pictures(200, side=64)
    draw = torch.rand((4, 200), generator=generator())
    chosen = torch.arange(200) % 2 == 0
    erased = augmentation._erase(images, chosen, draw)
    assert torch.equal(erased[~chosen], images[~chosen])
    for image, before, size in zip(erased[chosen], images[chosen], draw[0][chosen], strict=True):
        rows, columns = torch.nonzero(image[0] != before[0], as_tuple=True)
        assert torch.allclose(image[0, rows, columns], before.mean(), atol=1e-2)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) >= 0.99 * height * width  # a pixel may equal the mean by chance
        side_px = 64 * math.sqrt(0.02 + 0.18 * float(size))
        # Each side is rounded to whole pixels.
        assert abs(math.sqrt(height * width) - side_px) <= 1.5
