import numpy as np
import pytest
import torch

from siamtune.config import ModelConfig
from siamtune.data.prepare import Faces
from siamtune.models import build_model
from siamtune.training.evaluation import embed

CPU = torch.device("cpu")


@pytest.mark.parametrize("unit_length", [True, False])
def test_a_flip_averaged_embedding_is_the_mean_of_both_and_as_long(
    tiny_faces: Faces, unit_length: bool
) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(unit_length=unit_length, width=0.25), channels=1,
                        resolution_px=16)  # fmt: skip
    mirrored = np.ascontiguousarray(tiny_faces.images[..., ::-1])
    everybody = np.arange(0, len(mirrored), 7)

    def vectors(images: np.ndarray, flip: bool) -> torch.Tensor:
        return embed(model, tiny_faces.normalization, images, everybody, CPU, flip=flip)

    plain, other = vectors(tiny_faces.images, False), vectors(mirrored, False)
    averaged = vectors(tiny_faces.images, True)
    expected = (plain + other) / 2
    if unit_length:
        expected = torch.stack([row / row.square().sum().sqrt() for row in expected])
    torch.testing.assert_close(averaged, expected)
    torch.testing.assert_close(averaged, vectors(mirrored, True))
    assert not torch.allclose(plain, other, atol=1e-3)
