"""The demo: the same on every machine, found by detectors, and no puzzle for a pixel counter."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from cv2.data import haarcascades
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from siamtune.data import demo as module
from siamtune.data.demo import (
    DEMO_FACE_BOX,
    DEMO_SEED,
    PEOPLE,
    PHOTOGRAPHS,
    SIDE_PX,
    DemoPictures,
    demo_landmarks,
)


@pytest.fixture(scope="module")
def demo() -> DemoPictures:
    return DemoPictures(DEMO_SEED)


@pytest.fixture(scope="module")
def sample(demo: DemoPictures) -> NDArray[np.int64]:
    return np.arange(0, len(demo), 16)


@pytest.fixture(scope="module")
def photographs(demo: DemoPictures) -> NDArray[np.uint8]:
    return np.stack(list(demo))


@pytest.fixture(scope="module")
def grays(photographs: NDArray[np.uint8]) -> NDArray[Any]:
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in photographs])


def test_the_album_has_its_people_and_photographs(demo: DemoPictures) -> None:
    photographs = np.bincount(demo.identities)
    assert len(photographs) == PEOPLE
    assert (photographs.min(), photographs.max()) == PHOTOGRAPHS
    assert len(demo) == photographs.sum()
    assert demo[0].shape == (SIDE_PX, SIDE_PX, 3)
    assert demo[0].dtype == np.uint8
    np.testing.assert_array_equal(demo[-1], demo[len(demo) - 1])
    assert len(demo[3:6]) == 3
    with pytest.raises(IndexError):
        demo[len(demo)]


def test_a_seed_gives_the_same_photographs_in_any_order(demo: DemoPictures) -> None:
    again = DemoPictures(DEMO_SEED)
    for index in (700, 3):
        np.testing.assert_array_equal(again[index], demo[index])
    assert (DemoPictures(DEMO_SEED + 1)[3] != demo[3]).mean() > 0.5


def test_threads_share_one_album(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make_album(*arguments: Any) -> module.Album:
        made.append(arguments)
        return original(*arguments)

    original = module.make_album
    monkeypatch.setattr(module, "make_album", make_album)
    pictures = DemoPictures(DEMO_SEED)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pictures.__getitem__, range(8)))
    assert len(made) == 1


def test_no_photograph_is_black_white_or_twice_there(grays: NDArray[Any]) -> None:
    assert (grays.std(axis=(1, 2)) > 8).all()
    assert len({gray.tobytes() for gray in grays}) == len(grays)


def test_landmarks_lie_on_what_was_painted(demo: DemoPictures, grays: NDArray[Any]) -> None:
    """Pupils are darker than the cheeks below them, in nearly all photographs."""
    marks = demo_landmarks(demo)
    assert marks.shape == (len(demo), 68, 2)
    darker = []
    for gray, points in zip(grays, marks, strict=True):
        for eye in (slice(36, 42), slice(42, 48)):
            x, y = points[eye].mean(axis=0)
            below = y + 0.5 * (points[33, 1] - points[27, 1])
            columns = slice(round(x) - 2, round(x) + 3)
            pupil, cheek = (gray[round(row) - 1 : round(row) + 2, columns] for row in (y, below))
            darker.append(pupil.mean() < cheek.mean())
    assert np.mean(darker) > 0.95


def test_faces_stand_in_the_box_of_the_center_crop(demo: DemoPictures) -> None:
    marks = demo_landmarks(demo)
    low, high = SIDE_PX * (1 - DEMO_FACE_BOX) / 2, SIDE_PX * (1 + DEMO_FACE_BOX) / 2
    inside = ((marks > low) & (marks < high)).all(axis=2)
    assert inside[:, 17:].mean() > 0.9  # all but the jaw
    assert marks[..., 0].mean() == pytest.approx(SIDE_PX / 2, abs=1)


def test_detectors_find_most_faces_where_they_are(
    demo: DemoPictures, sample: NDArray[np.int64]
) -> None:
    cascade = cv2.CascadeClassifier(haarcascades + "haarcascade_frontalface_default.xml")
    detect = dlib.get_frontal_face_detector()
    haar = hog = 0
    for index in sample:
        x, y = demo_landmarks(demo)[index, 27:36].mean(axis=0)  # the nose
        gray = cv2.cvtColor(demo[index], cv2.COLOR_RGB2GRAY)
        haar += any(
            np.hypot(left + width / 2 - x, top + height / 2 - y) < width / 4
            for left, top, width, height in cascade.detectMultiScale(gray, scaleFactor=1.2)
        )
        hog += any(
            np.hypot(box.dcenter().x - x, box.dcenter().y - y) < box.width() / 4
            for box in detect(demo[index], 1)
        )
    assert haar > 0.7 * len(sample)
    assert hog > 0.8 * len(sample)


def test_identity_cannot_be_read_from_colour_or_single_pixels(
    demo: DemoPictures, photographs: NDArray[np.uint8], grays: NDArray[Any]
) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, len(demo), (2, 400_000))
    same = (demo.identities[left] == demo.identities[right]) & (left != right)
    positives = np.flatnonzero(same)
    negatives = np.flatnonzero(demo.identities[left] != demo.identities[right])[: len(positives)]
    chosen = np.concatenate([positives, negatives])
    left, right, same = left[chosen], right[chosen], same[chosen]

    colours = photographs.mean(axis=(1, 2))
    by_colour = -np.linalg.norm(colours[left] - colours[right], axis=1)
    assert roc_auc_score(same, by_colour) < 0.6

    edge = round(SIDE_PX * (1 - DEMO_FACE_BOX) / 2)
    faces = grays[:, edge:-edge, edge:-edge].reshape(len(demo), -1).astype(np.float32)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    by_pixels = (faces[left] * faces[right]).sum(axis=1)
    assert 0.55 < roc_auc_score(same, by_pixels) < 0.7
