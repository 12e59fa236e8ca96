"""The points of a head: in their places, symmetric, moved only by what should move them."""

import numpy as np
import pytest

from siamtune.data.curves import Floats
from siamtune.data.portrait import (
    HAIRS,
    IRISES,
    MOLES,
    SKINS,
    TRAITS,
    Values,
    landmarks,
    person_colours,
    portrait,
)

# Where each of the 68 landmarks goes in a mirror: jaw, brows, bridge, nostrils, eyes, lips.
MIRROR = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]
CIRCUMSTANCES = {
    "smile": 0.3,
    "open": 0.1,
    "lids": 1.0,
    "brow_raise": 0.0,
    "brow_turn": 0.0,
    "gaze_x": 0.2,
    "gaze_y": 0.1,
    "hair_shift": 0.0,
    "light": 0.5,
    "glasses_chance": 0.0,
    "hat_chance": 0.0,
}


def values(count: int = 200, **changed: float) -> Values:
    rng = np.random.default_rng(0)
    drawn = {name: rng.uniform(*bounds, (count, 1, 1)) for name, bounds in TRAITS.items()}
    fixed = CIRCUMSTANCES | changed
    return drawn | {name: np.full((count, 1, 1), value) for name, value in fixed.items()}


def marks(**changed: float) -> Floats:
    """(N, 68, 3)"""
    return landmarks(values(**changed))[:, 0]


def test_a_face_is_symmetric() -> None:
    points = marks()
    assert points.shape == (200, 68, 3)
    np.testing.assert_allclose(points[:, MIRROR] * (-1, 1, 1), points, atol=1e-9)


def test_landmarks_stand_in_the_order_of_ibug() -> None:
    points = marks()
    x, y, z = np.moveaxis(points, -1, 0)
    assert (np.diff(x[:, :17]) > 0).all()  # the jaw from left to right
    assert (y[:, 8] == y.max(axis=1)).all()  # over the chin
    assert (np.diff(x[:, 17:27]) > 0).all()  # the brows
    assert (np.diff(y[:, 27:31]) > 0).all()  # down the nose
    assert (z[:, 30] == z.max(axis=1)).all()  # whose tip stands out
    assert (y[:, 17:22].mean(axis=1) < y[:, [37, 38]].min(axis=1)).all()  # above the eyes
    for outer, upper, inner, lower in ((36, 37, 39, 41), (45, 44, 42, 46)):
        assert (np.abs(x[:, outer]) > np.abs(x[:, inner])).all()
        assert (y[:, upper] < y[:, lower]).all()
    assert (x[:, 48] < x[:, 60]).all()  # corners of the lips, outside and inside
    assert (x[:, 54] > x[:, 64]).all()
    assert (y[:, 51] < y[:, 62]).all()
    assert (y[:, 66] < y[:, 57]).all()
    assert (y[:, 33] < y[:, 51]).all()  # the nose ends above the mouth, the mouth above the chin
    assert (y[:, 57] < y[:, 8]).all()


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        # Lips, and lids that a smile narrows.
        ({"smile": 1.0}, {37, 38, 40, 41, 43, 44, 46, 47} | set(range(48, 68))),
        ({"open": 0.2}, set(range(1, 16)) | set(range(48, 68))),
        ({"lids": 0.6}, {37, 38, 40, 41, 43, 44, 46, 47}),
        ({"brow_raise": 0.08}, set(range(17, 27))),
        ({"gaze_x": -0.4, "light": -1.0, "hat_chance": 1.0, "hair_shift": 0.1}, set()),
    ],
)
def test_an_expression_moves_only_its_own_landmarks(
    change: dict[str, float], moved: set[int]
) -> None:
    difference = np.abs(marks(**change) - marks()).max(axis=(0, 2))
    assert set(np.flatnonzero(difference > 1e-9)) <= moved
    assert bool((difference > 0.02).any()) == bool(moved)


def test_a_smile_lifts_the_corners_of_the_mouth() -> None:
    sad, happy = marks(smile=-0.3), marks(smile=1.0)
    assert (happy[:, [48, 54], 1] < sad[:, [48, 54], 1]).all()
    assert (happy[:, 51, 1] > sad[:, 51, 1]).all()


def test_every_shape_is_finite_and_has_a_colour_for_every_photograph() -> None:
    v = values(20)
    cloth = np.full((20, 3), 128.0)
    colours = person_colours(v, shirt=cloth, hat=cloth)
    moles = np.zeros((20, MOLES, 2))
    shapes = portrait(v, colours, moles, np.ones((20, MOLES), bool))
    for shape in shapes:
        assert shape.corners.shape[0] == 20
        assert shape.corners.shape[-1] == 3
        assert np.isfinite(shape.corners).all()
        colour = np.broadcast_to(shape.colour, (20, 1 if shape.is_shading else 3))
        assert colour.min() >= 0
        assert colour.max() <= 255


def test_colours_are_mixed_from_their_palettes() -> None:
    v = values(3)
    v["skin"][:, 0, 0] = 0.0, 2.5, 6.0
    v["hair_colour"][:, 0, 0] = 4.2, 5.9, 4.2
    v["iris_colour"][:, 0, 0] = 3.1, 1.0, 3.1
    cloth = np.zeros((3, 3))
    colours = person_colours(v, shirt=cloth, hat=cloth)
    np.testing.assert_allclose(colours.skin, [SKINS[0], SKINS[2:4].mean(axis=0), SKINS[6]])
    np.testing.assert_allclose(colours.hair[:2], HAIRS[[4, 5]])
    np.testing.assert_allclose(colours.iris, IRISES[[3, 1, 0]])  # dark skin, dark eyes
    assert colours.hair[2].max() < 100
