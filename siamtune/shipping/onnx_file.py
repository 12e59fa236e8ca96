"""Normalization and network as ONNX, compared with PyTorch before anybody gets them."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siamtune.errors import SiamtuneError, UsageError
from siamtune.shipping.verifier import Verifier
from siamtune.training.evaluation import embedding

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PICTURES_COMPARED = (1, 2, 9)
# Both sum the same products in another order: rounding, at most.
LARGEST_DIFFERENCE = 1e-3


class _Whole(nn.Module):
    """Faces `(B, C, R, R)` of floats in [0, 255] to embeddings `(B, D)`."""

    def __init__(self, verifier: Verifier) -> None:
        super().__init__()
        self.normalization = verifier.normalization
        self.model = verifier.model
        self.flip = verifier.flip

    def forward(self, images: Tensor) -> Tensor:
        return embedding(self.model, self.normalization, images, flip=self.flip)


def require_packages() -> None:
    """Check that ONNX files can be written and run.

    Raises:
        UsageError: a package is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--onnx needs {', '.join(PACKAGES)}, but {', '.join(missing)} cannot be imported; "
            "install them with: pip install 'siamtune[onnx]'"
        )


def write_onnx(verifier: Verifier, path: Path) -> dict[str, Any]:
    """Write faces `(B, C, R, R)` float32 in [0, 255] to embeddings `(B, D)`, and compare.

    Returns what `model.json` says of the file.

    Raises:
        SiamtuneError: it cannot be written, or gives other embeddings than PyTorch.
    """
    recipe = verifier.recipe
    shape = (recipe.channels, recipe.resolution_px, recipe.resolution_px)
    whole = _Whole(verifier).eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(2, *shape, generator=generator) * 255
    try:
        with _quiet():
            torch.onnx.export(
                whole,
                (example,),
                path,
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes={"images": {0: torch.export.Dim("pictures")}},
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        difference = max(
            _difference(whole, path, torch.rand(count, *shape, generator=generator) * 255)
            for count in PICTURES_COMPARED
        )
    except Exception as error:  # of three packages, which have no common one
        raise SiamtuneError(
            f"this network cannot be written as ONNX ({type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0]}); export without --onnx"
        ) from error
    if not difference <= LARGEST_DIFFERENCE:
        raise SiamtuneError(
            f"ONNX must give PyTorch's embeddings, but they differ by {difference:.2g}; export "
            "without --onnx"
        )
    return {
        "file": path.name,
        "input": ["pictures", *shape],
        "largest_difference": difference,
        "compared": f"with PyTorch {torch.__version__} on {sum(PICTURES_COMPARED)} pictures",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of torchvision, which is not used, and of its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _difference(whole: nn.Module, path: Path, images: Tensor) -> float:
    """Largest difference of two embeddings' numbers, relative to the longest embedding."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["embeddings"], {"images": images.numpy()})
    ours = whole(images)
    longest = ours.norm(dim=1).max().clamp_min(1e-12)
    return float((ours - torch.from_numpy(theirs)).abs().max() / longest)
