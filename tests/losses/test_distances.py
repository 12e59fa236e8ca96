import math
from itertools import combinations

import pytest
import torch
from torch.autograd import gradcheck

from siamtune.config import choices
from siamtune.losses.distances import DISTANCES, DISTANCES_WITHIN, all_pairs


def test_every_distance_of_the_configuration_is_there() -> None:
    assert tuple(DISTANCES) == tuple(DISTANCES_WITHIN) == choices("loss.distance")


@pytest.mark.parametrize(
    ("name", "expected"),
    # From (3, 4) to itself, to the origin's other side, and at a right angle.
    [("l1", [0, 14, 8]), ("l2", [0, 10, math.hypot(7, 1)]), ("cosine", [0, 2, 1])],
)
def test_values_on_paper(name: str, expected: list[float]) -> None:
    a = torch.tensor([[3.0, 4.0]] * 3, dtype=torch.float64)
    b = torch.tensor([[3.0, 4.0], [-3.0, -4.0], [-4.0, 3.0]], dtype=torch.float64)
    assert DISTANCES[name](a, b).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_within_is_between_each_row_and_the_rows_after_it(name: str, count: int) -> None:
    rows = torch.randn(count, 4, generator=torch.Generator().manual_seed(0)).double()
    rows[-1] = 0.0  # no direction: a cosine of 0 to all others
    pairs = list(combinations(range(count), 2))
    assert all_pairs(rows).T.tolist() == [list(pair) for pair in pairs]
    expected = [DISTANCES[name](rows[i : i + 1], rows[j : j + 1]).item() for i, j in pairs]
    assert DISTANCES_WITHIN[name](rows).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(DISTANCES[name], (a, b))
    assert gradcheck(DISTANCES_WITHIN[name], (a,))


@pytest.mark.parametrize("name", DISTANCES)
def test_two_equal_embeddings_have_a_gradient_of_zero(name: str) -> None:
    a = torch.tensor([[0.6, 0.8]], requires_grad=True)
    DISTANCES[name](a, torch.tensor([[0.6, 0.8]])).sum().backward()
    torch.testing.assert_close(a.grad, torch.zeros(1, 2))
    both = torch.tensor([[0.6, 0.8]] * 2, requires_grad=True)
    DISTANCES_WITHIN[name](both).sum().backward()
    torch.testing.assert_close(both.grad, torch.zeros(2, 2))
