"""What could spoil a measurement before it begins: pictures that are there twice, or not at all."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtune.data.cache import cached_file, digest
from siamtune.data.decode import DECODE_VERSION, Pictures, Progress, available_threads
from siamtune.data.sources import Source
from siamtune.data.split import PARTS, Split
from siamtune.errors import DataError
from siamtune.folders import default_cache_folder

# Enters the names of files in the cache: raise it when other pictures would be called alike.
VERSION = 1
NAMES_SHOWN = 5
THUMBNAIL_PX = 32
# Of 64 bits. The hash only finds whom to compare.
MOST_BITS_APART = 10
# Correlation of two thumbnails. Of LFW's pictures of different people five pairs reach 0.97, each
# one photograph or two of one moment; the next stand at 0.935 and below, and are two people.
LEAST_LIKENESS = 0.96
PICTURES_AT_ONCE = 512


@dataclass(frozen=True)
class Duplicate:
    """Two pictures that are nearly the same.

    Attributes:
        likeness: correlation of their thumbnails, at most 1.
        one_person: whether they are filed under one name.
        leak: whether some split has the two people in different parts.
    """

    first: str  # person/file
    second: str
    likeness: float
    one_person: bool
    leak: bool


@dataclass(frozen=True)
class Findings:
    """Everything that `check` looks for.

    Attributes:
        single: how many people have one picture: they make no positive pair.
        unreadable: `person/file` of pictures that are empty or damaged.
        ignored: files and folders that are no picture of a person.
    """

    people: int
    pictures: int
    single: int
    unreadable: tuple[str, ...]
    ignored: int
    duplicates: tuple[Duplicate, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        return tuple(pair for pair in self.duplicates if pair.leak)


def check(
    source: Source,
    pictures: Pictures,
    splits: Sequence[Split],
    progress: Progress | None = None,
) -> Findings:
    """Look at all pictures of a source for what would make its numbers mean less.

    Args:
        splits: of the folds that would be evaluated.
        progress: called with what is done, how many pictures are, and of how many.

    Raises:
        DataError: somebody is in two parts of a split, or the cache cannot be written.
    """
    for split in splits:
        require_disjoint(split)
    identities = source.identities[pictures.positions]
    counts = np.bincount(identities, minlength=len(source.names))
    duplicates = duplicates_of(source, pictures, splits, progress)
    return Findings(
        len(source.names),
        len(source.pictures),
        int((counts == 1).sum()),
        pictures.unreadable,
        source.ignored,
        duplicates,
    )


def require_disjoint(split: Split) -> None:
    """Make sure that nobody is in two parts.

    Raises:
        DataError: somebody is; the message names them.
    """
    parts = [getattr(split, part) for part in PARTS]
    people, times = np.unique(np.concatenate(parts), return_counts=True)
    twice = [split.names[person] for person in people[times > 1]]
    if twice:
        more = f" and {len(twice) - NAMES_SHOWN} more" if len(twice) > NAMES_SHOWN else ""
        raise DataError(
            f"nobody may be in two of {', '.join(PARTS)}, but {', '.join(twice[:NAMES_SHOWN])}"
            f"{more} are; split anew"
        )


def duplicates_of(
    source: Source,
    pictures: Pictures,
    splits: Sequence[Split],
    progress: Progress | None = None,
) -> tuple[Duplicate, ...]:
    """Pictures that are nearly the same, the likest first; looked for once a data set.

    Raises:
        DataError: the cache cannot be written.
    """
    identities = source.identities[pictures.positions]
    duplicates = []
    for first, second, likeness in _cached_duplicates(source, pictures, progress):
        people = int(identities[first]), int(identities[second])
        duplicates.append(
            Duplicate(
                source.picture_name(int(pictures.positions[first])),
                source.picture_name(int(pictures.positions[second])),
                round(likeness, 4),
                people[0] == people[1],
                any(_part(split, people[0]) != _part(split, people[1]) for split in splits),
            )
        )
    return tuple(sorted(duplicates, key=lambda pair: -pair.likeness))


def _cached_duplicates(
    source: Source, pictures: Pictures, progress: Progress | None
) -> list[tuple[int, int, float]]:
    def write(path: Path) -> None:
        path.write_text(json.dumps(near_duplicates(thumbnails(pictures, progress))))

    def read(path: Path) -> list[tuple[int, int, float]]:
        return [
            (int(a), int(b), float(likeness)) for a, b, likeness in json.loads(path.read_text())
        ]

    name = f"{digest(VERSION, DECODE_VERSION, source.fingerprint)}.json"
    return cached_file(default_cache_folder() / "duplicates" / name, read, write)


def thumbnails(pictures: Pictures, progress: Progress | None = None) -> NDArray[np.float32]:
    """(M, 32, 32) luminance of every picture, squeezed to a square."""
    small = np.empty((len(pictures), THUMBNAIL_PX, THUMBNAIL_PX), np.float32)

    def shrink(start: int) -> None:
        for i in range(start, min(start + PICTURES_AT_ONCE, len(pictures))):
            gray = cv2.cvtColor(pictures.picture(i), cv2.COLOR_RGB2GRAY)
            small[i] = cv2.resize(gray, small.shape[1:], interpolation=cv2.INTER_AREA)

    starts = range(0, len(pictures), PICTURES_AT_ONCE)
    with ThreadPoolExecutor(available_threads()) as pool:  # OpenCV lets go of the GIL
        for start, _ in zip(starts, pool.map(shrink, starts), strict=True):
            if progress:
                done = min(start + PICTURES_AT_ONCE, len(pictures))
                progress("looking for duplicates", done, len(pictures))
    return small


def near_duplicates(small: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """Pairs of thumbnails (M, 32, 32) that show one picture, and how alike they are.

    Every pair whose hashes differ in few bits is compared by its correlation.
    """
    hashes = perceptual_hashes(small)
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)  # one shade: unlike all
    found = []
    for start in range(0, len(hashes), PICTURES_AT_ONCE):
        rows = hashes[start : start + PICTURES_AT_ONCE, None]
        apart = np.bitwise_count(rows ^ hashes[None, start:])
        for first, second in np.argwhere(apart <= MOST_BITS_APART) + start:
            if first < second:
                likeness = float(flat[first] @ flat[second])
                if likeness >= LEAST_LIKENESS:
                    found.append((int(first), int(second), likeness))
    return found


def perceptual_hashes(small: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64 bits (M,) a thumbnail: which of its lowest frequencies are above their median.

    The cosine transform's hash of Zauner (2010); brightness and contrast do not enter it.
    """
    low = np.stack([cv2.dct(thumbnail)[:9, :9].ravel()[1:65] for thumbnail in small])
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def _part(split: Split, identity: int) -> str | None:
    return next((part for part in PARTS if identity in getattr(split, part)), None)
