"""Optimizers and learning-rate schedules, each a function."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from siamtune.config import OptimConfig

LRSchedule = Callable[[float], float]  # share of the training done, in [0, 1] -> factor of the lr


def build_optimizer(
    config: OptimConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer that a configuration names; one fused or for-each update a step."""
    parameters = list(parameters)
    match config.name:
        case "adamw":
            return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)
        case "adam":
            return torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                parameters,
                config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.momentum > 0,
            )


def constant(progress: float) -> float:
    """Factor 1 throughout; the epoch-wise halving of `halve_on_rise` comes on top of it."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


LR_SCHEDULES: dict[str, LRSchedule] = {
    "constant": constant,
    "cosine": cosine,
    "halve_on_rise": constant,
}


def lr_factor(config: OptimConfig, epoch: float, epochs: int) -> float:
    """What the learning rate is multiplied by `epoch` epochs (a fraction) into the training."""
    if epoch < config.warmup_epochs:
        return (epoch + 1e-3) / (config.warmup_epochs + 1e-3)
    progress = (epoch - config.warmup_epochs) / max(epochs - config.warmup_epochs, 1e-9)
    return LR_SCHEDULES[config.schedule](progress)


def halved_on_rise(scale: float, loss: float, previous_loss: float | None) -> float:
    """The 2016 rule: half the learning rate after an epoch whose loss rose above the last one's.

    In 2016 "the last one's" started at zero, so the first epoch always halved it.
    """
    return scale / 2 if previous_loss is not None and loss > previous_loss else scale
