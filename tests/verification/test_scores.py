import numpy as np
import pytest
import torch

from siamtune.verification import scores
from siamtune.verification.scores import pair_scores

BY_HAND = {
    "l1": lambda a, b: float(np.abs(a - b).sum()),
    "l2": lambda a, b: float(np.sqrt(((a - b) ** 2).sum())),
    "cosine": lambda a, b: float(1 - (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))),
}


@pytest.mark.parametrize("distance", BY_HAND)
@pytest.mark.parametrize("chunk_numbers", [1, 20, 1 << 24])
def test_a_score_is_minus_the_distance(distance, chunk_numbers, monkeypatch) -> None:
    monkeypatch.setattr(scores, "CHUNK_NUMBERS_CPU", chunk_numbers)
    embeddings = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    left, right = np.array([0, 1, 8, 3, 3, 5, 7]), np.array([1, 2, 0, 3, 7, 4, 2])
    vectors = embeddings.double().numpy()
    slow = [-BY_HAND[distance](vectors[a], vectors[b]) for a, b in zip(left, right, strict=True)]
    fast = pair_scores(embeddings, left, right, distance)
    assert fast.dtype == np.float64
    # Of two equal embeddings the Euclidean distance may be a little above zero, for its gradient.
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_scores_of_embeddings_that_were_trained_carry_no_gradient() -> None:
    embeddings = torch.randn(4, 3, requires_grad=True)
    pair_scores(embeddings, np.array([0, 1]), np.array([2, 3]), "l2")
    assert embeddings.grad is None


def test_no_pairs_have_no_scores() -> None:
    none = np.array([], dtype=np.int64)
    assert pair_scores(torch.randn(4, 3), none, none, "l2").shape == (0,)
