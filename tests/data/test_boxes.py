"""Boxes: where faces are, scaling about the centre, and cutting against slow, plain arithmetic."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
from numpy.typing import NDArray

from siamtune.data import boxes
from siamtune.data.boxes import (
    AVERAGE_FACE,
    aligned_box,
    central_boxes,
    cut,
    find_faces,
    landmarks_digest,
    photograph_box,
    scaled,
    whole_boxes,
)
from siamtune.data.decode import Pictures, read_picture
from siamtune.data.demo import DEMO_SEED, DemoPictures, demo_landmarks
from siamtune.data.recipe import Recipe, cut_faces
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
    assert found.tolist() == [[75, 25, 50, 50, 0], [7.5, 22.5, 15, 15, 0]]


def test_a_whole_box_is_the_picture() -> None:
    assert whole_boxes(np.array([100]), np.array([200])).tolist() == [[0, 0, 200, 100, 0]]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.2])
def test_scaling_keeps_the_centre(factor: float) -> None:
    box = np.array([[10.0, 20.0, 40.0, 30.0, 7.0]])
    left, top, width, height, turn = scaled(box, factor)[0]
    assert (width, height) == pytest.approx((40 * factor, 30 * factor))
    assert (left + width / 2, top + height / 2) == pytest.approx((30, 35))
    assert turn == 7


def test_a_cut_of_the_right_size_is_the_pixels_themselves() -> None:
    picture = noise(50, 60)
    found = cut(picture, np.array([7.0, 11.0, 20.0, 20.0, 0.0]), 20, grayscale=False)
    assert np.array_equal(found, picture[11:31, 7:27])


def test_a_gray_cut_is_the_luminance_of_the_bytes() -> None:
    picture = noise(30, 30)
    found = cut(picture, np.array([0.0, 0.0, 30.0, 30.0, 0.0]), 30, grayscale=True)
    assert found.dtype == np.uint8
    luminance = picture @ [0.299, 0.587, 0.114]
    assert np.abs(found - luminance).max() <= 1


def test_shrinking_averages_the_pixels_that_become_one() -> None:
    picture = noise(40, 40)
    found = cut(picture, np.array([4.0, 8.0, 32.0, 32.0, 0.0]), 16, grayscale=False)
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
    found = cut(picture, np.array([*box, 0], np.float64), width, grayscale)
    assert np.array_equal(found, expected)


def test_a_tiny_box_is_one_pixel_at_least() -> None:
    picture = noise(20, 20)
    found = cut(picture, np.array([3.0, 4.0, 0.2, 0.2, 0.0]), 16, grayscale=False)
    assert (found == picture[4, 3]).all()


@pytest.mark.parametrize("detector", ["haar", "hog"])
def test_where_there_is_no_face_there_is_no_box(detector: str) -> None:
    done: list[tuple[int, int]] = []
    blank = pack([np.full((64, 64, 3), 90, np.uint8)] * 70)
    found = find_faces(blank, detector, progress=lambda *heard: done.append(heard))
    assert found.shape == (70, 5)
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
    centres = found[present, :2] + found[present, 2:4] / 2
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
        left, top, width, height, turn = photograph_box(photograph, larger)
        assert (width, turn) == (height, 0)
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
    assert found.tolist() == [[10 + 40 - 40, 30 + 40 - 40, 80, 80, 0]]


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
    expected = [10 + nose - side / 2, 30 + nose - side / 2, side, side, 0]
    assert found[0] == pytest.approx(expected, abs=1)  # landmarks are whole pixels


def test_trees_without_a_face_have_no_box(tmp_path: Path) -> None:
    path = landmarks_file(tmp_path / "68.dat", 68)
    blank = pack([np.full((64, 64, 3), 90, np.uint8)])
    assert np.isnan(find_faces(blank, "trees", path)).all()


@pytest.mark.parametrize("crop", ["trees", "aligned"])
def test_crops_by_landmarks_say_which_file_they_need(tmp_path: Path, crop: str) -> None:
    blank = pack([np.zeros((64, 64, 3), np.uint8)])
    foreign, short = tmp_path / "foreign.dat", landmarks_file(tmp_path / "4.dat", 4)
    foreign.write_bytes(b"not a predictor")
    wanted = {"trees": "68", "aligned": "5 or 68"}[crop]
    for path, words in (
        (None, f"crop {crop} needs the file of dlib's predictor of {wanted} points, but got None"),
        (tmp_path / "missing.dat", "but got .*missing.dat"),
        (tmp_path, "but got"),
        (foreign, f"must be dlib's predictor of {wanted} points, but is not"),
        (short, f"must be a predictor of {wanted} points, but has 4"),
    ):
        with pytest.raises(DataError, match=f"{words}.*download shape_predictor_"):
            find_faces(blank, crop, path)


@pytest.mark.parametrize("turn", [-170.0, -20.0, 0.0, 35.0, 90.0])
def test_an_aligned_box_is_the_one_whose_places_the_points_have(turn: float) -> None:
    """The points are put where they lie in a known box, one after the other, by trigonometry."""
    left, top, side = 40.0, -10.0, 120.0
    placed = []
    for x, y in AVERAGE_FACE:
        right, down = (x - 0.5) * side, (y - 0.5) * side
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        placed.append(
            (left + side / 2 + c * right - s * down, top + side / 2 + s * right + c * down)
        )
    assert aligned_box(np.array(placed)) == pytest.approx((left, top, side, side, turn))


def test_no_box_of_its_kind_lies_nearer_to_the_points_than_the_aligned_one() -> None:
    rng = np.random.default_rng(0)
    points = AVERAGE_FACE * 100 + rng.normal(0, 6, (5, 2))
    found = aligned_box(points)
    assert found is not None

    def squares(left: float, top: float, side: float, _: float, turn: float) -> float:
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        offset = (AVERAGE_FACE - 0.5) * side @ np.array([[c, s], [-s, c]])
        return float(((offset + np.array([left, top]) + side / 2 - points) ** 2).sum())

    best = squares(*found)
    for _ in range(200):
        near = np.array(found) + rng.normal(0, 0.5, 5)
        assert squares(*near) >= best


def test_points_that_are_all_one_give_no_box() -> None:
    assert aligned_box(np.full((5, 2), 7.0)) is None


@pytest.mark.parametrize(("turn", "quarters"), [(90.0, 1), (180.0, 2), (-90.0, -1)])
def test_a_box_turned_by_quarters_is_the_pixels_turned_back(turn: float, quarters: int) -> None:
    picture = noise(50, 60)
    found = cut(picture, np.array([7.0, 11.0, 20.0, 20.0, turn]), 20, grayscale=False)
    assert np.array_equal(found, np.rot90(picture[11:31, 7:27], quarters))


@pytest.mark.parametrize("grayscale", [False, True])
def test_a_turned_box_takes_its_pixels_from_where_it_lies(grayscale: bool) -> None:
    """In a picture whose brightness is x and y themselves, each pixel tells where it comes from."""
    y, x = np.mgrid[:200, :200].astype(np.uint8)
    picture = np.stack([x, y, np.full_like(x, 50)], axis=-1)
    left, top, side, turn = 60.0, 70.0, 64.0, 25.0
    found = cut(picture, np.array([left, top, side, side, turn]), 64, grayscale).astype(float)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    for row in range(0, 64, 9):
        for column in range(0, 64, 9):
            right, down = column + 0.5 - side / 2, row + 0.5 - side / 2
            at_x = left + side / 2 + c * right - s * down - 0.5
            at_y = top + side / 2 + s * right + c * down - 0.5
            expected = np.array([at_x, at_y, 50])
            if grayscale:
                expected = expected @ [0.299, 0.587, 0.114]
            assert np.abs(found[row, column] - expected).max() <= 1


def test_a_turned_box_beyond_the_picture_continues_its_border() -> None:
    picture = np.full((40, 40, 3), 90, np.uint8)
    found = cut(picture, np.array([-30.0, 20.0, 50.0, 50.0, 30.0]), 32, grayscale=False)
    assert (found == 90).all()
    tiny = cut(noise(20, 20), np.array([3.0, 4.0, 0.2, 0.2, 30.0]), 16, grayscale=False)
    assert (tiny == tiny[0, 0]).all()


@pytest.mark.parametrize("count", [5, 68])
def test_aligned_takes_five_of_the_predictors_points(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = landmarks_file(tmp_path / f"{count}.dat", count)
    monkeypatch.setattr(boxes, "_dlib_detector", always_at(10, 30, 89, 109))
    chosen = range(5) if count == 5 else (45, 42, 36, 39, 33)
    points = [(10 + 10 + i + 0.5, 30 + 40 + 0.5) for i in chosen]  # see `landmarks_file`
    (found,) = find_faces(pack([noise(128, 128)]), "aligned", path)
    assert found == pytest.approx(aligned_box(np.array(points, float)))


def test_a_face_looks_the_same_however_it_was_held() -> None:
    """Demo faces, whose landmarks are known, turned and shrunk: their aligned cuts stay."""
    pictures = DemoPictures(DEMO_SEED)
    for index in (0, 7):
        picture, points = pictures[index], demo_landmarks(pictures)[index][[45, 42, 36, 39, 33]]
        middle = np.array(picture.shape[1::-1]) / 2
        upright = cut(picture, np.array(aligned_box(points)), 48, grayscale=True).astype(float)
        for turn, factor in ((20, 1.0), (-35, 0.7)):
            matrix = cv2.getRotationMatrix2D(tuple(middle), turn, factor)
            held = cv2.warpAffine(
                picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
            )
            # OpenCV counts from the middle of a pixel, boxes from its corner.
            moved = (points - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
            again = cut(held, np.array(aligned_box(moved)), 48, grayscale=True)
            inside = slice(8, 40)
            assert np.abs(again - upright)[inside, inside].mean() < 4
            plain = cut(held, np.array([*aligned_box(moved)[:4], 0]), 48, grayscale=True)
            assert np.abs(plain - upright)[inside, inside].mean() > 16


def test_a_model_meets_faces_cut_out_by_the_landmarks_that_it_was_trained_with(
    tmp_path: Path,
) -> None:
    trained, other = (landmarks_file(tmp_path / f"{n}.dat", n) for n in (68, 5))
    picture = np.full((40, 40, 3), 128, np.uint8)
    recipe = Recipe("aligned", 1.0, 16, True, 1.0, landmarks_digest("aligned", trained))
    assert cut_faces([picture], recipe, trained).shape == (1, 1, 16, 16)
    with pytest.raises(DataError, match=r"by the landmarks that their model was trained with"):
        cut_faces([picture], recipe, other)
    assert len(cut_faces([picture], replace(recipe, landmarks=None), other)) == 1
