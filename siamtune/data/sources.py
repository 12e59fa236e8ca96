"""Where pictures come from: the demo, scikit-learn's data home or a folder of people."""

import hashlib
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings

import numpy as np
from numpy.typing import NDArray

from siamtune.data.demo import DEMO_FACE_BOX, DEMO_SEED, DEMO_VERSION, PEOPLE, DemoPictures
from siamtune.errors import DataError

SOURCES = ("demo", "lfw", "olivetti")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".bmp", ".webp")
# Where scikit-learn's fetcher and other distributions put LFW, aligned ones before the original.
LFW_FOLDERS = ("lfw_funneled", "lfw-deepfunneled", "lfw")
# An LFW picture is the box of the Viola-Jones detector enlarged 2.2 times (Huang et al. 2007).
LFW_FACE_BOX = 1 / 2.2
LAYOUT = "one folder a person with that person's pictures: FOLDER/person/*" + "|".join(
    PICTURE_SUFFIXES
)


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures of people, listed but not yet decoded.

    Attributes:
        name: "demo", "lfw", "olivetti" or the folder's name.
        pictures: a file or an (H, W) or (H, W, 3) RGB uint8 array each.
        identities: (N,) index into `names` of each picture, ascending.
        names: one name a person, sorted, all different.
        face_box: side of the centred square that holds the face, as a fraction of the picture's
            shorter side.
        fingerprint: changes with the place, names, sizes, times and permissions of the files.
        listing: changes with their names alone, and so is the same on every machine.
        sizes: changes with their names and sizes, and is the same of every copy.
        folder: where the files lie, if they do.
        ignored: files and folders that are no picture of a person.
    """

    name: str
    pictures: Sequence[Path | NDArray[np.uint8]]
    identities: NDArray[np.int64]
    names: tuple[str, ...]
    face_box: float
    fingerprint: str
    listing: str
    sizes: str
    folder: Path | None = None
    ignored: int = 0

    def picture_name(self, index: int) -> str:
        """`person/file` of a picture, or `person #index` of one that is no file."""
        picture = self.pictures[index]
        last = picture.name if isinstance(picture, Path) else f"#{index}"
        name = f"{self.names[self.identities[index]]}/{last}"
        return os.fsencode(name).decode(errors="replace")


def open_source(name_or_path: str, data_home: Path | None = None) -> Source:
    """List the pictures of `demo`, `lfw`, `olivetti` or a folder; nothing is downloaded.

    Args:
        data_home: where lfw and olivetti lie; default scikit-learn's data home.

    Raises:
        DataError: there is no such source, or nobody in it can be verified.
    """
    if name_or_path == "demo":
        return _demo()
    if name_or_path == "lfw":
        return _folder(find_lfw(data_home), name="lfw", face_box=LFW_FACE_BOX)
    if name_or_path == "olivetti":
        return _olivetti(find_olivetti(data_home))
    try:
        folder = Path(name_or_path).expanduser()
        there = folder.exists()
    except (OSError, RuntimeError, ValueError):  # too long a name, nobody's home, a zero in it
        there = False
    if not there:
        raise DataError(
            f"data must be {', '.join(SOURCES)} or a folder, but {name_or_path!r} does not exist"
        )
    if not folder.is_dir():
        raise DataError(f"data must be a folder, but {name_or_path!r} is a file; give {LAYOUT}")
    return _folder(folder, name=folder.resolve().name, face_box=1.0)


def data_home_or_default(data_home: Path | None) -> Path:
    """The data home given, or scikit-learn's ($SCIKIT_LEARN_DATA or ~/scikit_learn_data)."""
    if data_home is not None:
        return data_home.expanduser()
    from sklearn.datasets import get_data_home

    return Path(get_data_home())


def find_lfw(data_home: Path | None = None) -> Path:
    """The folder of LFW's people in a data home, in its `lfw_home`, or the data home itself.

    Raises:
        DataError: none of the places holds LFW; the message names them all.
    """
    home = data_home_or_default(data_home)
    places = [home / "lfw_home" / folder for folder in LFW_FOLDERS]
    places += [home / folder for folder in LFW_FOLDERS]
    places.append(home)
    for place in places:
        if _looks_like_lfw(place):
            return place
    raise DataError(
        f"lfw was not found: looked for {', '.join(LFW_FOLDERS)} in {home / 'lfw_home'} and in "
        f"{home}, and for people in {home}; download it with `siamtune data fetch lfw` or name its "
        "place with --data-home"
    )


def _looks_like_lfw(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as people:
        return any(Path(person.path, f"{person.name}_0001.jpg").is_file() for person in people)


def find_olivetti(data_home: Path | None = None) -> Path:
    """The file of the Olivetti faces in a data home.

    Raises:
        DataError: it is not there.
    """
    # The name that scikit-learn's fetcher gives it under Python 3.
    path = data_home_or_default(data_home) / "olivetti_py3.pkz"
    if not path.is_file():
        raise DataError(
            f"olivetti was not found at {path}; download it with `siamtune data fetch olivetti` "
            "or name its place with --data-home"
        )
    return path


def fetch(name: str, data_home: Path | None = None) -> Path:
    """Download lfw or olivetti with scikit-learn's fetcher unless it is there; say where it is.

    Raises:
        DataError: another name, or the download failed.
    """
    finders = {"lfw": find_lfw, "olivetti": find_olivetti}
    if name not in finders:
        raise DataError(f"fetch knows {' and '.join(finders)}, but got {name!r}")
    try:
        return finders[name](data_home)
    except DataError:
        pass
    from sklearn.datasets import fetch_lfw_people, fetch_olivetti_faces

    home = data_home_or_default(data_home)
    if name == "lfw" and (home / "lfw_home" / "joblib").exists():
        # The fetcher would unpickle it.
        raise DataError(
            f"{home / 'lfw_home'} must hold LFW or nothing, but holds only scikit-learn's cache of "
            f"it, which could run code; remove {home / 'lfw_home' / 'joblib'}"
        )
    try:
        # What the fetchers say belongs to stderr; their warnings only repeat the error.
        with redirect_stdout(sys.stderr), catch_warnings(action="ignore"):
            if name == "lfw":
                # The fetcher insists on loading what it has downloaded: let that be one person.
                fetch_lfw_people(data_home=home, min_faces_per_person=500, resize=None)
            else:
                fetch_olivetti_faces(data_home=home)
    except (OSError, ValueError) as error:  # ValueError: another archive came
        raise DataError(
            f"{name} could not be downloaded to {home} ({error}); download it on a machine with "
            "network, copy its data home and name it with --data-home"
        ) from error
    return finders[name](data_home)


def _demo() -> Source:
    pictures = DemoPictures(DEMO_SEED)
    names = tuple(f"person {number:03d}" for number in range(1, PEOPLE + 1))
    digest = hashlib.sha256(f"demo\0{DEMO_SEED}\0{DEMO_VERSION}".encode()).hexdigest()
    return Source(
        "demo", pictures, pictures.identities, names, DEMO_FACE_BOX, digest, digest, digest
    )


def _olivetti(path: Path) -> Source:
    from siamtune.data.olivetti import PEOPLE, PICTURES, read_olivetti

    try:
        images = read_olivetti(path)
    except (OSError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove it and run `siamtune data fetch olivetti`"
        ) from error
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    return Source(
        "olivetti",
        tuple(images),
        np.repeat(np.arange(PEOPLE), PICTURES),
        tuple(f"person {number + 1:02d}" for number in range(PEOPLE)),
        1.0,
        digest,
        digest,
        digest,
        path.parent,
    )


def _folder(root: Path, *, name: str, face_box: float) -> Source:
    """List `root/person/picture`, two levels and no deeper, so that no link can lead in circles."""
    # The same files of another folder are other pictures: an archive may set all times alike.
    content = hashlib.sha256(os.fsencode(root.resolve()) + b"\0")
    listing, sizes = hashlib.sha256(), hashlib.sha256()
    files: list[Path] = []
    identities: list[int] = []
    names: list[str] = []
    ignored = 0
    for person in _sorted_entries(root):
        if not _is_person(person, root):
            ignored += 1
            continue
        entries = [e for e in _sorted_entries(Path(person.path)) if not e.name.startswith(".")]
        pictures = [e for e in entries if e.name.lower().endswith(PICTURE_SUFFIXES)]
        if not pictures:
            ignored += 1
            continue
        ignored += len(entries) - len(pictures)
        for entry in pictures:
            try:
                state = entry.stat()
                size, time, mode = state.st_size, state.st_mtime_ns, state.st_mode
            except OSError:  # a dangling link is told with the other unreadable pictures
                size, time, mode = -1, -1, -1
            listed = os.fsencode(f"{person.name}/{entry.name}\0")
            content.update(listed + f"{size}\0{time}\0{mode}\0".encode())
            listing.update(listed)
            sizes.update(listed + f"{size}\0".encode())
            files.append(Path(entry.path))
            identities.append(len(names))
        names.append(person.name)
    _check_names(names, root)
    _check_people(identities, names, root)
    return Source(
        name,
        tuple(files),
        np.array(identities, np.int64),
        tuple(names),
        face_box,
        content.hexdigest(),
        listing.hexdigest(),
        sizes.hexdigest(),
        root,
        ignored,
    )


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}") from error


def _is_person(entry: os.DirEntry[str], root: Path) -> bool:
    try:
        if entry.name.startswith(".") or not entry.is_dir():
            return False
        if not entry.is_symlink():
            return True
        # A link back into the folder would show the same pictures as two people.
        target, home = Path(entry.path).resolve(), root.resolve()
        return not (target.is_relative_to(home) or home.is_relative_to(target))
    except OSError:  # a link to itself
        return False


def _check_names(names: Sequence[str], root: Path) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(name).decode(errors="replace")
            raise DataError(
                f"names of people must be UTF-8, but {root} holds {shown!r}; rename that folder"
            ) from None


def _check_people(identities: Sequence[int], names: Sequence[str], root: Path) -> None:
    """Refuse what can hold no positive or no negative pair."""
    if not names:
        fault = "no pictures"
    elif len(names) == 1:
        fault = f"pictures of one person only ({names[0]})"
    elif len(identities) == len(names):
        fault = "nobody with two pictures"
    else:
        return
    raise DataError(f"{root} holds {fault}; it must hold {LAYOUT}, two or more of most people")
