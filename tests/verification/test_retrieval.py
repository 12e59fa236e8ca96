import numpy as np
import pytest
import torch

from siamtune.errors import InvalidInput
from siamtune.verification import retrieval
from siamtune.verification.retrieval import retrieval_metrics


def slow_metrics(embeddings: torch.Tensor, identities: torch.Tensor, distance: str) -> dict:
    measure = {
        "l1": lambda a, b: (a - b).abs().sum(),
        "l2": lambda a, b: (a - b).norm(),
        "cosine": lambda a, b: -torch.cosine_similarity(a, b, dim=0),
    }[distance]
    first, average = [], []
    for query in range(len(embeddings)):
        others = [i for i in range(len(embeddings)) if i != query]
        others.sort(key=lambda i: float(measure(embeddings[query], embeddings[i])))
        hits = [bool(identities[i] == identities[query]) for i in others]
        wanted = sum(hits)
        if not wanted:
            continue
        first.append(hits[0])
        precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(wanted) if hits[k]]
        average.append(sum(precisions) / wanted)
    return {"precision@1": np.mean(first), "map@r": np.mean(average)}


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("chunk_numbers", [100, 1 << 24])
def test_retrieval_equals_a_search_by_hand(distance, chunk_numbers, monkeypatch) -> None:
    monkeypatch.setattr(retrieval, "CHUNK_NUMBERS", chunk_numbers)
    generator = torch.Generator().manual_seed(0)
    identities = torch.tensor([0] * 9 + [1] * 4 + [2] * 2 + [3] + [4] * 3 + [5])
    identities = identities[torch.randperm(20, generator=generator)]
    centres = torch.randn(6, 5, generator=generator)
    embeddings = centres[identities] + torch.randn(20, 5, generator=generator)
    expected = slow_metrics(embeddings, identities, distance)
    assert 0.1 < expected["map@r"] < 0.9
    assert retrieval_metrics(embeddings, identities, distance) == pytest.approx(expected)


def test_nobody_with_two_pictures_is_refused() -> None:
    with pytest.raises(InvalidInput, match="everybody has one"):
        retrieval_metrics(torch.randn(4, 3), torch.arange(4), "l2")
