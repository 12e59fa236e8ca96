import math

import pytest
import torch

from siamtune.config import OptimConfig
from siamtune.training.optimizers import build_optimizer, halved_on_rise, lr_factor


def test_cosine_falls_from_one_through_one_half_to_zero() -> None:
    config = OptimConfig(schedule="cosine")
    assert [lr_factor(config, epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_constant_stays() -> None:
    config = OptimConfig(schedule="constant")
    assert {lr_factor(config, epoch, 10) for epoch in (0.0, 3.3, 9.9)} == {1.0}


def test_warm_up_rises_linearly_and_then_the_schedule_takes_the_rest() -> None:
    config = OptimConfig(schedule="cosine", warmup_epochs=2.0)
    rising = [lr_factor(config, epoch, 10) for epoch in (0.0, 0.5, 1.0, 1.5)]
    assert rising == pytest.approx([0, 0.25, 0.5, 0.75], abs=2e-3)
    assert lr_factor(config, 2.0, 10) == pytest.approx(1.0)
    assert lr_factor(config, 6.0, 10) == pytest.approx(0.5)


def test_the_rate_is_halved_only_after_a_rise_and_never_after_the_first_epoch() -> None:
    assert halved_on_rise(1.0, 5.0, None) == 1.0
    assert halved_on_rise(1.0, 0.9, 1.0) == 1.0
    assert halved_on_rise(1.0, 1.1, 1.0) == 0.5


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_every_optimizer_takes_its_rate_decay_and_momentum(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    config = OptimConfig(name=name, lr=0.1, weight_decay=0.5, momentum=0.0)
    optimizer = build_optimizer(config, [weight])
    weight.grad = torch.zeros(1)
    optimizer.step()
    # With no gradient only the decay acts: decoupled for adamw, as a gradient for the others.
    expected = {"adamw": 1 - 0.1 * 0.5, "adam": 1 - 0.1, "sgd": 1 - 0.1 * 0.5}
    assert weight.item() == pytest.approx(expected[name], abs=1e-6)


def test_momentum_carries_a_step_on() -> None:
    moved = {}
    for momentum in (0.0, 0.9):
        weight = torch.nn.Parameter(torch.zeros(1))
        config = OptimConfig(name="sgd", lr=1.0, weight_decay=0.0, momentum=momentum)
        optimizer = build_optimizer(config, [weight])
        for gradient in (1.0, 0.0):
            weight.grad = torch.full((1,), gradient)
            optimizer.step()
        moved[momentum] = weight.item()
    assert moved[0.0] == -1.0
    assert moved[0.9] < -1.5
    assert math.isfinite(moved[0.9])
