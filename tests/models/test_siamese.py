import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from siamtune.config import (
    MINIMUM_RESOLUTION_PX,
    MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX,
    ModelConfig,
    choices,
)
from siamtune.errors import ConfigError
from siamtune.models import ARCHITECTURES, SiameseNet, build_model
from siamtune.models.locally_connected import LocallyConnected2d
from siamtune.models.resnet import Block

LAST_OF_LOCALISATION = "spatial_transformer.localisation.9"
EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", ARCHITECTURES)


def build(
    architecture: str, *, channels: int = 1, resolution_px: int = 64, seed: int = 0, **dials: Any
) -> SiameseNet:
    torch.manual_seed(seed)
    config = ModelConfig(architecture=architecture, **{"embedding_size": 40, **dials})
    return build_model(config, channels=channels, resolution_px=resolution_px)


def pictures(count: int, channels: int, resolution_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, resolution_px, resolution_px, generator=generator)


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_architecture_of_the_configuration_is_there() -> None:
    assert tuple(ARCHITECTURES) == choices("model.architecture") == tuple(MINIMUM_RESOLUTION_PX)


@pytest.mark.parametrize(
    ("architecture", "resolution_px", "channels", "expected"),
    [
        ("hani", 46, 1, 56_299),
        ("hani", 64, 1, 188_299),
        ("hani", 96, 1, 649_099),
        ("chopra", 46, 1, 318_275),
        ("chopra", 64, 1, 468_275),
        ("custom", 64, 1, 226_928),
        ("custom", 64, 3, 227_216),
    ],
)
def test_the_networks_of_2016_have_their_parameters(
    architecture: str, resolution_px: int, channels: int, expected: int
) -> None:
    network = build(architecture, channels=channels, resolution_px=resolution_px)
    assert parameter_count(network) == expected


def test_deepid_has_the_parameters_of_its_layers() -> None:
    # At 31 pixels, as in the paper: 28 -> 14 -> 12 -> 6 -> 4 -> 2 -> 1
    convolutions = 20 * (16 + 1) + 40 * (20 * 9 + 1)
    locally_shared = 2 * 2 * 60 * (40 * 9 + 1)  # 4 x 4 pixels, four regions
    unshared = 1 * 80 * (60 * 4 + 1)
    skip = 160 * (60 * 2 * 2 + 80 * 1 * 1 + 1)
    for architecture, resolution_px in (("deepid", 44), ("deepid2", 31)):
        network = build(architecture, resolution_px=resolution_px, embedding_size=160)
        assert parameter_count(network) == convolutions + locally_shared + unshared + skip


def test_deepid_sees_its_picture_reduced_as_the_papers_pictures_differ() -> None:
    torch.manual_seed(0)
    whole = build("deepid", resolution_px=110, unit_length=False)
    torch.manual_seed(0)
    small = build("deepid2", resolution_px=78, unit_length=False)
    images = pictures(2, 1, 110)
    reduced = torch.nn.functional.interpolate(images, (78, 78), mode="area")
    assert torch.allclose(whole(images), small(reduced), atol=1e-5)


def test_the_embedding_of_deepid_sees_both_upper_layers() -> None:
    network = build("deepid2", unit_length=False).architecture
    images = pictures(2, 1, 64)
    whole = network(images)
    with torch.no_grad():
        network.upper[0].weight.zero_()  # what is left went past the fourth convolution
    past = network(images)
    assert past.std() > 0
    assert not torch.allclose(whole, past)


@pytest.mark.parametrize("architecture", ["hani", "chopra", "custom"])
def test_initial_weights_are_those_of_2016(architecture: str) -> None:
    layers = [m for m in build(architecture).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all((layer.bias == 0).all() for layer in layers)
    if architecture == "hani":
        last = layers.pop().weight.detach()
        assert last.abs().max() <= 0.01
        assert last.std().item() == pytest.approx(0.01 / math.sqrt(3), rel=0.1)
    for layer in layers:  # within four standard errors
        count = layer.weight.numel()
        assert layer.weight.std().item() == pytest.approx(0.05, rel=4 / math.sqrt(2 * count))
        assert layer.weight.mean().item() == pytest.approx(0, abs=4 * 0.05 / math.sqrt(count))


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spatial_transformer", [False, True])
def test_embeddings_have_their_size_and_every_parameter_learns(
    architecture: str, channels: int, spatial_transformer: bool
) -> None:
    network = build(
        architecture, channels=channels, embedding_size=7, spatial_transformer=spatial_transformer
    )
    images = pictures(4, channels, 64)
    embeddings = network(images)
    assert embeddings.shape == (4, 7)
    target = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    (embeddings * target).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The zero weights that make the transformer start as the identity let nothing pass yet.
        waits = "localisation" in name and not name.startswith(LAST_OF_LOCALISATION)
        assert waits or parameter.grad.any(), name


@EVERY_ARCHITECTURE
def test_the_minimum_resolution_is_enough_and_one_pixel_less_is_refused(architecture: str) -> None:
    minimum_px = MINIMUM_RESOLUTION_PX[architecture]
    network = build(architecture, resolution_px=minimum_px)
    assert network(pictures(4, 1, minimum_px)).isfinite().all()
    with pytest.raises(ConfigError) as raised:
        build(architecture, resolution_px=minimum_px - 1)
    assert str(raised.value) == (
        f"{architecture} needs data.resolution_px >= {minimum_px}, but got {minimum_px - 1}"
    )


# The residual network pads: its minimum is the least that `data.resolution_px` allows at all.
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"resnet"}))
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_below_its_minimum_a_network_has_nothing_left_to_see(architecture: str) -> None:
    side = MINIMUM_RESOLUTION_PX[architecture] - 1
    config = ModelConfig(architecture=architecture)
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        ARCHITECTURES[architecture](config, 1, side)(pictures(2, 1, side))


def test_a_spatial_transformer_refuses_pictures_too_small_for_it() -> None:
    side = MINIMUM_RESOLUTION_SPATIAL_TRANSFORMER_PX - 1
    with pytest.raises(ConfigError, match=r"spatial_transformer needs data\.resolution_px >= 28"):
        build("resnet", resolution_px=side, spatial_transformer=True)


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("resolution_px", [47, 50, 65])
def test_other_resolutions_work(architecture: str, resolution_px: int) -> None:
    network = build(architecture, resolution_px=resolution_px)
    assert network(pictures(2, 1, resolution_px)).shape == (2, 40)


@EVERY_ARCHITECTURE
def test_width_multiplies_the_channels_of_every_convolution(architecture: str) -> None:
    def channels(width: float) -> list[int]:
        return [
            m.bias.shape[-1] if isinstance(m, LocallyConnected2d) else m.out_channels
            for m in build(architecture, width=width).modules()
            if isinstance(m, nn.Conv2d | LocallyConnected2d)
        ]

    narrow = channels(1.0)
    assert len(narrow) >= 3
    assert channels(2.0) == [2 * count for count in narrow]
    assert channels(0.25) == [max(1, round(count / 4)) for count in narrow]
    assert build(architecture, width=0.25)(pictures(2, 1, 64)).shape == (2, 40)


@EVERY_ARCHITECTURE
def test_the_activation_acts(architecture: str) -> None:
    images = pictures(4, 1, 64)
    results = [
        build(architecture, activation=activation)(images)
        for activation in ("relu", "scaled_tanh", "leaky_relu", "silu")
    ]
    for i, one in enumerate(results):
        assert all(not torch.allclose(one, other) for other in results[:i])


@EVERY_ARCHITECTURE
def test_dropout_acts_in_training_only(architecture: str) -> None:
    images = pictures(4, 1, 64)
    plain = build(architecture).eval()
    network = build(architecture, dropout=0.5)
    assert not torch.equal(network(images), network(images))
    # The running statistics of batch normalization have moved; the weights are the same.
    network.load_state_dict(plain.state_dict())
    assert torch.equal(network.eval()(images), plain(images))


@EVERY_ARCHITECTURE
def test_the_embedding_is_linear(architecture: str) -> None:
    embeddings = build(architecture, unit_length=False)(pictures(8, 1, 64))
    assert (embeddings < 0).any()
    assert (embeddings > 0).any()


@EVERY_ARCHITECTURE
def test_unit_length_changes_the_length_alone(architecture: str) -> None:
    images = pictures(4, 1, 64)
    free = build(architecture, unit_length=False)(images)
    unit = build(architecture, unit_length=True)(images)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(unit * free.norm(dim=1, keepdim=True), free)


def test_a_flat_picture_does_no_harm() -> None:
    network = build("hani")  # no bias at the start: an embedding of zero
    embeddings = network(torch.zeros(2, 1, 64, 64))
    embeddings.sum().backward()
    assert torch.equal(embeddings, torch.zeros(2, 40))
    assert max(parameter.grad.abs().max() for parameter in network.parameters()) < 100


@EVERY_ARCHITECTURE
def test_the_seed_alone_decides_the_weights(architecture: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        return build(architecture, seed=seed, spatial_transformer=True).state_dict()

    one, same, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_blocks_and_stem_stride_shape_the_residual_network() -> None:
    def block(maps_in: int, maps: int) -> int:
        around = maps_in * maps + 2 * maps if maps_in != maps else 0
        return 9 * maps * (maps_in + maps) + 4 * maps + around

    def expected(blocks: int, last_px: int) -> int:
        stem = 9 * 16 + 2 * 16
        first = sum(block(a, b) for a, b in ((16, 16), (16, 32), (32, 64), (64, 128)))
        more = (blocks - 1) * sum(block(maps, maps) for maps in (16, 32, 64, 128))
        return stem + first + more + 128 * last_px**2 * 40 + 40

    for blocks in (1, 2, 3):
        for stride, last_px in ((2, 4), (1, 8)):  # of 64 px
            network = build("resnet", blocks=blocks, stem_stride=stride)
            assert parameter_count(network) == expected(blocks, last_px)
            assert network(pictures(2, 1, 64)).shape == (2, 40)
    # Small pictures are never halved at the entrance.
    assert parameter_count(build("resnet", resolution_px=24, stem_stride=2)) == expected(1, 3)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(6, 6), (4, 8), (12, 24)])
def test_the_way_around_a_block_has_the_gradients_of_double_precision(
    channels_in: int, channels_out: int
) -> None:
    # Single precision with channels last goes through oneDNN, double precision does not.
    torch.manual_seed(0)
    exact = Block(channels_in, channels_out, 2, "relu").double()
    block = copy.deepcopy(exact).float().to(memory_format=torch.channels_last)
    images = torch.randn(16, channels_in, 16, 16)
    exact(images.double()).square().sum().backward()
    block(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    for found, expected in zip(block.parameters(), exact.parameters(), strict=True):
        error = torch.linalg.vector_norm(found.grad.double() - expected.grad)
        assert error < 1e-4 * torch.linalg.vector_norm(expected.grad)


def test_the_residual_network_normalizes_by_the_batch_in_training_only() -> None:
    network = build("resnet").eval()
    images = pictures(6, 1, 64)
    torch.testing.assert_close(network(images)[:2], network(images[:2]))
    network.train()
    assert not torch.allclose(network(images)[:2], network(images[:2]))
