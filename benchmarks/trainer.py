"""S3: pictures a second of a whole epoch, against bare steps and against what one writes first.

    python benchmarks/trainer.py --data-home DIR            # hani and resnet
    python benchmarks/trainer.py --data-home DIR --long     # every architecture

Ours is an epoch as a search trains it: sampling, augmentation, normalization, loss, steps,
evaluation, checkpoint and TensorBoard; only pictures that are trained on count. The bare step is
forward, backward and optimizer of the same network on one batch that lies in memory, in the same
process. What one writes first is a Dataset that reads with cv2, transforms picture by picture and a
DataLoader with two workers, without any evaluation. Without LFW the demo's faces are taken.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
from measuring import REPEATS, Figure, Options, run_alone, side_by_side, wanted
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from siamtune.config import DEFAULTS, TrialConfig, trial_config
from siamtune.data.sources import Source
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.worker import data_source, prepare_faces, run_trial
from siamtune.models import build_model
from siamtune.training.optimizers import build_optimizer

ARCHITECTURES = ("hani", "deepid", "resnet", "chopra", "custom", "deepid2")
BARE = "bare steps"
FIRST = "Dataset with cv2, DataLoader with two workers"
GOALS = {BARE: 0.9, FIRST: 5.0}
BARE_S = 3.0  # at least so many seconds of bare steps a turn
FIRST_BATCHES = 12  # of what one writes first, a turn; two more begin


def trainer(options: Options) -> Iterator[Figure]:
    data = (
        DataSpec("lfw", str(options.data_home.resolve())) if options.data_home else DataSpec("demo")
    )
    cores = torch.get_num_threads()
    # What a bare epoch lacks weighs most in hani, whose steps are the cheapest.
    for architecture in ARCHITECTURES if options.long else ("hani",):
        yield from compared(options, architecture, data, 1, (BARE,))
    for architecture in ("resnet", "hani") if options.long else ("resnet",):
        yield from compared(options, architecture, data, cores, (BARE, FIRST))


def job(folder: str, flat: dict[str, object], data: DataSpec, threads: int) -> TrialJob:
    return TrialJob(
        number=0, config={**DEFAULTS, **flat}, hparams={}, run_folder=folder, data=data,
        threads=threads,
    )  # fmt: skip


def epoch_images_per_s(results: Iterator[dict[str, dict[str, float]]]) -> float:
    """The next epoch of a trial that runs."""
    started = perf_counter()
    metrics = next(results)["metrics"]
    return metrics["images_per_second"] * metrics["seconds"] / (perf_counter() - started)


def compared(
    options: Options, architecture: str, data: DataSpec, threads: int, peers: tuple[str, ...]
) -> Iterator[Figure]:
    name = f"S3 {architecture}: images/s, {'one thread' if threads == 1 else f'{threads} threads'}"
    peers = tuple(peer for peer in peers if wanted(options, f"{name} {peer}"))
    if not peers:
        return
    flat = {"model.architecture": architecture, "epochs": REPEATS + 1}
    config = trial_config(flat)
    channels = prepare_faces(data, config.data).images.shape[1]
    rates = {
        BARE: bare_images_per_s(config, channels),
        FIRST: first_images_per_s(data_source(data), config),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(run_trial(job(folder, flat, data, threads))) as results,
    ):
        epoch_images_per_s(results)  # warms up
        if BARE in peers:
            next(rates[BARE])
        values = side_by_side(
            lambda: epoch_images_per_s(results),
            {peer: lambda peer=peer: next(rates[peer]) for peer in peers},
        )
    for against, (ours, theirs) in values.items():
        goal = GOALS[against]
        yield Figure(name, against, "images/s", ours, theirs, better="more", goal=goal)


def bare_images_per_s(config: TrialConfig, channels: int) -> Iterator[float]:
    side_px, count = config.data.resolution_px, config.batch.images
    model = build_model(config.model, channels=channels, resolution_px=side_px)
    optimizer = build_optimizer(config.optim, model.parameters())
    images = torch.randn(count, channels, side_px, side_px)
    while True:
        started, steps = perf_counter(), 0
        while perf_counter() - started < BARE_S:
            optimizer.zero_grad(set_to_none=True)
            model(images).sum().backward()
            optimizer.step()
            steps += 1
        yield steps * count / (perf_counter() - started)


class FirstDataset(Dataset[tuple[Tensor, int]]):
    """Reads a picture, cuts its centre, and changes it at random, all when it is asked for."""

    def __init__(self, source: Source, side_px: int) -> None:
        self.source, self.side_px = source, side_px

    def __len__(self) -> int:
        return len(self.source.identities)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.source.pictures[index]
        picture = cv2.imread(str(path)) if isinstance(path, Path) else path
        gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
        height, width = gray.shape
        half = round(min(height, width) * self.source.face_box) // 2
        top, left = height // 2 - half, width // 2 - half
        face = cv2.resize(gray[top : top + 2 * half, left : left + 2 * half], (self.side_px,) * 2)
        image = torch.from_numpy(self.transformed(face.astype(np.float32)))[None]
        return 2 * (image - image.min()) / (image.max() - image.min()) - 1, int(
            self.source.identities[index]
        )

    def transformed(self, face: np.ndarray) -> np.ndarray:
        """Flip, warp, tone and erasing, as siamtune's augmentation does to a batch."""
        rng, side = np.random.default_rng(), self.side_px
        if rng.random() < 0.5:
            face = face[:, ::-1]
        turn = cv2.getRotationMatrix2D(
            (side / 2, side / 2), rng.normal(0, 4), np.exp(rng.normal(0, 0.04))
        )
        turn[:, 2] += rng.normal(0, 0.025 * side, 2)
        face = cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
        if rng.random() < 0.05:
            face = cv2.GaussianBlur(face, (0, 0), 1)
        face = 255 * (face / 255).clip(0) ** np.exp(rng.uniform(-0.15, 0.15))
        face = (face - face.mean()) * np.exp(rng.uniform(-0.15, 0.15)) + face.mean()
        if rng.random() < 0.15:
            top, left = rng.integers(side // 2, size=2)
            face[top : top + side // 3, left : left + side // 3] = face.mean()
        return face.clip(0, 255).astype(np.float32)


def first_images_per_s(source: Source, config: TrialConfig) -> Iterator[float]:
    """Batches of an ordinary training loop, some at a time."""
    dataset = FirstDataset(source, config.data.resolution_px)
    model = build_model(config.model, channels=1, resolution_px=config.data.resolution_px)
    model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(model.parameters(), config.optim.lr)
    loss_of = SupConLoss(temperature=config.loss.temperature)
    count = config.batch.images
    while True:
        batches = iter(DataLoader(dataset, count, shuffle=True, num_workers=2, drop_last=True))
        next(batches), next(batches)
        started = perf_counter()
        for _ in range(FIRST_BATCHES):
            images, people = next(batches)
            optimizer.zero_grad()
            loss = loss_of(model(images), people)
            loss.backward()
            optimizer.step()
            loss.item()
        took_s = perf_counter() - started
        del batches  # ends its workers: they must not read on while the others are timed
        yield FIRST_BATCHES * count / took_s


if __name__ == "__main__":
    run_alone(trainer, __doc__ or "")
