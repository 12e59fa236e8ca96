"""Prepared faces: the right pixels, the right people, and no work done twice."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from siamtune.config import DataConfig
from siamtune.data import prepare as module
from siamtune.data.boxes import cut
from siamtune.data.prepare import Faces, prepare
from siamtune.data.sources import Source, open_source
from siamtune.data.split import PARTS, Split
from siamtune.errors import DataError

PEOPLE, EACH = 8, 3


def pictures_of(height: int = 48, width: int = 40) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(PEOPLE * EACH)]


def source_of(pictures: Sequence[Path | NDArray[np.uint8]], fingerprint: str = "noise") -> Source:
    names = tuple(f"person {i}" for i in range(PEOPLE))
    identities = np.repeat(np.arange(PEOPLE), EACH)
    return Source("noise", pictures, identities, names, 0.5, *[fingerprint] * 3)


def prepared(cache: Path, source: Source | None = None, **dials: object) -> Faces:
    config = DataConfig.model_validate({"resolution_px": 16} | dials)
    return prepare(source or source_of(pictures_of()), config, cache_folder=cache)


@pytest.mark.parametrize(("grayscale", "channels"), [(True, 1), (False, 3)])
def test_images_are_mapped_bytes_of_the_wanted_shape(
    tmp_path: Path, grayscale: bool, channels: int
) -> None:
    faces = prepared(tmp_path, resolution_px=20, grayscale=grayscale)
    assert faces.images.shape == (PEOPLE * EACH, channels, 20, 20)
    assert faces.images.dtype == np.uint8
    assert isinstance(faces.images, np.memmap)
    assert not faces.images.flags.writeable
    assert faces.source == "noise"


def test_the_centre_is_cut_out_at_a_crop_factor_of_one(tmp_path: Path) -> None:
    # In 2016 a factor of exactly 1 switched the crop off.
    pictures = pictures_of(48, 40)
    faces = prepared(tmp_path, source_of(pictures), resolution_px=20, grayscale=False)
    for image, picture in zip(faces.images, pictures, strict=True):
        assert np.array_equal(image.transpose(1, 2, 0), picture[14:34, 10:30])


def test_none_squeezes_the_whole_picture_to_the_square(tmp_path: Path) -> None:
    pictures = pictures_of(64, 32)
    faces = prepared(tmp_path, source_of(pictures), crop="none", grayscale=False)
    for image, picture in zip(faces.images, pictures, strict=True):
        blocks = picture.reshape(16, 4, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(image.transpose(1, 2, 0) - blocks).max() <= 1


@pytest.mark.parametrize("crop", ["none", "center"])
@pytest.mark.parametrize("factor", [0.5, 1.5, 4.0])
def test_the_crop_factor_scales_about_the_centre(tmp_path: Path, crop: str, factor: float) -> None:
    pictures = pictures_of(48, 40)
    faces = prepared(tmp_path, source_of(pictures), crop=crop, crop_factor=factor)
    height, width = (48, 40) if crop == "none" else (20, 20)
    height, width = height * factor, width * factor
    box = np.array([20 - width / 2, 24 - height / 2, width, height, 0])
    for image, picture in zip(faces.images, pictures, strict=True):
        assert np.array_equal(image[0], cut(picture, box, 16, grayscale=True))
    assert (faces.crop.style, faces.crop.factor, faces.crop.faces_not_found) == (crop, factor, 0)


def test_where_no_face_is_found_the_centre_is_cut_out_and_counted(tmp_path: Path) -> None:
    source = source_of(pictures_of())
    faces = prepared(tmp_path, source, crop="haar")
    assert faces.crop.faces_not_found == PEOPLE * EACH
    assert np.array_equal(faces.images, prepared(tmp_path, source, crop="center").images)
    # The count is known without looking again.
    assert prepared(tmp_path, source, crop="haar", crop_factor=2.0).crop.faces_not_found == 24


def test_parts_hold_every_picture_once_and_share_nobody(tmp_path: Path) -> None:
    faces = prepared(tmp_path)
    indices = {part: faces.indices(part) for part in PARTS}
    assert sorted(np.concatenate(list(indices.values()))) == list(range(PEOPLE * EACH))
    people = [set(faces.identities[index]) for index in indices.values()]
    assert sum(map(len, people)) == PEOPLE
    with pytest.raises(ValueError, match="part must be one of train, validation, test"):
        faces.indices("valid")


def test_the_seed_of_the_split_decides(tmp_path: Path) -> None:
    source = source_of(pictures_of())
    digests = [
        prepare(source, DataConfig(), split_seed=seed, cache_folder=tmp_path).split.digest
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_other_pictures_of_the_same_people_are_another_split(tmp_path: Path) -> None:
    # Who has one picture more is drawn in other pairs: neither numbers nor answers compare.
    folder = tmp_path / "people"
    for person in range(PEOPLE):
        (folder / f"person {person}").mkdir(parents=True)
    for number, picture in enumerate(pictures_of(20, 20)):
        cv2.imwrite(str(folder / f"person {number // EACH}" / f"{number}.png"), picture)

    def digest() -> str:
        return prepared(tmp_path / "cache", open_source(str(folder))).split.digest

    before = digest()
    assert digest() == before
    one = folder / "person 3" / "one more.png"
    cv2.imwrite(str(one), pictures_of(20, 20)[0])
    assert digest() != before
    one.unlink()
    assert digest() == before


def test_unreadable_pictures_are_left_out_with_their_identities(tmp_path: Path) -> None:
    files: list[Path] = []
    for number, picture in enumerate(pictures_of(20, 20)):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), np.full_like(picture, 10 * (number // EACH)))
    files[4].write_bytes(b"")
    faces = prepared(tmp_path / "cache", source_of(files))
    assert len(faces.images) == len(faces.identities) == PEOPLE * EACH - 1
    assert faces.images[:, 0, 0, 0].tolist() == (10 * faces.identities).tolist()


@pytest.mark.parametrize("normalization", ["minmax", "lcn", "lcn-", "zca"])
def test_normalization_is_fitted_on_training_people_only(
    tmp_path: Path, normalization: str
) -> None:
    pictures = pictures_of()
    faces = prepared(tmp_path, source_of(pictures), normalization=normalization)
    for index in np.concatenate([faces.indices("validation"), faces.indices("test")]):
        pictures[index] = 255 - pictures[index] // 2
    other = prepared(tmp_path, source_of(pictures, "other"), normalization=normalization)
    assert not np.array_equal(faces.images, other.images)
    for buffer, value in faces.normalization.state_dict().items():
        assert torch.equal(value, other.normalization.state_dict()[buffer])


@pytest.mark.parametrize("normalization", ["minmax", "lcn", "lcn-", "zca"])
@pytest.mark.parametrize("crop", ["center", "haar"])
def test_nothing_is_computed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str, normalization: str
) -> None:
    first = prepared(tmp_path, crop=crop, normalization=normalization)
    for work in ("find_faces", "cut", "fit_normalization"):
        monkeypatch.delattr(module, work)
    again = prepared(tmp_path, crop=crop, normalization=normalization)
    assert np.array_equal(first.images, again.images)
    batch = torch.tensor(first.images[:4]).float()
    assert torch.equal(first.normalization(batch), again.normalization(batch))
    assert first.crop == again.crop


def test_each_dial_has_a_variant_of_its_own(tmp_path: Path) -> None:
    variants: list[dict[str, object]] = [
        {},
        {"crop": "none"},
        {"crop_factor": 1.05},
        {"resolution_px": 17},
        {"grayscale": False},
    ]
    source = source_of(pictures_of())
    for dials in [*variants, {"normalization": "lcn"}, {"images_per_person": 2}]:
        prepared(tmp_path, source, **dials)
    assert len(list((tmp_path / "variants").glob("*.npy"))) == len(variants)
    prepared(tmp_path, source_of(pictures_of(), "another source"))
    assert len(list((tmp_path / "variants").glob("*.npy"))) == len(variants) + 1


@pytest.mark.parametrize("folder", ["variants", "normalizations", "boxes"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_file_of_the_cache_is_made_anew(tmp_path: Path, folder: str, keep: float) -> None:
    first = prepared(tmp_path, crop="haar", normalization="zca")
    (path,) = (path for path in (tmp_path / folder).iterdir() if path.suffix != ".lock")
    images = np.array(first.images)  # mapped pages of a cut file are gone
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(keep * len(content))])
    again = prepared(tmp_path, crop="haar", normalization="zca")
    assert np.array_equal(images, again.images)
    for buffer, value in first.normalization.state_dict().items():
        assert torch.equal(value, again.normalization.state_dict()[buffer])


def test_the_cache_keeps_to_its_limit_but_never_drops_what_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(pictures_of())
    prepared(tmp_path, source, crop_factor=0.7)
    monkeypatch.setenv("SIAMTUNE_CACHE_LIMIT_GB", "1e-9")
    faces = prepared(tmp_path, source, crop_factor=0.8)
    (left,) = (tmp_path / "variants").glob("*.npy")
    assert Path(str(faces.images.filename)) == left  # type: ignore[attr-defined]
    assert len(list((tmp_path / "pictures").glob("*/pixels.bin"))) == 1
    # Pictures of another source go once they are not in use.
    prepared(tmp_path, source_of(pictures_of(), "another source"), crop_factor=0.8)
    (folder,) = (path for path in (tmp_path / "pictures").iterdir() if path.is_dir())
    assert folder.name.startswith("another source"[:16])


def test_a_cache_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="SIAMTUNE_CACHE"):
        prepared(tmp_path / "file")


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    prepare(
        source_of(pictures_of()),
        DataConfig(crop="haar"),
        cache_folder=tmp_path,
        progress=lambda what, done, total: told.setdefault(what, []).append((done, total)),
    )
    assert set(told) == {"decoding pictures", "finding faces", "cutting out faces"}
    assert all(heard[-1] == (24, 24) for heard in told.values())


@pytest.mark.parametrize("crop", ["trees", "aligned"])
def test_crops_by_landmarks_need_their_file_even_where_variants_are_cached(
    tmp_path: Path, crop: str
) -> None:
    with pytest.raises(DataError, match=f"the crop {crop} needs the file"):
        prepared(tmp_path, crop=crop)


def test_the_olivetti_faces_are_prepared(tmp_path: Path, data_home: Path) -> None:
    if not (data_home / "olivetti_py3.pkz").exists():
        pytest.skip(f"no olivetti in {data_home}")
    faces = prepared(
        tmp_path, open_source("olivetti", data_home), resolution_px=32, normalization="zca"
    )
    assert faces.images.shape == (400, 1, 32, 32)
    assert [len(faces.indices(part)) for part in PARTS] == [320, 40, 40]
    whitened = faces.normalization(torch.from_numpy(faces.images[faces.indices("train")]).float())
    assert torch.isfinite(whitened).all()
    assert float(whitened.mean()) == pytest.approx(0, abs=0.01)


def test_a_given_split_takes_the_place_of_the_drawn_one(tmp_path: Path) -> None:
    source = source_of(pictures_of())
    drawn = prepared(tmp_path, source, normalization="zca")
    # The others train now: the fit must be theirs.
    split = Split(
        np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6, 7]), source.names, 0, "by hand"
    )
    config = DataConfig(resolution_px=16, normalization="zca")
    given = prepare(source, config, split=split, cache_folder=tmp_path)
    assert given.split is split
    assert np.array_equal(given.images, drawn.images)
    images = torch.from_numpy(np.array(given.images[:2])).float()
    assert not torch.allclose(given.normalization(images), drawn.normalization(images))
