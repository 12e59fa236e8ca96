"""Several workers as one: the batch, the loss and batch normalization see all ranks.

World size is not a hyperparameter, but for the random masks of dropout, which are each rank's own.
Every rank computes the loss of the whole batch from everybody's embeddings, with its own slice
differentiable; the gradients of the parts add up to the gradient that a single worker would have
computed.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Told = TypeVar("Told")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def first_told(own: Told | None) -> Told | None:
    """What the first rank that has something to tell tells, on every rank; None if none has."""
    told: list[Told | None] = [own] * world_size()
    if world_size() > 1:
        dist.all_gather_object(told, own)
    return next(filter(None, told), None)


def own_share(count: int) -> slice:
    """The contiguous part of `count` items that this rank works on.

    Raises:
        ValueError: `count` cannot be shared out evenly; `gather` needs equal parts.
    """
    workers = world_size()
    if count % workers:
        raise ValueError(f"batch.images must be a multiple of the {workers} workers, got {count}")
    share = count // workers
    return slice(rank() * share, (rank() + 1) * share)


def gather(own: Tensor) -> Tensor:
    """Every rank's rows in rank order, `(B / world size, D)` to `(B, D)`; only the own ones carry
    a gradient (the argument of pytorch-metric-learning's distributed wrapper)."""
    if world_size() == 1:
        return own
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    parts[rank()] = own
    return torch.cat(parts)


def gather_uneven(own: Tensor, counts: list[int]) -> Tensor:
    """Rows without gradient of ranks that hold `counts[rank]` of them each."""
    if world_size() == 1:
        return own
    longest = max(counts)
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of all ranks in one flat message.

    The networks of this field hold a few megabytes: one message costs less than the hooks of
    DistributedDataParallel, and the model keeps its own class.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization with the statistics of all ranks; torch's own runs on GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        axes = [0, 2, 3]
        count = input.numel() // input.shape[1] * world_size()
        sums = torch.stack([input.sum(axes), input.square().sum(axes)])
        mean, square_mean = _SumOverRanks.apply(sums) / count
        variance = square_mean - mean.square()
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            momentum = self.momentum or 0.0
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return input * scale[:, None, None] + shift[:, None, None]


def synchronize_batch_norm(module: nn.Module) -> None:
    """Let every BatchNorm2d of a model share its statistics among the ranks, in place."""
    if world_size() == 1:
        return
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SynchronizedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared.to(child.weight.device))
        else:
            synchronize_batch_norm(child)
