"""One Ray for all tests of a session, and people so small that a trial takes a moment."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtune.launch.cluster import TrialResources, connect, prepare_environment


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 people with five 24 px pictures each: a pattern a person, noise a picture."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(24):
        pattern = rng.normal(size=(6, 6)).repeat(4, axis=0).repeat(4, axis=1)
        (folder / f"person {person:02d}").mkdir()
        for picture in range(5):
            pixels = 128 + 30 * pattern + 25 * rng.normal(size=pattern.shape)
            path = folder / f"person {person:02d}" / f"{picture}.png"
            cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared pictures of this session, out of the person's own cache; workers inherit it."""
    before = os.environ.get("SIAMTUNE_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SIAMTUNE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SIAMTUNE_CACHE"]
    else:
        os.environ["SIAMTUNE_CACHE"] = before


@pytest.fixture(scope="session")
def ray_here(cache: Path) -> Iterator[None]:
    prepare_environment()
    import ray

    # Two workers a trial need the dashboard; the others do not mind it.
    connect("local", TrialResources(workers=2), verbose=False)
    yield
    ray.shutdown()
