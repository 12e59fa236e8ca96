"""An installed wheel carries what it needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from siamtune.cli.export import export

ROOT = Path(__file__).parent.parent
MODEL = Path("siamtune/pretrained/lfw")
LEFT_OUT = (".*", "runs", "__pycache__", "tests", "docs", "benchmarks", "build", "dist")


def test_a_wheel_carries_the_spaces_their_schema_and_a_model_that_answers(
    trained_run: Path, pattern_people: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copy(ROOT / ".gitignore", tree)  # hatch leaves out what it names
    (tree / "tests").mkdir()
    (tree / "tests" / "test_nothing.py").touch()
    if not (tree / MODEL).is_dir():
        export(str(trained_run), tree / MODEL)
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), tree],
        capture_output=True,
        text=True,
    )
    if build.returncode and "hatchling" in build.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    for path in (ROOT / "search_spaces").rglob("*.*"):
        assert f"siamtune/search_spaces/{path.relative_to(ROOT / 'search_spaces')}" in names
    assert "siamtune/cli/main.py" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]

    for file in ("model.safetensors", "model.json", "config.yaml", "README.md"):
        assert f"{MODEL}/{file}" in names
    archive.extractall(tmp_path / "installed")
    picture = str(pattern_people / "person 00" / "0.png")
    answer = subprocess.run(
        [sys.executable, "-m", "siamtune", "predict", picture, picture],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    ).stdout  # fmt: skip
    assert answer.startswith("same person\n")
    assert "model        built-in, " in answer
