import math

import pytest
import torch

from siamtune.config import choices
from siamtune.models.activations import ACTIVATIONS


def test_every_activation_of_the_configuration_is_there() -> None:
    assert tuple(ACTIVATIONS) == choices("model.activation")


@pytest.mark.parametrize(
    ("name", "at_minus_one", "at_one"),
    [
        ("relu", 0.0, 1.0),
        ("scaled_tanh", -1.7159 * math.tanh(2 / 3), 1.7159 * math.tanh(2 / 3)),
        ("leaky_relu", -0.01, 1.0),
        ("silu", -1 / (1 + math.e), 1 / (1 + math.exp(-1))),
    ],
)
def test_values_on_paper(name: str, at_minus_one: float, at_one: float) -> None:
    result = ACTIVATIONS[name]()(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64))
    assert result.tolist() == pytest.approx([at_minus_one, 0.0, at_one])
