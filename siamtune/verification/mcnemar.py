"""Whether two ways to judge the same pairs differ by more than chance."""

from dataclasses import dataclass

import numpy as np

from siamtune.errors import InvalidInput


@dataclass(frozen=True)
class McNemar:
    """Pairs that exactly one of two judged rightly.

    Attributes:
        p_value: how often chance alone splits them so unevenly, if each were as likely either way.
            Exact, however few they are. It takes pairs for independent; those that share a person
            are not quite, so it is a little too small.
    """

    first_only: int
    second_only: int
    p_value: float


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """McNemar's test (1947) by the binomial distribution; (P,) bool each, in the same order.

    Raises:
        InvalidInput: they are of different lengths.
    """
    from scipy.stats import binomtest

    if first_right.shape != second_right.shape:
        raise InvalidInput(
            "both must have judged the same pairs, but got "
            f"{len(first_right)} and {len(second_right)}"
        )
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    unlike = first_only + second_only
    p_value = float(binomtest(first_only, unlike).pvalue) if unlike else 1.0
    return McNemar(first_only, second_only, p_value)
