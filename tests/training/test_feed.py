"""Batches from a mapped file, and what the kernel is asked to read before their turn."""

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from siamtune.training import feed as feeding
from siamtune.training.feed import BATCHES_AHEAD, picture_feed


class Mapped(mmap.mmap):
    """Notes the pieces that it is asked to read ahead."""

    pieces: list[tuple[int, int]]

    def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
        assert option == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0
        assert length is not None
        super().madvise(option, start, length)  # what lies outside the file is refused
        self.pieces.append((start, length))


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
def test_batches_are_read_ahead_of_their_turn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (60, 1, 40, 40), np.uint8))
    content = (tmp_path / "images.npy").read_bytes()
    with (tmp_path / "images.npy").open("rb") as file:
        mapped = Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.pieces = asked = []
    opened = np.load(tmp_path / "images.npy", mmap_mode="r")
    images = np.ndarray.__new__(
        np.memmap, opened.shape, opened.dtype, buffer=mapped, offset=opened.offset
    )
    images.offset = opened.offset
    assert type(opened) is type(images)
    assert isinstance(opened.base, mmap.mmap)
    pictures = np.arange(5, 55)
    order = [rng.permutation(50)[:4] for _ in range(8)]
    feed = picture_feed(images, pictures, torch.device("cpu"))
    for at, batch in enumerate(feed(order)):
        np.testing.assert_array_equal(batch, images[pictures[order[at]]])
        announced = [place for positions in order[: at + BATCHES_AHEAD + 1] for place in positions]
        assert len(asked) == len(announced)
        for (start, length), place in zip(asked, announced, strict=True):
            assert content[start : start + length].endswith(images[pictures[place]].tobytes())


def test_pictures_that_stay_on_the_device_are_all_there_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeding, "FILLED_AT_ONCE", 7)
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 5, 5), np.uint8)
    pictures = np.arange(59, 20, -1)
    cpu = torch.device("cpu")
    resident = feeding._resident(images, pictures, cpu, most_bytes=39 * 25)
    np.testing.assert_array_equal(resident, images[pictures])
    assert feeding._resident(images, pictures, cpu, most_bytes=39 * 25 - 1) is None


def test_pictures_stay_with_the_host_when_another_trial_took_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taken(*given: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", taken)
    images = np.zeros((4, 1, 5, 5), np.uint8)
    assert feeding._resident(images, np.arange(4), torch.device("cpu"), 1e9) is None
