"""A single picture gets the treatment that `prepare` gives a whole source."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtune.config import Crop, DataConfig
from siamtune.data.boxes import find_faces
from siamtune.data.decode import decode
from siamtune.data.prepare import prepare
from siamtune.data.recipe import Recipe, cut_faces, read_pictures
from siamtune.data.sources import Source, open_source
from siamtune.errors import DataError


@pytest.fixture(scope="module")
def source() -> Source:
    """Eight people with three pictures each of any size; the largest must be reduced."""
    rng = np.random.default_rng(0)
    sizes = [(48, 40), (30, 70), (900, 700)]
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(8) for size in sizes]
    names = tuple(f"person {i}" for i in range(8))
    return Source("noise", pictures, np.repeat(np.arange(8), 3), names, 0.45, *["recipe"] * 3)


@pytest.mark.parametrize("crop", ["none", "center", "haar"])
@pytest.mark.parametrize("grayscale", [True, False])
def test_faces_are_those_of_prepare(
    source: Source, crop: str, grayscale: bool, tmp_path: Path
) -> None:
    dials = {"crop": crop, "grayscale": grayscale, "resolution_px": 20, "crop_factor": 1.3}
    faces = prepare(source, DataConfig.model_validate(dials), cache_folder=tmp_path)
    style = faces.crop.style
    recipe = Recipe(style, faces.crop.factor, 20, grayscale, faces.crop.face_box)
    pictures, unreadable = read_pictures(source.pictures)
    assert unreadable == []
    assert np.array_equal(cut_faces(pictures, recipe), faces.images)


def test_a_face_that_is_found_is_what_is_cut_out(tmp_path: Path) -> None:
    demo = open_source("demo")
    chosen = [np.flatnonzero(demo.identities == person)[:3] for person in range(8)]
    pictures = [demo.pictures[i] for i in np.concatenate(chosen)]
    identities = np.repeat(np.arange(8), [len(each) for each in chosen])
    few = Source("few", pictures, identities, demo.names[:8], demo.face_box, *["found"] * 3)
    faces, central = (
        prepare(few, DataConfig(crop=crop, resolution_px=24), cache_folder=tmp_path)
        for crop in ("haar", "center")
    )
    boxes = find_faces(decode(few, tmp_path), "haar")
    found = np.flatnonzero(~np.isnan(boxes[:, 0]))
    assert faces.crop.faces_not_found == len(pictures) - len(found) < len(pictures) / 2
    recipe = Recipe("haar", 1.0, 24, True, faces.crop.face_box)
    assert np.array_equal(cut_faces(pictures, recipe), faces.images)
    for at in found:
        left, top, width, height, _ = boxes[at]
        by_hand = cv2.cvtColor(pictures[at], cv2.COLOR_RGB2GRAY)[
            round(top) : round(top + height), round(left) : round(left + width)
        ]
        small = cv2.resize(by_hand, (24, 24), interpolation=cv2.INTER_AREA).astype(float)
        cut = faces.images[at, 0].astype(float)
        # Of the box itself, but for a pixel at its edges; the centre is another cut.
        assert np.abs(cut - small).mean() < np.abs(central.images[at, 0] - small).mean()


def test_where_no_face_is_found_the_centre_is_cut_out_and_the_picture_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pictures = [np.full((40, 40, 3), level, np.uint8) for level in (10, 200)]
    with caplog.at_level(logging.WARNING):
        found = cut_faces(pictures, Recipe("haar", 1.0, 16, True, 0.5), names=["a.jpg", "b.jpg"])
    assert "found no face in a.jpg, b.jpg; the centre was taken" in caplog.text
    assert np.array_equal(found, cut_faces(pictures, Recipe("center", 1.0, 16, True, 0.5)))


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:8] = 255  # the upper edge is bright
    _, jpeg = cv2.imencode(".jpg", pixels)
    # An EXIF block of one entry: orientation 6, the camera was turned by a quarter.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = jpeg.tobytes()
    turned = tmp_path / "turned.jpg"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    turned.write_bytes(content[:2] + segment + content[2:])
    (picture,), _ = read_pictures([turned])
    assert picture.shape == (48, 32, 3)
    assert picture[:, -4:].mean() > 200 > 50 > picture[:, :16].mean()


@pytest.mark.parametrize("crop", ["trees", "aligned"])
def test_a_crop_by_landmarks_without_their_file_is_refused(crop: Crop) -> None:
    with pytest.raises(DataError, match="needs the file of dlib's predictor"):
        cut_faces([np.zeros((40, 40, 3), np.uint8)], Recipe(crop, 1.0, 16, True, 1.0))
