"""A few faces of a source, to try out what a trial costs before all of them are prepared."""

# N pictures · C channels · R resolution

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from siamtune.config import DataConfig
from siamtune.data.boxes import central_boxes, cut
from siamtune.data.decode import Pictures
from siamtune.data.normalization import fit_normalization
from siamtune.data.prepare import CropFacts, Faces
from siamtune.data.sources import Source
from siamtune.data.split import Split

PER_PERSON = 8


def sample_faces(
    source: Source, pictures: Pictures, split: Split, config: DataConfig, most: int
) -> Faces:
    """At most `most` training pictures, and half as many to verify on, with the split as it is.

    Pictures of the size and colour that `config` wants, with its normalization fitted on them.
    They are cut around the centre whatever the crop: that changes what they show, not what they
    cost. People with several pictures come first, with eight pictures each. Nothing is cached.
    """
    identities = source.identities[pictures.positions]
    chosen = np.concatenate(
        [
            _few(identities, split.train, most),
            _few(identities, split.validation, most // 2),
        ]
    )
    boxes = central_boxes(pictures.heights[chosen], pictures.widths[chosen], source.face_box)
    side_px = config.resolution_px
    images = np.empty((len(chosen), 1 if config.grayscale else 3, side_px, side_px), np.uint8)
    for image, place, box in zip(images, chosen, boxes, strict=True):
        face = cut(pictures.picture(place), box, side_px, config.grayscale)
        image[:] = face if config.grayscale else face.transpose(2, 0, 1)
    training = np.flatnonzero(np.isin(identities[chosen], split.train))
    return Faces(
        images,
        identities[chosen],
        source.names,
        split,
        fit_normalization(config.normalization, images, training, seed=split.seed),
        source.name,
        CropFacts("center", 1.0, 0, source.face_box),
    )


def fewer(faces: Faces, most: int) -> Faces:
    """The first people of a sample: at most `most` training pictures, and half as many others."""
    kept = np.sort(
        np.concatenate([faces.indices("train")[:most], faces.indices("validation")[: most // 2]])
    )
    return replace(faces, images=faces.images[kept], identities=faces.identities[kept])


def _few(identities: NDArray[np.int64], people: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Positions of pictures of those with the most, person by person."""
    counts = np.bincount(identities, minlength=int(identities.max()) + 1)
    order = people[np.argsort(-np.minimum(counts[people], PER_PERSON), kind="stable")]
    taken: list[NDArray[np.int64]] = []
    for person in order:
        if sum(map(len, taken)) >= most and len(taken) >= 2:
            break
        taken.append(np.flatnonzero(identities == person)[:PER_PERSON])
    return np.concatenate(taken)[: max(most, 4)]
