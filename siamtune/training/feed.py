"""From the memory-mapped pictures to batches on the device."""

import math
import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Share of the free device memory that the training pictures may take; the rest is the network's.
RESIDENT_SHARE = 0.4
# Pictures gathered in the host's memory on their way to the device.
FILLED_AT_ONCE = 4096
# So many batches before its turn the kernel is asked to read one from the disk.
BATCHES_AHEAD = 3

Feed = Callable[[list[np.ndarray]], Iterator[Tensor]]


def picture_feed(images: np.ndarray, pictures: np.ndarray, device: torch.device) -> Feed:
    """A function from positions in `pictures`, one array a batch, to uint8 batches `(B, C, R, R)`.

    `images` is `(N, C, R, R)` uint8, memory-mapped; `pictures` are the indices of the training
    pictures. On a GPU the training pictures lie in its memory if they fit, else batches are
    gathered from the mapped file and copied one ahead. On a CPU they are gathered where they lie:
    all trials of a machine share the same pages. What does not fit there is read ahead.
    """
    if device.type == "cpu":

        def gathered(order: list[np.ndarray]) -> Iterator[Tensor]:
            for at, positions in enumerate(order):
                asked = at + BATCHES_AHEAD if at else 0  # so many batches were asked for before
                for coming in order[asked : at + BATCHES_AHEAD + 1]:
                    _read_ahead(images, pictures[coming])
                yield torch.from_numpy(images[pictures[positions]])

        return gathered

    free, _ = torch.cuda.mem_get_info(device)
    resident = _resident(images, pictures, device, RESIDENT_SHARE * free)
    if resident is not None:

        def selected(order: list[np.ndarray]) -> Iterator[Tensor]:
            for positions in order:
                yield resident[torch.from_numpy(positions).to(device, non_blocking=True)]

        return selected

    def copied_ahead(order: list[np.ndarray]) -> Iterator[Tensor]:
        def load(positions: np.ndarray) -> Tensor:
            pinned = torch.from_numpy(images[pictures[positions]]).pin_memory()
            return pinned.to(device, non_blocking=True)

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(load, order[0])
            for positions in order[1:]:
                batch = following.result()
                following = pool.submit(load, positions)
                yield batch
            yield following.result()

    return copied_ahead


def _resident(
    images: np.ndarray, pictures: np.ndarray, device: torch.device, most_bytes: float
) -> Tensor | None:
    """The training pictures in the device's memory; None if they take more than so many bytes.

    Memory is taken before it is filled: several trials that share a GPU begin at once, and each has
    been told of the same free bytes.
    """
    shape = (len(pictures), *images.shape[1:])
    if math.prod(shape) > most_bytes:
        return None
    try:
        resident = torch.empty(shape, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:  # another trial was faster
        return None
    for start in range(0, len(pictures), FILLED_AT_ONCE):
        part = slice(start, start + FILLED_AT_ONCE)
        resident[part] = torch.from_numpy(images[pictures[part]]).to(device)
    return resident


def _read_ahead(images: np.ndarray, pictures: np.ndarray) -> None:
    """Ask the kernel to read pictures of a mapped file, without waiting for the disk.

    Where they are not in memory, to wait for one page after the other takes ten times as long as a
    small network trains; where they are, it costs a microsecond each.
    """
    mapped = images.base
    if not isinstance(images, np.memmap) or not isinstance(mapped, mmap.mmap):
        return
    if not hasattr(mmap, "MADV_WILLNEED"):
        return
    size = images[0].nbytes
    for start in images.offset % mmap.ALLOCATIONGRANULARITY + pictures * size:
        page = int(start) // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, page, int(start) + size - page)
