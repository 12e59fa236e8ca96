from math import comb

import numpy as np
import pytest

from siamtune.errors import InvalidInput
from siamtune.verification.mcnemar import mcnemar


def judged(first_only: int, second_only: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.array([True] * first_only + [False] * second_only + [True, False])
    second = np.array([False] * first_only + [True] * second_only + [True, False])
    return first, second


@pytest.mark.parametrize(("first_only", "second_only"), [(1, 0), (2, 9), (9, 2), (5, 5), (40, 70)])
def test_p_is_the_share_of_coin_tosses_that_fall_as_unevenly(first_only, second_only) -> None:
    found = mcnemar(*judged(first_only, second_only))
    assert (found.first_only, found.second_only) == (first_only, second_only)
    tosses = first_only + second_only
    uneven = abs(first_only - second_only)
    slow = sum(comb(tosses, k) for k in range(tosses + 1) if abs(2 * k - tosses) >= uneven)
    assert found.p_value == pytest.approx(slow / 2**tosses)


def test_equal_judgements_differ_by_chance() -> None:
    assert mcnemar(*judged(0, 0)).p_value == 1.0


def test_other_pairs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the same pairs, but got 3 and 2"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
