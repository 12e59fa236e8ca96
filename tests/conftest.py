"""What the tests of several rooms share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtune.launch.cluster import TrialResources, connect, prepare_environment

# Ray reads its environment once, when a process first imports it, whichever test that is.
# Its workers would give way to everything else on the machine, and starve on a busy one.
os.environ.setdefault("RAY_worker_niceness", "0")
prepare_environment()
# A shell that starts pytest in the background has it ignore Ctrl-C, and so would all it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_home() -> Path:
    """Real faces: the data home $SIAMTUNE_TEST_DATA_HOME, or `shared/data` beside the checkout."""
    given = os.environ.get("SIAMTUNE_TEST_DATA_HOME")
    home = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not home.is_dir():
        pytest.skip(f"no data home at {home}; set SIAMTUNE_TEST_DATA_HOME")
    return home


@pytest.fixture(scope="session")
def pattern_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 people with five 40 x 48 px pictures each: a pattern a person, noise a
    picture."""
    folder = tmp_path_factory.mktemp("pattern_people")
    rng = np.random.default_rng(0)
    for person in range(40):
        pattern = cv2.resize(rng.normal(size=(6, 5, 3)), (40, 48), interpolation=cv2.INTER_CUBIC)
        (folder / f"person {person:02d}").mkdir()
        for picture in range(5):
            pixels = 128 + 35 * pattern + 20 * rng.normal(size=pattern.shape)
            path = folder / f"person {person:02d}" / f"{picture}.png"
            cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def trained_run(pattern_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run folder of `siamtune train` on `pattern_people`, a few seconds of it."""
    from siamtune.cli.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIAMTUNE_CACHE", str(tmp_path_factory.mktemp("shipping_cache")))
        output = tmp_path_factory.mktemp("runs")
        dials = ["model.width=0.25", "model.embedding_size=16", "data.resolution_px=24",
                 "data.crop_factor=0.9", "batch.images=32", "augmentation.strength=0.3",
                 "loss.distance=l2", "optim.lr=5e-3"]  # fmt: skip
        train(
            data=str(pattern_people), epochs=16, set_=dials, threads=1, name="tiny", output=output
        )
        yield output / "tiny"


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
def ray_here(cache: Path) -> Iterator[str]:
    """The address of one Ray for all tests of a session; other processes can join it, too."""
    import ray

    # Two workers a trial need the dashboard; the others do not mind it.
    connect("local", TrialResources(workers=2), verbose=False)
    yield str(ray.get_runtime_context().gcs_address)
    ray.shutdown()
