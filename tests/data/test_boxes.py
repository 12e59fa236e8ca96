"""Boxes: where faces are, scaling about the centre, and cutting against slow, plain arithmetic."""

from collections.abc import Callable
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
from numpy.typing import NDArray

from siamtune.data import boxes
from siamtune.data.boxes import (
    central_boxes,
    cut,
    find_faces,
    photograph_box,
    scaled,
    whole_boxes,
)
from siamtune.data.decode import Pictures, read_picture
from siamtune.errors import DataError


def pack(pictures: list[NDArray[np.uint8]]) -> Pictures:
    sizes = np.array([picture.shape[:2] for picture in pictures])
    ends = np.cumsum(sizes.prod(axis=1) * 3)
    return Pictures(
        np.concatenate([picture.ravel() for picture in pictures]),
        ends - sizes.prod(axis=1) * 3,
        sizes[:, 0],
        sizes[:, 1],
        np.arange(len(pictures)),
        (),
    )


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_central_box_is_a_square_share_of_the_shorter_side() -> None:
    found = central_boxes(np.array([100, 60]), np.array([200, 30]), 0.5)
    assert found.tolist() == [[75, 25, 50, 50], [7.5, 22.5, 15, 15]]


def test_a_whole_box_is_the_picture() -> None:
    assert whole_boxes(np.array([100]), np.array([200])).tolist() == [[0, 0, 200, 100]]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.2])
def test_scaling_keeps_the_centre(factor: float) -> None:
    box = np.array([[10.0, 20.0, 40.0, 30.0]])
    left, top, width, height = scaled(box, factor)[0]
    assert (width, height) == pytest.approx((40 * factor, 30 * factor))
    assert (left + width / 2, top + height / 2) == pytest.approx((30, 35))


def test_a_cut_of_the_right_size_is_the_pixels_themselves() -> None:
    picture = noise(50, 60)
    found = cut(picture, np.array([7.0, 11.0, 20.0, 20.0]), 20, grayscale=False)
    assert np.array_equal(found, picture[11:31, 7:27])


def test_a_gray_cut_is_the_luminance_of_the_bytes() -> None:
    picture = noise(30, 30)
    found = cut(picture, np.array([0.0, 0.0, 30.0, 30.0]), 30, grayscale=True)
    assert found.dtype == np.uint8
    luminance = picture @ [0.299, 0.587, 0.114]
    assert np.abs(found - luminance).max() <= 1


def test_shrinking_averages_the_pixels_that_become_one() -> None:
    picture = noise(40, 40)
    found = cut(picture, np.array([4.0, 8.0, 32.0, 32.0]), 16, grayscale=False)
    blocks = picture[8:40, 4:36].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(found - blocks).max() <= 1


@pytest.mark.parametrize(
    "box",
    [(-5, -7, 20, 20), (25, 30, 20, 20), (-10, -10, 60, 60), (-100, 5, 20, 20), (35, 90, 20, 20)],
    ids=["top left", "bottom right", "all around", "outside left", "outside below"],
)
@pytest.mark.parametrize("grayscale", [False, True])
def test_beyond_the_picture_its_border_continues(
    box: tuple[int, int, int, int], grayscale: bool
) -> None:
    picture = noise(40, 36)
    left, top, width, height = box
    around = np.pad(picture, ((200, 200), (200, 200), (0, 0)), mode="edge")
    # A box outside touches the picture by a pixel, which is then all there is to see.
    row, column = (max(1 - 20, min(start, size - 1)) for start, size in ((top, 40), (left, 36)))
    expected = around[row + 200 : row + 200 + height, column + 200 : column + 200 + width]
    if grayscale:
        expected = cv2.cvtColor(np.ascontiguousarray(expected), cv2.COLOR_RGB2GRAY)
    found = cut(picture, np.array(box, np.float64), width, grayscale)
    assert np.array_equal(found, expected)


def test_a_tiny_box_is_one_pixel_at_least() -> None:
    picture = noise(20, 20)
    found = cut(picture, np.array([3.0, 4.0, 0.2, 0.2]), 16, grayscale=False)
    assert (found == picture[4, 3]).all()


@pytest.mark.parametrize("detector", ["haar", "hog"])
def test_where_there_is_no_face_there_is_no_box(detector: str) -> None:
    done: list[tuple[int, int]] = []
    blank = pack([np.full((64, 64, 3), 90, np.uint8)] * 70)
    found = find_faces(blank, detector, progress=lambda *heard: done.append(heard))
    assert found.shape == (70, 4)
    assert np.isnan(found).all()
    assert done == [(32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize("detector", ["haar", "hog"])
def test_real_faces_are_found_and_move_with_the_picture(data_home: Path, detector: str) -> None:
    files = sorted((data_home / "lfw_home" / "lfw").glob("A*/*_0001.jpg"))[:12]
    if not files:
        pytest.skip(f"no lfw in {data_home}")
    pictures = [picture for file in files if (picture := read_picture(file)) is not None]
    found = find_faces(pack(pictures), detector)
    present = ~np.isnan(found[:, 0])
    assert present.sum() >= 10
    centres = found[present, :2] + found[present, 2:] / 2
    assert np.abs(centres - 125).max() < 40  # the faces of lfw stand in the middle
    assert np.array_equal(found[present, 2], found[present, 3])

    moved = [np.roll(picture, 30, axis=1) for picture in pictures]
    shift = np.nanmedian(find_faces(pack(moved), detector) - found, axis=0)
    assert shift[:2] == pytest.approx((30, 0), abs=4)


def test_a_photograph_is_cut_at_its_face_and_one_like_those_of_lfw_at_its_centre(
    data_home: Path,
) -> None:
    files = sorted((data_home / "lfw_home" / "lfw").glob("A*/*_0001.jpg"))[:30]
    if not files:
        pytest.skip(f"no lfw in {data_home}")
    pictures = [picture for file in files if (picture := read_picture(file)) is not None]
    (central,) = central_boxes(np.array([250]), np.array([250]), 1 / 2.2)
    kept = [np.array_equal(photograph_box(picture, central), central) for picture in pictures]
    assert sum(kept) >= 28

    (larger,) = central_boxes(np.array([1500]), np.array([1200]), 1 / 2.2)
    near = 0
    for picture in pictures:
        photograph = np.full((1500, 1200, 3), 128, np.uint8)
        photograph[900:1400, 100:600] = cv2.resize(picture, (500, 500))
        left, top, width, height = photograph_box(photograph, larger)
        assert width == height
        shift = np.array([left + width / 2 - 350, top + height / 2 - 1150]) / 227
        near += bool(np.abs(shift).max() < 0.2 and 0.7 < width / 227 < 1.4)
    assert near >= 27


@pytest.mark.parametrize("shape", [(1, 1), (47, 200), (300, 200)])
def test_a_photograph_without_a_face_is_cut_at_its_centre(shape: tuple[int, int]) -> None:
    (central,) = central_boxes(np.array([shape[0]]), np.array([shape[1]]), 0.5)
    blank = np.full((*shape, 3), 90, np.uint8)
    assert np.array_equal(photograph_box(blank, central), central)


def landmarks_file(path: Path, points: int) -> Path:
    """Train a predictor that knows one arrangement of points in a box: the same in every picture.

    Point i lies at (10 + i, 40) of a box of 80 pixels, the nose tip so at (40, 40).
    """
    options = dlib.shape_predictor_training_options()
    options.cascade_depth = options.tree_depth = options.num_trees_per_cascade_level = 1
    options.oversampling_amount = 1
    options.num_test_splits = 1
    options.feature_pool_size = 10
    box = dlib.rectangle(20, 20, 99, 99)
    shape = dlib.full_object_detection(
        box, [dlib.point(20 + 10 + i, 20 + 40) for i in range(points)]
    )
    images = [noise(128, 128, seed) for seed in range(2)]
    dlib.train_shape_predictor(images, [[shape], [shape]], options).save(str(path))
    return path


def always_at(*box: int) -> Callable[[], Callable[[object], object]]:
    """Stand in for dlib's detector, which would need a face."""
    return lambda: lambda picture: dlib.rectangle(*box)


def test_trees_put_a_square_on_the_nose_tip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = landmarks_file(tmp_path / "68.dat", 68)
    monkeypatch.setattr(boxes, "_dlib_detector", always_at(10, 30, 89, 109))  # 80 pixels
    found = find_faces(pack([noise(128, 128)]), "trees", path)
    assert found.tolist() == [[10 + 40 - 40, 30 + 40 - 40, 80, 80]]


def test_trees_take_the_box_of_the_landmarks_where_it_is_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = landmarks_file(tmp_path / "68.dat", 68)
    wide = dlib.shape_predictor(str(path))
    monkeypatch.setattr(boxes, "_dlib_detector", always_at(10, 30, 89, 109))

    # The landmarks of a box three times as large. dlib counts steps between pixels, 79 of 80.
    def predict(picture: object, face: dlib.rectangle) -> object:
        return wide(picture, dlib.rectangle(face.left(), face.top(), 249, 269))

    monkeypatch.setattr(dlib, "shape_predictor", lambda path: predict)
    found = find_faces(pack([noise(300, 300)]), "trees", path)
    side, nose = 67 * 239 / 79, 40 * 239 / 79
    expected = [10 + nose - side / 2, 30 + nose - side / 2, side, side]
    assert found[0] == pytest.approx(expected, abs=1)  # landmarks are whole pixels


def test_trees_without_a_face_have_no_box(tmp_path: Path) -> None:
    path = landmarks_file(tmp_path / "68.dat", 68)
    blank = pack([np.full((64, 64, 3), 90, np.uint8)])
    assert np.isnan(find_faces(blank, "trees", path)).all()


def test_trees_say_which_file_they_need(tmp_path: Path) -> None:
    blank = pack([np.zeros((64, 64, 3), np.uint8)])
    foreign, short = tmp_path / "foreign.dat", landmarks_file(tmp_path / "5.dat", 5)
    foreign.write_bytes(b"not a predictor")
    for path, words in (
        (None, "needs the file of a 68-point predictor, but got None"),
        (tmp_path / "missing.dat", "but got .*missing.dat"),
        (tmp_path, "but got"),
        (foreign, "must be a 68-point predictor of dlib, but is not"),
        (short, "must be a predictor of 68 points, but has 5"),
    ):
        with pytest.raises(DataError, match=f"{words}.*download shape_predictor_68"):
            find_faces(blank, "trees", path)
