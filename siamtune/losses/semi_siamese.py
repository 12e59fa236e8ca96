"""Pictures against a gallery that another network remembers, for people with few pictures.

H. Du et al. 2020, "Semi-Siamese training for shallow face learning". Two networks that learned
together from two pictures a person would collapse; here the second one only follows, as a moving
average, and its embeddings take the place of the directions that a softmax over people would learn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from siamtune.losses.loss import Loss

NOBODY = -1


class SemiSiamese(Loss):
    """Softmax with a margin over the cosines to gallery embeddings.

    A picture's true answer is the mean of the gallery's embeddings of the person's other pictures
    in the batch; the wrong ones are those of other people there and in `size` pictures of batches
    before. Who has no other picture in the batch answers nothing but stands in the gallery.

    Args:
        margin: subtracted from the true cosine.
        scale: multiplies the cosines.
    """

    def __init__(self, embedding_size: int, margin: float, scale: float, size: int) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.queue: Tensor
        self.owners: Tensor
        self.place: Tensor
        self.register_buffer("queue", torch.zeros(size, embedding_size))
        self.register_buffer("owners", torch.full((size,), NOBODY))
        self.register_buffer("place", torch.tensor(0))

    def forward(
        self,
        embeddings: Tensor,
        identities: Tensor,
        pairs: Tensor | None,
        gallery: Tensor | None = None,
    ) -> Tensor:
        """As `Loss.forward`, and pictures enter the queue.

        Args:
            gallery: `(B, D)` of the same pictures by the network that follows; default the
                embeddings themselves, without gradient.
        """
        own = F.normalize(embeddings.detach() if gallery is None else gallery)
        same = identities[:, None] == identities
        others = (same & ~torch.eye(len(own), dtype=torch.bool, device=own.device)).to(own)
        prototypes = F.normalize(others @ own)
        directions = F.normalize(embeddings)
        true = (directions * prototypes).sum(1, keepdim=True) - self.margin

        everybody = torch.cat([own, self.queue.to(own)])  # a copy: the queue moves on
        owners = torch.cat([identities, self.owners])
        wrong = (owners != identities[:, None]) & (owners != NOBODY)
        cosines = (directions @ everybody.T).masked_fill(~wrong, -torch.inf)
        logits = self.scale * torch.cat([true, cosines], 1)
        # Not indexed but weighed: how many they are would have to be waited for.
        losses = torch.logsumexp(logits, 1) - logits[:, 0]
        asked = others.any(1)
        self._remember(own, identities)
        return (losses * asked).sum() / asked.sum().clamp_min(1)

    @torch.no_grad()
    def _remember(self, gallery: Tensor, identities: Tensor) -> None:
        count = min(len(gallery), len(self.queue))
        if not count:
            return
        places = (self.place + torch.arange(count, device=gallery.device)) % len(self.queue)
        self.queue[places] = gallery[-count:].to(self.queue)
        self.owners[places] = identities[-count:]
        self.place.copy_((self.place + count) % len(self.queue))
