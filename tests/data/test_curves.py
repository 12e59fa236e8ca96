"""Curves against points on paper."""

import numpy as np
import pytest

from siamtune.data.curves import ellipse, points, ribbon, signed_power, smooth, taper

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])


@pytest.mark.parametrize("closed", [True, False])
def test_a_smooth_curve_passes_through_its_corners(closed: bool) -> None:
    curve = smooth(SQUARE, 4, closed=closed)
    assert len(curve) == (16 if closed else 13)
    np.testing.assert_allclose(curve[::4], SQUARE)


def test_a_smooth_curve_through_a_line_stays_on_it() -> None:
    line = points(np.arange(5.0), 3 * np.arange(5.0))
    curve = smooth(line, closed=False)
    np.testing.assert_allclose(curve[:, 1], 3 * curve[:, 0])
    assert (np.diff(curve[:, 0]) > 0).all()


def test_a_closed_curve_is_as_symmetric_as_its_corners() -> None:
    curve = smooth(SQUARE, 2)
    np.testing.assert_allclose(curve[1], [1, -0.25])  # (9 (p1 + p2) - p0 - p3) / 16
    np.testing.assert_allclose(curve.mean(axis=0), [1, 1])


def test_stacks_of_curves_are_smoothed_one_by_one() -> None:
    stack = np.random.default_rng(0).normal(size=(3, 2, 5, 3))
    np.testing.assert_allclose(smooth(stack)[2, 1], smooth(stack[2, 1]))


def test_a_ribbon_lies_half_its_width_on_both_sides() -> None:
    line = np.array([[0.0, 1.0, 7.0], [1.0, 1.0, 8.0], [2.0, 1.0, 9.0]])
    outline = ribbon(line, np.array([0.2, 0.4, 0.6]))
    np.testing.assert_allclose(outline[:3, 1], [1.1, 1.2, 1.3])
    np.testing.assert_allclose(outline[3:, 1], [0.7, 0.8, 0.9])  # and back
    np.testing.assert_allclose(outline[3:, 2], [9, 8, 7])


def test_an_ellipse_has_its_radii() -> None:
    centre = np.array([[1.0], [5.0]])
    outline = ellipse(centre, 2.0, 3.0, 0.5, corners=8)
    assert outline.shape == (2, 8, 2)
    x, y = (outline[1] - (5, 2)).T
    np.testing.assert_allclose((x / 3) ** 2 + (y / 0.5) ** 2, 1)


def test_a_taper_swells_to_one() -> None:
    widths = taper(9, start=0.0, end=0.0)
    np.testing.assert_allclose(widths, widths[::-1], atol=1e-12)
    assert widths.argmax() == 4
    assert widths.max() == pytest.approx(1)


def test_a_signed_power_keeps_the_sign() -> None:
    np.testing.assert_allclose(signed_power(np.array([-4.0, 0.0, 9.0]), 0.5), [-2, 0, 3])
