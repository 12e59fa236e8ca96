"""How far two embeddings lie apart: small when they are alike."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute differences `(P,)` of the rows of `a` and `b` `(P, D)`."""
    return (a - b).abs().sum(1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances `(P,)` of the rows of `a` and `b` `(P, D)`; gradient 0 at distance 0."""
    return torch.linalg.vector_norm(a - b, dim=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """One minus the cosine of the angle `(P,)` between the rows of `a` and `b` `(P, D)`."""
    return 1.0 - F.cosine_similarity(a, b, dim=1)


DISTANCES: dict[str, Distance] = {"l1": l1, "l2": l2, "cosine": cosine}
