"""Where the face is in each picture, and cutting it out.

A box is `(left, top, width, height, turn)` in pixels of the picture; it may reach beyond the
picture, whose border then continues. It is turned about its centre by so many degrees, clockwise.
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

Box = tuple[float, float, float, float, float]
Indices = NDArray[np.int64]
Boxes = NDArray[np.float64]  # (N, 5)
Picture = NDArray[Any]  # (height, width, 3) uint8, RGB
Finder = Callable[[Picture], Box | None]

# dlib's detector knows faces of 80 pixels and more; of smaller pictures it sees twice the size.
SMALL_PICTURE_PX = 200
# How many points a predictor of dlib's may have for the crops that need one.
LANDMARKS = {"trees": (68,), "aligned": (5, 68)}
NOSE_TIP = 30
# The corners of both eyes and the base of the nose: dlib's five points, as places among the 68.
FIVE_POINTS = (45, 42, 36, 39, 33)
# Where they lie in a box, of side one, on the average of LFW's development people (peopleDevTrain,
# deep funneled; found by the 68-point predictor, left and right averaged) in the central box: an
# aligned face is cut as the centre cuts an average picture of LFW.
AVERAGE_FACE = np.array(
    [(0.7482, 0.4028), (0.6085, 0.4084), (0.2518, 0.4028), (0.3915, 0.4084), (0.5, 0.6774)]
)
PICTURES_AT_ONCE = 32
# A photograph is framed as those of the training where a face lies no farther from the middle of
# the central box, in its sides, and is larger or smaller by no more than this factor.
FRAMED_SHIFT, FRAMED_SCALE = 0.2, 1.25
DETECTION_PX = 640  # faces of a larger photograph are looked for in a reduced one
SMALLEST_PHOTOGRAPH_PX = 48  # in smaller ones the detector's window finds no place
SMALLEST_FACE = 0.1  # side, of the shorter side of a photograph
NOT_FOUND: Box = (nan, nan, nan, nan, nan)


def find_faces(
    pictures: Pictures,
    detector: str,
    landmarks: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Boxes:
    """The biggest face of each picture by one of `DETECTORS`, NaN where none is found.

    Args:
        landmarks: the file of dlib's predictor, for those in `LANDMARKS`.
        progress: hears how many pictures are done, of how many.

    Raises:
        DataError: the file of the predictor is missing or another one.
    """
    model = None
    if detector in LANDMARKS:
        model = landmarks_digest(detector, landmarks)
        DETECTORS[detector](landmarks)  # refuse here what every worker would refuse
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
    return np.array(boxes, np.float64).reshape(-1, 5)


def landmarks_digest(crop: str, path: Path | None) -> str | None:
    """Names the predictor's file that a crop needs by its content; None where it needs none.

    Raises:
        DataError: there is no such file.
    """
    if crop not in LANDMARKS:
        return None
    if path is None or not path.is_file():
        raise DataError(
            f"the crop {crop} needs the file of dlib's predictor of {_points_for(crop)} points, "
            f"but got {path}; {_cure(crop)}"
        )
    state = path.stat()
    return _content_digest(path, state.st_size, state.st_mtime_ns)


def _points_for(crop: str) -> str:
    return " or ".join(map(str, LANDMARKS[crop]))


def _cure(crop: str) -> str:
    names = [f"shape_predictor_{count}_face_landmarks.dat" for count in LANDMARKS[crop]]
    return (
        f"download {' or '.join(names)} from http://dlib.net/files, unpack it and give its path "
        "as landmarks, on a command line with --landmarks"
    )


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
        return float(left), float(top), float(width), float(height), 0.0

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

    def box(face: Any, points: NDArray[np.float64]) -> Box:
        side = max(face.width(), face.height(), *np.ptp(points, axis=0))
        return _square(side, *points[NOSE_TIP])

    return _by_landmarks("trees", landmarks, box)


def _aligned(landmarks: Path | None) -> Finder:
    """A square that is shifted, turned and as large as puts eyes and nose nearest to their places.

    Nearest in least squares over five landmarks (Umeyama 1991); they come from the trees as well.
    """

    def box(face: Any, points: NDArray[np.float64]) -> Box | None:
        five = points if len(points) == 5 else points[list(FIVE_POINTS)]
        return aligned_box(five + 0.5)  # a pixel's middle; boxes count from its corner

    return _by_landmarks("aligned", landmarks, box)


def aligned_box(points: NDArray[np.float64]) -> Box | None:
    """The square that fits `AVERAGE_FACE` to five points `(5, 2)`; None if they are all one."""
    # In the complex plane a rotation with scaling is one factor, and least squares one division.
    face, template = points @ (1, 1j), AVERAGE_FACE @ (1, 1j)
    around = template - template.mean()
    factor = np.vdot(around, face - face.mean()) / np.vdot(around, around)
    centre = face.mean() + factor * (0.5 + 0.5j - template.mean())
    side = float(np.abs(factor))
    turn = float(np.degrees(np.angle(factor)))
    return _square(side, centre.real, centre.imag, turn) if side > 0 else None


def _by_landmarks(
    crop: str, landmarks: Path | None, box: Callable[[Any, NDArray[np.float64]], Box | None]
) -> Finder:
    """Finds by dlib's rectangle about the biggest face and the landmarks `(points, 2)` in it.

    Raises:
        DataError: the file holds no predictor of so many points as the crop needs.
    """
    wanted = _points_for(crop)
    try:
        predict = dlib.shape_predictor(str(landmarks))
        count = predict(np.zeros((8, 8), np.uint8), dlib.rectangle(0, 0, 7, 7)).num_parts
    except RuntimeError as error:
        raise DataError(
            f"{landmarks} must be dlib's predictor of {wanted} points, but is not ({error}); "
            f"{_cure(crop)}"
        ) from None
    if count not in LANDMARKS[crop]:
        raise DataError(
            f"{landmarks} must be a predictor of {wanted} points, but has {count}; {_cure(crop)}"
        )

    detect = _dlib_detector()

    def find(picture: Picture) -> Box | None:
        face = detect(picture)
        if face is None:
            return None
        points = [(point.x, point.y) for point in predict(picture, face).parts()]
        return box(face, np.array(points, np.float64))

    return find


def _dlib_detector() -> Callable[[Picture], Any]:
    detect = dlib.get_frontal_face_detector()

    def biggest(picture: Picture) -> Any:
        upsample = int(min(picture.shape[:2]) < SMALL_PICTURE_PX)
        return max(detect(picture, upsample), key=lambda face: face.area(), default=None)

    return biggest


def _square(side: float, centre_x: float, centre_y: float, turn: float = 0.0) -> Box:
    return centre_x - side / 2, centre_y - side / 2, side, side, turn


DETECTORS: dict[str, Callable[[Path | None], Finder]] = {
    "haar": _haar,
    "hog": _hog,
    "trees": _trees,
    "aligned": _aligned,
}


def central_boxes(heights: Indices, widths: Indices, face_box: float) -> Boxes:
    """Centred squares whose side is `face_box` of the shorter side of pictures `(N,)`."""
    sides = face_box * np.minimum(heights, widths)
    upright = np.zeros(len(sides))
    return np.stack([(widths - sides) / 2, (heights - sides) / 2, sides, sides, upright], axis=1)


def photograph_box(picture: Picture, central: NDArray[np.float64]) -> NDArray[np.float64]:
    """The central box `(5,)` where a face lies in it, else the biggest face, if there is one.

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
    biggest = np.array([*max(faces, key=lambda face: face[2] * face[3]), 0], np.float64)
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
    found = np.pad(np.add(faces, (left, top, 0, 0), dtype=np.float64), ((0, 0), (0, 1)))
    return min(found, key=lambda face: float(np.abs(_middle(face) - _middle(box)).max()))


def _middle(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return box[:2] + box[2:4] / 2


def whole_boxes(heights: Indices, widths: Indices) -> Boxes:
    """The whole of pictures `(N,)`: what is not square will be squeezed."""
    zeros = np.zeros(len(heights))
    return np.stack([zeros, zeros, widths, heights, zeros], axis=1)


def scaled(boxes: Boxes, factor: float) -> Boxes:
    """Boxes `factor` times as wide and high, about the same centres."""
    corner, size, turn = boxes[:, :2], boxes[:, 2:4], boxes[:, 4:]
    return np.hstack([corner + size * (1 - factor) / 2, size * factor, turn])


def cut(picture: Picture, box: NDArray[np.float64], side_px: int, grayscale: bool) -> Picture:
    """The pixels in a box, squeezed to `(side_px, side_px)` of luminance or `(..., 3)` of colour.

    Beyond the picture its border continues.
    """
    if box[4] != 0:
        picture = _upright(picture, box)
        box = np.array([0, 0, picture.shape[1], picture.shape[0], 0])
    height, width = picture.shape[:2]
    # Whole pixels, one at least of which is in the picture.
    left, top, columns, rows = map(round, box[:4].tolist())  # numpy takes longer for single numbers
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


def _upright(picture: Picture, box: NDArray[np.float64]) -> Picture:
    """The pixels in a turned box as they are when it is turned back, as many as lie in it."""
    left, top, width, height, turn = box.tolist()
    columns, rows = max(1, round(width)), max(1, round(height))
    # From the middles of these pixels to places in the picture, where a pixel's middle is whole.
    along = np.exp(1j * np.radians(turn))
    right, down = along * width / columns, along * 1j * height / rows
    centre = complex(left + width / 2 - 0.5, top + height / 2 - 0.5)
    first = centre - right * (columns - 1) / 2 - down * (rows - 1) / 2
    matrix = [[part.real for part in (right, down, first)],
              [part.imag for part in (right, down, first)]]  # fmt: skip
    turned: Picture = cv2.warpAffine(
        picture, np.array(matrix), (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return turned
