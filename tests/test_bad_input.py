"""Whatever a person hands over by mistake: one clear message, its exit code, nothing half-written.

Every case goes through the real command line. Space files have their own table in
tests/search/test_broken_spaces.py.
"""

import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as safetensors_bytes

from siamtune.cli.main import run

TINY_EVENTS = (
    '{"event": "started", "trial": 0, "time": 1.0, "config": {"optim.lr": 0.001}}\n'
    '{"event": "epoch", "trial": 0, "metrics": {"epoch": 1, "val/auc": 0.9, "val/f1": 0.8}}\n'
    '{"event": "ended", "trial": 0, "time": 2.0, "state": "complete", "reason": null}\n'
)
TINY_SPACE = "version: 1\nspace:\n  optim.lr: {float: [1e-4, 1e-2], log: true}\n"


@dataclass(frozen=True)
class Answer:
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is where the command runs."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIAMTUNE_CACHE", str(cache))
    for name in ("SIAMTUNE_DATA", "SIAMTUNE_MODEL", "SIAMTUNE_OUTPUT", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def siamtune(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """The command line in this process, as its console script calls it."""

    def call(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["siamtune", *words])
        capsys.readouterr()
        code = 0
        try:
            run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        return Answer(code, *capsys.readouterr())

    return call


def everything(folder: Path) -> dict[str, bytes | str]:
    """Every path below a folder with what it holds; links are not followed."""
    found: dict[str, bytes | str] = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            if name == ".driver.lock":  # empty; the lock of a run stays where it is
                continue
            path = Path(parent, name)
            plain = path.is_file() and not path.is_symlink()
            found[str(path.relative_to(folder))] = path.read_bytes() if plain else ""
    return found


def check_refused(answer: Answer, code: int, phrase: str) -> None:
    """The exit code, and one message that tells the fault: siamtune's own, or typer's."""
    assert answer.code == code, answer.stderr
    assert "Traceback" not in answer.stderr
    assert "siamtune: unexpected" not in answer.stderr
    lines = answer.stderr.splitlines()
    own = sum(line.startswith("siamtune: ") for line in lines)
    typers = sum(line.startswith(("╭─ Error", "+- Error", "Error:")) for line in lines)
    assert (own, typers) in ((1, 0), (0, 1)), answer.stderr
    bare = " ".join(answer.stderr.replace("│", " ").split())
    assert phrase in bare, answer.stderr
    assert len(bare) < 3000, "a message is to be read"
    assert "\x1b" not in answer.stderr


def refuse(
    here: Path, siamtune: Callable[..., Answer], words: tuple[str, ...], code: int, phrase: str
) -> None:
    before = everything(here)
    check_refused(siamtune(*words), code, phrase)
    assert everything(here) == before, "nothing is left behind"


# Configurations

BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 40)
)

CONFIGS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "must hold sections"),
    "only a comment": ("# nothing\n", "must hold sections"),
    "a list": ("- 1\n- 2\n", "but got list"),
    "a number": ("3\n", "but got int"),
    "a text": ("optim\n", "but got str"),
    "broken YAML": ("optim: {lr: 1\n", "must be YAML"),
    "a tab": ("optim:\n\tlr: 1\n", "must be YAML"),
    "two documents": ("epochs: 1\n---\nepochs: 2\n", "must be YAML"),
    "a key twice": ("epochs: 1\nepochs: 2\n", "must be YAML"),
    "a dial twice, dotted and nested": ("optim.lr: 0.1\noptim: {lr: 0.2}\n", "optim.lr"),
    "an alias to nothing": ("optim: *absent\n", "must be YAML"),
    "a python object": ("epochs: !!python/object/apply:os.getcwd []\n", "must be YAML"),
    "no date": ("epochs: 2026-13-45\n", "must be YAML"),
    "another encoding": ("epochs: 3 # Größe".encode("utf-16"), "must be a readable YAML file"),
    "binary": (bytes(range(256)) * 20, "must be a readable YAML file"),
    "zeros": (b"\0" * 1000, "must be YAML"),
    "brackets without end": ("[" * 30_000, "must be YAML"),
    "sections without end": ("{a: " * 16_000, "must be YAML"),
    "a section that holds itself": ("optim: &o\n  lr: *o\n", "without aliases"),
    "aliases that multiply": (BOMB, "without aliases"),
    "far too large": ("# " + "x" * 50 + "\n" * 10_000_000, "far too large"),
    "thousands of keys": ("".join(f"k{n}: 1\n" for n in range(2000)), "no dial"),
    "unknown section": ("optimizer: {lr: 1e-3}\n", "no dial 'optimizer.lr'"),
    "unknown dial": ("optim: {lrr: 1e-3}\n", "did you mean 'optim.lr'"),
    "a section as a value": ("optim: 3\n", "no dial 'optim'"),
    "a value as a section": ("epochs: {number: 3}\n", "no dial 'epochs.number'"),
    "a number as a key": ("3: 4\n", "no dial '3'"),
    "text for a number": ("optim: {lr: fast}\n", "optim.lr"),
    "a number in quotes": ("epochs: '3'\n", "epochs"),
    "a fraction for a count": ("epochs: 2.5\n", "epochs"),
    "a switch for a count": ("epochs: true\n", "epochs"),
    "a list for a value": ("epochs: [3]\n", "epochs"),
    "nothing for a value": ("epochs:\n", "epochs"),
    "not a number": ("optim: {lr: .nan}\n", "optim.lr"),
    "infinite": ("optim: {lr: .inf}\n", "optim.lr"),
    "too small": ("optim: {lr: 0}\n", "optim.lr: input should be greater than 0"),
    "too large": ("model: {embedding_size: 1000000}\n", "model.embedding_size"),
    "hundreds of digits": ("epochs: " + "9" * 400 + "\n", "epochs"),
    "thousands of digits": ("epochs: " + "9" * 5000 + "\n", "must be YAML"),
    "an unknown choice": ("loss: {name: constrastive}\n", "loss.name"),
    "text for a switch": ("model: {unit_length: 'yes'}\n", "model.unit_length"),
    "an odd batch": ("batch: {images: 33}\n", "batch.images must be even"),
    "a batch of one person": ("batch: {images: 8, images_per_identity: 8}\n", "two people"),
    "too small pictures": (
        "model: {architecture: chopra}\ndata: {resolution_px: 32}\n", "chopra needs",
    ),
    "too small to be straightened": (
        "model: {spatial_transformer: true}\ndata: {resolution_px: 16}\n", "spatial_transformer",
    ),
    "arcface with l1": ("loss: {name: arcface, distance: l1}\n", "must be cosine"),
    "escape codes": ('"\\e[31mred": 1\n', "no dial"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["search", "plan"])
def test_landmarks_that_any_crop_of_a_space_needs_are_asked_for_at_once(
    here: Path, siamtune: Callable[..., Answer], verb: str
) -> None:
    (here / "space.yaml").write_text(
        "version: 1\nspace:\n  data.crop: {choice: [center, aligned]}\n"
    )
    words = (verb, "--space", "space.yaml", "--data", "demo")
    refuse(here, siamtune, words, 3, "the crop aligned needs the file")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_configuration_is_refused(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    content, phrase = CONFIGS[name]
    path = here / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refuse(here, siamtune, ("train", "--config", "config.yaml", "--data", "demo"), 3, phrase)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize("what", ["absent", "folder", "link to itself"])
def test_what_is_no_configuration_file_is_refused(
    here: Path, siamtune: Callable[..., Answer], verb: str, what: str
) -> None:
    if what == "folder":
        (here / what).mkdir()
    elif what != "absent":
        (here / what).symlink_to(here / what)
    refuse(here, siamtune, (verb, "--config", what), 3, "must be a configuration's file")


# Folders of pictures


def picture(seed: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (6, 5, channels)).astype(np.float32)
    large = cv2.resize(coarse, (40, 48), interpolation=cv2.INTER_CUBIC)
    return large.clip(0, 255).astype(np.uint8)


def png(seed: int) -> bytes:
    return cv2.imencode(".png", picture(seed))[1].tobytes()


def people(folder: Path, number: int = 20, pictures: int = 2) -> Path:
    for person in range(number):
        (folder / f"person {person}").mkdir(parents=True)
        for place in range(pictures):
            content = png(100 * person + place)
            (folder / f"person {person}" / f"{place}.png").write_bytes(content)
    return folder


def no_folder(folder: Path) -> None:
    pass


def a_file(folder: Path) -> None:
    folder.write_bytes(png(0))


def empty(folder: Path) -> None:
    folder.mkdir()


def itself(folder: Path) -> None:
    folder.symlink_to(folder)


def nowhere(folder: Path) -> None:
    folder.symlink_to(folder.parent / "gone")


def flat(folder: Path) -> None:
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}.png").write_bytes(png(n))


def too_deep(folder: Path) -> None:
    people(folder / "by year" / "2020")


def other_files(folder: Path) -> None:
    for n in range(4):
        (folder / f"person {n}").mkdir(parents=True)
        (folder / f"person {n}" / "notes.txt").write_text("none")


def hidden(folder: Path) -> None:
    people(folder / ".trash")


def one_person(folder: Path) -> None:
    people(folder, 1, 5)


def one_picture_each(folder: Path) -> None:
    people(folder, 12, 1)


def two_people(folder: Path) -> None:
    people(folder, 2, 4)


def links_back(folder: Path) -> None:
    folder.mkdir()
    for n in range(4):
        (folder / f"person {n}").symlink_to(folder)


def name_without_text(folder: Path) -> None:
    people(folder, 4)
    os.mkdir(os.fsencode(folder) + b"/\xff\xfe")
    with open(os.fsencode(folder) + b"/\xff\xfe/0.png", "wb") as file:
        file.write(png(1))


def spoil(folder: Path, content: Callable[[bytes], bytes]) -> None:
    """Twenty people; both pictures of eleven are spoilt: more than half."""
    people(folder)
    for path in sorted(folder.glob("*/*.png"))[:22]:
        path.write_bytes(content(path.read_bytes()))


def folders_for_pictures(folder: Path) -> None:
    for n in range(5):
        for place in range(2):
            (folder / f"person {n}" / f"{place}.jpg").mkdir(parents=True)


def dangling_pictures(folder: Path) -> None:
    for n in range(5):
        (folder / f"person {n}").mkdir(parents=True)
        for place in range(2):
            (folder / f"person {n}" / f"{place}.jpg").symlink_to("gone.jpg")


def pipes_for_pictures(folder: Path) -> None:
    for n in range(5):
        (folder / f"person {n}").mkdir(parents=True)
        for place in range(2):
            os.mkfifo(folder / f"person {n}" / f"{place}.jpg")


def claims_to_be_huge(content: bytes) -> bytes:
    """A PNG whose header promises 60 000 x 60 000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (no_folder, "does not exist"),
    "a file": (a_file, "is a file"),
    "empty": (empty, "holds no pictures"),
    "a link to itself": (itself, "does not exist"),
    "a link to nowhere": (nowhere, "does not exist"),
    "no folder a person": (flat, "holds no pictures"),
    "people too deep": (too_deep, "holds no pictures"),
    "other files": (other_files, "holds no pictures"),
    "hidden": (hidden, "holds no pictures"),
    "one person": (one_person, "one person only"),
    "one picture each": (one_picture_each, "nobody with two pictures"),
    "two people": (two_people, "people"),
    "links back into the folder": (links_back, "holds no pictures"),
    "a name that is no UTF-8": (name_without_text, "must be UTF-8"),
    "empty pictures": (lambda f: spoil(f, lambda _: b""), "22 of 40 pictures cannot be read"),
    "cut pictures": (lambda f: spoil(f, lambda c: c[:40]), "22 of 40 pictures cannot be read"),
    "no pictures": (lambda f: spoil(f, lambda _: b"GIF89a?"), "22 of 40 pictures cannot be read"),
    "zeros": (lambda f: spoil(f, lambda c: bytes(len(c))), "22 of 40 pictures cannot be read"),
    "pickles": (
        lambda f: spoil(f, lambda _: pickle.dumps([1])), "22 of 40 pictures cannot be read",
    ),
    "promises of 3.6 gigapixels": (
        lambda f: spoil(f, claims_to_be_huge), "22 of 40 pictures cannot be read",
    ),
    "folders for pictures": (folders_for_pictures, "10 of 10 pictures cannot be read"),
    "links to nowhere for pictures": (dangling_pictures, "10 of 10 pictures cannot be read"),
    "pipes for pictures": (pipes_for_pictures, "10 of 10 pictures cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bad_folder_of_people_is_refused(
    here: Path, cache: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    make, phrase = FOLDERS[name]
    make(here / "people")
    refuse(here, siamtune, ("train", "--data", "people", "--name", "new"), 3, phrase)
    refuse(here, siamtune, ("data", "check", "people"), 3, phrase)
    left = [path.name for path in (cache / "pictures").glob("*") if path.is_dir()]
    assert not [name for name in left if name.startswith(".")], "nothing half-decoded"


def sixteen_bits(seed: int) -> tuple[str, bytes]:
    return ".png", cv2.imencode(".png", picture(seed).astype(np.uint16) * 257)[1].tobytes()


def gray(seed: int) -> tuple[str, bytes]:
    return ".pgm", cv2.imencode(".pgm", picture(seed, 1))[1].tobytes()


def alpha(seed: int) -> tuple[str, bytes]:
    return ".png", cv2.imencode(".png", picture(seed, 4))[1].tobytes()


def by_pillow(mode: str, form: str) -> Callable[[int], tuple[str, bytes]]:
    def encode(seed: int) -> tuple[str, bytes]:
        image = pytest.importorskip("PIL.Image")
        buffer = io.BytesIO()
        image.fromarray(picture(seed)).convert(mode).save(buffer, form)
        return f".{form.lower()}", buffer.getvalue()

    return encode


ACCEPTED = {
    "16 bits": sixteen_bits, "gray": gray, "alpha": alpha, "palette": by_pillow("P", "PNG"),
    "CMYK": by_pillow("CMYK", "JPEG"), "one bit": by_pillow("1", "PNG"),
    "webp": by_pillow("RGB", "WEBP"), "bmp": by_pillow("RGB", "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_kind_of_picture_is_accepted(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    people(here / "people")
    for n in range(20):
        suffix, content = ACCEPTED[name](5000 + n)
        (here / "people" / f"person {n}" / f"another{suffix}").write_bytes(content)
    answer = siamtune("data", "check", "people", "--json")
    assert answer.code in (0, 3), answer.stderr  # one-bit pictures may look like one another
    found = json.loads(answer.stdout)
    assert (found["pictures"], found["unreadable"]) == (60, [])


STRANGE = {
    "unicode": "Zoë 王小明 🙂",
    "250 characters": "n" * 250,
    "250 bytes of three": "王" * 83,
    "escape codes": "\x1b[31mred\x07",
    "markup": "[bold]<b>&amp;[red]",
    "a line break": "two\nlines",
    "quotes": 'O\'Brien "x" $HOME `id`; rm -rf',
    "a minus": "--help",
}


@pytest.mark.parametrize("name", STRANGE)
def test_every_name_of_a_person_is_accepted(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    people(here / "people")
    person = here / "people" / STRANGE[name]
    person.mkdir()
    for place in range(2):
        (person / f"{STRANGE[name][:60]} {place}.png").write_bytes(png(9000 + place))
    (person / f"{STRANGE[name][:60]} bad.png").write_bytes(b"")
    answer = siamtune("data", "check", "people")
    assert answer.code == 0, answer.stderr
    assert "21 people, 43 pictures" in answer.stdout
    assert "\x1b" not in answer.stdout + answer.stderr


def test_symlink_loops_and_few_bad_pictures_are_left_out(
    here: Path, siamtune: Callable[..., Answer]
) -> None:
    folder = people(here / "people")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "person 0" / "up").symlink_to(folder)
    (folder / "person 0" / "again.png").symlink_to(folder / "person 0" / "again.png")
    os.mkfifo(folder / "person 1" / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    os.chdir(folder / "person 2")  # the path of a socket must be short
    server.bind("socket.png")
    os.chdir(here)
    answer = siamtune("data", "check", "people")
    server.close()
    assert answer.code == 0, answer.stderr
    assert "20 people, 43 pictures" in answer.stdout
    assert answer.stdout.count("cannot be read") == 3


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_or_written_is_refused(
    siamtune: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(here / "people")
    assert siamtune("data", "check", "people").code == 0  # so that all modules are loaded
    with TemporaryDirectory() as name:
        open_to_all = Path(name)
        open_to_all.chmod(0o755)
        (open_to_all / "cache").mkdir()
        (open_to_all / "cache").chmod(0o777)
        monkeypatch.chdir(open_to_all)
        monkeypatch.setenv("SIAMTUNE_CACHE", str(open_to_all / "cache"))
        shut = people(open_to_all / "shut", 3)
        (open_to_all / "config.yaml").write_text("epochs: 1\n")
        for path in (shut, open_to_all / "config.yaml"):
            path.chmod(0)
        one_shut = people(open_to_all / "one shut")
        (one_shut / "person 1").chmod(0)
        some_shut = people(open_to_all / "some shut")
        for path in sorted(some_shut.glob("*/*.png"))[:22]:
            path.chmod(0)
        with as_nobody():
            for words, phrase in (
                (("data", "check", "shut"), "cannot be listed"),
                (("data", "check", "one shut"), "cannot be listed"),
                (("data", "check", "some shut"), "22 of 40 pictures cannot be read"),
                (("train", "--config", "config.yaml"), "Permission denied"),
            ):
                check_refused(siamtune(*words), 3, phrase)
            monkeypatch.setenv("SIAMTUNE_CACHE", str(open_to_all / "no" / "cache"))
            answer = siamtune("data", "check", str(open_to_all / "some shut"))
            check_refused(answer, 3, "the cache folder must be writable")


# Models


def facts_of(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["siamtune"])


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The same tensors under other facts."""
    facts = facts_of(path)
    tensors = load_file(path)
    change(facts)
    save_file(tensors, path, {"siamtune": json.dumps(facts)})


class Trap:
    """What a pickle does when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path.cwd() / "unpickled"),)


def torch_file(path: Path) -> None:
    import torch

    torch.save({"model": Trap()}, path)


def zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../outside.txt", "x")


def cut(path: Path, size: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * size)])


def lose_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    facts = facts_of(path)
    tensors.pop(next(name for name in tensors if name.endswith(".weight")))
    save_file(tensors, path, {"siamtune": json.dumps(facts)})


def a_million_byte_header(path: Path) -> None:
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")


MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "absent": (lambda p: p.unlink(), "must hold model.safetensors"),
    "empty": (lambda p: p.write_bytes(b""), "cannot be read"),
    "cut in the header": (lambda p: cut(p, 0.01), "cannot be read"),
    "cut in the middle": (lambda p: cut(p, 0.5), "cannot be read"),
    "without its last byte": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "cannot be read"),
    "zeros": (lambda p: p.write_bytes(bytes(5000)), "cannot be read"),
    "an endless header": (a_million_byte_header, "cannot be read"),
    "a picture": (lambda p: p.write_bytes(png(1)), "cannot be read"),
    "a text": (lambda p: p.write_text("model"), "cannot be read"),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps(Trap())), "cannot be read"),
    "a pickle of PyTorch": (torch_file, "cannot be read"),
    "an archive": (zip_file, "cannot be read"),
    "foreign tensors": (
        lambda p: p.write_bytes(safetensors_bytes({"w": np.zeros(3, np.float32)})),
        "must be a checkpoint written by siamtune",
    ),
    "facts that are no JSON": (
        lambda p: save_file({"w": np.zeros(1)}, p, {"siamtune": "{"}), "cannot be read",
    ),
    "facts that are a list": (
        lambda p: save_file({"w": np.zeros(1)}, p, {"siamtune": "[]"}), "checkpoint format",
    ),
    "facts without end": (
        lambda p: save_file({"w": np.zeros(1)}, p, {"siamtune": "[" * 100_000}),
        "cannot be read",
    ),
    "another version": (lambda p: rewritten(p, lambda f: f.update(format=99)), "format"),
    "no version": (lambda p: rewritten(p, lambda f: f.pop("format")), "format"),
    "no configuration": (lambda p: rewritten(p, lambda f: f.pop("config")), "config"),
    "a configuration that is none": (lambda p: rewritten(p, lambda f: f.update(config=3)), ""),
    "an unknown dial": (
        lambda p: rewritten(p, lambda f: f["config"].update(nonsense=1)), "nonsense",
    ),
    "another architecture": (
        lambda p: rewritten(p, lambda f: f["config"].update({"model.embedding_size": 32})),
        "must hold a whole model",
    ),
    "no threshold": (lambda p: rewritten(p, lambda f: f.update(metrics={})), "threshold"),
    "metrics that are none": (lambda p: rewritten(p, lambda f: f.update(metrics=[1])), ""),
    "a face box that is none": (lambda p: rewritten(p, lambda f: f.update(face_box="x")), ""),
    "a tensor less": (lose_a_tensor, "must hold a whole model"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_bad_model_is_refused(
    here: Path,
    siamtune: Callable[..., Answer],
    trained_run: Path,
    pattern_people: Path,
    name: str,
) -> None:
    damage, phrase = MODELS[name]
    folder = here / "model"
    folder.mkdir()
    for file in ("run.json", "trials.jsonl"):
        shutil.copy(trained_run / file, folder)
    (folder / "best").mkdir()
    shutil.copy(trained_run / "best" / "model.safetensors", folder / "best")
    damage(folder / "best" / "model.safetensors")
    refuse_model(here, siamtune, pattern_people, "model", phrase)
    exported = phrase if name != "absent" else "must have a checkpoint"
    refuse(here, siamtune, ("export", "model", "--to", "out"), 3, exported)


def refuse_model(
    here: Path, siamtune: Callable[..., Answer], people: Path, model: str, phrase: str
) -> None:
    """`refuse` of the verbs that use a model."""
    person = str(people / "person 00")
    pair = (f"{person}/0.png", f"{person}/1.png")
    refuse(here, siamtune, ("predict", *pair, "--model", model), 3, phrase)
    refuse(here, siamtune, ("embed", person, "-o", "e.npz", "--model", model), 3, phrase)


def no_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


EXPORTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "without its model": (no_model, "must hold model.safetensors"),
    "cut": (lambda f: cut(f / "model.safetensors", 0.5), "cannot be read"),
    "a pickle under its name": (
        lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Trap())), "cannot be read",
    ),
    "of another program": (
        lambda f: save_file({"w": np.zeros(3)}, f / "model.safetensors"),
        "must be a checkpoint written by siamtune",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_a_bad_export_is_refused(
    here: Path,
    siamtune: Callable[..., Answer],
    trained_run: Path,
    pattern_people: Path,
    name: str,
) -> None:
    damage, phrase = EXPORTS[name]
    assert siamtune("export", str(trained_run), "--to", "export").code == 0
    damage(here / "export")
    refuse_model(here, siamtune, pattern_people, "export", phrase)


# Run folders


def damaged_run(here: Path, file: str, content: str | bytes | None) -> None:
    folder = here / "runs" / "faces"
    folder.mkdir(parents=True)
    facts = {
        "name": "faces", "kind": "search", "created": "2026-01-01T00:00:00+00:00",
        "objective": {"metric": "val/auc", "mode": "max"}, "trials": 1, "data": "demo",
        "protocol": "identity-holdout", "split": "5b1e",
        "data_spec": {"source": "nowhere", "data_home": None, "landmarks": None, "split_seed": 0},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "space.yaml").write_text(TINY_SPACE)
    (folder / "trials.jsonl").write_text(TINY_EVENTS)
    path = folder / file
    if content is None:
        path.unlink()
    elif content == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


FAULTY_FACTS: dict[str, str | bytes] = {
    "empty": "", "cut": '{"name": "fac', "a list": "[]", "binary": b"\xff\xfe\x00",
    "without end": "[" * 100_000,
}  # fmt: skip
FAULTY_EVENTS: dict[str, str | bytes] = {
    "no JSON": "nonsense\n",
    "binary": b"\xff\xfe\x00\n",
    "a number": "3\n",
    "a list": "[1]\n",
    "no event": "{}\n",
    "an unknown event": '{"event": "paused", "trial": 0}\n',
    "an epoch before its trial": '{"event": "epoch", "trial": 5, "metrics": {"epoch": 1}}\n',
    "no metrics": '{"event": "epoch", "trial": 0}\n',
    "metrics that are none": '{"event": "epoch", "trial": 0, "metrics": [1]}\n',
    "an epoch that is none": '{"event": "epoch", "trial": 0, "metrics": {"epoch": "x"}}\n',
    "a metric that is none": (
        '{"event": "epoch", "trial": 0, "metrics": {"epoch": 2, "val/auc": "high"}}\n'
    ),
    "a configuration that is none": '{"event": "started", "trial": 1, "time": 1, "config": 3}\n',
    "an unknown state": '{"event": "ended", "trial": 0, "time": 2, "state": "superb"}\n',
    "an infinite trial": '{"event": "started", "trial": Infinity, "time": 1, "config": {}}\n',
    "without end": "[" * 100_000 + "\n",
    "a folder": "a folder",
}
READ = [
    ("top", "faces"), ("show", "faces", "0"), ("diff", "faces", "0", "0"), ("report", "faces"),
]  # fmt: skip


@pytest.mark.parametrize("name", FAULTY_FACTS)
def test_a_damaged_run_json_is_refused(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    damaged_run(here, "run.json", FAULTY_FACTS[name])
    for words in [*READ, ("resume", "faces"), ("export", "faces", "--to", "out")]:
        refuse(here, siamtune, words, 3, "run.json")
    before = everything(here)
    listed = siamtune("ls")  # the others are listed all the same
    assert listed.code == 0
    assert "run.json" in listed.stderr
    assert everything(here) == before


@pytest.mark.parametrize("name", FAULTY_EVENTS)
def test_a_damaged_trials_jsonl_is_refused(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    content = FAULTY_EVENTS[name]
    if content != "a folder":
        content = TINY_EVENTS.encode() + (content.encode() if isinstance(content, str) else content)
    damaged_run(here, "trials.jsonl", content)
    for words in READ:
        refuse(here, siamtune, words, 3, "trials.jsonl")
    listed = siamtune("ls")
    assert listed.code == 0
    assert listed.stderr.count("trials.jsonl") == 1


RUNS: dict[str, tuple[str, str | bytes | None, tuple[str, ...], str]] = {
    "resume without a space": ("space.yaml", None, ("resume", "faces"), "space.yaml"),
    "resume without its data": ("environment.json", "{}", ("resume", "faces"), "does not exist"),
    "resume without trials": ("run.json", "{}", ("resume", "faces"), "run.json"),
    "resume of no data_spec": (
        "run.json", '{"trials": 3, "data_spec": {"x": 1}}', ("resume", "faces"), "run.json",
    ),
    "resume of a word for trials": (
        "run.json", '{"trials": "many", "data_spec": {}}', ("resume", "faces"), "run.json",
    ),
    "an objective that is none": (
        "run.json", '{"objective": "auc"}', ("resume", "faces"), "run.json",
    ),
    "a damaged space": ("space.yaml", "space: [", ("top", "faces"), "space.yaml"),
    "a space that is a folder": ("space.yaml", "a folder", ("top", "faces"), "space.yaml"),
    "board without logs": ("environment.json", "{}", ("board", "faces"), "must hold the logs"),
    "export without a model": (
        "environment.json", "{}", ("export", "faces", "--to", "out"), "must have a checkpoint",
    ),
    "show of a trial that is not": ("environment.json", "{}", ("show", "faces", "7"), "but got 7"),
    "diff of a trial that is not": (
        "environment.json", "{}", ("diff", "faces", "0", "7"), "but got 7",
    ),
    "a report into nowhere": (
        "environment.json", "{}", ("report", "faces", "--to", "no/r.html"), "cannot be written",
    ),
    "a report into a device": (
        "environment.json", "{}", ("report", "faces", "--to", "/dev/null/r.html"), "cannot be",
    ),
    "a run by a way out": (
        "environment.json", "{}", ("top", "../../../../etc"), "must be a run folder or the name",
    ),
    "a name of thousands of letters": (
        "environment.json", "{}", ("top", "n" * 1000), "must be a run folder or the name",
    ),
    "a name with a zero": (
        "environment.json", "{}", ("top", "a\0b"), "must be a run folder or the name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_cannot_serve_is_refused(
    here: Path, siamtune: Callable[..., Answer], name: str
) -> None:
    file, content, words, phrase = RUNS[name]
    damaged_run(here, "environment.json", "{}")
    shutil.rmtree(here / "runs")
    if file == "environment.json":
        damaged_run(here, "environment.json", "{}")
    else:
        damaged_run(here, file, content)
    refuse(here, siamtune, words, 3, phrase)


@pytest.mark.parametrize("trials", ["more", "+0", "-3", "1.5", ""])
def test_a_search_cannot_go_on_to_no_number(
    here: Path, siamtune: Callable[..., Answer], trials: str
) -> None:
    damaged_run(here, "environment.json", "{}")
    words = ("resume", "faces", f"--trials={trials}")
    refuse(here, siamtune, words, 2, "--trials must be a number like 100, or +50")


def test_an_evaluation_with_an_odd_objective_is_still_listed(
    here: Path, siamtune: Callable[..., Answer]
) -> None:
    damaged_run(here, "run.json", '{"objective": "auc", "created": 3, "data": ["x"]}')
    listed = siamtune("ls")
    assert listed.code == 0
    assert "unexpected" not in listed.stderr


# Flags

SEARCH = ("search", "--space", "quickstart", "--data", "nowhere")
FLAGS: dict[str, tuple[tuple[str, ...], int, str]] = {
    **{
        f"a time budget of {text!r}": ((*SEARCH, "--time-budget", text), 2, "90s, 10m, 2h or 1d")
        for text in ("10", "0s", "m", "-5m", "1h30m", "1e9s", "5 minutes", "nan", "٣m", "9" * 400
                     + "h")
    },
    **{
        f"the name {text!r}": (("train", "--data", "$people", "--name", text), 2, "--name must be")
        for text in ("../up", "/etc/x", "a/b", "..", ".hidden", "", "-", "n" * 65, "a b", "é",
                     "a\nb", "a\0b")
    },
    "trials below one": ((*SEARCH, "--trials", "0"), 2, "greater than or equal to 1"),
    "trials in words": ((*SEARCH, "--trials", "many"), 2, "a valid integer"),
    "no trials at once": ((*SEARCH, "--concurrent", "0"), 2, "greater than or equal to 1"),
    "no workers": ((*SEARCH, "--workers-per-trial", "0"), 2, "greater than or equal to 1"),
    "half a worker": ((*SEARCH, "--workers-per-trial", "1.5"), 2, "a valid integer"),
    "no processors": ((*SEARCH, "--cpus-per-worker", "0"), 2, "greater than or equal to 0.01"),
    "processors that are no number": ((*SEARCH, "--cpus-per-worker", "nan"), 2, "cpus"),
    "GPUs below none": ((*SEARCH, "--gpus-per-worker", "-1"), 2, "greater than or equal to 0"),
    "a negative seed": ((*SEARCH, "--seed", "-1"), 2, "greater than or equal to 0"),
    "a negative split seed": ((*SEARCH, "--split-seed", "-1"), 2, "greater than or equal to 0"),
    "no epochs": (("train", "--epochs", "0"), 2, "greater than or equal to 1"),
    "too many epochs": (("train", "--epochs", "100001"), 3, "epochs"),
    "too large a seed": (("train", "--seed", str(2**31)), 3, "seed"),
    "no threads": (("train", "--threads", "0"), 2, "greater than or equal to 1"),
    "a dial without a value": (("train", "--set", "optim.lr"), 2, "--set must be key=value"),
    "a value without a dial": (("train", "--set", "=3"), 2, "--set must be key=value"),
    "an unknown dial": (("train", "--set", "lr=3"), 3, "did you mean 'optim.lr'"),
    "an empty value": (("train", "--set", "optim.lr="), 3, "optim.lr"),
    "a broken value": (("train", "--set", "optim.lr=[1"), 3, "optim.lr"),
    "a value without end": (("train", "--set", "optim.lr=" + "[" * 100_000), 3, "optim.lr"),
    "a configuration and a space": (
        ("train", "--config", "a.yaml", "--space", "full"), 2, "not both",
    ),
    "an unknown option": (("train", "--learning-rate", "1"), 2, "No such option"),
    "an unknown verb": (("tune",), 2, "No such command"),
    "a zero in the data's name": (("train", "--data", "a\0b"), 3, "does not exist"),
    "data of thousands of letters": (("train", "--data", "n" * 1000), 3, "does not exist"),
    "another user's home": (("train", "--data", "~nobody-here/faces"), 3, "does not exist"),
    "output into a file": (("train", "--data", "$people", "--output", "file"), 3, "cannot be made"),
    "output into a device": (
        ("train", "--data", "$people", "--output", "/dev/null/runs"), 3, "cannot be made",
    ),
    "output into /proc": (
        ("train", "--data", "$people", "--output", "/proc/runs"), 3, "cannot be made",
    ),
    "output into nowhere in a store": (
        ("train", "--data", "$people", "--output", "file:///dev/null/runs"), 3, "must be",
    ),
    "output into an unknown store": (
        ("train", "--data", "$people", "--output", "pigeon://coop/runs"), 2, "like s3://bucket",
    ),
    "output with a password": (
        ("train", "--data", "$people", "--output", "s3://key:secret@bucket/runs"), 2, "no more",
    ),
    "output with options": (
        ("ls", "--output", "s3://bucket/runs?token=1"), 2, "AWS_ENDPOINT_URL",
    ),
    "output to no bucket": (("ls", "--output", "s3://"), 2, "must name a place"),
    "a run that no store has": (("top", "file:///nowhere/runs/x"), 3, "must be a run folder or"),
    "landmarks that are none": (
        ("train", "--data", "$people", "--set", "data.crop=trees", "--landmarks", "file"), 3,
        "landmarks",
    ),
    "landmarks that are not there": (
        ("train", "--data", "$people", "--set", "data.crop=trees", "--landmarks", "gone"), 3,
        "landmarks",
    ),
    "no landmarks for aligned faces": (
        ("train", "--data", "$people", "--set", "data.crop=aligned"), 3, "5 or 68 points",
    ),
    "no landmarks": (("train", "--data", "$people", "--set", "data.crop=trees"), 3, "landmarks"),
    "a data home that is a file": (
        ("train", "--data", "lfw", "--data-home", "file"), 3, "lfw was not found",
    ),
    "olivetti that is none": (
        ("train", "--data", "olivetti", "--data-home", "home"), 3, "cannot be read",
    ),
    "an unknown source to fetch": (("data", "fetch", "celeba"), 3, "fetch knows lfw and olivetti"),
    "an unknown protocol": (("evaluate", "--protocol", "lfw3", "--data", "$people"), 3, "protocol"),
    "a protocol of other data": (
        ("evaluate", "--protocol", "lfw-view1", "--data", "demo"), 3, "lfw",
    ),
    "a search by those who are tested in turn": (
        ("search", "--space", "quickstart", "--protocol", "lfw-view2"), 2,
        "search with --protocol lfw-view1",
    ),
    "a search by an unknown protocol": (
        ("search", "--space", "quickstart", "--protocol", "lfw3"), 2, "--protocol must be one of",
    ),
    "a search by a protocol of other data": (
        ("search", "--space", "quickstart", "--protocol", "lfw-view1", "--data", "demo"), 3, "lfw",
    ),
    "one fresh seed": (
        ("resume", "faces", "--replicate", "5x1"), 2, "two seeds or more, like 5x3",
    ),
    "a cluster for one worker": (
        ("train", "--address", "10.0.0.1:6379"), 2, "--address goes with --workers 2 or more",
    ),
    "GPUs for one worker": (
        ("train", "--gpus-per-worker", "0"), 2, "--gpus-per-worker goes with --workers 2",
    ),
    "an unknown scorer": (("evaluate", "--scorer", "best"), 2, "--scorer must be one of"),
    "an unknown threshold": (("evaluate", "--threshold-from", "test"), 2, "--threshold-from must"),
    "port 0": (("board", "faces", "--port", "0"), 2, "--port"),
    "port 65536": (("board", "faces", "--port", "65536"), 2, "65535"),
    "a port in words": (("board", "faces", "--port", "http"), 2, "a valid integer"),
    "one picture": (("predict", "a.png"), 2, "give two pictures"),
    "three pictures": (("predict", "a.png", "b.png", "c.png"), 2, "give two pictures"),
    "pictures and pairs": (("predict", "a.png", "b.png", "--pairs", "p.csv"), 2, "give two"),
    "pairs that are no text": (("predict", "--pairs", "binary.csv"), 3, "must be a CSV file"),
    "pairs in a folder": (("predict", "--pairs", "home"), 3, "must be a CSV file"),
    "pictures that are not there": (
        ("predict", "a.png", "b.png", "--model", "$model"), 3, "do not exist",
    ),
    "pictures that are none": (
        ("predict", "file", "file", "--model", "$model"), 3, "1 of 1 pairs have no answer",
    ),
    "an unknown model": (("predict", "a", "b", "--model", "none"), 3, "--model must be"),
    "a model that is a picture": (("predict", "a", "b", "--model", "file"), 3, "cannot be read"),
    "no pictures for the model that comes along": (("predict", "a", "b"), 3, "must be pictures"),
    "embeddings of another kind": (("embed", "$people", "-o", "e.pkl"), 2, "must name an .npz"),
    "embeddings into nowhere": (
        ("embed", "$people", "-o", "no/e.npz", "--model", "$model"), 3, "cannot be written",
    ),
    "embeddings into a folder": (
        ("embed", "$people", "-o", "folder.npz", "--model", "$model"), 3, "cannot be written",
    ),
    "embeddings of nothing": (("embed", "home", "-o", "e.npz"), 3, "must hold pictures"),
    "an export into a folder that is used": (
        ("export", "$model", "--to", "home"), 2, "must be a new or an empty folder",
    ),
    "an export into a file": (("export", "$model", "--to", "file"), 2, "must be a new or an empty"),
    "an export below a file": (("export", "$model", "--to", "file/x"), 3, "cannot be"),
    "an export into a device": (("export", "$model", "--to", "/dev/null/x"), 3, "cannot be"),
    "a false accept rate of 2": (("export", "$model", "--to", "out", "--far", "2"), 3, "rate"),
    "a false accept rate of nan": (("export", "$model", "--to", "out", "--far", "nan"), 3, "rate"),
    "a negative false accept rate": (
        ("export", "$model", "--to", "out", "--far", "-0.1"), 3, "false accept",
    ),
    "a false accept rate too small": (
        ("export", "$model", "--to", "out", "--far", "1e-9"), 3, "false accept",
    ),
    "resume of a training": (("resume", "$model"), 3, "space.yaml"),
    "rows below one": (("top", "$model", "-n", "0"), 2, "greater than or equal to 1"),
    "submit of nothing": (("submit", "--address", "http://127.0.0.1:1"), 2, "Missing argument"),
    "submit of an unknown verb": (
        ("submit", "--address", "http://127.0.0.1:1", "--", "rm", "-rf"), 2, "rm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGS)
def test_a_bad_flag_is_refused(
    here: Path,
    siamtune: Callable[..., Answer],
    trained_run: Path,
    pattern_people: Path,
    name: str,
) -> None:
    words, code, phrase = FLAGS[name]
    stands_for = {"$people": str(pattern_people), "$model": str(trained_run)}
    (here / "file").write_bytes(b"no picture, model, configuration or landmarks")
    (here / "binary.csv").write_bytes(bytes(range(256)))
    (here / "home").mkdir()
    (here / "home" / "olivetti_py3.pkz").write_bytes(b"damaged")
    (here / "folder.npz").mkdir()
    before = everything(trained_run)
    refuse(here, siamtune, tuple(stands_for.get(word, word) for word in words), code, phrase)
    assert everything(trained_run) == before


# The same as a shell sees it


@pytest.mark.parametrize(
    ("words", "code"),
    [(("train", "--config", "config.yaml"), 3), (("train", "--name", "../up"), 2),
     (("data", "check", "gone"), 3)],
)  # fmt: skip
def test_a_shell_sees_the_same(here: Path, words: tuple[str, ...], code: int) -> None:
    (here / "config.yaml").write_text("epochs: many\n")
    before = everything(here)
    done = subprocess.run(
        [sys.executable, "-m", "siamtune", *words], capture_output=True, text=True
    )
    check_refused(Answer(done.returncode, done.stdout, done.stderr), code, "")
    assert not done.stdout
    assert everything(here) == before
