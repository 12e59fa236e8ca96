"""What an epoch costs, from a few steps of the real trainer on a few real faces."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from siamtune.config import TrialConfig
from siamtune.data.batches import epoch_batches
from siamtune.data.prepare import Faces
from siamtune.training.evaluation import plan_evaluation
from siamtune.training.trainer import epochs, training_pictures

FEW, MORE = 64, 512  # training pictures of the first look, and of the one that counts
# A first look that took longer says enough: its share of warming up is small.
SLOW_S = 2.0
SMALL_BATCH = 32


@dataclass(frozen=True)
class Load:
    """How much there is to do in an epoch on all the data; known without trying."""

    training_images: int  # pictures that pass forward and back, repeated ones as often
    verified_images: int  # pictures that are embedded to verify


@dataclass(frozen=True)
class Cost:
    """What was measured of one configuration."""

    training_image_s: float  # seconds a training picture: forward, back and its share of the step
    verified_image_s: float  # seconds a picture that is verified, its share of the scores included
    save_s: float  # seconds a checkpoint
    start_s: float  # seconds before the first epoch: network, optimizer, pairs to verify
    checkpoint_bytes: int
    device: str

    def epoch_s(self, load: Load) -> float:
        """Seconds of a whole epoch with so much to do."""
        return (
            self.training_image_s * load.training_images
            + self.verified_image_s * load.verified_images
            + self.save_s
        )


def epoch_load(config: TrialConfig, faces: Faces) -> Load:
    """What an epoch takes with these faces, whose pictures are not looked at.

    Raises:
        DataError: these people make no batch of this kind, or no verification pair.
    """
    training = training_pictures(config, faces)
    _, identities = np.unique(faces.identities[training], return_inverse=True)
    batches = epoch_batches(identities, config.batch, np.random.default_rng(config.seed))
    evaluation = plan_evaluation(faces, training, config, torch.device("cpu"))
    return Load(len(batches) * config.batch.images, len(evaluation.pictures))


def one_step(config: TrialConfig, faces: Faces) -> None:
    """Build all that the configuration names, train on a batch or two, verify and save.

    Raises:
        TrialCollapsed: that was enough for it.
    """
    _time(config.model_copy(update={"epochs": 1}), faces)


def measure(config: TrialConfig, few: Callable[[int], Faces]) -> Cost:
    """Train and verify for a second or two and time it.

    Args:
        few: the faces of this configuration with so many training pictures at most.

    Raises:
        TrialCollapsed: a few steps were enough for that.
    """
    images = min(config.batch.images, _smallest(config))
    small = config.model_copy(
        update={"batch": config.batch.model_copy(update={"images": images}), "epochs": 2}
    )
    began = perf_counter()
    cost = _time(small, few(FEW))
    if perf_counter() - began > SLOW_S:
        return cost
    return _time(config.model_copy(update={"epochs": 2}), few(MORE))


def _smallest(config: TrialConfig) -> int:
    """A batch of SMALL_BATCH or a little more that this sampling allows."""
    if config.batch.sampling == "pairs":
        return SMALL_BATCH
    group = config.batch.images_per_identity
    return max(2, -(-SMALL_BATCH // group)) * group


def _time(config: TrialConfig, faces: Faces) -> Cost:
    """The costs of the last epoch."""
    load = epoch_load(config, faces)
    with closing(epochs(config, faces)) as trained, tempfile.TemporaryDirectory() as folder:
        start_s = None
        began = perf_counter()
        for epoch in trained:
            metrics = epoch.metrics
            if start_s is None:
                start_s = perf_counter() - began - metrics["seconds"]
        path = Path(folder) / "probe.safetensors"
        began = perf_counter()
        epoch.save(path)
        save_s, size = perf_counter() - began, path.stat().st_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Cost(
        training_image_s=(metrics["seconds"] - metrics["evaluation_s"]) / load.training_images,
        verified_image_s=metrics["evaluation_s"] / load.verified_images,
        save_s=save_s,
        start_s=start_s or 0.0,
        checkpoint_bytes=size,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )
