"""An exponential moving average of a network's weights, which often verifies better than they do.

Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging".
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Follow = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """A copy in evaluation mode, whose `update_parameters(model)` after each step follows `model`.

    The statistics of batch normalization are averaged like the weights that they belong to.
    """
    averaged = AveragedModel(model, multi_avg_fn=_following(decay), use_buffers=True)
    return averaged.eval().requires_grad_(False)


def _following(decay: float) -> Follow:
    @torch.no_grad()
    def follow(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        # The first weights are no better than chance: a short training must forget them, too. So
        # the average is of about a tenth of the steps so far until `decay` makes it shorter.
        weight = torch.as_tensor(9 / (10 + steps)).clamp(min=1 - decay)  # stays on the device
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:  # how many batches a normalization has seen
                mean.copy_(value)

    return follow
