"""Faces as a network wants them: cut out, resized, split, with a fitted normalization.

Whatever depends on few dials is computed once on a machine and kept in the cache: the decoded
pictures of a source, the boxes of a detector, the faces of one variant (crop, factor, resolution,
colour), the normalization of one variant and split.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from siamtune.config import Crop, DataConfig, NormalizationName
from siamtune.data.boxes import (
    Boxes,
    central_boxes,
    cut,
    find_faces,
    landmarks_digest,
    scaled,
    whole_boxes,
)
from siamtune.data.cache import cache_limit_bytes, cached_array, cached_file, digest, prune
from siamtune.data.decode import (
    Pictures,
    Progress,
    available_threads,
    decode,
    listing,
    pixels_name,
)
from siamtune.data.normalization import Normalization, fit_normalization, restore_normalization
from siamtune.data.sources import Source
from siamtune.data.split import PARTS, Split, split_identities
from siamtune.errors import CheckpointError
from siamtune.folders import default_cache_folder

# Enters the names of files in the cache: raise it when boxes, cuts or fits change.
VERSION = 1
PICTURES_AT_ONCE = 256


@dataclass(frozen=True)
class CropFacts:
    """How faces were cut out; where no face was found, the box of `center` took its place."""

    style: Crop
    factor: float
    faces_not_found: int
    face_box: float = 1.0  # of the source: side of the central box over a picture's shorter side
    landmarks: str | None = None  # digest of dlib's predictor, where one was used


@dataclass(frozen=True, eq=False)
class Faces:
    """Pictures of people, ready for a network, and who may be trained on.

    Attributes:
        images: `(N, C, R, R)` uint8, memory-mapped and read-only; C is 1, or 3 for RGB.
        identities: `(N,)` index into `names`.
        normalization: fitted on training identities; `(B, C, R, R)` floats in [0, 255] to floats.
        source: "demo", "lfw", "olivetti" or the folder's name.
    """

    images: NDArray[np.uint8]
    identities: NDArray[np.int64]
    names: tuple[str, ...]
    split: Split
    normalization: Normalization
    source: str
    crop: CropFacts

    def indices(self, part: str) -> NDArray[np.int64]:
        """Sorted indices of the pictures of "train", "validation" or "test" people."""
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, but got {part!r}")
        return np.flatnonzero(np.isin(self.identities, getattr(self.split, part)))

    @property
    def undetected(self) -> str:
        """In how many pictures the crop found no face, in words; empty if in all."""
        missed = self.crop.faces_not_found
        if not missed:
            return ""
        return (
            f"{self.crop.style} found no face in {missed:,} of {len(self.identities):,} pictures; "
            "there the center box stands in"
        )


def prepare(
    source: Source,
    config: DataConfig,
    *,
    split_seed: int = 0,
    split: Split | None = None,
    cache_folder: Path | None = None,
    landmarks: Path | None = None,
    progress: Progress | None = None,
) -> Faces:
    """The faces of a source as `config` wants them, from the cache or made and put there.

    Processes that want the same wait for the first; files of the cache unused for longest are
    removed beyond `$SIAMTUNE_CACHE_LIMIT_GB` (20).

    Args:
        split: who trains; default a share of the identities, chosen by `split_seed`.
        cache_folder: default `$SIAMTUNE_CACHE`, or the place that the system has for caches.
        landmarks: the file of dlib's predictor; the crops `trees` and `aligned` need it.
        progress: called with what is done, how many pictures are, and of how many.

    Raises:
        DataError: too few people or readable pictures, a missing landmarks file, a cache folder
            that is full or cannot be written.
    """
    tell = progress or (lambda what, done, total: None)
    folder = cache_folder or default_cache_folder()
    limit_bytes = cache_limit_bytes()
    pictures = decode(source, folder, progress)
    identities = source.identities[pictures.positions]
    if split is None:
        split = split_identities(
            identities, source.names, seed=split_seed, pictures=listing(source, pictures)
        )

    model = landmarks_digest(config.crop, landmarks)
    boxes, faces_not_found = _boxes(source, pictures, config.crop, landmarks, model, folder, tell)
    images_path, images = _images(source, pictures, boxes, config, model, folder, tell)
    normalization_path, normalization = _normalization(
        images_path, images, identities, split, config.normalization, folder
    )
    _prune(folder, limit_bytes, pictures, {images_path, normalization_path})
    return Faces(
        images,
        identities,
        source.names,
        split,
        normalization,
        source.name,
        CropFacts(config.crop, config.crop_factor, faces_not_found, source.face_box, model),
    )


def _boxes(
    source: Source,
    pictures: Pictures,
    crop: Crop,
    landmarks: Path | None,
    model: str | None,
    folder: Path,
    tell: Progress,
) -> tuple[Boxes, int]:
    """A box for each picture, and how many of them stand in for a face that was not found."""
    if crop == "none":
        return whole_boxes(pictures.heights, pictures.widths), 0
    central = central_boxes(pictures.heights, pictures.widths, source.face_box)
    if crop == "center":
        return central, 0

    def fill(out: NDArray[np.float64]) -> None:
        out[:] = find_faces(
            pictures, crop, landmarks, lambda done, total: tell("finding faces", done, total)
        )

    path = boxes_path(source, crop, model, folder)
    found = cached_array(path, (len(pictures), 5), np.float64, fill)
    missing = np.isnan(found).any(axis=1)
    return np.where(missing[:, None], central, found), int(missing.sum())


def boxes_path(source: Source, crop: Crop, model: str | None, folder: Path) -> Path:
    """Where the boxes of a detector lie; `model` is the digest of its landmarks, if it has any."""
    return folder / "boxes" / f"{crop}-{digest(VERSION, pixels_name(source), model)}.npy"


def variant_path(source: Source, config: DataConfig, model: str | None, folder: Path) -> Path:
    """Where the faces of a variant lie."""
    colour = "gray" if config.grayscale else "rgb"
    what = (config.crop, config.crop_factor, config.resolution_px, colour)
    content = digest(VERSION, pixels_name(source), source.face_box, model, *what)
    name = f"{config.crop}-{config.crop_factor:g}-{config.resolution_px}px-{colour}-{content}.npy"
    return folder / "variants" / name


def _images(
    source: Source,
    pictures: Pictures,
    boxes: Boxes,
    config: DataConfig,
    model: str | None,
    folder: Path,
    tell: Progress,
) -> tuple[Path, NDArray[np.uint8]]:
    count, side_px = len(pictures), config.resolution_px
    boxes = scaled(boxes, config.crop_factor)

    def fill(out: NDArray[np.uint8]) -> None:
        def cut_some(start: int) -> None:
            for i in range(start, min(start + PICTURES_AT_ONCE, count)):
                face = cut(pictures.picture(i), boxes[i], side_px, config.grayscale)
                out[i] = face if config.grayscale else face.transpose(2, 0, 1)

        starts = range(0, count, PICTURES_AT_ONCE)
        with ThreadPoolExecutor(available_threads()) as pool:  # OpenCV lets go of the GIL
            for start, _ in zip(starts, pool.map(cut_some, starts), strict=True):
                tell("cutting out faces", min(start + PICTURES_AT_ONCE, count), count)

    path = variant_path(source, config, model, folder)
    shape = (count, 1 if config.grayscale else 3, side_px, side_px)
    return path, cached_array(path, shape, np.uint8, fill)


def _normalization(
    images_path: Path,
    images: NDArray[np.uint8],
    identities: NDArray[np.int64],
    split: Split,
    name: NormalizationName,
    folder: Path,
) -> tuple[Path, Normalization]:
    _, channels, height, width = images.shape

    def read(path: Path) -> Normalization:
        try:
            return restore_normalization(name, (channels, height, width), load_file(path))
        except (SafetensorError, CheckpointError) as error:
            raise ValueError(str(error)) from error

    def write(path: Path) -> None:
        train = np.flatnonzero(np.isin(identities, split.train))
        save_file(fit_normalization(name, images, train, seed=split.seed).state_dict(), path)

    content = digest(VERSION, images_path.name, name, split.digest)
    path = folder / "normalizations" / f"{name}-{content}.safetensors"
    return path, cached_file(path, read, write)


def _prune(folder: Path, limit_bytes: float, pictures: Pictures, in_use: set[Path]) -> None:
    """Keep the cache within its limit; boxes stay, they are small and take long."""
    assert isinstance(pictures.pixels, np.memmap)
    decoded = Path(str(pictures.pixels.filename)).parent
    with suppress(OSError):
        os.utime(decoded)
    folders = [folder / "variants", folder / "normalizations", folder / "pictures"]
    prune(folders, limit_bytes, in_use=in_use | {decoded})
