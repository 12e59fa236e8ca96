"""What is shown of a network's inside is what the network does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from siamtune.config import trial_config
from siamtune.data.normalization import fit_normalization
from siamtune.models import ARCHITECTURES, build_model
from siamtune.shipping.inside import layers, saliency
from siamtune.shipping.verifier import Verifier, load


@pytest.fixture(scope="module")
def verifier(trained_run: Path) -> Verifier:
    return load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 1, 24, 24), dtype=np.uint8)


def test_layers_are_those_of_a_pass_by_hand(verifier: Verifier, faces: np.ndarray) -> None:
    found = layers(verifier, faces[0])
    with torch.no_grad():
        x = verifier.normalization(torch.from_numpy(faces[:1]).float())
        expected = [x.numpy()[0]]
        network = verifier.model.architecture
        x = network[2](network[1](network[0](x)))
        expected.append(x.numpy()[0].copy())
        for block in network[3:7]:
            inner = block.body[2](block.body[1](block.body[0](x)))
            expected.append(inner.numpy()[0].copy())
            x = block(x)
            expected.append(x.numpy()[0].copy())
    assert [layer.maps.shape for layer in found] == [maps.shape for maps in expected]
    for layer, maps in zip(found, expected, strict=True):
        assert np.allclose(layer.maps, maps, atol=1e-6)
    assert [layer.name for layer in found[:3]] == ["normalized", "ReLU 2", "ReLU 3.body.2"]
    assert not any(module._forward_hooks for module in verifier.model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_shows_its_layers(architecture: str, verifier: Verifier) -> None:
    config = trial_config(
        {"model.architecture": architecture, "model.spatial_transformer": True,
         "model.activation": "silu"}
    )  # fmt: skip
    model = build_model(config.model, channels=1, resolution_px=64).eval()
    face = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    other = Verifier(**{
        **vars(verifier), "model": model, "normalization": fit_normalization("minmax", face[None]),
    })  # fmt: skip
    found = layers(other, face)
    convolutions = sum(
        isinstance(m, nn.Conv2d) or type(m).__name__ == "LocallyConnected2d"
        for m in model.modules()
    )
    shortcuts = 3 if architecture == "resnet" else 0
    activations = [layer for layer in found if layer.name.startswith(("SiLU", "ReLU"))]
    assert len(activations) == convolutions - shortcuts
    assert any(layer.name == "SpatialTransformer spatial_transformer" for layer in found)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_the_gradient_of_a_linear_network_is_the_one_on_paper(
    verifier: Verifier, faces: np.ndarray, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siamtune.shipping.inside.NOISE", 0.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(576, 5, bias=False))
    normalization = nn.Identity()
    linear = Verifier(**{
        **vars(verifier), "model": model, "normalization": normalization, "distance": distance,
        "flip": False,
    })  # fmt: skip
    found = saliency(linear, faces)
    weights = model[1].weight.detach().double()
    a, b = (torch.from_numpy(face).double().flatten() @ weights.T for face in faces)
    if distance == "l2":
        by_embedding = -(a - b) / (a - b).norm()
    elif distance == "l1":
        by_embedding = -(a - b).sign()
    else:
        cosine = a @ b / (a.norm() * b.norm())
        by_embedding = b / (a.norm() * b.norm()) - cosine * a / a.norm() ** 2
    expected = (by_embedding @ weights).reshape(24, 24).numpy()
    assert np.allclose(found[0], expected, rtol=1e-3, atol=1e-6)


def test_noisy_copies_are_drawn_alike_every_time(verifier: Verifier, faces: np.ndarray) -> None:
    assert np.array_equal(saliency(verifier, faces), saliency(verifier, faces))
    assert all(parameter.grad is None for parameter in verifier.model.parameters())
