"""Every network, and every normalization, as ONNX; these tests need the extra `onnx`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siamtune.config import MINIMUM_RESOLUTION_PX, ModelConfig
from siamtune.data.normalization import NORMALIZATIONS, fit_normalization
from siamtune.data.recipe import Recipe
from siamtune.errors import SiamtuneError
from siamtune.models import build_model
from siamtune.shipping import onnx_file
from siamtune.shipping.onnx_file import PACKAGES, write_onnx
from siamtune.shipping.verifier import Verifier
from siamtune.verification.calibration import Calibration

for package in PACKAGES:
    pytest.importorskip(package)


def verifier_of(
    architecture: str, normalization: str, channels: int = 1, flip: bool = False
) -> Verifier:
    side_px = MINIMUM_RESOLUTION_PX[architecture]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, channels, side_px, side_px), np.uint8)
    config = ModelConfig.model_validate(
        {"architecture": architecture, "embedding_size": 16, "width": 0.5}
    )
    return Verifier(
        build_model(config, channels=channels, resolution_px=side_px).eval(),
        fit_normalization(normalization, images).eval(),
        Recipe("center", 1.0, side_px, channels == 1, 0.5),
        flip,
        "l2",
        16,
        -1.0,
        Calibration(1.0, 0.0),
        Path("model.safetensors"),
        {},
        torch.device("cpu"),
    )


@pytest.mark.parametrize(
    ("architecture", "normalization", "channels"),
    [
        *((architecture, "minmax", 1) for architecture in MINIMUM_RESOLUTION_PX),
        *(("resnet", normalization, 3) for normalization in NORMALIZATIONS),
    ],
)
def test_any_number_of_pictures_gives_the_embeddings_of_pytorch(
    architecture: str, normalization: str, channels: int, tmp_path: Path
) -> None:
    import onnxruntime

    verifier = verifier_of(architecture, normalization, channels, flip=channels == 3)
    facts = write_onnx(verifier, tmp_path / "model.onnx")
    assert facts["largest_difference"] < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    side_px = MINIMUM_RESOLUTION_PX[architecture]
    for count in (1, 7):
        shape = (count, channels, side_px, side_px)
        faces = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        (theirs,) = session.run(None, {"images": faces.astype(np.float32)})
        assert np.allclose(theirs, verifier.embed_faces(faces), atol=1e-4)


def test_a_file_that_gives_other_embeddings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(SiamtuneError, match="ONNX must give PyTorch's embeddings"):
        write_onnx(verifier_of("resnet", "minmax"), tmp_path / "model.onnx")
