"""Where the face is in each picture, and cutting it out.

A box is `(left, top, width, height)` in pixels of the picture; it may reach beyond the picture,
whose border then continues.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from math import nan
from pathlib import Path
from threading import get_ident
from typing import Any

import cv2
import dlib
import numpy as np
from cv2.data import haarcascades
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray

from siamtune.data.decode import Pictures
from siamtune.errors import DataError

Box = tuple[float, float, float, float]
Indices = NDArray[np.int64]
Boxes = NDArray[np.float64]  # (N, 4)
Picture = NDArray[Any]  # (height, width, 3) uint8, RGB
Finder = Callable[[Picture], Box | None]

# dlib's detector knows faces of 80 pixels and more; of smaller pictures it sees twice the size.
SMALL_PICTURE_PX = 200
LANDMARKS = 68
NOSE_TIP = 30
LANDMARKS_CURE = (
    "download shape_predictor_68_face_landmarks.dat from http://dlib.net/files, unpack it and give "
    "its path as landmarks"
)
PICTURES_AT_ONCE = 32
# A photograph is framed as those of the training where a face lies no farther from the middle of
# the central box, in its sides, and is larger or smaller by no more than this factor.
FRAMED_SHIFT, FRAMED_SCALE = 0.2, 1.25
DETECTION_PX = 640  # faces of a larger photograph are looked for in a reduced one
SMALLEST_PHOTOGRAPH_PX = 48  # in smaller ones the detector's window finds no place
SMALLEST_FACE = 0.1  # side, of the shorter side of a photograph
NOT_FOUND: Box = (nan, nan, nan, nan)


def find_faces(
    pictures: Pictures,
    detector: str,
    landmarks: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Boxes:
    """The biggest face of each picture by one of `DETECTORS`, NaN where none is found.

    Args:
        landmarks: the file of dlib's 68-point predictor, for `trees`.
        progress: hears how many pictures are done, of how many.

    Raises:
        DataError: the file of the predictor is missing or another one.
    """
    model = None
    if detector == "trees":
        model = landmarks_digest(landmarks)
        _trees(landmarks)  # refuse here what every worker would refuse
    starts = range(0, len(pictures), PICTURES_AT_ONCE)
    parts = (
        [pictures.picture(i) for i in range(start, min(start + PICTURES_AT_ONCE, len(pictures)))]
        for start in starts
    )
    # OpenCV lets other threads run while it works, dlib needs processes of its own.
    workers = Parallel(
        n_jobs=min(cpu_count(), len(starts)),
        backend="threading" if detector == "haar" else "loky",
        return_as="generator",
    )
    boxes: list[Box] = []
    for part in workers(delayed(_find)(detector, landmarks, model, part) for part in parts):
        boxes += part
        progress(len(boxes), len(pictures))
    return np.array(boxes, np.float64).reshape(-1, 4)


def landmarks_digest(path: Path | None) -> str:
    """Names a predictor's file by its content.

    Raises:
        DataError: there is no such file.
    """
    if path is None or not path.is_file():
        raise DataError(
            f"the crop trees needs the file of a {LANDMARKS}-point predictor, but got {path}; "
            f"{LANDMARKS_CURE}"
        )
    state = path.stat()
    return _content_digest(path, state.st_size, state.st_mtime_ns)


@cache
def _content_digest(path: Path, size: int, time_ns: int) -> str:
    """Read the hundred megabytes of a predictor once a process, not once a trial."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(
    detector: str, landmarks: Path | None, model: str | None, pictures: list[Picture]
) -> list[Box]:
    find = _finder(detector, landmarks, model, get_ident())
    return [find(picture) or NOT_FOUND for picture in pictures]


@cache
def _finder(detector: str, landmarks: Path | None, model: str | None, thread: int) -> Finder:
    """One a thread, because detectors compute in themselves, and a content of the landmarks."""
    return DETECTORS[detector](landmarks)


def _frontal_faces() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(Path(haarcascades) / "haarcascade_frontalface_default.xml"))


@cache
def _frontal_faces_of(thread: int) -> cv2.CascadeClassifier:
    """One a thread, because it computes in itself."""
    return _frontal_faces()


def _haar(landmarks: Path | None) -> Finder:
    """Viola and Jones 2001, with OpenCV's frontal faces and the scale factor of 2016."""
    cascade = _frontal_faces()

    def find(picture: Picture) -> Box | None:
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        faces = cascade.detectMultiScale(gray, scaleFactor=1.2)
        if not len(faces):
            return None
        left, top, width, height = max(faces, key=lambda face: face[2] * face[3])
        return float(left), float(top), float(width), float(height)

    return find


def _hog(landmarks: Path | None) -> Finder:
    """dlib's frontal detector (Dalal and Triggs 2005; King 2015), as a square about its centre."""
    detect = _dlib_detector()

    def find(picture: Picture) -> Box | None:
        face = detect(picture)
        if face is None:
            return None
        centre = face.dcenter()
        return _square(max(face.width(), face.height()), centre.x, centre.y)

    return find


def _trees(landmarks: Path | None) -> Finder:
    """A square about the nose tip, as large as dlib's box and the box of the 68 landmarks.

    The landmarks come from an ensemble of regression trees (Kazemi and Sullivan 2014).
    """
    try:
        predict = dlib.shape_predictor(str(landmarks))
        points = predict(np.zeros((8, 8), np.uint8), dlib.rectangle(0, 0, 7, 7)).num_parts
    except RuntimeError as error:
        raise DataError(
            f"{landmarks} must be a 68-point predictor of dlib, but is not ({error}); "
            f"{LANDMARKS_CURE}"
        ) from None
    if points != LANDMARKS:
        raise DataError(
            f"{landmarks} must be a predictor of {LANDMARKS} points, but has {points}; "
            f"{LANDMARKS_CURE}"
        )
    detect = _dlib_detector()

    def find(picture: Picture) -> Box | None:
        face = detect(picture)
        if face is None:
            return None
        shape = predict(picture, face)
        points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
        side = max(face.width(), face.height(), *np.ptp(points, axis=0))
        return _square(side, *points[NOSE_TIP])

    return find


def _dlib_detector() -> Callable[[Picture], Any]:
    detect = dlib.get_frontal_face_detector()

    def biggest(picture: Picture) -> Any:
        upsample = int(min(picture.shape[:2]) < SMALL_PICTURE_PX)
        return max(detect(picture, upsample), key=lambda face: face.area(), default=None)

    return biggest


def _square(side: float, centre_x: float, centre_y: float) -> Box:
    return (centre_x - side / 2, centre_y - side / 2, side, side)


DETECTORS: dict[str, Callable[[Path | None], Finder]] = {
    "haar": _haar,
    "hog": _hog,
    "trees": _trees,
}


def central_boxes(heights: Indices, widths: Indices, face_box: float) -> Boxes:
    """Centred squares whose side is `face_box` of the shorter side of pictures `(N,)`."""
    sides = face_box * np.minimum(heights, widths)
    return np.stack([(widths - sides) / 2, (heights - sides) / 2, sides, sides], axis=1)


def photograph_box(picture: Picture, central: NDArray[np.float64]) -> NDArray[np.float64]:
    """The central box `(4,)` where a face lies in it, else the biggest face, if there is one.

    For pictures that may be framed otherwise than those of LFW, whose central square is the box of
    Viola and Jones's detector: of 150 of its pictures the detector finds a face in 147, off the
    centre by 2 % and in size by 7 % of that square (standard deviations).
    """
    if min(picture.shape[:2]) < SMALLEST_PHOTOGRAPH_PX:
        return central
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    factor = min(1.0, DETECTION_PX / max(gray.shape))
    if factor < 1:
        gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    expected = central * factor
    # Few windows near the centre are soon looked through: most pictures end here.
    face = _face_near(gray, expected, 1.2)
    if face is not None and np.abs(_middle(face) - _middle(expected)).max() <= (
        FRAMED_SHIFT * expected[2]
    ):
        return central
    smallest = int(SMALLEST_FACE * min(gray.shape))
    faces = _frontal_faces_of(get_ident()).detectMultiScale(
        gray, scaleFactor=1.2, minSize=(smallest, smallest)
    )
    if not len(faces):
        return central
    biggest = np.array(max(faces, key=lambda face: face[2] * face[3]), np.float64)
    # Steps of a fifth are too coarse for a network; finer ones near the face are cheap.
    finer = _face_near(gray, biggest, 1.04)
    return (biggest if finer is None else finer) / factor


def _face_near(
    gray: NDArray[Any], box: NDArray[np.float64], step: float
) -> NDArray[np.float64] | None:
    """The face nearest to a box and not much larger or smaller, its size in steps of `step`."""
    side = box[2]
    left, top = np.maximum(0, _middle(box) - side).astype(int)
    right, bottom = (_middle(box) + side).astype(int)
    smallest, largest = int(side / FRAMED_SCALE), int(side * FRAMED_SCALE)
    faces = _frontal_faces_of(get_ident()).detectMultiScale(
        gray[top:bottom, left:right], scaleFactor=step,
        minSize=(smallest, smallest), maxSize=(largest, largest),
    )  # fmt: skip
    if not len(faces):
        return None
    found = np.add(faces, (left, top, 0, 0), dtype=np.float64)
    return min(found, key=lambda face: float(np.abs(_middle(face) - _middle(box)).max()))


def _middle(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return box[:2] + box[2:] / 2


def whole_boxes(heights: Indices, widths: Indices) -> Boxes:
    """The whole of pictures `(N,)`: what is not square will be squeezed."""
    zeros = np.zeros(len(heights))
    return np.stack([zeros, zeros, widths, heights], axis=1)


def scaled(boxes: Boxes, factor: float) -> Boxes:
    """Boxes `factor` times as wide and high, about the same centres."""
    corner, size = boxes[:, :2], boxes[:, 2:]
    return np.hstack([corner + size * (1 - factor) / 2, size * factor])


def cut(picture: Picture, box: NDArray[np.float64], side_px: int, grayscale: bool) -> Picture:
    """The pixels in a box, squeezed to `(side_px, side_px)` of luminance or `(..., 3)` of colour.

    Beyond the picture its border continues.
    """
    height, width = picture.shape[:2]
    # Whole pixels, one at least of which is in the picture.
    left, top, columns, rows = map(round, box.tolist())  # numpy takes longer for single numbers
    columns, rows = max(1, columns), max(1, rows)
    left, top = min(max(left, 1 - columns), width - 1), min(max(top, 1 - rows), height - 1)
    face = picture[max(top, 0) : top + rows, max(left, 0) : left + columns]
    if grayscale:
        face = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    if face.shape[:2] != (rows, columns):
        face = cv2.copyMakeBorder(
            face,
            max(-top, 0),
            max(top + rows - height, 0),
            max(-left, 0),
            max(left + columns - width, 0),
            cv2.BORDER_REPLICATE,
        )
    shrinks = min(rows, columns) >= side_px
    return cv2.resize(
        face,
        (side_px, side_px),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
