"""One trial: train a siamese network on faces and verify unseen people after every epoch.

The trainer speaks PyTorch and hands out one `Epoch` after another; who listens decides what becomes
of the numbers, whether to write a checkpoint, and whether to go on. It finds other workers through
`torch.distributed` and knows nothing of who started them.
"""

# B pictures in a batch · C channels · R resolution · D embedding size

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from siamtune.config import DEFAULTS, TrialConfig, flatten
from siamtune.data.augmentation import augment
from siamtune.data.batches import Batch, epoch_batches, limit_per_person
from siamtune.data.prepare import Faces
from siamtune.errors import CheckpointError, TrialCollapsed
from siamtune.losses import build_loss
from siamtune.models import SiameseNet, build_model
from siamtune.training import distributed
from siamtune.training.averaging import averaged_model
from siamtune.training.checkpoint import (
    load_optimizer_tensors,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from siamtune.training.evaluation import plan_evaluation
from siamtune.training.feed import picture_feed
from siamtune.training.memory import keep_freed_memory
from siamtune.training.optimizers import build_optimizer, halved_on_rise, lr_factor

Metrics = dict[str, float]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pictures gave."""

    metrics: Metrics
    scores: np.ndarray  # (P,) of `training.evaluation.validation_pairs`
    save: Callable[[Path], None]  # writes all that a later run needs to go on from here


Report = Callable[[Metrics, Callable[[Path], None]], None]


@dataclass
class Progress:
    """What must survive an interruption besides tensors."""

    epoch: int = 0
    lr_scale: float = 1.0
    previous_loss: float | None = None
    history: list[Metrics] = field(default_factory=list)  # of the epochs so far


def train(
    config: TrialConfig,
    faces: Faces,
    *,
    report: Report,
    resume_from: Path | None = None,
    device: torch.device | None = None,
) -> Metrics:
    """Train to the last epoch, report each one, and return the metrics of the best (by val/auc).

    Raises:
        TrialCollapsed: the loss is not finite or all embeddings are equal.
        CheckpointError: `resume_from` is no checkpoint of this configuration.
    """
    best: Metrics = {}
    for epoch in epochs(config, faces, resume_from=resume_from, device=device):
        report(epoch.metrics, epoch.save)
        if not best or epoch.metrics["val/auc"] > best["val/auc"]:
            best = epoch.metrics
    return best


def epochs(
    config: TrialConfig,
    faces: Faces,
    *,
    resume_from: Path | None = None,
    device: torch.device | None = None,
) -> Generator[Epoch, None, None]:
    """Train and yield after every epoch, on every rank alike; close the iterator to stop.

    Equal seeds give equal numbers: all that is random in an epoch is drawn from (seed, epoch), so a
    resumed training equals an uninterrupted one; to the bit on a CPU, and but for the order of sums
    on a GPU.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    if device.type == "cpu":
        keep_freed_memory()

    pictures = training_pictures(config, faces)
    people, identities = np.unique(faces.identities[pictures], return_inverse=True)
    identities_on_device = torch.from_numpy(identities).to(device)
    feed = picture_feed(faces.images, pictures, device)

    model = build_model(
        config.model, channels=faces.images.shape[1], resolution_px=faces.images.shape[2]
    ).to(device)
    distributed.synchronize_batch_norm(model)
    loss = build_loss(
        config.loss, embedding_size=config.model.embedding_size, identities=len(people)
    ).to(device)
    normalization = faces.normalization.to(device)
    optimizer = build_optimizer(config.optim, [*model.parameters(), *loss.parameters()])
    averaged = averaged_model(model, config.optim.ema_decay) if config.optim.ema_decay else None
    gallery = None
    if config.loss.name == "semi_siamese":
        gallery = averaged_model(model, config.loss.gallery_momentum)
    judged = cast("SiameseNet", averaged.module) if averaged else model
    evaluation = plan_evaluation(faces, pictures, config, device)
    progress = Progress()
    if resume_from is not None:
        progress = _resume(resume_from, config, model, averaged, gallery, loss, optimizer)

    while progress.epoch < config.epochs:
        started = perf_counter()
        rng = np.random.default_rng([config.seed, progress.epoch])
        torch.manual_seed(int(rng.integers(2**31)) + distributed.rank())  # dropout
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**31)))
        batches = epoch_batches(identities, config.batch, rng)
        train_loss = train_epoch(
            model, averaged, gallery, loss, optimizer, normalization, feed, batches,
            identities_on_device, generator, config, progress,
        )  # fmt: skip
        if not math.isfinite(train_loss):
            raise TrialCollapsed(f"the training loss is {train_loss} in epoch {progress.epoch + 1}")

        trained = perf_counter()
        result = evaluation.run(judged, normalization)
        progress.epoch += 1
        if config.optim.schedule == "halve_on_rise":
            progress.lr_scale = halved_on_rise(
                progress.lr_scale, train_loss, progress.previous_loss
            )
        progress.previous_loss = train_loss
        ended = perf_counter()
        metrics = {
            "epoch": float(progress.epoch),
            "train/loss": train_loss,
            **{f"val/{name}": value for name, value in result.metrics.items()},
            "threshold": result.threshold,
            "lr": optimizer.param_groups[0]["lr"],
            "images_per_second": sum(len(batch.index) for batch in batches) / (ended - started),
            "seconds": ended - started,
            "evaluation_s": ended - trained,
            "faces_not_found": float(faces.crop.faces_not_found),  # cut by the center box instead
        }
        progress.history.append(metrics)

        def save(
            path: Path,
            metrics: Metrics = metrics,
            threshold: float = result.shipped_threshold,
            calibration: dict[str, float] = asdict(result.calibration),  # noqa: B008
        ) -> None:
            parts = {
                "model": judged.state_dict(),  # what the metrics are of
                "normalization": normalization.state_dict(),
                "loss": loss.state_dict(),
                "optimizer": optimizer_tensors(optimizer),
            }
            if averaged is not None:
                parts["trained"] = model.state_dict()
                parts["averaging"] = {"n_averaged": averaged.n_averaged}
            if gallery is not None:
                parts["gallery"] = gallery.state_dict()
            write_checkpoint(
                path,
                parts,
                {
                    **_facts(config, faces),
                    "progress": vars(progress),
                    "metrics": metrics,
                    "threshold": threshold,
                    "calibration": calibration,
                },
            )

        yield Epoch(metrics, result.scores, save)


def training_pictures(config: TrialConfig, faces: Faces) -> np.ndarray:
    """Indices of the pictures that a trial trains on: all, or so many of a person."""
    pictures = faces.indices("train")
    most = config.data.images_per_person
    if most is None:
        return pictures
    return pictures[limit_per_person(faces.identities[pictures], most, config.seed)]


def train_epoch(
    model: nn.Module,
    averaged: AveragedModel | None,
    gallery: AveragedModel | None,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalization: nn.Module,
    feed: Callable[[list[np.ndarray]], Iterator[Tensor]],
    batches: list[Batch],
    identities: Tensor,
    generator: torch.Generator,
    config: TrialConfig,
    progress: Progress,
) -> float:
    """One pass over the batches of an epoch; returns the mean loss."""
    model.train()
    own = distributed.own_share(len(batches[0].index))
    total = torch.zeros((), device=identities.device)
    pictures = feed([batch.index[own] for batch in batches])
    for step, (batch, images) in enumerate(zip(batches, pictures, strict=True)):
        factor = lr_factor(config.optim, progress.epoch + step / len(batches), config.epochs)
        for group in optimizer.param_groups:
            group["lr"] = config.optim.lr * progress.lr_scale * factor

        images = augment(
            images.float(), config.augmentation.strength, generator,
            own=own, batch_images=len(batch.index),
        )  # fmt: skip
        images = normalization(images)
        embeddings = distributed.gather(model(images))
        pairs = None if batch.pairs is None else torch.from_numpy(batch.pairs).to(images.device)
        people = identities[torch.from_numpy(batch.index)]
        if gallery is None:
            loss = loss_function(embeddings, people, pairs)
        else:
            with torch.no_grad():
                remembered = distributed.gather(gallery(images))
            loss = loss_function(embeddings, people, pairs, remembered)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.sum_gradients(model.parameters())
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        if gallery is not None:
            gallery.update_parameters(model)
        total += loss.detach()  # stays on the device: asking for a number here would wait for it
    return float(total / len(batches))


def _facts(config: TrialConfig, faces: Faces) -> dict[str, Any]:
    return {
        "config": flatten(config),
        "data": faces.source,
        "channels": int(faces.images.shape[1]),
        "face_box": faces.crop.face_box,
        "landmarks": faces.crop.landmarks,
        "split": {
            "protocol": faces.split.protocol,
            "digest": faces.split.digest,
            "seed": faces.split.seed,
        },
    }


def _resume(
    path: Path,
    config: TrialConfig,
    model: nn.Module,
    averaged: AveragedModel | None,
    gallery: AveragedModel | None,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    checkpoint = read_checkpoint(path)
    theirs = {**DEFAULTS, **checkpoint.facts["config"]}  # an older version had fewer dials
    changed = [name for name, value in flatten(config).items() if theirs[name] != value]
    if changed:
        raise CheckpointError(
            f"{path}: must come from the same configuration, but {', '.join(changed)} changed"
        )
    if averaged is None:
        model.load_state_dict(checkpoint.parts["model"])
    else:
        model.load_state_dict(checkpoint.parts["trained"])
        averaged.module.load_state_dict(checkpoint.parts["model"])
        averaged.n_averaged.copy_(checkpoint.parts["averaging"]["n_averaged"])
    if gallery is not None:
        gallery.load_state_dict(checkpoint.parts["gallery"])
    loss.load_state_dict(checkpoint.parts.get("loss", {}))
    load_optimizer_tensors(optimizer, checkpoint.parts.get("optimizer", {}))
    return Progress(**checkpoint.facts["progress"])
