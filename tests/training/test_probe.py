"""What a probe says of an epoch, against the trainer's own epochs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siamtune.config import trial_config
from siamtune.data.prepare import Faces
from siamtune.data.sample import fewer
from siamtune.errors import TrialCollapsed
from siamtune.training.probe import Cost, Load, epoch_load, measure, one_step
from siamtune.training.trainer import epochs

DIALS = {
    "data.resolution_px": 16,
    "model.width": 0.5,
    "model.embedding_size": 16,
    "batch.images": 24,
    "epochs": 1,
}


@pytest.mark.parametrize("sampling", ["pk", "pairs"])
@pytest.mark.parametrize("most", [None, 2])
def test_the_load_is_what_the_trainer_does(
    tiny_faces: Faces, sampling: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial_config({**DIALS, "batch.sampling": sampling, "data.images_per_person": most})
    seen: list[tuple[bool, int]] = []
    forward = torch.nn.BatchNorm2d.forward
    first: list[torch.nn.Module] = []

    def counting(self: torch.nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
        first[:] = first or [self]
        if self is first[0]:
            seen.append((self.training, len(images)))
        return forward(self, images)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", counting)
    list(epochs(config, tiny_faces, device=torch.device("cpu")))
    load = epoch_load(config, tiny_faces)
    assert load.training_images == sum(n for training, n in seen if training)
    assert load.verified_images == sum(n for training, n in seen if not training)


def test_an_epochs_time_is_the_sum_of_its_parts() -> None:
    cost = Cost(0.01, 0.002, 0.5, 9.0, 1000, "cpu")
    assert cost.epoch_s(Load(300, 50)) == pytest.approx(3 + 0.1 + 0.5)


def test_a_measure_foretells_an_epoch_of_the_trainer(tiny_faces: Faces, tmp_path: Path) -> None:
    config = trial_config(DIALS)
    cost = measure(config, lambda most: fewer(tiny_faces, most))
    assert cost.device == "cpu"
    (epoch,) = epochs(config, tiny_faces, device=torch.device("cpu"))
    epoch.save(tmp_path / "checkpoint")
    # The header tells the numbers of each epoch; the tensors are the same.
    size = (tmp_path / "checkpoint").stat().st_size
    assert cost.checkpoint_bytes == pytest.approx(size, rel=0.02)
    seconds = cost.epoch_s(epoch_load(config, tiny_faces)) - cost.save_s
    assert 0.1 < seconds / epoch.metrics["seconds"] < 10  # on a machine in turmoil


def test_fewer_faces_keep_people_in_their_parts(tiny_faces: Faces) -> None:
    few = fewer(tiny_faces, 20)
    assert len(few.indices("train")) == 20
    assert len(few.indices("validation")) == 10
    places = tiny_faces.indices("train")[:20]
    assert np.array_equal(few.images[few.indices("train")], tiny_faces.images[places])


def test_a_step_that_collapses_is_a_fault(tiny_faces: Faces) -> None:
    one_step(trial_config(DIALS), fewer(tiny_faces, 64))
    wild = trial_config({**DIALS, "optim.name": "sgd", "optim.lr": 10.0, "model.unit_length": False,
                         "loss.name": "contrastive", "loss.distance": "l2"})  # fmt: skip
    with pytest.raises(TrialCollapsed):
        one_step(wild, fewer(tiny_faces, 64))
