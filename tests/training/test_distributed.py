"""Two gloo workers follow one worker: world size is not a hyperparameter."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from siamtune.config import TrialConfig, trial_config
from siamtune.data.prepare import Faces
from siamtune.training.checkpoint import read_checkpoint
from siamtune.training.distributed import first_told, own_share
from siamtune.training.trainer import epochs

DIALS = {
    "data.resolution_px": 16,
    "model.width": 0.5,
    "model.embedding_size": 16,
    "batch.images": 24,
    "batch.images_per_identity": 4,
    "augmentation.strength": 0.5,
    "optim.name": "sgd",
    "optim.lr": 0.001,
    "epochs": 1,
}
LOSSES: dict[str, dict[str, Any]] = {
    "supcon": {"optim.ema_decay": 0.9, "verification.flip": True},
    "contrastive": {"batch.sampling": "pairs"},
    "joint": {},
    "semi_siamese": {},
}
REMEMBERING = {"joint", "semi_siamese"}  # losses with weights or a queue of their own


def work(rank: int, workers: int, folder: str, faces: Faces) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers
        )
    for loss, dials in LOSSES.items():
        config = trial_config({**DIALS, "loss.name": loss, **dials})
        (epoch,) = epochs(config, faces, device=torch.device("cpu"))
        numbers = [epoch.metrics["train/loss"], epoch.metrics["val/auc"]]
        np.save(Path(folder) / f"{loss}-{workers}-{rank}.npy", np.array(numbers))
        epoch.save(Path(folder) / f"{loss}-{workers}-{rank}.safetensors")
    told = first_told("the second's" if rank == 1 else None)
    (Path(folder) / f"told-{workers}-{rank}").write_text(str(told))
    if workers > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcome(tiny_faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    for workers in (1, 2):
        mp.spawn(work, (workers, str(folder), tiny_faces), nprocs=workers)
    return folder


@pytest.mark.parametrize("loss", LOSSES)
def test_two_workers_follow_one_worker(outcome: Path, loss: str) -> None:
    alone = np.load(outcome / f"{loss}-1-0.npy")
    together = np.load(outcome / f"{loss}-2-0.npy")
    np.testing.assert_allclose(together, alone, rtol=1e-3)
    np.testing.assert_array_equal(together, np.load(outcome / f"{loss}-2-1.npy"))
    ours, theirs = (
        read_checkpoint(outcome / f"{loss}-{workers}-0.safetensors").parts for workers in (1, 2)
    )
    assert ("trained" in ours) == (loss == "supcon")
    # What the loss remembers is each rank's own copy: it must be the same on all.
    assert bool(ours.get("loss")) == (loss in REMEMBERING)
    for part in ours.keys() & {"model", "trained", "loss", "gallery"}:
        for name, value in ours[part].items():
            torch.testing.assert_close(theirs[part][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("loss", LOSSES)
def test_all_ranks_hold_the_same_weights(outcome: Path, loss: str) -> None:
    ours, theirs = (
        read_checkpoint(outcome / f"{loss}-2-{rank}.safetensors").parts for rank in (0, 1)
    )
    for part in ours.keys() & {"model", "loss"}:
        for name, value in ours[part].items():
            assert torch.equal(value, theirs[part][name]), name


def test_what_one_rank_tells_every_rank_hears(outcome: Path) -> None:
    told = [(outcome / f"told-{name}").read_text() for name in ("1-0", "2-0", "2-1")]
    assert told == ["None", "the second's", "the second's"]


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamtune.training.distributed.world_size", lambda: 3)
    with pytest.raises(ValueError, match="must be a multiple of the 3 workers"):
        own_share(16)


def test_one_worker_works_on_everything() -> None:
    assert own_share(16) == slice(0, 16)


def test_defaults_can_be_shared_by_two_and_by_four(monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (2, 4):
        monkeypatch.setattr("siamtune.training.distributed.world_size", lambda: workers)  # noqa: B023
        assert own_share(TrialConfig().batch.images).stop == TrialConfig().batch.images // workers
