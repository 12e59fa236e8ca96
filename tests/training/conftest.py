import numpy as np
import pytest

from siamtune.data.normalization import fit_normalization
from siamtune.data.prepare import CropFacts, Faces
from siamtune.data.split import split_identities


@pytest.fixture(scope="session")
def tiny_faces() -> Faces:
    """Twenty people with six 16 px pictures each: a pattern a person, noise and light a picture.

    So easy that a loss must fall and the AUC must rise within seconds.
    """
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(20, 1, 1, 4, 4)).repeat(4, axis=3).repeat(4, axis=4)
    noise = rng.normal(size=(20, 6, 1, 16, 16))
    light = rng.normal(size=(20, 6, 1, 1, 1))
    pictures = 128 + 30 * patterns + 25 * noise + 20 * light
    images = pictures.reshape(120, 1, 16, 16).clip(0, 255).astype(np.uint8)
    identities = np.repeat(np.arange(20), 6)
    names = tuple(f"person {i:02d}" for i in range(20))
    split = split_identities(identities, names, seed=0, shares=(0.6, 0.2, 0.2))
    training = images[np.isin(identities, split.train)]
    return Faces(
        images=images,
        identities=identities,
        names=names,
        split=split,
        normalization=fit_normalization("minmax", training),
        source="tiny",
        crop=CropFacts("none", 1.0, 0),
    )
