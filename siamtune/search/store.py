"""Run folders in an object store, such as s3://bucket/runs.

An object store can neither append to a file nor lock it. So a run has a folder on this machine as
well, in the cache, that knows its URL: what reads runs reads that copy, after it was brought up to
date; a search works on it and sends what has changed (`siamtune.launch.mirror`).
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from siamtune.errors import InvalidInput, UsageError
from siamtune.folders import default_cache_folder

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

URL = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.DOTALL)
# In a folder of copies: which URL it is of. In the copy of a run: what was there when they agreed.
ORIGIN, AGREED = ".origin.json", ".agreed.json"
# The record of a run is never ahead of its study: where the study is theirs, so is the record.
STUDY, RECORD = "study.log", "trials.jsonl"
# Who drives a run. Of an object store it is a sign of life, which the driver's end of it gives.
DRIVER = "driver.json"
# What lies in a run folder for this host alone: locks, unfinished files, who runs a trial, who
# drives.
HOST_ONLY = (".*", "*.lock", "worker-*.log", DRIVER)

# Without credentials Google's library would try for a quarter of an hour.
PATIENCE = dict.fromkeys(("gs", "gcs"), "?retry_limit_seconds=30")

logger = logging.getLogger(__name__)

Signature = tuple[int, int]  # bytes, and nanoseconds since 1970 of the last change


@dataclass(frozen=True)
class Store:
    """A folder in an object store; names are relative to it, with `/`.

    Every method raises OSError where the store refuses or does not answer, if not said otherwise.
    """

    url: str
    _files: "FileSystem"
    _root: str

    def child(self, name: str) -> "Store":
        return Store(f"{self.url}/{name}", self._files, f"{self._root}/{name}")

    def write(self, name: str, content: bytes) -> Signature:
        """Put a whole file in its place at once, and tell its signature."""
        path = f"{self._root}/{name}"
        if self._files.type_name == "local":  # the others do so by themselves
            unfinished = f"{path}.{os.getpid()}"
            self._files.create_dir(path.rpartition("/")[0], recursive=True)
            with self._files.open_output_stream(unfinished) as stream:
                stream.write(content)
            self._files.move(unfinished, path)
        else:
            with self._files.open_output_stream(path) as stream:
                stream.write(content)
        return _signature(self._files.get_file_info(path))

    def read(self, name: str) -> bytes:
        """The whole of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._files.open_input_stream(f"{self._root}/{name}") as stream:
            return bytes(stream.read())

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._files.delete_file(f"{self._root}/{name}")

    def listed(self) -> dict[str, Signature]:
        """`files`, for a person who named the store.

        Raises:
            InvalidInput: it cannot be read.
        """
        with _told(self.url):
            return self.files()

    def files(self) -> dict[str, Signature]:
        """Every file below, by its name."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._root, allow_not_found=True, recursive=True)
        return {
            info.path[len(self._root) + 1 :]: _signature(info)
            for info in self._files.get_file_info(selector)
            if info.type is FileType.File
        }

    def folders(self) -> list[str]:
        """The names of the folders in it.

        Raises:
            InvalidInput: it cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        if self._files.type_name == "gcs":  # it lists no folder but those that were made as one
            return sorted({name.partition("/")[0] for name in self.listed() if "/" in name})
        with _told(self.url):
            found = self._files.get_file_info(FileSelector(self._root, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type is FileType.Directory)


def is_url(text: str) -> bool:
    return URL.fullmatch(text) is not None


def open_store(url: str) -> Store:
    """The folder that a URL names; nothing is sent yet.

    s3:// and gs:// need no other package; of all others fsspec tells which one they need.

    Raises:
        UsageError: no such kind of store is known, or the URL holds a password.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    url = check_url(url)
    try:
        with _told(url):
            try:
                files, root = FileSystem.from_uri(url + PATIENCE.get(urlsplit(url).scheme, ""))
            except (ArrowException, ValueError):
                import fsspec

                other, root = fsspec.core.url_to_fs(url)
                files = PyFileSystem(FSSpecHandler(other))
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"--output must be a folder or a URL like s3://bucket/runs, but got {url!r}: {error}"
        ) from None
    return Store(url, files, root.rstrip("/"))


def check_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        UsageError: it holds more than a place: a key or an option would end up in logs and files.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"a URL must name a place and no more, but {parts.scheme}://...{parts.path} has a key "
            "or options besides; put them where the store's own tools look for them, e.g. "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
        )
    if not parts.netloc and not parts.path.strip("/"):
        raise UsageError(f"a URL must name a place, like s3://bucket/runs, but got {url!r}")
    return url.rstrip("/")


def copies_of(url: str) -> Path:
    """The folder on this machine for copies of the runs at a URL; made if it is not there."""
    url = check_url(url)
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", url.rpartition("/")[2])[:40]
    digest = sha256(url.encode()).hexdigest()[:12]
    folder = default_cache_folder() / "stores" / f"{digest}-{last}"
    if not (folder / ORIGIN).exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ORIGIN).write_text(json.dumps({"url": url}) + "\n")
        except OSError as error:
            raise InvalidInput(
                f"the cache folder must be writable, but {folder}: {error.strerror}; set "
                "SIAMTUNE_CACHE to another folder"
            ) from None
    return folder


def origin(folder: Path) -> str | None:
    """The URL that a folder on this machine holds copies of; None if it is no such folder."""
    try:
        return str(json.loads((folder / ORIGIN).read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch(store: Store, copy: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Bring the copy of a run up to date: what has changed in the store comes, what is gone goes.

    What has changed only here stays; it was not sent when its search was cut off. Of a file that
    has changed here and there the longer stays if it only goes on from the other; else the store's
    takes its place, and what was here is set aside under a name that is told.

    Raises:
        InvalidInput: the store cannot be read.
    """
    there = store.listed()
    if not there and not copy.exists():
        return
    agreed = read_agreed(copy)
    now = {name: both for name, both in agreed.items() if name in there}
    apart: set[str] = set()  # whose content here was set aside
    try:
        for name, signature in sorted(there.items()):  # the study comes before its record
            path = copy / name
            if not _inside(name) or name.rpartition("/")[2].startswith("."):
                continue
            before = agreed.get(name)
            theirs = name == RECORD and STUDY in apart
            known = before is not None and before[0] == signature and path.exists()
            if (known and not theirs) or not wanted(name):
                continue
            content = None
            with _told(store.url), suppress(FileNotFoundError):
                content = store.read(name)
            if content is None:  # its search has removed it since it was listed
                del there[name]
                continue
            changed = path.exists() and (before is None or local_signature(path) != before[1])
            if changed and name != DRIVER:
                here = path.read_bytes()
                if len(here) > len(content) and here.startswith(content) and not theirs:
                    now[name] = (signature, (len(content), 0))  # the rest is yet to be sent
                    continue
                if not content.startswith(here):
                    _set_aside(store.url, path)
                    apart.add(name)
            write_bytes(path, content)
            os.utime(path, ns=(signature[1], signature[1]))
            now[name] = (signature, local_signature(path))
        for name in {*agreed, DRIVER} - set(there):
            (copy / name).unlink(missing_ok=True)
            now.pop(name, None)
    finally:  # cut off in the midst of it, what has come is known all the same
        write_agreed(copy, now)


def _set_aside(url: str, path: Path) -> None:
    """Give a file of a copy a name under which it is never sent, and say so."""
    aside = path.with_name(f".{path.name}.unsent-{path.stat().st_mtime_ns}")
    path.replace(aside)
    logger.warning(
        "%s was changed by another host, too: its %s is taken; what was here lies in %s",
        url, path.name, aside,
    )  # fmt: skip


def read_agreed(copy: Path) -> dict[str, tuple[Signature, Signature]]:
    """Of each file the signatures in the store and here when they were last the same."""
    try:
        found = json.loads((copy / AGREED).read_text())
        return {
            name: ((there[0], there[1]), (here[0], here[1]))
            for name, (there, here) in found.items()
            if _inside(name)
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def write_agreed(copy: Path, agreed: Mapping[str, tuple[Signature, Signature]]) -> None:
    copy.mkdir(parents=True, exist_ok=True)
    write_bytes(copy / AGREED, json.dumps(agreed).encode())


def local_signature(path: Path) -> Signature:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def local_files(copy: Path) -> Iterator[tuple[str, Path]]:
    """What of a copy belongs into the store: all but what only this host needs."""
    for path in sorted(copy.rglob("*")):
        name = path.relative_to(copy).as_posix()
        own = name.startswith("stop/") or any(fnmatch(path.name, own) for own in HOST_ONLY)
        if path.is_file() and not own:
            yield name, path


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _inside(name: str) -> bool:
    """Whether a name that a store tells stays within the folder that it is copied into."""
    parts = name.split("/")
    return not name.startswith("/") and "\0" not in name and not {"", ".", ".."} & set(parts)


def _signature(info: Any) -> Signature:
    return int(info.size or 0), int(info.mtime_ns or 0)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"{url} must be reachable and readable, but {error}; check its name, the region and "
            "the credentials"
        ) from None
