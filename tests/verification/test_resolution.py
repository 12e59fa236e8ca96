"""What a validation set can tell apart, against a loop over resampled people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siamtune.config import DataConfig
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import open_source
from siamtune.verification.bootstrap import identity_replicates
from siamtune.verification.metrics import roc_auc
from siamtune.verification.pairs import verification_pairs
from siamtune.verification.resolution import validation_resolution


@pytest.fixture(scope="module")
def faces(pattern_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    source = open_source(str(pattern_people))
    config = DataConfig(resolution_px=32)
    return prepare(source, config, cache_folder=tmp_path_factory.mktemp("cache"))


def test_equal_seeds_draw_equal_people() -> None:
    rng = np.random.default_rng(0)
    left, right = np.triu_indices(8)
    same = left == right
    a, b = rng.normal(size=(2, len(same)))
    first = identity_replicates(a, same, left, right, 0.0, seed=3, replicates=50)["auc"]
    second = identity_replicates(b, same, left, right, 0.0, seed=3, replicates=50)["auc"]
    drawn = np.random.default_rng(3).integers(8, size=(50, 8))
    for people, auc_a, auc_b in zip(drawn, first, second, strict=True):
        counts = np.bincount(people, minlength=8)
        times = counts[left] * np.where(same, 1, counts[right])
        repeated = np.repeat(np.arange(len(same)), times)
        assert auc_a == pytest.approx(roc_auc(a[repeated], same[repeated]))
        assert auc_b == pytest.approx(roc_auc(b[repeated], same[repeated]))


def test_fewer_people_tell_less(faces: Faces) -> None:
    whole = validation_resolution(faces)
    everybody = np.concatenate([faces.split.validation, faces.split.test, faces.split.train])
    more = validation_resolution(
        replace(faces, split=replace(faces.split, validation=np.sort(everybody)))
    )
    assert whole.auc_spread is not None
    assert more.auc_spread is not None
    # Ten times the people: about a third of the error.
    assert 0.1 < more.auc_spread / whole.auc_spread < 0.6
    assert more.smallest_far < whole.smallest_far


def test_it_counts_the_pairs_of_the_search(faces: Faces) -> None:
    found = validation_resolution(faces)
    pairs = verification_pairs(faces.indices("validation"), faces.identities, seed=faces.split.seed)
    assert found.positives == pairs.same.sum()
    assert found.smallest_far == pytest.approx(30 / (~pairs.same).sum())
    assert found.people == found.several == len(faces.split.validation)
    assert str(found).startswith(f"{found.people} people, {found.positives:,} + ")
    assert found.auc_spread is not None
    assert found.auc_difference(0.9) == pytest.approx(0.3 * found.auc_spread)
    assert f"less than about {0.3 * found.auc_spread:.2g} near 0.9" in str(found)


def test_of_one_person_nothing_is_known(faces: Faces) -> None:
    people = faces.identities
    chosen = faces.split.validation[:3]
    kept = np.isin(people, chosen)
    kept &= ~np.isin(np.arange(len(people)), np.flatnonzero(people == chosen[0])[1:])
    kept &= ~np.isin(np.arange(len(people)), np.flatnonzero(people == chosen[1])[1:])
    one = replace(
        faces,
        images=faces.images[kept],
        identities=people[kept],
        split=replace(faces.split, validation=chosen),
    )
    found = validation_resolution(one)
    assert found.auc_spread is None
    assert found.auc_difference(0.9) is None
    assert "of one person" in str(found)
