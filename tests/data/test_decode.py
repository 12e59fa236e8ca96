"""Decoding: the pixels that other programs see, once, and nothing lost without a word."""

import errno
import io
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from siamtune.data import decode as module
from siamtune.data.decode import (
    MAXIMUM_SIDE_PX,
    PICTURES_PER_TASK,
    TASKS_AHEAD_PER_THREAD,
    available_threads,
    decode,
    listing,
    read_picture,
)
from siamtune.data.sources import Source
from siamtune.errors import DataError
from siamtune.folders import default_cache_folder

Picture = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def gradient(height: int = 24, width: int = 32) -> Picture:
    """Smooth, so that lossy formats keep it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 7, y * 9, 200 - x * 2 - y], axis=-1).astype(np.uint8)


def source_of(pictures: Sequence[Path | Picture], fingerprint: str = "test") -> Source:
    identities = np.arange(len(pictures)) // 2
    names = tuple(f"person {i}" for i in range(len(pictures)))
    return Source("test", pictures, identities, names, 1.0, *[fingerprint] * 3)


def write_pngs(folder: Path, *pictures: Picture) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    return exif


RGB = Image.fromarray(gradient())
FILES: dict[str, tuple[bytes, int]] = {  # and by how much levels may differ
    "png": (encode(RGB, "PNG"), 0),
    "gray png": (encode(RGB.convert("L"), "PNG"), 0),
    "palette png": (encode(RGB.quantize(32), "PNG"), 0),
    "alpha png": (encode(RGB.convert("RGBA"), "PNG"), 0),
    "bmp": (encode(RGB, "BMP"), 0),
    "pgm": (encode(RGB.convert("L"), "PPM"), 0),
    "webp": (encode(RGB, "WEBP", lossless=True), 0),
    "jpeg": (encode(RGB, "JPEG", quality=95), 3),
    "gray jpeg": (encode(RGB.convert("L"), "JPEG", quality=95), 3),
    "cmyk jpeg": (encode(RGB.convert("CMYK"), "JPEG", quality=95), 5),
    "sideways jpeg": (encode(RGB, "JPEG", quality=95, exif=sideways()), 3),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_becomes_the_rgb_that_pillow_sees(tmp_path: Path, name: str) -> None:
    content, tolerance = FILES[name]
    path = tmp_path / "Zoë.picture"
    path.write_bytes(content)
    picture = read_picture(path)
    assert picture is not None
    assert picture.dtype == np.uint8
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= tolerance


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    levels = noise(8, 9, 3)
    assert cv2.imwrite(str(tmp_path / "deep.png"), levels[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), levels)


@pytest.mark.parametrize(
    ("shape", "reduced"),
    [((900, 1280), (450, 640)), ((2000, 3), (640, 1)), ((640, 640), (640, 640))],
)
def test_long_sides_are_reduced_to_the_maximum(
    tmp_path: Path, shape: tuple[int, int], reduced: tuple[int, int]
) -> None:
    (path,) = write_pngs(tmp_path, np.full((*shape, 3), 77, np.uint8))
    picture = read_picture(path)
    assert picture is not None
    assert picture.shape == (*reduced, 3)
    assert max(reduced) == MAXIMUM_SIDE_PX
    assert (picture == 77).all()


def test_pictures_of_any_size_come_back_as_they_were(tmp_path: Path) -> None:
    written = [noise(5 + i, 40 - i, 3, seed=i) for i in range(25)]
    pictures = decode(source_of(write_pngs(tmp_path, *written)), tmp_path / "cache")
    assert len(pictures) == 25
    assert pictures.array is None
    for i, picture in enumerate(written):
        np.testing.assert_array_equal(pictures.picture(i), picture)


def test_pictures_of_one_size_are_one_read_only_array(tmp_path: Path) -> None:
    written = [noise(6, 7, 3, seed=i) for i in range(23)]
    pictures = decode(source_of(write_pngs(tmp_path, *written)), tmp_path / "cache")
    assert pictures.array is not None
    np.testing.assert_array_equal(pictures.array, np.stack(written))
    with pytest.raises(ValueError, match="read-only"):
        pictures.array[0] = 0


def test_arrays_in_memory_go_the_same_way(tmp_path: Path) -> None:
    gray, colour, large = noise(9, 8), noise(9, 8, 3), np.full((1280, 64), 5, np.uint8)
    pictures = decode(source_of([gray, colour, large]), tmp_path)
    np.testing.assert_array_equal(pictures.picture(0), np.stack([gray] * 3, axis=-1))
    np.testing.assert_array_equal(pictures.picture(1), colour)
    assert pictures.picture(2).shape == (640, 32, 3)


def test_unreadable_pictures_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    written = [noise(20, 20, 3, seed=i) for i in range(9)]
    paths = write_pngs(tmp_path, *written)
    paths[1].write_bytes(b"")
    paths[4].write_bytes(b"this is no picture")
    paths[6].write_bytes(paths[6].read_bytes()[:600])
    paths[8].unlink()
    source = source_of(paths)
    with caplog.at_level(logging.INFO):
        pictures = decode(source, tmp_path / "cache")
    assert pictures.positions.tolist() == [0, 2, 3, 5, 7]
    left_out = "person 0/1.png person 2/4.png person 3/6.png person 4/8.png"
    assert " ".join(pictures.unreadable) == left_out
    for i, position in enumerate(pictures.positions):
        np.testing.assert_array_equal(pictures.picture(i), written[position])
    (record,) = caplog.records
    assert record.getMessage().startswith("4 of 9 pictures cannot be read: person 0/1.png, ")
    assert capfd.readouterr().err == ""  # OpenCV keeps quiet
    # Still told when they come from the cache.
    assert decode(source, tmp_path / "cache").unreadable == pictures.unreadable


def test_a_failing_disk_is_told_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_pngs(tmp_path, *[gradient()] * 4)
    read = np.fromfile

    def broken(path: Path, kind: type) -> np.ndarray:
        if path == files[2]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path, kind)

    with monkeypatch.context() as patch:
        patch.setattr(np, "fromfile", broken)
        with pytest.raises(DataError, match=f"{files[2]} must be readable, but Input/output error"):
            decode(source_of(files), tmp_path / "cache")
    pictures = decode(source_of(files), tmp_path / "cache")
    assert (len(pictures), pictures.unreadable) == (4, ())


def test_a_listing_tells_which_pictures_could_be_decoded(tmp_path: Path) -> None:
    files = write_pngs(tmp_path, *[gradient()] * 4)
    source = source_of(files)
    all_of_them = listing(source, decode(source, tmp_path / "cache"))
    files[1].write_bytes(b"")
    fewer = listing(source, decode(source, tmp_path / "again"))
    assert fewer == listing(source, decode(source, tmp_path / "once more"))
    others = listing(source_of(files, "others"), decode(source, tmp_path / "cache"))
    assert len({all_of_them, fewer, others}) == 3


def test_mostly_unreadable_pictures_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    paths = write_pngs(tmp_path, *(noise(4, 4, 3) for _ in range(30)))
    for path in paths[:16]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"16 of 30 pictures.*person 0/0.png.* and 6 more$"):
        decode(source_of(paths), tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache" / "pictures").iterdir()] in ([], [".lock"])


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of([noise(4, 4, 3, seed=i) for i in range(3)])
    first = decode(source, tmp_path)
    monkeypatch.setattr(module, "rgb_picture", None)  # whoever decodes now fails
    np.testing.assert_array_equal(decode(source, tmp_path).pixels, first.pixels)
    with pytest.raises(TypeError):
        decode(source_of(source.pictures, "another"), tmp_path)


def test_those_who_come_meanwhile_wait_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of([noise(4, 4, 3, seed=i) for i in range(20)])
    decoded = []

    def slow(picture: Any) -> Any:
        decoded.append(picture)
        time.sleep(0.01)
        return picture

    monkeypatch.setattr(module, "rgb_picture", slow)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: decode(source, tmp_path), range(4)))
    assert len(decoded) == 20
    for pictures in results:
        np.testing.assert_array_equal(pictures.pixels, results[0].pixels)


def test_what_a_killed_process_left_is_written_anew(tmp_path: Path) -> None:
    source = source_of([noise(4, 4, 3, seed=i) for i in range(3)])
    expected = decode(source, tmp_path / "reference").pixels
    (name,) = (p.name for p in (tmp_path / "reference" / "pictures").iterdir() if p.is_dir())
    unfinished = tmp_path / "pictures" / f".{name}"
    unfinished.mkdir(parents=True)
    (unfinished / module.PIXELS).write_bytes(b"half")
    np.testing.assert_array_equal(decode(source, tmp_path).pixels, expected)
    assert not unfinished.exists()


def cut_pixels(folder: Path) -> None:
    with (folder / module.PIXELS).open("rb+") as file:
        file.truncate(10)


def cut_index(folder: Path) -> None:
    with (folder / module.INDEX).open("rb+") as file:
        file.truncate(100)


def empty_index(folder: Path) -> None:
    (folder / module.INDEX).write_bytes(b"")


def remove_index(folder: Path) -> None:
    (folder / module.INDEX).unlink()


@pytest.mark.parametrize("damage", [cut_pixels, cut_index, empty_index, remove_index])
def test_a_damaged_cache_is_written_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    source = source_of([noise(4, 4, 3, seed=i) for i in range(3)])
    expected = np.array(decode(source, tmp_path).pixels)
    (folder,) = (p for p in (tmp_path / "pictures").iterdir() if p.is_dir())
    damage(folder)
    np.testing.assert_array_equal(decode(source, tmp_path).pixels, expected)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="SIAMTUNE_CACHE"):
        decode(source_of([noise(4, 4, 3)] * 2), tmp_path / "file")


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    pictures = [noise(4, 4, 3)] * 25
    decode(source_of(pictures), tmp_path, lambda *progress: told.append(progress))
    assert told == [("decoding pictures", i, 25) for i in range(1, 26)]


class Counted(Sequence[Picture]):
    """Endless work, and how much of it was begun."""

    def __init__(self) -> None:
        self.begun = 0

    def __len__(self) -> int:
        return 10_000

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        self.begun += 1
        return np.zeros((2, 2, 3), np.uint8)


def test_pictures_of_all_sizes_lie_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts grow with their pictures and are filled anew; pieces end anywhere."""
    monkeypatch.setattr(module, "WRITTEN_AT_ONCE", 1000)
    rng = np.random.default_rng(0)
    sides = rng.integers(2, 60, (20 * PICTURES_PER_TASK + 3, 2))
    folder = tmp_path / "files"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(sides))]
    for number, (path, side) in enumerate(zip(paths, sides, strict=True)):
        cv2.imwrite(str(path), rng.integers(0, 256, (*side, 3), np.uint8))
        if number % 7 == 3:
            path.write_bytes(b"broken")
    decoded = decode(source_of(paths), tmp_path / "cache")
    readable = [number for number in range(len(sides)) if number % 7 != 3]
    assert decoded.positions.tolist() == readable
    for index, number in enumerate(readable):
        expected = cv2.cvtColor(cv2.imread(str(paths[number])), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(decoded.picture(index), expected)


def test_decoding_runs_only_so_far_ahead_of_writing() -> None:
    pictures = Counted()
    decoded = module._decoded(source_of(pictures))
    next(decoded)
    time.sleep(0.3)  # the threads do all they may
    bound = (TASKS_AHEAD_PER_THREAD * available_threads() + 1) * PICTURES_PER_TASK
    assert PICTURES_PER_TASK <= pictures.begun <= bound < len(pictures)
    decoded.close()  # type: ignore[attr-defined]
    assert pictures.begun <= bound


def test_the_cache_lies_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIAMTUNE_CACHE", str(tmp_path / "here"))
    assert default_cache_folder() == tmp_path / "here"
    monkeypatch.delenv("SIAMTUNE_CACHE")
    assert default_cache_folder().name == "siamtune"


@pytest.mark.parametrize("brightest", [100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("comment", [b"", b"# made by hand\n"])
def test_a_pgm_is_as_bright_as_it_says(tmp_path: Path, brightest: int, comment: bytes) -> None:
    levels = np.linspace(0, brightest, 24 * 20).round().reshape(20, 24)
    stored = levels.astype(np.uint8 if brightest < 256 else ">u2").tobytes()
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n" + comment + f"24 20\n{brightest}\n".encode() + stored)
    picture = read_picture(path)
    assert picture is not None
    np.testing.assert_allclose(picture[..., 0], levels / brightest * 255, atol=1)
    assert (picture == picture[..., :1]).all()
    text = b"P2\n24 20\n%d\n" % brightest + b" ".join(b"%d" % v for v in levels.ravel()) + b"\n"
    path.write_bytes(text)
    again = read_picture(path)
    assert again is not None
    np.testing.assert_allclose(again[..., 0], picture[..., 0], atol=1)
