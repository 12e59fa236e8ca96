"""Faces of single pictures, cut out as those that a network was trained on."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtune.config import Crop
from siamtune.data.boxes import (
    Boxes,
    central_boxes,
    cut,
    find_faces,
    landmarks_digest,
    photograph_box,
    scaled,
    whole_boxes,
)
from siamtune.data.decode import Pictures, available_threads, rgb_picture
from siamtune.errors import DataError

NAMES_SHOWN = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes what a network sees; `prepare` does the same to a whole source.

    Attributes:
        face_box: side of the centred square that holds the face, as a fraction of the shorter side
            of a picture; where no face is found it takes its place.
        landmarks: digest of dlib's predictor that cut out what was trained on, where that is known:
            another one cuts other faces.
    """

    style: Crop
    factor: float
    resolution_px: int
    grayscale: bool
    face_box: float
    landmarks: str | None = None

    @property
    def channels(self) -> int:
        return 1 if self.grayscale else 3


def read_pictures(
    pictures: Sequence[Path | NDArray[np.uint8]],
) -> tuple[list[NDArray[Any]], list[int]]:
    """The readable ones as `(H, W, 3)` RGB, and the positions of the others.

    Raises:
        DataError: an array is no picture.
    """
    for picture in pictures:
        if isinstance(picture, np.ndarray):
            _check_array(picture)
    with ThreadPoolExecutor(available_threads()) as pool:  # OpenCV lets go of the GIL
        read = list(pool.map(rgb_picture, pictures))
    return (
        [picture for picture in read if picture is not None],
        [position for position, picture in enumerate(read) if picture is None],
    )


def cut_faces(
    pictures: Sequence[NDArray[Any]],
    recipe: Recipe,
    landmarks: Path | None = None,
    names: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """`(N, C, R, R)` faces of photographs `(H, W, 3)` RGB; see `photograph_boxes`."""
    return cut_boxes(pictures, photograph_boxes(pictures, recipe, landmarks, names), recipe)


def photograph_boxes(
    pictures: Sequence[NDArray[Any]],
    recipe: Recipe,
    landmarks: Path | None = None,
    names: Sequence[str] | None = None,
) -> Boxes:
    """As `face_boxes`, for photographs `(H, W, 3)` RGB that may be framed in any way.

    A recipe that cuts out a part of the centre trusts that the face is there, as it is in the
    pictures of its training. Where it is not, the biggest face stands in.
    """
    if recipe.style != "center" or recipe.face_box >= 1:
        return face_boxes(pictures, recipe, landmarks, names)
    central = _unscaled_boxes(pictures, recipe, landmarks, names)
    with ThreadPoolExecutor(available_threads()) as pool:  # OpenCV lets go of the GIL
        return scaled(np.stack(list(pool.map(photograph_box, pictures, central))), recipe.factor)


def cut_boxes(pictures: Sequence[NDArray[Any]], boxes: Boxes, recipe: Recipe) -> NDArray[np.uint8]:
    """`(N, C, R, R)` what lies in the boxes `(N, 5)` of pictures `(H, W, 3)` RGB."""
    side_px = recipe.resolution_px
    faces = np.empty((len(pictures), recipe.channels, side_px, side_px), np.uint8)
    for face, picture, box in zip(faces, pictures, boxes, strict=True):
        pixels = cut(picture, box, side_px, recipe.grayscale)
        face[:] = pixels if recipe.grayscale else pixels.transpose(2, 0, 1)
    return faces


def face_boxes(
    pictures: Sequence[NDArray[Any]],
    recipe: Recipe,
    landmarks: Path | None = None,
    names: Sequence[str] | None = None,
) -> Boxes:
    """Where to cut, `(N, 5)`, in pictures `(H, W, 3)` RGB.

    Where the detector finds no face it is the centre, which a warning of the log tells.

    Args:
        landmarks: the file of dlib's predictor; the crops `trees` and `aligned` need it.
        names: of the pictures, for the warning; without them there is none.

    Raises:
        DataError: the predictor's file is missing where it is needed, or is another one.
    """
    return scaled(_unscaled_boxes(pictures, recipe, landmarks, names), recipe.factor)


def _unscaled_boxes(
    pictures: Sequence[NDArray[Any]],
    recipe: Recipe,
    landmarks: Path | None,
    names: Sequence[str] | None,
) -> Boxes:
    heights, widths = np.array([picture.shape[:2] for picture in pictures], np.int64).T
    if recipe.style == "none":
        return whole_boxes(heights, widths)
    central = central_boxes(heights, widths, recipe.face_box)
    if recipe.style == "center":
        return central
    given = landmarks_digest(recipe.style, landmarks)
    if recipe.landmarks not in (None, given):
        raise DataError(
            "faces must be cut out by the landmarks that their model was trained with (a file of "
            f"sha256 {recipe.landmarks[:12]}...), but {landmarks} is another file"
        )
    found = find_faces(_packed(pictures, heights, widths), recipe.style, landmarks)
    missing = np.isnan(found[:, 0])
    if names and missing.any():
        places = np.flatnonzero(missing)
        shown = [names[place] for place in places[:NAMES_SHOWN]]
        more = f" and {len(places) - NAMES_SHOWN} more" if len(places) > NAMES_SHOWN else ""
        logger.warning(
            "%s found no face in %s%s; the centre was taken", recipe.style, ", ".join(shown), more
        )
    return np.where(missing[:, None], central, found)


def _packed(
    pictures: Sequence[NDArray[Any]], heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> Pictures:
    """The pictures as the detectors read them: one after the other."""
    sizes = heights * widths * 3
    pixels = np.concatenate([picture.ravel() for picture in pictures])
    return Pictures(pixels, np.cumsum(sizes) - sizes, heights, widths, np.arange(len(pictures)), ())


def _check_array(picture: NDArray[Any]) -> None:
    shaped = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if not shaped or picture.dtype != np.uint8 or not picture.size:
        raise DataError(
            "a picture must be a path or a uint8 array, (height, width) gray or "
            f"(height, width, 3) RGB, but got {picture.dtype} {picture.shape}"
        )
