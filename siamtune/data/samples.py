"""A few pictures that stand for many, to be looked at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamtune.data.boxes import scaled
from siamtune.data.normalization import NORMALIZATIONS, fit_normalization
from siamtune.data.recipe import Recipe, cut_boxes, face_boxes

PIXELS = "pixels"  # faces as they were cut out, beside those of each normalization
FACTORS = (0.75, 1.0, 1.25, 1.5, 2.0)


def most_photographed(
    indices: NDArray[np.int64], identities: NDArray[np.int64], *, people: int, each: int
) -> NDArray[np.int64]:
    """Of the pictures `indices` the first `each` of those `people` who have the most."""
    owners, counts = np.unique(identities[indices], return_counts=True)
    chosen = owners[np.argsort(-counts, kind="stable")[:people]]
    albums = [indices[identities[indices] == owner][:each] for owner in chosen]
    return np.concatenate(albums)


def variants(
    pictures: Sequence[NDArray[Any]],
    training_pictures: Sequence[NDArray[Any]],
    recipe: Recipe,
    landmarks: Path | None = None,
) -> dict[tuple[str, float], NDArray[np.float32]]:
    """Faces `(K, C, R, R)` of K pictures for each (normalization, crop factor).

    Normalizations are fitted on the training pictures, crop factors are `FACTORS` and the recipe's
    own; `PIXELS` stands for no normalization at all. Raises as `face_boxes`.
    """
    # Detectors take their time: one box a picture serves all factors.
    plain = replace(recipe, factor=1.0)
    boxes, training_boxes = (
        face_boxes(some, plain, landmarks) for some in (pictures, training_pictures)
    )
    cells: dict[tuple[str, float], NDArray[np.float32]] = {}
    for factor in sorted({*FACTORS, recipe.factor}):
        faces = cut_boxes(pictures, scaled(boxes, factor), recipe)
        training = cut_boxes(training_pictures, scaled(training_boxes, factor), recipe)
        cells[PIXELS, factor] = faces.astype(np.float32)
        for name in NORMALIZATIONS:
            normalization = fit_normalization(name, training)
            with torch.no_grad():
                cells[name, factor] = normalization(torch.from_numpy(faces).float()).numpy()
    return cells
