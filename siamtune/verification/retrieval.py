"""How well a picture finds the others of its person among all pictures."""

# N pictures · Q queries in a chunk · K neighbours

import torch
from torch import Tensor

from siamtune.errors import InvalidInput

CHUNK_NUMBERS = 1 << 24  # distances held at a time: 64 MiB of float32


@torch.inference_mode()
def retrieval_metrics(embeddings: Tensor, identities: Tensor, distance: str) -> dict[str, float]:
    """ "precision@1" and "map@r" (Musgrave et al. 2020) of `embeddings` (N, D).

    Each picture whose person has another one searches all the others, nearest first. For a person
    with R others, MAP@R averages over the first R places the precision up to each place that holds
    one of them. `identities` (N,) int64; `distance` is "l1", "l2" or "cosine".

    Raises:
        InvalidInput: nobody has two pictures.
    """
    identities = identities.to(embeddings.device)
    _, person, counts = identities.unique(return_inverse=True, return_counts=True)
    others = counts[person] - 1
    # Queries in order of their number of others: a chunk asks for no more neighbours than it needs.
    queries = torch.argsort(others, stable=True)
    queries = queries[others[queries] > 0]
    if len(queries) == 0:
        raise InvalidInput("retrieval needs a person with two pictures, but everybody has one")
    if distance == "cosine":
        embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    first = average = 0.0
    for chunk in queries.split(max(1, CHUNK_NUMBERS // len(embeddings))):
        hits = _hits(embeddings, identities, chunk, int(others[chunk[-1]]), distance)
        places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        counted = hits * (places <= others[chunk, None])
        precision = counted.cumsum(1) / places
        average += float(((precision * counted).sum(1) / others[chunk]).sum())
        first += float(hits[:, 0].sum())
    return {"precision@1": first / len(queries), "map@r": average / len(queries)}


def _hits(
    embeddings: Tensor, identities: Tensor, queries: Tensor, neighbours: int, distance: str
) -> Tensor:
    """Whether each of the nearest `neighbours` shows the query's person, (Q, K) float64."""
    if distance == "cosine":
        distances = -(embeddings[queries] @ embeddings.T)
    else:
        distances = torch.cdist(embeddings[queries], embeddings, p={"l1": 1.0, "l2": 2.0}[distance])
    distances[torch.arange(len(queries)), queries] = torch.inf  # nobody finds the query itself
    nearest = distances.topk(neighbours, largest=False).indices
    return (identities[nearest] == identities[queries, None]).double()
