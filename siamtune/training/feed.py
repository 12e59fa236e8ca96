"""From the memory-mapped pictures to batches on the device."""

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Share of the free device memory that the training pictures may take; the rest is the network's.
RESIDENT_SHARE = 0.4
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

    size = len(pictures) * int(np.prod(images.shape[1:]))
    free, _ = torch.cuda.mem_get_info(device)
    if size < RESIDENT_SHARE * free:
        resident = torch.from_numpy(images[pictures]).to(device)

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
