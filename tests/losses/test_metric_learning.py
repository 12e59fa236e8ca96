"""Losses of the library against loops over hand-placed points, for each distance."""

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from siamtune.config import LossConfig
from siamtune.losses import build_loss

PEOPLE = torch.tensor([0, 0, 1, 1, 1, 2])
POINTS = torch.stack(
    [
        radius * torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        for angle, radius in [(0, 1), (30, 1.5), (45, 1), (80, 0.8), (200, 1), (60, 1.2)]
    ]
).double()
EVERY_DISTANCE = pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])


def distance_between(name: str) -> Callable[[Tensor, Tensor], float]:
    return {
        "l1": lambda a, b: (a - b).abs().sum().item(),
        "l2": lambda a, b: math.dist(a, b),
        "cosine": lambda a, b: 1 - (a @ b / (a.norm() * b.norm())).item(),
    }[name]


def value(points: Tensor = POINTS, people: Tensor = PEOPLE, **dials: object) -> float:
    loss = build_loss(LossConfig.model_validate(dials), embedding_size=2, identities=3)
    return loss(points, people, None).item()


@EVERY_DISTANCE
@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
def test_triplet_is_the_mean_over_the_mined_triplets(distance: str, mining: str) -> None:
    margin, between = 0.4, distance_between(distance)
    violations = []
    for anchor, positive, negative in permutations(range(6), 3):
        if PEOPLE[anchor] != PEOPLE[positive] or PEOPLE[anchor] == PEOPLE[negative]:
            continue
        near = between(POINTS[anchor], POINTS[positive])
        far = between(POINTS[anchor], POINTS[negative])
        wanted = {"all": True, "semihard": far > near, "hard": far <= near}[mining]
        if wanted and near - far + margin > 0:
            violations.append(near - far + margin)
    assert violations
    result = value(name="triplet", distance=distance, mining=mining, triplet_margin=margin)
    assert result == pytest.approx(sum(violations) / len(violations))


@EVERY_DISTANCE
def test_supcon_is_the_cross_entropy_of_positives_among_all_others(distance: str) -> None:
    temperature, between = 0.3, distance_between(distance)
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        # A cosine is a distance from 1; the 1 cancels.
        logits = {j: -between(POINTS[i], POINTS[j]) / temperature for j in others}
        total = math.log(sum(math.exp(logit) for logit in logits.values()))
        positives = [total - logits[j] for j in others if PEOPLE[j] == PEOPLE[i]]
        if positives:  # the last person has one picture
            losses.append(sum(positives) / len(positives))
    result = value(name="supcon", distance=distance, temperature=temperature)
    assert result == pytest.approx(sum(losses) / len(losses))


@EVERY_DISTANCE
def test_ntxent_is_the_cross_entropy_of_a_positive_among_the_negatives(distance: str) -> None:
    temperature, between = 0.3, distance_between(distance)
    losses = []
    for i, j in permutations(range(6), 2):
        if PEOPLE[i] == PEOPLE[j]:
            logit = -between(POINTS[i], POINTS[j]) / temperature
            negatives = [
                math.exp(-between(POINTS[i], POINTS[k]) / temperature)
                for k in range(6)
                if PEOPLE[k] != PEOPLE[i]
            ]
            losses.append(math.log(math.exp(logit) + sum(negatives)) - logit)
    result = value(name="ntxent", distance=distance, temperature=temperature)
    assert result == pytest.approx(sum(losses) / len(losses))


def test_circle_weighs_each_cosine_by_its_way_to_go() -> None:
    margin, gamma = 0.3, 4.0
    between, losses = distance_between("cosine"), []
    for i in range(6):
        near = far = 0.0
        for j in range(6):
            cosine = 1 - between(POINTS[i], POINTS[j])
            if j != i and PEOPLE[j] == PEOPLE[i]:
                near += math.exp(-gamma * max(0, 1 + margin - cosine) * (cosine - 1 + margin))
            elif PEOPLE[j] != PEOPLE[i]:
                far += math.exp(gamma * max(0, cosine + margin) * (cosine - margin))
        if near:
            losses.append(math.log(1 + near * far))
    result = value(name="circle", cosine_margin=margin, scale=gamma)
    assert result == pytest.approx(sum(losses) / len(losses))


def test_cosface_subtracts_a_margin_from_the_true_cosine() -> None:
    config = LossConfig(name="cosface", cosine_margin=0.2, scale=8.0)
    loss = build_loss(config, embedding_size=2, identities=3)
    (directions,) = loss.parameters()
    with torch.no_grad():
        directions.copy_(torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.0]]))  # 0, 90, 180 degrees
    points = torch.tensor([[math.cos(math.radians(25)), math.sin(math.radians(25))]]) * 3
    for person in range(3):
        cosines = [math.cos(math.radians(angle)) for angle in (25, 65, 155)]
        cosines[person] -= 0.2
        expected = F.cross_entropy(torch.tensor(cosines) * 8, torch.tensor(person)).item()
        result = loss(points, torch.tensor([person]), None).item()
        assert result == pytest.approx(expected, rel=1e-4)


@EVERY_DISTANCE
@pytest.mark.parametrize("verification", ["supcon", "contrastive"])
def test_joint_adds_a_smoothed_softmax_over_people(distance: str, verification: str) -> None:
    dials: dict[str, object] = {"distance": distance, "margin": 1.5}
    config = LossConfig.model_validate(
        {
            "name": "joint",
            "verification": verification,
            "identification_weight": 0.4,
            "label_smoothing": 0.3,
            "scale": 5.0,
            **dials,
        }
    )
    loss = build_loss(config, embedding_size=2, identities=3)
    (directions,) = loss.parameters()
    with torch.no_grad():
        directions.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.5], [-3.0, 0.0]]))  # 0, 90, 180 degrees
    total = 0.0
    for point, person in zip(POINTS.tolist(), PEOPLE.tolist(), strict=True):
        x, y = (coordinate / math.hypot(*point) for coordinate in point)
        logits = [5 * x, 5 * y, -5 * x]
        normal = math.log(sum(math.exp(logit) for logit in logits))
        wanted = [0.1 + 0.7 * (k == person) for k in range(3)]  # 0.3 shared out to three
        total += sum(share * (normal - logit) for share, logit in zip(wanted, logits, strict=True))
    expected = value(name=verification, **dials) + 0.4 * total / 6
    result = loss(POINTS.float(), PEOPLE, None).item()
    assert result == pytest.approx(expected, rel=1e-5)


@EVERY_DISTANCE
def test_multisimilarity_is_soft_maxima_of_what_overlaps(distance: str) -> None:
    alpha, beta, base, epsilon = 2.0, 20.0, 0.4, 0.1
    between, total = distance_between(distance), 0.0
    # Cosine similarities are compared with `base`, distances with it as a distance.
    threshold = 1 - base if distance == "cosine" else base
    for i in range(6):
        positives = [
            between(POINTS[i], POINTS[j]) for j in range(6) if j != i and PEOPLE[j] == PEOPLE[i]
        ]
        negatives = [between(POINTS[i], POINTS[j]) for j in range(6) if PEOPLE[j] != PEOPLE[i]]
        if not positives:
            continue
        pulled = [d for d in positives if d + epsilon > min(negatives)]
        pushed = [d for d in negatives if d - epsilon < max(positives)]
        total += math.log(1 + sum(math.exp(alpha * (d - threshold)) for d in pulled)) / alpha
        total += math.log(1 + sum(math.exp(beta * (threshold - d)) for d in pushed)) / beta
    result = value(name="multisimilarity", distance=distance, alpha=alpha, beta=beta, base=base)
    assert result == pytest.approx(total / 6)


def test_arcface_adds_an_angle_to_the_true_class_alone() -> None:
    config = LossConfig(name="arcface", angular_margin_deg=20.0, scale=8.0)
    loss = build_loss(config, embedding_size=2, identities=3)
    (directions,) = loss.parameters()
    with torch.no_grad():
        directions.copy_(torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.0]]))  # 0, 90, 180 degrees
    points = torch.tensor([[math.cos(math.radians(25)), math.sin(math.radians(25))]]) * 3
    for person, own in enumerate([25, 65, 155]):
        cosines = [math.cos(math.radians(angle)) for angle in (25, 65, 155)]
        cosines[person] = math.cos(math.radians(own + 20))
        logits = torch.tensor(cosines) * 8
        expected = F.cross_entropy(logits, torch.tensor(person)).item()
        assert loss(points, torch.tensor([person]), None).item() == pytest.approx(
            expected, rel=1e-4
        )


def test_arcface_has_a_direction_for_each_identity_drawn_from_the_seed() -> None:
    def directions(seed: int) -> Tensor:
        torch.manual_seed(seed)
        loss = build_loss(LossConfig(name="arcface"), embedding_size=5, identities=7)
        (parameter,) = loss.parameters()
        return parameter.detach()

    assert directions(0).shape == (5, 7)
    assert torch.equal(directions(0), directions(0))
    assert not torch.equal(directions(0), directions(1))


def test_arcface_stays_steady_where_an_embedding_meets_its_class() -> None:
    loss = build_loss(LossConfig(name="arcface"), embedding_size=2, identities=2)
    (directions,) = loss.parameters()
    with torch.no_grad():
        directions.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)  # on it, and opposite
    loss(points, torch.tensor([0, 1]), None).backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    assert directions.grad is not None
    assert directions.grad.isfinite().all()
