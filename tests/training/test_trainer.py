from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from siamtune.config import TrialConfig, trial_config
from siamtune.data.prepare import Faces
from siamtune.errors import CheckpointError, DataError, TrialCollapsed
from siamtune.models import build_model
from siamtune.training.checkpoint import read_checkpoint
from siamtune.training.evaluation import (
    embed,
    plan_evaluation,
    require_measurable,
    validation_pairs,
)
from siamtune.training.trainer import Epoch, epochs, train
from siamtune.verification.pairs import verification_pairs

CPU = torch.device("cpu")


def tiny_config(**dials: Any) -> TrialConfig:
    return trial_config(
        {
            "data.resolution_px": 16,
            "model.width": 0.5,
            "model.embedding_size": 16,
            "batch.images": 24,
            "batch.images_per_identity": 4,
            "augmentation.strength": 0.2,
            "epochs": 4,
            **{name.replace("__", "."): value for name, value in dials.items()},
        }
    )


def run(config: TrialConfig, faces: Faces, **options: Any) -> list[Epoch]:
    return list(epochs(config, faces, device=CPU, **options))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path).parts["model"]


def test_a_few_epochs_learn_an_easy_world(tiny_faces: Faces) -> None:
    told: list[dict[str, float]] = []
    best = train(
        tiny_config(epochs=6), tiny_faces, report=lambda m, save: told.append(m), device=CPU
    )
    assert [metrics["epoch"] for metrics in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1]["train/loss"] < told[0]["train/loss"]
    assert best["val/auc"] == max(metrics["val/auc"] for metrics in told) > 0.8


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tiny_faces: Faces) -> None:
    def numbers(seed: int) -> list[float]:
        config = tiny_config(epochs=2, seed=seed, model__dropout=0.3)
        return [epoch.metrics["train/loss"] for epoch in run(config, tiny_faces)]

    assert numbers(0) == numbers(0)
    assert numbers(0) != numbers(1)


@pytest.mark.parametrize(
    "dials", [{}, {"optim__ema_decay": 0.9}, {"loss__name": "semi_siamese"}], ids=str
)
def test_a_resumed_training_equals_an_uninterrupted_one(
    tiny_faces: Faces, tmp_path: Path, dials: dict[str, Any]
) -> None:
    config = tiny_config(model__dropout=0.3, optim__schedule="halve_on_rise", **dials)
    straight = run(config, tiny_faces)
    straight[-1].save(tmp_path / "straight.safetensors")
    for epoch in epochs(config, tiny_faces, device=CPU):
        if epoch.metrics["epoch"] == 2:
            epoch.save(tmp_path / "half.safetensors")
            break
    resumed = run(config, tiny_faces, resume_from=tmp_path / "half.safetensors")
    resumed[-1].save(tmp_path / "resumed.safetensors")
    assert [e.metrics["epoch"] for e in resumed] == [3, 4]
    for epoch, twin in zip(resumed, straight[2:], strict=True):
        assert epoch.metrics["train/loss"] == twin.metrics["train/loss"]
        assert epoch.metrics["val/auc"] == twin.metrics["val/auc"]
    theirs, ours = (
        weights(tmp_path / "straight.safetensors"),
        weights(tmp_path / "resumed.safetensors"),
    )
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_resuming_with_another_configuration_is_refused(tiny_faces: Faces, tmp_path: Path) -> None:
    run(tiny_config(epochs=1), tiny_faces)[0].save(tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"but optim\.lr changed"):
        run(
            tiny_config(epochs=1, optim__lr=0.5),
            tiny_faces,
            resume_from=tmp_path / "last.safetensors",
        )


@pytest.mark.parametrize("dials", [{}, {"optim__ema_decay": 0.9, "verification__flip": True}])
def test_the_metrics_are_those_of_scikit_learn_on_validation_people(
    tiny_faces: Faces, tmp_path: Path, dials: dict[str, Any]
) -> None:
    config = tiny_config(epochs=1, **dials)
    (epoch,) = run(config, tiny_faces)
    epoch.save(tmp_path / "last.safetensors")
    model = build_model(config.model, channels=1, resolution_px=16)
    model.load_state_dict(weights(tmp_path / "last.safetensors"))
    everybody = np.arange(len(tiny_faces.images))
    embeddings = embed(
        model, tiny_faces.normalization, tiny_faces.images, everybody, CPU,
        flip=config.verification.flip,
    ).numpy()  # fmt: skip
    people = tiny_faces.split.validation
    validation = np.flatnonzero(np.isin(tiny_faces.identities, people))
    pairs = verification_pairs(validation, tiny_faces.identities, seed=0)
    left, right = embeddings[pairs.left], embeddings[pairs.right]
    scores = [float(a @ b) - 1 for a, b in zip(left, right, strict=True)]
    assert epoch.metrics["val/auc"] == pytest.approx(roc_auc_score(pairs.same, scores))
    accepted = np.array(scores) >= epoch.metrics["threshold"] - 1e-6
    assert epoch.metrics["val/f1"] == pytest.approx(f1_score(pairs.same, accepted))
    assert epoch.metrics["val/accuracy"] == pytest.approx((accepted == pairs.same).mean())
    assert epoch.scores == pytest.approx(np.array(scores), abs=1e-6)
    first = average = 0.0
    asked = np.unique([pairs.left, pairs.right])
    for query in asked:
        others = asked[asked != query]
        order = others[np.argsort(-(embeddings[others] @ embeddings[query]))]
        hits = tiny_faces.identities[order] == tiny_faces.identities[query]
        first += hits[0] / len(asked)
        places = np.flatnonzero(hits[: hits.sum()])
        average += sum(hits[: k + 1].mean() for k in places) / hits.sum() / len(asked)
    assert epoch.metrics["val/precision@1"] == pytest.approx(first)
    assert epoch.metrics["val/map@r"] == pytest.approx(average)


def test_who_is_searched_for_is_bounded_by_whole_people(
    tiny_faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siamtune.training.evaluation.RETRIEVAL_PICTURES", 7)
    plan = plan_evaluation(tiny_faces, tiny_faces.indices("train"), tiny_config(), CPU)
    _, counts = np.unique(plan.retrieved_identities, return_counts=True)
    assert list(counts) == [6, 6]  # whoever begins below seven comes whole


def test_an_objective_that_the_people_cannot_show_is_refused(tiny_faces: Faces) -> None:
    require_measurable(["val/auc", "val/map@r"], tiny_faces)
    with pytest.raises(
        DataError, match=r"val/tar@far=0.01 needs 100 negative .* people give 60; choose another"
    ):
        require_measurable(["val/auc", "val/tar@far=0.01"], tiny_faces)


def test_what_is_kept_is_the_average_and_what_goes_on_is_not(
    tiny_faces: Faces, tmp_path: Path
) -> None:
    plain, averaged = (
        run(tiny_config(epochs=2, optim__ema_decay=decay), tiny_faces) for decay in (0.0, 0.9)
    )
    for epochs_, name in ((plain, "plain"), (averaged, "averaged")):
        epochs_[-1].save(tmp_path / name)
    assert [e.metrics["train/loss"] for e in plain] == [e.metrics["train/loss"] for e in averaged]
    trained = read_checkpoint(tmp_path / "averaged").parts["trained"]
    assert all(
        torch.equal(trained[name], value) for name, value in weights(tmp_path / "plain").items()
    )
    assert not torch.equal(
        trained["architecture.0.weight"], weights(tmp_path / "averaged")["architecture.0.weight"]
    )


def test_people_with_one_picture_take_part_where_they_may(tiny_faces: Faces) -> None:
    """The first picture of each second person alone: their pictures change the training."""
    alone = tiny_faces.split.train[::2]
    kept = ~np.isin(tiny_faces.identities, alone) | (np.arange(len(tiny_faces.images)) % 6 == 0)
    images = tiny_faces.images[kept]
    few = replace(tiny_faces, images=images, identities=tiny_faces.identities[kept])
    changed = images.copy()
    changed[np.isin(few.identities, alone)] //= 2
    other = replace(few, images=changed)

    def loss(faces: Faces, **dials: Any) -> float:
        return run(tiny_config(epochs=1, **dials), faces)[0].metrics["train/loss"]

    assert loss(few) == loss(other)
    for views in (1, 2):
        dials = {"batch__single_share": 0.5, "batch__single_views": views}
        assert loss(few, **dials) != loss(other, **dials)


def test_validation_people_never_reach_training(tiny_faces: Faces) -> None:
    """Whatever the pictures of other people are, the training loss is the same."""
    images = tiny_faces.images.copy()
    others = np.setdiff1d(np.arange(len(images)), tiny_faces.indices("train"))
    images[others] = np.random.default_rng(1).integers(0, 255, images[others].shape)
    config = tiny_config(epochs=2)
    losses = [e.metrics["train/loss"] for e in run(config, tiny_faces)]
    assert losses == [
        e.metrics["train/loss"] for e in run(config, replace(tiny_faces, images=images))
    ]


def test_a_fixed_distance_threshold_is_used_as_it_is(tiny_faces: Faces, tmp_path: Path) -> None:
    config = tiny_config(epochs=1, verification__distance_threshold=0.25)
    (epoch,) = epochs(config, tiny_faces)
    epoch.save(tmp_path / "checkpoint")
    assert epoch.metrics["threshold"] == -0.25
    assert read_checkpoint(tmp_path / "checkpoint").facts["threshold"] == -0.25


def test_a_model_is_used_with_the_threshold_of_people_whom_it_does_not_know(
    tiny_faces: Faces, tmp_path: Path
) -> None:
    (epoch,) = epochs(tiny_config(epochs=1), tiny_faces)
    epoch.save(tmp_path / "checkpoint")
    threshold = read_checkpoint(tmp_path / "checkpoint").facts["threshold"]
    same = validation_pairs(tiny_faces).same
    right = [np.mean((epoch.scores >= at) == same) for at in epoch.scores]
    assert np.mean((epoch.scores >= threshold) == same) == max(right)


def test_fewer_images_per_person_make_a_shorter_epoch(tiny_faces: Faces) -> None:
    def pictures(limit: int | None) -> float:
        metrics = run(tiny_config(epochs=1, data__images_per_person=limit), tiny_faces)[0].metrics
        return round(metrics["images_per_second"] * metrics["seconds"])

    assert pictures(2) < pictures(None)


@pytest.mark.parametrize("loss", ["contrastive", "supcon", "arcface", "joint", "semi_siamese"])
def test_every_kind_of_loss_trains_under_both_samplings(tiny_faces: Faces, loss: str) -> None:
    for sampling in ("pairs", "pk"):
        config = tiny_config(epochs=1, loss__name=loss, batch__sampling=sampling)
        assert np.isfinite(run(config, tiny_faces)[0].metrics["train/loss"])


def test_the_gallery_follows_the_network_at_its_momentum(tiny_faces: Faces) -> None:
    def losses(momentum: float) -> list[float]:
        config = tiny_config(epochs=3, loss__name="semi_siamese", loss__gallery_momentum=momentum)
        return [epoch.metrics["train/loss"] for epoch in run(config, tiny_faces)]

    assert losses(0.0) != losses(0.999)


def test_a_loss_that_is_not_finite_ends_the_trial(tiny_faces: Faces) -> None:
    config = tiny_config(
        optim__name="sgd",
        optim__lr=10.0,
        loss__name="hadsell",
        loss__distance="l2",
        model__unit_length=False,
        epochs=30,
    )
    with pytest.raises(
        TrialCollapsed, match=r"the training loss is (nan|inf) in epoch|embeddings are not finite"
    ):
        run(config, tiny_faces)


def test_equal_embeddings_end_the_trial(tiny_faces: Faces) -> None:
    """Pictures without any contrast cannot be told apart by anybody."""
    flat = replace(tiny_faces, images=np.full_like(tiny_faces.images, 7))
    with pytest.raises(TrialCollapsed, match="all embeddings are equal"):
        run(tiny_config(epochs=1, augmentation__strength=0.0), flat)
