"""The gallery of semi-siamese training against a loop over pictures and plain lists."""

import math

import pytest
import torch
from torch import Tensor

from siamtune.config import LossConfig
from siamtune.losses import build_loss
from siamtune.losses.semi_siamese import SemiSiamese

SIZE, MARGIN, SCALE = 7, 0.25, 5.0


def semi_siamese(size: int = SIZE) -> SemiSiamese:
    config = LossConfig(name="semi_siamese", cosine_margin=MARGIN, scale=SCALE, gallery_size=size)
    loss = build_loss(config, embedding_size=3, identities=9)
    assert isinstance(loss, SemiSiamese)
    return loss


def points(seed: int, count: int = 5) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def unit(row: Tensor) -> Tensor:
    return row / row.square().sum().sqrt()


def test_each_picture_is_asked_among_its_persons_others_and_all_other_people() -> None:
    loss = semi_siamese()
    remembered: list[tuple[int, Tensor]] = []
    for step, people in enumerate([[0, 0, 1, 1, 2], [3, 3, 3, 0, 0], [1, 1, 4, 4, 4]]):
        embeddings, gallery = points(step), points(step + 50)
        losses = []
        for i, person in enumerate(people):
            others = [unit(gallery[j]) for j in range(5) if j != i and people[j] == person]
            if not others:
                continue  # alone: a wrong answer for the others only
            probe, prototype = unit(embeddings[i]), unit(sum(others, torch.zeros(3)))
            true = SCALE * (float(probe @ prototype) - MARGIN)
            wrong = [unit(gallery[j]) for j in range(5) if people[j] != person]
            wrong += [key for owner, key in remembered[-SIZE:] if owner != person]
            total = math.exp(true) + sum(math.exp(SCALE * float(probe @ key)) for key in wrong)
            losses.append(math.log(total) - true)
        remembered += [(person, unit(gallery[i])) for i, person in enumerate(people)]
        value = loss(embeddings, torch.tensor(people), None, gallery)
        assert value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_gallery_gets_no_gradient_and_pictures_do() -> None:
    embeddings, gallery = points(0).requires_grad_(), points(1).requires_grad_()
    loss = semi_siamese()
    for _ in range(2):  # the queue moves on while a gradient still needs what was in it
        value = loss(embeddings, torch.tensor([0, 0, 1, 1, 2]), None, gallery.detach())
        value.backward()
    assert embeddings.grad is not None
    assert embeddings.grad[:4].any(1).all()
    assert not embeddings.grad[4].any()  # asked nothing


def test_a_gallery_of_no_size_knows_the_batch_alone() -> None:
    people = torch.tensor([0, 0, 1, 1, 2])
    none, some = semi_siamese(0), semi_siamese()
    first = [loss(points(0), people, None).item() for loss in (none, some)]
    assert first[0] == first[1]
    second = [loss(points(0), people + 3, None).item() for loss in (none, some)]
    assert second[0] == first[0] < second[1]  # more people to be mistaken for
    assert some.state_dict()["owners"].tolist() == [4, 4, 5, 1, 2, 3, 3]  # the oldest go first
