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
from siamtune.data.decode import Pictures, Progress, available_threads, pixels_name
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
TILE = 2048  # hashes that are compared with as many others at once


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

    name = f"{digest(VERSION, pixels_name(source))}.json"
    return cached_file(default_cache_folder() / "duplicates" / name, read, write)


def thumbnails(pictures: Pictures, progress: Progress | None = None) -> NDArray[np.uint8]:
    """(M, 32, 32) luminance of every picture, squeezed to a square."""
    small = np.empty((len(pictures), THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)

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


def near_duplicates(small: NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """Pairs of thumbnails (M, 32, 32) that show one picture, and how alike they are.

    Every pair whose hashes differ in few bits is compared by its correlation. Hashes are compared
    in tiles, so that memory does not grow with the square of the pictures.
    """
    hashes = perceptual_hashes(small)
    found = []
    for top in range(0, len(hashes), TILE):
        for left in range(top, len(hashes), TILE):
            apart = np.bitwise_count(
                hashes[top : top + TILE, None] ^ hashes[None, left : left + TILE]
            )
            for first, second in np.add(np.argwhere(apart <= MOST_BITS_APART), (top, left)):
                if first < second:
                    likeness = _correlation(small[first], small[second])
                    if likeness >= LEAST_LIKENESS:
                        found.append((int(first), int(second), likeness))
    return sorted(found)


def _correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Of two thumbnails; 0 where one is of a single shade, which is like nothing."""
    flat = [each.astype(np.float64).ravel() - each.mean() for each in (first, second)]
    lengths = [float(np.linalg.norm(each)) for each in flat]
    return float(flat[0] @ flat[1]) / (lengths[0] * lengths[1]) if all(lengths) else 0.0


def perceptual_hashes(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits (M,) a thumbnail: which of its lowest frequencies are above their median.

    The cosine transform's hash of Zauner (2010); brightness and contrast do not enter it.
    """
    low = np.stack(
        [cv2.dct(thumbnail.astype(np.float32))[:9, :9].ravel()[1:65] for thumbnail in small]
    )
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def _part(split: Split, identity: int) -> str | None:
    return next((part for part in PARTS if identity in getattr(split, part)), None)
