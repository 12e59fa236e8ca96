"""What holds for every loss and every distance it can use."""

import pytest
import torch
from torch import Tensor

from siamtune.config import ANGULAR_LOSSES, LossConfig, choices
from siamtune.losses import DISTANCES, LOSSES, Loss, build_loss

COMBINATIONS = [
    (name, distance)
    for name in LOSSES
    for distance in DISTANCES
    if name not in ANGULAR_LOSSES or distance == "cosine"
]
EVERY_LOSS = pytest.mark.parametrize(("name", "distance"), COMBINATIONS)


def build(name: str, distance: str, embedding_size: int = 3, identities: int = 4) -> Loss:
    torch.manual_seed(0)
    # Wide margins and all triplets, so that no pair is beyond what its loss looks at; and no memory
    # of what was asked before.
    config = LossConfig(
        name=name, distance=distance, margin=10.0, triplet_margin=5.0, mining="all", gallery_size=0
    )
    return build_loss(config, embedding_size=embedding_size, identities=identities)


def embeddings(count: int, size: int = 3, seed: int = 0) -> Tensor:
    points = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(points)


def test_every_loss_of_the_configuration_is_there() -> None:
    assert tuple(LOSSES) == choices("loss.name")


@EVERY_LOSS
def test_a_step_down_the_gradient_brings_one_person_together_and_parts_two(
    name: str, distance: str
) -> None:
    loss = build(name, distance)
    between = DISTANCES[distance]
    points = embeddings(8, seed=3).requires_grad_()
    people = torch.arange(4).repeat_interleave(2)

    def means(points: Tensor) -> tuple[float, float]:
        left, right = torch.triu_indices(8, 8, 1)
        distances, same = between(points[left], points[right]), people[left] == people[right]
        return distances[same].mean().item(), distances[~same].mean().item()

    optimizer = torch.optim.SGD([points, *loss.parameters()], lr=0.02)
    near, far = means(points)
    first = loss(points, people, None)
    for _ in range(100):
        optimizer.zero_grad()
        loss(points, people, None).backward()
        optimizer.step()
    assert loss(points, people, None) < first
    nearer, farther = means(points)
    assert nearer / farther < 0.8 * near / far


@EVERY_LOSS
@pytest.mark.parametrize(
    "people",
    [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0], [1, 2], [2]],
    ids=["one person", "four people", "a positive pair", "a negative pair", "one picture"],
)
def test_a_batch_that_lacks_pairs_gives_a_number_and_a_gradient(
    name: str, distance: str, people: list[int]
) -> None:
    points = embeddings(len(people)).requires_grad_()
    loss = build(name, distance)(points, torch.tensor(people), None)
    loss.backward()
    assert loss.isfinite()
    assert points.grad is not None
    assert points.grad.isfinite().all()


@EVERY_LOSS
@pytest.mark.parametrize("fill", [0.0, 0.5], ids=["all zero", "all equal"])
def test_equal_embeddings_give_a_finite_gradient(name: str, distance: str, fill: float) -> None:
    points = torch.full((6, 3), fill, requires_grad=True)
    loss = build(name, distance)(points, torch.tensor([0, 0, 1, 1, 2, 3]), None)
    loss.backward()
    assert loss.isfinite()
    assert points.grad is not None
    assert points.grad.isfinite().all()


@EVERY_LOSS
def test_the_order_of_the_batch_does_not_matter(name: str, distance: str) -> None:
    loss, points = build(name, distance), embeddings(6).double()
    people, order = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(loss(points[order], people[order], None), loss(points, people, None))


@pytest.mark.parametrize("name", list(LOSSES)[3:])
def test_losses_of_batches_go_by_identities_whatever_the_pairs(name: str) -> None:
    loss, points = build(name, "cosine"), embeddings(6)
    people, pairs = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([[0, 2], [1, 4]])
    assert torch.equal(loss(points, people, pairs), loss(points, people, None))


@pytest.mark.parametrize(
    ("name", "dial", "other"),
    [
        ("contrastive", "margin", 0.7),
        ("hadsell", "margin", 0.7),
        ("chopra", "margin", 0.7),
        ("triplet", "triplet_margin", 0.5),
        ("triplet", "mining", "hard"),
        ("multisimilarity", "alpha", 5.0),
        ("multisimilarity", "beta", 5.0),
        ("multisimilarity", "base", 0.1),
        ("supcon", "temperature", 0.5),
        ("arcface", "angular_margin_deg", 40.0),
        ("arcface", "scale", 8.0),
        ("ntxent", "temperature", 0.5),
        ("circle", "cosine_margin", 0.4),
        ("circle", "scale", 8.0),
        ("cosface", "cosine_margin", 0.4),
        ("cosface", "scale", 8.0),
        ("semi_siamese", "cosine_margin", 0.4),
        ("semi_siamese", "scale", 8.0),
        ("joint", "verification", "hadsell"),
        ("joint", "identification_weight", 0.5),
        ("joint", "label_smoothing", 0.0),
        ("joint", "scale", 8.0),
        ("joint", "temperature", 0.5),
    ],
)
def test_every_dial_acts(name: str, dial: str, other: float | str) -> None:
    points, people = embeddings(8, seed=1), torch.arange(4).repeat_interleave(2)

    def value(**dials: object) -> float:
        torch.manual_seed(0)
        config = LossConfig.model_validate({"name": name, **dials})
        return build_loss(config, embedding_size=3, identities=4)(points, people, None).item()

    assert value() != pytest.approx(value(**{dial: other}))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ANGULAR_LOSSES])
def test_the_distance_acts(name: str) -> None:
    points, people = embeddings(8, seed=1), torch.arange(4).repeat_interleave(2)
    one, two, three = (build(name, distance)(points, people, None) for distance in DISTANCES)
    assert len({one.item(), two.item(), three.item()}) == 3
