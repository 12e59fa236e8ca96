"""What the tests of several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_home() -> Path:
    """Real faces: the data home $SIAMTUNE_TEST_DATA_HOME, or `shared/data` beside the checkout."""
    given = os.environ.get("SIAMTUNE_TEST_DATA_HOME")
    home = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not home.is_dir():
        pytest.skip(f"no data home at {home}; set SIAMTUNE_TEST_DATA_HOME")
    return home
