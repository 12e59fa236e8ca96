"""From embeddings to one number a pair: large when the two pictures look alike."""

import numpy as np
import torch
from torch import Tensor

from siamtune.losses.distances import DISTANCES

# Numbers gathered at a time on each side: 64 MiB of float32; and what a processor's cache holds,
# which halves the time there.
CHUNK_NUMBERS, CHUNK_NUMBERS_CPU = 1 << 24, 1 << 18


@torch.inference_mode()
def pair_scores(
    embeddings: Tensor, left: np.ndarray, right: np.ndarray, distance: str
) -> np.ndarray:
    """Scores `(P,)` float64, minus the distance, of pairs of rows of `embeddings` `(N, D)`."""
    between = DISTANCES[distance]
    scores = np.empty(len(left))
    numbers = CHUNK_NUMBERS_CPU if embeddings.device.type == "cpu" else CHUNK_NUMBERS
    size = max(1, numbers // embeddings.shape[1])
    for start in range(0, len(left), size):
        chunk = slice(start, start + size)
        a, b = (
            embeddings[torch.from_numpy(side[chunk]).to(embeddings.device)]
            for side in (left, right)
        )
        scores[chunk] = -between(a, b).cpu().numpy()
    return scores
