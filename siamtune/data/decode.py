"""Every picture decoded once, into one memory-mapped file of pixels.

A folder of the cache holds the RGB pixels of picture after picture in one file and their sizes in
another.
"""

import hashlib
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from siamtune.data.sources import Source
from siamtune.errors import DataError
from siamtune.folders import default_cache_folder

Picture = NDArray[Any]  # (H, W, 3) uint8, RGB
Progress = Callable[[str, int, int], None]

# Longer sides are reduced: a face at the largest resolution, 256 px, seldom needs more.
MAXIMUM_SIDE_PX = 640
# Enters the name of the pixels, and so of all that is made of them: raise it when they change, or
# their layout in the cache.
DECODE_VERSION = 2
PGM_HEADER = re.compile(rb"P([25])(?:(?:\s|#[^\n]*\n)+\d+){2}(?:\s|#[^\n]*\n)+(\d+)\s")
# A picture alone is decoded so quickly that handing it over would cost a third as much. Together
# they bound the memory taken: 40 pictures a thread, at most 50 MB.
PICTURES_PER_TASK = 10
TASKS_AHEAD_PER_THREAD = 3
# Bytes: pieces of 4 MB cost the kernel three times as much.
WRITTEN_AT_ONCE = 1 << 20
NAMES_SHOWN = 10
PIXELS, INDEX = "pixels.bin", "index.npz"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The readable pictures of a source as RGB; a gray one has three equal channels.

    Attributes:
        pixels: (bytes,) uint8, memory-mapped and read-only.
        offsets: (M,) where each picture begins in `pixels`.
        heights, widths: (M,) in pixels.
        positions: (M,) index of each picture in its source, ascending.
        unreadable: names of the source's other pictures.
    """

    pixels: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    positions: NDArray[np.int64]
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def picture(self, index: int) -> Picture:
        """(H, W, 3) view of one picture; `index` counts the readable ones."""
        offset, height, width = self.offsets[index], self.heights[index], self.widths[index]
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    @cached_property
    def array(self) -> NDArray[np.uint8] | None:
        """(M, H, W, 3) view of all pictures if they are equally large, else None."""
        if (self.heights != self.heights[0]).any() or (self.widths != self.widths[0]).any():
            return None
        return self.pixels.reshape(len(self), self.heights[0], self.widths[0], 3)


def pixels_name(source: Source) -> str:
    """Names the decoded pixels of a source, in the cache and for whatever is made of them."""
    return f"{source.fingerprint[:16]}-{DECODE_VERSION}"


def decode(
    source: Source, cache_folder: Path | None = None, progress: Progress | None = None
) -> Pictures:
    """The decoded pictures of a source, from the cache or made and put there.

    Processes that want the same pictures wait for the first. Unreadable pictures are left out and
    named in the result.

    Args:
        cache_folder: default `default_cache_folder()`.
        progress: called with what is done, how many pictures are, and of how many.

    Raises:
        DataError: more than half of the pictures cannot be read, the disk that they lie on failed,
            or the cache cannot be written.
    """
    parent = (cache_folder or default_cache_folder()) / "pictures"
    folder = parent / pixels_name(source)
    with suppress(OSError, EOFError, ValueError):
        return _open(folder)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            # Another process may have written them while this one waited.
            with suppress(OSError, EOFError, ValueError):
                return _open(folder)
            _write(source, folder, progress)
            return _open(folder)
    except OSError as error:
        raise DataError(
            f"the cache folder must be writable and have room, but {folder} could not be written "
            f"({error}); set SIAMTUNE_CACHE to another folder"
        ) from error


def listing(source: Source, pictures: Pictures) -> str:
    """Tells apart sets of pictures, by the names of those that could be decoded."""
    content = hashlib.sha256(source.listing.encode())
    for name in pictures.unreadable:
        content.update(b"\0" + name.encode())
    return content.hexdigest()


def _brightest(content: NDArray[np.uint8]) -> int:
    """The brightest level that a PGM names, where OpenCV takes it for 255 or 65,535; else 0."""
    header = PGM_HEADER.match(content[:1024].tobytes())
    if header is None:
        return 0
    kind, brightest = header[1], int(header[2])
    heeded = brightest in (255, 65535) or (kind == b"2" and brightest < 256)
    return 0 if heeded else brightest


def read_picture(path: Path) -> Picture | None:
    """(H, W, 3) RGB of a file, upright by its EXIF orientation; None if it is no readable picture.

    Deeper colours, palettes, transparency and CMYK become plain 8-bit RGB.

    Raises:
        DataError: the disk or the network failed, which says nothing of the picture.
    """
    try:
        if not path.is_file():  # reading a named pipe would wait for a writer
            return None
        # cv2.imread knows no unicode names on Windows.
        content = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        if picture is not None and (brightest := _brightest(content)):
            levels = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), np.float64)
            shades = np.rint(np.minimum(levels / brightest, 1.0) * 255).astype(np.uint8)
            picture = cv2.cvtColor(shades, cv2.COLOR_GRAY2RGB)
    except (FileNotFoundError, PermissionError, cv2.error):  # cv2.error: empty, or far too large
        return None
    except OSError as error:
        raise DataError(
            f"{path} must be readable, but {error.strerror or error}; look after the disk or the "
            "network that it lies on, or remove it"
        ) from error
    return None if picture is None else _reduced(picture)


def _reduced(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    factor = MAXIMUM_SIDE_PX / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def rgb_picture(picture: Path | NDArray[np.uint8]) -> Picture | None:
    """(H, W, 3) RGB of a file, or of an (H, W) or (H, W, 3) array; None if it cannot be read."""
    if isinstance(picture, Path):
        return read_picture(picture)
    picture = _reduced(picture)
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture


@dataclass(frozen=True, eq=False)
class _Part:
    """Some pictures in order: the size of each, None of an unreadable one, and their pixels."""

    sizes: list[tuple[int, int] | None]
    buffer: NDArray[np.uint8]
    filled: int  # bytes of it


def _decoded(source: Source) -> Iterator[_Part]:
    """All pictures in order; threads run a bounded number ahead (OpenCV lets go of the GIL).

    A part's buffer is filled anew when the next part is asked for. A thread frees each picture
    before it decodes the next: freed elsewhere and later, its memory would go back to the kernel
    and come back page by page.
    """
    threads = available_threads()
    count = len(source.identities)
    free: deque[NDArray[np.uint8]] = deque()

    def run(start: int) -> _Part:
        sizes: list[tuple[int, int] | None] = []
        buffer, filled = free.pop() if free else np.empty(0, np.uint8), 0
        for position in range(start, min(start + PICTURES_PER_TASK, count)):
            picture = rgb_picture(source.pictures[position])
            if picture is None:
                sizes.append(None)
                continue
            sizes.append(picture.shape[:2])
            if filled + picture.size > len(buffer):
                larger = np.empty(filled + picture.size * PICTURES_PER_TASK, np.uint8)
                larger[:filled] = buffer[:filled]
                buffer = larger
            buffer[filled : filled + picture.size].reshape(picture.shape)[:] = picture
            filled += picture.size
        return _Part(sizes, buffer, filled)

    pending: deque[Future[_Part]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, PICTURES_PER_TASK):
            pending.append(pool.submit(run, start))
            if len(pending) > TASKS_AHEAD_PER_THREAD * threads:
                part = pending.popleft().result()
                yield part
                free.append(part.buffer)
        while pending:
            yield pending.popleft().result()


def available_threads() -> int:
    """Processor threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write(source: Source, folder: Path, progress: Progress | None) -> None:
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
    unfinished.mkdir()
    # OpenCV's own words on each broken file would stand between the lines of a progress bar.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        _fill(source, unfinished, progress)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been opened
        unfinished.rename(folder)
    finally:
        cv2.utils.logging.setLogLevel(level)
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(source: Source, folder: Path, progress: Progress | None) -> None:
    count = len(source.identities)
    sizes: list[tuple[int, int]] = []
    positions: list[int] = []
    unreadable: list[str] = []
    done = 0
    with open(folder / PIXELS, "wb") as pixels:  # pieces beyond its small buffer go past it
        for part in _decoded(source):
            for start in range(0, part.filled, WRITTEN_AT_ONCE):
                stop = min(start + WRITTEN_AT_ONCE, part.filled)
                pixels.write(part.buffer[start:stop].data)
            for position, size in enumerate(part.sizes, done):
                if size is None:
                    unreadable.append(source.picture_name(position))
                else:
                    sizes.append(size)
                    positions.append(position)
                if progress:
                    progress("decoding pictures", position + 1, count)
            done += len(part.sizes)
    if unreadable:
        _tell_unreadable(unreadable, count)
    heights, widths = np.array(sizes, np.int64).T
    np.savez(
        folder / INDEX,
        heights=heights,
        widths=widths,
        positions=np.array(positions, np.int64),
        unreadable=np.array(unreadable, np.str_),
    )


def _tell_unreadable(unreadable: list[str], count: int) -> None:
    shown = ", ".join(unreadable[:NAMES_SHOWN])
    more = f" and {len(unreadable) - NAMES_SHOWN} more" if len(unreadable) > NAMES_SHOWN else ""
    told = f"{len(unreadable)} of {count} pictures cannot be read: {shown}{more}"
    if len(unreadable) * 2 > count:
        raise DataError(f"half of the pictures or more must be readable, but {told}")
    logger.info("%s; they are left out", told)


def _open(folder: Path) -> Pictures:
    try:
        with np.load(folder / INDEX) as index:
            heights, widths, positions = index["heights"], index["widths"], index["positions"]
            unreadable = tuple(index["unreadable"].tolist())
    except (BadZipFile, EOFError, KeyError) as error:
        raise ValueError(f"{folder / INDEX} is damaged") from error
    sizes = heights * widths * 3
    pixels = np.memmap(folder / PIXELS, np.uint8, mode="r")
    if len(pixels) != sizes.sum():
        raise ValueError(f"{folder / PIXELS} is damaged")
    return Pictures(pixels, np.cumsum(sizes) - sizes, heights, widths, positions, unreadable)
