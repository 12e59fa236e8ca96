"""How far two embeddings lie apart: small when they are alike.

Each distance comes twice: between the rows of two tensors, and within one, between all its rows;
the second is many times faster than gathering the rows of all pairs for the first.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

ZERO_LENGTH = 1e-8  # shorter embeddings have no direction


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute differences `(P,)` of the rows of `a` and `b` `(P, D)`."""
    return (a - b).abs().sum(1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances `(P,)` of the rows of `a` and `b` `(P, D)`; gradient 0 at distance 0."""
    return torch.linalg.vector_norm(a - b, dim=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """One minus the cosine of the angle `(P,)` between the rows of `a` and `b` `(P, D)`."""
    return 1.0 - F.cosine_similarity(a, b, dim=1, eps=ZERO_LENGTH)


def cosine_within(embeddings: Tensor) -> Tensor:
    """`cosine` of all pairs of rows of `(B, D)`, in the order of `torch.nn.functional.pdist`."""
    directions = F.normalize(embeddings, eps=ZERO_LENGTH)
    left, right = all_pairs(embeddings)
    return 1.0 - (directions @ directions.T)[left, right]


def all_pairs(embeddings: Tensor) -> Tensor:
    """Rows `(2, B (B - 1) / 2)` of each pair of the B rows, the left one first: 01 02 .. 12 .."""
    count = len(embeddings)
    return torch.triu_indices(count, count, offset=1, device=embeddings.device)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "cosine": cosine}
DISTANCES_WITHIN: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": partial(F.pdist, p=1.0),
    "l2": F.pdist,
    "cosine": cosine_within,
}
