"""One Ray for all tests of a session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from siamtune.launch.cluster import TrialResources, connect, prepare_environment


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
