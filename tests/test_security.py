"""Nothing that a person is handed runs as code, and nothing secret is left lying about."""

import ast
import os
import pickle
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

import siamtune
from siamtune.data.sources import open_source
from siamtune.errors import DataError, InvalidInput
from siamtune.launch.cluster import check_token_file, prepare_environment

PACKAGE = Path(siamtune.__file__).parent

# Every class that a pickle names is told to audit hooks, in Python's unpickler and in C's.
AUDITED = """
import sys
from pathlib import Path
run, person, out = map(Path, sys.argv[1:])
import joblib, optuna, torch  # what they do while they are imported is not of interest
from siamtune.cli.main import app
from siamtune.search.space import load_space
from siamtune.search.study import open_study
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event.startswith("pickle.") else None)
pair = [str(person / "0.png"), str(person / "1.png")]
for words in (
    ["top", str(run)], ["show", str(run), "0"],
    ["export", str(run), "--to", str(out / "model")],
    ["predict", *pair, "--model", str(run)], ["predict", *pair, "--model", str(out / "model")],
    ["embed", str(person), "-o", str(out / "e.npz"), "--model", str(run)],
    ["ls", "--output", str(run.parent)], ["spaces", "check", "full"],
):
    app(words, standalone_mode=False)
space = load_space("quickstart")
for _ in range(2):  # written, and read back
    open_study(out / "study.log", space).ask()
assert (out / "model" / "model.safetensors").exists() and (out / "e.npz").exists()
print("unpickled:", seen, file=sys.stderr)
sys.exit(bool(seen))
"""


def test_no_verb_unpickles_what_it_reads(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    person = pattern_people / "person 00"
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(trained_run), str(person), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# What runs the code in a file, by the module or the call that does.
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
HARMLESS = {
    ("data/olivetti.py", "pickle"),
    ("data/olivetti.py", "joblib"),
    ("data/boxes.py", "joblib"),
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_has_what_unpickles(path: Path) -> None:
    """But the reader of Olivetti, whose traps are below, and the pool that looks for faces."""
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            modules = named if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                root = module.partition(".")[0]
                assert root not in MODULES or (name, root) in HARMLESS, f"{name}: {module}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {word.arg: word.value for word in node.keywords}
            assert "allow_pickle" not in words, f"{name}: {called}"
            assert called not in ("torch.load", "eval", "exec", "yaml.load"), f"{name}: {called}"
            if called.endswith("YAML"):  # ruamel's types that make no objects
                kind = words.get("typ")
                assert kind is None or ast.literal_eval(kind) in ("rt", "safe")


class Trap:
    """What a pickle does when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("way", ["plain", "compressed", "in an array", "in joblib's array"])
def test_a_trap_in_the_file_of_olivetti_does_not_snap(tmp_path: Path, way: str) -> None:
    path, sprung = tmp_path / "olivetti_py3.pkz", tmp_path / "sprung"
    trap = Trap(sprung)
    objects = np.array([trap] * 4, dtype=object)
    match way:
        case "plain":
            path.write_bytes(pickle.dumps(trap))
        case "compressed":
            path.write_bytes(zlib.compress(pickle.dumps(trap)))
        case "in an array":
            path.write_bytes(pickle.dumps(objects))
        case _:
            joblib.dump(objects, path)
    with pytest.raises(DataError, match="cannot be read"):
        open_source("olivetti", tmp_path)
    assert not sprung.exists()
    joblib.load(path)
    assert sprung.exists(), "the trap was one"


def test_a_bomb_in_the_file_of_olivetti_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "olivetti_py3.pkz").write_bytes(zlib.compress(bytes(200_000_000), 1))
    with pytest.raises(DataError, match="far too large"):
        open_source("olivetti", tmp_path)


def test_a_cluster_of_ones_own_has_a_new_token_that_no_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tokens = []
    for _ in range(2):
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        prepare_environment()
        assert os.environ["RAY_AUTH_MODE"] == "token"
        tokens.append(os.environ["RAY_AUTH_TOKEN"])
    assert all(re.fullmatch("[0-9a-f]{64}", token) for token in tokens)
    assert len(set(tokens)) == 2
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("named", [True, False])
def test_a_token_that_others_can_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    path = tmp_path / "mine" if named else tmp_path / ".ray" / "auth_token"
    path.parent.mkdir(exist_ok=True)
    path.write_text("a" * 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    if named:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match=f"chmod 600 {path}"):
        check_token_file()
    path.chmod(0o600)
    check_token_file()
    path.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 32)  # Ray takes this one
    check_token_file()
