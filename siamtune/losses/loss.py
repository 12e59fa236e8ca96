"""What every loss of this room is."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from siamtune.config import LossConfig


class Loss(nn.Module):
    """A number to minimise; may hold parameters that learn along with the network."""

    @abstractmethod
    def forward(self, embeddings: Tensor, identities: Tensor, pairs: Tensor | None) -> Tensor:
        """The loss of a batch, zero (never NaN) where nothing can be compared.

        Args:
            embeddings: `(B, D)`.
            identities: `(B,)` int64, who is on each picture.
            pairs: `(2, P)` int64 positions in the batch, or None for all B (B - 1) / 2.
        """


# The configuration, the size of an embedding, and how many identities there are in training.
LossBuilder = Callable[[LossConfig, int, int], Loss]
