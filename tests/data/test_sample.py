from pathlib import Path

import numpy as np

from siamtune.config import DataConfig
from siamtune.data.decode import decode
from siamtune.data.prepare import prepare
from siamtune.data.sample import sample_faces
from siamtune.data.sources import open_source


def test_a_sample_shows_what_would_be_prepared(pattern_people: Path, tmp_path: Path) -> None:
    config = DataConfig(resolution_px=20, grayscale=False, normalization="lcn")
    source = open_source(str(pattern_people))
    faces = prepare(source, config, cache_folder=tmp_path)
    pictures = decode(source, cache_folder=tmp_path)
    few = sample_faces(source, pictures, faces.split, config, 23)
    assert few.split is faces.split
    assert len(few.indices("train")) == 23
    assert len(few.indices("validation")) == 11
    for image, person in zip(few.images, few.identities, strict=True):
        theirs = faces.images[faces.identities == person]
        assert (theirs == image).all(axis=(1, 2, 3)).any()
    assert len(np.unique(few.images.reshape(34, -1), axis=0)) == 34
