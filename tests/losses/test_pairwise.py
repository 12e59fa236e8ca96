import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from siamtune.config import LossConfig
from siamtune.losses import build_loss
from siamtune.losses.pairwise import balanced_mean, chopra, contrastive, hadsell

PAIRWISE = ["contrastive", "hadsell", "chopra"]
DISTANCE_NAMES = ["l1", "l2", "cosine"]


def one_pair(
    name: str, distance: str, a: list[float], b: list[float], same: bool, q: float
) -> float:
    """The papers' formulas, one number at a time."""
    if distance == "l1":
        d = sum(abs(x - y) for x, y in zip(a, b, strict=True))
    elif distance == "l2":
        d = math.dist(a, b)
    else:
        d = 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    if name == "contrastive":
        energy = d**2 if distance == "l2" else d
        return energy if same else max(q - energy, 0)
    if name == "hadsell":
        return d**2 / 2 if same else max(0, q - d) ** 2 / 2
    return 2 / q * d**2 if same else 2 * q * math.exp(-2.77 / q * d)


def slowly(
    name: str, distance: str, points: Tensor, people: Tensor, pairs: list[tuple[int, int]], q: float
) -> float:
    kinds: dict[bool, list[float]] = {}
    for i, j in pairs:
        same = bool(people[i] == people[j])
        value = one_pair(name, distance, points[i].tolist(), points[j].tolist(), same, q)
        kinds.setdefault(same, []).append(value)
    return sum(sum(values) / len(values) for values in kinds.values()) / len(kinds)


def on_circle(*degrees: float, radius: float = 1.0) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return radius * torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("distance", DISTANCE_NAMES)
@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_all_pairs_of_a_batch_agree_with_a_loop(name: str, distance: str, margin: float) -> None:
    points = on_circle(0, 20, 50, 90, 180, 290, radius=1.3)
    people = torch.tensor([0, 0, 1, 1, 1, 2])
    loss = build_loss(
        LossConfig(name=name, distance=distance, margin=margin), embedding_size=2, identities=3
    )
    expected = slowly(name, distance, points, people, list(combinations(range(6), 2)), margin)
    assert loss(points, people, None).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("distance", DISTANCE_NAMES)
def test_given_pairs_count_and_no_others(name: str, distance: str) -> None:
    points = on_circle(0, 20, 50, 90, 180, 290)
    people = torch.tensor([0, 0, 1, 1, 1, 2])
    pairs = [(0, 1), (2, 5), (4, 3), (1, 4), (0, 5)]
    loss = build_loss(LossConfig(name=name, distance=distance), embedding_size=2, identities=3)
    result = loss(points, people, torch.tensor(pairs).T)
    assert result.item() == pytest.approx(slowly(name, distance, points, people, pairs, 2.0))


def test_the_loss_of_2016_on_paper() -> None:
    # Distances 3 (same) and 1 (two people, squared 1 below Q = 2): (9 + 1) / 2, divided once.
    points = torch.tensor([[0.0], [3.0], [10.0], [11.0]])
    people = torch.tensor([0, 0, 1, 2])
    config = LossConfig(name="contrastive", distance="l2", margin=2.0)
    loss = build_loss(config, embedding_size=1, identities=3)
    assert loss(points, people, torch.tensor([[0, 2], [1, 3]])).item() == 5.0


def test_where_each_loss_stops_pushing() -> None:
    distances = torch.tensor([1.9, 2.0, 2.1, 50.0])
    two = torch.zeros(4, dtype=torch.bool)
    torch.testing.assert_close(contrastive(distances, two, 2.0), torch.tensor([0.1, 0, 0, 0]))
    torch.testing.assert_close(hadsell(distances, two, 2.0), torch.tensor([0.005, 0, 0, 0]))
    assert (chopra(distances, two, 2.0) > 0).all()


def test_both_kinds_of_pairs_weigh_one_half() -> None:
    losses = torch.tensor([1.0, 3.0, 10.0, 20.0, 30.0, 40.0])
    same = torch.tensor([True, True, False, False, False, False])
    assert balanced_mean(losses, same).item() == (2 + 25) / 2
    assert balanced_mean(losses[:4], same[:4]).item() == losses[:4].mean()
    assert balanced_mean(losses[2:], same[2:]).item() == 25
    assert balanced_mean(losses[:2], same[:2]).item() == 2


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("distance", DISTANCE_NAMES)
def test_gradients_are_those_of_finite_differences(name: str, distance: str) -> None:
    points = on_circle(3, 20, 55, 90, 180, 290, radius=0.7).requires_grad_()
    people = torch.tensor([0, 0, 1, 1, 1, 2])
    config = LossConfig(name=name, distance=distance, margin=1.1)
    loss = build_loss(config, embedding_size=2, identities=3)
    assert gradcheck(lambda points: loss(points, people, None), points)
