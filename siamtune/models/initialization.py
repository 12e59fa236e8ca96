"""Initial weights, drawn from torch's global generator."""

from torch import nn


def normal_2016(network: nn.Sequential) -> None:
    """Weights N(0, 0.05), whatever the size of a layer, and zero biases, as in 2016."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=0.05)


def he_normal(network: nn.Module) -> None:
    """Weights N(0, 2 / fan-in) and zero biases of every convolution (He et al. 2015)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
