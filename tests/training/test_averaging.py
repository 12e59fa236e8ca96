import pytest
import torch
from torch import nn

from siamtune.training.averaging import averaged_model


def test_weights_and_statistics_follow_as_a_hand_loop_says() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averaged = averaged_model(model, decay=0.5)
    expected: dict[str, torch.Tensor] = {}
    for step in range(20):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(4, 3))
        model(torch.randn(8, 3))  # moves the statistics
        averaged.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if step == 0 or not value.is_floating_point():
                expected[name] = value.clone()
            else:
                expected[name] = decay * expected[name] + (1 - decay) * value
    found = averaged.module.state_dict()
    assert int(found["1.num_batches_tracked"]) == 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert not torch.equal(found["0.weight"], model[0].weight)
    assert not averaged.module.training
    assert model.training


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_a_short_training_forgets_its_first_weights(decay: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    averaged = averaged_model(model, decay)
    for value in (100.0, *[0.0] * 50):
        nn.init.constant_(model.weight, value)
        averaged.update_parameters(model)
    assert averaged.module.weight.item() < 1.0
